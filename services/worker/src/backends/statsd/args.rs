//! Flags of `zibrato-statsd`.

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;

use super::{AGE_MAX, PACKETS_PER_S_DEFAULT, Statsd, StatsdConfig};
use crate::backend::Backend;
use crate::cli::{BackendArgs, Context};

const ADDRESS_DEFAULT: &str = "udp://127.0.0.1:8125";
/// The longest path that the address of a unix socket holds.
const PATH_BYTES_MAX: usize = 107;
const MTU_MIN: u16 = 128;
/// What a UDP packet over IPv4 holds.
const MTU_MAX: u16 = 65_507;
const PACKETS_PER_S_MIN: u32 = 100;
const PACKETS_PER_S_MAX: u32 = 1_000_000;
const AGE_S_MIN: u64 = 60;
const AGE_S_MAX: u64 = 315_360_000;

/// A StatsD server.
#[derive(Clone, Debug, clap::Args)]
pub struct StatsdArgs {
    /// Where the server listens: udp://HOST:PORT, tcp://HOST:PORT, or unix:///PATH of a datagram socket.
    #[arg(long, value_name = "ADDRESS", default_value = ADDRESS_DEFAULT, value_parser = parse_address)]
    pub address: Address,

    /// Whether source and tags become part of the name, which every server takes, or tags as DogStatsD has them.
    #[arg(long, value_enum, default_value_t = Dialect::Plain)]
    pub dialect: Dialect,

    /// Whether timers are sent as gauges of their percentiles beside a count, or as samples that the server makes
    /// its own percentiles of.
    #[arg(long, value_enum, default_value_t = Timers::Percentiles)]
    pub timers: Timers,

    /// Most bytes of a packet, 128 to 65507; a line that is longer is left out and counted. Default: 1432 over UDP,
    /// which Ethernet carries in one piece, and 8192 over a unix socket. TCP has no packets.
    #[arg(long, value_name = "BYTES", value_parser = zibrato_service::whole_number::<u16>(MTU_MIN, MTU_MAX))]
    pub mtu: Option<u16>,

    /// Most UDP packets a second, 100 to 1000000. A server that cannot follow loses what its socket does not hold,
    /// and nobody is told.
    #[arg(long, value_name = "PACKETS", default_value_t = PACKETS_PER_S_DEFAULT,
          value_parser = zibrato_service::whole_number::<u32>(PACKETS_PER_S_MIN, PACKETS_PER_S_MAX))]
    pub packets_per_second: u32,

    /// Oldest age of a batch that is still sent, in seconds, 60 to 315360000. Older ones are dropped and counted. The
    /// protocol has no times: what is sent late counts when it arrives.
    #[arg(long, value_name = "SECONDS", default_value_t = AGE_MAX.as_secs(),
          value_parser = zibrato_service::whole_number::<u64>(AGE_S_MIN, AGE_S_MAX))]
    pub max_age: u64,
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Host and port.
    Udp(String),
    /// Host and port.
    Tcp(String),
    /// A datagram socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(host) => write!(f, "udp://{host}"),
            Self::Tcp(host) => write!(f, "tcp://{host}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

/// How source and tags are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Dialect {
    /// As parts of the name.
    #[default]
    Plain,
    /// Behind `|#`.
    Dogstatsd,
}

/// How timers are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Timers {
    /// Gauges of smallest, largest, mean and percentiles; counters of count and sum; all in seconds.
    #[default]
    Percentiles,
    /// Lines of the type `ms`, with sample rates.
    Samples,
}

impl BackendArgs for StatsdArgs {
    const NAME: &'static str = "statsd";
    const ABOUT: &'static str = "Takes metrics from brokers and sends them to a StatsD server";
    type Error = Infallible;

    fn build(&self, context: &Context) -> Result<Arc<dyn Backend>, Infallible> {
        Ok(Arc::new(Statsd::new(StatsdConfig {
            address: self.address.clone(),
            dialect: self.dialect,
            timers: self.timers,
            mtu: self.mtu.map(usize::from),
            packets_per_s: self.packets_per_second,
            age_max: Duration::from_secs(self.max_age),
            chosen: context.chosen.clone(),
        })))
    }
}

fn parse_address(text: &str) -> Result<Address, String> {
    let refused = || "accepted are udp://HOST:PORT, tcp://HOST:PORT and unix:///PATH".to_owned();
    let (transport, rest) = text.split_once("://").ok_or_else(refused)?;
    match transport {
        "udp" | "tcp" if is_host_and_port(rest) => {
            let host = rest.to_owned();
            Ok(if transport == "udp" { Address::Udp(host) } else { Address::Tcp(host) })
        }
        "unix" if rest.len() > PATH_BYTES_MAX => {
            Err(format!("path of {} bytes; a socket's is at most {PATH_BYTES_MAX}", rest.len()))
        }
        "unix" if rest.starts_with('/') && rest.len() > 1 => Ok(Address::Unix(rest.into())),
        _ => Err(refused()),
    }
}

fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_host = match inner {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
        }
    };
    is_host && !port.starts_with('+') && port.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Program;

    fn parse(args: &[&str]) -> Result<StatsdArgs, clap::Error> {
        let all = ["zibrato-statsd", "--spool", "/tmp/none"].iter().chain(args);
        Program::<StatsdArgs>::try_parse(all).map(|program| program.backend)
    }

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let args = parse(&[]).unwrap();
        assert_eq!(args.address, Address::Udp("127.0.0.1:8125".to_owned()));
        assert_eq!((args.dialect, args.timers), (Dialect::Plain, Timers::Percentiles));
        assert_eq!((args.mtu, args.packets_per_second, args.max_age), (None, 1_000, 86_400));
    }

    #[test]
    fn addresses_are_read_and_shown_alike() {
        for text in
            ["udp://[::1]:8125", "tcp://stats.example.com:1", "unix:///run/statsd.sock", "udp://a_b:65535"]
        {
            assert_eq!(parse_address(text).unwrap().to_string(), text);
        }
        for bad in [
            "",
            "127.0.0.1:8125",
            "udp://",
            "udp://host",
            "udp://:8125",
            "udp://host:0",
            "udp://host:65536",
            "udp://host:+1",
            "udp://a b:1",
            "udp://u:p@host:1",
            "udp://host:1/path",
            "udp://::1:1",
            "udp://[x]:1",
            "http://host:1",
            "unix://run/x",
            "unix:///",
            "unix://",
        ] {
            assert!(parse_address(bad).unwrap_err().contains("unix:///PATH"), "{bad}");
        }
        assert!(parse_address(&format!("unix:///{}", "x".repeat(106))).is_ok());
        assert!(parse_address(&format!("unix:///{}", "x".repeat(107))).unwrap_err().contains("at most 107"));
    }

    #[test]
    fn numbers_are_within_their_limits() {
        for (flag, good, bad) in [
            ("--mtu", ["128", "65507"], ["127", "65508"]),
            ("--packets-per-second", ["100", "1000000"], ["99", "1000001"]),
            ("--max-age", ["60", "315360000"], ["59", "315360001"]),
        ] {
            assert!(good.iter().all(|value| parse(&[flag, value]).is_ok()), "{flag}");
            assert!(bad.iter().all(|value| parse(&[flag, value]).is_err()), "{flag}");
        }
    }
}
