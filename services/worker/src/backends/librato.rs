//! The Librato metrics API v1, and everything that answers like it.
//!
//! Counters and gauges become gauges, timers complex gauges, as Librato itself recommended: its
//! own counters want absolute values that never go back. All times are whole Unix seconds.

mod accepts;
mod args;
mod classify;
mod encode;
mod errors;
mod source;
mod validate;

use std::time::Duration;

use reqwest::{Method, Url};
use serde_json::Value as Json;

use crate::backend::{
    Answer, Backend, Batch, Content, Encoded, Limits, Pending, Probe, Response, Shape, Verdict,
};
use crate::http::{Credentials, HttpClient, HttpError};

use accepts::{Accepts, Said};
pub use args::{LibratoArgs, LibratoArgsError, Timers, URL_DEFAULT};
pub use source::tagged_source;

/// Most measurements of one request; Librato's own guideline, about 600 ms of its time.
pub const POINTS_MAX: usize = 300;
/// Most bytes of one request.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// Oldest accepted age. Librato refuses what is more than two hours old; five minutes are left for
/// clocks that disagree and for the flush itself.
pub const AGE_MAX: Duration = Duration::from_secs(115 * 60);
/// The header that identifies a batch, the same on each attempt.
pub const BATCH_HEADER: &str = "x-zibrato-batch";
/// The header with which a receiver says what it understands beyond Librato.
pub const ACCEPTS_HEADER: &str = "x-zibrato-accepts";

const CONTENT_TYPE: &str = "application/json";
const USER_AGENT: &str = concat!("zibrato-librato/", env!("CARGO_PKG_VERSION"));

/// How to reach a receiver of the Librato API.
#[derive(Clone, Debug)]
pub struct LibratoConfig {
    /// The metrics URL, `http` or `https`, without credentials.
    pub url: Url,
    /// Name and token for HTTP Basic; none are sent if unset.
    pub credentials: Option<Credentials>,
    /// Oldest age that the receiver accepts. Default [`AGE_MAX`].
    pub age_max: Duration,
    /// Whether legacy timers are sent one by one instead of as a distribution.
    pub raw_timers: bool,
}

/// The backend of `zibrato-librato`.
#[derive(Debug)]
pub struct Librato {
    client: HttpClient,
    age_max: Duration,
    raw_timers: bool,
    said: Said,
}

impl Librato {
    /// A backend that has not connected yet.
    ///
    /// # Errors
    ///
    /// [`HttpError`] if the client cannot be set up.
    pub fn new(config: &LibratoConfig) -> Result<Self, HttpError> {
        let client = HttpClient::new(config.url.clone(), config.credentials.clone(), USER_AGENT)?;
        Ok(Self { client, age_max: config.age_max, raw_timers: config.raw_timers, said: Said::default() })
    }

    fn probed(&self, answer: Answer) -> Probe {
        match answer {
            Answer::Response(response) => {
                let accepts = response.header(ACCEPTS_HEADER);
                // What stands in for the receiver says nothing about it.
                if response.status == 200 || accepts.is_some() {
                    self.said.set(Accepts::read(accepts.unwrap_or_default()));
                }
                match response.status {
                    200 => Probe::Ready,
                    status @ 500..=599 => Probe::Unanswered(format!("status {status}")),
                    status => Probe::Odd(format!("status {status}")),
                }
            }
            Answer::NotSent(error) | Answer::Lost(error) => Probe::Unanswered(error),
        }
    }
}

impl Backend for Librato {
    fn name(&self) -> &'static str {
        "librato"
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

