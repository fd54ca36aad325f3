//! One recording operation, as often as asked: `ci/icount-host` counts its instructions.
//!
//! `icount OPERATION TIMES`; what is recorded is the number of times, which stands in a register. Nothing drains meanwhile, so `TIMES`, a multiple of 8, stays below a ring's records, but for
//! `spilled`, which fills the ring first.
#![allow(clippy::print_stdout, reason = "prints the names of the operations")]

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use zibrato_core::level::Level;
use zibrato_core::metric::{Counter, Gauge, ONE_IN_MAX, SampledTimer, Timer};
use zibrato_core::{RING_RECORDS, clock, prepare_thread, registry};

static PLAIN: AtomicU64 = AtomicU64::new(0);
static HITS: Counter = Counter::new("icount.hits", Level::INFO);
static TOOK: Timer = Timer::new("icount.took", Level::INFO);
static DEPTH: Gauge = Gauge::new("icount.depth", Level::INFO);
static STEP: SampledTimer = Timer::new("icount.step", Level::INFO).sampled(ONE_IN_MAX);
static OFF_HITS: Counter = Counter::new("icount.off.hits", Level::DEBUG);
static OFF_TOOK: Timer = Timer::new("icount.off.took", Level::DEBUG);
static OFF_STEP: SampledTimer = Timer::new("icount.off.step", Level::DEBUG).sampled(64);
static OFF_DEPTH: Gauge = Gauge::new("icount.off.depth", Level::DEBUG);

/// Does an operation so many times.
type Run = fn(u64);

/// The operations by name; `loop` is what the loop itself takes.
const OPERATIONS: &[(&str, Run)] = &[
    ("loop", |n| repeat(n, || ())),
    ("fetch_add", |n| {
        repeat(n, || {
            PLAIN.fetch_add(n, Relaxed);
        });
    }),
    ("counter", |n| repeat(n, || HITS.add(n))),
    ("counter_off", |n| repeat(n, || OFF_HITS.add(n))),
    ("timer_record", |n| {
        let duration = Duration::from_nanos(n);
        repeat(n, || TOOK.record(duration));
    }),
    ("timer_off", |n| repeat(n, || drop(OFF_TOOK.start()))),
    ("gauge", |n| repeat(n, || DEPTH.set(f64::from_bits(n)))),
    ("gauge_off", |n| repeat(n, || OFF_DEPTH.set(f64::from_bits(n)))),
    ("two_clock_reads", |n| {
        repeat(n, || {
            let start = black_box(clock::ticks());
            black_box(clock::ticks().wrapping_sub(start));
        });
    }),
    ("timer_guard", |n| repeat(n, || drop(TOOK.start()))),
    // No call of it is timed but the first.
    ("sampled", |n| repeat(n, || drop(STEP.start()))),
    ("sampled_off", |n| repeat(n, || drop(OFF_STEP.start()))),
    ("spilled", |n| {
        for _ in 0..RING_RECORDS {
            TOOK.record(Duration::ZERO);
        }
        repeat(n, || TOOK.record(Duration::from_nanos(500)));
    }),
];

/// Does `operation` `n` times, eight in a row as straight code has them: alone in a loop each would
/// end in a jump of the loop's.
#[inline(always)]
fn repeat(n: u64, operation: impl Fn()) {
    let one = || {
        operation();
        // Keeps the compiler from joining two operations.
        black_box(());
    };
    for _ in 0..n / 8 {
        one();
        one();
        one();
        one();
        one();
        one();
        one();
        one();
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let wanted = arguments.next().unwrap_or_default();
    let times = arguments.next().and_then(|text| text.parse().ok());
    let operation = OPERATIONS.iter().find(|(name, _)| *name == wanted);
    let (Some(times), Some((_, run))) = (times, operation) else {
        let names: Vec<_> = OPERATIONS.iter().map(|(name, _)| *name).collect();
        println!("{}", names.join("\n"));
        return;
    };
    prepare_thread();
    registry::switch(true, vec![]);
    // The first call of each registers it.
    run(8);
    run(times);
}
