//! What each answer of a receiver of OTLP means for the batch.
//!
//! | status | verdict |
//! |---|---|
//! | 200 | delivered; with `partial_success` but for as many points as it says |
//! | other 2xx | the same, with a warning: the specification knows 200 alone |
//! | 2xx with a page of HTML | hold: whatever answers is no receiver |
//! | 429, 502, 503, 504 | retry, when Retry-After says so; after 502 and 504 the batch may have been stored |
//! | 400 with a `Status` or a text | the points of the metrics it quotes are poisoned; if it quotes none of ours: bisect |
//! | 400 without either | drop |
//! | 413 | bisect |
//! | 1xx, 3xx, 401, 403, 404, 405, 407, 410, 415, 421, 451, above 599 | hold: credentials or address are wrong |
//! | other 4xx and 5xx, 500 too | drop: the specification forbids to send it again |
//!
//! The specification forbids to repeat what was answered with 400 or 413. Parts of it are other requests: without them
//! one series that the receiver refuses would take all others of its body with it, at each flush anew.

use prost::Message;
use serde_json::Value as Json;

use super::body;
use super::proto::{PartialSuccess, Reply, Status};
use crate::backend::{Response, Verdict};

/// The reason of points that the receiver refuses by name, or of whole requests.
pub(super) const REFUSED: &str = "refused_by_backend";

const QUOTES: [char; 3] = ['"', '\'', '`'];

/// Classifies an answer by the table above.
pub(super) fn classify(response: &Response, sent: &[u8], now_ms: u64) -> Verdict {
    match response.status {
        200..=299 => success(response),
        429 | 503 => response.retry(now_ms, false),
        502 | 504 => response.retry(now_ms, true),
        400 => refusal(&response.body, sent),
        413 => Verdict::Bisect,
        401 | 403 | 404 | 405 | 407 | 410 | 415 | 421 | 451 => Verdict::Hold,
        402..=599 => Verdict::Drop { reason: REFUSED },
        _ => Verdict::Hold,
    }
}

fn success(response: &Response) -> Verdict {
    let is_documented = response.status == 200;
    if is_html(&response.body) {
        return Verdict::Hold;
    }
    let Some(partial) = partial_success(&response.body) else { return Verdict::Delivered { odd: true } };
    let PartialSuccess { rejected_data_points, error_message: said } = partial;
    // What is below zero makes no sense, and rejects nothing.
    let rejected = u64::try_from(rejected_data_points).unwrap_or(0);
    if rejected == 0 && said.is_empty() {
        return Verdict::Delivered { odd: !is_documented };
    }
    Verdict::Partial { rejected, said }
}

/// What was rejected, by an answer as protobuf or as JSON; `None` if it is neither.
fn partial_success(answer: &[u8]) -> Option<PartialSuccess> {
    if let Ok(reply) = Reply::decode(answer) {
        return Some(reply.partial_success.unwrap_or_default());
    }
    let json: Json = serde_json::from_slice(answer).ok()?;
    let partial = &json.as_object()?.get("partialSuccess").unwrap_or(&Json::Null);
    let rejected = &partial["rejectedDataPoints"];
    // Protobuf's JSON writes 64-bit numbers as text.
    let rejected = rejected.as_i64().or_else(|| rejected.as_str()?.parse().ok()).unwrap_or(0);
    let said = partial["errorMessage"].as_str().unwrap_or_default().to_owned();
    Some(PartialSuccess { rejected_data_points: rejected, error_message: said })
}

fn refusal(answer: &[u8], sent: &[u8]) -> Verdict {
    let Some(said) = complaint(answer) else { return Verdict::Drop { reason: REFUSED } };
    let quoted = |name: &str| QUOTES.iter().any(|quote| said.contains(&format!("{quote}{name}{quote}")));
    let names = body::names(sent);
    let points: Vec<usize> =
        names.iter().enumerate().filter(|(_, name)| quoted(name)).map(|(at, _)| at).collect();
    if points.is_empty() { Verdict::Bisect } else { Verdict::Poisoned { points, reason: REFUSED } }
}

/// What is said about the data: the message of a `Status`, else a text that is no page; `None` if nothing is.
fn complaint(answer: &[u8]) -> Option<String> {
    if let Ok(Status { message, .. }) = Status::decode(answer)
        && !message.is_empty()
    {
        return Some(message);
    }
    let text = std::str::from_utf8(answer).ok()?.trim();
    let is_text = !text.is_empty() && !text.chars().any(|char| char.is_control() && !char.is_whitespace());
    (is_text && !is_html(answer)).then(|| text.to_owned())
}

