//! The settings of the receiver, checked before any socket or file is opened.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use crate::errors::unix_now;
use crate::server::Limits;

/// Where the receiver listens unless told otherwise.
pub(crate) const LISTEN_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5580);
/// What Librato accepted: measurements up to two hours old, in seconds.
pub(crate) const MAX_AGE_S_DEFAULT: u64 = 7_200;
/// How far ahead of this clock a measurement may be, in seconds. Librato's own bound is not on
/// record; ten minutes forgive a clock that is off and still catch milliseconds sent as seconds.
pub(crate) const MAX_AHEAD_S_DEFAULT: u64 = 600;
/// How long points and rollups are kept unless told otherwise, as Librato did.
pub(crate) const KEEP_DEFAULT: Keep =
    Keep { raw_s: 2 * DAY_S, minute_s: 8 * DAY_S, quarter_s: 32 * DAY_S, hour_s: 365 * DAY_S };
/// The shortest and the longest time to keep anything: an hour and 100 years, in seconds.
const KEEP_S: RangeInclusive<u64> = 3_600..=36_500 * DAY_S;
const DAY_S: u64 = 86_400;
/// The longest token, in bytes.
const TOKEN_BYTES_MAX: usize = 1_024;

/// The settings of one receiver.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address to listen on. Port 0 takes a free one. Unless it is loopback, `token` must be set.
    pub listen: SocketAddr,
    /// The SQLite file; it and its directories are created when missing.
    pub db: PathBuf,
    /// What each request must present; `None` accepts any and no credentials.
    pub token: Option<Token>,
    /// Oldest accepted `measure_time`, in seconds before now.
    pub max_age_s: u64,
    /// Newest accepted `measure_time`, in seconds after now.
    pub max_ahead_s: u64,
    /// Names beside `localhost` by which clients may address the server; see `--allow-host`.
    pub allow_hosts: Vec<String>,
    /// What the HTTP server bears of its clients.
    pub limits: Limits,
    /// Status addresses of the brokers and workers to look after, at most
    /// [`WATCH_MAX`](crate::WATCH_MAX); further ones are left out.
    pub watch: Vec<SocketAddr>,
    /// How long points and rollups are kept.
    pub keep: Keep,
    /// The clock that says which points are packed and which have expired, in seconds since 1970.
    /// The wall clock, unless a test or a benchmark lets time pass faster.
    pub clock: fn() -> i64,
}

/// How long points are kept, each in seconds and each at least as long as the one before.
///
/// Rows are deleted in whole hours, so the last of them go up to an hour later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Keep {
    /// Points as they were posted.
    pub raw_s: u64,
    /// What they add up to in steps of a minute.
    pub minute_s: u64,
    /// In steps of 15 minutes.
    pub quarter_s: u64,
    /// In steps of an hour.
    pub hour_s: u64,
}

impl Keep {
    /// The same with the flags that set them, finest first.
    fn by_flag(self) -> [(&'static str, u64); 4] {
        let Self { raw_s, minute_s, quarter_s, hour_s } = self;
        [("--keep-raw", raw_s), ("--keep-1m", minute_s), ("--keep-15m", quarter_s), ("--keep-1h", hour_s)]
    }

    fn check(self) -> Result<(), ConfigError> {
        let flags = self.by_flag();
        for pair in flags.windows(2) {
            if pair[0].1 > pair[1].1 {
                let [(finer, finer_s), (coarser, coarser_s)] = [pair[0], pair[1]];
                return Err(ConfigError::KeepOrder { finer, finer_s, coarser, coarser_s });
            }
        }
        match flags.iter().find(|(_, keep_s)| !KEEP_S.contains(keep_s)) {
            Some((flag, keep_s)) => Err(ConfigError::Keep { flag, keep_s: *keep_s }),
            None => Ok(()),
        }
    }
}

impl Config {
    /// A receiver on this address and file, without a token and with the default windows, retention
    /// and clock, that looks after nobody.
    pub fn new(listen: SocketAddr, db: impl Into<PathBuf>) -> Self {
        Self {
            listen,
            db: db.into(),
            token: None,
            max_age_s: MAX_AGE_S_DEFAULT,
            max_ahead_s: MAX_AHEAD_S_DEFAULT,
            allow_hosts: Vec::new(),
            limits: Limits::default(),
            watch: Vec::new(),
            keep: KEEP_DEFAULT,
            clock: unix_now,
        }
    }

