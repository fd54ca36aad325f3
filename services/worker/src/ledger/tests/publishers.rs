//! Who publishes.

use zibrato_core::frame::{About, Encoder, Frame, Header, Loss, Prelude, PublisherId, set_held_ms};
use zibrato_service::PublisherReport;

use super::model::{LEVEL, T0};
use crate::ledger::{Applied, Config, Ledger};

/// A frame of publisher `id` without series.
fn frame<'a>(id: u8, level: &str, edit: impl FnOnce(&mut Header, &mut Prelude<'a>)) -> Vec<u8> {
    let mut header = Header::new(PublisherId([id; 16]), 1);
    let mut prelude = Prelude { window_ms: 1_000, ..Prelude::default() };
    edit(&mut header, &mut prelude);
    let mut buffer = vec![0; 1 << 16];
    Encoder::new(&mut buffer, level, &header, &prelude).unwrap().finish().to_vec()
}

fn apply(ledger: &mut Ledger, message: &[u8], now_ms: u64) -> Applied {
    ledger.apply_frame(&Frame::parse(message).unwrap(), now_ms)
}

fn ledger(config: Config) -> Ledger {
    let mut ledger = Ledger::new(config, T0);
    ledger.subscribe_level(LEVEL, T0);
    ledger.subscribe_level("debug", T0);
    ledger
}

fn only(ledger: &Ledger) -> PublisherReport {
    let mut latest = ledger.latest_publishers(10, 10);
    assert_eq!(latest.len(), 1);
    latest.remove(0)
}

fn lose(counts: &[(u8, u64)]) -> impl Fn(&mut Header, &mut Prelude<'_>) {
    move |header, prelude| {
        header.seq = 1 + counts.iter().map(|(_, count)| count).sum::<u64>();
        prelude.losses = counts.iter().map(|&(reason, count)| Loss { reason, count }).collect();
    }
}

#[test]
fn a_publisher_is_one_over_all_its_levels_and_says_who_it_is_in_key_frames() {
    let mut ledger = ledger(Config::default());
    let long = "h".repeat(300);
    let about = About { program: "web\x1b[2J", host: &long, pid: 77, library: "1.2.3" };
    let key = frame(1, LEVEL, |header, prelude| {
        (header.flags.key, header.age_ms) = (true, 5_000);
        (prelude.about, prelude.window_end_ms) = (Some(about), T0 - 40);
    });
    apply(&mut ledger, &key, T0);
    apply(&mut ledger, &frame(1, "debug", |header, _| (header.seq, header.age_ms) = (3, 6_000)), T0 + 1_000);
    let report = only(&ledger);
    assert_eq!((report.id.as_str(), report.pid), ("01".repeat(16).as_str(), 77));
    assert_eq!((report.program.as_str(), report.version.as_str()), ("web_[2J", "1.2.3"));
    assert_eq!(report.host, "h".repeat(255));
    assert_eq!(report.levels, [LEVEL, "debug"]);
    assert_eq!((report.silent_ms, report.age_ms, report.gaps), (0, 6_000, 2));
    assert_eq!(report.clock_skew_ms, Some(-40), "the delta says no time");
    assert!(!report.ended && !report.vanished);
    assert_eq!(ledger.publishers_distinct(), 1);
    assert_eq!(ledger.latest_publishers(10, 1)[0].levels, [LEVEL]);
}

#[test]
fn the_skew_of_a_kept_frame_counts_the_time_it_was_held_and_a_live_one_is_better() {
    let mut ledger = ledger(Config::default());
    let mut kept = frame(1, LEVEL, |_, prelude| prelude.window_end_ms = T0 - 60_000);
    let topic_bytes = LEVEL.len() + 2;
    set_held_ms(&mut kept[topic_bytes..], 50_000);
    apply(&mut ledger, &kept, T0);
    assert_eq!(only(&ledger).clock_skew_ms, Some(-10_000));
    let ahead = frame(1, LEVEL, |header, prelude| {
        header.seq = 2;
        prelude.window_end_ms = T0 + 7_000;
    });
    apply(&mut ledger, &ahead, T0 + 1_000);
    assert_eq!(only(&ledger).clock_skew_ms, Some(6_000));
    apply(&mut ledger, &kept, T0 + 2_000);
    assert_eq!(only(&ledger).clock_skew_ms, Some(6_000));
}