    fn probe(&self) -> Pending<'_, Probe> {
        Box::pin(async { self.probed(self.client.send(Method::HEAD, &[], Vec::new()).await) })
    }

    fn shape(&self) -> Shape {
        Shape { raw_timers: self.raw_timers, ..Shape::default() }
    }

    fn encode(&self, content: &Content<'_>) -> Encoded {
        encode::encode(content, &self.limits(), self.said.last().unwrap_or_default())
    }

    fn send<'a>(&'a self, batch: &'a Batch) -> Pending<'a, Answer> {
        Box::pin(async {
            let headers = [("content-type", batch.body.content_type.as_str()), (BATCH_HEADER, &batch.id)];
            let stripped = self.said.last().and_then(|accepts| accepts.strip(&batch.body.bytes));
            let bytes = stripped.unwrap_or_else(|| batch.body.bytes.clone());
            self.client.send(Method::POST, &headers, bytes).await
        })
    }

    fn classify(&self, response: &Response, batch: &Batch, now_ms: u64) -> Verdict {
        let oldest_s = now_ms.saturating_sub(self.age_max.as_millis() as u64) / 1_000;
        classify::classify(response, &batch.body.bytes, now_ms, oldest_s)
    }

    fn select(&self, bytes: &[u8], keep: &[bool]) -> Option<Vec<u8>> {
        let mut json: Json = serde_json::from_slice(bytes).ok()?;
        let gauges = json.get_mut("gauges")?.as_array_mut()?;
        if gauges.len() != keep.len() {
            return None;
        }
        let mut flags = keep.iter();
        gauges.retain(|_| flags.next().is_some_and(|keep| *keep));
        serde_json::to_vec(&json).ok()
    }

    fn describe(&self, bytes: &[u8], point: usize) -> Option<String> {
        let gauges = classify::points(bytes)?;
        let point = gauges.get(point)?;
        Some(format!("{} of source {}", point.name, point.source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::FlushTime;
    use crate::measurement::Measurement;
    use crate::test_support::{counter, gauge};

    fn librato() -> Librato {
        let url = "http://127.0.0.1:5580/v1/metrics".parse().unwrap();
        Librato::new(&LibratoConfig { url, credentials: None, age_max: AGE_MAX, raw_timers: false }).unwrap()
    }

    #[test]
    fn a_body_can_be_cut_to_some_of_its_points_and_named() {
        let librato = librato();
        let flush = FlushTime { unix_ms: 1_700_000_000_000, interval: Duration::from_secs(60) };
        let all = [
            counter("info", "a", "s", 0.1),
            gauge("info", "b", "s", &[(1_700_000_000_000, -1.5)]),
            counter("info", "c", "s", 3.0),
        ];
        let encode = |measurements: &[Measurement]| {
            librato.encode(&Content { measurements, expired: &[], flush }).bodies[0].bytes.clone()
        };
        let bytes = &encode(&all);
        let cut = librato.select(bytes, &[true, false, true]).unwrap();
        assert_eq!(encode(&[all[0].clone(), all[2].clone()]).len(), cut.len());
        assert_eq!(librato.describe(&cut, 1).unwrap(), "c of source s");
        assert_eq!(librato.select(bytes, &[true, false]), None);
        assert_eq!(librato.select(b"nonsense", &[]), None);
        assert_eq!(librato.describe(&cut, 2), None);
    }

    #[test]
    fn a_probe_notes_what_the_receiver_says_it_takes() {
        let librato = librato();
        let answer = |status, accepts: &str| {
            let headers = vec![(ACCEPTS_HEADER.to_owned(), accepts.to_owned())];
            Answer::Response(Response { status, headers, body: Vec::new() })
        };
        assert_eq!(librato.said.last(), None);
        for accepts in ["histogram/1", "histogram/1, origin/1", ""] {
            assert_eq!(librato.probed(answer(200, accepts)), Probe::Ready);
            assert_eq!(librato.said.last(), Some(Accepts::read(accepts)));
        }
        let origin = Accepts::read("origin/1");
        assert!(matches!(librato.probed(answer(401, "origin/1")), Probe::Odd(_)));
        assert_eq!(librato.said.last(), Some(origin));
        let silent = |status| Answer::Response(Response { status, ..Response::default() });
        assert!(matches!(librato.probed(silent(401)), Probe::Odd(_)));
        assert!(matches!(librato.probed(silent(503)), Probe::Unanswered(_)));
        assert!(matches!(librato.probed(Answer::NotSent("refused".to_owned())), Probe::Unanswered(_)));
        assert_eq!(librato.said.last(), Some(origin), "they say nothing about the receiver");
    }
}
