//! Threads that come, record in bursts, panic and go while the drain runs: nothing is lost and
//! nothing is counted twice, to the unit.
//!
//! `ZIBRATO_SOAK_S` is how long it goes on, in seconds (2). `ci/soak` runs it for a minute with rings
//! of 16 records (`--cfg zibrato_tiny_rings`), `ci/tsan` under ThreadSanitizer.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that reports what it did")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use zibrato_core::level::Level;
use zibrato_core::metric::{Counter, Gauge, Metric, Timer};
use zibrato_core::record::TimerValue;
use zibrato_core::{Drain, RING_RECORDS, registry};

static HITS: Counter = Counter::new("soak.hits", Level::INFO);
static TOOK: Timer = Timer::new("soak.took", Level::INFO);
static DEPTH: Gauge = Gauge::new("soak.depth", Level::INFO);
/// Switched on and off all the time, so that what it counts is not known.
static DEBUG: Timer = Timer::new("soak.debug", Level::DEBUG);
/// A counter of each burst, so that cells grow.
static MANY: Mutex<Vec<&'static Counter>> = Mutex::new(Vec::new());

/// Threads that live as long as the soak.
const LONG_LIVED: u64 = 4;
/// Threads at a time that record one burst and end, one in three by a panic.
const SHORT_LIVED: u64 = 64;
/// Records of a long burst: fills every ring.
const BURST: u64 = 2 * RING_RECORDS as u64;
/// Counters of the long list, in all: cells grow twice.
const MANY_MAX: usize = 3_000;

/// What the threads say they recorded: counter's sum, timer's records and nanoseconds, gauge's sets.
#[derive(Default)]
struct Recorded {
    hits: AtomicU64,
    many: AtomicU64,
    timers: AtomicU64,
    timer_ns: AtomicU64,
    sets: AtomicU64,
}

static RECORDED: Recorded = Recorded {
    hits: AtomicU64::new(0),
    many: AtomicU64::new(0),
    timers: AtomicU64::new(0),
    timer_ns: AtomicU64::new(0),
    sets: AtomicU64::new(0),
};

/// Records `n` of everything.
fn burst(n: u64) {
    for i in 0..n {
        HITS.add(i);
        TOOK.record(Duration::from_nanos(i));
        DEPTH.set(i as f64);
        DEBUG.record(Duration::from_nanos(1));
    }
    RECORDED.hits.fetch_add(n * (n - 1) / 2, Relaxed);
    RECORDED.timers.fetch_add(n, Relaxed);
    RECORDED.timer_ns.fetch_add(n * (n - 1) / 2, Relaxed);
    RECORDED.sets.fetch_add(n, Relaxed);
    let mut many = MANY.lock().unwrap();
    if many.len() < MANY_MAX {
        many.push(Box::leak(Box::new(Counter::new("soak.many", Level::INFO))));
    }
    let newest = many[many.len() - 1];
    drop(many);
    newest.increment();
    RECORDED.many.fetch_add(1, Relaxed);
}

/// A burst of 1 to [`BURST`], most of them short, from a number.
fn length(number: u64) -> u64 {
    let scrambled = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    if scrambled.is_multiple_of(8) { BURST } else { 1 + scrambled % 40 }
}

/// What came out: the same sums as in [`Recorded`], and how much of it by the spill cells.
#[derive(Default, Debug)]
struct Drained {
    timers: u64,
    timer_ns: u64,
    sets: u64,
    spilled: u64,
    totals: Vec<u64>,
}

impl Drained {
    fn take(&mut self, drain: &mut Drain) {
        let is = |metric: &Metric, other: &'static Metric| core::ptr::eq(metric, other);
        let pass = drain.pass(|record| {
            if is(record.metric, TOOK.metric()) {
                let TimerValue::Nanoseconds(ns) = TimerValue::from_bits(record.value) else {
                    panic!("{record:?}")
                };
                self.timers += 1;
                self.timer_ns += ns;
            } else if is(record.metric, DEPTH.metric()) {
                self.sets += 1;
            } else {
                assert!(is(record.metric, DEBUG.metric()), "{record:?}");
            }
        });
        assert_eq!(pass.corrupt, 0);
        if let Some(spilled) = TOOK.metric().spill().take() {
            self.timers += spilled.count;
            self.timer_ns += spilled.sum;
            self.spilled += spilled.count;
        }
        if let Some(spilled) = DEPTH.metric().spill().take() {
            self.sets += spilled.count;
            self.spilled += spilled.count;
        }
        drain.counters(&mut self.totals);
    }

    fn total(&self, counter: &'static Counter) -> u64 {
        self.totals[counter.metric().index() as usize].wrapping_add(counter.metric().spill().counter())
    }
}

#[test]
fn what_is_recorded_is_drained_or_spilled_to_the_unit() {
    let seconds = std::env::var("ZIBRATO_SOAK_S").map_or(2, |text| text.parse().unwrap());
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut drain = Drain::claim().unwrap();
    registry::switch(true, vec![]);
    let mut drained = Drained::default();
    let producing = AtomicBool::new(true);
    let mut threads = 0;
    thread::scope(|scope| {
        let drainer = scope.spawn(|| {
            let mut on = false;
            while producing.load(Relaxed) {
                drained.take(&mut drain);
                on = !on;
                registry::switch(true, if on { vec!["debug".into()] } else { vec![] });
            }
        });
        let long_lived: Vec<_> = (0..LONG_LIVED)
            .map(|number| {
                scope.spawn(move || {
                    let mut at = number;
                    while Instant::now() < until {
                        burst(length(at));
                        at += LONG_LIVED;
                        thread::yield_now();
                    }
                })
            })
            .collect();
        while Instant::now() < until {
            let short_lived: Vec<_> = (threads..threads + SHORT_LIVED)
                .map(|number| {
                    thread::spawn(move || {
                        // Recorded by the guard, at the end of the thread or while it panics.
                        RECORDED.timers.fetch_add(1, Relaxed);
                        let _guard = Ended;
                        burst(length(number));
                        if number.is_multiple_of(3) {
                            // Without the hook's message.
                            std::panic::resume_unwind(Box::new(()));
                        }
                    })
                })
                .collect();
            threads += SHORT_LIVED;
            for (number, thread) in (0..).zip(short_lived) {
                assert_eq!(thread.join().is_err(), (threads - SHORT_LIVED + number).is_multiple_of(3));
            }
        }
        long_lived.into_iter().for_each(|thread| thread.join().unwrap());
        producing.store(false, Relaxed);
        drainer.join().unwrap();
    });
    drained.take(&mut drain);
    println!(
        "{threads} threads came and went; {} timer records, {} spilled",
        drained.timers, drained.spilled
    );
    assert_eq!(drained.timers, RECORDED.timers.load(Relaxed));
    assert_eq!(drained.timer_ns, RECORDED.timer_ns.load(Relaxed));
    assert_eq!(drained.sets, RECORDED.sets.load(Relaxed));
    assert_eq!(drained.total(&HITS), RECORDED.hits.load(Relaxed));
    let many: u64 = MANY.lock().unwrap().iter().map(|counter| drained.total(counter)).sum();
    assert_eq!(many, RECORDED.many.load(Relaxed));
    assert!(drained.spilled > 0, "bursts longer than a ring must spill");
}

/// Records when the thread ends, also by a panic.
struct Ended;

impl Drop for Ended {
    fn drop(&mut self) {
        TOOK.record(Duration::ZERO);
    }
}
