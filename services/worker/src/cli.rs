//! Flags and environment of `zibrato-librato`, resolved once before any socket or file is opened.

use std::convert::Infallible;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use reqwest::Url;
use zibrato_core::text::Field;
use zibrato_service::{Failure, Shutdown, StatusEndpoint};

use crate::clock::WallClock;
use crate::http::Credentials;
use crate::librato::{AGE_MAX, Librato, LibratoConfig};
use crate::retry::RetryPolicy;
use crate::secret::{Secret, SecretError};
use crate::spool::{NoStateDirectory, SPOOL_MIB_DEFAULT, default_directory};
use crate::worker::{Config, GRACE_DEFAULT, run};

/// Where `zibrato-local` listens.
pub const URL_DEFAULT: &str = "http://127.0.0.1:5580/v1/metrics";
const PATH_DEFAULT: &str = "/v1/metrics";
const PORT_DEFAULT: u16 = 5_551;
const HTTP_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5_553);
const FLUSH_S_DEFAULT: u64 = 60;
const FLUSH_S_MAX: u64 = 3_600;
const SPOOL_MIB_MAX: u64 = 1_048_576;
const AGE_S_MIN: u64 = 60;
const AGE_S_MAX: u64 = 315_360_000;
const BINARY: &str = "zibrato-librato";

/// Takes metrics from brokers and posts them to a receiver of the Librato API v1.
///
/// What a flush carries is written to a spool on disk before it is sent, and is sent until it was
/// acknowledged. No proxy from the environment is used. Exit codes: 0 after a clean stop, 1 on a
/// failure, 2 on bad usage. SIGTERM and SIGINT flush once more and send for 5 s at most; a second one
/// leaves out the sending, never the spool. RUST_LOG sets the log filter (default: info).
#[derive(Clone, Debug, Parser)]
#[command(name = BINARY, version)]
pub struct Args {
    /// Host of the broker.
    #[arg(long, default_value = "127.0.0.1", env = "ZIBRATO_LIBRATO_HOST", conflicts_with = "endpoint")]
    pub host: String,

    /// Port of the broker for workers, 1 to 65535.
    #[arg(long, default_value_t = PORT_DEFAULT, env = "ZIBRATO_LIBRATO_PORT", conflicts_with = "endpoint",
          value_parser = zibrato_service::whole_number::<u16>(1, 65_535))]
    pub port: u16,

    /// ZeroMQ endpoint of a broker, such as tcp://127.0.0.1:5551, in place of --host and --port. Given
    /// several times, all are subscribed to: publishers that send to two brokers count once.
    #[arg(long, value_name = "ENDPOINT", value_parser = parse_endpoint)]
    pub endpoint: Vec<String>,

    /// Levels to subscribe to, separated by commas; matched exactly.
    #[arg(long, value_name = "LEVELS", default_value = "info", env = "ZIBRATO_LIBRATO_LEVELS", value_parser = parse_levels)]
    pub levels: Levels,

    /// Seconds between flushes, 1 to 3600, aligned to the wall clock.
    #[arg(long, value_name = "SECONDS", default_value_t = FLUSH_S_DEFAULT, env = "ZIBRATO_LIBRATO_FLUSH",
          value_parser = zibrato_service::whole_number::<u64>(1, FLUSH_S_MAX))]
    pub flush: u64,

    /// User name for HTTP Basic; Librato's is the account's e-mail address.
    #[arg(long, value_name = "NAME", env = "ZIBRATO_LIBRATO_USERNAME")]
    pub username: Option<String>,

    /// API token. Other users of this machine can read it in the list of processes: prefer
    /// --apitoken-file or the environment.
    #[arg(long, value_name = "TOKEN", env = "ZIBRATO_LIBRATO_TOKEN", hide_env_values = true, value_parser = parse_raw, conflicts_with = "apitoken_file")]
    pub apitoken: Option<RawToken>,

    /// File that holds the API token, on one line of 1 to 1024 bytes.
    #[arg(long, value_name = "FILE", env = "ZIBRATO_LIBRATO_TOKEN_FILE")]
    pub apitoken_file: Option<PathBuf>,

    /// Metrics URL, http or https, without credentials; without a path /v1/metrics is added. Default:
    /// http://127.0.0.1:5580/v1/metrics, which is zibrato-local.
    #[arg(long, env = "ZIBRATO_LIBRATO_URL", hide_env_values = true)]
    pub url: Option<String>,

    /// Allow credentials to be sent over http to another machine, where everybody on the way can
    /// read them.
    #[arg(long)]
    pub insecure_http: bool,

    /// Directory of the spool; created if it is missing. Default: $STATE_DIRECTORY, else
    /// $XDG_STATE_HOME/zibrato/NAME, else ~/.local/state/zibrato/NAME, where NAME depends on endpoints,
    /// levels and URL.
    #[arg(long, value_name = "DIRECTORY", env = "ZIBRATO_LIBRATO_SPOOL")]
    pub spool: Option<PathBuf>,

    /// Most MiB of batches on disk, 1 to 1048576. When it is full, changes stay in memory until
    /// batches leave.
    #[arg(long, value_name = "MIB", default_value_t = SPOOL_MIB_DEFAULT, env = "ZIBRATO_LIBRATO_SPOOL_MIB",
          value_parser = zibrato_service::whole_number::<u64>(1, SPOOL_MIB_MAX))]
    pub spool_mib: u64,

    /// Whether timers are sent as distributions, or those of legacy messages one by one.
    #[arg(long, value_enum, default_value_t = Timers::Complex, env = "ZIBRATO_LIBRATO_TIMERS")]
    pub timers: Timers,

    /// Oldest age of a point that the receiver accepts, in seconds, 60 to 315360000. Older batches
    /// are dropped and counted. Librato's is two hours; five minutes less is the default.
    #[arg(long, value_name = "SECONDS", default_value_t = AGE_MAX.as_secs(), env = "ZIBRATO_LIBRATO_MAX_AGE",
          value_parser = zibrato_service::whole_number::<u64>(AGE_S_MIN, AGE_S_MAX))]
    pub max_age: u64,

    /// Address and port of /healthz, /metrics and /status; port 0 takes a free one. The default,
    /// 127.0.0.1:5553, is left out with a warning if it is taken; an address given here must be free.
    #[arg(long, value_name = "ADDR", env = "ZIBRATO_LIBRATO_HTTP", conflicts_with = "no_http")]
    pub http: Option<SocketAddr>,

    /// Do not serve /healthz, /metrics and /status.
    #[arg(long)]
    pub no_http: bool,

    /// Allow --http to be an address that other machines reach: whoever reaches it can read how much is
    /// measured, and nobody is asked who he is.
    #[arg(long)]
    pub insecure_bind: bool,

    /// Check the settings and exit: 0 if they are good, 2 if not.
    #[arg(long)]
    pub check_config: bool,
}

