#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail the test")]

use core::time::Duration;
use std::boxed::Box;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::vec::Vec;
use std::{thread, vec};

use super::*;
use crate::record::{Record, TimerValue};
use crate::registry;
use crate::slab::{Drain, RING_RECORDS, SLAB_CELLS, SLAB_CELLS_MAX};

mod sampled;

#[test]
#[cfg(target_pointer_width = "64")]
fn a_metric_is_three_cache_lines_and_its_spill_cells_have_one_to_themselves() {
    assert_eq!((size_of::<Metric>(), align_of::<Metric>()), (192, 64));
    assert_eq!((core::mem::offset_of!(Metric, spill), size_of::<Spill>()), (64, 64));
}

/// One test at a time owns the switches and the drain of the process.
fn alone() -> (MutexGuard<'static, ()>, Drain) {
    static ALONE: Mutex<()> = Mutex::new(());
    let guard = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut drain = Drain::claim().unwrap();
    registry::switch(true, vec![]);
    drain.pass(|_| ());
    (guard, drain)
}

fn drained(drain: &mut Drain, metric: &'static Metric) -> Vec<u64> {
    let mut values = vec![];
    drain.pass(|record: Record| {
        if core::ptr::eq(record.metric, metric) {
            values.push(record.value);
        }
    });
    values
}

fn total(drain: &mut Drain, counter: &'static Counter) -> u64 {
    let mut totals = vec![];
    drain.counters(&mut totals);
    let in_slabs = totals.get(counter.metric().index() as usize).copied().unwrap_or(0);
    in_slabs.wrapping_add(counter.metric().spill().counter())
}

#[test]
fn counters_of_threads_that_ended_still_count() {
    static COUNTER: Counter = Counter::new("t.many", Level::INFO);
    let (_guard, mut drain) = alone();
    for _ in 0..20 {
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..100).for_each(|_| COUNTER.add(3)));
            }
        });
    }
    assert_eq!(total(&mut drain, &COUNTER), 20 * 4 * 100 * 3);
}

#[test]
fn the_cells_of_each_thread_grow_with_the_counters() {
    let (_guard, mut drain) = alone();
    let counters: Vec<&'static Counter> = (0..2 * SLAB_CELLS + 10)
        .map(|_| &*Box::leak(Box::new(Counter::new("t.beyond", Level::INFO))))
        .collect();
    let count_all = || counters.iter().for_each(|counter| counter.add(3));
    let mut all_are = |expected| {
        let mut totals = vec![];
        drain.counters(&mut totals);
        counters.iter().all(|counter| totals[counter.metric().index() as usize] == expected)
    };
    count_all();
    thread::scope(|scope| {
        // A join waits for the thread's destructors too, the end of a scope does not.
        scope.spawn(count_all).join().unwrap();
    });
    assert!(all_are(6));
    assert!(all_are(6), "what an ended thread counted is counted once");
    count_all();
    assert!(all_are(9));
    assert!(counters.iter().all(|counter| counter.metric().spill().counter() == 0), "each has a cell");
}

#[test]
fn a_counter_without_a_cell_shares_an_atomic() {
    static COUNTER: Counter = Counter::new("t.shared", Level::INFO);
    let (_guard, mut drain) = alone();
    COUNTER.add(1);
    COUNTER.metric().set_state(SLAB_CELLS_MAX as u32);
    COUNTER.add(2);
    assert_eq!((COUNTER.metric().spill().counter(), total(&mut drain, &COUNTER)), (2, 3));
}

#[test]
fn gauges_and_timers_go_through_the_ring() {
    static GAUGE: Gauge = Gauge::new("t.gauge", Level::INFO);
    static TIMER: Timer = Timer::new("t.timer", Level::INFO);
    let (_guard, mut drain) = alone();
    for value in [0.0, -1.5, 1e9] {
        GAUGE.set(value);
    }
    assert_eq!(drained(&mut drain, GAUGE.metric()), [0.0f64, -1.5, 1e9].map(f64::to_bits));
    assert_eq!(GAUGE.metric().spill().last(), 1e9f64.to_bits());
    TIMER.record(Duration::from_micros(3));
    let stopped = TIMER.start().stop().unwrap();
    TIMER.start().cancel();
    drop(TIMER.start());
    assert_eq!(TIMER.measure(|| 42), 42);
    let values: Vec<_> = drained(&mut drain, TIMER.metric()).into_iter().map(TimerValue::from_bits).collect();
    assert_eq!(values[0], TimerValue::Nanoseconds(3_000));
    assert_eq!(values[1], TimerValue::Nanoseconds(stopped.as_nanos() as u64));
    assert!(matches!(values[2..], [TimerValue::Ticks(_), TimerValue::Ticks(_)]), "{values:?}");
}

