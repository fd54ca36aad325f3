//! Batches, accepted and refused, without HTTP around them.

use super::*;
use crate::store::model::OriginKind;

const NOW: i64 = 1_700_000_000;
const TIMES: Times = Times { now: NOW, max_age_s: 7_200, max_ahead_s: 600 };

fn parse(body: &str) -> Result<Vec<Point>, ApiError> {
    points(Body::parse(Some("application/json"), body.as_bytes()).unwrap(), TIMES)
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
    assert_eq!((point.name.as_str(), &*point.source, point.measure_time), ("a", "unassigned", NOW));
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
    let rows: Vec<_> = points.iter().map(|p| (p.name.as_str(), p.kind, &*p.source, p.measure_time)).collect();
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
    // Counters are never aggregated.
    assert_eq!(properties, [(Some(10), false), (Some(60), true), (Some(60), false)]);
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
        assert_eq!(one(&format!(r#"{{"name":"{name}","source":"{name}","value":1}}"#)).source.as_ref(), name);
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
            r#""count":641,"sum":1,"buckets":{{"scale":{scale},"offset":0,"counts":[{}]}}"#,
            counts(n)
        ))
    };
    assert!(of(20, 640).is_ok() && of(-10, 0).is_ok());
    assert!(of(5, 641).is_err() && of(21, 1).is_err() && of(-11, 1).is_err());
    assert!(with(r#""value":1,"buckets":{"scale":5,"offset":0,"counts":[1]}"#).is_err());
    // Points without a bucket may be missing in it, but none can be more than there were.
    let counting = |count: u64, counts: &str| {
        with(&format!(
            r#""count":{count},"sum":1,"buckets":{{"scale":5,"offset":0,"counts":[{counts}],"zero":1}}"#
        ))
    };
    assert!(counting(6, "2,3").is_ok() && counting(7, "2,3").is_ok());
    for (count, counts) in [(5, "2,3"), (1, "1"), (7, "18446744073709551615,18446744073709551615")] {
        assert_eq!(counting(count, counts).unwrap_err().refusal, Refusal::BadValue, "{count} {counts}");
    }
}

#[test]
fn an_origin_is_kept_or_refused_as_a_whole() {
    let with = |origin: &str| parse(&format!(r#"{{"gauges":[{{"name":"a","value":1,"origin":{origin}}}]}}"#));
    let origin = |kind, levels: &[&str], unit: Option<&str>| {
        let levels = levels.iter().map(|level| (*level).to_owned()).collect();
        Some(Origin { kind, levels, unit: unit.map(str::to_owned) })
    };
    for (sent, expected) in [
        (r#"{"kind":"timer","levels":["info"],"unit":"s"}"#, origin(OriginKind::Timer, &["info"], Some("s"))),
        (
            r#"{"kind":"counter","levels":["a b","é"],"unit":""}"#,
            origin(OriginKind::Counter, &["a b", "é"], None),
        ),
        (r#"{"kind":"gauge"}"#, origin(OriginKind::Gauge, &[], None)),
        (r#"{"kind":"gauge","unit":null,"later":[1]}"#, origin(OriginKind::Gauge, &[], None)),
        ("null", None),
    ] {
        assert_eq!(with(sent).unwrap()[0].origin, expected, "{sent}");
    }
    let levels = |n: usize| format!(r#"{{"kind":"gauge","levels":[{}]}}"#, vec![r#""l""#; n].join(","));
    assert!(with(&levels(16)).is_ok());
    let long = "u".repeat(33);
    for bad in [
        "{}".to_owned(),
        r#"{"kind":"meter"}"#.to_owned(),
        r#"{"kind":"gauge","levels":["a|b"]}"#.to_owned(),
        r#"{"kind":"gauge","levels":[""]}"#.to_owned(),
        format!(r#"{{"kind":"gauge","levels":["{long}"]}}"#),
        format!(r#"{{"kind":"gauge","unit":"{long}"}}"#),
        levels(17),
    ] {
        let error = with(&bad).unwrap_err();
        assert_eq!(error.refusal, Refusal::BadProperty, "{bad}");
    }
}

fn tags(text: &str) -> Tagged {
    tagged(crate::body::hash(Some("application/json"), text.as_bytes()).unwrap(), TIMES)
}

#[test]
fn tags_of_a_measurement_replace_those_of_its_batch_and_a_lone_source_is_a_plain_one() {
    let text = r#"{"time":1699999000,"period":60,"tags":{"Region":"US-west","name":"web 3"},"measurements":[
        {"name":"top","value":4.5},
        {"name":"own","value":4.5,"tags":{"az":"e"},"time":1699999500,"period":10},
        {"name":"none","value":4.5,"tags":{}},
        {"name":"source","sum":6,"count":3,"value":null,"tags":{"source":"Host-1"}},
        {"name":"all","value":1,"tags":{"source":"all"}},
        {"name":"both","value":1,"tags":{"source":"a","b":"c\\d/?"}}]}"#;
    let Tagged { points, flaws } = tags(text);
    assert_eq!(flaws, []);
    let sources: Vec<_> = points.iter().map(|point| &*point.source).collect();
    let expected =
        ["name=web 3,region=us-west", "az=e", "unassigned", "host-1", "source=all", r"b=c\d/?,source=a"];
    assert_eq!(sources, expected);
    let pairs: Vec<_> = points.iter().map(|point| point.tags.len()).collect();
    assert_eq!(pairs, [2, 1, 0, 0, 1, 2]);
    assert_eq!((points[0].measure_time, points[1].measure_time), (1_699_999_000, 1_699_999_500));
    assert_eq!((points[0].properties.period, points[1].properties.period), (Some(60), Some(10)));
    assert_eq!((points[3].numbers.value, points[3].numbers.count), (2.0, 3.0));
}

#[test]
fn a_deviation_becomes_the_sum_of_squares_that_it_was_computed_from() {
    // 1, 2 and 6: mean 3, sum of squares 41, summed deviation 14.
    for deviation in [r#""stddev":2.160246899469287"#, r#""stddev_m2":14"#, r#""sum_squares":41"#] {
        let text = format!(r#"{{"measurements":[{{"name":"a","count":3,"sum":9,{deviation}}}]}}"#);
        let sum_squares = tags(&text).points[0].numbers.sum_squares.unwrap();
        assert!((sum_squares - 41.0).abs() < 1e-9, "{deviation}: {sum_squares}");
    }
    let text = r#"{"measurements":[{"name":"a","count":1e126,"sum":1,"stddev":1e126}]}"#;
    assert_eq!(tags(text).points[0].numbers.sum_squares, None);
}

#[test]
fn each_bad_measurement_with_tags_fails_for_itself() {
    let many = |n: usize| (0..n).map(|i| format!(r#""t{i}":"v""#)).collect::<Vec<_>>().join(",");
    let tag = |tags: &str| format!(r#"{{"name":"m","value":1,"tags":{{{tags}}}}}"#);
    assert!(tags(&format!(r#"{{"measurements":[{}]}}"#, tag(&many(50)))).flaws.is_empty());
    for (bad, refusal) in [
        (r#"{"name":"a b","value":1}"#.to_owned(), Refusal::BadName),
        (r#"{"value":1}"#.to_owned(), Refusal::BadName),
        (r#"{"name":"m"}"#.to_owned(), Refusal::BadValue),
        (r#"{"name":"m","value":1,"source":"s"}"#.to_owned(), Refusal::BadSource),
        (r#"{"name":"m","value":1,"time":1}"#.to_owned(), Refusal::TooOld),
        (r#"{"name":"m","value":1,"last":"x"}"#.to_owned(), Refusal::BadValue),
        (r#"{"name":"m","count":1}"#.to_owned(), Refusal::BadCount),
        (tag(r#""a b":"c""#), Refusal::BadTag),
        (tag(r#""":"c""#), Refusal::BadTag),
        (tag(r#""a":"""#), Refusal::BadTag),
        (tag(r#""a":null"#), Refusal::BadTag),
        (tag(r#""a":"x;y""#), Refusal::BadTag),
        (tag(&format!(r#""{}":"v""#, "k".repeat(65))), Refusal::BadTag),
        (tag(&format!(r#""k":"{}""#, "v".repeat(256))), Refusal::BadTag),
        (tag(&many(51)), Refusal::BadTag),
        (tag(&many(60)), Refusal::BadTag),
    ] {
        let text =
            format!(r#"{{"measurements":[{{"name":"good","value":1}},{bad},{{"name":"good","value":2}}]}}"#);
        let Tagged { points, flaws } = tags(&text);
        assert_eq!((points.len(), flaws.len()), (2, 1), "{bad}");
        assert_eq!(flaws[0].refusal, refusal, "{bad}");
    }
}

#[test]
fn properties_are_limited() {
    let with = |text: &str| parse(&format!(r#"{{"gauges":[{{"name":"a","value":1,{text}}}]}}"#));
    let longest = "d".repeat(1_024);
    assert_eq!(
        with(&format!(r#""description":"{longest}""#)).unwrap()[0].properties.description,
        Some(longest.clone())
    );
    assert_eq!(with(&format!(r#""description":"{longest}d""#)).unwrap_err().refusal, Refusal::BadProperty);
    assert_eq!(with(&format!(r#""display_name":"{longest}d""#)).unwrap_err().refusal, Refusal::BadProperty);
    assert_eq!(with(r#""period":-1"#).unwrap_err().refusal, Refusal::BadProperty);
}

#[test]
fn what_a_batch_says_once_is_held_once() {
    let text = "v".repeat(1_000);
    let attributes: Vec<_> = (0..60).map(|i| format!(r#""a{i}":"{text}""#)).collect();
    let attributes = attributes.join(",");
    let gauges = vec![r#"{"name":"a","value":1}"#; 100].join(",");
    let points = parse(&format!(r#"{{"attributes":{{{attributes}}},"gauges":[{gauges}]}}"#)).unwrap();
    assert_eq!(points[0].properties.attributes.len(), 60);
    let first = &points[0].properties.attributes;
    assert!(points.iter().all(|point| Arc::ptr_eq(&point.properties.attributes, first)));

    let many: Vec<_> = (0..50).map(|i| format!(r#""t{i}":"v{i}""#)).collect();
    let batch = |tags: &str| format!(r#"{{"tags":{{{tags}}},"measurements":[{gauges}]}}"#);
    let Tagged { points, flaws } = tags(&batch(&many.join(",")));
    assert_eq!((points.len(), points[0].tags.len(), flaws.len()), (100, 50, 0));
    let (source, pairs) = (&points[0].source, &points[0].tags);
    assert!(points.iter().all(|point| Arc::ptr_eq(&point.source, source) && Arc::ptr_eq(&point.tags, pairs)));

    // And so is what is wrong with it: an error repeats its beginning only.
    let Tagged { points, flaws } = tags(&batch(&format!(r#""t":"{}""#, "x".repeat(50_000))));
    assert_eq!((points.len(), flaws.len()), (0, 100));
    let error = flaws[99].to_json();
    assert_eq!((error["value"].as_str().unwrap().len(), error["name"].as_str()), (515, Some("a")));
}
