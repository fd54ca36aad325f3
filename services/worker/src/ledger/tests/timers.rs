//! Buckets that come as differences, and min and max.

use super::model::*;
use crate::ledger::{BUCKET_PATIENCE_KEY_PERIODS, BUCKET_PATIENCE_MS_MIN, Config};

fn started() -> (Worker, Publisher) {
    (Worker::new(Config::default(), T0), Publisher::new(1, T0 + 1))
}

fn send(worker: &mut Worker, messages: &[Vec<u8>], now_ms: u64) {
    messages.iter().for_each(|message| {
        worker.receive(message, now_ms);
    });
}

#[test]
fn min_and_max_are_the_windows_while_nothing_is_missing() {
    let (mut worker, mut publisher) = started();
    for (window, ns) in [(1, 1_000_003), (2, 5), (3, 77_777_777), (4, 0)] {
        publisher.time("t", ns);
        // Windows of other series lie between, and may not count as a gap.
        publisher.count("c", 1);
        let messages =
            publisher.emit(if window == 2 { Emit::Key } else { Emit::Window }, T0 + window * 1_000);
        send(&mut worker, &messages, T0 + window * 1_000);
        publisher.count("c", 1);
        let messages = publisher.emit(Emit::Window, T0 + window * 1_000 + 500);
        send(&mut worker, &messages, T0 + window * 1_000 + 500);
        worker.min_max.clear();
        worker.flush(Fate::Committed, T0 + window * 1_000 + 600);
        assert_eq!(worker.min_max["t"], (ns, ns));
    }
}

#[test]
fn after_a_gap_min_and_max_are_the_bounds_of_the_buckets_that_grew() {
    let (mut worker, mut publisher) = started();
    publisher.time("t", 50);
    let first = publisher.emit(Emit::Key, T0 + 1_000);
    send(&mut worker, &first, T0 + 1_000);
    worker.flush(Fate::Committed, T0 + 1_500);
    worker.min_max.clear();
    publisher.time("t", 1_000);
    publisher.time("t", 9_000_000);
    let _lost = publisher.emit(Emit::Window, T0 + 2_000);
    publisher.time("t", 30_000);
    let third = publisher.emit(Emit::Window, T0 + 3_000);
    send(&mut worker, &third, T0 + 3_000);
    worker.flush(Fate::Committed, T0 + 3_500);
    let (min, max) = worker.min_max["t"];
    assert!((975..=1_000).contains(&min), "{min}");
    assert!((9_000_000..9_250_000).contains(&max), "{max}");
    assert_eq!(worker.kept.timers["t"].count, 4);
}

#[test]
fn buckets_wait_for_their_key_frame_and_the_flush_waits_with_them() {
    let (mut worker, mut publisher) = started();
    publisher.time("t", 50);
    let key = publisher.emit(Emit::Key, T0 + 1_000);
    publisher.time("t", 70);
    let difference = publisher.emit(Emit::Window, T0 + 2_000);
    send(&mut worker, &difference, T0 + 2_000);
    assert_eq!(worker.ledger.counts().buckets_waiting, 1);
    assert!(worker.flush(Fate::Committed, T0 + 2_500).measurements.is_empty());
    assert_eq!(worker.ledger.counts().held.timers, 2);
    // It is older than what is known, but its buckets are what was missing.
    worker.replay(&key[0], 1_000, T0 + 3_000);
    worker.flush(Fate::Committed, T0 + 3_500);
    assert_eq!(worker.kept, sum([&publisher]));
}

#[test]
fn a_flush_does_not_wait_for_buckets_for_ever_and_they_come_with_later_records() {
    let (mut worker, mut publisher) = started();
    publisher.time("t", 50);
    let _lost = publisher.emit(Emit::Key, T0 + 1_000);
    assert_eq!(BUCKET_PATIENCE_KEY_PERIODS, 30);
    for second in 2..310 {
        publisher.time("t", 70 * second);
        let messages = publisher.emit(Emit::Window, T0 + second * 1_000);
        send(&mut worker, &messages, T0 + second * 1_000);
        let flush = worker.flush(Fate::Committed, T0 + second * 1_000 + 500);
        assert_eq!(flush.measurements.is_empty(), second < 302, "second {second}");
    }
    assert_eq!(worker.kept.timers["t"].histogram.total(), 0);
    publisher.time("t", 1);
    let key = publisher.emit(Emit::Key, T0 + 311_000);
    send(&mut worker, &key, T0 + 311_000);
    worker.flush(Fate::Committed, T0 + 311_500);
    assert_eq!(worker.kept, sum([&publisher]));
}

