//! The loop, and its own count of what it records.

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use zibrato_std::{Client, Counter, Gauge, Level, Timer, TimerGuard, prepare_thread};

use crate::report::{Recorded, Sets, Times};

pub(crate) static ITERATIONS: Counter = Counter::new("loop.iterations", Level::INFO);
/// Two series that differ only in a tag.
pub(crate) static BYTES_IN: Counter =
    Counter::new("loop.bytes", Level::INFO).unit("B").tags(&[("direction", "in")]);
pub(crate) static BYTES_OUT: Counter =
    Counter::new("loop.bytes", Level::INFO).unit("B").tags(&[("direction", "out")]);
/// Gauges that always have the same value, so that the last one is known with several threads too.
pub(crate) static ZERO: Gauge = Gauge::new("loop.zero", Level::INFO);
pub(crate) static NEGATIVE: Gauge = Gauge::new("loop.negative", Level::INFO);
pub(crate) static LARGE: Gauge = Gauge::new("loop.large", Level::INFO);
pub(crate) static WORK: Timer = Timer::new("loop.work", Level::INFO).unit("s");
/// On demand: costs one load as long as nobody subscribes to debug.
pub(crate) static DETAIL: Timer = Timer::new("loop.detail", Level::DEBUG).unit("s");

/// Name of the gauge that each thread has for itself, told apart by a tag.
pub(crate) const PROGRESS: &str = "loop.progress";

pub(crate) const ZERO_VALUE: f64 = 0.0;
pub(crate) const NEGATIVE_VALUE: f64 = -1.5;
pub(crate) const LARGE_VALUE: f64 = 1e9;

/// Iterations between two sets of the gauges and two looks at the clock.
const GAUGES_EVERY: u64 = 16;
/// Steps of the work that is timed.
const WORK_STEPS: u64 = 8;
const DETAIL_STEPS: u64 = 2;

/// When the loop ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    /// After so many iterations in each thread.
    Iterations(u64),
    /// After so much time.
    Elapsed(Duration),
}

/// Runs the loop in `threads` threads and returns what all of them recorded.
pub(crate) fn run(client: &Client, threads: u16, until: Until) -> Recorded {
    let started = Instant::now();
    let workers: Vec<_> = (0..threads)
        .map(|number| {
            let progress = client.gauge(PROGRESS, Level::INFO).tag("thread", &number.to_string()).get();
            thread::spawn(move || iterate(progress, until, started))
        })
        .collect();
    let mut recorded = Recorded::default();
    for worker in workers {
        match worker.join() {
            Ok(part) => recorded.add(part),
            // What a thread recorded before its panic is unknown, so there is nothing to report.
            Err(reason) => std::panic::resume_unwind(reason),
        }
    }
    recorded
}

fn iterate(progress: &'static Gauge, until: Until, started: Instant) -> Recorded {
    prepare_thread();
    let mut recorded = Recorded::default();
    let (mut work, mut detail) = (Times::default(), Times::default());
    let mut own = Sets::default();
    let mut iteration = 0;
    loop {
        if iteration % GAUGES_EVERY == 0 {
            if is_over(until, iteration, started) {
                break;
            }
            set_gauges(&mut recorded);
            own.set(progress, iteration as f64);
        }
        if matches!(until, Until::Iterations(iterations) if iteration == iterations) {
            break;
        }
        ITERATIONS.increment();
        let (bytes_in, bytes_out) = (iteration & 0xff, 3);
        BYTES_IN.add(bytes_in);
        BYTES_OUT.add(bytes_out);
        recorded.bytes_in += bytes_in;
        recorded.bytes_out += bytes_out;
        work.add(spin(WORK.start(), iteration, WORK_STEPS));
        detail.add(spin(DETAIL.start(), iteration, DETAIL_STEPS));
        iteration += 1;
    }
    recorded.iterations = iteration;
    recorded.work = work;
    recorded.detail = detail;
    recorded.progress = vec![own];
    recorded
}

fn is_over(until: Until, iteration: u64, started: Instant) -> bool {
    match until {
        Until::Iterations(iterations) => iteration >= iterations,
        Until::Elapsed(time) => started.elapsed() >= time,
    }
}

fn set_gauges(recorded: &mut Recorded) {
    recorded.zero.set(&ZERO, ZERO_VALUE);
    recorded.negative.set(&NEGATIVE, NEGATIVE_VALUE);
    recorded.large.set(&LARGE, LARGE_VALUE);
}

/// A little work under a guard. `stop` returns exactly what is recorded, so sums can be exact.
fn spin(guard: TimerGuard, seed: u64, steps: u64) -> Option<Duration> {
    let mut state = seed;
    for _ in 0..steps {
        state = black_box(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    }
    black_box(state);
    guard.stop()
}