fn is_html(answer: &[u8]) -> bool {
    answer.trim_ascii_start().first() == Some(&b'<')
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::backends::otlp::tests::{body_of, metric_names};
    use crate::test_support::{counter, gauge};

    const NOW_MS: u64 = 1_700_000_000_000;

    fn answer(status: u16, body: &[u8]) -> Verdict {
        let sent = body_of(&[
            counter("info", "a", "s", 1.0),
            gauge("info", "b.c", "s", &[(NOW_MS, 1.0), (NOW_MS + 1, 2.0)]),
        ]);
        assert_eq!(metric_names(&sent), ["a", "b.c", "b.c"]);
        classify(&Response { status, headers: vec![], body: body.to_vec() }, &sent, NOW_MS)
    }

    fn reply(rejected_data_points: i64, said: &str) -> Vec<u8> {
        let partial = PartialSuccess { rejected_data_points, error_message: said.to_owned() };
        Reply { partial_success: Some(partial) }.encode_to_vec()
    }

    fn status_of(message: &str) -> Vec<u8> {
        Status { code: 3, message: message.to_owned() }.encode_to_vec()
    }

    #[test]
    fn every_status_from_100_to_599_has_its_verdict() {
        for status in (100..=599).chain([0, 99, 600, 999]) {
            let expected = match status {
                200 => Verdict::Delivered { odd: false },
                201..=299 => Verdict::Delivered { odd: true },
                429 | 503 => Verdict::Retry { after: None, outcome_unknown: false },
                502 | 504 => Verdict::Retry { after: None, outcome_unknown: true },
                413 => Verdict::Bisect,
                401 | 403 | 404 | 405 | 407 | 410 | 415 | 421 | 451 => Verdict::Hold,
                400..=599 => Verdict::Drop { reason: REFUSED },
                _ => Verdict::Hold,
            };
            assert_eq!(answer(status, b""), expected, "{status}");
        }
    }

    #[test]
    fn no_status_but_four_is_ever_sent_again_whatever_its_body() {
        let bodies = [reply(1, "x"), status_of("x"), b"<html>".to_vec(), b"{}".to_vec(), vec![0xff; 9]];
        for (status, body) in (100..=599).flat_map(|status| bodies.iter().map(move |body| (status, body))) {
            let verdict = answer(status, body);
            let is_retried = matches!(verdict, Verdict::Retry { .. } | Verdict::RetryFew);
            assert_eq!(is_retried, matches!(status, 429 | 502 | 503 | 504), "{status}");
        }
    }

    #[test]
    fn retry_after_is_honoured_in_every_form() {
        for (value, expected) in [
            ("7", Some(7)),
            ("Tue, 14 Nov 2023 22:14:00 GMT", Some(40)),
            ("Tue, 14 Nov 2023 22:00:00 GMT", Some(0)),
            ("-7", None),
            ("soon", None),
        ] {
            for status in [429, 502, 503, 504] {
                let headers = vec![("retry-after".to_owned(), value.to_owned())];
                let verdict = classify(&Response { status, headers, body: vec![] }, &[], NOW_MS);
                let after = expected.map(Duration::from_secs);
                assert!(matches!(verdict, Verdict::Retry { after: told, .. } if told == after), "{value}");
            }
        }
    }

    #[test]
    fn a_partial_success_says_how_many_and_why() {
        let partial = |rejected, said: &str| Verdict::Partial { rejected, said: said.to_owned() };
        let delivered = Verdict::Delivered { odd: false };
        assert_eq!(answer(200, &reply(3, "too old")), partial(3, "too old"));
        assert_eq!(answer(202, &reply(3, "")), partial(3, ""));
        assert_eq!(answer(200, &reply(0, "upgrade")), partial(0, "upgrade"));
        assert_eq!(answer(200, &reply(-3, "")), delivered);
        assert_eq!(answer(200, &reply(0, "")), delivered);
        assert_eq!(answer(200, b"{}"), delivered);
        for number in ["2", "\"2\""] {
            let json =
                format!(r#"{{"partialSuccess":{{"rejectedDataPoints":{number},"errorMessage":"old"}}}}"#);
            assert_eq!(answer(200, json.as_bytes()), partial(2, "old"));
        }
        assert_eq!(answer(200, br#"{"partialSuccess":{}}"#), delivered);
    }

    #[test]
    fn a_success_that_is_none_of_otlp_is_noticed() {
        assert_eq!(answer(200, b"OK"), Verdict::Delivered { odd: true });
        assert_eq!(answer(200, b"[1]"), Verdict::Delivered { odd: true });
        for page in [&b"<!doctype html><title>It works</title>"[..], b" \n<html>"] {
            assert_eq!(answer(200, page), Verdict::Hold);
        }
    }

    #[test]
    fn a_refusal_loses_what_it_quotes_or_is_bisected_or_drops_the_batch() {
        let poisoned = |points: &[usize]| Verdict::Poisoned { points: points.to_vec(), reason: REFUSED };
        assert_eq!(answer(400, &status_of("metric \"b.c\" has no unit")), poisoned(&[1, 2]));
        assert_eq!(answer(400, b"bad metrics 'a' and `b.c`"), poisoned(&[0, 1, 2]));
        for text in ["a is not accepted", "\"b\" is not accepted", "out of order sample"] {
            assert_eq!(answer(400, &status_of(text)), Verdict::Bisect, "{text}");
            assert_eq!(answer(400, text.as_bytes()), Verdict::Bisect, "{text}");
        }
        for other in [&b""[..], b"<html><h1>400 Bad Request</h1></html>", b"\xff\xfe", b"\x01\x02", b" \n"] {
            assert_eq!(answer(400, other), Verdict::Drop { reason: REFUSED }, "{other:?}");
        }
    }
}
