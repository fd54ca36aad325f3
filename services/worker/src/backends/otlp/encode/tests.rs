use zibrato_core::histogram::lower_bound;

use super::super::proto::{Metric, Request};
use super::super::tests::{FLUSH, encoded, otlp, prepared};
use super::super::{Otlp, body};
use super::*;
use crate::backend::{Backend, FlushTime};
use crate::merge::units_of;
use crate::table::{SeriesLimits, SeriesTable};
use crate::test_support::{counter, gauge, raw_timer, timer};

/// The request below, as the official generated code (opentelemetry-proto 1.45.2 of PyPI) writes it.
const GOLDEN: &str = "\
    0ab4050a180a160a0c736572766963652e6e616d6512060a0473686f701297050a180a077a69627261746f120d312e30\
    2e302d616c7068612e3112b4010a04686974731a0242793aa7010a611100002a36fe9c9717190058712e0c9d97173103\
    000000000000003a0f0a06736f7572636512050a037765623a0f0a056c6576656c12060a04696e666f3a100a05726f75\
    746512070a052fc3a420623a100a097461672e6c6576656c12030a01780a3e1100002a36fe9c9717190058712e0c9d97\
    1721000000000000e03f3a0f0a06736f7572636512050a037765623a100a056c6576656c12070a056465627567100218\
    0112750a0564657074682a6c0a341900cac471fe9c971721000000000000f03f3a0f0a06736f7572636512050a037765\
    623a0f0a056c6576656c12060a04696e666f0a341900945fadfe9c97172100000000000004c03a0f0a06736f75726365\
    12050a037765623a0f0a056c6576656c12060a04696e666f1286010a036c61741a0173527c0a780a0f0a06736f757263\
    6512050a037765620a0f0a056c6576656c12060a04696e666f1100002a36fe9c9717190058712e0c9d97172104000000\
    00000000290000000000001040300a390100000000000000422508011221020000000000000000000000000000000000\
    000000000000000000000000000001100212490a04686974733a410a3d1100002a36fe9c9717190058712e0c9d971731\
    f9ffffffffffffff3a0f0a06736f7572636512050a037765623a0f0a056c6576656c12060a04696e666f1002123b0a04\
    686974733a330a2d190058712e0c9d97173a0f0a06736f7572636512050a036f6c643a0f0a056c6576656c12060a0469\
    6e666f400110021801123c0a04676f6e651a017352310a2d0a0f0a06736f7572636512050a036f6c640a0f0a056c6576\
    656c12060a04696e666f190058712e0c9d971750011002";

const S: u64 = 1_000_000_000;

fn with(mut measurement: Measurement, unit: &str, tags: &[(&str, &str)]) -> Measurement {
    let series = Arc::make_mut(&mut measurement.series);
    series.unit = unit.to_owned();
    series.tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    measurement
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
}

fn series(measurement: &Measurement) -> Arc<SeriesKey> {
    Arc::clone(&measurement.series)
}

fn metrics(bytes: &[u8]) -> Vec<Metric> {
    let Request { mut resource_metrics } = body::read(bytes).unwrap();
    assert_eq!(resource_metrics.len(), 1);
    let mut scopes = resource_metrics.remove(0).scope_metrics;
    assert_eq!(scopes.len(), 1);
    scopes.remove(0).metrics
}

/// Metrics of the one body of these measurements, of which none is refused.
fn told(measurements: &[Measurement]) -> Vec<Metric> {
    let encoded = encoded(&otlp("http://h/", true), measurements, &[]);
    assert_eq!((encoded.bodies.len(), encoded.refused.sum().points), (1, 0));
    metrics(&encoded.bodies[0].bytes)
}

fn distributions(metric: &Metric) -> &[DistributionPoint] {
    let Some(Data::Distribution(data)) = &metric.data else { panic!("{metric:?}") };
    assert_eq!(data.temporality, 2);
    &data.data_points
}

