//! Where a series starts to count.

use super::model::*;
use crate::ledger::{Config, FORGOTTEN_MARGIN_MS};

const MINUTE: u64 = 60_000;

fn send(worker: &mut Worker, messages: &[Vec<u8>], now_ms: u64) {
    messages.iter().for_each(|message| {
        worker.receive(message, now_ms);
    });
}

/// One of each kind.
fn record(publisher: &mut Publisher, now_ms: u64) {
    publisher.count("c", 5);
    publisher.time("t", 1_000);
    publisher.set("g", 3.0, now_ms);
}

#[test]
fn a_level_added_later_posts_no_old_history() {
    let mut worker = Worker::new(Config::default(), T0);
    let mut publisher = Publisher::new(1, T0 + MINUTE);
    publisher.level = "debug".to_owned();
    record(&mut publisher, T0 + MINUTE);
    record(&mut publisher, T0 + MINUTE);
    let now_ms = T0 + 10 * MINUTE;
    worker.subscribe("debug", now_ms);
    let key = publisher.emit(Emit::Key, now_ms + 500);
    send(&mut worker, &key, now_ms + 500);
    let flush = worker.flush(Fate::Committed, now_ms + 600);
    assert!(flush.measurements.is_empty());
    let counts = worker.ledger.counts();
    assert_eq!(counts.joined_late_series, 3);
    let late = counts.joined_late;
    assert_eq!((late.counters, late.timers, late.gauges), (10, 2, 2));
    publisher.truth = Totals::default();
    // From here on everything counts, series that appear later from their start.
    record(&mut publisher, now_ms + 700);
    publisher.count("new", 7);
    let window = publisher.emit(Emit::Window, now_ms + 1_000);
    send(&mut worker, &window, now_ms + 1_000);
    worker.flush(Fate::Committed, now_ms + 2_000);
    assert_eq!(worker.kept, sum([&publisher]));
    assert_eq!(worker.points["g"].len(), 1);
    assert_eq!(worker.ledger.counts().joined_late_series, 3);
}

#[test]
fn a_young_publisher_counts_from_zero_although_it_started_before_the_ledger() {
    for (age_ms, counts) in [(MINUTE - 1, true), (MINUTE, false)] {
        let mut worker = Worker::new(Config::default(), T0);
        let mut publisher = Publisher::new(1, T0 + 10 - age_ms);
        publisher.count("c", 5);
        let key = publisher.emit(Emit::Key, T0 + 10);
        send(&mut worker, &key, T0 + 10);
        worker.flush(Fate::Committed, T0 + 20);
        assert_eq!(worker.kept.counters.contains_key("c"), counts, "age {age_ms}");
    }
}

#[test]
fn a_publisher_that_started_after_the_horizon_counts_from_zero_at_any_age() {
    let mut worker = Worker::new(Config { join_age_ms: 0, ..Config::default() }, T0);
    let mut publisher = Publisher::new(1, T0 + 1);
    publisher.clock_offset_ms = -300_000;
    publisher.count("c", 5);
    let now_ms = T0 + 60 * MINUTE;
    let window = publisher.emit(Emit::Window, now_ms);
    send(&mut worker, &window, now_ms);
    worker.flush(Fate::Committed, now_ms);
    assert_eq!(worker.kept, sum([&publisher]));
}

#[test]
fn only_a_complete_key_frame_makes_later_series_new() {
    let mut worker = Worker::new(Config::default(), T0);
    let mut publisher = Publisher::new(1, T0 - 10 * MINUTE);
    for name in ["a", "b", "c", "d"] {
        publisher.count(name, 5);
    }
    // Four series are two parts; the second is late.
    let key = publisher.emit(Emit::Key, T0 + 1_000);
    publisher.count("d", 1);
    let window = publisher.emit(Emit::Window, T0 + 2_000);
    send(&mut worker, &key[..1], T0 + 1_000);
    send(&mut worker, &window, T0 + 2_000);
    assert_eq!(worker.ledger.counts().joined_late.counters, 16);
    send(&mut worker, &key[1..], T0 + 2_500);
    // Now `c` is known, and the key frame is complete.
    assert_eq!(worker.ledger.counts().joined_late.counters, 21);
    publisher.count("e", 9);
    let window = publisher.emit(Emit::Window, T0 + 3_000);
    send(&mut worker, &window, T0 + 3_000);
    worker.flush(Fate::Committed, T0 + 4_000);
    assert_eq!(worker.kept.counters, [("e".to_owned(), 9)].into());
}