/// A future that is ready at its second poll.
fn ready_at_the_second_poll() -> impl Future<Output = u32> {
    let mut polls = 0;
    core::future::poll_fn(move |_| {
        polls += 1;
        if polls == 2 { core::task::Poll::Ready(7) } else { core::task::Poll::Pending }
    })
}

#[test]
fn a_future_is_measured_as_a_whole_or_by_its_polls() {
    static TIMER: Timer = Timer::new("t.future", Level::INFO);
    let (_guard, mut drain) = alone();
    let mut context = core::task::Context::from_waker(core::task::Waker::noop());
    {
        let mut whole = core::pin::pin!(TIMER.instrument(ready_at_the_second_poll()));
        assert!(whole.as_mut().poll(&mut context).is_pending());
        assert_eq!(drained(&mut drain, TIMER.metric()).len(), 0, "it has not ended");
        assert_eq!(whole.as_mut().poll(&mut context), core::task::Poll::Ready(7));
    }
    assert_eq!(drained(&mut drain, TIMER.metric()).len(), 1);
    {
        let mut dropped = core::pin::pin!(TIMER.instrument(ready_at_the_second_poll()));
        assert!(dropped.as_mut().poll(&mut context).is_pending());
    }
    assert_eq!(drained(&mut drain, TIMER.metric()).len(), 1, "a dropped future ends there");
    let mut polls = core::pin::pin!(TIMER.instrument_polls(ready_at_the_second_poll()));
    assert!(polls.as_mut().poll(&mut context).is_pending());
    assert_eq!(polls.as_mut().poll(&mut context), core::task::Poll::Ready(7));
    assert_eq!(drained(&mut drain, TIMER.metric()).len(), 2);
}

#[test]
#[cfg(not(miri))]
fn an_exact_guard_reads_at_least_what_a_plain_one_does() {
    static TIMER: Timer = Timer::new("t.exact", Level::INFO);
    let (_guard, mut drain) = alone();
    let ticks = |drain: &mut Drain| -> u64 {
        let values = drained(drain, TIMER.metric()).into_iter();
        let ticks = values.map(|value| match TimerValue::from_bits(value) {
            TimerValue::Ticks(ticks) => ticks,
            other => panic!("{other:?}"),
        });
        ticks.min().unwrap()
    };
    // A chain of dependent divisions, which a plain guard does not wait for.
    let work = || (0..20).fold(core::hint::black_box(1.5f64), |value, _| 3.0 / value);
    let mut shortest = [u64::MAX; 2];
    for _ in 0..1_000 {
        let guard = TIMER.start();
        core::hint::black_box(work());
        drop(guard);
        shortest[0] = shortest[0].min(ticks(&mut drain));
        let guard = TIMER.start_exact();
        core::hint::black_box(work());
        drop(guard);
        shortest[1] = shortest[1].min(ticks(&mut drain));
    }
    assert!(shortest[1] >= shortest[0], "{shortest:?}");
}

#[test]
fn a_full_ring_spills_and_no_count_or_sum_is_lost() {
    static TIMER: Timer = Timer::new("t.full", Level::INFO);
    let (_guard, mut drain) = alone();
    let extra = 10;
    for ns in 0..(RING_RECORDS + extra) as u64 {
        TIMER.record(Duration::from_nanos(ns));
    }
    assert_eq!(drained(&mut drain, TIMER.metric()).len(), RING_RECORDS);
    let first = RING_RECORDS as u64;
    let spilled = TIMER.metric().spill().take().unwrap();
    assert_eq!((spilled.count, spilled.range), (10, Some((first, first + 9))));
    assert_eq!(spilled.sum, (first..first + 10).sum::<u64>());
    TIMER.record(Duration::from_nanos(1));
    assert_eq!(drained(&mut drain, TIMER.metric()).len(), 1, "after a drain the ring takes records again");
}

#[test]
fn an_off_level_records_nothing_and_reads_no_clock() {
    static TIMER: Timer = Timer::new("t.gate", Level::DEBUG);
    static COUNTER: Counter = Counter::new("t.gate.count", Level::DEBUG);
    static GAUGE: Gauge = Gauge::new("t.gate.gauge", Level::DEBUG);
    let (_guard, mut drain) = alone();
    let record_all = || {
        TIMER.measure(|| ());
        COUNTER.add(5);
        GAUGE.set(1.0);
    };
    let reads = || crate::clock::READS.get();
    let before = reads();
    record_all();
    assert_eq!(reads(), before, "no clock is read while nobody subscribes");
    assert_eq!((total(&mut drain, &COUNTER), drain.pass(|_| ()).records), (0, 0));
    let early = TIMER.start();
    registry::switch(true, vec!["debug".into()]);
    drop(early);
    record_all();
    assert_eq!(reads(), before + 2);
    assert_eq!((total(&mut drain, &COUNTER), drain.pass(|_| ()).records), (5, 2));
    registry::switch(true, vec!["deb".into()]);
    record_all();
    registry::switch(false, vec!["debug".into()]);
    record_all();
    assert_eq!((reads(), total(&mut drain, &COUNTER)), (before + 2, 5));
}

