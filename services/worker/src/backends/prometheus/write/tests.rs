use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::super::proto::{Histogram, STALE, Sample};
use super::super::test_support::{FLUSH, counted, declared, known, set, settings, timed};
use super::*;
use crate::backend::FlushTime;
use crate::measurement::{Measurement, SeriesKey};
use crate::merge::units_of;
use crate::test_support::{counter, gauge, raw_timer};
use crate::units::Units;

const LIMITS: Limits = Limits {
    points_max: POINTS_MAX,
    body_bytes_max: BODY_BYTES_MAX,
    age_max: Duration::from_secs(3_300),
    points_per_series_max: 1,
};

fn backend(url: &str, is_native: bool, limits: Limits) -> RemoteWrite {
    let client = HttpClient::new(url.parse().unwrap(), None, "zibrato-prometheus/test").unwrap();
    RemoteWrite { client, settings: settings(is_native), limits }
}

fn classic() -> RemoteWrite {
    backend("http://127.0.0.1:9090/api/v1/write", false, LIMITS)
}

fn native() -> RemoteWrite {
    backend("http://127.0.0.1:9090/api/v1/write", true, LIMITS)
}

fn encode(backend: &RemoteWrite, measurements: &[Measurement], expired: &[Arc<SeriesKey>]) -> Encoded {
    backend.encode(&Content { measurements, expired, flush: FLUSH })
}

/// The request of the only body.
fn request(encoded: &Encoded) -> WriteRequest {
    assert_eq!(encoded.bodies.len(), 1);
    read(&encoded.bodies[0].bytes).unwrap()
}

/// Each series with its only sample.
fn lines(request: &WriteRequest) -> Vec<String> {
    let line = |series: &TimeSeries| {
        assert_eq!(series.samples.len() + series.histograms.len(), 1);
        assert!(series.labels.is_sorted_by(|a, b| a.name < b.name), "{series:?}");
        match (series.samples.first(), series.histograms.first()) {
            (Some(Sample { value, timestamp }), _) => {
                assert_eq!(*timestamp as u64, FLUSH.unix_ms);
                let is_stale = value.to_bits() == STALE.to_bits();
                format!(
                    "{} {}",
                    selector(series),
                    if is_stale { "stale".to_owned() } else { value.to_string() }
                )
            }
            (_, Some(histogram)) => {
                assert_eq!(histogram.timestamp as u64, FLUSH.unix_ms);
                let is_stale = histogram.sum.to_bits() == STALE.to_bits();
                format!("{} {}", selector(series), if is_stale { "stale" } else { "histogram" })
            }
            _ => panic!(),
        }
    };
    request.timeseries.iter().map(line).collect()
}

const BASE: &str = "instance=\"host-1\", level=\"info\"";

#[test]
fn each_kind_is_told_as_its_total_at_the_time_of_the_flush() {
    let measurements = [
        counted("hits", 2.0, 40.0),
        declared(counted("cpu", 1.0, 1_500.0), "ms", &[]),
        declared(set("disk", 12.5), "%", &[("Mount.point", "/\"\\é")]),
        timed("db.query", &[0, 500_000, 2_000_000, 5_000_000_000]),
    ];
    let encoded = encode(&classic(), &measurements, &[]);
    assert_eq!(
        lines(&request(&encoded)),
        [
            format!("hits_total{{{BASE}, source=\"web\"}} 40"),
            format!("cpu_seconds_total{{{BASE}, source=\"web\"}} 1.5"),
            format!("disk_ratio{{Mount_point=\"/\\\"\\\\é\", {BASE}, source=\"web\"}} 0.125"),
            "db_query_seconds_bucket{instance=\"host-1\", le=\"0.001\", level=\"info\", source=\"web\"} 2"
                .to_owned(),
            "db_query_seconds_bucket{instance=\"host-1\", le=\"1.0\", level=\"info\", source=\"web\"} 3"
                .to_owned(),
            "db_query_seconds_bucket{instance=\"host-1\", le=\"+Inf\", level=\"info\", source=\"web\"} 4"
                .to_owned(),
            format!("db_query_seconds_sum{{{BASE}, source=\"web\"}} 5.0025"),
            format!("db_query_seconds_count{{{BASE}, source=\"web\"}} 4"),
        ]
    );
    let body = &encoded.bodies[0];
    assert_eq!((body.content_type.as_str(), body.points.len()), ("application/x-protobuf", 4));
    assert!(Units::of(&body.points).same(&units_of(&measurements)));
    assert_eq!(encode(&classic(), &measurements, &[]).bodies[0].bytes, body.bytes, "the same each time");
}

#[test]
fn a_native_histogram_is_one_series() {
    let encoded = encode(&native(), &[timed("lat", &[0, 1_000_000_000])], &[]);
    let request = request(&encoded);
    assert_eq!(lines(&request), [format!("lat_seconds{{{BASE}, source=\"web\"}} histogram")]);
    let Histogram { count_int, sum, schema, zero_count_int, .. } = request.timeseries[0].histograms[0];
    assert_eq!((count_int, sum, schema, zero_count_int), (Some(2), 1.0, 5, Some(1)));
    assert_eq!(request.timeseries[0].histograms[0].positive_deltas, [1]);
}

