//! The command line of a worker with one backend, resolved once before any socket or file is opened.
//!
//! Flags are those of the subscription ([`SourceArgs`]), of how series become batches ([`LaneArgs`]), and the
//! backend's own ([`BackendArgs`]). Each flag with a value has an environment variable,
//! `ZIBRATO_<BACKEND>_<FLAG>`.

pub mod many;
mod url;

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{FromArgMatches as _, Parser};
use zibrato_core::text::Field;
use zibrato_service::{Failure, Shutdown, StatusEndpoint, init_logging, run_service};

use crate::backend::Backend;
use crate::clock::WallClock;
use crate::naming::{Naming, Pattern, Rename, Template};
use crate::numbers::Chosen;
use crate::retry::RetryPolicy;
use crate::spool::{NoStateDirectory, SPOOL_MIB_DEFAULT, default_directory};
use crate::table::{IDLE_S_DEFAULT, METRIC_SERIES_MAX_DEFAULT, SERIES_MAX_DEFAULT, SeriesLimits};
use crate::worker::{Config, GRACE_DEFAULT, LaneConfig, Source, run};

pub use url::{UrlArgs, UrlArgsError, UrlError, parse_url, refuse_open};

const PORT_DEFAULT: u16 = 5_551;
const HTTP_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5_553);
const FLUSH_S_DEFAULT: u64 = 60;
const FLUSH_S_MAX: u64 = 3_600;
const SPOOL_MIB_MAX: u64 = 1_048_576;
const SERIES_MAX: u64 = 100_000_000;
const IDLE_S_MIN: u64 = 60;
const IDLE_S_MAX: u64 = 31_536_000;
const PERCENTILES_DEFAULT: &str = "50,95,99";
const PERCENTILES_MAX: usize = 16;

const LONG_ABOUT: &str = "\
What a flush carries is written to a spool on disk before it is sent, and is sent until it was \
acknowledged. No proxy from the environment is used. Exit codes: 0 after a clean stop, 1 on a \
failure, 2 on bad usage. SIGTERM and SIGINT flush once more and send for 5 s at most; a second one \
leaves out the sending, never the spool. RUST_LOG sets the log filter (default: info).";

/// A backend's own flags, and what it makes of them.
///
/// The flags are also the keys of its table in `worker.toml`.
pub trait BackendArgs: clap::Args + Clone + Send + Sync + 'static {
    /// Short lower-case name, as in `zibrato-<name>`.
    const NAME: &'static str;
    /// What the program does, in one sentence without a full stop.
    const ABOUT: &'static str;
    /// Why flags are refused.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The backend that these flags ask for. It opens no socket.
    ///
    /// # Errors
    ///
    /// The text names the flag, what was given and what is accepted, and never shows a secret.
    fn build(&self, context: &Context) -> Result<Arc<dyn Backend>, Self::Error>;
}

/// What all backends are told alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Context {
    /// Name of the program, for `User-Agent`.
    pub program: String,
    /// The environment variable that holds the token unless a flag names another; none in `worker.toml`.
    pub token_variable: Option<String>,
    /// Which numbers a store without distributions gets.
    pub chosen: Chosen,
}

/// Where metrics come from, and where the worker says how it is.
#[derive(Clone, Debug, clap::Args)]
pub struct SourceArgs {
    /// Host of the broker.
    #[arg(long, default_value = "127.0.0.1", conflicts_with = "endpoint")]
    pub host: String,

    /// Port of the broker for workers, 1 to 65535.
    #[arg(long, default_value_t = PORT_DEFAULT, conflicts_with = "endpoint",
          value_parser = zibrato_service::whole_number::<u16>(1, 65_535))]
    pub port: u16,

    /// ZeroMQ endpoint of a broker, such as tcp://127.0.0.1:5551, in place of --host and --port. Given
    /// several times, all are subscribed to: publishers that send to two brokers count once.
    #[arg(long, value_name = "ENDPOINT", value_parser = parse_endpoint)]
    pub endpoint: Vec<String>,

    /// Levels to subscribe to, separated by commas; matched exactly.
    #[arg(long, value_name = "LEVELS", default_value = "info", value_parser = parse_levels)]
    pub levels: Levels,

    /// Address and port of /healthz, /metrics and /status; port 0 takes a free one. The default,
    /// 127.0.0.1:5553, is left out with a warning if it is taken; an address given here must be free.
    #[arg(long, value_name = "ADDR", conflicts_with = "no_http")]
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