#[test]
fn always_levels_are_off_until_a_client_runs() {
    static COUNTER: Counter = Counter::new("t.early", Level::INFO);
    let (_guard, mut drain) = alone();
    registry::switch(false, vec![]);
    COUNTER.add(1);
    registry::switch(true, vec![]);
    COUNTER.add(10);
    assert_eq!(total(&mut drain, &COUNTER), 10);
}

#[test]
fn records_of_an_ended_thread_are_drained_and_its_ring_is_freed() {
    static TIMER: Timer = Timer::new("t.ended", Level::INFO);
    let (_guard, mut drain) = alone();
    let panicked = thread::spawn(|| {
        let _guard = TIMER.start();
        panic!("a panic on purpose");
    });
    assert!(panicked.join().is_err());
    thread::spawn(|| TIMER.record(Duration::from_nanos(5))).join().unwrap();
    assert_eq!(drained(&mut drain, TIMER.metric()).len(), 2);
}

#[test]
fn a_thread_local_destructor_can_still_record() {
    static COUNTER: Counter = Counter::new("t.destructor", Level::INFO);
    static TIMER: Timer = Timer::new("t.destructor.timer", Level::INFO);
    static LATE: Timer = Timer::new("t.destructor.first.use", Level::INFO);
    struct Last;
    impl Drop for Last {
        fn drop(&mut self) {
            COUNTER.add(7);
            TIMER.record(Duration::from_nanos(5));
            LATE.record(Duration::from_nanos(6));
        }
    }
    std::thread_local! { static LAST: Last = const { Last }; }
    let (_guard, mut drain) = alone();
    thread::spawn(|| {
        // Registered first, so its destructor runs last, after ours.
        LAST.with(|_| ());
        COUNTER.add(1);
        TIMER.record(Duration::from_nanos(1));
    })
    .join()
    .unwrap();
    assert_eq!(total(&mut drain, &COUNTER), 8);
    let sum = |timer: &'static Timer, drain: &mut Drain| {
        let in_ring = drained(drain, timer.metric()).len() as u64;
        in_ring + timer.metric().spill().take().map_or(0, |spilled| spilled.count)
    };
    assert_eq!(sum(&LATE, &mut drain), 1);
    // The pass above took TIMER's ring record with it, so only the spilled one is left.
    assert_eq!(sum(&TIMER, &mut drain), 1);
}

#[test]
fn two_threads_in_one_metric_at_once_lose_nothing() {
    static TIMER: Timer = Timer::new("t.two", Level::INFO);
    const EACH: u64 = if cfg!(miri) { 200 } else { 200_000 };
    let (_guard, mut drain) = alone();
    let mut in_rings = 0;
    thread::scope(|scope| {
        let workers: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| (0..EACH).for_each(|_| TIMER.record(Duration::from_nanos(1)))))
            .collect();
        while !workers.iter().all(|worker| worker.is_finished()) {
            in_rings += drained(&mut drain, TIMER.metric()).len() as u64;
        }
    });
    in_rings += drained(&mut drain, TIMER.metric()).len() as u64;
    let spilled = TIMER.metric().spill().take().map_or(0, |spilled| spilled.count);
    assert_eq!(in_rings + spilled, 2 * EACH);
}

#[test]
fn a_second_drain_is_refused_while_the_first_is_held() {
    let (_guard, drain) = alone();
    assert!(Drain::claim().is_none());
    drop(drain);
    assert!(Drain::claim().is_some());
}

#[test]
fn recording_takes_no_lock_after_the_first_record() {
    static COUNTER: Counter = Counter::new("t.lock", Level::INFO);
    static TIMER: Timer = Timer::new("t.lock.timer", Level::INFO);
    let (_guard, mut drain) = alone();
    const EACH: usize = if cfg!(miri) { 50 } else { RING_RECORDS };
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let (done, finished) = std::sync::mpsc::channel();
    let recorder = thread::spawn(move || {
        for _ in 0..2 {
            for _ in 0..EACH {
                COUNTER.add(1);
                drop(TIMER.start());
            }
            done.send(()).unwrap();
            gone.recv().unwrap();
        }
    });
    finished.recv().unwrap();
    registry::tests::while_locked(|| {
        go.send(()).unwrap();
        finished.recv_timeout(Duration::from_secs(10)).expect("recording waits for the registry's lock");
    });
    go.send(()).unwrap();
    recorder.join().unwrap();
    assert_eq!(total(&mut drain, &COUNTER), 2 * EACH as u64);
}