#[test]
fn everything_is_in_the_bodies_or_refused() {
    let mut measurements = vec![
        counted("a", 1.0, f64::INFINITY),
        counted("b", f64::NAN, f64::NAN),
        counted("c", -3.0, -2.0),
        set("d", f64::NAN),
        set("e", f64::NEG_INFINITY),
        timed("f", &[1, 2, 3]),
        counter("info", "no_total", "web", 7.0),
        gauge("info", "no_total", "web", &[(1, 1.0)]),
        raw_timer("info", "no_total", "web", &[(1, 0.5), (2, 0.5)]),
        counted("g.x", 5.0, 5.0),
        counted("g_x", 6.0, 6.0),
    ];
    // The law has no sum with a NaN in it.
    measurements[1] = counted("b", 4.0, f64::NAN);
    let encoded = encode(&classic(), &measurements, &[]);
    let mut units = encoded.refused.sum();
    encoded.bodies.iter().for_each(|body| units.add(&Units::of(&body.points)));
    assert!(units.same(&units_of(&measurements)), "{units} {}", encoded.refused);
    assert_eq!(encoded.refused.of("not_finite").counter_sum, 5.0);
    assert_eq!(encoded.refused.of("no_total").timer_records, 2);
    assert_eq!((encoded.refused.of("same_series").counter_sum, encoded.clashes), (6.0, 1));
    let request = request(&encoded);
    let value = |at: usize| request.timeseries[at].samples[0].value;
    assert_eq!((value(0), value(1), value(3)), (-2.0, 5.0, f64::NEG_INFINITY));
    // A gauge that is no number must not end its series.
    assert_eq!(value(2).to_bits(), 0x7ff8_0000_0000_0001);
}

#[test]
fn of_series_that_become_equal_the_same_one_is_sent_each_time() {
    let (dot, dash) = (counted("a.b", 1.0, 1.0), counted("a-b", 2.0, 2.0));
    // A counter's name with `_count` behind it is what a timer has too.
    let (timer, count) = (timed("lat", &[1]), set("lat_seconds_count", 9.0));
    for measurements in [[dot.clone(), dash.clone(), timer.clone(), count.clone()], [count, timer, dash, dot]]
    {
        let encoded = encode(&classic(), &measurements, &[]);
        assert_eq!((encoded.clashes, encoded.refused.of("same_series").points), (2, 2));
        let lines = lines(&request(&encoded));
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert_eq!(lines[0], format!("a_b_total{{{BASE}, source=\"web\"}} 2"));
        assert_eq!(lines[1], format!("lat_seconds_count{{{BASE}, source=\"web\"}} 9"));
    }
}

#[test]
fn bodies_keep_their_limits_and_one_point_may_exceed_them_alone() {
    let many: Vec<_> = (0..25).map(|at| known(counted(&format!("c{at}"), 1.0, 1.0))).collect();
    let sizes = |limits: Limits, measurements: &[Measurement]| {
        let encoded = encode(&backend("http://h/", false, limits), measurements, &[]);
        let names: BTreeSet<_> =
            encoded.bodies.iter().flat_map(|body| lines(&read(&body.bytes).unwrap())).collect();
        let samples: usize =
            encoded.bodies.iter().map(|body| read(&body.bytes).unwrap().timeseries.len()).sum();
        assert_eq!(names.len(), samples, "no series is twice in a flush");
        encoded.bodies.iter().map(|body| body.points.len()).collect::<Vec<_>>()
    };
    assert_eq!(sizes(Limits { points_max: 10, ..LIMITS }, &many), [10, 10, 5]);
    let one = read(&encode(&classic(), &many[..1], &[]).bodies[0].bytes).unwrap().encode_to_vec().len();
    assert_eq!(sizes(Limits { body_bytes_max: 4 * (one + 1), ..LIMITS }, &many), [4, 4, 4, 4, 4, 4, 1]);
    assert_eq!(sizes(Limits { body_bytes_max: 10, ..LIMITS }, &[many[0].clone(), timed("t", &[1])]), [1, 1]);
    assert!(encode(&classic(), &[], &[]).bodies.is_empty(), "a body is never empty");
}

#[test]
fn every_body_tells_once_of_each_of_its_families_within_its_limit() {
    let new: Vec<_> =
        (0..20).map(|at| declared(counted("hits", 1.0, 1.0), "", &[("k", &format!("{at:02}"))])).collect();
    let bodies = |limits: Limits| -> Vec<WriteRequest> {
        let encoded = encode(&backend("http://h/", false, limits), &new, &[]);
        encoded.bodies.iter().map(|body| read(&body.bytes).unwrap()).collect()
    };
    let bytes = bodies(Limits { points_max: 4, ..LIMITS })[0].encoded_len();
    let full = bodies(Limits { body_bytes_max: bytes, ..LIMITS });
    assert_eq!(full.len(), 5);
    for body in &full {
        assert_eq!((body.timeseries.len(), body.metadata.len(), body.encoded_len()), (4, 1, bytes));
    }
    let smaller = bodies(Limits { body_bytes_max: bytes - 1, ..LIMITS });
    assert!(smaller.iter().all(|body| body.timeseries.len() <= 3), "metadata count");
}

