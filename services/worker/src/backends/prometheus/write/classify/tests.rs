use super::super::super::test_support::{FLUSH, batch, counted, declared, settings, timed};
use super::super::encode::encode;
use super::super::{BODY_BYTES_MAX, POINTS_MAX};
use super::*;
use crate::backend::{Body, Content, Limits};
use crate::measurement::Measurement;

const NOW_MS: u64 = FLUSH.unix_ms + 1;

fn body(measurements: &[Measurement]) -> Body {
    let limits = Limits {
        points_max: POINTS_MAX,
        body_bytes_max: BODY_BYTES_MAX,
        age_max: std::time::Duration::from_secs(3_300),
        points_per_series_max: 1,
    };
    encode(&Content { measurements, expired: &[], flush: FLUSH }, &settings(false), &limits).bodies.remove(0)
}

fn several() -> Body {
    body(&[
        counted("hits", 1.0, 1.0),
        timed("lat", &[1]),
        declared(counted("hits", 1.0, 1.0), "", &[("path", "/\"x\"\\é")]),
        counted("more.hits", 1.0, 1.0),
    ])
}

fn answer(status: u16, text: &str, body: Body, attempts_unknown: u32) -> Verdict {
    let response = Response { status, body: text.as_bytes().to_vec(), ..Response::default() };
    classify(&response, &batch(body, attempts_unknown), NOW_MS)
}

#[test]
fn every_status_from_100_to_599_has_its_verdict() {
    let retry = |outcome_unknown| Verdict::Retry { after: None, outcome_unknown };
    for status in 100..=599 {
        let expected = match status {
            200 | 204 => Verdict::Delivered { odd: false },
            200..=299 => Verdict::Delivered { odd: true },
            400 | 409 | 413 | 422 => Verdict::Bisect,
            401 | 403 | 404 | 405 | 407 | 410 | 415 | 421 | 451 => Verdict::Hold,
            408 | 425 | 429 => retry(false),
            400..=499 => Verdict::Drop { reason: "refused_by_backend" },
            500 | 502 | 504 => retry(true),
            500..=599 => retry(false),
            _ => Verdict::Hold,
        };
        assert_eq!(answer(status, "", several(), 0), expected, "{status}");
    }
    assert_eq!(answer(600, "", several(), 0), Verdict::Hold);
}

#[test]
fn what_real_servers_say_has_its_verdict() {
    // Prometheus 2.42.
    assert_eq!(answer(400, "out of order sample\n", several(), 0), Verdict::Bisect);
    assert_eq!(answer(400, "duplicate sample for timestamp\n", several(), 0), Verdict::Bisect);
    assert_eq!(answer(400, "out of bounds\n", several(), 0), Verdict::Drop { reason: "too_old" });
    assert_eq!(
        answer(400, "snappy: corrupt input\n", several(), 0),
        Verdict::Drop { reason: "refused_by_backend" }
    );
    assert_eq!(answer(500, "native histograms are disabled\n", several(), 0), Verdict::Hold);
    // VictoriaMetrics 1.79.
    let lost = "remoteAddr: \"127.0.0.1:1\"; requestURI: /wrong; unsupported path requested: \"/wrong\"\n";
    assert_eq!(answer(400, lost, several(), 0), Verdict::Hold);
    let unread =
        "requestURI: /api/v1/write; cannot unmarshal prompb.WriteRequest with size 3 bytes: unexpected EOF";
    assert_eq!(answer(400, unread, several(), 0), Verdict::Drop { reason: "refused_by_backend" });
}

#[test]
fn a_point_that_is_left_alone_is_dropped_for_the_reason_that_was_told() {
    let alone = || body(&[timed("lat", &[1])]);
    for (text, reason) in [
        ("out of order sample", "out_of_order"),
        ("duplicate sample for timestamp", "duplicate"),
        ("who knows", "refused_by_backend"),
    ] {
        let expected = |reason| Verdict::Poisoned { points: vec![0], reason };
        assert_eq!(answer(400, text, alone(), 0), expected(reason));
        assert_eq!(answer(400, text, alone(), 1), expected("maybe_stored"), "a retry is ambiguous");
    }
    assert_eq!(answer(400, "out of bounds", alone(), 2), Verdict::Drop { reason: "maybe_stored" });
    assert_eq!(answer(400, "out of order sample", several(), 1), Verdict::Bisect);
}

#[test]
fn a_series_that_is_named_is_the_only_one_to_go() {
    let (log, selector) = (r#"instance="host-1", level="info", source="web"}"#, "{instance=\"host-1\"");
    for (text, points) in [
        (format!(r#"out of order sample: {{__name__="hits_total", {log}"#), vec![0]),
        (format!(r#"out of order: hits_total{{{log} and lat_seconds_count{{{log}"#), vec![0, 1]),
        (format!(r#"out of order, series "more_hits_total{{{log}""#).replace("=\"", "=\\\"").replace("\",", "\\\",").replace("\"}", "\\\"}"), vec![3]),
        (
            r#"duplicate: {__name__="hits_total", instance="host-1", level="info", path="/\"x\"\\é", source="web"}"#
                .replace("duplicate", "out of order"),
            vec![2],
        ),
        (r#"out of order {__name__="lat_seconds_bucket", instance="host-1", le="1.0", level="info", source="web"}"#.to_owned(), vec![1]),
    ] {
        let expected = |reason| Verdict::Poisoned { points: points.clone(), reason };
        assert_eq!(answer(400, &text, several(), 0), expected("out_of_order"), "{text}");
        assert_eq!(answer(422, &text, several(), 3), expected("maybe_stored"), "{text}");
    }
    assert_eq!(answer(400, &format!("no such series {selector}}}"), several(), 0), Verdict::Bisect);
    let nonsense = Body { bytes: b"nonsense".to_vec(), ..several() };
    assert_eq!(answer(400, "{}", nonsense, 0), Verdict::Bisect);
}

#[test]
fn the_store_says_how_long_to_wait() {
    let headers = vec![("retry-after".to_owned(), "7".to_owned())];
    let response = Response { status: 429, headers, body: Vec::new() };
    let after = Some(std::time::Duration::from_secs(7));
    assert_eq!(
        classify(&response, &batch(several(), 0), NOW_MS),
        Verdict::Retry { after, outcome_unknown: false }
    );
}
