//! What recording and a client at rest take from the heap, seen by a counting allocator that
//! itself records: an instrumented allocator must not hang or recurse without end.
#![expect(unsafe_code, reason = "a global allocator is an unsafe trait")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use zibrato_core::{RING_RECORDS, SLAB_CELLS};
use zibrato_std::{Client, Counter, Gauge, Level, SampledTimer, Timer, prepare_thread};

struct Counting;

static LIVE_BYTES: AtomicI64 = AtomicI64::new(0);
static ALLOCATIONS: Counter = Counter::new("alloc.calls", Level::INFO);
static SIZES: Timer = Timer::new("alloc.took", Level::INFO);

thread_local! {
    static OF_THIS_THREAD: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: passes every call on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE_BYTES.fetch_add(layout.size() as i64, Relaxed);
        OF_THIS_THREAD.with(|count| count.set(count.get() + 1));
        ALLOCATIONS.add(1);
        SIZES.record(Duration::from_nanos(1));
        // SAFETY: the caller's duties are ours.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size() as i64, Relaxed);
        // SAFETY: the caller's duties are ours.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static HITS: Counter = Counter::new("a.hits", Level::INFO);
static DEPTH: Gauge = Gauge::new("a.depth", Level::INFO);
static TOOK: Timer = Timer::new("a.took", Level::INFO);
static STEP: SampledTimer = Timer::new("a.step", Level::INFO).sampled(2);
static OFF: Timer = Timer::new("a.off", Level::DEBUG);
static OFF_HITS: Counter = Counter::new("a.off.hits", Level::DEBUG);
static OFF_DEPTH: Gauge = Gauge::new("a.off.depth", Level::DEBUG);

fn record_everything(times: u32) {
    for _ in 0..times {
        HITS.add(1);
        DEPTH.set(1.0);
        TOOK.record(Duration::from_nanos(5));
        drop(TOOK.start());
        let _ = TOOK.start().stop();
        TOOK.measure(|| ());
        drop(STEP.start());
        STEP.measure(|| ());
        drop(TOOK.start_exact());
        OFF_HITS.add(1);
        OFF_DEPTH.set(1.0);
        drop(OFF.start());
    }
}

fn client() -> Client {
    Client::builder().endpoint("tcp://127.0.0.1:9").window(Duration::from_millis(20)).build().unwrap()
}

/// One test, since one client a process and one heap are measured.
#[test]
fn recording_allocates_nothing_and_nothing_is_left_behind() {
    let before_client = LIVE_BYTES.load(Relaxed);
    let client = client();
    record_everything(1);

    // After a thread's first record nothing is allocated, rings full or not.
    let before = OF_THIS_THREAD.get();
    record_everything(100_000);
    assert_eq!(OF_THIS_THREAD.get(), before, "allocations of this thread while it recorded");

    // A prepared thread does not even allocate at its first record.
    std::thread::spawn(|| {
        prepare_thread();
        let before = OF_THIS_THREAD.get();
        record_everything(10);
        assert_eq!(OF_THIS_THREAD.get(), before);
    })
    .join()
    .unwrap();

    // 1 000 threads that come and go leave nothing behind, and nothing they recorded is lost.
    let settled = |what: &str, limit: i64| {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            client.flush();
            let live = LIVE_BYTES.load(Relaxed);
            if live <= limit {
                return live;
            }
            assert!(Instant::now() < deadline, "{what}: {live} bytes live, limit {limit}");
        }
    };
    // 300 KiB at rest, and besides it the ring and the cells of this thread.
    let own = (RING_RECORDS * 16 + SLAB_CELLS * 8) as i64;
    let resting = settled("client at rest", before_client + 300 * 1024 + own);
    for _ in 0..125 {
        let threads: Vec<_> = (0..8).map(|_| std::thread::spawn(|| record_everything(2))).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
    settled("after 1 000 threads", resting + 32 * 1024);

    let stats = client.shutdown(Duration::ZERO).unwrap();
    assert!(stats.law_holds());
    assert_eq!(stats.accepted.gauges, 1 + 100_000 + 10 + 1_000 * 2, "one set of a gauge a round");
    assert!(stats.accepted.counters > stats.accepted.gauges, "the allocator's own counter is among them");
}
