//! The operations, each a loop of calls to one library.

mod facade;
mod rings;
mod rivals;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use zibrato_core::clock;
use zibrato_std::{Client, Counter, Gauge, Level, Timer};

/// Calls in a sample; half a ring of ours, which is drained between samples.
const CALLS: u64 = 2_048;
/// Calls in a sample of what costs more than 100 ns.
const CALLS_SLOW: u64 = 512;

/// What a sample runs: given a number of calls, makes them.
pub enum Work {
    /// By one thread at a time.
    Own(Box<dyn FnMut(u64)>),
    /// By two threads at once too.
    Shared(Arc<dyn Fn(u64) + Send + Sync>),
}

/// One row of the table.
pub struct Operation {
    pub library: &'static str,
    pub name: &'static str,
    pub work: Work,
    pub calls: u64,
    /// Brings the library back to rest, outside of the measurement.
    pub settle: Box<dyn Fn()>,
    pub alone_ns: Vec<f64>,
    pub ratios: Vec<f64>,
    pub pair_ratios: Vec<f64>,
}

fn operation(library: &'static str, name: &'static str, calls: u64, work: Work) -> Operation {
    let (alone_ns, ratios, pair_ratios) = Default::default();
    Operation { library, name, work, calls, settle: Box::new(|| ()), alone_ns, ratios, pair_ratios }
}

/// A loop that two threads may run at once.
macro_rules! shared {
    ($library:expr, $name:expr, $calls:expr, |$i:ident| $body:expr) => {
        operation(
            $library,
            $name,
            $calls,
            Work::Shared(Arc::new(move |n| {
                for $i in 0..n {
                    let _ = $body;
                }
            })),
        )
    };
}

/// A loop over something that one thread owns.
macro_rules! own {
    ($library:expr, $name:expr, $calls:expr, |$i:ident| $body:expr) => {
        operation(
            $library,
            $name,
            $calls,
            Work::Own(Box::new(move |n| {
                for $i in 0..n {
                    let _ = $body;
                }
            })),
        )
    };
}

use {own, shared};

/// Every row, in the order of the table.
pub fn all() -> Vec<Operation> {
    let mut all = base();
    all.extend(zibrato());
    all.extend(facade::all());
    all.extend(rivals::all());
    all.extend(rings::all());
    all
}

fn base() -> Vec<Operation> {
    static SUM: AtomicU64 = AtomicU64::new(0);
    vec![
        shared!("std", "fetch_add, relaxed", CALLS, |i| SUM.fetch_add(i, Relaxed)),
        shared!("core", "two clock reads", CALLS, |_i| {
            let start = std::hint::black_box(clock::ticks());
            std::hint::black_box(clock::ticks().wrapping_sub(start))
        }),
    ]
}

static CLIENT: LazyLock<Client> =
    LazyLock::new(|| Client::builder().endpoint("tcp://127.0.0.1:9").build().expect("one client a process"));

/// The answer comes behind a pass of the drain.
fn settle_ours() {
    let _ = CLIENT.stats();
}

/// A guard for libraries that have none: it reads the clock of `std`, and gives `record` what passed when
/// it is dropped.
struct Guard<F: Fn(Duration)> {
    start: Instant,
    record: F,
}

impl<F: Fn(Duration)> Guard<F> {
    fn start(record: F) -> Self {
        Self { start: Instant::now(), record }
    }
}

impl<F: Fn(Duration)> Drop for Guard<F> {
    fn drop(&mut self) {
        (self.record)(self.start.elapsed());
    }
}

fn zibrato() -> Vec<Operation> {
    static HITS: Counter = Counter::new("peers.hits", Level::INFO);
    static TOOK: Timer = Timer::new("peers.took", Level::INFO);
    static DEPTH: Gauge = Gauge::new("peers.depth", Level::INFO);
    static OFF_HITS: Counter = Counter::new("peers.off.hits", Level::DEBUG);
    static OFF_TOOK: Timer = Timer::new("peers.off.took", Level::DEBUG);
    LazyLock::force(&CLIENT);
    zibrato_std::prepare_thread();
    let mut rows = vec![
        shared!("zibrato", "counter", CALLS, |i| HITS.add(i)),
        shared!("zibrato", "timer, duration given", CALLS, |i| TOOK.record(Duration::from_nanos(i))),
        shared!("zibrato", "gauge", CALLS, |i| DEPTH.set(i as f64)),
        shared!("zibrato", "timer guard", CALLS, |_i| TOOK.start()),
        shared!("zibrato", "timer guard, exact", CALLS, |_i| TOOK.start_exact()),
        shared!("zibrato", "counter at a level that is off", CALLS, |i| OFF_HITS.add(i)),
        shared!("zibrato", "timer guard at a level that is off", CALLS, |_i| OFF_TOOK.start()),
    ];
    for row in &mut rows {
        row.settle = Box::new(settle_ours);
    }
    rows
}
