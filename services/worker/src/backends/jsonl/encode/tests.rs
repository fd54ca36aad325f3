use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value as Json, json};
use zibrato_core::histogram::Histogram;

use super::*;
use crate::backends::jsonl::{AGE_MAX, BODY_BYTES_MAX, POINTS_MAX};
use crate::merge::units_of;
use crate::test_support::{counter, gauge, raw_timer, timer};

const FLUSH: FlushTime = FlushTime { unix_ms: 1_700_000_060_250, interval: Duration::from_secs(10) };
const LIMITS: Limits = Limits {
    points_max: POINTS_MAX,
    body_bytes_max: BODY_BYTES_MAX,
    age_max: AGE_MAX,
    points_per_series_max: usize::MAX,
};

fn encode_with(chosen: &Chosen, limits: &Limits, measurements: &[Measurement]) -> Encoded {
    let encoded = encode(&Content { measurements, expired: &[], flush: FLUSH }, chosen, limits);
    let mut told = encoded.refused.sum();
    for body in &encoded.bodies {
        assert_eq!(body.points.len(), lines(&body.bytes).count());
        told.add(&Units::of(&body.points));
    }
    assert!(told.same(&units_of(measurements)), "{told} of {}", units_of(measurements));
    encoded
}

fn text(chosen: &Chosen, measurements: &[Measurement]) -> String {
    let encoded = encode_with(chosen, &LIMITS, measurements);
    encoded.bodies.iter().map(|body| String::from_utf8(body.bytes.clone()).unwrap()).collect()
}

#[test]
fn counters_and_gauges_are_one_line_each() {
    let mut hits = counter("info", "hits", "web", 5.0);
    let series = Arc::make_mut(&mut hits.series);
    series.unit = "B".to_owned();
    series.tags = vec![("az".to_owned(), "e\"\n\u{2028}ü".to_owned()), ("route".to_owned(), "/".to_owned())];
    let points = [(1_700_000_001_999, 0.0), (1_700_000_002_000, -1.5)];
    let all = [hits, gauge("debug", "depth", "web", &points)];
    assert_eq!(
        text(&Chosen::default(), &all),
        concat!(
            r#"{"time":"2023-11-14T22:14:20.250Z","level":"info","kind":"counter","name":"hits","source":"web","unit":"B","tags":{"az":"e\"\n"#,
            "\u{2028}",
            r#"ü","route":"/"},"interval_s":10.0,"delta":5.0}"#,
            "\n",
            r#"{"time":"2023-11-14T22:13:21.999Z","level":"debug","kind":"gauge","name":"depth","source":"web","unit":"","tags":{},"interval_s":10.0,"value":0.0}"#,
            "\n",
            r#"{"time":"2023-11-14T22:13:22.000Z","level":"debug","kind":"gauge","name":"depth","source":"web","unit":"","tags":{},"interval_s":10.0,"value":-1.5}"#,
            "\n",
        )
    );
    let rates = Chosen { rates: true, ..Chosen::default() };
    assert!(text(&rates, &all[..1]).ends_with("\"delta\":5.0,\"rate\":0.5}\n"));
}

#[test]
fn timers_carry_their_buckets_without_loss() {
    let chosen = Chosen { percentiles: vec![50.0, 99.9], rates: true };
    let lat = timer("info", "lat", "web", &[0, 1_000_000_000, 2_000_000_000]);
    let line: Json = serde_json::from_str(&text(&chosen, std::slice::from_ref(&lat))).unwrap();
    let number = |key: &str| line[key].as_f64().unwrap();
    assert_eq!(
        ["count", "sum", "min", "max", "mean", "sum_squares"].map(number),
        [3.0, 3.0, 0.0, 2.0, 1.0, 5.0]
    );
    let percentiles = line["percentiles"].as_object().unwrap();
    assert_eq!(percentiles.keys().collect::<Vec<_>>(), ["p50", "p99_9"]);
    let histogram = &line["histogram"];
    let counts: Vec<u64> = serde_json::from_value(histogram["counts"].clone()).unwrap();
    let part = |key: &str| histogram[key].as_i64().unwrap();
    let read = Histogram::from_parts(part("scale") as i8, part("zero") as u64, part("offset") as i32, counts);
    let Value::Timer(delta) = &lat.value else { panic!() };
    assert_eq!(read, delta.histogram);
}

#[test]
fn what_json_cannot_hold_is_left_out_and_counted() {
    let encoded = encode_with(
        &Chosen::default(),
        &LIMITS,
        &[
            gauge("info", "g", "web", &[(1, f64::NAN), (2, f64::INFINITY), (u64::MAX, 1.0), (3, 4.0)]),
            raw_timer("info", "lat", "web", &[(4, f64::NEG_INFINITY), (5, 0.5)]),
            timer("info", "lat", "web", &[]),
        ],
    );
    assert_eq!(encoded.bodies[0].points, [PointUnits::Gauge(1), PointUnits::Timer(1), PointUnits::Timer(0)]);
    let reasons: Vec<_> = encoded.refused.iter().map(|(reason, units)| (reason, units.points)).collect();
    assert_eq!(reasons, [("not_finite", 3), ("time_ahead", 1)]);
    let sum = [counter("info", "a", "web", f64::NAN)];
    let content = Content { measurements: &sum, expired: &[], flush: FLUSH };
    let encoded = encode(&content, &Chosen::default(), &LIMITS);
    assert_eq!((encoded.bodies.len(), encoded.refused.of("not_finite").points), (0, 1));
}

#[test]
fn bodies_end_at_their_points_and_bytes() {
    let many: Vec<_> = (0..5).map(|at| counter("info", &format!("n{at}"), "s", 1.0)).collect();
    let counts = |limits| {
        let bodies = encode_with(&Chosen::default(), &limits, &many).bodies;
        bodies.iter().map(|body| (body.points.len(), body.bytes.len())).collect::<Vec<_>>()
    };
    let all = counts(LIMITS);
    assert_eq!((all.len(), all[0].0), (1, 5));
    let line = all[0].1 / 5;
    assert_eq!(counts(Limits { points_max: 2, ..LIMITS }), [(2, 2 * line), (2, 2 * line), (1, line)]);
    assert_eq!(counts(Limits { body_bytes_max: 2 * line, ..LIMITS }).len(), 3);
    assert_eq!(counts(Limits { body_bytes_max: 1, ..LIMITS }).len(), 5);
}

#[test]
fn lines_are_written_with_their_batch_and_place() {
    assert_eq!(
        with_batch(b"{\"a\":1}\n{\"b\":2}\n", "0f"),
        b"{\"batch\":\"0f\",\"line\":0,\"a\":1}\n{\"batch\":\"0f\",\"line\":1,\"b\":2}\n"
    );
    let line: Json = serde_json::from_slice(&with_batch(b"{\"a\":1}\n", "0f")).unwrap();
    assert_eq!(line, json!({"batch": "0f", "line": 0, "a": 1}));
    for torn in [&b"{"[..], b"{\"batch", b"{\"batch\":\"", b"{\"batch\":\"0f\",\"line\":0,\"a", b""] {
        assert!(is_torn_line(torn), "{torn:?}");
    }
    for other in [&b"["[..], b"{\"a\":1}", b"{\"batch\":1", b"name value"] {
        assert!(!is_torn_line(other), "{other:?}");
    }
}
