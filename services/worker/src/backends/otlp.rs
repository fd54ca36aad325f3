//! OTLP over HTTP, protobuf: any OpenTelemetry collector, and every store that takes what one sends.
//!
//! | measured | sent |
//! |---|---|
//! | counter | cumulative `Sum`: whole numbers `as_int`, others `as_double`; monotonic, see below |
//! | gauge | `Gauge`, one point for each window in which it was set, with its own time; unchanged: the last value, with the flush's time |
//! | gauge's point older than `--max-age` or more than 10 minutes ahead of the flush | refused: `too_old`, `time_ahead` |
//! | value that is no finite number | refused: `not_finite` |
//! | timer | cumulative `ExponentialHistogram` of seconds, bucket for bucket what was recorded; no `min` and `max`, which hold for a window and not for the whole span |
//! | series that expired | one point with the flag `NO_RECORDED_VALUE` |
//! | name | as it is |
//! | unit | as it is; of timers `s` |
//! | source, level | attributes `source` and `level` of the point |
//! | tag | attribute of the same name and value; the keys `source`, `level`, `tag.source`, `tag.tag.level` and so on get one `tag.` more in front |
//! | program | resource attribute `service.name` and those of `--resource`; scope `zibrato` with the version |
//!
//! A total begins one flush before its series was first seen (`start_time_unix_nano`), and survives a restart of
//! the worker. `count` is exact. Records whose buckets were lost for good stand in `zero_count`: any other place would
//! move from flush to flush, and a bucket that falls is a restart for who reads it.
//!
//! Only text messages can make a counter fall. A series that was seen to fall, or is below zero, is sent as a `Sum`
//! that is not monotonic from then on: for itself, so that one wrong source does not change what a metric is for all
//! others. That is forgotten when the series expires, and when the worker restarts until it falls again.
//!
//! What each answer means is in the table of the module `classify`. As totals are told, what a refused or expired
//! batch carried comes with the next point of the same series all the same; it counts as dropped, because that point
//! stands for itself.

mod args;
mod body;
mod classify;
mod encode;
mod proto;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::Method;

use crate::backend::{Answer, Backend, Batch, Content, Encoded, Limits, Pending, Response, Shape, Verdict};
use crate::http::HttpClient;
use crate::measurement::SeriesKey;

pub use args::{OtlpArgs, OtlpArgsError, URL_DEFAULT};

/// Most data points of one request; what OpenTelemetry's collector batches by itself.
pub const POINTS_MAX: usize = 8_192;
/// Most bytes of one request before compression. Receivers take 20 MiB over HTTP and 4 MiB over gRPC, to which a
/// collector may pass it on.
pub const BODY_BYTES_MAX: usize = 4 << 20;
/// The header that identifies a batch, the same on each attempt.
pub const BATCH_HEADER: &str = "x-zibrato-batch";

const CONTENT_TYPE: &str = "application/x-protobuf";

/// How to reach a receiver of OTLP, and who we are there.
#[derive(Debug)]
pub struct OtlpConfig {
    /// The client, with URL and credentials.
    pub client: HttpClient,
    /// Attributes of the resource, each key once; `service.name` is one of them.
    pub resource: Vec<(String, String)>,
    /// Whether bodies are compressed.
    pub gzip: bool,
    /// Oldest age that the receiver accepts.
    pub age_max: Duration,
}

/// The backend of `zibrato-otlp`.
#[derive(Debug)]
pub struct Otlp {
    client: HttpClient,
    envelope: body::Envelope,
    age_max: Duration,
    /// Counters that were seen to fall. At most as many as the table of series holds.
    fell: Mutex<HashSet<Arc<SeriesKey>>>,
}

impl Otlp {
    /// A backend that has not connected yet.
    #[must_use]
    pub fn new(config: OtlpConfig) -> Self {
        let OtlpConfig { client, resource, gzip, age_max } = config;
        Self { client, envelope: body::Envelope::new(&resource, gzip), age_max, fell: Mutex::default() }
    }
}

impl Backend for Otlp {
    fn name(&self) -> &'static str {
        "otlp"
    }

    fn target(&self) -> String {
        self.client.url().to_string()
    }

    fn limits(&self) -> Limits {
        Limits {
            points_max: POINTS_MAX,
            body_bytes_max: BODY_BYTES_MAX,
            age_max: self.age_max,
            points_per_series_max: usize::MAX,
        }
    }

    fn shape(&self) -> Shape {
        Shape { keeps_levels: true, totals: true, raw_timers: false }
    }

    fn encode(&self, content: &Content<'_>) -> Encoded {
        let mut fell = self.fell.lock().unwrap_or_else(PoisonError::into_inner);
        encode::encode(content, &self.limits(), &self.envelope, &mut fell)
    }

    fn send<'a>(&'a self, batch: &'a Batch) -> Pending<'a, Answer> {
        Box::pin(async {
            let mut headers =
                vec![("content-type", batch.body.content_type.as_str()), (BATCH_HEADER, &batch.id)];
            if body::is_gzip(&batch.body.bytes) {
                headers.push(("content-encoding", "gzip"));
            }
            self.client.send(Method::POST, &headers, batch.body.bytes.clone()).await
        })
    }

    fn classify(&self, response: &Response, batch: &Batch, now_ms: u64) -> Verdict {
        classify::classify(response, &batch.body.bytes, now_ms)
    }

    fn select(&self, bytes: &[u8], keep: &[bool]) -> Option<Vec<u8>> {
        body::select(bytes, keep)
    }

    fn describe(&self, bytes: &[u8], point: usize) -> Option<String> {
        body::describe(bytes, point)
    }
}

#[cfg(test)]
mod tests;
