use super::*;

/// Calls counted, in cells and in the shared part.
fn calls(drain: &mut Drain, timer: &'static SampledTimer) -> u64 {
    let mut totals = vec![];
    drain.counters(&mut totals);
    let in_slabs = totals.get(timer.metric().index() as usize).copied().unwrap_or(0);
    in_slabs + timer.metric().spill().calls()
}

/// Calls timed since the last time.
fn timed(drain: &mut Drain, timer: &'static SampledTimer) -> usize {
    drained(drain, timer.metric()).len()
}

#[test]
fn every_call_is_counted_and_one_in_n_of_each_thread_is_timed_from_its_first() {
    static STEP: SampledTimer = Timer::new("t.step", Level::INFO).sampled(4);
    let (_guard, mut drain) = alone();
    let pattern: Vec<bool> = (0..9).map(|_| STEP.start().stop().is_some()).collect();
    assert_eq!(pattern, [true, false, false, false, true, false, false, false, true]);
    assert_eq!((calls(&mut drain, &STEP), timed(&mut drain, &STEP)), (9, 3));
    let before = crate::clock::READS.get();
    drop(STEP.start());
    assert_eq!(STEP.measure(|| 42), 42);
    assert_eq!(crate::clock::READS.get(), before, "neither is a ninth, thirteenth, ... call");
    for threads in 1..=3 {
        thread::spawn(|| (0..6).for_each(|_| drop(STEP.start()))).join().unwrap();
        assert_eq!((calls(&mut drain, &STEP), timed(&mut drain, &STEP)), (11 + 6 * threads, 2));
    }
    assert_eq!(STEP.metric().spill().calls(), 0, "each thread had a cell");
}

#[test]
fn the_bounds_of_n_are_accepted_and_the_texts_of_the_timer_stay() {
    static LEAST: SampledTimer = Timer::new("t.least", Level::INFO).sampled(ONE_IN_MIN);
    static MOST: SampledTimer =
        Timer::new("t.most", Level::INFO).source("s").unit("s").tags(&[("a", "1")]).sampled(ONE_IN_MAX);
    static PLAIN: Timer = Timer::new("t.plain", Level::INFO);
    let (_guard, mut drain) = alone();
    (0..8).for_each(|_| drop(LEAST.start()));
    (0..=ONE_IN_MAX).filter(|_| !cfg!(miri)).for_each(|_| drop(MOST.start()));
    let timed = [timed(&mut drain, &LEAST), calls(&mut drain, &MOST) as usize];
    assert_eq!(timed, [4, if cfg!(miri) { 0 } else { 65_537 }]);
    let metric = MOST.metric();
    assert_eq!((metric.source(), metric.unit(), metric.tags().len()), ("s", "s", 1));
    assert!(metric.is_sampled() && !PLAIN.metric().is_sampled());
    for n in [0, 1, 3, 63, ONE_IN_MAX * 2] {
        let refused = std::panic::catch_unwind(|| Timer::new("t.refused", Level::INFO).sampled(n));
        assert!(refused.is_err(), "{n}");
    }
}

#[test]
fn calls_within_calls_and_side_by_side_count_when_they_end() {
    static STEP: SampledTimer = Timer::new("t.nested", Level::INFO).sampled(4);
    let (_guard, mut drain) = alone();
    let outer = STEP.start();
    let inner = STEP.start();
    assert_eq!(calls(&mut drain, &STEP), 0);
    assert!(inner.stop().is_some(), "the first has not ended");
    assert!(STEP.start().stop().is_none());
    let beside = STEP.start();
    assert!(outer.stop().is_some());
    assert!(beside.stop().is_none());
    assert_eq!((calls(&mut drain, &STEP), timed(&mut drain, &STEP)), (4, 2));
    let panicked = std::panic::catch_unwind(|| STEP.measure(|| panic!("a panic on purpose")));
    assert!(panicked.is_err());
    assert_eq!((calls(&mut drain, &STEP), timed(&mut drain, &STEP)), (5, 1), "the fifth is timed");
}

