//! How costs grow: with threads, with metrics, with the spread of what a timer records.

mod picture;

use std::fs;
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{available_parallelism, scope, sleep};
use std::time::{Duration, Instant};

use zibrato_core::RING_RECORDS;
use zibrato_service::Shutdown;
use zibrato_std::{Client, Counter, LossReason, WINDOW_MAX, prepare_thread};

use super::calls::{NOBODY, add_calls, count_calls, ns_per_call, time_calls};
use super::load::{Load, Metrics, Spread, shuffle};
use super::threads::Usage;
use super::{Error, Plan, THREADS_MAX, TIMERS_MAX, median};
use crate::demo::random::Random;
use crate::progress::{Progress, note};
use picture::{Axis, Curve, Figure};

/// Threads and metrics of the points.
const THREADS: [u32; 7] = [1, 2, 4, 8, 16, 32, THREADS_MAX];
const METRICS: [u32; 6] = [1, 10, 100, 1_000, 10_000, TIMERS_MAX];
/// Decades between the shortest and the longest duration of the points; 0.3 are an octave.
const DECADES: [f64; 7] = [0.0, 0.3, 1.0, 2.0, 3.0, 4.0, 5.0];
/// How long a point with threads is measured.
const THREADS_POINT: Duration = Duration::from_millis(300);
/// Calls of a sample: half a ring.
const CALLS: u64 = RING_RECORDS as u64 / 2;
/// How long each thread that uses its ring rests for the drain, for each of the threads, and at least.
const REST: Duration = Duration::from_micros(200);
const REST_MIN: Duration = Duration::from_millis(2);
/// Calls of a sample over many counters, at least, and samples.
const SPREAD_CALLS: u64 = 10_000;
const SPREAD_SAMPLES: usize = 31;
/// How long the drain meets a load before it is measured, how long it is measured, and how often.
const DRAIN_WARM: Duration = Duration::from_millis(500);
const DRAIN_SAMPLE: Duration = Duration::from_millis(250);
const DRAIN_SAMPLES: usize = 3;

/// Measures everything and writes a picture of each.
pub(super) fn draw(directory: &Path, shutdown: &Shutdown) -> Result<(), Error> {
    let failed = |source| Error::Curves { path: directory.to_owned(), source };
    fs::create_dir_all(directory).map_err(failed)?;
    let steps = Steps::new(shutdown);
    // Windows end only where that is measured.
    let series = 2 * TIMERS_MAX as usize;
    let client =
        Client::builder().endpoint(NOBODY).source("bench").window(WINDOW_MAX).series_max(series).build()?;
    let metrics = Metrics::new(TIMERS_MAX, TIMERS_MAX, &mut Random::new(1));
    let figures = [
        ("threads.svg", threads(&steps)?),
        ("metrics.svg", many(&client, &metrics, &steps)?),
        ("spread.svg", spread(&client, &metrics, &steps)?),
    ];
    client.shutdown(Duration::ZERO);
    drop(steps);
    for (name, figure) in figures {
        let path = directory.join(name);
        fs::write(&path, figure.svg()?).map_err(failed)?;
        note(format_args!("wrote {}", path.display()));
    }
    Ok(())
}

/// Counts points, and notices that it is to end.
struct Steps<'a> {
    progress: Progress,
    done: AtomicU64,
    shutdown: &'a Shutdown,
}

impl<'a> Steps<'a> {
    fn new(shutdown: &'a Shutdown) -> Self {
        let points = 3 * THREADS.len() + 2 * METRICS.len() + DECADES.len();
        let progress = Progress::bar("scaling curves", points as u64);
        Self { progress, done: AtomicU64::new(0), shutdown }
    }

    fn next(&self) -> Result<(), Error> {
        self.progress.at(self.done.fetch_add(1, Relaxed), String::new);
        if self.shutdown.is_requested() { Err(Error::Stopped) } else { Ok(()) }
    }
}

/// What a call costs while so many threads do the same to the same metric.
fn threads(steps: &Steps<'_>) -> Result<Figure, Error> {
    let curve = |name, run: fn(u64), rests: bool| {
        let point = |threads| {
            steps.next()?;
            let rest = rests.then(|| (REST * threads).max(REST_MIN));
            Ok((f64::from(threads), beside_each_other(threads, run, rest)))
        };
        Ok::<_, Error>(Curve { name, points: THREADS.into_iter().map(point).collect::<Result<_, Error>>()? })
    };
    let curves = vec![
        curve("fetch_add on one shared atomic", add_calls, false)?,
        curve("timer, duration given", time_calls, true)?,
        curve("counter", count_calls, false)?,
    ];
    Ok(Figure {
        title: "What a call costs while other threads do the same to the same metric".to_owned(),
        note: format!(
            "{} cores; medians of samples of {CALLS} calls, for timers with rests in which the ring is drained",
            cores()
        ),
        x: Axis::powers(2.0, "threads"),
        y: Axis::powers(10.0, "nanoseconds a call"),
        curves,
    })
}

