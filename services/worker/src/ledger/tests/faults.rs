//! Loss, repetition, disorder, two brokers and SIGKILL: totals are exact whatever happens.

use super::model::*;
use crate::ledger::Config;

/// What the network does to each message, in per cent.
#[derive(Clone, Copy)]
struct Faults {
    dropped: u64,
    repeated: u64,
    delayed: u64,
    /// Whether frames travel over two brokers, each with these faults.
    two_brokers: bool,
    killed: bool,
}

const ALL: Faults = Faults { dropped: 30, repeated: 30, delayed: 30, two_brokers: false, killed: true };

/// What is under way: when it arrives, in windows, and the message.
#[derive(Default)]
struct Network {
    under_way: Vec<(u64, Vec<u8>)>,
}

impl Network {
    fn send(&mut self, message: &[u8], window: u64, faults: Faults, random: &mut Random) {
        for _ in 0..=u64::from(faults.two_brokers) {
            if random.percent(faults.dropped) {
                continue;
            }
            for _ in 0..=u64::from(random.percent(faults.repeated)) {
                let delay = if random.percent(faults.delayed) { random.below(15) } else { 0 };
                self.under_way.push((window + delay, message.to_vec()));
            }
        }
    }

    fn due(&mut self, window: u64) -> Vec<Vec<u8>> {
        let (due, later) = self.under_way.drain(..).partition(|(at, _)| *at <= window);
        self.under_way = later;
        due.into_iter().map(|(_, message): (u64, Vec<u8>)| message).collect()
    }
}

/// Runs three publishers through the faults and compares what was recorded with what was kept.
fn run(seed: u64, faults: Faults) -> Worker {
    let mut random = Random(seed);
    let join_age_ms = if seed.is_multiple_of(2) { 0 } else { 60_000 };
    let mut worker = Worker::new(Config { join_age_ms, ..Config::default() }, T0);
    let mut publishers: Vec<_> = (1..=3).map(|id| Publisher::new(id, T0 + 500)).collect();
    publishers[0].clock_offset_ms = -300_000;
    publishers[1].clock_offset_ms = 300_000;
    let mut network = Network::default();
    // What a broker keeps: the last key frame of each publisher and what came after it.
    let mut kept: Vec<Vec<Vec<u8>>> = vec![Vec::new(); publishers.len()];
    let windows = 60 + random.below(40);
    for window in 1..=windows {
        let now_ms = T0 + 500 + window * 1_000;
        for (publisher, kept) in publishers.iter_mut().zip(&mut kept) {
            publisher.record(&mut random, now_ms);
            let emit = if window.is_multiple_of(10) { Emit::Key } else { Emit::Window };
            let messages = publisher.emit(emit, now_ms);
            messages.iter().for_each(|message| network.send(message, window, faults, &mut random));
            if emit == Emit::Key {
                kept.clear();
            }
            kept.extend(messages);
        }
        for message in network.due(window) {
            worker.receive(&message, now_ms);
        }
        if random.percent(20) {
            let fate = match random.below(4) {
                0 => Fate::Aborted,
                1 if faults.killed => Fate::KilledBefore,
                2 if faults.killed => Fate::KilledAfter,
                _ => Fate::Committed,
            };
            worker.flush(fate, now_ms);
        }
        if random.percent(5) {
            let mut kept: Vec<_> = kept.iter().flatten().collect();
            random.shuffle(&mut kept);
            for message in kept {
                worker.replay(message, random.below(2_000) as u32, now_ms);
            }
        }
    }
    let now_ms = T0 + 500 + (windows + 1) * 1_000;
    for publisher in &mut publishers {
        let end = publisher.emit(Emit::End, now_ms);
        // The client repeats the end frame until it is acknowledged.
        let mut arrived = vec![false; end.len()];
        while arrived.contains(&false) {
            for (message, arrived) in end.iter().zip(&mut arrived) {
                if !random.percent(faults.dropped) {
                    worker.receive(message, now_ms);
                    *arrived = true;
                }
            }
        }
    }
    for message in network.due(u64::MAX) {
        worker.receive(&message, now_ms);
    }
    if faults.killed && random.percent(50) {
        worker.flush(Fate::KilledAfter, now_ms);
    }
    worker.flush(Fate::Committed, now_ms + 1_000);
    // Without the buckets in the message: they fill pages.
    let expected = sum(&publishers);
    assert_eq!(worker.kept.counters, expected.counters, "seed {seed}");
    assert!(worker.kept.timers == expected.timers, "seed {seed}: timers differ");
    check_gauges(&worker, &publishers, seed);
    let counts = worker.ledger.counts();
    assert_eq!((counts.joined_late_series, counts.gaps_open, counts.gaps_lost), (0, 0, 0), "seed {seed}");
    worker
}

fn check_gauges(worker: &Worker, publishers: &[Publisher], seed: u64) {
    for (name, points) in &worker.points {
        let values: Vec<f64> = publishers
            .iter()
            .filter_map(|publisher| publisher.gauge_truth.get(name))
            .map(|truth| truth.1)
            .collect();
        for value in values {
            assert!(
                points.iter().any(|point| point.value == value),
                "seed {seed}: last value of {name} is missing"
            );
        }
        let mut seen = points.clone();
        seen.sort_by_key(|point| point.time_ms);
        // Publishers may set at one instant: three at most.
        assert!(seen.windows(4).all(|four| four[0].time_ms != four[3].time_ms), "seed {seed}: {name} twice");
    }
}

#[test]
fn totals_are_exact_over_a_network_that_loses_repeats_and_reorders() {
    for seed in 0..40 {
        run(seed, Faults { killed: false, ..ALL });
    }
}

