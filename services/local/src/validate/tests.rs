//! Batches, accepted and refused, without HTTP around them.

use super::*;

const NOW: i64 = 1_700_000_000;
const TIMES: Times = Times { now: NOW, max_age_s: 7_200, max_ahead_s: 600 };

fn parse(body: &str) -> Result<Vec<Point>, ApiError> {
    points(Body::parse(body.as_bytes()).unwrap(), TIMES)
}

fn one(measurement: &str) -> Point {
    parse(&format!(r#"{{"gauges":[{measurement}]}}"#)).unwrap().remove(0)
}

fn refusal(body: &str) -> Refusal {
    parse(body).unwrap_err().refusal
}

#[test]
fn a_simple_gauge_is_its_own_sum_min_and_max() {
    let point = one(r#"{"name":"a","value":-2.5}"#);
    assert_eq!((point.name.as_str(), point.source.as_str(), point.measure_time), ("a", "unassigned", NOW));
    let numbers = Numbers {
        value: -2.5,
        count: 1.0,
        sum: -2.5,
        min: Some(-2.5),
        max: Some(-2.5),
        sum_squares: Some(6.25),
    };
    assert_eq!(point.numbers, numbers);
}

#[test]
fn a_complex_gauge_keeps_what_was_sent_and_its_value_is_the_mean() {
    let numbers = one(r#"{"name":"a","count":4,"sum":"10","max":6}"#).numbers;
    assert_eq!((numbers.value, numbers.count, numbers.sum), (2.5, 4.0, 10.0));
    assert_eq!((numbers.min, numbers.max, numbers.sum_squares), (None, Some(6.0), None));
}

#[test]
fn top_level_values_apply_to_measurements_without_their_own() {
    let body = r#"{"source":"top","measure_time":1699999000,"period":60,"attributes":{"aggregate":true},
        "counters":[{"name":"c","value":5}],
        "gauges":{"own":{"value":1,"source":"S1","measure_time":"1699999500","period":"10","attributes":{}},
                  "0":{"name":"inner","value":2}}}"#;
    let points = parse(body).unwrap();
    let rows: Vec<_> =
        points.iter().map(|p| (p.name.as_str(), p.kind, p.source.as_str(), p.measure_time)).collect();
    assert_eq!(
        rows,
        [
            ("own", Kind::Gauge, "S1", 1_699_999_500),
            ("inner", Kind::Gauge, "top", 1_699_999_000),
            ("c", Kind::Counter, "top", 1_699_999_000),
        ]
    );
    let properties: Vec<_> =
        points.iter().map(|p| (p.properties.period, p.properties.is_aggregated())).collect();
    assert_eq!(properties, [(Some(10), false), (Some(60), true), (Some(60), true)]);
}

#[test]
fn times_are_accepted_from_two_hours_ago_to_ten_minutes_ahead() {
    let at = |time: &str| parse(&format!(r#"{{"gauges":[{{"name":"a","value":1,"measure_time":{time}}}]}}"#));
    for (time, expected) in [
        ("1699992800", 1_699_992_800),
        ("1700000600", 1_700_000_600),
        ("1700000600.9", 1_700_000_600),
        ("\" 1700000000 \"", NOW),
        ("null", NOW),
    ] {
        assert_eq!(at(time).unwrap()[0].measure_time, expected, "{time}");
    }
    for (time, refusal) in [
        ("1699992799", Refusal::TooOld),
        ("0", Refusal::TooOld),
        ("-1e300", Refusal::TooOld),
        ("1700000601", Refusal::TooFarAhead),
        ("1700000000000", Refusal::TooFarAhead),
        ("1e300", Refusal::TooFarAhead),
        ("\"now\"", Refusal::BadTime),
        ("\"inf\"", Refusal::BadTime),
        ("true", Refusal::BadTime),
        ("[]", Refusal::BadTime),
    ] {
        assert_eq!(at(time).unwrap_err().refusal, refusal, "{time}");
    }
}

#[test]
fn names_and_sources_are_1_to_255_of_the_documented_class() {
    let longest = "n".repeat(255);
    for name in ["a", "A-Z.a:z_09", longest.as_str()] {
        assert_eq!(one(&format!(r#"{{"name":"{name}","source":"{name}","value":1}}"#)).source, name);
    }
    let too_long = "n".repeat(256);
    for bad in ["", "a b", "a;b", "a|b", "ä", "a/b", "a@b", "a[b]", too_long.as_str()] {
        assert_eq!(
            refusal(&format!(r#"{{"gauges":[{{"name":"{bad}","value":1}}]}}"#)),
            Refusal::BadName,
            "{bad}"
        );
        let body = format!(r#"{{"gauges":[{{"name":"a","value":1,"source":"{bad}"}}]}}"#);
        assert_eq!(refusal(&body), Refusal::BadSource, "{bad}");
    }
    for reserved in ["all", "ALL", "All"] {
        assert_eq!(
            refusal(&format!(r#"{{"source":"{reserved}","gauges":{{"a":{{"value":1}}}}}}"#)),
            Refusal::BadSource
        );
        assert_eq!(one(&format!(r#"{{"name":"{reserved}","value":1}}"#)).name, reserved);
    }
}

#[test]
fn numbers_beyond_the_range_are_refused_and_tiny_ones_become_zero() {
    let value = |text: &str| parse(&format!(r#"{{"gauges":[{{"name":"a","value":{text}}}]}}"#));
    for (text, expected) in [
        ("1e126", 1e126),
        ("-1e126", -1e126),
        ("1e-130", 1e-130),
        ("9e-131", 0.0),
        ("-9e-131", 0.0),
        ("\"0.5\"", 0.5),
    ] {
        assert_eq!(value(text).unwrap()[0].numbers.value, expected, "{text}");
    }
    for text in ["1.1e126", "-1.1e126", "\"NaN\"", "\"Infinity\"", "\"\"", "\"5 apples\"", "false", "{}"] {
        assert_eq!(value(text).unwrap_err().refusal, Refusal::BadValue, "{text}");
    }
    for part in ["min", "max", "sum_squares"] {
        let body = format!(r#"{{"gauges":[{{"name":"a","count":1,"sum":1,"{part}":2e126}}]}}"#);
        assert_eq!(refusal(&body), Refusal::BadValue, "{part}");
    }
    assert_eq!(refusal(r#"{"gauges":[{"name":"a","count":1,"sum":2e126}]}"#), Refusal::BadValue);
}

#[test]
fn one_bad_measurement_refuses_the_batch() {
    assert!(parse(r#"{"gauges":[{"name":"a","value":1},{"name":"b"}]}"#).is_err());
    assert!(parse(r#"{"gauges":[{"name":"a","value":1}],"counters":[{"name":"b","value":-1}]}"#).is_err());
}

#[test]
fn buckets_belong_to_complex_gauges_and_are_limited() {
    let with = |rest: &str| parse(&format!(r#"{{"gauges":[{{"name":"a",{rest}}}]}}"#));
    let point = with(r#""count":3,"sum":1,"buckets":{"scale":5,"offset":-7,"counts":[1,0,1],"zero":1}"#)
        .unwrap()
        .remove(0);
    assert_eq!(point.buckets, Some(Buckets { scale: 5, offset: -7, counts: vec![1, 0, 1], zero: 1 }));
    let counts = |n: usize| vec!["1"; n].join(",");
    let of = |scale: i32, n| {
        with(&format!(
            r#""count":1,"sum":1,"buckets":{{"scale":{scale},"offset":0,"counts":[{}]}}"#,
            counts(n)
        ))
    };
    assert!(of(20, 640).is_ok() && of(-10, 0).is_ok());
    assert!(of(5, 641).is_err() && of(21, 1).is_err() && of(-11, 1).is_err());
    assert!(with(r#""value":1,"buckets":{"scale":5,"offset":0,"counts":[1]}"#).is_err());
}

#[test]
fn properties_are_limited() {
    let with = |text: &str| parse(&format!(r#"{{"gauges":[{{"name":"a","value":1,{text}}}]}}"#));
    let longest = "d".repeat(DESCRIPTION_BYTES_MAX);
    assert_eq!(
        with(&format!(r#""description":"{longest}""#)).unwrap()[0].properties.description,
        Some(longest.clone())
    );
    assert_eq!(with(&format!(r#""description":"{longest}d""#)).unwrap_err().refusal, Refusal::BadProperty);
    assert_eq!(with(&format!(r#""display_name":"{longest}d""#)).unwrap_err().refusal, Refusal::BadProperty);
    assert_eq!(with(r#""period":-1"#).unwrap_err().refusal, Refusal::BadProperty);
}
