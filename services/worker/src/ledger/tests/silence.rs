//! Gaps, replays and publishers that fall silent.

use super::model::*;
use crate::ledger::{Applied, Config, REPLAY_INTERVAL_MS};

fn send(worker: &mut Worker, messages: &[Vec<u8>], now_ms: u64) {
    messages.iter().for_each(|message| {
        worker.receive(message, now_ms);
    });
}

/// A worker whose first replay is over, and a publisher with one key frame.
fn started() -> (Worker, Publisher) {
    let mut worker = Worker::new(Config::default(), T0);
    assert_eq!(*worker.ledger.replay_wanted(T0), [LEVEL.into()]);
    worker.ledger.replay_done(LEVEL, true, T0);
    let mut publisher = Publisher::new(1, T0 + 1);
    publisher.count("c", 1);
    let key = publisher.emit(Emit::Key, T0 + 1_000);
    send(&mut worker, &key, T0 + 1_000);
    (worker, publisher)
}

/// Counts gaps as seen, healed, lost and open.
fn gaps(worker: &Worker) -> (u128, u128, u128, u128) {
    let counts = worker.ledger.counts();
    (counts.gaps_seen, counts.gaps_healed, counts.gaps_lost, counts.gaps_open)
}

fn window(publisher: &mut Publisher, now_ms: u64) -> Vec<Vec<u8>> {
    publisher.count("c", 1);
    publisher.emit(Emit::Window, now_ms)
}

#[test]
fn a_gap_is_seen_and_healed_by_the_next_complete_key_frame() {
    let (mut worker, mut publisher) = started();
    for _ in 0..3 {
        window(&mut publisher, T0 + 2_000);
    }
    let after = window(&mut publisher, T0 + 3_000);
    send(&mut worker, &after, T0 + 3_000);
    assert_eq!(gaps(&worker), (3, 0, 0, 3));
    for name in ["d", "e"] {
        publisher.count(name, 1);
    }
    let key = publisher.emit(Emit::Key, T0 + 4_000);
    send(&mut worker, &key[..1], T0 + 4_000);
    assert_eq!(gaps(&worker).3, 3);
    send(&mut worker, &key[1..], T0 + 4_000);
    assert_eq!(gaps(&worker), (3, 3, 0, 0));
}

#[test]
fn a_late_frame_closes_its_gap() {
    let (mut worker, mut publisher) = started();
    let late = window(&mut publisher, T0 + 2_000);
    let after = window(&mut publisher, T0 + 3_000);
    send(&mut worker, &after, T0 + 3_000);
    send(&mut worker, &late, T0 + 3_000);
    assert_eq!(gaps(&worker), (1, 1, 0, 0));
    assert_eq!(worker.ledger.counts().old_states, 1);
}

#[test]
fn a_heartbeat_reveals_that_the_last_frame_was_lost() {
    let (mut worker, mut publisher) = started();
    window(&mut publisher, T0 + 2_000);
    assert_eq!(worker.receive(&publisher.heartbeat(T0 + 3_000), T0 + 3_000), Applied::Noted);
    assert_eq!(gaps(&worker), (1, 0, 0, 1));
    let counts = worker.ledger.counts();
    assert_eq!((counts.heartbeats, counts.duplicate_frames), (1, 0));
}

#[test]
fn an_unhealed_gap_asks_for_a_replay_after_two_key_periods_and_again() {
    let (mut worker, mut publisher) = started();
    window(&mut publisher, T0 + 2_000);
    let mut asked = Vec::new();
    for second in 3..60 {
        let now_ms = T0 + second * 1_000;
        let frames = window(&mut publisher, now_ms);
        send(&mut worker, &frames, now_ms);
        for level in worker.ledger.replay_wanted(now_ms) {
            asked.push(second);
            worker.ledger.replay_done(&level, true, now_ms);
        }
    }
    assert_eq!(asked, [24, 45]);
}