/// How timers are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Timers {
    /// Count, sum, minimum, maximum and squares of a flush.
    Complex,
    /// One by one, as the original did, if they came one by one.
    Raw,
}

/// Levels of `--levels`, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Levels(pub Vec<String>);

/// A token as it was given. It is checked later, because an error of the command line shows the value.
#[derive(Clone)]
pub struct RawToken(String);

impl fmt::Debug for RawToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RawToken(redacted)")
    }
}

/// The settings of a worker and of its backend.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The worker's.
    pub worker: Config,
    /// The backend's.
    pub librato: LibratoConfig,
}

impl Args {
    /// The settings these flags ask for.
    ///
    /// # Errors
    ///
    /// [`ArgsError`] names the flag, what was given and what is accepted. It never shows a token.
    pub fn resolve(&self) -> Result<Settings, ArgsError> {
        if let Some(addr) = self.http.filter(|addr| !self.insecure_bind && !addr.ip().is_loopback()) {
            return Err(ArgsError::InsecureBind { addr });
        }
        let url = self.resolve_url()?;
        let credentials = self.credentials()?;
        let is_open = url.scheme() == "http" && !is_loopback(&url);
        if credentials.is_some() && is_open && !self.insecure_http {
            return Err(ArgsError::InsecureHttp { url: url.to_string() });
        }
        let endpoints = if self.endpoint.is_empty() {
            let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
            let endpoint = format!("tcp://{host}:{}", self.port);
            vec![parse_endpoint(&endpoint).map_err(|_| ArgsError::Host { host: self.host.clone() })?]
        } else {
            self.endpoint.clone()
        };
        let levels = self.levels.0.clone();
        let spool_directory = match &self.spool {
            Some(directory) => directory.clone(),
            None => {
                default_directory(BINARY, &endpoints, &levels, url.as_str(), |name| std::env::var_os(name))?
            }
        };
        let worker = Config {
            endpoints,
            levels,
            flush: Duration::from_secs(self.flush),
            spool_directory,
            spool_bytes_max: self.spool_mib << 20,
            status: StatusEndpoint {
                addr: (!self.no_http).then(|| self.http.unwrap_or(HTTP_DEFAULT)),
                explicit: self.http.is_some(),
            },
            timers_raw: self.timers == Timers::Raw,
            retry: RetryPolicy::default(),
            grace: GRACE_DEFAULT,
            clock: WallClock::system(),
        };
        let librato = LibratoConfig { url, credentials, age_max: Duration::from_secs(self.max_age) };
        Ok(Settings { worker, librato })
    }

    fn resolve_url(&self) -> Result<Url, ArgsError> {
        let text = self.url.as_deref().filter(|url| !url.trim().is_empty()).unwrap_or(URL_DEFAULT).trim();
        // A URL with credentials must not be shown, and one that cannot be parsed may hold some.
        if text.contains('@') {
            return Err(ArgsError::UrlCredentials);
        }
        let refused = || ArgsError::Url { url: text.to_owned() };
        let mut url: Url = text.parse().map_err(|_| refused())?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() || url.fragment().is_some() {
            return Err(refused());
        }
        if url.path() == "/" {
            url.set_path(PATH_DEFAULT);
        }
        Ok(url)
    }

