//! Flags of `zibrato-prometheus`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;

use super::Settings;
use super::buckets::{BOUNDS_DEFAULT, Bounds};
use super::labels::{Fixed, RESERVED, is_name};
use super::scrape::Scrape;
use super::write::{BODY_BYTES_MAX, POINTS_MAX, RemoteWrite};
use crate::backend::{Backend, Limits};
use crate::cli::{BackendArgs, Context, UrlArgs, UrlArgsError, UrlError, parse_url};

/// Where a Prometheus on this machine takes remote write.
pub const URL_EXAMPLE: &str = "http://127.0.0.1:9090/api/v1/write";
const PATH_DEFAULT: &str = "/api/v1/write";
const INSTANCE: &str = "instance";
/// Most labels of `--label`. Stores take some thirty a series, and eight may be tags.
const LABELS_MAX: usize = 8;
/// Longest value of a label, in bytes.
const LABEL_BYTES_MAX: usize = 255;
/// Prometheus takes no sample that is an hour older than its newest one; five minutes are left for clocks that
/// disagree.
const AGE_S_DEFAULT: u64 = 55 * 60;
const AGE_S_MIN: u64 = 60;
const AGE_S_MAX: u64 = 315_360_000;

/// Prometheus and all that understand remote write, or a page for them to scrape.
#[derive(Clone, Debug, clap::Args)]
pub struct PrometheusArgs {
    /// URL of a receiver of remote write 1.0, http or https, without credentials, such as
    /// http://127.0.0.1:9090/api/v1/write; without a path /api/v1/write is added. Either this or --scrape is needed.
    #[arg(long, hide_env_values = true)]
    pub url: Option<String>,

    /// Address and port of a page /metrics for Prometheus to scrape, such as 127.0.0.1:9464, in place of --url; port 0
    /// takes a free one. The flags about tokens and headers are without effect then.
    #[arg(long, value_name = "ADDR")]
    pub scrape: Option<SocketAddr>,

    /// Allow --scrape to be an address that other machines reach: whoever reaches it can read what is measured, and
    /// nobody is asked who he is.
    #[arg(long)]
    pub insecure_scrape: bool,

    /// How timers are sent: classic buckets, or native histograms, which Prometheus takes from 2.40 on with
    /// --enable-feature=native-histograms and VictoriaMetrics does not take.
    #[arg(long, value_enum, default_value_t = HistogramKind::Classic)]
    pub histogram: HistogramKind,

    /// Upper bounds of classic buckets in seconds, separated by commas: 1 to 64, each above 0. Each costs a series a
    /// timer. Not used for native histograms, but on a page that is read as text.
    #[arg(long, value_name = "BOUNDS", default_value = BOUNDS_DEFAULT, value_parser = Bounds::parse)]
    pub buckets: Bounds,

    /// Value of the label `instance` of all series, 1 to 255 bytes. Workers that subscribe to the same levels and
    /// write to the same store need different ones. Default: with --url the name of this host, with --scrape no such
    /// label, since whoever scrapes adds its own.
    #[arg(long, value_name = "NAME")]
    pub instance: Option<String>,

    /// Label of all series, such as job=web; may be given 8 times, each with another name. `source`, `level` and `le`
    /// are taken, and `instance` has its own flag.
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = parse_label)]
    pub labels: Vec<(String, String)>,

    /// Oldest age of a sample that the store accepts, in seconds, 60 to 315360000. Older batches are dropped and
    /// counted. The default is 55 minutes, since Prometheus' own is an hour; VictoriaMetrics takes any age within its
    /// retention. Not used with --scrape.
    #[arg(long, value_name = "SECONDS", default_value_t = AGE_S_DEFAULT,
          value_parser = zibrato_service::whole_number::<u64>(AGE_S_MIN, AGE_S_MAX))]
    pub max_age: u64,

    /// Who we are for the store.
    #[command(flatten)]
    pub access: UrlArgs,
}

/// How timers are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HistogramKind {
    /// Buckets up to bounds of one's choice, each a series.
    Classic,
    /// All buckets in one series, 2.2 % wide each.
    Native,
}

impl PrometheusArgs {
    fn settings(&self, instance: Option<String>) -> Result<Settings, PrometheusArgsError> {
        let instance = instance.map(|value| (INSTANCE.to_owned(), value));
        let labels: Vec<_> = instance.into_iter().chain(self.labels.iter().cloned()).collect();
        if self.labels.len() > LABELS_MAX {
            return Err(PrometheusArgsError::TooManyLabels { count: self.labels.len() });
        }
        for (at, (name, _)) in labels.iter().enumerate() {
            if labels[..at].iter().any(|(other, _)| other == name) {
                return Err(PrometheusArgsError::LabelTwice { name: name.clone() });
            }
        }
        let is_native = self.histogram == HistogramKind::Native;
        Ok(Settings { fixed: Fixed::new(labels), bounds: self.buckets.clone(), is_native })
    }

