//! Flags and environment, resolved once into an [`up::Config`] before any socket or file is opened.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use zibrato_service::StatusEndpoint;

use crate::bench::BenchArgs;
use crate::completions::CompletionsArgs;
use crate::doctor::DoctorArgs;
use crate::levels::parse_level;
use crate::manual::ManualArgs;
use crate::query::QueryArgs;
use crate::record::RecordArgs;
use crate::replay::ReplayArgs;
use crate::send::SendArgs;
use crate::tap::TapArgs;
use crate::top::TopArgs;
use crate::up;

const LISTEN_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5_580);
const HTTP_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5_552);
const PORT_DEFAULT: u16 = 5_550;
/// All predefined levels, so that on-demand metrics show without being asked for.
const LEVELS_DEFAULT: &str = "critical,error,warning,info,debug,trace";

/// What the exit codes of all commands mean; each one's help says what that is for it.
const EXIT_CODES: &str = "\
Exit codes of every command:
  0  it did what was asked, or what only watches was told to stop, or who read its output went away
  1  it failed; one line on standard error says why and what to do
  2  bad usage or settings; the error names the flag and what is accepted";

/// Metrics for latency-critical code: the tools around it.
#[derive(Clone, Debug, Parser)]
#[command(name = "zibrato", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    Up(UpArgs),
    Send(SendArgs),
    Tap(TapArgs),
    Record(RecordArgs),
    Replay(ReplayArgs),
    Top(TopArgs),
    Doctor(DoctorArgs),
    Bench(BenchArgs),
    Query(QueryArgs),
    Completions(CompletionsArgs),
    Man(ManualArgs),
}

/// Runs broker, worker and store in one process: all that is needed to record and look at metrics.
///
/// Publishers keep windows of their own (default 1 s; the demo's are 500 ms); the worker flushes to
/// the store once a second. A status line says what was recorded (records of timers, sums of
/// counters, sets of gauges), how many points the store took, what any part refused as bad, what was
/// lost on any of the ways, and the slowest and fastest timer of the last flush by its 99th percentile.
///
/// Exit codes: 0 after a clean stop, 1 on a failure or if the numbers do not add up, 2 on bad usage.
/// SIGTERM and Ctrl-C end demo, broker, worker and store in this order and print the account of
/// each; a second one ends at once. RUST_LOG sets the log filter (default: warn).
#[derive(Clone, Debug, Args)]
pub(crate) struct UpArgs {
    /// Also run an instrumented workload in this process, to have something to look at. It takes a
    /// few per cent of a core.
    #[arg(long)]
    pub(crate) demo: bool,

    /// Address of the broker: an IP address, `localhost`, or `*` for every IPv4 interface.
    #[arg(long, env = "ZIBRATO_UP_HOST", default_value = "127.0.0.1", value_parser = parse_host)]
    pub(crate) host: IpAddr,

    /// Port for publishers, 1 to 65534; workers connect to the next one. 0 takes any two free ports.
    #[arg(long, env = "ZIBRATO_UP_PORT", default_value_t = PORT_DEFAULT,
          value_parser = parse_port)]
    pub(crate) port: u16,

    /// Address of the metrics API, as IP:PORT on loopback; port 0 takes a free one.
    #[arg(long, env = "ZIBRATO_UP_LISTEN", value_name = "IP:PORT", default_value_t = LISTEN_DEFAULT, value_parser = parse_listen)]
    pub(crate) listen: SocketAddr,

    /// Address of the broker's /healthz, /metrics and /status, as IP:PORT; the worker's are on the next port.
    /// Port 0 takes any two free ones. The default, 127.0.0.1:5552, is left out with a warning if
    /// it is taken; an address given here must be free.
    #[arg(long, env = "ZIBRATO_UP_HTTP", value_name = "IP:PORT", conflicts_with = "no_http")]
    pub(crate) http: Option<SocketAddr>,

    /// Do not serve /healthz, /metrics and /status.
    #[arg(long)]
    pub(crate) no_http: bool,

    /// Allow --host and --http to be addresses that other machines reach. Nothing is encrypted and
    /// nobody is asked who they are.
    #[arg(long)]
    pub(crate) insecure_bind: bool,

    /// Levels that the worker subscribes to, separated by commas; matched exactly. On-demand levels
    /// cost publishers nothing unless they are listed here. Add `zibrato` to see the broker's own.
    #[arg(long, env = "ZIBRATO_UP_LEVELS", value_name = "LEVELS", default_value = LEVELS_DEFAULT,
          value_delimiter = ',', value_parser = parse_level)]
    pub(crate) levels: Vec<String>,

    /// Directory for what must outlive a restart: the store (local.db) and batches under way (spool).
    /// It is created if it is missing.
    ///
    /// Default: $XDG_STATE_HOME/zibrato/up, else ~/.local/state/zibrato/up.
    #[arg(long, env = "ZIBRATO_UP_DATA", value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,

    /// Check the settings and exit: 0 if they are good, 2 if not.
    #[arg(long)]
    pub(crate) check_config: bool,
}

