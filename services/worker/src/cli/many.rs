//! `zibrato-worker`: several backends from one subscription, by a file.
//!
//! The keys of the file are the flags of the programs with one backend, so that there is one set of names, defaults, limits
//! and errors: at the top those of the subscription, in each `[[backend]]` those of the flush and of its backend.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use toml::{Table, Value};
use zibrato_service::{Failure, Shutdown, init_logging, run_service};

use super::{ArgsError, SourceArgs};
use crate::backends::{ALL, Kind};
use crate::clock::WallClock;
use crate::worker::{LaneSpec, ManyConfig, Source, run_many};

const BINARY: &str = "zibrato-worker";
/// Most bytes of the file.
const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// Most backends.
pub const BACKENDS_MAX: usize = 64;
/// Most bytes of a backend's name.
const NAME_BYTES_MAX: usize = 64;

/// Takes metrics from brokers and sends them to several backends.
///
/// Each backend has its own flush, spool, retries and order, so that one that is dead holds up no other. The file is TOML:
/// at its top the flags --host, --port, --endpoint, --levels, --http, --no-http, --insecure-bind and --state of a worker as
/// keys without the dashes, and for each backend a table `[[backend]]` with `kind` (which program, without zibrato-), `name`
/// (default: the kind) and the flags of that program. A flag that may be given several times is an array, one without a
/// value is true or false.
///
/// SIGHUP reads the file again: backends that are as they were go on with their queue, those that are gone or different make
/// a last flush, and a file with a mistake changes nothing. SIGTERM and SIGINT flush once more and send for 5 s at most; a
/// second one leaves out the sending, never the spool. Exit codes: 0 after a clean stop, 1 on a failure, 2 on bad usage.
/// RUST_LOG sets the log filter (default: info).
#[derive(Clone, Debug, Parser)]
#[command(name = BINARY, version)]
pub struct WorkerArgs {
    /// The file.
    #[arg(long, value_name = "FILE", env = "ZIBRATO_WORKER_CONFIG")]
    pub config: PathBuf,

    /// Check the file and exit: 0 if it is good, 2 if not.
    #[arg(long)]
    pub check_config: bool,
}

/// The keys at the top of the file.
#[derive(Clone, Debug, Parser)]
#[command(no_binary_name = true, disable_help_flag = true, disable_version_flag = true)]
struct TopArgs {
    #[command(flatten)]
    source: SourceArgs,

    /// Directory of the spools, one in it for each backend. Default: $STATE_DIRECTORY, else
    /// $XDG_STATE_HOME/zibrato/zibrato-worker, else ~/.local/state/zibrato/zibrato-worker.
    #[arg(long, value_name = "DIRECTORY")]
    state: Option<PathBuf>,
}

/// The `main` of `zibrato-worker`.
#[must_use]
pub fn main() -> ExitCode {
    let args = WorkerArgs::parse();
    init_logging("info");
    run_service(BINARY, async |shutdown| run(&args, shutdown).await)
}

async fn run(args: &WorkerArgs, shutdown: Shutdown) -> Result<(), Failure> {
    let config = read(&args.config).map_err(Failure::usage)?;
    if args.check_config {
        return Ok(());
    }
    let path = args.config.clone();
    run_many(config, move || read(&path).map_err(|error| zibrato_service::chain(&error)), shutdown).await?;
    Ok(())
}

/// Reads the settings from a file.
///
/// # Errors
///
/// [`ConfigError`] names the backend and the key, what was given and what is accepted.
pub fn read(path: &Path) -> Result<ManyConfig, ConfigError> {
    let failed = |source| ConfigError::File { path: path.to_owned(), source };
    let bytes = std::fs::metadata(path).map_err(failed)?.len();
    if bytes > CONFIG_BYTES_MAX {
        return Err(ConfigError::Long { path: path.to_owned(), bytes });
    }
    resolve(&std::fs::read_to_string(path).map_err(failed)?)
}