/// How series become batches.
#[derive(Clone, Debug, clap::Args)]
pub struct LaneArgs {
    /// Seconds between flushes, 1 to 3600, aligned to the wall clock.
    #[arg(long, value_name = "SECONDS", default_value_t = FLUSH_S_DEFAULT,
          value_parser = zibrato_service::whole_number::<u64>(1, FLUSH_S_MAX))]
    pub flush: u64,

    /// Directory of the spool; created if it is missing. Default: $STATE_DIRECTORY, else
    /// $XDG_STATE_HOME/zibrato/NAME, else ~/.local/state/zibrato/NAME, where NAME depends on endpoints,
    /// levels and where it is sent to.
    #[arg(long, value_name = "DIRECTORY")]
    pub spool: Option<PathBuf>,

    /// Most MiB of batches on disk, 1 to 1048576. When it is full, changes stay in memory until
    /// batches leave.
    #[arg(long, value_name = "MIB", default_value_t = SPOOL_MIB_DEFAULT,
          value_parser = zibrato_service::whole_number::<u64>(1, SPOOL_MIB_MAX))]
    pub spool_mib: u64,

    /// Most series in all, 1 to 100000000. Series beyond it are folded into one of the source `overflow`.
    #[arg(long, value_name = "SERIES", default_value_t = SERIES_MAX_DEFAULT as u64,
          value_parser = zibrato_service::whole_number::<u64>(1, SERIES_MAX))]
    pub series_max: u64,

    /// Most series of one metric, 1 to 100000000. Series beyond it are folded into one of the source `overflow`.
    #[arg(long, value_name = "SERIES", default_value_t = METRIC_SERIES_MAX_DEFAULT as u64,
          value_parser = zibrato_service::whole_number::<u64>(1, SERIES_MAX))]
    pub metric_series_max: u64,

    /// Seconds after which a series that does not change is forgotten, 60 to 31536000.
    #[arg(long, value_name = "SECONDS", default_value_t = IDLE_S_DEFAULT,
          value_parser = zibrato_service::whole_number::<u64>(IDLE_S_MIN, IDLE_S_MAX))]
    pub idle: u64,

    /// Leave out metrics whose name matches this pattern: * stands for any text, ? for one character. Up to 100 times.
    #[arg(long, value_name = "PATTERN")]
    pub drop: Vec<Pattern>,

    /// Give metrics that match a pattern another name, such as app.*=web.$1, in which $1 to $9 are what * and ? stand
    /// for. Up to 100 times; the first that matches counts.
    #[arg(long, value_name = "PATTERN=NAME")]
    pub rename: Vec<Rename>,

    /// How names are put together, behind --rename: text with {name}, {source}, {level}, {unit} or {tag:KEY} in it.
    #[arg(long, value_name = "TEMPLATE", default_value = "{name}")]
    pub template: Template,

    /// What stands before each name.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub prefix: String,

    /// Percentiles of timers for a store without distributions, separated by commas: at most 16, each above 0 and
    /// below 100.
    #[arg(long, value_name = "PERCENTILES", default_value = PERCENTILES_DEFAULT, value_parser = parse_percentiles)]
    pub percentiles: Percentiles,

    /// Send the rate of each counter, per second, beside its sum, to a store of plain numbers.
    #[arg(long)]
    pub rates: bool,
}

/// Levels of `--levels`, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Levels(pub Vec<String>);

