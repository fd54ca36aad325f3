//! Bounds of the ledger.

use super::model::*;
use crate::ledger::sequence::RANGES_MAX;
use crate::ledger::{Applied, Config, drop_reason, refusal};
use crate::subscription::{Incoming, Message};

#[test]
fn a_series_too_many_is_refused_and_memory_stays_flat() {
    let mut worker = Worker::new(Config { series_max: 9, ..Config::default() }, T0);
    let mut publisher = Publisher::new(1, T0 + 1);
    for n in 0..1_000 {
        publisher.count(&format!("c{n:04}"), 1);
    }
    for message in publisher.emit(Emit::Key, T0 + 1_000) {
        worker.receive(&message, T0 + 1_000);
    }
    assert_eq!(worker.ledger.series(), 9, "although a part brings two");
    for n in 0..20 {
        let text = format!("{LEVEL}|Gauge|g{n}|1|1700000001|s");
        assert_eq!(worker.receive(text.as_bytes(), T0 + 1_500), Applied::Refused(refusal::SERIES_LIMIT));
    }
    assert_eq!(worker.ledger.counts().refused(refusal::SERIES_LIMIT), 991 + 20);
    worker.flush(Fate::Committed, T0 + 2_000);
    assert_eq!(worker.kept.counters.values().sum::<u128>(), 9);
    // The nine go on as if nothing were.
    publisher.count("c0003", 4);
    for message in publisher.emit(Emit::Window, T0 + 3_000) {
        worker.receive(&message, T0 + 3_000);
    }
    worker.flush(Fate::Committed, T0 + 4_000);
    assert_eq!(worker.kept.counters["c0003"], 5);
}

#[test]
fn a_series_refused_of_a_late_publisher_posts_no_history_when_there_is_room() {
    let mut worker = Worker::new(Config { series_max: 1, forget_ms: 10_000, ..Config::default() }, T0);
    let mut brief = Publisher::new(1, T0 + 1);
    brief.count("a", 1);
    let mut old = Publisher::new(2, T0 - 600_000);
    old.count("b", 100);
    for publisher in [&mut brief, &mut old] {
        let emit = if publisher.id.0[0] == 1 { Emit::End } else { Emit::Key };
        for message in publisher.emit(emit, T0 + 1_000) {
            worker.receive(&message, T0 + 1_000);
        }
    }
    assert_eq!(worker.ledger.counts().refused(refusal::SERIES_LIMIT), 1);
    for second in 1..30 {
        worker.flush(Fate::Committed, T0 + second * 1_000);
    }
    assert_eq!(worker.ledger.series(), 0);
    for message in old.emit(Emit::Key, T0 + 31_000) {
        worker.receive(&message, T0 + 31_000);
    }
    assert!(worker.flush(Fate::Committed, T0 + 32_000).measurements.is_empty());
    assert_eq!(worker.ledger.counts().joined_late.counters, 100);
}

#[test]
fn a_publisher_too_many_is_refused() {
    let mut worker = Worker::new(Config { publishers_max: 3, ..Config::default() }, T0);
    for id in 0..10 {
        let mut publisher = Publisher::new(id, T0 + 1);
        publisher.count("c", 1);
        for message in publisher.emit(Emit::Key, T0 + 1_000) {
            worker.receive(&message, T0 + 1_000);
        }
    }
    assert_eq!(worker.ledger.publishers(), 3);
    assert_eq!(worker.ledger.counts().refused(refusal::PUBLISHER_LIMIT), 7);
}

#[test]
fn publishers_of_one_series_are_merged_and_levels_are_not() {
    let mut worker = Worker::new(Config::default(), T0);
    worker.subscribe("debug", T0);
    for id in 0..4 {
        let mut publisher = Publisher::new(id, T0 + 1);
        publisher.level = if id < 3 { "info" } else { "debug" }.to_owned();
        publisher.count("c", 1 << id);
        publisher.set("g", f64::from(id), T0 + 1_000 - u64::from(id));
        for message in publisher.emit(Emit::Key, T0 + 1_000) {
            worker.receive(&message, T0 + 1_000);
        }
    }
    worker.receive(b"info|Counter|c|0.5|1700000001|sim", T0 + 1_500);
    let flush = worker.flush(Fate::Committed, T0 + 2_000);
    let shown: Vec<_> = flush
        .measurements
        .iter()
        .map(|measurement| {
            let series = &measurement.series;
            format!("{} {} {} {:?}", series.level, series.name, series.source, measurement.value)
        })
        .collect();
    let point =
        |back: u64, value: &str| format!("GaugePoint {{ time_ms: {}, value: {value} }}", T0 + 1_000 - back);
    assert_eq!(
        shown,
        [
            "debug c sim Counter { delta: 8.0 }".to_owned(),
            format!("debug g sim Gauge {{ points: [{}] }}", point(3, "3.0")),
            "info c sim Counter { delta: 7.5 }".to_owned(),
            format!(
                "info g sim Gauge {{ points: [{}, {}, {}] }}",
                point(2, "2.0"),
                point(1, "1.0"),
                point(0, "0.0")
            ),
        ]
    );
}

#[test]
fn malformed_messages_and_other_levels_are_counted_by_reason() {
    let mut worker = Worker::new(Config::default(), T0);
    let mut publisher = Publisher::new(1, T0 + 1);
    publisher.level = "other".to_owned();
    publisher.count("c", 1);
    let other = publisher.emit(Emit::Key, T0 + 1_000);
    let cases: [(&[u8], &str); 6] = [
        (&other[0], refusal::LEVEL),
        (b"other|Counter|c|1|1700000001|s", refusal::LEVEL),
        (b"\x01info\0\x10", "length"),
        (b"\x03info\0", refusal::UNKNOWN),
        (b"info|Counter|c|NaN|1|s", "not_finite"),
        (b"", "field_count"),
    ];
    for (message, reason) in cases {
        assert_eq!(worker.receive(message, T0 + 1_000), Applied::Refused(reason));
    }
    let message = Message::Replayed { level: LEVEL.into(), untopiced: vec![0x20; 100] };
    let replayed = Incoming { endpoint: 0, message };
    assert_eq!(worker.ledger.receive(&replayed, T0), Applied::Refused("version"));
    let counts = worker.ledger.counts();
    assert_eq!((counts.refused(refusal::LEVEL), counts.refused("not_finite")), (2, 1));
    assert_eq!((counts.accepted, worker.ledger.series()), (Default::default(), 0));
}

#[test]
fn a_hostile_publisher_harms_only_its_own_numbers() {
    let mut worker = Worker::new(Config::default(), T0);
    let mut good = Publisher::new(1, T0 + 1);
    for round in 0..4 * RANGES_MAX as u64 {
        let now_ms = T0 + 1_000 + round;
        // Numbers all over the range, and sums that go down.
        let mut bad = Publisher::new(2 + (round % 2) as u8, T0 + 1);
        bad.seq = (u64::MAX / 300) * round;
        bad.count("c", 1_000 - round);
        bad.time("t", 1);
        for message in bad.emit(if round % 3 == 0 { Emit::Key } else { Emit::Window }, now_ms) {
            worker.receive(&message, now_ms);
        }
        good.count("good", 1);
        for message in good.emit(Emit::Window, now_ms) {
            worker.receive(&message, now_ms);
        }
        if round % 50 == 0 {
            worker.flush(Fate::Committed, now_ms);
        }
    }
    assert!(worker.ledger.counts().dropped.contains_key(drop_reason::OVERFLOW));
    worker.flush(Fate::Committed, T0 + 5_000);
    assert_eq!(worker.kept.counters["good"], good.truth.counters["good"]);
}
