//! The command line of zibrato-local.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;

use crate::config::{self, Config, ConfigError, Keep, Token};
use crate::watch::{self, AddressList};

/// The longest window that `--max-age` and `--max-ahead` accept: ten years, in seconds.
const WINDOW_S_MAX: u64 = 315_360_000;

/// Receives metrics over the Librato API v1 and stores them in one SQLite file.
///
/// Exit codes: 0 after a clean stop, 1 on a failure, 2 on bad usage. SIGTERM and SIGINT finish the
/// requests under way and stop (5 s at most); a second one ends at once. RUST_LOG sets the log
/// filter (default: info).
#[derive(Clone, Debug, Parser)]
#[command(name = "zibrato-local", version)]
pub struct Args {
    /// Address to listen on, as IP:PORT; port 0 takes a free one.
    ///
    /// An address that other machines can reach needs --token-file.
    #[arg(long, value_name = "IP:PORT", default_value_t = config::LISTEN_DEFAULT, value_parser = parse_listen, env = "ZIBRATO_LOCAL_LISTEN")]
    pub listen: SocketAddr,

    /// SQLite file to store in; it and its directories are created when missing.
    ///
    /// Default: $STATE_DIRECTORY/local.db, else $XDG_STATE_HOME/zibrato/local.db, else
    /// ~/.local/state/zibrato/local.db.
    #[arg(long, value_name = "FILE", env = "ZIBRATO_LOCAL_DB")]
    pub db: Option<PathBuf>,

    /// File that holds the API token, on one line of 1 to 1024 bytes.
    ///
    /// With it each request must carry HTTP Basic credentials whose user or password is the token.
    /// Default: none; then any and no credentials are accepted, and only on loopback.
    #[arg(long, value_name = "FILE", env = "ZIBRATO_LOCAL_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,

    /// Oldest accepted measure_time, in seconds before now (1 to 315360000).
    #[arg(long, value_name = "SECONDS", default_value_t = config::MAX_AGE_S_DEFAULT, value_parser = zibrato_service::whole_number::<u64>(1, WINDOW_S_MAX), env = "ZIBRATO_LOCAL_MAX_AGE")]
    pub max_age: u64,

    /// Newest accepted measure_time, in seconds after now (0 to 315360000).
    ///
    /// 0 refuses whatever a clock that runs ahead has stamped.
    #[arg(long, value_name = "SECONDS", default_value_t = config::MAX_AHEAD_S_DEFAULT, value_parser = zibrato_service::whole_number::<u64>(0, WINDOW_S_MAX), env = "ZIBRATO_LOCAL_MAX_AHEAD")]
    pub max_ahead: u64,

    /// Name by which clients address this server, besides localhost and IP addresses; may be repeated.
    ///
    /// A request whose Host header has another name is refused: a web site could have pointed that
    /// name here (DNS rebinding). Give the names of this machine that browsers and workers use.
    #[arg(long, value_name = "NAME", value_parser = parse_host, value_delimiter = ',', env = "ZIBRATO_LOCAL_ALLOW_HOST")]
    pub allow_host: Vec<String>,

    /// Status addresses of brokers and workers, asked once a second how they are, as
    /// IP:PORT,IP:PORT..., at most 16; `none` asks nobody. The page shows what they say.
    #[arg(long, value_name = "IP:PORT,...", default_value = watch::LIST_DEFAULT, value_parser = watch::parse_list, env = "ZIBRATO_LOCAL_WATCH")]
    pub watch: AddressList,

    /// How long points are kept as they were posted: a whole number and s, m, h or d.
    ///
    /// From 1h to 36500d, and at most --keep-1m. Default, as for the next three: what Librato kept.
    #[arg(long, value_name = "SPAN", default_value = "2d", value_parser = config::seconds, env = "ZIBRATO_LOCAL_KEEP_RAW")]
    pub keep_raw: u64,

    /// How long sums of a minute are kept; at most --keep-15m.
    #[arg(long = "keep-1m", value_name = "SPAN", default_value = "8d", value_parser = config::seconds, env = "ZIBRATO_LOCAL_KEEP_1M")]
    pub keep_minute: u64,

    /// How long sums of 15 minutes are kept; at most --keep-1h.
    #[arg(long = "keep-15m", value_name = "SPAN", default_value = "32d", value_parser = config::seconds, env = "ZIBRATO_LOCAL_KEEP_15M")]
    pub keep_quarter: u64,

