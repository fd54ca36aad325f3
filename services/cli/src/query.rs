//! `zibrato query`: what zibrato-local has stored of a metric.
//!
//! ```text
//! zibrato-local -> client (pages of JSON) -> series -> summary -> print (table, CSV, JSON)
//! ```

mod catalogue;
mod client;
mod list;
mod near;
mod print;
mod series;
mod summary;
mod window;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use reqwest::Url;
use zibrato_core::text::is_name_byte;
use zibrato_service::{Failure, init_logging, run_service};

use crate::paint::{Paint, PrintError};
use crate::progress::Progress;
use crate::token_args::{TokenArgs, TokenError};
use client::{Client, ClientError};
use window::{Window, parse_span};

/// The longest step, in seconds, as zibrato-local has it.
const RESOLUTION_S_MAX: u64 = 604_800;

/// Shows what zibrato-local has stored of a metric, source by source: totals and rates of a counter,
/// values of a gauge, percentiles of a timer, each with a sparkline.
///
/// With `*` in NAME it lists the metrics whose names match, in any case.
///
/// The table has one line for each source. --format csv prints `time,source,value,count,sum,min,max,
/// p50,p95,p99` for each step, times in seconds since 1970, durations in seconds, what is not known
/// empty. --format json prints one object: `name`, `kind`, `unit`, `levels`, `start`, `end`,
/// `resolution`, and `sources`, each with `source`, its figures over all and `points` with the columns
/// of the CSV. A list is printed as `name,kind,levels,unit` or as `metrics` with those fields.
///
/// Exit codes: 0 also if there are no points, 1 if there is no such metric, none that matches, no server or another
/// failure, and after Ctrl-C, 2 on bad usage.
#[derive(Clone, Debug, Args)]
pub(crate) struct QueryArgs {
    /// Name of the metric, in any case; or a pattern with `*`, to list names.
    #[arg(value_name = "NAME", value_parser = parse_name)]
    name: String,

    /// How far to look back: a number with ns, us, ms, s, min, h or d behind it (s if none), such as 90s,
    /// 15min, 1h, 7d; from 1 s to 366 d.
    #[arg(long, value_name = "SPAN", default_value = "1h", value_parser = parse_span)]
    last: Duration,

    /// Only sources that match, `*` standing for anything; in any case.
    #[arg(long, value_name = "GLOB", value_parser = parse_name)]
    source: Option<String>,

    /// Length of a step in seconds, 1 to 604800. Default: 60 steps at most, from 1 s to 7 d each.
    /// zibrato-local has fine steps only of the last days.
    #[arg(long, value_name = "SECONDS", value_parser = zibrato_service::whole_number::<u64>(1, RESOLUTION_S_MAX))]
    resolution: Option<u64>,

    /// Address of zibrato-local: http or https, host and port, without credentials and path.
    #[arg(long, env = "ZIBRATO_QUERY_URL", value_name = "URL", default_value = "http://127.0.0.1:5580", value_parser = parse_url)]
    url: Url,

    /// What to print.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,

    #[command(flatten)]
    token: TokenArgs,
}

/// What is printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Format {
    /// A line for each source.
    Table,
    /// A line for each step of each source.
    Csv,
    /// One object.
    Json,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum Error {
    /// The token is not used.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The server does not answer, or says no.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// There is no such metric.
    #[error("no metric {name:?} at {url}{hint}")]
    Unknown { name: String, url: String, hint: String },
    /// No name matches.
    #[error("no metric matches {pattern} at {url}")]
    NoMatch { pattern: String, url: String },
    /// The result cannot be printed.
    #[error(transparent)]
    Print(#[from] PrintError),
    /// Ctrl-C.
    #[error("stopped before zibrato-local answered")]
    Stopped,
}

/// Runs the command.
pub(crate) fn main(args: &QueryArgs) -> ExitCode {
    init_logging("warn");
    run_service("zibrato query", async |shutdown| {
        let client = client(args).map_err(|error| match error {
            Error::Token(_) => Failure::usage(error),
            error => error.into(),
        })?;
        let progress = Progress::spinner("asking zibrato-local");
        let text = tokio::select! {
            text = answer(args, &client, &progress) => text?,
            // Nothing printed must not look like nothing stored.
            () = shutdown.requested() => Err(Error::Stopped)?,
        };
        drop(progress);
        Ok(crate::paint::print(&text).map_err(Error::from)?)
    })
}

fn client(args: &QueryArgs) -> Result<Client, Error> {
    let token = args.token.token(&args.url)?;
    Ok(Client::new(args.url.clone(), token.as_ref())?)
}

/// The text to print.
async fn answer(args: &QueryArgs, client: &Client, progress: &Progress) -> Result<String, Error> {
    if args.name.contains('*') {
        let metrics = list::matching(client, &args.name, progress).await?;
        if metrics.is_empty() {
            return Err(Error::NoMatch { pattern: args.name.clone(), url: args.url.to_string() });
        }
        return Ok(list::print(&metrics, args.format));
    }
    let window = Window::ending_now(args.last, args.resolution);
    let source = args.source.as_deref();
    let Some(found) = series::read(client, &args.name, source, &window, progress).await? else {
        let hint = near::hint(client, &args.name).await?;
        return Err(Error::Unknown { name: args.name.clone(), url: args.url.to_string(), hint });
    };
    Ok(match args.format {
        Format::Table => print::table(&found, &window, Paint::stdout(), print::columns()),
        Format::Csv => print::csv(&found),
        Format::Json => print::json(&found, &window),
    })
}

fn parse_name(text: &str) -> Result<String, String> {
    let is_name = |byte: u8| is_name_byte(byte) || byte == b'*';
    if (1..=255).contains(&text.len()) && text.bytes().all(is_name) {
        return Ok(text.to_owned());
    }
    Err("accepted are 1 to 255 of A-Z a-z 0-9 . : _ - and *, which stands for anything".to_owned())
}

fn parse_url(text: &str) -> Result<Url, String> {
    let accepted = "accepted is http:// or https://, a host and a port, such as http://127.0.0.1:5580";
    let url: Url = text.parse().map_err(|_| accepted.to_owned())?;
    let is_plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none()
        && matches!(url.path(), "" | "/");
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() || !is_plain {
        return Err(format!("{accepted}, without credentials and path"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_no_credentials_and_no_path() {
        for good in ["http://127.0.0.1:5580", "https://metrics.example.org/", "http://[::1]:80"] {
            parse_url(good).unwrap();
        }
        for bad in
            ["127.0.0.1:5580", "ftp://x", "http://u:p@x", "http://x/v1/metrics", "http://x?y", "http:///"]
        {
            assert!(parse_url(bad).unwrap_err().contains("http://127.0.0.1:5580"), "{bad}");
        }
        // What a parser of URLs calls it helps nobody.
        assert!(parse_url("foo").unwrap_err().starts_with("accepted is http:// or https://"));
    }

    #[test]
    fn names_and_patterns_are_those_of_metrics() {
        assert!(parse_name("web.requests").is_ok() && parse_name("*").is_ok());
        for bad in ["", "a b", "a/b", "ä", &"x".repeat(256)] {
            assert!(parse_name(bad).unwrap_err().contains("1 to 255"), "{bad}");
        }
    }
}