    fn credentials(&self) -> Result<Option<Credentials>, ArgsError> {
        let given = |text: &&str| !text.trim().is_empty();
        let token = match (&self.apitoken_file, &self.apitoken) {
            (Some(path), _) => Some(Secret::from_file(path)?),
            // An empty variable is one that is not set.
            (None, Some(token)) => Some(token.0.as_str()).filter(given).map(Secret::new).transpose()?,
            (None, None) => None,
        };
        match (self.username.as_deref().filter(given), token) {
            (Some(username), Some(token)) => {
                let username = username.trim().to_owned();
                if username.contains(':') || !username.bytes().all(|byte| byte.is_ascii_graphic()) {
                    return Err(ArgsError::Username { username });
                }
                Ok(Some(Credentials { username, token }))
            }
            (Some(_), None) => Err(ArgsError::NoToken),
            (None, Some(_)) => Err(ArgsError::NoUsername),
            (None, None) => Ok(None),
        }
    }
}

/// Runs `zibrato-librato` until the shutdown is requested.
///
/// # Errors
///
/// Settings that cannot work are a usage failure, what cannot be opened is a plain one.
pub async fn run_librato(args: &Args, shutdown: Shutdown) -> Result<(), Failure> {
    let Settings { worker, librato } = args.resolve().map_err(Failure::usage)?;
    let backend = Librato::new(&librato).map_err(Failure::usage)?;
    if args.check_config {
        return Ok(());
    }
    if args.url.is_none() {
        tracing::info!(url = URL_DEFAULT, "no --url given: posting to zibrato-local on this machine");
    }
    run(worker, Arc::new(backend), shutdown).await?;
    Ok(())
}

/// Why flags are refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArgsError {
    /// The URL cannot be used.
    #[error(
        "--url {url:?} is not accepted; give http://HOST[:PORT][/PATH] or https://..., such as {URL_DEFAULT}"
    )]
    Url {
        /// The URL.
        url: String,
    },
    /// The URL holds credentials, or looks like it.
    #[error(
        "--url holds an '@'; give credentials with --username and --apitoken-file, and a URL without them"
    )]
    UrlCredentials,
    /// Credentials would be readable on the way.
    #[error(
        "--url {url} would carry the token over http to another machine; use https, or give --insecure-http"
    )]
    InsecureHttp {
        /// The URL.
        url: String,
    },
    /// The status would be served to other machines.
    #[error(
        "--http {addr} is reached by other machines: accepted are loopback addresses; --insecure-bind allows it all the same"
    )]
    InsecureBind {
        /// The address.
        addr: SocketAddr,
    },
    /// The host cannot be part of an endpoint.
    #[error("--host {host:?} is not accepted; give a host name or an IP address")]
    Host {
        /// The host.
        host: String,
    },
    /// The user name cannot be sent.
    #[error("--username {username:?} is not accepted; give printable ASCII without blanks and ':'")]
    Username {
        /// The name.
        username: String,
    },
    /// A user name without a token.
    #[error("--username without a token; give --apitoken-file FILE, or set ZIBRATO_LIBRATO_TOKEN")]
    NoToken,
    /// A token without a user name.
    #[error("a token without a user name; give --username, or set ZIBRATO_LIBRATO_USERNAME")]
    NoUsername,
    /// The token cannot be used.
    #[error("--apitoken or --apitoken-file: {0}")]
    Token(#[from] SecretError),
    /// There is no place for the spool.
    #[error(transparent)]
    NoStateDirectory(#[from] NoStateDirectory),
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

fn parse_raw(text: &str) -> Result<RawToken, Infallible> {
    Ok(RawToken(text.to_owned()))
}

fn parse_levels(text: &str) -> Result<Levels, String> {
    let mut levels: Vec<String> = Vec::new();
    for level in text.split(',').map(str::trim).filter(|level| !level.is_empty()) {
        Field::Level.check(level).map_err(|error| format!("{level:?}: {error}"))?;
        if !levels.iter().any(|known| known == level) {
            levels.push(level.to_owned());
        }
    }
    if levels.is_empty() {
        return Err("no level; give one or more separated by commas, such as info,debug".to_owned());
    }
    Ok(Levels(levels))
}

fn parse_endpoint(text: &str) -> Result<String, String> {
    let refused = || "not an endpoint; give tcp://HOST:PORT or ipc://PATH".to_owned();
    let (transport, address) = text.split_once("://").ok_or_else(refused)?;
    let is_accepted = match transport {
        "tcp" => address.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && !host.contains(['/', ' ']) && port.parse::<u16>().is_ok_and(|port| port > 0)
        }),
        "ipc" => !address.is_empty(),
        _ => false,
    };
    if is_accepted { Ok(text.to_owned()) } else { Err(refused()) }
}

#[cfg(test)]
mod tests;
