//! What a call costs whoever makes it, beside a relaxed `fetch_add` and two readings of the clock.
//!
//! Rounds have every operation once, and a `fetch_add` right before and behind it: ratios are those of neighbours in
//! time. A client drains meanwhile, and a sample fits the ring, so that what is measured is what a program
//! sees that does not record without pause.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use zibrato_core::{RING_RECORDS, clock};
use zibrato_service::Shutdown;
use zibrato_std::{Client, Counter, Gauge, Level, Timer, prepare_thread};

use super::{Error, median};
use crate::progress::Progress;

/// Rounds; each has every operation once.
const ROUNDS: u64 = 1_500;
/// Calls of a sample: half a ring, which is empty before each.
const CALLS: u64 = RING_RECORDS as u64 / 2;
/// Threads whose first record is measured.
const FIRSTS: usize = 100;
/// An endpoint at which nobody listens: the client drains all the same.
pub(super) const NOBODY: &str = "tcp://127.0.0.1:9";

static SUM: AtomicU64 = AtomicU64::new(0);
static HITS: Counter = Counter::new("bench.hits", Level::INFO);
static TOOK: Timer = Timer::new("bench.took", Level::INFO);
static DEPTH: Gauge = Gauge::new("bench.depth", Level::INFO);
/// Nobody subscribes to this level.
static OFF_HITS: Counter = Counter::new("bench.off.hits", Level::DEBUG);
static OFF_TOOK: Timer = Timer::new("bench.off.took", Level::DEBUG);

/// Names that others refer to.
const CLOCK_READS: &str = "two clock reads";
const GUARD: &str = "timer guard";
const GUARD_EXACT: &str = "timer guard, exact";
const FIRST_RECORD: &str = "timer, first record of a thread";

/// An operation, and a loop of so many calls of it.
type Operation = (&'static str, fn(u64));

const OPERATIONS: [Operation; 9] = [
    ("fetch_add, relaxed", add_calls),
    ("counter", count_calls),
    ("timer, duration given", time_calls),
    ("gauge", |calls| (0..calls).for_each(|n| DEPTH.set(n as f64))),
    (CLOCK_READS, |calls| {
        for _ in 0..calls {
            let start = black_box(clock::ticks());
            black_box(clock::ticks().wrapping_sub(start));
        }
    }),
    (GUARD, |calls| (0..calls).for_each(|_| drop(TOOK.start()))),
    (GUARD_EXACT, |calls| (0..calls).for_each(|_| drop(TOOK.start_exact()))),
    ("counter at a level that is off", |calls| (0..calls).for_each(|n| OFF_HITS.add(n))),
    ("timer guard at a level that is off", |calls| (0..calls).for_each(|_| drop(OFF_TOOK.start()))),
];

/// What a call costs.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Call {
    pub(super) operation: &'static str,
    /// Median of the rounds.
    pub(super) ns: f64,
    /// Ratio to a relaxed `fetch_add` of the same moment, median of the rounds.
    pub(super) fetch_adds: f64,
    /// For guards: what they take beyond two clock reads of the same round, in nanoseconds, median.
    pub(super) beyond_clock_reads_ns: Option<f64>,
}

/// Measures every operation.
pub(super) fn measure(shutdown: &Shutdown) -> Result<Vec<Call>, Error> {
    let client = Client::builder().endpoint(NOBODY).source("bench").build()?;
    prepare_thread();
    let progress = Progress::bar("cost per call", ROUNDS);
    let mut samples = OPERATIONS.map(|_| Samples::default());
    for round in 0..ROUNDS {
        if shutdown.is_requested() {
            return Err(Error::Stopped);
        }
        progress.at(round, String::new);
        for at in 0..OPERATIONS.len() {
            // Each round begins elsewhere, so that nobody always comes behind the same neighbour.
            let at = (at + round as usize) % OPERATIONS.len();
            samples[at].take(OPERATIONS[at].1);
            // The answer comes behind a pass of the drain.
            client.stats().ok_or(Error::NoStats)?;
        }
    }
    let mut firsts: Vec<_> = (0..FIRSTS).filter_map(|_| thread::spawn(first_record_ns).join().ok()).collect();
    client.shutdown(Duration::ZERO);
    let reads = OPERATIONS.iter().position(|(name, _)| *name == CLOCK_READS).unwrap_or(0);
    let reads = samples[reads].ns.clone();
    let mut calls: Vec<_> = OPERATIONS
        .iter()
        .zip(samples)
        .map(|(&(operation, _), mut samples)| {
            let is_guard = [GUARD, GUARD_EXACT].contains(&operation);
            let mut beyond: Vec<_> =
                samples.ns.iter().zip(&reads).map(|(guard, reads)| guard - reads).collect();
            Call {
                operation,
                ns: median(&mut samples.ns),
                fetch_adds: median(&mut samples.ratios),
                beyond_clock_reads_ns: is_guard.then(|| median(&mut beyond)),
            }
        })
        .collect();
    let ns = median(&mut firsts);
    let fetch_adds = ns / calls.first().map_or(ns, |base| base.ns);
    calls.push(Call { operation: FIRST_RECORD, ns, fetch_adds, beyond_clock_reads_ns: None });
    Ok(calls)
}

/// A thread's first record makes its ring.
fn first_record_ns() -> f64 {
    // The first allocation of a thread costs by itself, and few threads come to a record without one.
    black_box(Box::new(0));
    ns_per_call(time_calls, 1)
}

/// What the rounds saw of one operation.
#[derive(Clone, Debug, Default)]
struct Samples {
    ns: Vec<f64>,
    ratios: Vec<f64>,
}

impl Samples {
    fn take(&mut self, run: fn(u64)) {
        let before = ns_per_call(add_calls, CALLS);
        let ns = ns_per_call(run, CALLS);
        let behind = ns_per_call(add_calls, CALLS);
        self.ns.push(ns);
        self.ratios.push(ns / ((before + behind) / 2.0));
    }
}

/// Nanoseconds a call.
pub(super) fn ns_per_call(run: impl FnOnce(u64), calls: u64) -> f64 {
    let began = Instant::now();
    run(black_box(calls));
    began.elapsed().as_nanos() as f64 / calls as f64
}

/// Adds to an atomic that all threads share.
pub(super) fn add_calls(calls: u64) {
    for n in 0..calls {
        SUM.fetch_add(n, Relaxed);
    }
}

/// Adds to a counter.
pub(super) fn count_calls(calls: u64) {
    for n in 0..calls {
        HITS.add(n);
    }
}

/// Records durations.
pub(super) fn time_calls(calls: u64) {
    for n in 0..calls {
        TOOK.record(Duration::from_nanos(n));
    }
}
