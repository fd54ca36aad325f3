use std::time::Duration;

use serde_json::{Value as Json, json};

use super::*;
use crate::backend::FlushTime;
use crate::backends::librato::{AGE_MAX, BODY_BYTES_MAX, POINTS_MAX};
use crate::test_support::{counter, gauge, raw_timer, timer};

const FLUSH: FlushTime = FlushTime { unix_ms: 1_700_000_060_250, interval: Duration::from_secs(60) };
const LIMITS: Limits = Limits {
    points_max: POINTS_MAX,
    body_bytes_max: BODY_BYTES_MAX,
    age_max: AGE_MAX,
    points_per_series_max: usize::MAX,
};

const PLAIN: Accepts = Accepts { histogram: false, origin: false };
const BUCKETS: Accepts = Accepts { histogram: true, origin: false };
const ORIGIN: Accepts = Accepts { histogram: false, origin: true };

fn encode_all(measurements: &[Measurement], limits: &Limits, accepts: Accepts) -> Encoded {
    encode(&Content { measurements, expired: &[], flush: FLUSH }, limits, accepts)
}

fn encoded(measurements: &[Measurement]) -> Encoded {
    encode_all(measurements, &LIMITS, PLAIN)
}

fn gauges(body: &Body) -> Vec<Json> {
    let json: Json = serde_json::from_slice(&body.bytes).unwrap();
    json["gauges"].as_array().unwrap().clone()
}

#[test]
fn counters_become_gauges_stamped_with_the_flush() {
    let encoded = encoded(&[counter("info", "hits", "web", 5.0), counter("info", "legacy", "web", -1.5)]);
    assert_eq!(
        String::from_utf8(encoded.bodies[0].bytes.clone()).unwrap(),
        concat!(
            r#"{"gauges":[{"name":"hits","source":"web","measure_time":1700000060,"value":5.0},"#,
            r#"{"name":"legacy","source":"web","measure_time":1700000060,"value":-1.5}]}"#
        )
    );
    assert_eq!(encoded.bodies[0].content_type, "application/json");
    assert_eq!(encoded.bodies[0].points, [PointUnits::Counter(5.0), PointUnits::Counter(-1.5)]);
}

#[test]
fn gauges_are_posted_one_by_one_with_their_own_time_and_value() {
    let points = [(1_700_000_001_999, 0.0), (1_700_000_002_000, -1.5), (1_700_000_003_000, 1e9)];
    let encoded = encoded(&[gauge("info", "depth", "web", &points)]);
    let seen: Vec<_> = gauges(&encoded.bodies[0])
        .iter()
        .map(|point| (point["measure_time"].as_u64().unwrap(), point["value"].as_f64().unwrap()))
        .collect();
    assert_eq!(seen, [(1_700_000_001, 0.0), (1_700_000_002, -1.5), (1_700_000_003, 1e9)]);
    assert_eq!(encoded.bodies[0].points, [PointUnits::Gauge(1); 3]);
}

#[test]
fn timers_become_complex_gauges_in_seconds() {
    let encoded = encoded(&[timer("info", "lat", "web", &[1_000_000_000, 3_000_000_000])]);
    let expected = json!([{"name": "lat", "source": "web", "measure_time": 1_700_000_060, "count": 2,
        "sum": 4.0, "min": 1.0, "max": 3.0, "sum_squares": 10.0}]);
    assert_eq!(Json::from(gauges(&encoded.bodies[0])), expected);
    assert_eq!(encoded.bodies[0].points, [PointUnits::Timer(2)]);
}

#[test]
fn buckets_are_added_where_the_receiver_takes_them_and_only_if_they_add_up() {
    let mut lat = timer("info", "lat", "web", &[0, 1_000_000_000, 2_000_000_000]);
    let body = &encode_all(&[lat.clone()], &LIMITS, BUCKETS).bodies[0];
    let buckets = &gauges(body)[0]["buckets"];
    assert_eq!((&buckets["scale"], &buckets["zero"], &buckets["offset"]), (&json!(5), &json!(1), &json!(-1)));
    // One second ends bucket -1, two seconds end bucket 31.
    let counts: Vec<u64> = serde_json::from_value(buckets["counts"].clone()).unwrap();
    assert_eq!((counts.len(), counts[0], counts[32], counts.iter().sum::<u64>()), (33, 1, 1, 2));
    let Value::Timer(delta) = &mut lat.value else { panic!() };
    delta.count = 4;
    assert!(gauges(&encode_all(&[lat], &LIMITS, BUCKETS).bodies[0])[0].get("buckets").is_none());
}

#[test]
fn raw_timers_are_gauges_that_count_as_records() {
    let encoded = encoded(&[raw_timer("debug", "lat", "web", &[(1_700_000_002_000, 0.100_174)])]);
    let expected =
        json!([{"name": "lat", "source": "web", "measure_time": 1_700_000_002, "value": 0.100_174}]);
    assert_eq!(Json::from(gauges(&encoded.bodies[0])), expected);
    assert_eq!(encoded.bodies[0].points, [PointUnits::Timer(1)]);
}