#[test]
fn with_short_windows_a_flush_waits_for_buckets_as_long_as_several_replays_may_take() {
    for is_found in [true, false] {
        let (mut worker, mut publisher) = started();
        publisher.window_ms = 20;
        publisher.time("t", 50);
        let key = publisher.emit(Emit::Key, T0 + 20);
        publisher.time("t", 70);
        let difference = publisher.emit(Emit::Window, T0 + 40);
        send(&mut worker, &difference, T0 + 40);
        for second in 1..=BUCKET_PATIENCE_MS_MIN / 1_000 {
            assert!(
                worker.flush(Fate::Committed, T0 + second * 1_000).measurements.is_empty(),
                "second {second}"
            );
        }
        if is_found {
            worker.replay(&key[0], 59_000, T0 + BUCKET_PATIENCE_MS_MIN + 10);
        }
        worker.flush(Fate::Committed, T0 + BUCKET_PATIENCE_MS_MIN + 50);
        let timer = &worker.kept.timers["t"];
        assert_eq!((timer.count, timer.histogram.total()), (2, if is_found { 2 } else { 0 }));
    }
}

#[test]
fn a_timer_that_waited_when_the_worker_was_killed_is_whole_afterwards() {
    let (mut worker, mut publisher) = started();
    publisher.time("t", 50);
    let first = publisher.emit(Emit::Window, T0 + 1_000);
    send(&mut worker, &first, T0 + 1_000);
    worker.flush(Fate::Committed, T0 + 1_100);
    let key = publisher.emit(Emit::Key, T0 + 1_200);
    publisher.time("t", 7_000);
    let difference = publisher.emit(Emit::Window, T0 + 2_000);
    send(&mut worker, &difference, T0 + 2_000);
    worker.flush(Fate::KilledAfter, T0 + 2_500);
    // The publisher is killed too: all there is comes from the broker's memory.
    worker.replay(&difference[0], 1_500, T0 + 3_000);
    worker.replay(&key[0], 1_500, T0 + 3_000);
    worker.min_max.clear();
    worker.flush(Fate::Committed, T0 + 3_500);
    assert_eq!(worker.kept, sum([&publisher]));
    let (min, max) = worker.min_max["t"];
    assert!((6_800..=7_000).contains(&min) && (7_000..7_200).contains(&max), "{min} {max}");
}

#[test]
fn a_scale_that_falls_between_two_flushes_loses_no_bucket() {
    let (mut worker, mut publisher) = started();
    for second in 1..20u64 {
        publisher.time("t", 1_000_000);
        if second >= 5 {
            publisher.time("t", 1 << (second * 3));
        }
        let messages =
            publisher.emit(if second == 10 { Emit::Key } else { Emit::Window }, T0 + second * 1_000);
        send(&mut worker, &messages, T0 + second * 1_000);
        worker.flush(Fate::Committed, T0 + second * 1_000 + 100);
    }
    assert!(worker.kept.timers["t"].histogram.scale() < 5);
    assert_eq!(worker.kept, sum([&publisher]));
}

#[test]
fn sums_and_numbers_near_their_end_wrap_into_the_right_differences() {
    let (mut worker, mut publisher) = started();
    publisher.seq = u64::MAX - 40;
    publisher.count("c", u64::MAX - 5);
    publisher.time("t", u64::MAX - 5);
    for second in 1..6 {
        let messages =
            publisher.emit(if second == 1 { Emit::Key } else { Emit::Window }, T0 + second * 1_000);
        send(&mut worker, &messages, T0 + second * 1_000);
        worker.flush(Fate::Committed, T0 + second * 1_000 + 1);
        publisher.count("c", 100);
        publisher.time("t", 100);
    }
    let end = publisher.emit(Emit::End, T0 + 7_000);
    send(&mut worker, &end, T0 + 7_000);
    worker.flush(Fate::Committed, T0 + 8_000);
    let truth = sum([&publisher]);
    assert_eq!(worker.kept.timers["t"].sum_ns, truth.timers["t"].sum_ns);
    assert_eq!(worker.kept.timers["t"].sum_squares_ns2, truth.timers["t"].sum_squares_ns2);
    // The first flush was rounded to a double.
    let rest = worker.kept.counters["c"] - (u64::MAX - 5) as f64 as u128;
    assert_eq!(rest, 500);
    assert_eq!(worker.ledger.counts().accepted.counters, truth.counters["c"]);
}

#[test]
fn a_vanished_publisher_s_timers_do_not_wait_for_buckets() {
    let (mut worker, mut publisher) = started();
    worker.ledger.replay_wanted(T0);
    publisher.time("t", 50);
    let _lost = publisher.emit(Emit::Key, T0 + 1_000);
    publisher.time("t", 150);
    let difference = publisher.emit(Emit::Window, T0 + 2_000);
    send(&mut worker, &difference, T0 + 2_000);
    for second in 2..60 {
        for level in worker.ledger.replay_wanted(T0 + second * 1_000) {
            worker.ledger.replay_done(&level, true, T0 + second * 1_000);
        }
    }
    assert_eq!(worker.ledger.counts().vanished, 1);
    worker.flush(Fate::Committed, T0 + 60_000);
    let timer = &worker.kept.timers["t"];
    assert_eq!((timer.count, timer.sum_ns, timer.histogram.total()), (2, 200, 0));
    // Without buckets the mean is the only value that is known to lie between both.
    assert_eq!(worker.min_max["t"], (100, 100));
}