fn sum(metric: &Metric) -> (bool, &[NumberPoint]) {
    let Some(Data::Sum(data)) = &metric.data else { panic!("{metric:?}") };
    assert_eq!(data.temporality, 2);
    (data.is_monotonic, &data.data_points)
}

/// The law: all that is measured is in bodies or refused.
fn check_law(measurements: &[Measurement], encoded: &Encoded) {
    let mut found = encoded.refused.sum();
    encoded.bodies.iter().for_each(|body| found.add(&Units::of(&body.points)));
    assert!(found.same(&units_of(measurements)), "{found} {}", units_of(measurements));
}

#[test]
fn a_request_is_byte_for_byte_what_the_official_code_writes() {
    let old = counter("info", "hits", "old", 1.0);
    let gone = timer("info", "gone", "old", &[1]);
    let measurements = [
        with(counter("info", "hits", "web", 3.0), "By", &[("route", "/ä b"), ("level", "x")]),
        gauge("info", "depth", "web", &[(1_700_000_001_000, 1.0), (1_700_000_002_000, -2.5)]),
        timer("info", "lat", "web", &[S, 2 * S, S, 0]),
        with(counter("debug", "hits", "web", 0.5), "By", &[]),
        counter("info", "hits", "web", -7.0),
    ];
    let encoded = encoded(&otlp("http://h/", false), &measurements, &[series(&old), series(&gone)]);
    let bytes = unhex(GOLDEN);
    // The version is the one thing that changes.
    let mut golden = body::read(&bytes).unwrap();
    golden.resource_metrics[0].scope_metrics[0].scope.as_mut().unwrap().version =
        env!("CARGO_PKG_VERSION").to_owned();
    assert_eq!(body::read(&encoded.bodies[0].bytes).unwrap(), golden);
    if env!("CARGO_PKG_VERSION") == "1.0.0-alpha.1" {
        assert_eq!(encoded.bodies[0].bytes, bytes);
    }
    let (count, none) = (PointUnits::Counter, PointUnits::Counter(0.0));
    let expected = [
        count(3.0),
        count(0.5),
        PointUnits::Gauge(1),
        PointUnits::Gauge(1),
        PointUnits::Timer(4),
        count(-7.0),
        none,
        PointUnits::Timer(0),
    ];
    assert_eq!(encoded.bodies[0].points, expected);
    assert_eq!((encoded.bodies.len(), encoded.clashes), (1, 0));
}

#[test]
fn every_record_lies_within_the_bounds_that_opentelemetry_gives_its_bucket() {
    let mut records: Vec<u64> =
        (0..63).flat_map(|bit| [1 << bit, (1 << bit) + 1, (1u64 << bit).wrapping_mul(3)]).collect();
    records.extend([S, S + 1, S - 1, 1_090_507_732, 0, 0]);
    for records in [&records[..], &[5], &[S], &[]] {
        let told = told(&[timer("info", "lat", "web", records)]);
        let [point] = distributions(&told[0]) else { panic!() };
        assert_eq!(
            (point.count, point.zero_count),
            (records.len() as u64, records.iter().filter(|ns| **ns == 0).count() as u64)
        );
        let sum_ns: u128 = records.iter().map(|ns| u128::from(*ns)).sum();
        assert_eq!(point.sum, Some(sum_ns as f64 / 1e9));
        let Some(positive) = &point.positive else {
            assert!(records.is_empty());
            continue;
        };
        assert!(positive.bucket_counts.first() > Some(&0) && positive.bucket_counts.last() > Some(&0));
        assert_eq!(positive.bucket_counts.iter().sum::<u64>() + point.zero_count, point.count);
        // By the specification's own words: greater than base^index, at most base^(index + 1).
        let scale = point.scale as i8;
        for (index, count) in (positive.offset..).zip(&positive.bucket_counts) {
            let (low, high) = (lower_bound(index, scale), lower_bound(index + 1, scale));
            let within = records.iter().map(|ns| *ns as f64 / 1e9).filter(|s| *s > low && *s <= high).count();
            assert_eq!(within as u64, *count, "{index}");
        }
        let base = 2f64.powf(2f64.powi(-point.scale));
        let known = base.powi(positive.offset);
        assert!((lower_bound(positive.offset, scale) / known - 1.0).abs() < 1e-12);
    }
}