    /// Checks what the types cannot.
    ///
    /// # Errors
    ///
    /// [`ConfigError::OpenToOthers`] if the address is not loopback and there is no token,
    /// [`ConfigError::Keep`] or [`ConfigError::KeepOrder`] if `keep` is out of range or order.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.token.is_none() && !self.listen.ip().to_canonical().is_loopback() {
            return Err(ConfigError::OpenToOthers { listen: self.listen });
        }
        self.keep.check()
    }
}

/// A secret that clients present. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token of 1 to 1024 bytes without control characters. Surrounding blanks are cut off.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Token`] with the rule, never with the text.
    pub fn new(text: &str) -> Result<Self, ConfigError> {
        let text = text.trim();
        if text.is_empty() || text.len() > TOKEN_BYTES_MAX || text.chars().any(char::is_control) {
            return Err(ConfigError::Token);
        }
        Ok(Self(text.to_owned()))
    }

    /// Reads the token from a file that holds nothing else.
    ///
    /// # Errors
    ///
    /// [`ConfigError::TokenFile`] if the file cannot be read, [`ConfigError::Token`] as in [`Token::new`].
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let failed = |source| ConfigError::TokenFile { path: path.to_owned(), source };
        let mut text = String::new();
        // Twice the limit leaves room for blanks and still bounds what a wrong path can read.
        let mut file = std::fs::File::open(path).map_err(failed)?.take(2 * TOKEN_BYTES_MAX as u64);
        file.read_to_string(&mut text).map_err(failed)?;
        Self::new(&text)
    }

    /// Whether `candidate` is the token. The time taken does not tell how much of it is right.
    pub(crate) fn matches(&self, candidate: &[u8]) -> bool {
        let token = self.0.as_bytes();
        let differing = token
            .iter()
            .enumerate()
            .fold(0_u8, |sum, (i, byte)| sum | (byte ^ candidate.get(i).unwrap_or(&0)));
        differing == 0 && token.len() == candidate.len()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(redacted)")
    }
}

/// Why settings are refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Other machines could read and write without a token.
    #[error(
        "--listen {listen} can be reached from other machines; give --token-file, or a loopback address such as 127.0.0.1:5580"
    )]
    OpenToOthers {
        /// The address.
        listen: SocketAddr,
    },
    /// The token file cannot be read.
    #[error("cannot read --token-file {}", path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The token is empty, too long or not printable.
    #[error(
        "the token in --token-file is not usable; put one line of 1 to {TOKEN_BYTES_MAX} bytes without control characters into it"
    )]
    Token,
    /// Something would be kept too short or too long.
    #[error("{flag} {keep_s}s is out of range; give {}s (an hour) to {}s (100 years)", KEEP_S.start(), KEEP_S.end())]
    Keep {
        /// The flag.
        flag: &'static str,
        /// Its value, in seconds.
        keep_s: u64,
    },
    /// Something would be kept longer than what is coarser.
    #[error(
        "{finer} {finer_s}s is longer than {coarser} {coarser_s}s; keep what is coarser at least as long"
    )]
    KeepOrder {
        /// The flag of the finer resolution.
        finer: &'static str,
        /// Its value, in seconds.
        finer_s: u64,
        /// The flag of the coarser resolution.
        coarser: &'static str,
        /// Its value, in seconds.
        coarser_s: u64,
    },
    /// There is no home to put the database into.
    #[error("no place for the database: STATE_DIRECTORY, XDG_STATE_HOME and HOME are unset; give --db FILE")]
    NoStateDirectory,
}

/// The database's path when none is given.
pub(crate) fn default_db(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // The service manager lists several state directories separated by colons; the first is ours.
    let first = |path: PathBuf| {
        path.to_str().and_then(|text| text.split(':').next()).map(PathBuf::from).unwrap_or(path)
    };
    let directory = set("STATE_DIRECTORY")
        .map(first)
        .or_else(|| set("XDG_STATE_HOME").map(|path| path.join("zibrato")))
        .or_else(|| set("HOME").map(|path| path.join(".local/state/zibrato")))?;
    Some(directory.join("local.db"))
}

