//! Flags and environment of `zibrato-librato`.

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;

use super::{AGE_MAX, Librato, LibratoConfig};
use crate::backend::Backend;
use crate::cli::{BackendArgs, Context, UrlError, parse_url};
use crate::http::{Credentials, CredentialsError, HttpError};
use crate::secret::{Secret, SecretError, SecretSource};

/// Where `zibrato-local` listens.
pub const URL_DEFAULT: &str = "http://127.0.0.1:5580/v1/metrics";
const PATH_DEFAULT: &str = "/v1/metrics";
const AGE_S_MIN: u64 = 60;
const AGE_S_MAX: u64 = 315_360_000;

/// A receiver of the Librato API v1.
#[derive(Clone, Debug, clap::Args)]
pub struct LibratoArgs {
    /// User name for HTTP Basic; Librato's is the account's e-mail address.
    #[arg(long, value_name = "NAME")]
    pub username: Option<String>,

    /// API token. Other users of this machine can read it in the list of processes: prefer
    /// --apitoken-file or the environment.
    #[arg(long, value_name = "TOKEN", env = "ZIBRATO_LIBRATO_TOKEN", hide_env_values = true, value_parser = parse_raw, conflicts_with = "apitoken_file")]
    pub apitoken: Option<RawToken>,

    /// File that holds the API token, on one line of 1 to 1024 bytes. It is read again when it has changed.
    #[arg(long, value_name = "FILE", env = "ZIBRATO_LIBRATO_TOKEN_FILE")]
    pub apitoken_file: Option<PathBuf>,

    /// Metrics URL, http or https, without credentials; without a path /v1/metrics is added. Default:
    /// http://127.0.0.1:5580/v1/metrics, which is zibrato-local.
    #[arg(long, hide_env_values = true)]
    pub url: Option<String>,

    /// Allow credentials to be sent over http to another machine, where everybody on the way can
    /// read them.
    #[arg(long)]
    pub insecure_http: bool,

    /// Whether timers are sent as distributions, or those of legacy messages one by one.
    #[arg(long, value_enum, default_value_t = Timers::Complex)]
    pub timers: Timers,

    /// Oldest age of a point that the receiver accepts, in seconds, 60 to 315360000. Older batches
    /// are dropped and counted. Librato's is two hours; five minutes less is the default.
    #[arg(long, value_name = "SECONDS", default_value_t = AGE_MAX.as_secs(),
          value_parser = zibrato_service::whole_number::<u64>(AGE_S_MIN, AGE_S_MAX))]
    pub max_age: u64,
}

/// How timers are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Timers {
    /// Count, sum, minimum, maximum and squares of a flush.
    Complex,
    /// One by one, as the original did, if they came one by one.
    Raw,
}

/// A token as it was given. It is checked later, because an error of the command line shows the value.
#[derive(Clone)]
pub struct RawToken(String);

impl fmt::Debug for RawToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RawToken(redacted)")
    }
}

impl LibratoArgs {
    /// The settings that these flags ask for.
    ///
    /// # Errors
    ///
    /// [`LibratoArgsError`] names the flag, what was given and what is accepted. It never shows a token.
    pub fn resolve(&self) -> Result<LibratoConfig, LibratoArgsError> {
        let text = self.url.as_deref().filter(|url| !url.trim().is_empty()).unwrap_or(URL_DEFAULT);
        let mut url = parse_url(text, URL_DEFAULT)?;
        if url.path() == "/" {
            url.set_path(PATH_DEFAULT);
        }
        let credentials = self.credentials()?;
        if credentials.is_some() && !self.insecure_http {
            crate::cli::refuse_open(&url)?;
        }
        Ok(LibratoConfig {
            url,
            credentials,
            age_max: Duration::from_secs(self.max_age),
            raw_timers: self.timers == Timers::Raw,
        })
    }

    fn credentials(&self) -> Result<Option<Credentials>, LibratoArgsError> {
        let given = |text: &&str| !text.trim().is_empty();
        let token = match (&self.apitoken_file, &self.apitoken) {
            (Some(path), _) => Some(SecretSource::file(path)?),
            // An empty variable is one that is not set.
            (None, Some(token)) => {
                Some(token.0.as_str()).filter(given).map(Secret::new).transpose()?.map(SecretSource::from)
            }
            (None, None) => None,
        };
        match (self.username.as_deref().filter(given), token) {
            (Some(username), Some(token)) => Ok(Some(Credentials::basic(username, token)?)),
            (Some(_), None) => Err(LibratoArgsError::NoToken),
            (None, Some(_)) => Err(LibratoArgsError::NoUsername),
            (None, None) => Ok(None),
        }
    }
}

impl BackendArgs for LibratoArgs {
    const NAME: &'static str = "librato";
    const ABOUT: &'static str =
        "Takes metrics from brokers and posts them to a receiver of the Librato API v1";
    type Error = LibratoArgsError;

    fn build(&self, _: &Context) -> Result<Arc<dyn Backend>, LibratoArgsError> {
        let backend = Librato::new(&self.resolve()?)?;
        if self.url.is_none() {
            tracing::info!(url = URL_DEFAULT, "no --url given: posting to zibrato-local on this machine");
        }
        Ok(Arc::new(backend))
    }
}

fn parse_raw(text: &str) -> Result<RawToken, Infallible> {
    Ok(RawToken(text.to_owned()))
}

/// Why flags are refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LibratoArgsError {
    /// The URL cannot be used.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The user name cannot be sent.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// A user name without a token.
    #[error("--username without a token; give --apitoken-file FILE, or set ZIBRATO_LIBRATO_TOKEN")]
    NoToken,
    /// A token without a user name.
    #[error("a token without a user name; give --username, or set ZIBRATO_LIBRATO_USERNAME")]
    NoUsername,
    /// The token cannot be used.
    #[error("--apitoken or --apitoken-file: {0}")]
    Token(#[from] SecretError),
    /// The client cannot be set up.
    #[error(transparent)]
    Http(#[from] HttpError),
}

#[cfg(test)]
mod tests;