#[test]
fn records_without_buckets_are_counted_and_stay_in_one_place() {
    let mut timer = timer("info", "lat", "web", &[S, S, S]);
    let Value::Timer(delta) = &mut timer.value else { panic!() };
    (delta.count, delta.sum_ns) = (5, 5 * u128::from(S));
    let told = told(&[timer]);
    let [point] = distributions(&told[0]) else { panic!() };
    assert_eq!((point.count, point.zero_count, point.sum), (5, 2, Some(5.0)));
    assert_eq!(point.positive.as_ref().unwrap().bucket_counts, [3]);
}

#[test]
fn totals_grow_with_one_start_and_a_series_that_does_not_change_is_told_again() {
    let otlp = otlp("http://h/", true);
    let mut table = SeriesTable::restore(SeriesLimits::default(), otlp.shape(), []);
    let mut flush = |unix_ms, measurements: Vec<Measurement>| {
        let flush = FlushTime { unix_ms, ..FLUSH };
        let prepared = table.prepare(measurements, flush, |_| None);
        table.commit();
        let encoded =
            otlp.encode(&Content { measurements: &prepared.measurements, expired: &prepared.expired, flush });
        check_law(&prepared.measurements, &encoded);
        encoded.bodies.iter().flat_map(|body| metrics(&body.bytes)).collect::<Vec<_>>()
    };
    let first = FLUSH.unix_ms;
    flush(
        first,
        vec![
            counter("info", "hits", "web", 3.0),
            timer("info", "lat", "web", &[S]),
            gauge("info", "depth", "web", &[(first, 7.5)]),
        ],
    );
    let second = flush(
        first + 10_000,
        vec![counter("info", "hits", "web", 4.0), timer("info", "lat", "web", &[2 * S])],
    );
    let (is_monotonic, [hits]) = sum(&second[0]) else { panic!() };
    let start_ns = (first - 60_000) * NS_PER_MS;
    assert_eq!((is_monotonic, hits.value), (true, Some(Number::AsInt(7))));
    assert_eq!((hits.start_time_unix_nano, hits.time_unix_nano), (start_ns, (first + 10_000) * NS_PER_MS));
    let [lat] = distributions(&second[1]) else { panic!() };
    assert_eq!((lat.count, lat.sum, lat.start_time_unix_nano), (2, Some(3.0), start_ns));
    assert_eq!(second.len(), 2, "the gauge did not change");

    let again = flush(first + 70_000, vec![]);
    assert_eq!(again.len(), 3);
    for metric in &again {
        match metric.data.as_ref().unwrap() {
            Data::Sum(sum) => {
                assert_eq!(sum.data_points[0].value, Some(Number::AsInt(7)));
                assert_eq!(sum.data_points[0].start_time_unix_nano, start_ns);
            }
            Data::Gauge(gauge) => {
                assert_eq!(gauge.data_points[0].value, Some(Number::AsDouble(7.5)));
                assert_eq!(gauge.data_points[0].time_unix_nano, (first + 70_000) * NS_PER_MS);
            }
            Data::Distribution(distribution) => assert_eq!(distribution.data_points[0].count, 2),
        }
    }

    let gone = flush(first + 3_700_000, vec![]);
    assert_eq!(gone.len(), 3);
    let flags = gone.iter().map(|metric| match metric.data.as_ref().unwrap() {
        Data::Sum(sum) => (sum.data_points[0].flags, sum.data_points[0].value),
        Data::Gauge(gauge) => (gauge.data_points[0].flags, gauge.data_points[0].value),
        Data::Distribution(distribution) => (distribution.data_points[0].flags, None),
    });
    assert!(flags.into_iter().all(|told| told == (NO_RECORDED_VALUE, None)));
}