#[test]
fn a_second_kill_while_buckets_wait_loses_neither_them_nor_the_bounds() {
    for by_replay in [true, false] {
        let (mut worker, mut publisher) = started();
        publisher.time("t", 50);
        let key = publisher.emit(Emit::Key, T0 + 1_000);
        send(&mut worker, &key, T0 + 1_000);
        worker.flush(Fate::Committed, T0 + 1_100);
        worker.min_max.clear();
        // A restored ledger does not know the buckets of the key frame, so this one waits.
        worker.restart(T0 + 1_200);
        publisher.time("t", 7_000);
        let difference = publisher.emit(Emit::Window, T0 + 2_000);
        send(&mut worker, &difference, T0 + 2_000);
        worker.flush(Fate::KilledAfter, T0 + 2_500);
        if by_replay {
            // Both are known to have been received, and yet are needed.
            worker.replay(&difference[0], 1_500, T0 + 3_000);
            worker.replay(&key[0], 1_500, T0 + 3_000);
        } else {
            publisher.time("t", 100);
            let key = publisher.emit(Emit::Key, T0 + 3_000);
            send(&mut worker, &key, T0 + 3_000);
        }
        worker.flush(Fate::Committed, T0 + 3_500);
        assert_eq!(worker.kept, sum([&publisher]));
        let (min, max) = worker.min_max["t"];
        assert!(min <= if by_replay { 7_000 } else { 100 } && (7_000..7_200).contains(&max), "{min} {max}");
    }
}

#[test]
fn a_late_older_key_frame_does_not_replace_a_newer_base() {
    let (mut worker, mut publisher) = started();
    publisher.time("t", 50);
    let first = publisher.emit(Emit::Key, T0 + 1_000);
    publisher.time("t", 60);
    let second = publisher.emit(Emit::Key, T0 + 2_000);
    send(&mut worker, &second, T0 + 2_000);
    worker.flush(Fate::Committed, T0 + 2_050);
    worker.restart(T0 + 2_100);
    send(&mut worker, &second, T0 + 2_200);
    send(&mut worker, &first, T0 + 2_300);
    publisher.time("t", 70);
    let difference = publisher.emit(Emit::Window, T0 + 3_000);
    send(&mut worker, &difference, T0 + 3_000);
    assert_eq!(worker.ledger.counts().buckets_waiting, 0);
    worker.flush(Fate::Committed, T0 + 3_500);
    assert_eq!(worker.kept, sum([&publisher]));
}

#[test]
fn a_late_joined_timer_without_buckets_counts_what_follows_and_says_what_it_does_not_know() {
    let mut worker = Worker::new(Config::default(), T0);
    let mut publisher = Publisher::new(1, T0 - 600_000);
    publisher.time("t", 50);
    let _before = publisher.emit(Emit::Key, T0 - 1_000);
    publisher.time("t", 60);
    let difference = publisher.emit(Emit::Window, T0 + 1_000);
    send(&mut worker, &difference, T0 + 1_000);
    worker.flush(Fate::Committed, T0 + 1_500);
    assert!(worker.flush(Fate::Committed, T0 + 1_600).rows.is_empty(), "nothing of it waits for a flush");
    publisher.time("t", 70);
    let difference = publisher.emit(Emit::Window, T0 + 2_000);
    send(&mut worker, &difference, T0 + 2_000);
    assert!(worker.flush(Fate::Committed, T0 + 2_500).measurements.is_empty());
    publisher.time("t", 80);
    let key = publisher.emit(Emit::Key, T0 + 3_000);
    send(&mut worker, &key, T0 + 3_000);
    worker.flush(Fate::Committed, T0 + 3_500);
    let timer = &worker.kept.timers["t"];
    // Which bucket the one between the two states is in, nobody can tell.
    assert_eq!((timer.count, timer.sum_ns, timer.histogram.total()), (2, 150, 0));
    let counts = worker.ledger.counts();
    assert_eq!((counts.joined_late.timers, counts.buckets_unknown), (2, 2));
    publisher.time("t", 90);
    let window = publisher.emit(Emit::Window, T0 + 4_000);
    send(&mut worker, &window, T0 + 4_000);
    worker.flush(Fate::Committed, T0 + 4_500);
    assert_eq!(worker.kept.timers["t"].histogram.total(), 1);
}