/// Percentiles of `--percentiles`, ascending, each once.
#[derive(Clone, Debug, PartialEq)]
pub struct Percentiles(pub Vec<f64>);

/// The command line of `zibrato-<backend>`.
#[derive(Clone, Debug, Parser)]
#[command(version, long_about = LONG_ABOUT)]
pub struct Program<B: BackendArgs> {
    /// The subscription's flags.
    #[command(flatten)]
    pub source: SourceArgs,
    /// The lane's flags.
    #[command(flatten)]
    pub lane: LaneArgs,
    /// The backend's flags.
    #[command(flatten)]
    pub backend: B,
}

impl SourceArgs {
    /// Endpoints of brokers.
    ///
    /// # Errors
    ///
    /// [`ArgsError::Host`].
    pub fn endpoints(&self) -> Result<Vec<String>, ArgsError> {
        if !self.endpoint.is_empty() {
            return Ok(self.endpoint.clone());
        }
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let endpoint = format!("tcp://{host}:{}", self.port);
        Ok(vec![parse_endpoint(&endpoint).map_err(|_| ArgsError::Host { host: self.host.clone() })?])
    }

    /// Where the status is served.
    ///
    /// # Errors
    ///
    /// [`ArgsError::InsecureBind`].
    pub fn status(&self) -> Result<StatusEndpoint, ArgsError> {
        if let Some(addr) = self.http.filter(|addr| !self.insecure_bind && !addr.ip().is_loopback()) {
            return Err(ArgsError::InsecureBind { addr });
        }
        let addr = (!self.no_http).then(|| self.http.unwrap_or(HTTP_DEFAULT));
        Ok(StatusEndpoint { addr, explicit: self.http.is_some() })
    }
}

impl<B: BackendArgs> Program<B> {
    /// The parser, with name, description and environment variables of this backend.
    pub fn command() -> clap::Command {
        let binary = program_name::<B>();
        let command = <Self as clap::CommandFactory>::command().name(binary).about(B::ABOUT);
        command.mut_args(|arg| {
            let is_plain = arg.get_action().takes_values() && arg.get_env().is_none();
            match arg.get_long().filter(|_| is_plain) {
                // Given several times, which a variable cannot be.
                Some("endpoint" | "drop" | "rename") | None => arg,
                Some(long) => {
                    let name = format!("ZIBRATO_{}_{}", B::NAME, long).to_uppercase().replace('-', "_");
                    arg.env(leak(name))
                }
            }
        })
    }

    /// Parses a command line, the name of the program first.
    ///
    /// # Errors
    ///
    /// As [`clap::Parser::try_parse_from`].
    pub fn try_parse<I: IntoIterator<Item = T>, T: Into<OsString> + Clone>(
        args: I,
    ) -> Result<Self, clap::Error> {
        let mut command = Self::command();
        let matches = command.try_get_matches_from_mut(args)?;
        Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
    }

    /// The settings of the worker, and the backend.
    ///
    /// # Errors
    ///
    /// [`ArgsError`] names the flag, what was given and what is accepted. It never shows a secret.
    pub fn resolve(&self) -> Result<(Config, Arc<dyn Backend>), ArgsError> {
        let status = self.source.status()?;
        let backend = self
            .backend
            .build(&self.lane.context::<B>())
            .map_err(|error| ArgsError::Backend(Box::new(error)))?;
        let (endpoints, levels) = (self.source.endpoints()?, self.source.levels.0.clone());
        let spool_directory = match &self.lane.spool {
            Some(directory) => directory.clone(),
            None => {
                let binary = program_name::<B>();
                default_directory(binary, &endpoints, &levels, &backend.target(), |name| {
                    std::env::var_os(name)
                })?
            }
        };
        let source = Source { endpoints, levels, clock: WallClock::system() };
        Ok((Config { source, status, lane: self.lane.resolve(spool_directory) }, backend))
    }
}