#[test]
fn a_counter_that_fell_is_not_monotonic_from_then_on_until_it_expires() {
    let otlp = otlp("http://h/", true);
    let mut table = SeriesTable::restore(SeriesLimits::default(), otlp.shape(), []);
    let old = counter("info", "hits", "old", 1.0);
    let mut flush = |otlp: &Otlp, deltas: &[f64], expired: &[Arc<SeriesKey>]| {
        let all: Vec<_> = [("old", deltas.first()), ("web", deltas.get(1))]
            .into_iter()
            .filter_map(|(source, delta)| Some(counter("info", "hits", source, *delta?)))
            .collect();
        let measurements = table.prepare(all, FLUSH, |_| None).measurements;
        table.commit();
        let encoded = otlp.encode(&Content { measurements: &measurements, expired, flush: FLUSH });
        let metrics = encoded.bodies.iter().flat_map(|body| metrics(&body.bytes)).collect::<Vec<_>>();
        metrics.iter().map(|metric| (sum(metric).0, sum(metric).1.len())).collect::<Vec<_>>()
    };
    assert_eq!(flush(&otlp, &[5.0, 1.0], &[]), [(true, 2)]);
    assert_eq!(flush(&otlp, &[-1.0, 1.0], &[]), [(false, 1), (true, 1)], "the other one stays");
    assert_eq!(flush(&otlp, &[9.0, 1.0], &[]), [(false, 1), (true, 1)]);
    assert_eq!(flush(&otlp, &[], &[series(&old)]), [(false, 1)], "its end too");
    assert_eq!(flush(&otlp, &[1.0], &[]), [(true, 1)]);
    // What is below zero has fallen, whoever saw it.
    assert_eq!(flush(&otlp, &[-100.0], &[]), [(false, 1)]);
    assert_eq!(flush(&super::super::tests::otlp("http://h/", true), &[1.0], &[]), [(false, 1)]);
}

#[test]
fn whole_numbers_are_integers_and_others_are_floats() {
    for (value, expected) in [
        (0.0, Number::AsInt(0)),
        (-0.0, Number::AsInt(0)),
        (-7.0, Number::AsInt(-7)),
        (9_007_199_254_740_993_f64, Number::AsInt(9_007_199_254_740_992)),
        (9_223_372_036_854_774_784.0, Number::AsInt(9_223_372_036_854_774_784)),
        (INT_LIMIT, Number::AsDouble(INT_LIMIT)),
        (-INT_LIMIT, Number::AsDouble(-INT_LIMIT)),
        (0.5, Number::AsDouble(0.5)),
        (1e300, Number::AsDouble(1e300)),
    ] {
        assert_eq!(number(value), expected, "{value}");
    }
}

#[test]
fn tags_never_take_the_place_of_source_and_level_and_never_meet() {
    let keys = [
        "source",
        "level",
        "tag.source",
        "tag.tag.source",
        "tag.",
        "tag",
        "tag.x",
        "Source",
        "le",
        "xsource",
        "tag.level.x",
    ];
    let mapped: Vec<_> = keys.iter().map(|key| attribute_key(key).into_owned()).collect();
    assert_eq!(mapped[..4], ["tag.source", "tag.level", "tag.tag.source", "tag.tag.tag.source"]);
    assert_eq!(mapped[4..], keys[4..], "others are as they were");
    assert_eq!(mapped.iter().collect::<HashSet<_>>().len(), keys.len());
    assert!(!mapped.iter().any(|key| key == SOURCE_KEY || key == LEVEL_KEY));
}

