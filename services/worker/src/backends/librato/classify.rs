//! What each answer of Librato's means for the batch.
//!
//! | status | verdict |
//! |---|---|
//! | 200 | delivered |
//! | other 2xx | delivered, with a warning |
//! | 400, 422 as JSON or text | the named points are poisoned; if none is named: bisect |
//! | 400 as HTML | the load balancer's, and known to pass: retry a few times, then drop |
//! | 403 with a rate limit, 408, 425, 429 | retry |
//! | 413 | bisect |
//! | 1xx, 3xx, 401, 403, 404, 405, 407, 410, 421, 451, above 599 | hold: credentials or address are wrong |
//! | other 4xx | drop |
//! | 5xx | retry; 502 and 504 leave open whether the batch was stored |

use std::time::Duration;

use serde::Deserialize;

use super::errors::{self, Offender};
use super::validate::reason;
use crate::backend::{Response, Verdict};
use crate::retry::retry_after;

/// The reason of points that the store refuses by name, or whole requests.
pub(super) const REFUSED: &str = "refused_by_backend";

/// One gauge of a body, as far as complaints can be about it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Point {
    pub name: String,
    pub source: String,
    measure_time: u64,
}

/// The gauges of a body; `None` if it cannot be read.
pub(super) fn points(body: &[u8]) -> Option<Vec<Point>> {
    #[derive(Deserialize)]
    struct Payload {
        gauges: Vec<Point>,
    }
    serde_json::from_slice::<Payload>(body).ok().map(|payload| payload.gauges)
}

/// Classifies an answer by the table above. Points from before `oldest_s` count as too old.
pub(super) fn classify(response: &Response, sent: &[u8], now_ms: u64, oldest_s: u64) -> Verdict {
    let retry = |outcome_unknown| Verdict::Retry { after: wait(response, now_ms), outcome_unknown };
    match response.status {
        200 => Verdict::Delivered { odd: false },
        201..=299 => Verdict::Delivered { odd: true },
        400 if errors::is_html(&response.body) => Verdict::RetryFew,
        400 | 422 => refusal(response, sent, oldest_s),
        413 => Verdict::Bisect,
        403 if errors::is_rate_limited(&response.body)
            || rate_limit(response).is_some_and(|limit| limit.is_spent) =>
        {
            retry(false)
        }
        408 | 425 | 429 => retry(false),
        502 | 504 => retry(true),
        500..=599 => retry(false),
        402 | 406 | 409 | 411 | 412 | 414..=420 | 423..=450 | 452..=499 => Verdict::Drop { reason: REFUSED },
        _ => Verdict::Hold,
    }
}

fn refusal(response: &Response, sent: &[u8], oldest_s: u64) -> Verdict {
    let offenders = errors::offenders(&errors::complaints(&response.body));
    let Some(points) = points(sent) else { return Verdict::Drop { reason: REFUSED } };
    let is_named = |point: &Point| {
        offenders.iter().any(|offender| match offender {
            // Librato does not tell cases apart.
            Offender::Name(name) => point.name.eq_ignore_ascii_case(name),
            Offender::Source(source) => point.source.eq_ignore_ascii_case(source),
            Offender::Old => false,
        })
    };
    let find = |poisoned: &dyn Fn(&Point) -> bool| -> Vec<usize> {
        points.iter().enumerate().filter(|(_, point)| poisoned(point)).map(|(at, _)| at).collect()
    };
    let named = find(&is_named);
    if !named.is_empty() {
        return Verdict::Poisoned { points: named, reason: REFUSED };
    }
    if offenders.contains(&Offender::Old) {
        let old = find(&|point| point.measure_time < oldest_s);
        if !old.is_empty() {
            return Verdict::Poisoned { points: old, reason: reason::TOO_OLD };
        }
    }
    Verdict::Bisect
}

/// What the store asks to wait: Retry-After, else the reset of a spent rate limit.
fn wait(response: &Response, now_ms: u64) -> Option<Duration> {
    if let Some(after) = response.header("retry-after").and_then(|value| retry_after(value, now_ms)) {
        return Some(after);
    }
    let reset_s = rate_limit(response).filter(|limit| limit.is_spent)?.reset_s?;
    Some(Duration::from_millis(reset_s.saturating_mul(1_000).saturating_sub(now_ms)))
}

struct RateLimit {
    is_spent: bool,
    reset_s: Option<u64>,
}