#[test]
fn a_replay_is_asked_for_at_the_start_after_a_connection_and_when_a_page_was_short_but_not_too_often() {
    let mut worker = Worker::new(Config::default(), T0);
    worker.subscribe("debug", T0);
    let wanted = |worker: &mut Worker, now_ms| {
        worker
            .ledger
            .replay_wanted(now_ms)
            .iter()
            .map(|level| level.to_string())
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(wanted(&mut worker, T0), "info debug");
    assert_eq!(wanted(&mut worker, T0 + 60_000), "");
    worker.ledger.replay_done("info", false, T0 + 60_000);
    worker.ledger.replay_done("debug", true, T0 + 60_000);
    assert_eq!(wanted(&mut worker, T0 + 60_001), "info");
    worker.ledger.connected(T0 + 60_002);
    assert_eq!(wanted(&mut worker, T0 + 60_003), "debug");
    assert_eq!(wanted(&mut worker, T0 + 60_001 + REPLAY_INTERVAL_MS - 1), "");
    assert_eq!(wanted(&mut worker, T0 + 60_001 + REPLAY_INTERVAL_MS), "info");
}

#[test]
fn a_silent_publisher_has_vanished_only_when_a_replay_brought_nothing() {
    let (mut worker, mut publisher) = started();
    window(&mut publisher, T0 + 1_500);
    worker.receive(&publisher.heartbeat(T0 + 2_000), T0 + 2_000);
    let mut second = 2;
    let asked = loop {
        second += 1;
        if !worker.ledger.replay_wanted(T0 + second * 1_000).is_empty() {
            break second;
        }
        assert!(second < 60, "never asked");
    };
    // Three windows and five seconds after it was heard at second 2.
    assert_eq!(asked, 11);
    for second in asked + 1..asked + 10 {
        worker.ledger.replay_wanted(T0 + second * 1_000);
        assert_eq!(worker.ledger.counts().vanished, 0, "the replay is still under way");
    }
    let now_ms = T0 + (asked + 10) * 1_000;
    worker.ledger.replay_done(LEVEL, true, now_ms);
    worker.ledger.replay_wanted(now_ms);
    let counts = worker.ledger.counts();
    assert_eq!((counts.vanished, counts.gaps_lost, counts.gaps_open), (1, 1, 0));
    worker.ledger.replay_wanted(now_ms + 60_000);
    assert_eq!(worker.ledger.counts().vanished, 1);
    // It was only cut off: it goes on, and nothing is missing in the sum.
    let frames = window(&mut publisher, now_ms + 61_000);
    send(&mut worker, &frames, now_ms + 61_000);
    worker.flush(Fate::Committed, now_ms + 62_000);
    assert_eq!(worker.kept, sum([&publisher]));
}

#[test]
fn a_replay_that_brings_something_new_keeps_a_publisher_from_vanishing() {
    let (mut worker, mut publisher) = started();
    let kept = window(&mut publisher, T0 + 2_000);
    let mut now_ms = T0 + 1_000;
    while worker.ledger.replay_wanted(now_ms).is_empty() {
        now_ms += 1_000;
    }
    worker.replay(&kept[0], 8_000, now_ms + 1_000);
    worker.ledger.replay_done(LEVEL, true, now_ms + 1_000);
    worker.ledger.replay_wanted(now_ms + 1_000);
    assert_eq!(worker.ledger.counts().vanished, 0);
    // The next replay brings the same again, and that is nothing.
    now_ms += 1_000;
    loop {
        now_ms += 1_000;
        let wanted = worker.ledger.replay_wanted(now_ms);
        worker.replay(&kept[0], 8_000, now_ms);
        wanted.iter().for_each(|level| worker.ledger.replay_done(level, true, now_ms));
        if worker.ledger.counts().vanished == 1 {
            break;
        }
        assert!(now_ms < T0 + 60_000, "never vanished");
    }
}

#[test]
fn an_ended_publisher_neither_vanishes_nor_asks_for_a_replay() {
    let (mut worker, mut publisher) = started();
    let end = publisher.emit(Emit::End, T0 + 2_000);
    send(&mut worker, &end, T0 + 2_000);
    send(&mut worker, &end, T0 + 2_100);
    for second in 3..200 {
        assert!(worker.ledger.replay_wanted(T0 + second * 1_000).is_empty());
    }
    let counts = worker.ledger.counts();
    assert_eq!((counts.ended, counts.vanished), (1, 0));
}

#[test]
fn a_clock_that_jumps_a_day_makes_nobody_vanish_and_counts_nothing_twice() {
    const DAY: u64 = 86_400_000;
    let (mut worker, mut publisher) = started();
    let mut age = 2_000;
    for offset in [0, DAY, 0, DAY - 3_600_000, 2 * DAY] {
        // The jump is noticed before the next frame, and nothing comes of it.
        worker.flush(Fate::Committed, T0 + offset + age);
        assert!(worker.ledger.replay_wanted(T0 + offset + age).is_empty());
        for _ in 0..5 {
            age += 1_000;
            let now_ms = T0 + offset + age;
            publisher.count("c", 1);
            publisher.count(&format!("new{age}"), 1);
            // The publisher's own clock is monotonic.
            let frames = publisher.emit(Emit::Window, T0 + age);
            send(&mut worker, &frames, now_ms);
            worker.flush(Fate::Committed, now_ms);
            worker.ledger.replay_wanted(now_ms);
        }
    }
    assert_eq!(worker.kept, sum([&publisher]));
    let counts = worker.ledger.counts();
    assert_eq!((counts.vanished, counts.forgotten, counts.joined_late_series), (0, 0, 0));
}

#[test]
fn a_replay_that_never_ends_is_asked_for_again() {
    let (mut worker, _publisher) = started();
    let asked: Vec<_> =
        (2..60).filter(|second| !worker.ledger.replay_wanted(T0 + second * 1_000).is_empty()).collect();
    // After the silence, then each time two key periods have passed.
    assert_eq!(asked, [10, 31, 52]);
    assert_eq!(worker.ledger.counts().vanished, 0);
}