#[test]
fn a_key_frame_of_which_only_late_parts_came_is_not_complete() {
    let mut worker = Worker::new(Config::default(), T0);
    let mut publisher = Publisher::new(1, T0 - 10 * MINUTE);
    for name in ["a", "b", "c", "d"] {
        publisher.count(name, 5);
    }
    let key = publisher.emit(Emit::Key, T0 + 1_000);
    publisher.count("d", 1);
    let window = publisher.emit(Emit::Window, T0 + 2_000);
    send(&mut worker, &window, T0 + 2_000);
    send(&mut worker, &key[1..], T0 + 2_000);
    // Part 0 with `a` and `b` is still unknown, so they join late.
    publisher.count("a", 1);
    let window = publisher.emit(Emit::Window, T0 + 3_000);
    send(&mut worker, &window, T0 + 3_000);
    assert!(worker.flush(Fate::Committed, T0 + 4_000).measurements.is_empty());
    assert_eq!(worker.ledger.counts().joined_late.counters, 6 + 5 + 6);
}

#[test]
fn a_publisher_that_lived_while_the_worker_was_down_is_counted_whole_from_a_replay_in_any_order() {
    for seed in 0..20 {
        let mut random = Random(seed);
        let mut worker = Worker::new(Config::default(), T0);
        let mut publisher = Publisher::new(1, T0 + 5 * MINUTE);
        let mut kept = Vec::new();
        for window in 1..=25 {
            let now_ms = T0 + 5 * MINUTE + window * 1_000;
            publisher.record(&mut random, now_ms);
            let emit = match window {
                25 => Emit::End,
                10 | 20 => Emit::Key,
                _ => Emit::Window,
            };
            if emit != Emit::Window && seed % 2 == 0 {
                kept.clear();
            }
            kept.extend(publisher.emit(emit, now_ms));
        }
        let now_ms = T0 + 30 * MINUTE;
        worker.restart(now_ms);
        for _ in 0..2 {
            random.shuffle(&mut kept);
            for message in &kept {
                worker.replay(message, (25 * MINUTE - 25_000) as u32, now_ms);
            }
        }
        worker.flush(Fate::Committed, now_ms);
        assert_eq!(worker.kept, sum([&publisher]), "seed {seed}");
        assert_eq!(worker.ledger.counts().ended, 1);
    }
}

#[test]
fn a_fresh_ledger_posts_nothing_of_the_broker_s_memory_from_before_it() {
    let mut worker = Worker::new(Config::default(), T0);
    // It lived for ten seconds, and ended long ago: it is young in its frames only.
    let mut publisher = Publisher::new(1, T0 - 30 * MINUTE);
    record(&mut publisher, T0 - 30 * MINUTE);
    let end = publisher.emit(Emit::End, T0 - 30 * MINUTE + 10_000);
    for message in &end {
        worker.replay(message, (30 * MINUTE - 10_000) as u32, T0 + 1_000);
    }
    assert!(worker.flush(Fate::Committed, T0 + 2_000).measurements.is_empty());
    assert_eq!(worker.ledger.counts().joined_late_series, 3);
}

#[test]
fn a_restored_ledger_keeps_the_horizons_and_knows_what_it_flushed() {
    let mut worker = Worker::new(Config { join_age_ms: 0, ..Config::default() }, T0);
    let mut publisher = Publisher::new(1, T0 + 1_000);
    record(&mut publisher, T0 + 2_000);
    let key = publisher.emit(Emit::Key, T0 + 2_000);
    send(&mut worker, &key, T0 + 2_000);
    worker.flush(Fate::Committed, T0 + 3_000);
    worker.restart(T0 + 5 * MINUTE);
    let mut other = Publisher::new(2, T0 + 4 * MINUTE);
    for publisher in [&mut publisher, &mut other] {
        record(publisher, T0 + 6 * MINUTE);
        let key = publisher.emit(Emit::Key, T0 + 6 * MINUTE);
        send(&mut worker, &key, T0 + 6 * MINUTE);
    }
    worker.flush(Fate::Committed, T0 + 7 * MINUTE);
    assert_eq!(worker.kept, sum([&publisher, &other]));
}

