//! `zibrato-csv`: a backend of one's own, in one file.
//!
//! ```text
//! cargo run -- --file metrics.csv --flush 10
//! ```
//!
//! It appends a line for each series and flush: time, kind, name, source, and the number of the change. A real store would
//! answer over the network; this one answers as the file system does.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use zibrato_worker::backend::{
    Answer, Backend, Batch, Body, Content, Encoded, Limits, Pending, Response, Verdict,
};
use zibrato_worker::cli::{self, BackendArgs, Context};
use zibrato_worker::measurement::{Measurement, Value};

/// Answers of our own, in the place of a protocol's.
const STORED: u16 = 200;
const NOT_STORED: u16 = 503;

/// The flags of this backend; those of the worker come by themselves.
#[derive(Clone, Debug, clap::Args)]
struct CsvArgs {
    /// File that lines are appended to; created if it is missing.
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
}

/// Why flags are refused.
#[derive(Debug, thiserror::Error)]
enum CsvArgsError {
    #[error("--file {} is a directory; give a file", .0.display())]
    Directory(PathBuf),
}

impl BackendArgs for CsvArgs {
    const NAME: &'static str = "csv";
    const ABOUT: &'static str = "Takes metrics from brokers and appends them to a file as CSV";
    type Error = CsvArgsError;

    fn build(&self, _: &Context) -> Result<Arc<dyn Backend>, CsvArgsError> {
        if self.file.is_dir() {
            return Err(CsvArgsError::Directory(self.file.clone()));
        }
        Ok(Arc::new(Csv { path: self.file.clone() }))
    }
}

#[derive(Debug)]
struct Csv {
    path: PathBuf,
}

impl Backend for Csv {
    fn name(&self) -> &'static str {
        CsvArgs::NAME
    }

    fn target(&self) -> String {
        self.path.display().to_string()
    }

    fn limits(&self) -> Limits {
        Limits {
            points_max: 10_000,
            body_bytes_max: 1 << 20,
            age_max: Duration::from_secs(365 * 86_400),
            points_per_series_max: usize::MAX,
        }
    }

    fn encode(&self, content: &Content<'_>) -> Encoded {
        let mut encoded = Encoded::default();
        for measurements in content.measurements.chunks(self.limits().points_max) {
            let lines = measurements.iter().map(|measurement| line(measurement, content.flush.unix_ms));
            encoded.bodies.push(Body {
                bytes: lines.collect::<String>().into_bytes(),
                content_type: "text/csv".to_owned(),
                // One line is one point, which can be taken out alone.
                points: measurements.iter().map(|measurement| measurement.value.units()).collect(),
            });
        }
        encoded
    }

    fn send<'a>(&'a self, batch: &'a Batch) -> Pending<'a, Answer> {
        Box::pin(async {
            let append = || {
                let mut file = OpenOptions::new().create(true).append(true).open(&self.path)?;
                file.write_all(&batch.body.bytes)?;
                file.sync_data()
            };
            let (status, said) = match append() {
                Ok(()) => (STORED, String::new()),
                Err(error) => (NOT_STORED, error.to_string()),
            };
            Answer::Response(Response { status, headers: Vec::new(), body: said.into_bytes() })
        })
    }

    fn classify(&self, response: &Response, _: &Batch, now_ms: u64) -> Verdict {
        match response.status {
            STORED => Verdict::Delivered { odd: false },
            // Some of it may be in the file.
            _ => response.retry(now_ms, true),
        }
    }

    fn select(&self, bytes: &[u8], keep: &[bool]) -> Option<Vec<u8>> {
        let lines: Vec<&[u8]> = bytes.split_inclusive(|&byte| byte == b'\n').collect();
        let kept =
            lines.iter().zip(keep).filter(|(_, keep)| **keep).flat_map(|(line, _)| line.iter().copied());
        (lines.len() == keep.len()).then(|| kept.collect())
    }

    fn describe(&self, bytes: &[u8], point: usize) -> Option<String> {
        let text = std::str::from_utf8(bytes).ok()?;
        Some(text.lines().nth(point)?.split(',').skip(2).take(2).collect::<Vec<_>>().join(" of source "))
    }
}

/// Names and sources have no commas and no quotes.
fn line(measurement: &Measurement, flush_ms: u64) -> String {
    let series = &measurement.series;
    let number = match &measurement.value {
        Value::Counter { delta } => *delta,
        Value::Gauge { points } | Value::RawTimer { points } => {
            points.last().map_or(0.0, |point| point.value)
        }
        Value::Timer(timer) => timer.count as f64,
    };
    format!("{flush_ms},{},{},{},{number}\n", series.kind.as_str(), series.name, series.source)
}

fn main() -> ExitCode {
    cli::main::<CsvArgs>()
}