fn resolve(text: &str) -> Result<ManyConfig, ConfigError> {
    let mut table: Table = text.parse().map_err(|error: toml::de::Error| ConfigError::Toml {
        line: error.span().map_or(0, |span| 1 + text[..span.start.min(text.len())].matches('\n').count()),
        what: one_line(error.message()),
    })?;
    let backends = match table.remove("backend") {
        Some(Value::Array(backends)) if !backends.is_empty() && backends.len() <= BACKENDS_MAX => backends,
        _ => return Err(ConfigError::NoBackend),
    };
    let at_top = |what| ConfigError::Top { what };
    let args =
        TopArgs::try_parse_from(flags(&table).map_err(at_top)?).map_err(|error| at_top(said(&error)))?;
    if args.source.check_config {
        return Err(at_top("check-config is a flag of the program".to_owned()));
    }
    let source = Source {
        endpoints: args.source.endpoints()?,
        levels: args.source.levels.0.clone(),
        clock: WallClock::system(),
    };
    let mut lanes: Vec<LaneSpec> = Vec::new();
    let mut names = HashSet::new();
    for backend in backends {
        let spec = lane(backend, &args)?;
        if !names.insert(spec.name.clone()) {
            return Err(ConfigError::Twice { name: spec.name });
        }
        lanes.push(spec);
    }
    Ok(ManyConfig { source, status: args.source.status()?, lanes })
}

fn lane(backend: Value, top: &TopArgs) -> Result<LaneSpec, ConfigError> {
    let Value::Table(mut table) = backend else { return Err(ConfigError::NoBackend) };
    let mut text = |key| match table.remove(key) {
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => {
            Err(ConfigError::Top { what: format!("{key} is a {}; give a text", other.type_str()) })
        }
        None => Ok(None),
    };
    let kind = text("kind")?.unwrap_or_default();
    let name = text("name")?.unwrap_or_else(|| kind.clone());
    let Some(known) = ALL.iter().find(|known| known.name == kind) else {
        return Err(ConfigError::Kind { kind });
    };
    let is_plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_plain) {
        return Err(ConfigError::Name { name });
    }
    let refused = |what| ConfigError::Backend { name: name.clone(), what };
    let flags = flags(&table).map_err(refused)?;
    let Kind { lane, .. } = known;
    let (args, backend) = lane(&flags).map_err(refused)?;
    let directory = match &args.spool {
        Some(directory) => directory.clone(),
        None => state_directory(top.state.as_deref())?.join(&name),
    };
    let settings = [&[kind][..], &flags].concat();
    Ok(LaneSpec { name, settings, lane: args.resolve(directory), backend })
}

fn state_directory(given: Option<&Path>) -> Result<PathBuf, ConfigError> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    given
        .map(Path::to_owned)
        .or_else(|| set("STATE_DIRECTORY"))
        .or_else(|| Some(set("XDG_STATE_HOME")?.join("zibrato").join(BINARY)))
        .or_else(|| Some(set("HOME")?.join(".local/state/zibrato").join(BINARY)))
        .ok_or(ConfigError::NoStateDirectory)
}

/// A table as flags of a command line.
fn flags(table: &Table) -> Result<Vec<String>, String> {
    let mut flags = Vec::new();
    for (key, value) in table {
        match value {
            Value::Boolean(true) => flags.push(format!("--{key}")),
            Value::Boolean(false) => {}
            Value::Array(values) => {
                for value in values {
                    flags.push(format!("--{key}={}", plain(key, value)?));
                }
            }
            value => flags.push(format!("--{key}={}", plain(key, value)?)),
        }
    }
    Ok(flags)
}

fn plain(key: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Float(number) => Ok(number.to_string()),
        other => Err(format!(
            "{key} is a {}; give a text, a number, true or false, or an array of texts",
            other.type_str()
        )),
    }
}

