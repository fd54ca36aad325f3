//! How fast the drain takes what threads recorded: records out of a ring into the state of their timers,
//! and counters out of the cells.
//!
//! `cargo bench -p zibrato-std --features bench --bench drain`. One thread does both sides in turn, so
//! that only the drain's own work is measured; what fetching lines from another core costs is in
//! `ci/peers`. Fails where a target is missed.
#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use zibrato_core::RING_RECORDS;
use zibrato_std::bench::Folding;
use zibrato_std::{Counter, Level, Timer};

/// Rounds; the median counts.
const ROUNDS: usize = 201;
/// How many timers share a ring's records, and the least records a second that their drain must reach.
const TIMERS: [(usize, f64); 4] = [(1, 100e6), (10, 100e6), (10_000, 10e6), (100_000, 10e6)];
/// Shortest duration recorded, and how many times longer the longest is: three decades.
const SHORTEST_NS: u64 = 1_000;
const SPREAD: f64 = 1_000.0;
/// Counters that are all read, and the longest time that may take.
const COUNTERS: usize = 100_000;
const READ_MAX: Duration = Duration::from_micros(200);

/// Numbers between 0 and 1 whose order nobody can foresee, the same in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn leak(prefix: &str, at: usize) -> &'static str {
    Box::leak(format!("{prefix}.{at}").into_boxed_str())
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_unstable_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// Nanoseconds a record, drained from one full ring of records of all `timers`.
fn record_ns(folding: &mut Folding, timers: &[&'static Timer], random: &mut Random) -> f64 {
    // The whole spread first, so that no histogram grows any more.
    for chunk in timers.chunks(RING_RECORDS / 2) {
        for timer in chunk {
            timer.record(Duration::from_nanos(SHORTEST_NS));
            timer.record(Duration::from_nanos(SHORTEST_NS * SPREAD as u64));
        }
        folding.fold_rings();
    }
    let mut round = || {
        for _ in 0..RING_RECORDS {
            let timer = timers[(random.next() * timers.len() as f64) as usize];
            timer.record(Duration::from_nanos((SHORTEST_NS as f64 * SPREAD.powf(random.next())) as u64));
        }
        let start = Instant::now();
        let records = folding.fold_rings();
        assert_eq!(records, RING_RECORDS);
        start.elapsed().as_nanos() as f64 / records as f64
    };
    median((0..ROUNDS).map(|_| round()).collect())
}

fn main() -> ExitCode {
    let Some(mut folding) = Folding::start() else { return ExitCode::FAILURE };
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut missed = false;
    let all: Vec<&'static Timer> = (0..TIMERS[TIMERS.len() - 1].0)
        .map(|at| &*Box::leak(Box::new(Timer::new(leak("timer", at), Level::INFO))))
        .collect();
    for (timers, least) in TIMERS {
        let rate = 1e9 / record_ns(&mut folding, &all[..timers], &mut random);
        println!("records of {timers:>6} timers {:8.1} M/s, at least {:.0}", rate / 1e6, least / 1e6);
        missed |= rate < least;
    }

    let counters: Vec<&'static Counter> = (0..COUNTERS)
        .map(|at| &*Box::leak(Box::new(Counter::new(leak("counter", at), Level::INFO))))
        .collect();
    let (mut reads, mut folds, mut totals) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        counters.iter().for_each(|counter| counter.add(1));
        let start = Instant::now();
        folding.read_cells(&mut totals);
        reads.push(start.elapsed().as_nanos() as f64);
        let start = Instant::now();
        folding.fold_cells();
        folds.push(start.elapsed().as_nanos() as f64);
    }
    let (read, fold) = (median(reads), median(folds));
    println!("{COUNTERS} cells read {:8.3} ms, at most {:.1}", read / 1e6, READ_MAX.as_secs_f64() * 1e3);
    println!("{COUNTERS} changed counters folded {:8.3} ms", fold / 1e6);
    missed |= read > READ_MAX.as_nanos() as f64;
    if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
