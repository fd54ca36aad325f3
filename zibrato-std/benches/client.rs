//! What the first record of a thread costs, and what a client takes while nobody records:
//! `cargo bench -p zibrato-std --bench client`. Prints one table, and fails where a target is missed.
//!
//! A client drains meanwhile, connected to a socket that is what a broker's is. Ended threads give
//! their rings back between rounds, as in a program whose threads come and go.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark reports on stdout and may panic")]

#[path = "../tests/support/heap.rs"]
mod heap;
#[path = "../tests/support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use heap::live_bytes;
use support::{Broker, builder};
use zibrato_core::{RING_RECORDS, SLAB_CELLS};
use zibrato_std::{Client, Counter, Level, Timer, prepare_thread};

/// Threads for each row.
const ROUNDS: usize = 300;
/// Threads that live at the same time, so that each has memory that was nobody's before.
const ALIVE: usize = 64;
/// Most that a thread's first record may cost at the default capacity, in nanoseconds.
const FIRST_NS_MAX: f64 = 5_000.0;
/// How long the client is watched at rest.
const IDLE: Duration = Duration::from_secs(10);
/// Most of one core that a client at rest may take, in per cent.
const IDLE_CORE_MAX: f64 = 0.5;
/// Most of the Rust heap that it may take beside the rings and cells of threads, in KiB.
const IDLE_KIB_MAX: f64 = 200.0;
/// Metrics that the client at rest has.
const METRICS: usize = 100;

static HITS: Counter = Counter::new("client.hits", Level::INFO);
static TOOK: Timer = Timer::new("client.took", Level::INFO);

fn add() {
    HITS.add(1);
}

fn record() {
    TOOK.record(Duration::from_nanos(500));
}

/// Makes the thread's allocator ready, which is no cost of ours.
fn allocate() {
    drop(std::hint::black_box(Box::new(0u8)));
}

fn main() -> ExitCode {
    let broker = Broker::bind().with_own_subscription();
    let timers: Vec<&'static Timer> = (0..METRICS)
        .map(|at| {
            &*Box::leak(Box::new(Timer::new(Box::leak(format!("idle.{at}").into_boxed_str()), Level::INFO)))
        })
        .collect();
    let before = live_bytes();
    let client = builder(&broker.endpoint).window(Duration::from_secs(1)).build().unwrap();
    broker.serve_until("connection", || client.stats().unwrap().connected > 0);
    let mut table = Table { missed: false };

    // A series of each metric, so that there is something to keep and to send.
    timers.iter().for_each(|timer| timer.record(Duration::from_micros(100)));
    client.flush();
    thread::sleep(Duration::from_secs(1));
    let (cpu_before, start) = (cpu_ns(), Instant::now());
    thread::sleep(IDLE);
    let cpu = (cpu_ns() - cpu_before) as f64 / start.elapsed().as_nanos() as f64;
    let own = RING_RECORDS * 16 + SLAB_CELLS * 8;
    table.row("idle client, of one core", 100.0 * cpu, "%", Some(IDLE_CORE_MAX));
    let heap = live_bytes() - before - (RING_RECORDS * 16) as i64;
    table.row("idle client, heap beside rings", heap as f64 / 1024.0, "KiB", Some(IDLE_KIB_MAX));
    table.row("ring and cells of a thread", own as f64 / 1024.0, "KiB", None);
    table.row("resident set of this process", resident_kib(), "KiB", None);

    first_records(&client, &mut table);
    client.shutdown(Duration::ZERO).unwrap();
    if table.missed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// A name, what a thread did before, what is measured then, and the most nanoseconds that it may take.
type FirstRecord = (&'static str, fn(), fn(), Option<f64>);

/// What calls cost a fresh thread; of each row the middle one of many threads.
fn first_records(client: &Client, table: &mut Table) {
    let nothing = || ();
    let rows: [FirstRecord; 8] = [
        ("nothing, two clock reads", nothing, nothing, None),
        ("first counter add of a thread", allocate, add, Some(FIRST_NS_MAX)),
        ("first timer record of a thread", allocate, record, Some(FIRST_NS_MAX)),
        ("prepare_thread", allocate, prepare_thread, None),
        ("first counter add, prepared", prepare_thread, add, None),
        ("first timer record, prepared", prepare_thread, record, None),
        ("first counter add and allocation", nothing, add, Some(FIRST_NS_MAX)),
        ("first timer record and allocation", nothing, record, Some(FIRST_NS_MAX)),
    ];
    let mut samples = rows.map(|_| Vec::with_capacity(ROUNDS));
    for round in 0..ROUNDS {
        for at in 0..rows.len() {
            let at = (round + at) % rows.len();
            let (_, before, work, _) = rows[at];
            samples[at].push(in_fresh_thread(before, work));
        }
        // Behind a pass of the drain, which frees what ended threads had.
        client.stats().unwrap();
    }
    for ((name, _, _, most), samples) in rows.into_iter().zip(&mut samples) {
        samples.sort_unstable();
        table.row(name, samples[ROUNDS / 2].as_nanos() as f64, "ns", most);
    }
    let rows: [(&str, fn()); 2] =
        [("worst of 2 048, one before", record), ("worst of 2 048, prepared", prepare_thread)];
    for (name, before) in rows {
        let mut samples = worst_records(before);
        client.stats().unwrap();
        samples.sort_unstable();
        table.row(name, samples[ALIVE / 2].as_nanos() as f64, "ns", None);
    }
}

/// The worst of the first 2 048 records of each of many threads that did nothing but `before`.
fn worst_records(before: fn()) -> Vec<Duration> {
    let all_done = Barrier::new(ALIVE);
    let worst = || {
        before();
        let each = (0..RING_RECORDS / 2).map(|_| {
            let start = Instant::now();
            record();
            start.elapsed()
        });
        let worst = each.max();
        all_done.wait();
        worst
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..ALIVE).map(|_| scope.spawn(worst)).collect();
        threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
    })
}

/// How long `work` takes a thread that did nothing but `before`.
fn in_fresh_thread(before: fn(), work: fn()) -> Duration {
    let ready = Barrier::new(2);
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            before();
            ready.wait();
            let start = Instant::now();
            work();
            start.elapsed()
        });
        ready.wait();
        thread.join().unwrap()
    })
}

/// Time that all threads of this process have been running.
fn cpu_ns() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let of = |path: std::path::PathBuf| -> u64 {
        let text = std::fs::read_to_string(path).unwrap();
        text.split(' ').next().unwrap().parse().unwrap()
    };
    tasks.map(|task| of(task.unwrap().path().join("schedstat"))).sum()
}

fn resident_kib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().split(' ').next().unwrap().parse().unwrap()
}

struct Table {
    missed: bool,
}

impl Table {
    fn row(&mut self, name: &str, value: f64, unit: &str, most: Option<f64>) {
        let target = most.map(|most| format!("at most {most}")).unwrap_or_default();
        let missed = most.is_some_and(|most| value > most);
        println!("{name:34} {value:10.2} {unit:4} {target}{}", if missed { ": missed" } else { "" });
        self.missed |= missed;
    }
}