#[test]
fn totals_are_exact_when_the_worker_is_killed_at_any_point_of_a_flush() {
    for seed in 100..140 {
        run(seed, ALL);
    }
}

#[test]
fn two_brokers_count_nothing_twice() {
    for seed in 200..220 {
        let worker = run(seed, Faults { two_brokers: true, killed: false, ..ALL });
        assert!(worker.ledger.counts().duplicate_frames > 0);
    }
}

#[test]
fn every_set_of_a_gauge_is_accepted_and_shown_or_merged() {
    for seed in 300..310 {
        let mut publisher = Publisher::new(1, T0 + 500);
        let mut random = Random(seed);
        let mut worker = Worker::new(Config::default(), T0);
        for window in 1..=50 {
            let now_ms = T0 + window * 1_000;
            publisher.record(&mut random, now_ms);
            for message in publisher.emit(if window == 50 { Emit::End } else { Emit::Window }, now_ms) {
                if window == 50 || !random.percent(30) {
                    worker.receive(&message, now_ms);
                }
            }
        }
        worker.flush(Fate::Committed, T0 + 51_000);
        let sets: u64 = publisher.gauge_truth.values().map(|truth| truth.0).sum();
        let counts = worker.ledger.counts();
        assert_eq!(counts.accepted.gauges, u128::from(sets));
        assert_eq!(counts.flushed.gauges, worker.points.values().map(|points| points.len() as u128).sum());
        for (name, (_, last)) in &publisher.gauge_truth {
            assert_eq!(worker.points[name].last().unwrap().value, *last);
        }
    }
}

#[test]
fn what_arrives_between_prepare_and_commit_belongs_to_the_next_flush() {
    let mut worker = Worker::new(Config::default(), T0);
    let mut publisher = Publisher::new(1, T0 + 1);
    let mut window = |worker: &mut Worker, n, now_ms| {
        publisher.count("c", n);
        publisher.time("t", n);
        publisher.set("g", n as f64, now_ms);
        for message in publisher.emit(Emit::Window, now_ms) {
            worker.receive(&message, now_ms);
        }
    };
    window(&mut worker, 5, T0 + 1_000);
    let first = worker.ledger.prepare_flush(T0 + 1_500);
    assert_eq!(first.changes.measurements().len(), 3);
    window(&mut worker, 7, T0 + 2_000);
    let held = worker.ledger.counts().held;
    assert_eq!((held.counters, held.timers, held.gauges), (12, 2, 2));
    worker.ledger.commit_flush();
    let held = worker.ledger.counts().held;
    assert_eq!((held.counters, held.timers, held.gauges), (7, 1, 1));
    worker.flush(Fate::Committed, T0 + 2_500);
    assert_eq!(worker.kept.counters["c"], 7);
    assert_eq!(worker.kept.timers["t"].sum_ns, 7);
    assert_eq!(worker.points["g"].len(), 1);
}

#[test]
fn an_aborted_flush_is_part_of_the_next_one() {
    let mut worker = Worker::new(Config::default(), T0);
    let mut publisher = Publisher::new(1, T0 + 1);
    let mut aborted = Vec::new();
    for n in [5, 7, 2] {
        let now_ms = T0 + n * 1_000;
        publisher.count("c", n);
        publisher.time("t", n);
        publisher.set("g", n as f64, now_ms);
        publisher.emit(Emit::Window, now_ms).iter().for_each(|message| {
            worker.receive(message, now_ms);
        });
        worker.receive(format!("{LEVEL}|Counter|old|{n}|1700000001|s").as_bytes(), now_ms);
        worker.receive(format!("{LEVEL}|Timer|old_t|{n}|1700000001|s").as_bytes(), now_ms);
        for fate in [Fate::Aborted, if n == 2 { Fate::Committed } else { Fate::Aborted }] {
            let flush = worker.flush(fate, now_ms);
            let keys: Vec<_> = flush.rows.iter().map(|(key, _)| key.to_vec()).collect();
            assert!(
                aborted.iter().all(|key| keys.contains(key)),
                "rows of an aborted flush are written again"
            );
            aborted = keys;
        }
    }
    assert_eq!(worker.kept.counters["c"], 14);
    assert_eq!(worker.kept.counters["old"], 14);
    assert_eq!(worker.kept.timers["t"].count, 3);
    assert_eq!(worker.kept.timers["t"].histogram.total(), 3);
    assert_eq!(worker.kept.timers["old_t"].count, 3);
    assert_eq!(worker.min_max["t"], (2, 7));
    assert_eq!(worker.points["g"].len(), 3);
    assert!(worker.flush(Fate::Committed, T0 + 9_000).measurements.is_empty());
}

#[test]
fn only_changed_rows_are_written() {
    let mut worker = Worker::new(Config::default(), T0);
    let mut publisher = Publisher::new(1, T0 + 1);
    for n in 0..10 {
        publisher.count(&format!("c{n}"), 1);
    }
    publisher.emit(Emit::Key, T0 + 1_000).iter().for_each(|message| {
        worker.receive(message, T0 + 1_000);
    });
    // Ten series and their publisher; ledger and level were written before.
    assert_eq!(worker.flush(Fate::Committed, T0 + 2_000).rows.len(), 11);
    assert!(worker.flush(Fate::Committed, T0 + 3_000).rows.is_empty());
    publisher.count("c3", 1);
    publisher.emit(Emit::Window, T0 + 4_000).iter().for_each(|message| {
        worker.receive(message, T0 + 4_000);
    });
    assert_eq!(worker.flush(Fate::Committed, T0 + 5_000).rows.len(), 2);
}