impl LaneArgs {
    fn context<B: BackendArgs>(&self) -> Context {
        Context {
            program: program_name::<B>().to_owned(),
            token_variable: Some(format!("ZIBRATO_{}_TOKEN", B::NAME.to_uppercase())),
            chosen: Chosen { percentiles: self.percentiles.0.clone(), rates: self.rates },
        }
    }

    fn resolve(&self, spool_directory: PathBuf) -> LaneConfig {
        let Self { drop, rename, template, prefix, .. } = self.clone();
        LaneConfig {
            flush: Duration::from_secs(self.flush),
            spool_directory,
            spool_bytes_max: self.spool_mib << 20,
            series: SeriesLimits {
                series_max: self.series_max as usize,
                metric_series_max: self.metric_series_max as usize,
                idle: Duration::from_secs(self.idle),
            },
            naming: Naming { drop, rename, template, prefix },
            retry: RetryPolicy::default(),
            grace: GRACE_DEFAULT,
        }
    }
}

/// The flags of a lane and of its backend alone, as the keys of a file.
#[derive(Clone, Debug, Parser)]
#[command(no_binary_name = true, disable_help_flag = true, disable_version_flag = true)]
struct LaneProgram<B: BackendArgs> {
    #[command(flatten)]
    lane: LaneArgs,
    #[command(flatten)]
    backend: B,
}

/// A lane's flags, and the backend that its own ask for.
pub(crate) type ParsedLane = (LaneArgs, Arc<dyn Backend>);

/// Reads the flags of a lane and of its backend; an error is one line.
pub(crate) fn parse_lane<B: BackendArgs>(flags: &[String]) -> Result<ParsedLane, String> {
    let program = LaneProgram::<B>::try_parse_from(flags).map_err(|error| many::said(&error))?;
    // Only what the file says counts.
    let context = Context { token_variable: None, ..program.lane.context::<B>() };
    let backend = program.backend.build(&context).map_err(|error| zibrato_service::chain(&error))?;
    Ok((program.lane, backend))
}

/// The `main` of `zibrato-<backend>`.
#[must_use]
pub fn main<B: BackendArgs>() -> ExitCode {
    let program = Program::<B>::try_parse(std::env::args_os()).unwrap_or_else(|error| error.exit());
    init_logging("info");
    run_service(program_name::<B>(), async |shutdown| run_program(&program, shutdown).await)
}

/// Runs `zibrato-<backend>` until the shutdown is requested.
///
/// # Errors
///
/// Settings that cannot work are a usage failure, what cannot be opened is a plain one.
pub async fn run_program<B: BackendArgs>(program: &Program<B>, shutdown: Shutdown) -> Result<(), Failure> {
    let (config, backend) = program.resolve().map_err(Failure::usage)?;
    if !program.source.check_config {
        run(config, backend, shutdown).await?;
    }
    Ok(())
}

/// Why flags are refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArgsError {
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
    /// The backend's own.
    #[error(transparent)]
    Backend(Box<dyn std::error::Error + Send + Sync>),
    /// There is no place for the spool.
    #[error(transparent)]
    NoStateDirectory(#[from] NoStateDirectory),
}

/// `zibrato-<backend>`; there are a handful of backends.
fn program_name<B: BackendArgs>() -> &'static str {
    leak(format!("zibrato-{}", B::NAME))
}

/// A text of the command line, which lives as long as the program.
fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
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

fn parse_percentiles(text: &str) -> Result<Percentiles, String> {
    let mut percentiles = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match part.parse::<f64>() {
            Ok(percentile) if percentile > 0.0 && percentile < 100.0 => percentiles.push(percentile),
            _ => {
                return Err(format!(
                    "{part:?} is no percentile; accepted is above 0 and below 100, such as 99.9"
                ));
            }
        }
    }
    percentiles.sort_unstable_by(f64::total_cmp);
    percentiles.dedup();
    if percentiles.len() > PERCENTILES_MAX {
        return Err(format!("{} percentiles; accepted are at most {PERCENTILES_MAX}", percentiles.len()));
    }
    Ok(Percentiles(percentiles))
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