#[test]
fn what_librato_would_refuse_is_left_out_and_counted() {
    let mut empty = timer("info", "lat", "web", &[1]);
    let Value::Timer(delta) = &mut empty.value else { panic!() };
    delta.count = 0;
    let encoded = encoded(&[
        counter("info", "a b", "web", 1.0),
        counter("info", "a", "we b", 2.0),
        counter("info", "a", "ALL", 3.0),
        counter("info", "a", "web", 1e127),
        gauge(
            "info",
            "g",
            "web",
            &[
                (1_700_000_000_000, f64::NAN),
                (1_699_000_000_000, 1.0),
                (1_700_001_000_000, 1.0),
                (1_700_000_000_000, 4.0),
            ],
        ),
        empty,
    ]);
    assert_eq!(encoded.bodies.len(), 1);
    assert_eq!(encoded.bodies[0].points, [PointUnits::Gauge(1)]);
    let reasons: Vec<_> = encoded.refused.iter().map(|(reason, units)| (reason, units.points)).collect();
    assert_eq!(
        reasons,
        [
            ("bad_name", 1),
            ("bad_source", 1),
            ("not_finite", 1),
            ("reserved_source", 1),
            ("time_ahead", 1),
            ("too_large", 1),
            ("too_old", 1),
            ("zero_count", 1)
        ]
    );
    assert_eq!(encoded.refused.of("bad_source").counter_sum, 2.0);
}

#[test]
fn a_flush_without_points_makes_no_body() {
    assert!(encoded(&[]).bodies.is_empty());
    assert!(encoded(&[counter("info", "a b", "web", 1.0)]).bodies.is_empty());
}

#[test]
fn bodies_end_at_300_points_and_at_their_bytes() {
    let many: Vec<_> = (0..601).map(|at| counter("info", &format!("n{at}"), "web", 1.0)).collect();
    let lengths = |encoded: Encoded| {
        encoded.bodies.iter().map(|body| (gauges(body).len(), body.bytes.len())).collect::<Vec<_>>()
    };
    let by_points = lengths(encoded(&many));
    assert_eq!(by_points.iter().map(|(points, _)| *points).collect::<Vec<_>>(), [300, 300, 1]);
    let small = Limits { body_bytes_max: 1_000, ..LIMITS };
    let by_bytes = lengths(encode_all(&many, &small, PLAIN));
    assert_eq!(by_bytes.iter().map(|(points, _)| points).sum::<usize>(), 601);
    assert!(by_bytes.iter().all(|(_, bytes)| *bytes <= 1_000), "{by_bytes:?}");
    // A point that is larger than the limit still goes, alone.
    let tiny = Limits { body_bytes_max: 10, ..LIMITS };
    assert!(lengths(encode_all(&many[..3], &tiny, PLAIN)).iter().all(|(points, _)| *points == 1));
}

#[test]
fn sources_that_become_equal_are_counted() {
    let mut tagged = counter("info", "hits", "web", 1.0);
    std::sync::Arc::make_mut(&mut tagged.series).tags = vec![("az".to_owned(), "e".to_owned())];
    let encoded =
        encoded(&[tagged, counter("info", "hits", "web:az.E", 1.0), counter("info", "hits", "web", 1.0)]);
    assert_eq!(encoded.clashes, 1);
    assert_eq!(gauges(&encoded.bodies[0])[0]["source"], "web:az.e");
}

#[test]
fn an_origin_names_kind_levels_and_unit_where_the_receiver_takes_it() {
    let mut lat = timer("info", "lat", "web", &[1_000_000_000]);
    std::sync::Arc::make_mut(&mut lat.series).unit = "s".to_owned();
    let all = [
        counter("info", "hits", "web", 5.0),
        gauge("info", "depth", "web", &[(1_700_000_002_000, 1.0), (1_700_000_003_000, 2.0)]),
        lat,
        raw_timer("debug", "raw", "web", &[(1_700_000_002_000, 0.5)]),
        counter("debug", "hits", "web", 1.0),
    ];
    let merged = crate::merge::merge_series(all.to_vec(), false);
    let with = &encode_all(&merged, &LIMITS, ORIGIN).bodies[0];
    let origin = |kind: &str, levels: &[&str]| json!({"kind": kind, "levels": levels});
    let mut timed = origin("timer", &["info"]);
    timed["unit"] = json!("s");
    let gauge = origin("gauge", &["info"]);
    let expected =
        [origin("counter", &["info", "debug"]), gauge.clone(), gauge, timed, origin("timer", &["debug"])];
    let seen: Vec<_> = gauges(with).iter().map(|gauge| gauge["origin"].clone()).collect();
    assert_eq!(seen, expected);
    let text = String::from_utf8(with.bytes.clone()).unwrap();
    let first = r#"{"gauges":[{"name":"hits","source":"web","measure_time":1700000060,"value":6.0,"origin":{"kind":"counter","levels":["info","debug"]}},"#;
    assert!(text.starts_with(first), "{text}");

    let plain = &encode_all(&merged, &LIMITS, PLAIN).bodies[0];
    let stripped = PLAIN.strip(&with.bytes).unwrap();
    let read = |bytes: &[u8]| serde_json::from_slice::<Json>(bytes).unwrap();
    assert_eq!(read(&stripped), read(&plain.bytes));
    assert_eq!(with.points, plain.points);
}

#[test]
fn origins_count_toward_the_bytes_of_a_body() {
    let many: Vec<_> = (0..50).map(|at| counter("info", &format!("n{at}"), "web", 1.0)).collect();
    let small = Limits { body_bytes_max: 1_000, ..LIMITS };
    let bodies = encode_all(&many, &small, ORIGIN).bodies;
    assert!(bodies.len() > encode_all(&many, &small, PLAIN).bodies.len());
    assert!(bodies.iter().all(|body| body.bytes.len() <= 1_000));
    assert_eq!(bodies.iter().map(|body| body.points.len()).sum::<usize>(), 50);
}
