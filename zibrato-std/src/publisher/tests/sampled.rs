use zibrato_core::frame::LossReason;
use zibrato_core::histogram::Histogram;
use zibrato_core::metric::{Counter, SampledTimer, Spilled};
use zibrato_core::record::TimerValue;

use super::*;
use crate::stats::Flow;

/// What a frame says of a timer.
struct Said {
    count: u64,
    sum_ns: u64,
    window_ns: Option<(u64, u64)>,
    histogram: Histogram,
}

impl Said {
    /// Of its records those that are longer than so many seconds.
    fn above(&self, seconds: f64) -> u64 {
        let bound = |index| zibrato_core::histogram::lower_bound(index, self.histogram.scale());
        self.histogram.counts().filter(|&(index, _)| bound(index) > seconds).map(|(_, count)| count).sum()
    }
}

/// The entry of `name` in frames with absolute counts; count and buckets agree in all of them.
fn said(frames: &Frames, name: &str) -> Said {
    for part in &frames.parts {
        for entry in Frame::parse(part).expect("our own frame").entries().flatten() {
            let State::Timer { count, sum_ns, window_ns, histogram: buckets, .. } = entry.state else {
                continue;
            };
            if entry.name == name {
                let counts = buckets.buckets();
                let histogram = Histogram::from_parts(buckets.scale, buckets.zero, buckets.offset, counts);
                assert_eq!(histogram.total(), count, "{name}: the buckets add up to the count");
                return Said { count, sum_ns, window_ns, histogram };
            }
        }
    }
    panic!("no timer {name}")
}

/// Ends a call that took `ns`: the timed ones say so to the publisher, and not what the clock said.
/// Whether it was timed.
fn call(publisher: &mut Publisher, drain: &mut Drain, timer: &'static SampledTimer, ns: u64) -> bool {
    let is_timed = timer.start().stop().is_some();
    if is_timed {
        drain.pass(|_| ());
        publisher.fold(timer.metric(), TimerValue::nanoseconds_to_bits(ns));
    }
    is_timed
}

/// A frame with all there is, as at the end of a window.
fn window(publisher: &mut Publisher, drain: &mut Drain, kind: FrameKind) -> Frames {
    publisher.fold_rings(drain);
    publisher.fold_cells(drain);
    publisher.encode(drain, 0, kind)
}

#[test]
fn timed_calls_stand_for_all_calls_of_their_window_exactly_in_count() {
    static STEP: SampledTimer = Timer::new("p.step", Level::INFO).sampled(64);
    const SHORT_NS: u64 = 10_000;
    const LONG_NS: u64 = 1_000_000;
    let _alone = alone();
    let (mut publisher, mut drain) = publisher(100, None);
    let (mut random, mut long, mut calls, mut timed) = (7u64, 0, 0, 0);
    for window_calls in [1, 63, 64, 1_000, 77_777, 200_000] {
        for _ in 0..window_calls {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let is_long = (random >> 33) % 10 == 0;
            let ns = if is_long { LONG_NS } else { SHORT_NS };
            long += u64::from(is_long);
            timed += u64::from(call(&mut publisher, &mut drain, &STEP, ns));
        }
        calls += window_calls;
        let said = said(&window(&mut publisher, &mut drain, FrameKind::Key), "p.step");
        assert_eq!((said.count, publisher.accepted(0).timers), (calls, calls));
        if window_calls > 1_000 {
            assert_eq!(said.window_ns, Some((SHORT_NS, LONG_NS)));
        }
    }
    assert_eq!(timed, calls.div_ceil(64));
    let said = said(&window(&mut publisher, &mut drain, FrameKind::End), "p.step");
    // Of 4 358 timed calls a tenth: the standard deviation of the share is 0.45 %, four of them are allowed.
    let share = said.above(1e-4) as f64 / calls as f64;
    assert!((share - 0.1).abs() < 0.018, "{share}");
    let sum = long * LONG_NS + (calls - long) * SHORT_NS;
    assert!((said.sum_ns as f64 / sum as f64 - 1.0).abs() < 0.18, "{} instead of {sum}", said.sum_ns);
    // The sums are those of the same shares.
    let by_share = said.above(1e-4) * LONG_NS + (calls - said.above(1e-4)) * SHORT_NS;
    assert!((said.sum_ns as f64 / by_share as f64 - 1.0).abs() < 0.001, "{} {by_share}", said.sum_ns);
    registry::switch(false, Vec::new());
}