impl UpArgs {
    /// The settings these flags ask for.
    ///
    /// # Errors
    ///
    /// [`ArgsError`] names the flag, what was given and what is accepted.
    pub(crate) fn resolve(&self) -> Result<up::Config, ArgsError> {
        let broker_http = (!self.no_http).then(|| self.http.unwrap_or(HTTP_DEFAULT));
        let endpoint = |addr| StatusEndpoint { addr, explicit: self.http.is_some() };
        let worker_http = match broker_http {
            Some(addr) if addr.port() == u16::MAX => return Err(ArgsError::NoNextHttpPort { addr }),
            Some(addr) if addr.port() > 0 => Some(SocketAddr::new(addr.ip(), addr.port() + 1)),
            any => any,
        };
        let broker = zibrato_broker::Config {
            host: self.host,
            port: self.port,
            http: endpoint(broker_http),
            insecure_bind: self.insecure_bind,
            ..zibrato_broker::Config::default()
        };
        broker.check()?;
        let data = match &self.data {
            Some(directory) => directory.clone(),
            None => default_data(|name| std::env::var_os(name)).ok_or(ArgsError::NoStateDirectory)?,
        };
        Ok(up::Config {
            broker,
            worker_http: endpoint(worker_http),
            listen: self.listen,
            levels: self.levels.clone(),
            data,
            demo: self.demo,
        })
    }
}

/// Why flags are refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArgsError {
    /// The broker cannot work with them.
    #[error(transparent)]
    Broker(#[from] zibrato_broker::ConfigError),
    /// The highest port leaves none for the worker's status.
    #[error(
        "--http {addr} leaves no next port for the worker's status: accepted are ports 1 to 65534, or 0 for any two free ones"
    )]
    NoNextHttpPort { addr: SocketAddr },
    /// There is no home to put the data into.
    #[error("no place for the data: XDG_STATE_HOME and HOME are unset; give --data DIR")]
    NoStateDirectory,
}

fn parse_host(text: &str) -> Result<IpAddr, String> {
    match text {
        "localhost" => Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        "*" => Ok(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        _ => text.parse().map_err(|_| "accepted are an IP address, localhost and *".to_owned()),
    }
}

fn parse_port(text: &str) -> Result<u16, String> {
    let port = text.parse().ok().filter(|port| *port < u16::MAX);
    port.ok_or_else(|| "accepted are 1 to 65534, or 0 for any two free ports".to_owned())
}

fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    let addr: SocketAddr = text
        .parse()
        .map_err(|_| "not an address; give IP:PORT such as 127.0.0.1:5580 or [::1]:5580".to_owned())?;
    if !addr.ip().to_canonical().is_loopback() {
        return Err("reached by other machines; give a loopback address such as 127.0.0.1:5580, or run \
                    zibrato-local with --token-file"
            .to_owned());
    }
    Ok(addr)
}

