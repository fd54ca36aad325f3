//! What a record costs its caller, beside an uncontended relaxed `fetch_add` in the same run.
//!
//! `cargo bench -p zibrato-std --bench record`. Compare ratios within one run, never times of two.
//! A client drains the rings meanwhile; between batches of half a ring the bench waits until it
//! has, so that `timer` and `gauge` measure the ring and `spilled` the way around it.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use zibrato_core::{RING_RECORDS, clock};
use zibrato_std::{Client, Counter, Gauge, Level, SampledTimer, Timer};

static PLAIN: AtomicU64 = AtomicU64::new(0);
static HITS: Counter = Counter::new("bench.hits", Level::INFO);
static DEPTH: Gauge = Gauge::new("bench.depth", Level::INFO);
static TOOK: Timer = Timer::new("bench.took", Level::INFO);
static STEP: SampledTimer = Timer::new("bench.step", Level::INFO).sampled(64);
static OFF: Timer = Timer::new("bench.off", Level::DEBUG);
static OFF_STEP: SampledTimer = Timer::new("bench.off.step", Level::DEBUG).sampled(64);
static OFF_HITS: Counter = Counter::new("bench.off.hits", Level::DEBUG);

/// Runs `record` `n` times in batches that fit the ring, timing only the batches.
fn batches(client: &Client, n: u64, mut record: impl FnMut()) -> Duration {
    let batch = RING_RECORDS as u64 / 2;
    let (mut left, mut took) = (n, Duration::ZERO);
    while left > 0 {
        let now = left.min(batch);
        let start = Instant::now();
        for _ in 0..now {
            record();
        }
        took += start.elapsed();
        left -= now;
        // The answer comes behind a pass of the drain.
        black_box(client.stats());
    }
    took
}

/// Says how much memory the process holds with a client at rest; `tests/allocations.rs` bounds the heap.
fn report_resident_set() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(line) = status.lines().find(|line| line.starts_with("VmRSS")) {
        eprintln!("process with a client at rest: {line}");
    }
}

fn record(c: &mut Criterion) {
    let Ok(client) = Client::builder().endpoint("tcp://127.0.0.1:9").build() else { return };
    report_resident_set();
    let mut group = c.benchmark_group("record");
    group.bench_function("fetch_add", |b| b.iter(|| PLAIN.fetch_add(black_box(1), Relaxed)));
    group.bench_function("counter", |b| b.iter(|| HITS.add(black_box(1))));
    group.bench_function("counter_gated_off", |b| b.iter(|| OFF_HITS.add(black_box(1))));
    group.bench_function("timer_gated_off", |b| b.iter(|| drop(OFF.start())));
    group.bench_function("two_clock_reads", |b| {
        b.iter(|| {
            let start = black_box(clock::ticks());
            black_box(clock::ticks().wrapping_sub(start))
        });
    });
    group.bench_function("timer_guard", |b| b.iter_custom(|n| batches(&client, n, || drop(TOOK.start()))));
    group.bench_function("sampled_64", |b| b.iter_custom(|n| batches(&client, n, || drop(STEP.start()))));
    group.bench_function("sampled_gated_off", |b| b.iter(|| drop(OFF_STEP.start())));
    group.bench_function("timer_guard_exact", |b| {
        b.iter_custom(|n| batches(&client, n, || drop(TOOK.start_exact())));
    });
    group.bench_function("timer_record", |b| {
        b.iter_custom(|n| batches(&client, n, || TOOK.record(black_box(Duration::from_nanos(500)))));
    });
    group.bench_function("gauge", |b| b.iter_custom(|n| batches(&client, n, || DEPTH.set(black_box(1.5)))));
    group.bench_function("spilled", |b| {
        b.iter_custom(|n| {
            // Nobody drains fast enough for this: most records find the ring full.
            let start = Instant::now();
            for _ in 0..n {
                TOOK.record(black_box(Duration::from_nanos(500)));
            }
            start.elapsed()
        });
    });
    group.finish();
    client.shutdown(Duration::ZERO);
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1)).sample_size(20);
    targets = record
}
criterion_main!(benches);
