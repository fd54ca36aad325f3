//! The program that is measured: threads that record in a hot loop, and one that changes many counters.

use std::hint::spin_loop;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{Builder, JoinHandle, sleep};
use std::time::{Duration, Instant};

use zibrato_std::{Counter, Level, Timer, prepare_thread};

use super::Plan;
use crate::demo::random::Random;

/// Names of the threads.
pub(super) const PRODUCER: &str = "bench-record";
pub(super) const COUNTING: &str = "bench-count";
/// Records between two looks at the clock.
const BURST: u64 = 64;
/// A thread that was held up catches up at this share of the ordinary interval, that is 1.25 times as
/// fast: a program that was held up does not make its calls in no time either.
const CATCH_UP: f64 = 0.8;
/// Durations that are recorded, over and over; a power of two.
const DURATIONS: usize = 512;
const DURATION_MEDIAN: Duration = Duration::from_micros(1);
const DURATION_MAX: Duration = Duration::from_millis(1);
/// A window's counters are changed in steps of this length, each its part of them.
const STEP: Duration = Duration::from_millis(10);

/// The metrics, which live as long as the process.
#[derive(Clone, Debug)]
pub(super) struct Metrics {
    pub(super) timers: Vec<&'static Timer>,
    pub(super) counters: Vec<&'static Counter>,
}

impl Metrics {
    /// As many of each, in an order that `random` makes. They are made here and not by the client, which makes no
    /// more than [`RUN_TIME_METRICS_MAX`](zibrato_std::RUN_TIME_METRICS_MAX).
    pub(super) fn new(timers: u32, counters: u32, random: &mut Random) -> Self {
        let name = |what, at| -> &'static str { Box::leak(format!("bench.{what}.{at:06}").into_boxed_str()) };
        let timer =
            |at| -> &'static Timer { Box::leak(Box::new(Timer::new(name("timer", at), Level::INFO))) };
        let counter =
            |at| -> &'static Counter { Box::leak(Box::new(Counter::new(name("counter", at), Level::INFO))) };
        let mut metrics =
            Self { timers: (0..timers).map(timer).collect(), counters: (0..counters).map(counter).collect() };
        shuffle(&mut metrics.timers, random);
        shuffle(&mut metrics.counters, random);
        metrics
    }

    /// The first timers alone.
    pub(super) fn first(&self, timers: u32) -> Self {
        Self { timers: self.timers[..timers as usize].to_vec(), counters: Vec::new() }
    }
}

/// Each comes anywhere.
pub(super) fn shuffle<T>(all: &mut [T], random: &mut Random) {
    for at in (1..all.len()).rev() {
        all.swap(at, random.below(at + 1));
    }
}

/// How the durations that are recorded are spread.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Spread {
    /// As a program has them: half above [`DURATION_MEDIAN`], with this standard deviation of the logarithm.
    Lognormal(f64),
    /// Evenly on a logarithmic scale over so many decades from [`DURATION_MEDIAN`] on.
    Decades(f64),
}

impl Spread {
    /// What a program has.
    pub(super) const LOGNORMAL: Self = Self::Lognormal(1.0);

    fn durations(self, seed: u64) -> [Duration; DURATIONS] {
        let mut random = Random::new(seed);
        std::array::from_fn(|_| match self {
            Self::Lognormal(sigma) => random.lognormal(DURATION_MEDIAN, sigma, DURATION_MAX),
            Self::Decades(decades) => {
                let part = random.below(DURATIONS) as f64 / (DURATIONS - 1) as f64;
                DURATION_MEDIAN.mul_f64(10_f64.powf(decades * part))
            }
        })
    }
}

/// The threads while they run.
#[derive(Debug)]
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    /// Records of each producer so far.
    recorded: Vec<Arc<AtomicU64>>,
    producers: Vec<JoinHandle<u64>>,
    counting: Option<JoinHandle<u64>>,
}

/// What the threads recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Recorded {
    /// Records of timers.
    pub(super) timers: u64,
    /// Sum of what was added to counters, by ones.
    pub(super) counters: u64,
}

