//! What each answer of InfluxDB's means for the batch.
//!
//! | status | verdict |
//! |---|---|
//! | 204 | delivered |
//! | other 2xx | delivered, with a warning |
//! | 400, 422 | the points that were not stored are poisoned as far as the answer tells them, else: bisect; see below |
//! | 400 as HTML | a load balancer's: retry a few times, then drop |
//! | 408, 425, 429 | retry |
//! | 413 | bisect |
//! | 500 `retention policy not found` | hold |
//! | 1xx, 3xx, 401, 403, 404 (no such database or bucket), 405, 407, 410, 421, 451, above 599 | hold: credentials, address or names are wrong |
//! | other 4xx | drop |
//! | 500, 502, 504 | retry; it is open whether the batch was stored |
//! | other 5xx | retry |
//!
//! A 400 of InfluxDB means that it has stored the good points and left out `dropped=N`. What it says about the others is
//! their first one, so it is looked who must be meant:
//!
//! | text | points |
//! |---|---|
//! | `unable to parse 'LINE'` | these lines |
//! | `field type conflict` | all points of the measurement with this field, if they lie in one hour: the type is a shard's, and no shard begins within one |
//! | `points beyond retention policy` | the N oldest, if the next one has another time |
//! | `max-values-per-tag` | those with the tag that is named, if they are N |
//! | any, N is all | all |
//!
//! Where it stays open, or where many more are meant than are named, the batch is halved: what is stored already is
//! overwritten with itself, and each half has its own answer. So exactly the points that InfluxDB leaves out are lost.

use super::encode::reason::TOO_OLD;
use super::errors::{self, Complaint};
use super::{body, line::Line};
use crate::backend::{Response, Verdict};
use crate::retry::retry_after;

/// Why points are dropped.
pub(super) mod reason {
    /// The store gives no reason of which more is known.
    pub(crate) const REFUSED: &str = "refused_by_backend";
    /// It could not read the line.
    pub(crate) const UNPARSABLE: &str = "unparsable";
    /// The store has the field with another type.
    pub(crate) const FIELD_TYPE: &str = "field_type_conflict";
    /// The store has too many series or values of a tag.
    pub(crate) const SERIES_LIMIT: &str = "series_limit_of_store";
    /// What was to be sent cannot be read.
    pub(crate) const UNREADABLE: &str = "unreadable";
}

/// Within an hour all times are in one shard.
const HOUR_MS: u64 = 3_600_000;

/// Classifies an answer by the table above.
pub(super) fn classify(response: &Response, sent: &[u8], now_ms: u64) -> Verdict {
    let retry = |outcome_unknown| {
        let after = response.header("retry-after").and_then(|value| retry_after(value, now_ms));
        Verdict::Retry { after, outcome_unknown }
    };
    match response.status {
        204 => Verdict::Delivered { odd: false },
        200..=299 => Verdict::Delivered { odd: true },
        400 if is_html(&response.body) => Verdict::RetryFew,
        400 | 422 => refusal(&errors::text(&response.body), sent),
        413 => Verdict::Bisect,
        408 | 425 | 429 => retry(false),
        500 if errors::text(&response.body).contains("retention policy not found") => Verdict::Hold,
        500 | 502 | 504 => retry(true),
        501..=599 => retry(false),
        402 | 406 | 409 | 411 | 412 | 414..=420 | 423..=450 | 452..=499 => {
            Verdict::Drop { reason: reason::REFUSED }
        }
        _ => Verdict::Hold,
    }
}

fn is_html(body: &[u8]) -> bool {
    body.trim_ascii_start().first() == Some(&b'<')
}

fn refusal(text: &str, sent: &[u8]) -> Verdict {
    let Some(sent) = body::text(sent) else { return Verdict::Drop { reason: reason::UNREADABLE } };
    let lines: Vec<_> = Line::all(&sent).collect();
    let find = |is_meant: &dyn Fn(&Line<'_>) -> bool| -> Vec<usize> {
        lines.iter().enumerate().filter(|(_, line)| is_meant(line)).map(|(at, _)| at).collect()
    };
    let unparsable: Vec<_> = errors::unparsable(text).collect();
    let named = find(&|line| unparsable.contains(&line.text));
    if !named.is_empty() {
        return Verdict::Poisoned { points: named, reason: reason::UNPARSABLE };
    }
    let Some(dropped) = errors::dropped(text).filter(|dropped| *dropped > 0) else { return Verdict::Bisect };
    let complaint = errors::complaint(text);
    let (named, reason) = match &complaint {
        Complaint::FieldType { name, field } => {
            let named = find(&|line| line.name() == name && line.has_field(field));
            (in_one_hour(&lines, named), reason::FIELD_TYPE)
        }
        Complaint::Retention => (oldest(&lines, dropped), TOO_OLD),
        Complaint::TagValues { name, key, value } => {
            let named = find(&|line| line.name() == name && line.has_tag(key, value));
            (if named.len() == dropped { named } else { Vec::new() }, reason::SERIES_LIMIT)
        }
        Complaint::Series => (Vec::new(), reason::SERIES_LIMIT),
        Complaint::Other => (Vec::new(), reason::REFUSED),
    };
    if dropped == lines.len() {
        return Verdict::Poisoned { points: (0..dropped).collect(), reason };
    }
    // One after the other would send the whole batch once for each offender.
    if named.len() * 2 < dropped || named.is_empty() {
        return Verdict::Bisect;
    }
    Verdict::Poisoned { points: named, reason }
}

/// These points, if they share an hour.
fn in_one_hour(lines: &[Line<'_>], points: Vec<usize>) -> Vec<usize> {
    let hour = |at: &usize| lines.get(*at).map(|line| line.time_ms() / HOUR_MS);
    if points.windows(2).all(|pair| hour(&pair[0]) == hour(&pair[1])) { points } else { Vec::new() }
}

/// The oldest points, if it is certain which these are.
fn oldest(lines: &[Line<'_>], count: usize) -> Vec<usize> {
    let mut by_time: Vec<_> = lines.iter().enumerate().map(|(at, line)| (line.time_ms(), at)).collect();
    by_time.sort_unstable();
    let (last, next) = (by_time.get(count.wrapping_sub(1)), by_time.get(count));
    if last.is_none() || last.map(|(time, _)| time) == next.map(|(time, _)| time) {
        return Vec::new();
    }
    let mut points: Vec<_> = by_time.into_iter().take(count).map(|(_, at)| at).collect();
    points.sort_unstable();
    points
}

#[cfg(test)]
mod tests;