#[test]
fn calls_of_a_window_without_a_timed_one_are_told_by_those_timed_last() {
    static STEP: SampledTimer = Timer::new("p.last", Level::INFO).sampled(4);
    let _alone = alone();
    let (mut publisher, mut drain) = publisher(100, None);
    let mut told = Vec::new();
    for ns in [5_000, 1, 1, 1, 9_000, 1] {
        call(&mut publisher, &mut drain, &STEP, ns);
        let said = said(&window(&mut publisher, &mut drain, FrameKind::Key), "p.last");
        told.push((said.count, said.sum_ns, said.window_ns));
    }
    let new = |ns| Some((ns, ns));
    let expected = [
        (1, 5_000, new(5_000)),
        (2, 10_000, None),
        (3, 15_000, None),
        (4, 20_000, None),
        (5, 29_000, new(9_000)),
        (6, 38_000, None),
    ];
    assert_eq!(told, expected);
    registry::switch(false, Vec::new());
}

#[test]
fn a_timed_call_that_is_seen_before_it_is_counted_waits_for_it() {
    static STEP: SampledTimer = Timer::new("p.order", Level::INFO).sampled(64);
    let _alone = alone();
    let (mut publisher, mut drain) = publisher(100, None);
    for ns in [4_000, 2_000] {
        publisher.fold(STEP.metric(), TimerValue::nanoseconds_to_bits(ns));
    }
    publisher
        .fold_spilled(STEP.metric(), &Spilled { count: 2, sum: 18_000, range: Some((1, 17_999)), odd: 0 });
    publisher.fold_cells(&mut drain);
    assert!(publisher.levels().is_empty(), "no call, no series");
    assert_eq!(publisher.losses().count(LossReason::Spilled), 2);
    (0..10).for_each(|_| drop(STEP.start()));
    drain.pass(|_| ());
    let said = said(&window(&mut publisher, &mut drain, FrameKind::Key), "p.order");
    assert_eq!((said.count, said.sum_ns, said.window_ns), (10, 60_000, Some((1, 17_999))));
    registry::switch(false, Vec::new());
}

#[test]
fn calls_without_any_timed_one_are_held_until_there_is_one_and_named_at_the_end() {
    static STEP: SampledTimer = Timer::new("p.second", Level::INFO).sampled(8);
    static NEVER: SampledTimer = Timer::new("p.never", Level::INFO).sampled(8);
    let _alone = alone();
    let (mut first, mut drain) = publisher(100, None);
    for timer in [&STEP, &NEVER] {
        assert!(call(&mut first, &mut drain, timer, 1_000));
    }
    drop((first, drain));

    let (mut publisher, mut drain) = publisher(100, None);
    (0..6).for_each(|_| assert!(!call(&mut publisher, &mut drain, &STEP, 0)));
    (0..3).for_each(|_| assert!(!call(&mut publisher, &mut drain, &NEVER, 0)));
    let frames = window(&mut publisher, &mut drain, FrameKind::Key);
    assert_eq!((said(&frames, "p.second").count, said(&frames, "p.never").count), (0, 0));
    assert_eq!(publisher.accepted(0).timers, 9, "those that wait are accepted and held");
    assert!(!call(&mut publisher, &mut drain, &STEP, 0));
    assert!(call(&mut publisher, &mut drain, &STEP, 2_000));
    let told = said(&window(&mut publisher, &mut drain, FrameKind::Key), "p.second");
    assert_eq!((told.count, told.sum_ns, publisher.accepted(0).timers), (8, 16_000, 11));
    assert_eq!(publisher.losses().count(LossReason::ClockBackwards), 0);

    let frames = window(&mut publisher, &mut drain, FrameKind::End);
    let never = said(&frames, "p.never");
    assert_eq!((never.count, never.histogram.zero(), never.sum_ns), (3, 3, 0));
    assert_eq!((said(&frames, "p.second").count, publisher.accepted(0).timers), (8, 11));
    assert_eq!(publisher.losses().count(LossReason::ClockBackwards), 3);
    registry::switch(false, Vec::new());
}