/// What is wrong with flags, in one line.
pub(crate) fn said(error: &clap::Error) -> String {
    let text = error.render().to_string();
    // What follows the first paragraph is how to ask for help.
    one_line(text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: "))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Why a file is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// It is too long.
    #[error("{} has {bytes} bytes; accepted are at most {CONFIG_BYTES_MAX}", path.display())]
    Long {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// It is no TOML.
    #[error("line {line} is not TOML: {what}")]
    Toml {
        /// Where.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// There are no backends, or too many.
    #[error("accepted are 1 to {BACKENDS_MAX} tables [[backend]] with a kind in each")]
    NoBackend,
    /// A key at the top is refused.
    #[error("at the top: {what}")]
    Top {
        /// What is wrong.
        what: String,
    },
    /// A backend's key is refused.
    #[error("backend {name:?}: {what}")]
    Backend {
        /// The backend.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// There is no such backend.
    #[error("kind = {kind:?} is no backend; accepted are {}", kinds())]
    Kind {
        /// The kind.
        kind: String,
    },
    /// A name is refused.
    #[error("name = {name:?} is not accepted; give 1 to {NAME_BYTES_MAX} of a-z 0-9 _ -")]
    Name {
        /// The name.
        name: String,
    },
    /// Two backends have one name.
    #[error("two backends are named {name:?}; give each a name of its own")]
    Twice {
        /// The name.
        name: String,
    },
    /// Host or address.
    #[error(transparent)]
    Args(#[from] ArgsError),
    /// There is no place for the spools.
    #[error(
        "no place for the spools: STATE_DIRECTORY, XDG_STATE_HOME and HOME are unset; give state = \"DIRECTORY\""
    )]
    NoStateDirectory,
}

fn kinds() -> String {
    ALL.iter().map(|kind| kind.name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        endpoint = ["tcp://a:1", "tcp://b:2"]
        levels = "info,debug"
        no-http = true
        state = "/state"

        [[backend]]
        kind = "librato"
        url = "http://127.0.0.1:1/x"
        flush = 10
        drop = ["debug.*", "x"]

        [[backend]]
        kind = "librato"
        name = "second"
        spool = "/other"
        insecure-http = false
    "#;

    #[test]
    fn the_keys_of_the_file_are_the_flags_of_the_programs() {
        let config = resolve(GOOD).unwrap();
        assert_eq!(config.source.endpoints, ["tcp://a:1", "tcp://b:2"]);
        assert_eq!(
            (config.source.levels, config.status.addr),
            (vec!["info".to_owned(), "debug".to_owned()], None)
        );
        let [first, second] = &config.lanes[..] else { panic!() };
        assert_eq!((&*first.name, &*second.name), ("librato", "second"));
        assert_eq!((first.lane.flush.as_secs(), second.lane.flush.as_secs()), (10, 60));
        assert_eq!(first.lane.naming.drop.len(), 2);
        assert_eq!(first.backend.target(), "http://127.0.0.1:1/x");
        let spools = [first, second].map(|lane| lane.lane.spool_directory.to_str().unwrap());
        assert_eq!(spools, ["/state/librato", "/other"]);
        assert_eq!(
            first.settings,
            resolve(GOOD).unwrap().lanes[0].settings,
            "the same file is the same lane"
        );
    }

    #[test]
    fn a_mistake_names_the_backend_the_key_and_what_is_accepted() {
        let with = |more: &str| resolve(&format!("state = \"/s\"\n{more}")).unwrap_err().to_string();
        let backend = |more: &str| with(&format!("[[backend]]\nkind = \"librato\"\nname = \"one\"\n{more}"));
        for (error, parts) in [
            (with(""), &["[[backend]]"][..]),
            (with("backend = 1"), &["[[backend]]"]),
            (with("x = \n"), &["line 2"]),
            (with("levels = \"a|b\"\n[[backend]]\nkind = \"librato\""), &["at the top", "--levels", "a|b"]),
            (with("flush = 1\n[[backend]]\nkind = \"librato\""), &["at the top", "--flush"]),
            (with("host = \"a b\"\n[[backend]]\nkind = \"librato\""), &["--host"]),
            (with("[[backend]]\nkind = \"nothing\""), &["nothing", "librato"]),
            (with("[[backend]]\nkind = 7"), &["kind is a integer"]),
            (with("[[backend]]\nkind = \"librato\"\nname = \"A/b\""), &["A/b", "a-z"]),
            (with("[[backend]]\nkind = \"librato\"\n[[backend]]\nkind = \"librato\""), &["two", "librato"]),
            (backend("flush = 0"), &["\"one\"", "--flush", "0"]),
            (backend("colour = \"red\""), &["\"one\"", "--colour"]),
            (backend("levels = \"info\""), &["\"one\"", "--levels"]),
            (backend("url = \"ftp://x/\""), &["\"one\"", "--url", "ftp://x/"]),
            (backend("prefix = { a = 1 }"), &["\"one\"", "prefix", "table"]),
        ] {
            for part in parts {
                assert!(error.contains(part) && !error.contains('\n'), "{part} is missing in {error}");
            }
        }
    }

    #[test]
    fn secrets_of_the_file_are_in_no_debug_output() {
        let text =
            "state = \"/s\"\n[[backend]]\nkind = \"librato\"\nusername = \"u\"\napitoken = \"canary-79\"";
        let config = resolve(text).unwrap();
        assert!(!format!("{config:?}").contains("canary"));
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = read(Path::new("/nowhere/worker.toml")).unwrap_err();
        assert!(error.to_string().contains("/nowhere/worker.toml"), "{error}");
    }
}
