//! What a call costs its caller, this library's and its rivals', in one process.
//!
//! All operations run in each of many rounds, in another order each time, and beside each stands a relaxed
//! `fetch_add` measured right before and behind it: the ratios are those of neighbours in time. Prints a
//! table, and with `--check` fails where this library misses its targets.

mod operations;
mod table;

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use operations::{Operation, Work};

/// Rounds; each has every operation once.
const ROUNDS: usize = 60;
/// Calls of the `fetch_add` on each side of an operation.
const BASE_CALLS: u64 = 8_000;

fn main() {
    let check = std::env::args().any(|argument| argument == "--check");
    let mut operations = operations::all();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..ROUNDS {
        eprint!("\rround {} of {ROUNDS}", round + 1);
        let mut order: Vec<usize> = (0..operations.len()).collect();
        for at in (1..order.len()).rev() {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            order.swap(at, (random % (at as u64 + 1)) as usize);
        }
        for at in order {
            measure(&mut operations[at]);
        }
    }
    eprintln!();
    let misses = table::print(&operations);
    if check && !misses.is_empty() {
        for miss in &misses {
            eprintln!("{miss}");
        }
        std::process::exit(1);
    }
}

/// Takes one sample of an operation, alone and beside a second thread that does the same.
fn measure(operation: &mut Operation) {
    let before = base_ns();
    let alone = match &mut operation.work {
        Work::Own(work) => timed(operation.calls, work),
        Work::Shared(work) => timed(operation.calls, |n| work(n)),
    };
    let base = (before + base_ns()) / 2.0;
    operation.alone_ns.push(alone);
    operation.ratios.push(alone / base);
    (operation.settle)();
    if let Work::Shared(work) = &operation.work {
        operation.pair_ratios.push(beside_another(operation.calls, work.as_ref()) / alone);
        (operation.settle)();
    }
}

/// Nanoseconds a call.
fn timed(calls: u64, mut work: impl FnMut(u64)) -> f64 {
    let start = Instant::now();
    work(black_box(calls));
    start.elapsed().as_nanos() as f64 / calls as f64
}

fn base_ns() -> f64 {
    static SUM: AtomicU64 = AtomicU64::new(0);
    timed(BASE_CALLS, |n| (0..n).for_each(|i| drop_value(SUM.fetch_add(i, Relaxed))))
}

/// Nanoseconds a call while another thread does the same to the same metric.
fn beside_another(calls: u64, work: &(dyn Fn(u64) + Send + Sync)) -> f64 {
    let (start, done) = (Barrier::new(2), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            zibrato_std::prepare_thread();
            start.wait();
            // In small steps, so that it ends soon after the other.
            while !done.load(Relaxed) {
                work(32);
            }
        });
        start.wait();
        let ns = timed(calls, work);
        done.store(true, Relaxed);
        ns
    })
}

fn drop_value<T>(_: T) {}
