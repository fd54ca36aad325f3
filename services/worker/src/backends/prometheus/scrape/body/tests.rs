use std::sync::Arc;

use super::super::super::test_support::{FLUSH, counted, declared, set, settings, timed};
use super::super::LIMITS;
use super::*;
use crate::measurement::Measurement;
use crate::merge::units_of;
use crate::test_support::counter;

fn encoded(measurements: &[Measurement], expired: &[Arc<SeriesKey>], limits: &Limits) -> Encoded {
    encode(&Content { measurements, expired, flush: FLUSH }, &settings(false), limits)
}

fn all() -> Vec<Measurement> {
    vec![
        declared(counted("hits", 2.0, 40.5), "B", &[("route", "/\"\\é")]),
        set("depth", -1.0),
        timed("lat", &[0, 1, 1_000_000, u64::MAX]),
    ]
}

#[test]
fn totals_come_back_as_they_were() {
    let measurements = all();
    let gone = Arc::clone(&set("gone", 0.0).series);
    let encoded = encoded(&measurements, &[Arc::clone(&gone)], &LIMITS);
    assert_eq!(encoded.bodies.len(), 1);
    let (header, changes) = read(&encoded.bodies[0].bytes).unwrap();
    assert_eq!(header, Header { version: 1, flush_ms: FLUSH.unix_ms, is_last: true });
    assert_eq!(changes.len(), 4);
    for (change, measurement) in changes.iter().zip(&measurements) {
        assert_eq!(change.series, *measurement.series);
        assert_eq!(change.total, Some(measurement.total.clone().unwrap().value));
    }
    assert_eq!((&changes[3].series, &changes[3].total), (&*gone, &None));
    assert!(Units::of(&encoded.bodies[0].points).same(&units_of(&measurements)));
}

#[test]
fn everything_is_in_the_bodies_or_refused() {
    let mut measurements = all();
    measurements.extend([
        counter("info", "no_total", "web", 7.0),
        counted("inf", 1.0, f64::INFINITY),
        counted("a.b", 5.0, 5.0),
        counted("a_b", 6.0, 6.0),
    ]);
    let encoded = encoded(&measurements, &[], &LIMITS);
    let mut units = encoded.refused.sum();
    encoded.bodies.iter().for_each(|body| units.add(&Units::of(&body.points)));
    assert!(units.same(&units_of(&measurements)), "{units}");
    assert_eq!((encoded.clashes, encoded.refused.of("same_series").counter_sum), (1, 6.0));
    assert_eq!(encoded.refused.of("no_total").counter_sum, 7.0);
    assert_eq!(encoded.refused.of("not_finite").counter_sum, 1.0);
}

#[test]
fn the_last_body_of_a_flush_says_so() {
    let encoded = encoded(&all(), &[], &Limits { points_max: 2, ..LIMITS });
    let last: Vec<_> =
        encoded.bodies.iter().map(|body| (body.points.len(), read(&body.bytes).unwrap().0.is_last)).collect();
    assert_eq!(last, [(2, false), (1, true)]);
    let one_each = Limits { body_bytes_max: 1, ..LIMITS };
    let bodies =
        encode(&Content { measurements: &all(), expired: &[], flush: FLUSH }, &settings(false), &one_each)
            .bodies;
    assert_eq!(bodies.len(), 3);
    assert!(
        encode(&Content { measurements: &[], expired: &[], flush: FLUSH }, &settings(false), &LIMITS)
            .bodies
            .is_empty()
    );
}

#[test]
fn a_body_can_be_cut_and_a_damaged_one_is_no_panic() {
    let bytes = encoded(&all(), &[], &LIMITS).bodies.remove(0).bytes;
    let cut = select(&bytes, &[true, false, true]).unwrap();
    let names: Vec<_> = read(&cut).unwrap().1.into_iter().map(|change| change.series.name).collect();
    assert_eq!(names, ["hits", "lat"]);
    assert_eq!(select(&bytes, &[true; 2]), None);
    assert_eq!(read(b""), None);
    assert_eq!(read(&[2, 0, 1]), None, "another version");
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x55;
        let _ = (read(&damaged), select(&damaged, &[true; 3]), read(&bytes[..at]));
    }
}
