//! Legacy text.

use zibrato_core::frame::{Forwarded, PublisherId};

use super::model::*;
use crate::ledger::{Applied, Config, LEGACY_AGE_MS_MAX_DEFAULT, LEGACY_AHEAD_MS_MAX, drop_reason};
use crate::measurement::{GaugePoint, Measurement, TimerDelta, Value};
use crate::subscription::{Incoming, Message};

/// T0 in seconds.
const T0_S: u64 = T0 / 1_000;

fn take(worker: &mut Worker, text: &str) -> Applied {
    worker.receive(text.as_bytes(), T0 + 1_000)
}

fn flush(worker: &mut Worker) -> Vec<Measurement> {
    worker.flush(Fate::Committed, T0 + 2_000).measurements
}

fn timer(measurement: &Measurement) -> &TimerDelta {
    match &measurement.value {
        Value::Timer(timer) => timer,
        other => panic!("{other:?}"),
    }
}

#[test]
fn counters_are_summed_with_fractions_and_negatives_and_start_again_from_zero() {
    let mut worker = Worker::new(Config::default(), T0);
    for value in ["5", "0.25", "-7"] {
        assert_eq!(take(&mut worker, &format!("info|Counter|c|{value}|{T0_S}|deathstar")), Applied::Taken);
    }
    let [measurement] = &flush(&mut worker)[..] else { panic!() };
    assert!(matches!(measurement.value, Value::Counter { delta } if delta == -1.75));
    assert_eq!((&*measurement.series.source, &*measurement.series.level), ("deathstar", "info"));
    assert_eq!(worker.ledger.counts().flushed.legacy_counters, 3);
    take(&mut worker, &format!("info|counters|c|2|{T0_S}|deathstar"));
    let [measurement] = &flush(&mut worker)[..] else { panic!() };
    assert!(matches!(measurement.value, Value::Counter { delta } if delta == 2.0));
    assert!(flush(&mut worker).is_empty());
}

#[test]
fn each_gauge_message_is_a_point_with_its_own_time() {
    let mut worker = Worker::new(Config::default(), T0);
    for (value, back) in [("0", 0), ("-1.5", 20), ("999", 10)] {
        take(&mut worker, &format!("info|Gauge|g|{value}|{}|s", T0_S - back));
    }
    let [measurement] = &flush(&mut worker)[..] else { panic!() };
    let Value::Gauge { points } = &measurement.value else { panic!() };
    let at = |back_s: u64, value| GaugePoint { time_ms: T0 - back_s * 1_000, value };
    assert_eq!(points[..], [at(20, -1.5), at(10, 999.0), at(0, 0.0)]);
}

#[test]
fn timers_are_folded_or_handed_over_one_by_one() {
    let messages = ["0.100174", "0", "3.5"].map(|value| format!("info|Timer|t|{value}|{T0_S}|s"));
    let mut worker = Worker::new(Config::default(), T0);
    messages.iter().for_each(|text| {
        take(&mut worker, text);
    });
    let [measurement] = &flush(&mut worker)[..] else { panic!() };
    let folded = timer(measurement);
    assert_eq!((folded.count, folded.sum_ns), (3, 3_600_174_000));
    assert_eq!((folded.min_ns, folded.max_ns), (0, 3_500_000_000));
    assert_eq!(folded.sum_squares_ns2, 100_174_000u128.pow(2) + 3_500_000_000u128.pow(2));
    assert_eq!(folded.histogram.total(), 3);

    let mut worker = Worker::new(Config { timers_raw: true, ..Config::default() }, T0);
    messages.iter().for_each(|text| {
        take(&mut worker, text);
    });
    assert_eq!(worker.ledger.counts().held.timers, 3);
    let [measurement] = &flush(&mut worker)[..] else { panic!() };
    let Value::RawTimer { points } = &measurement.value else { panic!() };
    assert_eq!(points.iter().map(|point| point.value).collect::<Vec<_>>(), [0.100174, 0.0, 3.5]);
}

#[test]
fn a_negative_duration_is_dropped_and_counted() {
    let mut worker = Worker::new(Config::default(), T0);
    let applied = take(&mut worker, &format!("info|Timer|t|-1|{T0_S}|s"));
    assert_eq!(applied, Applied::Dropped(drop_reason::NEGATIVE_DURATION));
    assert!(flush(&mut worker).is_empty());
    assert_eq!(worker.ledger.counts().dropped[drop_reason::NEGATIVE_DURATION].timers, 1);
}

#[test]
fn names_and_sources_are_sanitised_and_counted() {
    let mut worker = Worker::new(Config::default(), T0);
    let long = "x".repeat(300);
    for (name, source, expected_name, expected_source, changed) in [
        ("ok.name:a_b-c", "me", "ok.name:a_b-c", "me", 0),
        ("a b/c", "", "a_b_c", "not_specified", 1),
        ("grüße", "h@st", "gr__e", "h_st", 3),
        (&*long, "s", &long[..255], "s", 4),
    ] {
        take(&mut worker, &format!("info|Counter|{name}|1|{T0_S}|{source}"));
        let [measurement] = &flush(&mut worker)[..] else { panic!() };
        assert_eq!(
            (&*measurement.series.name, &*measurement.series.source),
            (expected_name, expected_source)
        );
        assert_eq!(worker.ledger.counts().legacy_sanitised, changed);
    }
}