    fn instance(&self) -> Result<Option<String>, PrometheusArgsError> {
        let Some(text) = &self.instance else { return Ok(None) };
        match checked_value(text) {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(PrometheusArgsError::Instance { instance: text.clone() }),
        }
    }

    fn page(&self, addr: SocketAddr) -> Result<Scrape, PrometheusArgsError> {
        if !self.insecure_scrape && !addr.ip().to_canonical().is_loopback() {
            return Err(PrometheusArgsError::InsecureScrape { addr });
        }
        Ok(Scrape::new(addr, self.settings(self.instance()?)?))
    }

    fn remote_write(&self, url: &str, context: &Context) -> Result<RemoteWrite, PrometheusArgsError> {
        let mut url = parse_url(url, URL_EXAMPLE)?;
        if url.path() == "/" {
            url.set_path(PATH_DEFAULT);
        }
        let instance = match self.instance()? {
            Some(instance) => instance,
            None => host_name().ok_or(PrometheusArgsError::NoHostName)?,
        };
        let limits = Limits {
            points_max: POINTS_MAX,
            body_bytes_max: BODY_BYTES_MAX,
            age_max: Duration::from_secs(self.max_age),
            points_per_series_max: 1,
        };
        let client = self.access.client(url, "Bearer", context)?;
        Ok(RemoteWrite { client, settings: self.settings(Some(instance))?, limits })
    }
}

impl BackendArgs for PrometheusArgs {
    const NAME: &'static str = super::NAME;
    const ABOUT: &'static str =
        "Takes metrics from brokers and writes them to Prometheus, or serves a page for it to scrape";
    type Error = PrometheusArgsError;

    fn build(&self, context: &Context) -> Result<Arc<dyn Backend>, PrometheusArgsError> {
        let url = self.url.as_deref().filter(|url| !url.trim().is_empty());
        match (url, self.scrape) {
            (Some(url), None) => Ok(Arc::new(self.remote_write(url, context)?)),
            (None, Some(addr)) => Ok(Arc::new(self.page(addr)?)),
            (Some(_), Some(_)) => Err(PrometheusArgsError::BothWays),
            (None, None) => Err(PrometheusArgsError::NoWay),
        }
    }
}

/// Why flags are refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrometheusArgsError {
    /// Neither --url nor --scrape.
    #[error(
        "neither --url nor --scrape; give --url {URL_EXAMPLE} to push, or --scrape 127.0.0.1:9464 to be scraped"
    )]
    NoWay,
    /// Both --url and --scrape.
    #[error("both --url and --scrape; give one of them, and run two workers for both ways")]
    BothWays,
    /// The page would be served to other machines.
    #[error(
        "--scrape {addr} is reached by other machines: accepted are loopback addresses; --insecure-scrape allows it all the same"
    )]
    InsecureScrape {
        /// The address.
        addr: SocketAddr,
    },
    /// The instance cannot be a label's value.
    #[error("--instance {instance:?} is not accepted; give 1 to 255 bytes without control characters")]
    Instance {
        /// What was given.
        instance: String,
    },
    /// The host has no name that could be found.
    #[error(
        "this host's name is not known; give --instance NAME, another one for each worker that writes to this store"
    )]
    NoHostName,
    /// A label is given twice.
    #[error("--label {name} is given twice; give each name once, and `instance` by --instance")]
    LabelTwice {
        /// Its name.
        name: String,
    },
    /// Too many labels.
    #[error("{count} times --label; accepted are {LABELS_MAX} at most")]
    TooManyLabels {
        /// How many.
        count: usize,
    },
    /// The URL cannot be used.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// Credentials or headers cannot be used.
    #[error(transparent)]
    Access(#[from] UrlArgsError),
}

/// The name of this host, as the kernel has it. It is the same after a restart, unlike a random one, and unlike an
/// address.
fn host_name() -> Option<String> {
    ["/proc/sys/kernel/hostname", "/etc/hostname"].iter().find_map(|path| {
        let text = std::fs::read_to_string(path).ok()?;
        checked_value(text.lines().next()?).ok()
    })
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("give NAME=VALUE, such as job=web")?;
    let name = name.trim();
    if !is_name(name) || RESERVED.contains(&name) {
        return Err(format!(
            "{name:?} cannot be a label; give letters, digits and '_', not a digit or \"__\" first, and none of {}",
            RESERVED.join(", ")
        ));
    }
    Ok((name.to_owned(), checked_value(value)?))
}

fn checked_value(text: &str) -> Result<String, String> {
    let value = text.trim();
    if value.is_empty() || value.len() > LABEL_BYTES_MAX || value.chars().any(char::is_control) {
        return Err(format!(
            "{value:?} cannot be a label's value; give 1 to 255 bytes without control characters"
        ));
    }
    Ok(value.to_owned())
}

#[cfg(test)]
mod tests;
