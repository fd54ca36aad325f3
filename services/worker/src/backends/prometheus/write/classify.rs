//! What each answer of a receiver of remote write means for the batch.
//!
//! | status | verdict |
//! |---|---|
//! | 200, 204 | delivered |
//! | other 2xx | delivered, with a warning |
//! | 400, 409, 422 | by the text, see below |
//! | 413 | bisect |
//! | 408, 425, 429 | retry, after the time that the store asks for |
//! | 500 that says that native histograms are disabled | hold: the store has to be set up for them |
//! | 5xx | retry; 500, 502 and 504 leave open whether the batch was stored |
//! | 402, 406, 411, 412, 414, 416 to 420, other 4xx from 423 on but 451 | drop |
//! | all others, 1xx, 3xx, 401, 403, 404, 405, 407, 410, 415, 421 and 451 among them | hold: credentials or address are wrong |
//!
//! Of 400, 409 and 422 these are told apart by their text:
//!
//! | text | verdict |
//! |---|---|
//! | names series of the batch | these are poisoned |
//! | `unsupported path` (VictoriaMetrics) | hold: the address is wrong |
//! | `out of bounds` and `too old` | all samples have one time, so the batch is dropped as `too_old` |
//! | the request cannot be read | drop |
//! | anything else | bisect |
//!
//! Prometheus rolls a refused request back as a whole, and names no series. When an earlier attempt may have been
//! stored, a refusal is no proof that anything is missing: the store may refuse what it has already. What has to go
//! then counts as `maybe_stored`.

use super::super::proto::TimeSeries;
use super::super::reason;
use super::{points, quoted, read, selector};
use crate::backend::{Batch, Response, Verdict};

/// Bytes of a refusal that are searched for series.
const TEXT_BYTES_MAX: usize = 4_096;

/// Classifies an answer by the tables above.
pub(super) fn classify(response: &Response, batch: &Batch, now_ms: u64) -> Verdict {
    match response.status {
        200 | 204 => Verdict::Delivered { odd: false },
        201..=299 => Verdict::Delivered { odd: true },
        400 | 409 | 422 => refusal(response, batch),
        413 => Verdict::Bisect,
        408 | 425 | 429 => response.retry(now_ms, false),
        500 if text(response).contains("native histograms are disabled") => Verdict::Hold,
        500 | 502 | 504 => response.retry(now_ms, true),
        501 | 503 | 505..=599 => response.retry(now_ms, false),
        402 | 406 | 411 | 412 | 414 | 416..=420 | 423 | 424 | 426..=428 | 430..=450 | 452..=499 => {
            Verdict::Drop { reason: reason::REFUSED }
        }
        _ => Verdict::Hold,
    }
}

fn text(response: &Response) -> String {
    let start = &response.body[..response.body.len().min(TEXT_BYTES_MAX)];
    String::from_utf8_lossy(start).into_owned()
}

fn refusal(response: &Response, batch: &Batch) -> Verdict {
    let text = text(response);
    let says = |words: &[&str]| words.iter().any(|words| text.contains(words));
    if says(&["unsupported path"]) {
        return Verdict::Hold;
    }
    let reason = match batch.attempts_unknown {
        1.. => reason::MAYBE_STORED,
        0 if says(&["out of bounds", "too old", "too far in the past"]) => reason::TOO_OLD,
        0 if says(&["out of order", "out-of-order"]) => reason::OUT_OF_ORDER,
        0 if says(&["duplicate"]) => reason::DUPLICATE,
        0 => reason::REFUSED,
    };
    let named = named(&text, &batch.body.bytes);
    if !named.is_empty() {
        return Verdict::Poisoned { points: named, reason };
    }
    if says(&["out of bounds", "too old", "too far in the past"]) {
        return Verdict::Drop { reason };
    }
    if says(&["cannot unmarshal", "unexpected EOF", "proto:", "snappy:", "corrupt input"]) {
        return Verdict::Drop { reason: reason::REFUSED };
    }
    if batch.body.points.len() <= 1 {
        return Verdict::Poisoned { points: vec![0], reason };
    }
    Verdict::Bisect
}

/// The points of which a series is named.
fn named(text: &str, bytes: &[u8]) -> Vec<usize> {
    if !text.contains('{') {
        return Vec::new();
    }
    // Some quote the whole.
    let plain = text.replace("\\\"", "\"");
    let Some(request) = read(bytes) else { return Vec::new() };
    let is_named = |series: &TimeSeries| {
        let (selector, all) = (selector(series), all_labels(series));
        [text, &plain].iter().any(|text| contains_name(text, &selector) || text.contains(&all))
    };
    let points = points(&request.timeseries).into_iter().enumerate();
    points
        .filter(|(_, range)| request.timeseries[range.clone()].iter().any(is_named))
        .map(|(point, _)| point)
        .collect()
}

/// Whether the text has the series, and not as the end of a longer name.
fn contains_name(text: &str, selector: &str) -> bool {
    let is_of_name = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | ':');
    text.match_indices(selector).any(|(at, _)| !text[..at].ends_with(is_of_name))
}

/// A series as Prometheus logs it: `{__name__="name", label="value"}`.
fn all_labels(series: &TimeSeries) -> String {
    let labels: Vec<_> =
        series.labels.iter().map(|label| format!("{}={}", label.name, quoted(&label.value))).collect();
    format!("{{{}}}", labels.join(", "))
}

#[cfg(test)]
mod tests;