#[test]
fn a_message_older_than_the_limit_is_dropped_whatever_its_kind() {
    let mut worker = Worker::new(Config::default(), T0);
    let oldest = (T0 + 1_000 - LEGACY_AGE_MS_MAX_DEFAULT) / 1_000;
    for kind in ["Counter", "Gauge", "Timer"] {
        assert_eq!(take(&mut worker, &format!("info|{kind}|n|1|{oldest}|s")), Applied::Taken);
        let applied = take(&mut worker, &format!("info|{kind}|n|1|{}|s", oldest - 1));
        assert_eq!(applied, Applied::Dropped(drop_reason::TOO_OLD));
    }
    assert_eq!(flush(&mut worker).len(), 3);
    let dropped = worker.ledger.counts().dropped[drop_reason::TOO_OLD];
    assert_eq!((dropped.legacy_counters, dropped.gauges, dropped.timers), (1, 1, 1));
}

#[test]
fn a_time_stamp_too_far_ahead_is_set_to_the_present() {
    let mut worker = Worker::new(Config::default(), T0);
    let ahead = (T0 + 1_000 + LEGACY_AHEAD_MS_MAX) / 1_000;
    for stamp in [ahead, ahead + 1, u64::MAX] {
        take(&mut worker, &format!("info|Gauge|g|{stamp}|{stamp}|s"));
    }
    let [measurement] = &flush(&mut worker)[..] else { panic!() };
    let Value::Gauge { points } = &measurement.value else { panic!() };
    let times: Vec<_> = points.iter().map(|point| point.time_ms).collect();
    assert_eq!(times, [T0 + 1_000, T0 + 1_000, ahead * 1_000]);
    assert_eq!(worker.ledger.counts().legacy_ahead, 2);
}

#[test]
fn points_beyond_the_limit_drop_the_oldest() {
    let mut worker = Worker::new(Config { points_max: 3, ..Config::default() }, T0);
    for value in 0..5 {
        take(&mut worker, &format!("info|Gauge|g|{value}|{T0_S}|s"));
    }
    // A flush that fails and what came since share the limit.
    worker.flush(Fate::Aborted, T0 + 1_500);
    take(&mut worker, &format!("info|Gauge|g|5|{T0_S}|s"));
    let [measurement] = &flush(&mut worker)[..] else { panic!() };
    let Value::Gauge { points } = &measurement.value else { panic!() };
    assert_eq!(points.iter().map(|point| point.value).collect::<Vec<_>>(), [3.0, 4.0, 5.0]);
    assert_eq!(worker.ledger.counts().dropped[drop_reason::POINTS_LIMIT].gauges, 3);
}

#[test]
fn what_a_broker_forwarded_and_did_not_arrive_is_counted_for_each_connection() {
    let mut worker = Worker::new(Config::default(), T0);
    let mut send = |endpoint, bytes: &[u8]| {
        let message = Message::Published(bytes.to_vec());
        worker.ledger.receive(&Incoming { endpoint, message }, T0 + 1_000);
        worker.ledger.counts().legacy_lost
    };
    let forwarded = |broker: u8, messages| {
        Forwarded { level: "info", broker: PublisherId([broker; 16]), messages }.encode().unwrap().to_vec()
    };
    let text = format!("info|Counter|c|1|{T0_S}|s");
    // What was forwarded before the first count is not ours.
    send(0, text.as_bytes());
    assert_eq!(send(0, &forwarded(1, 1_000)), 0);
    for _ in 0..3 {
        send(0, text.as_bytes());
    }
    // Malformed ones came through all the same.
    send(0, b"info|Counter|c|x|1|s");
    send(1, text.as_bytes());
    assert_eq!(send(0, &forwarded(1, 1_010)), 6);
    assert_eq!(send(0, &forwarded(1, 1_010)), 6);
    // Another broker behind the same endpoint counts from its own start.
    assert_eq!(send(0, &forwarded(2, 5_000)), 6);
    assert_eq!(send(0, &forwarded(2, 5_002)), 8);
    assert_eq!(send(1, &forwarded(1, 1_010)), 8);
}

#[test]
fn legacy_sums_are_not_kept_over_a_kill_and_nothing_is_counted_twice() {
    let mut worker = Worker::new(Config::default(), T0);
    take(&mut worker, &format!("info|Counter|c|5|{T0_S}|s"));
    worker.flush(Fate::KilledAfter, T0 + 2_000);
    take(&mut worker, &format!("info|Counter|c|7|{T0_S}|s"));
    worker.flush(Fate::KilledBefore, T0 + 3_000);
    worker.flush(Fate::Committed, T0 + 4_000);
    assert_eq!(worker.kept.counters["c"], 5);
}