/// Reads `limit=600000,remaining=0,reset=1531370400`, in any order; the spent one of the two limits.
fn rate_limit(response: &Response) -> Option<RateLimit> {
    ["x-librato-ratelimit-std", "x-librato-ratelimit-agg"]
        .iter()
        .filter_map(|name| response.header(name))
        .map(|value| {
            let field = |wanted: &str| {
                value.split(',').find_map(|pair| {
                    let (key, number) = pair.split_once('=')?;
                    if key.trim() == wanted { number.trim().parse::<u64>().ok() } else { None }
                })
            };
            RateLimit { is_spent: field("remaining") == Some(0), reset_s: field("reset") }
        })
        .max_by_key(|limit| (limit.is_spent, limit.reset_s))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_700_000_000_000;
    const SENT: &[u8] = br#"{"gauges":[
        {"name":"a","source":"s","measure_time":1699990000,"value":1.0},
        {"name":"b","source":"s","measure_time":1700000000,"value":1.0},
        {"name":"b","source":"t","measure_time":1700000000,"value":1.0}]}"#;

    fn answer(status: u16, body: &str, headers: &[(&str, &str)]) -> Verdict {
        let headers = headers.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let response = Response { status, headers, body: body.as_bytes().to_vec() };
        classify(&response, SENT, NOW_MS, NOW_MS / 1_000 - 6_900)
    }

    #[test]
    fn every_status_from_100_to_599_has_its_verdict() {
        let retried = Verdict::Retry { after: None, outcome_unknown: false };
        let unknown = Verdict::Retry { after: None, outcome_unknown: true };
        let dropped = Verdict::Drop { reason: REFUSED };
        for status in 100..=599 {
            let expected = match status {
                200 => Verdict::Delivered { odd: false },
                201..=299 => Verdict::Delivered { odd: true },
                100..=199 | 300..=399 => Verdict::Hold,
                400 | 413 | 422 => Verdict::Bisect,
                401 | 403 | 404 | 405 | 407 | 410 | 421 | 451 => Verdict::Hold,
                408 | 425 | 429 => retried.clone(),
                402..=499 => dropped.clone(),
                502 | 504 => unknown.clone(),
                _ => retried.clone(),
            };
            assert_eq!(answer(status, "", &[]), expected, "{status}");
        }
    }

    #[test]
    fn a_named_offender_alone_is_poisoned() {
        let named = |body| match answer(400, body, &[]) {
            Verdict::Poisoned { points, reason } => (points, reason),
            other => panic!("{other:?} for {body}"),
        };
        assert_eq!(named(r#"{"errors":{"params":{"sum":["is required"],"name":"A"}}}"#), (vec![0], REFUSED));
        assert_eq!(
            named(
                r#"{"errors":{"params":{"type":["'b' is a counter, but was submitted as different type"]}}}"#
            ),
            (vec![1, 2], REFUSED)
        );
        assert_eq!(
            named(r#"{"errors":{"params":{"source":["t is not a valid source name"]}}}"#),
            (vec![2], REFUSED)
        );
        assert_eq!(
            named(r#"{"errors":{"params":{"measure_time":["is too far in the past"]}}}"#),
            (vec![0], "too_old")
        );
    }

    #[test]
    fn a_refusal_that_names_nobody_we_sent_is_bisected() {
        for body in [
            r#"{"errors":{"params":{"name":["zzz is not a valid metric name"]}}}"#,
            r#"{"errors":{"params":{"name":["is not present"]}}}"#,
            r#"{"errors":{"request":["could not be parsed"]}}"#,
            "Bad Request",
        ] {
            assert_eq!(answer(400, body, &[]), Verdict::Bisect, "{body}");
        }
    }

    #[test]
    fn html_from_the_load_balancer_is_retried_a_few_times() {
        assert_eq!(answer(400, "<html><h1>400 Bad Request</h1></html>", &[]), Verdict::RetryFew);
    }

    #[test]
    fn a_rate_limit_waits_for_its_reset_and_other_403_hold() {
        let body = r#"{"request_time":1,"error":"You have hit the API limit for measurements"}"#;
        let spent = ("x-librato-ratelimit-std", "remaining=0,reset=1700000030, limit=600000");
        let left = ("x-librato-ratelimit-agg", "limit=9,remaining=9,reset=1700009999");
        let wait =
            |seconds| Verdict::Retry { after: Some(Duration::from_secs(seconds)), outcome_unknown: false };
        assert_eq!(answer(403, body, &[spent, left]), wait(30));
        assert_eq!(answer(403, "", &[spent]), wait(30));
        assert_eq!(answer(403, body, &[]), Verdict::Retry { after: None, outcome_unknown: false });
        assert_eq!(answer(403, "", &[left]), Verdict::Hold);
        assert_eq!(answer(429, "", &[("retry-after", "7"), spent]), wait(7));
        assert_eq!(answer(429, "", &[("x-librato-ratelimit-std", "remaining=0,reset=5")]), wait(0));
    }
}