#[test]
fn damaged_rows_are_counted_and_nothing_is_counted_twice() {
    for seed in 0..30 {
        let mut random = Random(seed);
        let mut worker = Worker::new(Config::default(), T0);
        let mut publishers = [Publisher::new(1, T0 + 1_000), Publisher::new(2, T0 + 1_000)];
        for publisher in &mut publishers {
            for name in 0..10 {
                publisher.count(&format!("c{name}"), 5);
                publisher.time(&format!("t{name}"), 5);
            }
            let key = publisher.emit(Emit::Key, T0 + 2_000);
            send(&mut worker, &key, T0 + 2_000);
        }
        worker.flush(Fate::Committed, T0 + 3_000);
        let damaged = random.below(worker.rows.len() as u64) as usize;
        let value = worker.rows.values_mut().nth(damaged).unwrap();
        let at = random.below(value.len() as u64) as usize;
        value[at] ^= 1 << random.below(8);
        worker.restart(T0 + 4_000);
        assert!(worker.ledger.counts().rows_damaged > 0);
        for publisher in &mut publishers {
            let key = publisher.emit(Emit::Key, T0 + 5_000);
            send(&mut worker, &key, T0 + 5_000);
        }
        assert!(
            worker.flush(Fate::Committed, T0 + 6_000).measurements.is_empty(),
            "seed {seed} row {damaged}"
        );
        // And it goes on from there.
        for publisher in &mut publishers {
            publisher.count("c3", 2);
            let window = publisher.emit(Emit::Window, T0 + 7_000);
            send(&mut worker, &window, T0 + 7_000);
        }
        assert_eq!(worker.flush(Fate::Committed, T0 + 8_000).measurements.len(), 1);
        assert_eq!(worker.kept.counters["c3"], 14);
    }
}

#[test]
fn a_forgotten_publisher_that_comes_back_is_not_counted_again() {
    let config = Config { forget_ms: 20_000, ..Config::default() };
    let mut worker = Worker::new(config, T0);
    let mut publisher = Publisher::new(1, T0 + 1_000);
    record(&mut publisher, T0 + 2_000);
    let end = publisher.emit(Emit::End, T0 + 2_000);
    send(&mut worker, &end, T0 + 2_000);
    let mut now_ms = T0 + 2_000;
    while worker.ledger.publishers() > 0 {
        now_ms += 5_000;
        worker.flush(Fate::Committed, now_ms);
        assert!(now_ms < T0 + MINUTE, "never forgotten");
    }
    assert!(now_ms > T0 + 22_000);
    assert_eq!((worker.ledger.series(), worker.ledger.names.len()), (0, 0));
    assert!(worker.flush(Fate::Committed, now_ms).removed.is_empty(), "once is enough");
    // Ledger and level are all that is left.
    assert_eq!(worker.rows.len(), 2);
    let kept = worker.kept.clone();
    now_ms += 2 * MINUTE;
    for message in &end {
        worker.replay(message, (now_ms - T0 - 2_000) as u32 - 300, now_ms);
    }
    worker.flush(Fate::Committed, now_ms);
    assert_eq!(worker.kept, kept);
    assert_eq!(worker.ledger.counts().joined_late_series, 3);
    // One that started later is new.
    let mut other = Publisher::new(2, T0 + 1_000 + FORGOTTEN_MARGIN_MS + 1);
    other.count("c", 1);
    let key = other.emit(Emit::Key, now_ms);
    send(&mut worker, &key, now_ms);
    worker.flush(Fate::Committed, now_ms);
    assert_eq!(worker.kept.counters["c"], 6);
}

#[test]
fn a_publisher_that_comes_back_before_its_removal_is_committed_keeps_its_rows() {
    let mut worker = Worker::new(Config { forget_ms: 4_000, ..Config::default() }, T0);
    let mut publisher = Publisher::new(1, T0 + 1_000);
    publisher.count("c", 5);
    let end = publisher.emit(Emit::End, T0 + 2_000);
    send(&mut worker, &end, T0 + 2_000);
    worker.flush(Fate::Committed, T0 + 2_000);
    let removed = worker.flush(Fate::Aborted, T0 + 9_000).removed;
    assert_eq!(removed.len(), 2);
    assert_eq!(worker.ledger.publishers(), 0);
    let now_ms = T0 + 300_000;
    for message in &end {
        worker.replay(message, 298_000, now_ms);
    }
    let flush = worker.flush(Fate::Committed, now_ms);
    assert!(
        flush.removed.is_empty()
            && flush.rows.iter().filter(|(key, _)| removed.iter().any(|removed| removed == key)).count() == 2
    );
    worker.restart(now_ms);
    assert_eq!(worker.ledger.series(), 1);
}