/// Nanoseconds a call, the median of the samples of all threads that count.
///
/// Where more threads than cores take turns, or other programs do, a sample counts only if others ended
/// some while it ran, and not so many that its thread must have waited for a core. Threads that rest for the drain have
/// nothing in common, so all of theirs count.
fn beside_each_other(threads: u32, run: fn(u64), rest: Option<Duration>) -> f64 {
    let (start, done, ended) =
        (Barrier::new(threads as usize + 1), AtomicBool::new(false), AtomicU64::new(0));
    let sample = || {
        prepare_thread();
        let mut samples = Vec::new();
        start.wait();
        while !done.load(Relaxed) {
            let before = ended.load(Relaxed);
            let ns = ns_per_call(run, CALLS);
            let others = ended.fetch_add(1, Relaxed) - before;
            samples.push((ns, others));
            rest.inspect(|rest| sleep(*rest));
        }
        samples
    };
    let samples: Vec<(f64, u64)> = scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(sample)).collect();
        start.wait();
        sleep(THREADS_POINT);
        done.store(true, Relaxed);
        all.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    });
    let most = 2 * cores() as u64;
    let counts = |others| threads == 1 || rest.is_some() || (1..=most).contains(&others);
    let mut ns: Vec<f64> = samples.iter().filter(|(_, others)| counts(*others)).map(|(ns, _)| *ns).collect();
    if ns.is_empty() {
        // With one core nobody is ever beside another.
        ns = samples.into_iter().map(|(ns, _)| ns).collect();
    }
    median(&mut ns)
}

/// Cores that this process may use.
fn cores() -> usize {
    available_parallelism().map_or(1, usize::from)
}

/// What a call and the drain cost over so many metrics.
fn many(client: &Client, metrics: &Metrics, steps: &Steps<'_>) -> Result<Figure, Error> {
    let mut atomics: Vec<&'static AtomicU64> =
        metrics.counters.iter().map(|_| &*Box::leak(Box::default())).collect();
    shuffle(&mut atomics, &mut Random::new(2));
    let (mut adds, mut counts, mut drained) = (Vec::new(), Vec::new(), Vec::new());
    for number in METRICS {
        let x = f64::from(number);
        steps.next()?;
        let (atomics, counters) = (&atomics[..number as usize], &metrics.counters[..number as usize]);
        adds.push((x, over(|| atomics.iter().for_each(|atomic| _ = atomic.fetch_add(1, Relaxed)), number)));
        counts.push((x, over(|| counters.iter().for_each(|counter| Counter::increment(counter)), number)));
        steps.next()?;
        drained.extend(drain_ns(client, metrics, number, Spread::LOGNORMAL)?.map(|ns| (x, ns)));
    }
    Ok(Figure {
        title: "What a call and the drain cost over many metrics".to_owned(),
        note: "in random order, by one thread; the drain's processor time, with its wake-ups".to_owned(),
        x: Axis::powers(10.0, "metrics"),
        y: Axis::powers(10.0, "nanoseconds"),
        curves: vec![
            Curve { name: "drain, a timer's record", points: drained },
            Curve { name: "fetch_add, one atomic a metric", points: adds },
            Curve { name: "counter", points: counts },
        ],
    })
}

/// Nanoseconds a call of `pass`, which makes `calls` of them.
fn over(pass: impl Fn(), calls: u32) -> f64 {
    let passes = SPREAD_CALLS.div_ceil(calls.into());
    let sample = || ns_per_call(|passes| (0..passes).for_each(|_| pass()), passes) / f64::from(calls);
    // The first sample meets everything for the first time.
    sample();
    median(&mut std::array::from_fn::<_, SPREAD_SAMPLES, _>(|_| sample()))
}

/// What the drain costs if durations are spread so widely.
fn spread(client: &Client, metrics: &Metrics, steps: &Steps<'_>) -> Result<Figure, Error> {
    let mut points = Vec::new();
    for decades in DECADES {
        steps.next()?;
        points.extend(drain_ns(client, metrics, 10, Spread::Decades(decades))?.map(|ns| (decades, ns)));
    }
    Ok(Figure {
        title: "What the drain costs, by the spread of what timers record".to_owned(),
        note: "10 timers, one thread that records; the drain's processor time, with its wake-ups".to_owned(),
        x: Axis::even(5, "decades between shortest and longest duration (0.3 are an octave)"),
        y: Axis::from_zero("nanoseconds a record"),
        curves: vec![Curve { name: "drain, a timer's record", points }],
    })
}

/// Processor time of the drain thread for each record that it took out of a ring that is filled as fast as
/// a thread can, in nanoseconds; `None` where the system does not say.
fn drain_ns(client: &Client, metrics: &Metrics, timers: u32, spread: Spread) -> Result<Option<f64>, Error> {
    let plan = Plan {
        duration: DRAIN_WARM + DRAIN_SAMPLES as u32 * DRAIN_SAMPLE,
        rate: None,
        threads: 1,
        timers,
        counters: 0,
        window: WINDOW_MAX,
        spread,
    };
    let load = Load::start(&plan, &metrics.first(timers)).map_err(Error::Thread)?;
    sleep(DRAIN_WARM);
    let samples: Result<Vec<_>, _> = (0..DRAIN_SAMPLES).map(|_| drain_sample(client)).collect();
    load.stop();
    let mut samples: Vec<f64> = samples?.into_iter().flatten().collect();
    Ok((!samples.is_empty()).then(|| median(&mut samples)))
}

fn drain_sample(client: &Client) -> Result<Option<f64>, Error> {
    let drained = || {
        let stats = client.stats().ok_or(Error::NoStats)?;
        Ok::<_, Error>(stats.accepted.timers - stats.losses.count(LossReason::Spilled))
    };
    let (before, usage, began) = (drained()?, Usage::now(), Instant::now());
    sleep(DRAIN_SAMPLE.saturating_sub(began.elapsed()));
    let cpu = usage.and_then(|usage| Some(Usage::now()?.since(&usage)));
    let records = drained()? - before;
    Ok(cpu.filter(|_| records > 0).map(|cpu| 1e9 * cpu.drain_s / records as f64))
}