#[test]
fn metrics_of_one_series_weigh_by_their_own_calls() {
    static SELDOM: SampledTimer = Timer::new("p.shared", Level::INFO).sampled(64);
    static OFTEN: SampledTimer = Timer::new("p.shared", Level::INFO).sampled(2);
    static ALWAYS: Timer = Timer::new("p.shared", Level::INFO);
    let _alone = alone();
    let (mut publisher, mut drain) = publisher(100, None);
    for _ in 0..640 {
        call(&mut publisher, &mut drain, &SELDOM, 1_000_000);
        call(&mut publisher, &mut drain, &OFTEN, 1_000);
    }
    (0..640).for_each(|_| ALWAYS.record(Duration::from_nanos(1_000)));
    let told = said(&window(&mut publisher, &mut drain, FrameKind::Key), "p.shared");
    assert_eq!((told.count, told.above(1e-4)), (3 * 640, 640));
    assert_eq!(told.sum_ns, 640 * 1_000_000 + 2 * 640 * 1_000);
    registry::switch(false, Vec::new());
}

#[test]
fn calls_are_refused_or_taken_by_the_overflow_series_as_records_are() {
    static COUNTER: Counter = Counter::new("p.clash", Level::INFO);
    static CLASH: SampledTimer = Timer::new("p.clash", Level::INFO).sampled(4);
    static BEYOND: SampledTimer = Timer::new("p.beyond", Level::INFO).sampled(4);
    let _alone = alone();
    let (mut publisher, mut drain) = publisher(1, None);
    COUNTER.add(1);
    publisher.fold_cells(&mut drain);
    (0..5).for_each(|_| drop(CLASH.start()));
    for _ in 0..6 {
        call(&mut publisher, &mut drain, &BEYOND, 1_000);
    }
    let told = said(&window(&mut publisher, &mut drain, FrameKind::Key), "zibrato.overflow.timer");
    assert_eq!((told.count, told.sum_ns), (6, 6_000));
    let losses = [LossReason::SeriesLimit, LossReason::KindClash].map(|why| publisher.losses().count(why));
    assert_eq!(losses, [6, 5]);
    let timers = |flow: Flow| flow.timers;
    assert_eq!((timers(publisher.accepted(0)), timers(publisher.refused())), (6, 5));
    registry::switch(false, Vec::new());
}

#[test]
fn in_legacy_text_each_call_is_a_message_with_the_mean() {
    static STEP: SampledTimer = Timer::new("p.text", Level::INFO).sampled(2);
    let _alone = alone();
    let (mut publisher, mut drain) = publisher(100, Some(LegacyQueue::new("here")));
    let mut calls = |publisher: &mut Publisher, ns: [u64; 4]| {
        for ns in ns {
            call(publisher, &mut drain, &STEP, ns);
        }
        publisher.fold_cells(&mut drain);
        let mut texts = Vec::new();
        if let Some(queue) = &mut publisher.legacy {
            queue.send_with(|text| {
                texts.push(String::from_utf8_lossy(text).into_owned());
                true
            });
        }
        texts
    };
    assert_eq!(calls(&mut publisher, [9_000; 4]).len(), 0, "nobody subscribes, so they are not offered");
    assert_eq!(publisher.accepted(0).timers, 0);
    if let Some(queue) = &mut publisher.legacy {
        queue.set_subscribed(vec![b"info|".to_vec()]);
    }
    let texts = calls(&mut publisher, [1_000, 0, 3_000, 0]);
    assert_eq!(texts.len(), 4);
    assert!(texts.iter().all(|text| text.contains("p.text") && text.contains("0.000002")), "{texts:?}");
    assert_eq!(publisher.accepted(0).timers, 4);
    registry::switch(false, Vec::new());
}
