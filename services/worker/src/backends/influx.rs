//! InfluxDB's line protocol over HTTP, and everything that takes it.
//!
//! | Zibrato | InfluxDB |
//! |---|---|
//! | name | measurement |
//! | kind | tag `kind`: `counter`, `gauge` or `timer`. A counter and a timer of one name would else overwrite each other's `count` |
//! | source | tag `source` |
//! | unit | tag `unit`, left out if empty; of timers always `s` |
//! | level | none: series that differ in their level alone are merged |
//! | tag | tag; one whose key we or InfluxDB use ourselves ([`OWN_KEYS`]) gets an underscore more, `source_` |
//! | counter | one point a flush: `count`, and `rate` with `--rates` |
//! | gauge | one point a window, with its own time: `value`. Of several in one millisecond the last |
//! | timer | one point a flush: `count`, `sum`, `min`, `max`, `mean`, `p50`..., in seconds |
//!
//! All numbers are floats, `5.0` and never `5i`, so that the type of a field cannot depend on its value. Times are
//! milliseconds. In the value of a tag `,`, `=` and the blank are escaped with a backslash; a backslash itself cannot be
//! escaped, ends the line's grammar when it stands last, and becomes `/`; control characters become `_`. Series that
//! become equal by that are counted as clashes.
//!
//! A point that is sent again overwrites itself, so a batch may be sent as often as needed. The module `classify` says what each
//! answer means.

mod args;
mod body;
mod classify;
mod encode;
mod errors;
mod line;

use std::time::Duration;

use reqwest::Method;

use crate::backend::{Answer, Backend, Batch, Content, Encoded, Limits, Pending, Response, Verdict};
use crate::http::HttpClient;
use crate::numbers::Chosen;

pub use args::{InfluxArgs, InfluxArgsError, URL_DEFAULT};
pub use line::OWN_KEYS;

/// Most points of one request, as InfluxDB's documentation advises.
pub const POINTS_MAX: usize = 5_000;
/// Most bytes of one request before it is compressed. InfluxDB's own limit is 25 MB.
pub const BODY_BYTES_MAX: usize = 2 << 20;
/// Default of the oldest accepted age: thirty days. InfluxDB takes any that its retention policy keeps.
pub const AGE_MAX: Duration = Duration::from_secs(30 * 86_400);
/// How far ahead of the flush a point may be. Clocks without a battery would else make shards all over the calendar.
pub const AHEAD_MAX: Duration = Duration::from_secs(600);
/// The header that identifies a batch, the same on each attempt, for logs on the way.
const BATCH_HEADER: &str = "x-zibrato-batch";

/// The backend of `zibrato-influx`.
#[derive(Debug)]
pub struct Influx {
    client: HttpClient,
    chosen: Chosen,
    gzip: bool,
    age_max: Duration,
}

impl Backend for Influx {
    fn name(&self) -> &'static str {
        "influx"
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

    fn encode(&self, content: &Content<'_>) -> Encoded {
        encode::encode(content, &self.limits(), &self.chosen, self.gzip)
    }

    fn send<'a>(&'a self, batch: &'a Batch) -> Pending<'a, Answer> {
        Box::pin(async {
            let mut headers =
                vec![("content-type", batch.body.content_type.as_str()), (BATCH_HEADER, batch.id.as_str())];
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
        let text = body::text(bytes)?;
        line::Line::all(&text).nth(point).map(|line| line.key().to_owned())
    }
}

#[cfg(test)]
mod tests;