impl Load {
    /// Starts the threads.
    pub(super) fn start(plan: &Plan, metrics: &Metrics) -> io::Result<Self> {
        let mut load =
            Self { stop: Arc::default(), recorded: Vec::new(), producers: Vec::new(), counting: None };
        let timers: Arc<[_]> = metrics.timers.as_slice().into();
        for seed in 0..plan.threads {
            let (stop, recorded) = (Arc::clone(&load.stop), Arc::<AtomicU64>::default());
            load.recorded.push(Arc::clone(&recorded));
            let timers = Arc::clone(&timers);
            let pace = plan.rate.map(|rate| Pace::new(rate / f64::from(plan.threads)));
            let durations = plan.spread.durations(seed.into());
            let run = move || record(&timers, &durations, pace, &stop, &recorded);
            load.producers.push(Builder::new().name(PRODUCER.to_owned()).spawn(run)?);
        }
        if !metrics.counters.is_empty() {
            let (stop, window, counters) = (Arc::clone(&load.stop), plan.window, metrics.counters.clone());
            let run = move || count(&counters, window, &stop);
            load.counting = Some(Builder::new().name(COUNTING.to_owned()).spawn(run)?);
        }
        Ok(load)
    }

    /// Records of timers so far.
    pub(super) fn timer_records(&self) -> u64 {
        self.recorded.iter().map(|recorded| recorded.load(Relaxed)).sum()
    }

    /// Ends the threads.
    pub(super) fn stop(self) -> Recorded {
        self.stop.store(true, Relaxed);
        // A thread that panicked recorded something unknown, and then the totals are not exact.
        let join = |thread: JoinHandle<u64>| thread.join().unwrap_or(0);
        Recorded {
            timers: self.producers.into_iter().map(join).sum(),
            counters: self.counting.map_or(0, join),
        }
    }
}

/// The hot loop of a thread; how often it recorded.
fn record(
    timers: &[&'static Timer],
    durations: &[Duration; DURATIONS],
    mut pace: Option<Pace>,
    stop: &AtomicBool,
    recorded: &AtomicU64,
) -> u64 {
    prepare_thread();
    let (mut records, mut timer) = (0, 0);
    while !stop.load(Relaxed) {
        if let Some(pace) = &mut pace {
            pace.wait();
        }
        for _ in 0..BURST {
            timers[timer].record(durations[records as usize % DURATIONS]);
            records += 1;
            timer += 1;
            if timer == timers.len() {
                timer = 0;
            }
        }
        recorded.store(records, Relaxed);
    }
    records
}

/// Bursts at a steady rate. Between them the thread reads the clock and does not sleep.
#[derive(Debug)]
struct Pace {
    interval: Duration,
    shortest: Duration,
    next: Instant,
}

impl Pace {
    /// `rate` in records a second.
    fn new(rate: f64) -> Self {
        let interval = Duration::from_secs_f64(BURST as f64 / rate);
        Self { interval, shortest: interval.mul_f64(CATCH_UP), next: Instant::now() }
    }

    fn wait(&mut self) {
        let mut now = Instant::now();
        while now < self.next {
            spin_loop();
            now = Instant::now();
        }
        self.next = (self.next + self.interval).max(now + self.shortest);
    }
}

/// Adds one to every counter once a window, in even steps; the sum of what was added.
fn count(counters: &[&'static Counter], window: Duration, stop: &AtomicBool) -> u64 {
    let steps = u32::try_from(window.as_nanos() / STEP.as_nanos()).unwrap_or(u32::MAX).max(1);
    let of_a_step = counters.len().div_ceil(steps as usize);
    let (step, mut due, mut sum) = (window / steps, Instant::now(), 0);
    loop {
        let mut chunks = counters.chunks(of_a_step);
        for _ in 0..steps {
            if stop.load(Relaxed) {
                return sum;
            }
            for counter in chunks.next().unwrap_or_default() {
                counter.increment();
                sum += 1;
            }
            due += step;
            sleep(due.saturating_duration_since(Instant::now()));
        }
    }
}