#[test]
fn a_cancelled_call_is_neither_counted_nor_timed() {
    static STEP: SampledTimer = Timer::new("t.cancelled", Level::INFO).sampled(2);
    let (_guard, mut drain) = alone();
    STEP.start().cancel();
    assert!(STEP.start().stop().is_some());
    STEP.start().cancel();
    assert!(STEP.start().stop().is_none());
    assert_eq!((calls(&mut drain, &STEP), timed(&mut drain, &STEP)), (2, 1));
}

#[test]
fn a_call_is_taken_or_not_by_the_level_at_its_start() {
    static STEP: SampledTimer = Timer::new("t.step.gate", Level::DEBUG).sampled(2);
    let (_guard, mut drain) = alone();
    let before = crate::clock::READS.get();
    // The first call registers it.
    (0..3).for_each(|_| assert_eq!(STEP.start().stop(), None));
    let early = STEP.start();
    assert_eq!(crate::clock::READS.get(), before, "no clock is read while nobody subscribes");
    registry::switch(true, vec!["debug".into()]);
    drop(early);
    assert_eq!((calls(&mut drain, &STEP), timed(&mut drain, &STEP)), (0, 0));
    (0..3).for_each(|_| drop(STEP.start()));
    let late = STEP.start();
    registry::switch(true, vec![]);
    drop(late);
    drop(STEP.start());
    assert_eq!((calls(&mut drain, &STEP), timed(&mut drain, &STEP)), (4, 2));
}

#[test]
fn a_guard_may_end_on_another_thread_and_counts_there() {
    static STEP: SampledTimer = Timer::new("t.sent", Level::INFO).sampled(64);
    let (_guard, mut drain) = alone();
    let (timed_guard, other) = (STEP.start(), STEP.start());
    thread::spawn(move || {
        drop(timed_guard);
        drop(other);
        assert!(STEP.start().stop().is_none(), "two have ended here");
    })
    .join()
    .unwrap();
    assert!(STEP.start().stop().is_some(), "none has ended here");
    assert_eq!((calls(&mut drain, &STEP), timed(&mut drain, &STEP)), (4, 4 - 1));
}

#[test]
fn a_call_without_a_cell_is_counted_in_the_shared_part_and_timed() {
    static STEP: SampledTimer = Timer::new("t.step.shared", Level::INFO).sampled(64);
    static LATE: SampledTimer = Timer::new("t.step.late", Level::INFO).sampled(64);
    struct Last;
    impl Drop for Last {
        fn drop(&mut self) {
            (0..3).for_each(|_| drop(STEP.start()));
            drop(LATE.start());
        }
    }
    std::thread_local! { static LAST: Last = const { Last }; }
    let (_guard, mut drain) = alone();
    thread::spawn(|| {
        // Registered first, so its destructor runs last, after ours.
        LAST.with(|_| ());
        (0..2).for_each(|_| drop(STEP.start()));
    })
    .join()
    .unwrap();
    assert_eq!((calls(&mut drain, &STEP), STEP.metric().spill().calls()), (5, 3));
    assert_eq!((calls(&mut drain, &LATE), LATE.metric().spill().calls()), (1, 1));
    let timed_and_spilled = STEP.metric().spill().take().map_or(0, |spilled| spilled.count);
    assert_eq!((timed(&mut drain, &STEP), timed_and_spilled), (1, 3));
    assert_eq!(STEP.metric().spill().calls(), 3, "what is taken with the spilled records leaves the calls");

    STEP.metric().set_state(SLAB_CELLS_MAX as u32);
    (0..3).for_each(|_| assert!(STEP.start().stop().is_some()));
    assert_eq!((STEP.metric().spill().calls(), timed(&mut drain, &STEP)), (6, 3));
    registry::switch(true, vec![]);
    assert_eq!(calls(&mut drain, &STEP), 8);
}