fn default_data(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = set("XDG_STATE_HOME").or_else(|| set("HOME").map(|home| home.join(".local/state")))?;
    Some(state.join("zibrato/up"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use zibrato_service::{EXIT_FAILURE, EXIT_OK, EXIT_USAGE};

    use super::*;

    fn args(flags: &[&str]) -> Result<UpArgs, clap::Error> {
        let Cli { command: Command::Up(args) } =
            Cli::try_parse_from([&["zibrato", "up", "--data", "d"], flags].concat())?
        else {
            panic!("another command")
        };
        Ok(args)
    }

    fn resolve(flags: &[&str]) -> Result<up::Config, ArgsError> {
        args(flags).unwrap().resolve()
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_exit_codes_are_in_the_help_of_the_program_and_of_each_command() {
        // The command `help` is clap's own.
        let mut program = Cli::command().disable_help_subcommand(true);
        let help = program.render_help().to_string();
        for code in [EXIT_OK, EXIT_FAILURE, EXIT_USAGE] {
            assert!(help.contains(&format!("\n  {code}  ")), "{code} in {help}");
        }
        for command in program.get_subcommands_mut() {
            let help = command.render_long_help().to_string();
            let (_, codes) = help.split_once("Exit codes: ").unwrap_or_else(|| panic!("{help}"));
            let (codes, _) = codes.split_once("\n\n").unwrap();
            let words: Vec<_> = codes.split([' ', '\n', ',', ':', '.']).collect();
            for code in [EXIT_OK, EXIT_FAILURE, EXIT_USAGE] {
                assert!(words.contains(&&*code.to_string()), "{code} of {}: {codes}", command.get_name());
            }
        }
    }

    #[test]
    fn without_flags_the_ports_are_the_documented_ones_and_every_predefined_level_is_on() {
        let config = resolve(&[]).unwrap();
        assert_eq!((config.broker.port, config.listen), (5_550, "127.0.0.1:5580".parse().unwrap()));
        let http =
            [config.broker.http, config.worker_http].map(|http| (http.addr.unwrap().port(), http.explicit));
        assert_eq!(http, [(5_552, false), (5_553, false)]);
        assert_eq!(config.levels, ["critical", "error", "warning", "info", "debug", "trace"]);
        assert!(!config.demo);
    }

    #[test]
    fn the_status_of_the_worker_is_on_the_port_after_that_of_the_broker() {
        let ports = |flags: &[&str]| {
            let config = resolve(flags).unwrap();
            [config.broker.http, config.worker_http].map(|http| http.addr.map(|addr| addr.port()))
        };
        assert_eq!(ports(&["--http", "127.0.0.1:7000"]), [Some(7_000), Some(7_001)]);
        assert_eq!(ports(&["--http", "127.0.0.1:0"]), [Some(0), Some(0)]);
        assert_eq!(ports(&["--no-http"]), [None, None]);
        let error = resolve(&["--http", "127.0.0.1:65535"]).unwrap_err().to_string();
        assert!(error.starts_with("--http 127.0.0.1:65535 leaves no next port"), "{error}");
        assert!(args(&["--no-http", "--http", "127.0.0.1:1"]).is_err());
    }

    #[test]
    fn addresses_that_other_machines_reach_must_be_asked_for() {
        for flags in [["--host", "*"], ["--host", "10.1.2.3"], ["--http", "0.0.0.0:80"]] {
            let error = resolve(&flags).unwrap_err().to_string();
            assert!(error.contains(flags[0]) && error.contains("--insecure-bind"), "{error}");
            resolve(&[&flags[..], &["--insecure-bind"]].concat()).unwrap();
        }
        let error = args(&["--insecure-bind", "--listen", "0.0.0.0:80"]).unwrap_err().to_string();
        assert!(error.contains("--listen") && error.contains("loopback"), "{error}");
    }

    #[test]
    fn a_port_leaves_a_next_one_and_is_refused_as_its_help_says() {
        assert_eq!([parse_port("0"), parse_port("65534")], [Ok(0), Ok(65_534)]);
        for bad in ["65535", "99999", "-1", "x"] {
            assert_eq!(parse_port(bad).unwrap_err(), "accepted are 1 to 65534, or 0 for any two free ports");
        }
    }

    #[test]
    fn levels_are_separated_by_commas_and_checked() {
        assert_eq!(resolve(&["--levels", " info, audit"]).unwrap().levels, ["info", "audit"]);
        for bad in ["", "info,,debug", "a|b"] {
            let error = args(&["--levels", bad]).unwrap_err().to_string();
            assert!(error.contains("--levels"), "{error}");
        }
    }

    #[test]
    fn the_data_goes_to_the_state_directory_or_home() {
        let with = |set: &[(&str, &str)]| {
            default_data(|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
        };
        assert_eq!(with(&[]), None);
        assert_eq!(with(&[("HOME", "/h")]), Some("/h/.local/state/zibrato/up".into()));
        assert_eq!(with(&[("HOME", "/h"), ("XDG_STATE_HOME", "/x")]), Some("/x/zibrato/up".into()));
        assert_eq!(
            with(&[("HOME", "/h"), ("XDG_STATE_HOME", "")]),
            Some("/h/.local/state/zibrato/up".into())
        );
    }
}