#[test]
fn every_series_of_what_has_expired_gets_a_stale_marker() {
    let measurements =
        [declared(counted("hits", 1.0, 1.0), "B", &[("k", "v")]), set("depth", 1.0), timed("lat", &[1_000])];
    let expired: Vec<_> = measurements.iter().map(|measurement| Arc::clone(&measurement.series)).collect();
    for (backend, series) in [(classic(), 7), (native(), 3)] {
        let named = |lines: Vec<String>| -> Vec<String> {
            lines.iter().map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
        };
        let alive = lines(&request(&encode(&backend, &measurements, &[])));
        let encoded = encode(&backend, &[], &expired);
        let dead = lines(&request(&encoded));
        assert!(dead.len() == series && dead.iter().all(|line| line.ends_with(" stale")), "{dead:?}");
        assert_eq!(named(dead), named(alive));
        let units = Units::of(&encoded.bodies[0].points);
        assert!(units.points == 3 && units.same(&Units::default()), "{units}");
    }
    // What lives under the same name is not ended.
    let mut other = (*expired[1]).clone();
    other.unit = "1".to_owned();
    let encoded = encode(&classic(), &measurements, &[Arc::new(other)]);
    assert_eq!(encoded.bodies[0].points.len(), 3);
}

#[test]
fn metadata_come_with_the_first_flush_of_a_series_and_every_ten_minutes() {
    let new = declared(counted("rx", 1.0, 1.0), "KiB", &[]);
    let told = |measurement: &Measurement, unix_ms| {
        let flush = FlushTime { unix_ms, interval: FLUSH.interval };
        let measurements = [measurement.clone(), declared(measurement.clone(), "KiB", &[("k", "v")])];
        let encoded = classic().encode(&Content { measurements: &measurements, expired: &[], flush });
        request(&encoded).metadata
    };
    let metadata = told(&new, FLUSH.unix_ms);
    assert_eq!(metadata.len(), 1, "once a family");
    let metadata = &metadata[0];
    assert_eq!((metadata.kind, &metadata.metric_family_name[..]), (1, "rx_bytes_total"));
    assert_eq!(
        (&metadata.help[..], &metadata.unit[..]),
        ("The counter rx of zibrato, declared in KiB.", "bytes")
    );
    let old = known(new);
    let times = (0..20).filter(|minute| !told(&old, FLUSH.unix_ms + minute * 60_000).is_empty());
    assert_eq!(times.count(), 2);
    for (measurement, kind) in [(set("g", 1.0), 2), (timed("t", &[1]), 3)] {
        assert_eq!(request(&encode(&classic(), &[measurement], &[])).metadata[0].kind, kind);
    }
}

#[test]
fn a_body_can_be_cut_to_some_of_its_points_and_they_are_named() {
    let all = [
        known(counted("a_bucket", 1.0, 1.0)),
        known(timed("t1", &[1_000_000])),
        known(timed("t2", &[1_000_000])),
        known(declared(set("g", 1.0), "", &[("le", "+Inf")])),
    ];
    let backend = classic();
    let bytes = &encode(&backend, &all, &[]).bodies[0].bytes;
    for keep in 1..16_usize {
        let flags: Vec<bool> = (0..4).map(|at| keep & (1 << at) != 0).collect();
        let kept: Vec<_> =
            all.iter().zip(&flags).filter(|(_, keep)| **keep).map(|(point, _)| point.clone()).collect();
        assert_eq!(backend.select(bytes, &flags).unwrap(), encode(&backend, &kept, &[]).bodies[0].bytes);
    }
    let named = |point| backend.describe(bytes, point);
    assert_eq!(named(0).unwrap(), format!("a_bucket_total{{{BASE}, source=\"web\"}}"));
    assert_eq!(named(1).unwrap(), format!("t1_seconds_count{{{BASE}, source=\"web\"}}"));
    assert_eq!(
        named(3).unwrap(),
        "g{exported_le=\"+Inf\", instance=\"host-1\", level=\"info\", source=\"web\"}"
    );
    assert_eq!(named(4), None);
    assert_eq!(backend.select(bytes, &[true; 3]), None);
    assert_eq!(backend.select(b"nonsense", &[]), None);
    assert_eq!(backend.describe(b"", 0), None);
    // A body that claims to become gigabytes is not read.
    assert_eq!(backend.select(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0], &[true]), None);
}

#[test]
fn a_damaged_body_is_never_a_panic() {
    let backend = classic();
    let bytes = encode(&backend, &[timed("t", &[1]), counted("c", 1.0, 1.0)], &[]).bodies[0].bytes.clone();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x55;
        for bytes in [&damaged[..], &bytes[..at]] {
            let _ = backend.select(bytes, &[true, false]);
            let _ = backend.describe(bytes, 1);
        }
    }
}

mod sockets;
