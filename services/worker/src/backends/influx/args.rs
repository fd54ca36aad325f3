//! Flags and environment of `zibrato-influx`.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;

use super::{AGE_MAX, Influx};
use crate::backend::Backend;
use crate::cli::{BackendArgs, Context, UrlArgs, UrlArgsError, UrlError, parse_url};

/// Where an InfluxDB on this machine listens.
pub const URL_DEFAULT: &str = "http://127.0.0.1:8086";
/// What stands before a token in `Authorization`.
const SCHEME: &str = "Token";
const AGE_S_MIN: u64 = 60;
const AGE_S_MAX: u64 = 315_360_000;

/// An InfluxDB, or anything that takes its line protocol.
#[derive(Clone, Debug, clap::Args)]
pub struct InfluxArgs {
    /// Base URL, http or https, without credentials and query; /write or /api/v2/write is added to its path.
    #[arg(long, default_value = URL_DEFAULT, hide_env_values = true)]
    pub url: String,

    /// Database to write to, the way of InfluxDB 1; it must exist. Either this or --org and --bucket is needed.
    #[arg(long, value_name = "NAME")]
    pub database: Option<String>,

    /// Retention policy of --database; the database's default one if it is not given.
    #[arg(long, value_name = "NAME")]
    pub retention_policy: Option<String>,

    /// Organisation of --bucket, the way of InfluxDB 2.
    #[arg(long, value_name = "NAME")]
    pub org: Option<String>,

    /// Bucket to write to, the way of InfluxDB 2; it must exist.
    #[arg(long, value_name = "NAME")]
    pub bucket: Option<String>,

    /// Do not compress what is sent. Batches in the spool stay as they are.
    #[arg(long)]
    pub no_gzip: bool,

    /// Oldest age of a point that is sent, in seconds, 60 to 315360000; what is older is dropped and counted. What the
    /// retention policy does not keep InfluxDB refuses by itself.
    #[arg(long, value_name = "SECONDS", default_value_t = AGE_MAX.as_secs(),
          value_parser = zibrato_service::whole_number::<u64>(AGE_S_MIN, AGE_S_MAX))]
    pub max_age: u64,

    /// Who we are there. With --database a token with --username is sent as HTTP Basic, else as `Token TOKEN`.
    #[command(flatten)]
    pub access: UrlArgs,
}

impl InfluxArgs {
    /// The URL that is posted to.
    ///
    /// # Errors
    ///
    /// [`InfluxArgsError`] names the flags.
    pub fn write_url(&self) -> Result<Url, InfluxArgsError> {
        let mut url = parse_url(&self.url, URL_DEFAULT)?;
        if url.query().is_some() {
            return Err(InfluxArgsError::Query { url: url.to_string() });
        }
        let given = |text: &Option<String>| {
            text.as_deref().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let [database, policy, org, bucket] =
            [&self.database, &self.retention_policy, &self.org, &self.bucket].map(given);
        let (path, query) = match (database, policy, org, bucket) {
            (Some(database), policy, None, None) => {
                let policy = policy.map(|policy| ("rp", policy));
                (["write"].as_slice(), [("db", database)].into_iter().chain(policy).collect::<Vec<_>>())
            }
            (None, None, Some(org), Some(bucket)) => {
                (["api", "v2", "write"].as_slice(), vec![("org", org), ("bucket", bucket)])
            }
            _ => return Err(InfluxArgsError::Destination),
        };
        if path.len() > 1 && self.access.username.as_deref().is_some_and(|name| !name.trim().is_empty()) {
            return Err(InfluxArgsError::Username);
        }
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url.query_pairs_mut().extend_pairs(query).append_pair("precision", "ms");
        Ok(url)
    }
}

impl BackendArgs for InfluxArgs {
    const NAME: &'static str = "influx";
    const ABOUT: &'static str = "Takes metrics from brokers and writes them to an InfluxDB";
    type Error = InfluxArgsError;

    fn build(&self, context: &Context) -> Result<Arc<dyn Backend>, InfluxArgsError> {
        let client = self.access.client(self.write_url()?, SCHEME, context)?;
        Ok(Arc::new(Influx {
            client,
            chosen: context.chosen.clone(),
            gzip: !self.no_gzip,
            age_max: Duration::from_secs(self.max_age),
        }))
    }
}

/// Why flags are refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InfluxArgsError {
    /// It is not said, or said twice, where to write to.
    #[error(
        "give either --database NAME, with or without --retention-policy NAME, for InfluxDB 1, or --org NAME and --bucket NAME for InfluxDB 2, and not both"
    )]
    Destination,
    /// A user name where only tokens are known.
    #[error(
        "--username is of --database; with --org and --bucket give a token alone, by --token-file FILE or --token-variable NAME"
    )]
    Username,
    /// The query is made of the other flags.
    #[error(
        "--url {url} has a query; give http://HOST[:PORT][/PATH], and what it writes to by --database or --org and --bucket"
    )]
    Query {
        /// The URL.
        url: String,
    },
    /// URL or credentials cannot be used.
    #[error(transparent)]
    Access(#[from] UrlArgsError),
}

impl From<UrlError> for InfluxArgsError {
    fn from(error: UrlError) -> Self {
        Self::Access(error.into())
    }
}

#[cfg(test)]
mod tests;