#[test]
fn hostile_texts_arrive_as_they_are() {
    let value = "\u{202e}\"'\\{}<>&=,\u{0}\u{1f600}\u{fffd}|\n";
    let told = told(&[with(
        counter("a b,\u{e9}", "a:b-c._", "s:1", 1.0),
        "{\u{b5}s}/1",
        &[("k", value), ("source", "x")],
    )]);
    let (_, [point]) = sum(&told[0]) else { panic!() };
    let texts: Vec<_> =
        point.attributes.iter().map(|attribute| (&attribute.key[..], attribute.text().unwrap())).collect();
    assert_eq!(texts, [("source", "s:1"), ("level", "a b,\u{e9}"), ("k", value), ("tag.source", "x")]);
    assert_eq!((&told[0].name[..], &told[0].unit[..]), ("a:b-c._", "{\u{b5}s}/1"));
}

#[test]
fn what_no_store_can_hold_is_refused_by_its_reason_and_the_law_holds() {
    let now_ms = FLUSH.unix_ms;
    let measurements = [
        counter("info", "huge", "web", f64::INFINITY),
        counter("info", "hits", "web", 3.0),
        gauge(
            "info",
            "depth",
            "web",
            &[
                (0, 1.0),
                (now_ms - 60_001, 2.0),
                (now_ms - 60_000, 3.0),
                (now_ms, f64::NAN),
                (now_ms, f64::NEG_INFINITY),
                (now_ms + 600_000, 4.0),
                (now_ms + 600_001, 5.0),
                (u64::MAX, 6.0),
            ],
        ),
        timer("info", "lat", "web", &[1, 2, 3]),
        raw_timer("info", "old", "web", &[(1, 0.5), (2, 0.25)]),
    ];
    let refused = encoded(&otlp("http://h/", true), &measurements, &[]);
    let sets = [reason::TOO_OLD, reason::TIME_AHEAD, reason::NOT_FINITE]
        .map(|reason| refused.refused.of(reason).gauge_sets);
    assert_eq!(sets, [2, 2, 2]);
    assert_eq!(refused.refused.of(reason::NOT_FINITE).counter_sum, f64::INFINITY);
    check_law(&measurements[1..], &encoded(&otlp("http://h/", true), &measurements[1..], &[]));
    assert_eq!(metrics(&refused.bodies[0].bytes).len(), 4);

    // Without totals there is nothing to tell.
    let bare = otlp("http://h/", true).encode(&Content {
        measurements: &measurements[1..],
        expired: &[],
        flush: FLUSH,
    });
    assert!(bare.bodies.is_empty());
    check_law(&measurements[1..], &bare);
    assert_eq!(bare.refused.of(reason::NO_TOTAL).points, 4);
}

#[test]
fn timers_that_differ_in_their_unit_alone_are_counted_as_clashes() {
    let all = [
        timer("info", "lat", "web", &[1]),
        with(timer("info", "lat", "web", &[1]), "ms", &[]),
        with(counter("info", "lat", "web", 1.0), "ms", &[]),
        counter("info", "lat", "web", 1.0),
        timer("debug", "lat", "web", &[1]),
        with(timer("info", "lat", "web", &[1]), "", &[("k", "v")]),
    ];
    let encoded = encoded(&otlp("http://h/", true), &all, &[]);
    assert_eq!(encoded.clashes, 1);
    let units: Vec<_> = metrics(&encoded.bodies[0].bytes).into_iter().map(|metric| metric.unit).collect();
    assert_eq!(units, ["s", "ms", ""]);
}

#[test]
fn the_same_flush_gives_the_same_bytes() {
    let all: Vec<_> =
        (0..50).map(|at| counter("info", &format!("m{}", at % 7), &format!("s{at}"), 1.0)).collect();
    let measurements = prepared(&all).measurements;
    let content = Content { measurements: &measurements, expired: &[], flush: FLUSH };
    let bodies = || otlp("http://h/", true).encode(&content).bodies;
    assert_eq!(bodies(), bodies());
}
