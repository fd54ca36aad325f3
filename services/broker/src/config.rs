//! Flags and environment, resolved once into a [`Config`] before any socket opens.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use zibrato_service::StatusEndpoint;

/// Where publishers connect by default; workers connect to the next port.
const PORT_DEFAULT: u16 = 5_550;
const HTTP_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5_552);
const KEEP_MIB_DEFAULT: u32 = 64;
const KEEP_MIB_MAX: u32 = 65_536;
const KEEP_AGE_S_DEFAULT: u32 = 3_600;
const KEEP_AGE_S_MAX: u32 = 30 * 24 * 3_600;

/// Forwards metrics from publishers to workers.
///
/// Publishers connect to PORT and workers to PORT + 1; the original's programs may connect to
/// either. Kept frames let a worker catch up on what was sent while it was away.
#[derive(Clone, PartialEq, Eq, Debug, clap::Parser)]
#[command(name = "zibrato-broker", version)]
pub struct Args {
    /// Address to listen on: an IP address, `localhost`, or `*` for every IPv4 interface.
    #[arg(long, env = "ZIBRATO_BROKER_HOST", default_value = "127.0.0.1", value_parser = parse_host)]
    pub host: IpAddr,

    /// Port for publishers, 1 to 65534; workers connect to the next one. 0 takes any two free ports
    /// and logs them.
    #[arg(long, env = "ZIBRATO_BROKER_PORT", default_value_t = PORT_DEFAULT,
          value_parser = zibrato_service::whole_number::<u16>(0, 65_535))]
    pub port: u16,

    /// Address and port of /healthz, /metrics and /status; port 0 takes a free one. The default,
    /// 127.0.0.1:5552, is left out with a warning if it is taken; an address given here must be free.
    #[arg(long, env = "ZIBRATO_BROKER_HTTP", value_name = "ADDR", conflicts_with = "no_http")]
    pub http: Option<SocketAddr>,

    /// Do not serve /healthz, /metrics and /status.
    #[arg(long)]
    pub no_http: bool,

    /// Allow --host and --http to be addresses that other machines reach. This build does not encrypt
    /// and asks nobody who they are: whoever reaches the ports can read and send everything.
    #[arg(long)]
    pub insecure_bind: bool,

    /// Memory for kept frames, in MiB, 1 to 65536. At the limit publishers that are still running
    /// are forgotten first, since they send again, then those that ended longest ago.
    #[arg(long, env = "ZIBRATO_BROKER_KEEP_MIB", value_name = "MIB", default_value_t = KEEP_MIB_DEFAULT,
          value_parser = zibrato_service::whole_number::<u32>(1, KEEP_MIB_MAX))]
    pub keep_mib: u32,

    /// How long the frames of a silent or ended publisher are kept, in seconds, 1 to 2592000. Workers
    /// expect it to be at least as long as they may be away.
    #[arg(long, env = "ZIBRATO_BROKER_KEEP_AGE", value_name = "SECONDS", default_value_t = KEEP_AGE_S_DEFAULT,
          value_parser = zibrato_service::whole_number::<u32>(1, KEEP_AGE_S_MAX))]
    pub keep_age: u32,

    /// Check the settings and exit: 0 if they are good, 2 if not.
    #[arg(long)]
    pub check_config: bool,
}

impl Args {
    /// The settings these flags ask for.
    ///
    /// # Errors
    /// As [`Config::check`].
    pub fn resolve(&self) -> Result<Config, ConfigError> {
        let config = Config {
            host: self.host,
            port: self.port,
            http: StatusEndpoint {
                addr: (!self.no_http).then(|| self.http.unwrap_or(HTTP_DEFAULT)),
                explicit: self.http.is_some(),
            },
            insecure_bind: self.insecure_bind,
            keep_bytes_max: (self.keep_mib as usize) << 20,
            keep_age_max: Duration::from_secs(self.keep_age.into()),
        };
        config.check()?;
        Ok(config)
    }
}

/// What a broker needs to know before it opens a socket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Address to listen on.
    pub host: IpAddr,
    /// Port for publishers; workers connect to the next one. 0 takes any two free ports.
    pub port: u16,
    /// Where [`run`](crate::run) serves `/healthz`, `/metrics` and `/status`.
    pub http: StatusEndpoint,
    /// Whether addresses that other machines reach are allowed, without encryption.
    pub insecure_bind: bool,
    /// Memory for kept frames, in bytes. At 0 nothing is kept and nothing acknowledged.
    pub keep_bytes_max: usize,
    /// How long the frames of a silent or ended publisher are kept.
    pub keep_age_max: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: PORT_DEFAULT,
            http: StatusEndpoint { addr: Some(HTTP_DEFAULT), explicit: false },
            insecure_bind: false,
            keep_bytes_max: (KEEP_MIB_DEFAULT as usize) << 20,
            keep_age_max: Duration::from_secs(KEEP_AGE_S_DEFAULT.into()),
        }
    }
}