/// A time span as people write it: a whole number and s, m, h or d.
pub(crate) fn seconds(text: &str) -> Result<u64, String> {
    let units = [('s', 1), ('m', 60), ('h', 3_600), ('d', DAY_S)];
    let parsed = units.iter().find_map(|(unit, unit_s)| {
        let number = text.strip_suffix(*unit)?.parse::<u64>().ok()?;
        number.checked_mul(*unit_s)
    });
    parsed.ok_or_else(|| "not a time span; give a whole number and s, m, h or d, such as 48h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_spans_are_whole_numbers_with_a_unit() {
        for (text, expected) in
            [("0s", 0), ("90s", 90), ("5m", 300), ("48h", 172_800), ("365d", 31_536_000), ("+1s", 1)]
        {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        for bad in
            ["", "5", "s", "1.5h", "-1d", "1 d", "2w", "1D", "99999999999999999999s", "999999999999999d"]
        {
            assert!(seconds(bad).unwrap_err().contains("48h"), "{bad}");
        }
    }

    #[test]
    fn what_is_coarser_is_kept_at_least_as_long() {
        let check =
            |keep| Config { keep, ..with_listen("127.0.0.1:0") }.check().map_err(|error| error.to_string());
        let Keep { raw_s, minute_s, quarter_s, .. } = KEEP_DEFAULT;
        assert_eq!(check(KEEP_DEFAULT), Ok(()));
        let same = Keep { raw_s: 3_600, minute_s: 3_600, quarter_s: 3_600, hour_s: 3_600 };
        assert_eq!(check(same), Ok(()));
        for (keep, expected) in [
            (
                Keep { raw_s: minute_s + 1, ..KEEP_DEFAULT },
                "--keep-raw 691201s is longer than --keep-1m 691200s",
            ),
            (
                Keep { minute_s: quarter_s + 1, ..KEEP_DEFAULT },
                "--keep-1m 2764801s is longer than --keep-15m",
            ),
            (Keep { hour_s: quarter_s - 1, ..KEEP_DEFAULT }, "--keep-15m 2764800s is longer than --keep-1h"),
            (Keep { raw_s: 3_599, ..KEEP_DEFAULT }, "--keep-raw 3599s is out of range; give 3600s"),
            (Keep { hour_s: 36_501 * DAY_S, ..KEEP_DEFAULT }, "--keep-1h 3153686400s is out of range"),
        ] {
            let text = check(keep).unwrap_err();
            assert!(text.starts_with(expected) && !text.contains('\n'), "{text}");
        }
        assert_eq!(check(Keep { raw_s, minute_s: raw_s, ..KEEP_DEFAULT }), Ok(()));
    }

    fn with_listen(listen: &str) -> Config {
        Config::new(listen.parse().unwrap(), "x.db")
    }

    #[test]
    fn an_address_open_to_others_needs_a_token() {
        for loopback in ["127.0.0.1:0", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(with_listen(loopback).check().is_ok(), "{loopback}");
        }
        for open in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1"] {
            let mut config = with_listen(open);
            let text = config.check().unwrap_err().to_string();
            assert!(text.contains(open) && text.contains("--token-file") && !text.contains('\n'), "{text}");
            config.token = Some(Token::new("secret").unwrap());
            assert!(config.check().is_ok(), "{open}");
        }
    }

    #[test]
    fn a_token_is_redacted_trimmed_and_compared_whole() {
        let token = Token::new(" canary-71 \n").unwrap();
        assert_eq!(format!("{token:?}"), "Token(redacted)");
        let mut config = with_listen("127.0.0.1:0");
        config.token = Some(token.clone());
        assert!(!format!("{config:?}").contains("canary"));
        assert!(token.matches(b"canary-71"));
        for wrong in ["", "canary-7", "canary-72", "canary-710", "canary-71\0"] {
            assert!(!token.matches(wrong.as_bytes()), "{wrong:?}");
        }
    }

    #[test]
    fn an_unusable_token_is_refused_without_showing_it() {
        let long = "x".repeat(TOKEN_BYTES_MAX + 1);
        for bad in ["", " \n", "two\nlines", long.as_str()] {
            assert!(matches!(Token::new(bad), Err(ConfigError::Token)), "{bad:?}");
        }
        assert!(Token::new(&long[1..]).is_ok());
        assert!(!Token::new("two\nlines").unwrap_err().to_string().contains("two"));
        assert!(matches!(
            Token::from_file(Path::new("/nonexistent/token")),
            Err(ConfigError::TokenFile { .. })
        ));
    }

    #[test]
    fn the_database_goes_to_the_state_directory_then_xdg_then_home() {
        fn with(set: &[(&str, &str)]) -> Option<PathBuf> {
            default_db(|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
        }
        let home = ("HOME", "/h");
        assert_eq!(with(&[]), None);
        assert_eq!(with(&[home]), Some("/h/.local/state/zibrato/local.db".into()));
        assert_eq!(with(&[home, ("XDG_STATE_HOME", "/x")]), Some("/x/zibrato/local.db".into()));
        assert_eq!(with(&[home, ("XDG_STATE_HOME", "")]), Some("/h/.local/state/zibrato/local.db".into()));
        assert_eq!(
            with(&[("XDG_STATE_HOME", "/x"), ("STATE_DIRECTORY", "/s:/t")]),
            Some("/s/local.db".into())
        );
    }
}