    /// How long sums of an hour are kept. What is older is deleted for good.
    #[arg(long = "keep-1h", value_name = "SPAN", default_value = "365d", value_parser = config::seconds, env = "ZIBRATO_LOCAL_KEEP_1H")]
    pub keep_hour: u64,

    /// Check the settings, then exit: 0 if they are good, 2 if not.
    #[arg(long)]
    pub check_config: bool,

    /// Check the whole database without changing it, then exit: 0 if it is good, 1 if not.
    ///
    /// Prints one line with counts, or one line for each finding. May be run beside the receiver.
    #[arg(long)]
    pub check_db: bool,
}

impl Args {
    /// The settings these arguments stand for, checked.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the token file is unusable, no database path is known, the address is open
    /// to other machines without a token, or retention is out of range or order.
    pub fn config(self) -> Result<Config, ConfigError> {
        let db = match self.db {
            Some(path) => path,
            None => config::default_db(|name| std::env::var_os(name)).ok_or(ConfigError::NoStateDirectory)?,
        };
        let token = self.token_file.as_deref().map(Token::from_file).transpose()?;
        let config = Config {
            token,
            max_age_s: self.max_age,
            max_ahead_s: self.max_ahead,
            allow_hosts: self.allow_host,
            watch: self.watch.0,
            keep: Keep {
                raw_s: self.keep_raw,
                minute_s: self.keep_minute,
                quarter_s: self.keep_quarter,
                hour_s: self.keep_hour,
            },
            ..Config::new(self.listen, db)
        };
        config.check()?;
        Ok(config)
    }
}

fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "not an address; give IP:PORT such as 127.0.0.1:5580 or [::1]:5580".to_owned())
}

fn parse_host(text: &str) -> Result<String, String> {
    let is_name = !text.is_empty()
        && text.len() <= 253
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    if is_name {
        Ok(text.to_owned())
    } else {
        Err("not a host name; give it without scheme and port".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_its_help_names_units_and_defaults() {
        use clap::CommandFactory;
        let mut command = Args::command();
        command.clone().debug_assert();
        let help = command.render_long_help().to_string();
        for part in ["127.0.0.1:5580", "7200", "600", "seconds", "$STATE_DIRECTORY", "token"] {
            assert!(help.contains(part), "{part} is missing in {help}");
        }
    }

    #[test]
    fn flags_become_settings() {
        let args =
            ["zibrato-local", "--listen", "[::1]:0", "--db", "x.db", "--max-age", "9", "--max-ahead", "0"];
        let config = Args::try_parse_from(args).unwrap().config().unwrap();
        assert_eq!(config.listen.to_string(), "[::1]:0");
        assert_eq!((config.max_age_s, config.max_ahead_s), (9, 0));
        assert!(config.token.is_none() && config.db.as_os_str() == "x.db" && config.allow_hosts.is_empty());
        let args = ["zibrato-local", "--db", "x.db", "--allow-host", "a.example", "--allow-host", "b"];
        assert_eq!(Args::try_parse_from(args).unwrap().config().unwrap().allow_hosts, ["a.example", "b"]);
        let defaults: Vec<SocketAddr> =
            vec!["127.0.0.1:5552".parse().unwrap(), "127.0.0.1:5553".parse().unwrap()];
        assert_eq!(config.watch, defaults);
        assert_eq!(config.keep, config::KEEP_DEFAULT);
    }

    #[test]
    fn retention_is_settable_and_in_order() {
        let config = |args: &[&str]| {
            let always = ["zibrato-local", "--db", "x.db"];
            Args::try_parse_from(always.iter().chain(args)).unwrap().config()
        };
        let all = ["--keep-raw", "2h", "--keep-1m", "120m", "--keep-15m", "1d", "--keep-1h", "86401s"];
        let expected = Keep { raw_s: 7_200, minute_s: 7_200, quarter_s: 86_400, hour_s: 86_401 };
        assert_eq!(config(&all).unwrap().keep, expected);
        assert!(matches!(config(&["--keep-raw", "9d"]), Err(ConfigError::KeepOrder { .. })));
        assert!(matches!(config(&["--keep-raw", "1m"]), Err(ConfigError::Keep { .. })));
    }

    #[test]
    fn windows_out_of_range_and_bad_addresses_are_usage_errors() {
        for args in [
            ["--max-age", "0"],
            ["--keep-raw", "2"],
            ["--max-age", "315360001"],
            ["--listen", "localhost"],
            ["--max-ahead", "-1"],
            ["--allow-host", "http://a"],
        ] {
            let error = Args::try_parse_from(["zibrato-local"].iter().chain(&args)).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{args:?}");
        }
    }
}