impl Config {
    /// Refuses settings that cannot work or are dangerous without being asked for.
    ///
    /// # Errors
    /// [`ConfigError::InsecureHost`], [`ConfigError::InsecureHttp`], [`ConfigError::NoNextPort`].
    pub fn check(&self) -> Result<(), ConfigError> {
        if !self.insecure_bind && !self.host.is_loopback() {
            return Err(ConfigError::InsecureHost { host: self.host });
        }
        match self.http.addr {
            Some(addr) if !self.insecure_bind && !addr.ip().is_loopback() => {
                return Err(ConfigError::InsecureHttp { addr });
            }
            _ => {}
        }
        if self.port == u16::MAX { Err(ConfigError::NoNextPort) } else { Ok(()) }
    }
}

/// Why settings are refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Other machines reach the host, and nothing would be encrypted.
    #[error(
        "--host {host} is reached by other machines and this build does not encrypt: accepted are loopback addresses; --insecure-bind allows it all the same"
    )]
    InsecureHost {
        /// The address.
        host: IpAddr,
    },
    /// Other machines reach the status endpoint.
    #[error(
        "--http {addr} is reached by other machines: accepted are loopback addresses; --insecure-bind allows it all the same"
    )]
    InsecureHttp {
        /// The address.
        addr: SocketAddr,
    },
    /// The highest port leaves none for workers.
    #[error(
        "--port 65535 leaves no next port for workers: accepted are 1 to 65534, or 0 for any two free ports"
    )]
    NoNextPort,
}

fn parse_host(text: &str) -> Result<IpAddr, String> {
    match text {
        "localhost" => Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        "*" => Ok(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        _ => text.parse().map_err(|_| "accepted are an IP address, localhost and *".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    fn resolve(flags: &[&str]) -> Result<Config, ConfigError> {
        Args::try_parse_from([&["zibrato-broker"], flags].concat()).unwrap().resolve()
    }

    #[test]
    fn without_flags_the_settings_are_the_documented_defaults() {
        assert_eq!(resolve(&[]), Ok(Config::default()));
        assert_eq!(Config::default().keep_bytes_max, 67_108_864);
    }

    #[test]
    fn an_address_that_other_machines_reach_must_be_asked_for() {
        for host in ["*", "0.0.0.0", "10.1.2.3", "::"] {
            let error = resolve(&["--host", host]).unwrap_err().to_string();
            assert!(error.contains("--insecure-bind") && error.contains("loopback"), "{error}");
            resolve(&["--host", host, "--insecure-bind"]).unwrap();
        }
        let error = resolve(&["--http", "0.0.0.0:80"]).unwrap_err().to_string();
        assert!(error.starts_with("--http 0.0.0.0:80 is reached"), "{error}");
        for host in ["localhost", "127.0.0.2", "::1"] {
            resolve(&["--host", host]).unwrap();
        }
    }

    #[test]
    fn each_limit_of_a_flag_is_enforced() {
        assert_eq!(resolve(&["--port", "65535"]), Err(ConfigError::NoNextPort));
        assert_eq!(resolve(&["--port", "65534"]).unwrap().port, 65_534);
        for flags in [
            ["--keep-mib", "0"],
            ["--keep-mib", "65537"],
            ["--keep-age", "0"],
            ["--keep-age", "2592001"],
            ["--host", "example.org"],
            ["--port", "65536"],
        ] {
            assert!(Args::try_parse_from([&["zibrato-broker"], &flags[..]].concat()).is_err(), "{flags:?}");
        }
        assert!(Args::try_parse_from(["zibrato-broker", "--no-http", "--http", "127.0.0.1:1"]).is_err());
    }

    #[test]
    fn a_given_status_address_is_explicit_and_no_http_turns_it_off() {
        let given = resolve(&["--http", "127.0.0.1:0"]).unwrap().http;
        assert!(given.explicit && given.addr.unwrap().port() == 0);
        assert_eq!(resolve(&["--no-http"]).unwrap().http.addr, None);
    }

    #[test]
    fn the_help_names_units_and_defaults() {
        let help = Args::command().render_long_help().to_string();
        for text in [
            "[default: 127.0.0.1]",
            "[default: 5550]",
            "127.0.0.1:5552",
            "MiB",
            "[default: 64]",
            "seconds",
            "[default: 3600]",
        ] {
            assert!(help.contains(text), "{text} in {help}");
        }
    }
}
