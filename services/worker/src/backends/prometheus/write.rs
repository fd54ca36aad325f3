//! Remote write 1.0: what a flush brought is pushed to the store.

mod classify;
mod encode;

use std::ops::Range;

use prost::Message as _;
use reqwest::Method;

use super::Settings;
use super::buckets::INFINITE;
use super::labels::BOUND;
use super::proto::{TimeSeries, WriteRequest};
use crate::backend::{
    Answer, Backend, Batch, Content, Encoded, Limits, Pending, Probe, Response, Shape, Verdict,
};
use crate::http::HttpClient;

/// Most series of one request.
pub(super) const POINTS_MAX: usize = 10_000;
/// Most bytes of one request before they are compressed. Stores take 32 MiB and more.
pub(super) const BODY_BYTES_MAX: usize = 4 << 20;
/// What a body of the spool may come to; one point may exceed [`BODY_BYTES_MAX`] alone.
const READ_BYTES_MAX: usize = 64 << 20;

/// Requests at a time. What a store does for one of new series keeps little more than a core busy.
const REQUESTS_MAX: usize = 2;

const CONTENT_TYPE: &str = "application/x-protobuf";

/// The backend of `zibrato-prometheus --url`.
#[derive(Debug)]
pub(super) struct RemoteWrite {
    pub(super) client: HttpClient,
    pub(super) settings: Settings,
    pub(super) limits: Limits,
}

impl RemoteWrite {
    async fn post(&self, bytes: Vec<u8>) -> Answer {
        let headers = [
            ("content-encoding", "snappy"),
            ("content-type", CONTENT_TYPE),
            ("x-prometheus-remote-write-version", "0.1.0"),
        ];
        self.client.send(Method::POST, &headers, bytes).await
    }
}

impl Backend for RemoteWrite {
    fn name(&self) -> &'static str {
        super::NAME
    }

    fn target(&self) -> String {
        self.client.url().to_string()
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn requests_max(&self) -> usize {
        REQUESTS_MAX
    }

    fn shape(&self) -> Shape {
        super::SHAPE
    }

    /// Writes nothing at all, which a receiver takes.
    fn probe(&self) -> Pending<'_, Probe> {
        Box::pin(async {
            let Some(nothing) = compress(&[]) else { return Probe::NotNeeded };
            match self.post(nothing).await {
                Answer::Response(response) => probed(&response),
                Answer::NotSent(error) | Answer::Lost(error) => Probe::Unanswered(error),
            }
        })
    }

    fn encode(&self, content: &Content<'_>) -> Encoded {
        encode::encode(content, &self.settings, &self.limits)
    }

    fn send<'a>(&'a self, batch: &'a Batch) -> Pending<'a, Answer> {
        Box::pin(self.post(batch.body.bytes.clone()))
    }

    fn classify(&self, response: &Response, batch: &Batch, now_ms: u64) -> Verdict {
        classify::classify(response, batch, now_ms)
    }

    fn select(&self, bytes: &[u8], keep: &[bool]) -> Option<Vec<u8>> {
        let request = read(bytes)?;
        let points = points(&request.timeseries);
        if points.len() != keep.len() {
            return None;
        }
        let kept = points.iter().zip(keep).filter(|(_, keep)| **keep);
        let timeseries = kept.flat_map(|(range, _)| request.timeseries[range.clone()].to_vec()).collect();
        compress(&WriteRequest { timeseries, ..request }.encode_to_vec())
    }

    fn describe(&self, bytes: &[u8], point: usize) -> Option<String> {
        let request = read(bytes)?;
        let range = points(&request.timeseries).get(point)?.clone();
        // Of a timer the count, which has no bound.
        request.timeseries.get(range.end.checked_sub(1)?).map(selector)
    }
}

fn probed(response: &Response) -> Probe {
    match response.status {
        200..=299 => Probe::Ready,
        status @ 500..=599 => Probe::Unanswered(format!("status {status}")),
        status => {
            let text = String::from_utf8_lossy(&response.body);
            let line = text.lines().next().unwrap_or_default();
            Probe::Odd(format!("status {status}: {}", line.chars().take(200).collect::<String>()))
        }
    }
}

fn compress(bytes: &[u8]) -> Option<Vec<u8>> {
    snap::raw::Encoder::new().compress_vec(bytes).ok()
}

/// Reads a body; `None` if it is none.
fn read(bytes: &[u8]) -> Option<WriteRequest> {
    if snap::raw::decompress_len(bytes).ok()? > READ_BYTES_MAX {
        return None;
    }
    WriteRequest::decode(&snap::raw::Decoder::new().decompress_vec(bytes).ok()?[..]).ok()
}

/// Which series of a request belong to each point: those from a first bucket to the infinite one and the two behind it
/// are one timer, others stand alone. Nothing else has a label with the name of a bound.
fn points(series: &[TimeSeries]) -> Vec<Range<usize>> {
    let mut points = Vec::new();
    let mut start = 0;
    while let Some(first) = series.get(start) {
        let mut end = start + 1;
        if bound(first).is_some() {
            let is_infinite = |series: &TimeSeries| bound(series) == Some(INFINITE);
            let infinite = series[start..].iter().position(is_infinite);
            end = infinite.map_or(series.len(), |at| (start + at + 3).min(series.len()));
        }
        points.push(start..end);
        start = end;
    }
    points
}

fn bound(series: &TimeSeries) -> Option<&str> {
    series.labels.iter().find(|label| label.name == BOUND).map(|label| &*label.value)
}

/// A series as it is written in a query: `name{label="value"}`.
fn selector(series: &TimeSeries) -> String {
    let (name, labels): (Vec<_>, Vec<_>) = series.labels.iter().partition(|label| label.name == encode::NAME);
    let name = name.first().map_or("", |label| &label.value);
    let labels: Vec<_> =
        labels.iter().map(|label| format!("{}={}", label.name, quoted(&label.value))).collect();
    format!("{name}{{{}}}", labels.join(", "))
}

/// A label's value as Go quotes it, which the stores that we know are written in.
fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests;