#[test]
fn losses_are_the_publishers_own_cumulative_ones_however_its_frames_come() {
    let mut ledger = ledger(Config::default());
    apply(&mut ledger, &frame(1, LEVEL, lose(&[(0, 5), (6, 2)])), T0);
    // Both levels carry the same counts; one frame comes late and one twice.
    let later = frame(1, "debug", lose(&[(0, 7), (6, 2), (200, 1)]));
    apply(&mut ledger, &later, T0);
    apply(&mut ledger, &frame(1, LEVEL, lose(&[(0, 6), (6, 2)])), T0);
    apply(&mut ledger, &later, T0);
    apply(&mut ledger, &frame(2, LEVEL, lose(&[(0, 1)])), T0);
    let report = &ledger.latest_publishers(10, 10)[0];
    assert_eq!(report.spilled, 7);
    assert_eq!(report.dropped, [("legacy_queue".to_owned(), 2), ("reason_200".to_owned(), 1)].into());
    assert_eq!(ledger.counts().publisher_losses, [(0, 8), (6, 2), (200, 1)].into());
}

#[test]
fn reasons_beyond_the_limit_are_not_kept() {
    let mut ledger = ledger(Config::default());
    for reason in 0..=255 {
        apply(&mut ledger, &frame(1, LEVEL, lose(&[(reason, 1 + u64::from(reason))])), T0);
    }
    assert_eq!(ledger.counts().publisher_losses.len(), zibrato_core::limits::LOSSES_MAX);
}

#[test]
fn a_forgotten_publisher_leaves_its_losses_in_the_sum() {
    let mut ledger = ledger(Config { forget_ms: 2_000, ..Config::default() });
    let end = |level, seq| {
        frame(1, level, |header, prelude| {
            header.seq = seq;
            (header.flags.key, header.flags.end) = (true, true);
            prelude.losses.push(Loss { reason: 6, count: 3 }).unwrap();
        })
    };
    apply(&mut ledger, &end(LEVEL, 1), T0);
    assert!(only(&ledger).ended);
    apply(&mut ledger, &frame(1, "debug", |_, _| ()), T0);
    assert!(!only(&ledger).ended, "on one level it still runs");
    apply(&mut ledger, &end("debug", 2), T0);
    assert!(only(&ledger).ended);
    for second in 1..5 {
        ledger.prepare_flush(T0 + second * 1_000);
        ledger.commit_flush();
    }
    assert_eq!((ledger.publishers_distinct(), ledger.publishers()), (0, 0));
    assert_eq!(ledger.counts().publisher_losses, [(6, 3)].into());
}

#[test]
fn those_that_run_are_told_first_and_then_those_heard_last() {
    let mut ledger = ledger(Config::default());
    for id in 1..=9 {
        let is_over = id > 6;
        let message = frame(id, LEVEL, |header, _| (header.flags.key, header.flags.end) = (is_over, is_over));
        apply(&mut ledger, &message, T0 + u64::from(id) * 10);
    }
    let ids = |max| -> Vec<u8> {
        let latest = ledger.latest_publishers(max, 1);
        latest.iter().map(|report| u8::from_str_radix(&report.id[..2], 16).unwrap()).collect()
    };
    assert_eq!(ids(3), [6, 5, 4]);
    assert_eq!(ids(8), [6, 5, 4, 3, 2, 1, 9, 8]);
    assert_eq!(ids(9).len(), 9);
    assert_eq!(ids(0), [] as [u8; 0]);
    assert_eq!(ledger.publishers_distinct(), 9);
}
