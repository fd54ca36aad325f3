//! What a thread's first record takes from the heap: one allocation for its ring, one for its cells,
//! of the documented sizes, and all of it back after the thread.
#![expect(unsafe_code, reason = "a global allocator is an unsafe trait")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use zibrato_core::level::Level;
use zibrato_core::metric::{Counter, Gauge, Timer};
use zibrato_core::{Drain, RING_RECORDS, SLAB_CELLS, prepare_thread, registry};

struct Counting;

static LIVE_BYTES: AtomicI64 = AtomicI64::new(0);

thread_local! {
    /// Allocations and bytes of this thread.
    static TAKEN: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

fn note(layout: Layout) {
    LIVE_BYTES.fetch_add(layout.size() as i64, Relaxed);
    let (allocations, bytes) = TAKEN.get();
    TAKEN.set((allocations + 1, bytes + layout.size()));
}

// SAFETY: passes every call on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout);
        // SAFETY: the caller's duties are ours.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout);
        // SAFETY: the caller's duties are ours.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size() as i64, Relaxed);
        // SAFETY: the caller's duties are ours.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static HITS: Counter = Counter::new("first.hits", Level::INFO);
static TOOK: Timer = Timer::new("first.took", Level::INFO);
static DEPTH: Gauge = Gauge::new("first.depth", Level::INFO);

/// Bytes beside records and cells: indices on lines of their own, links.
const BESIDE: usize = 512;

/// Allocations and bytes that `work` takes in a thread of its own.
fn taken(work: fn()) -> (usize, usize) {
    let work = move || {
        let before = TAKEN.get();
        work();
        let after = TAKEN.get();
        (after.0 - before.0, after.1 - before.1)
    };
    thread::spawn(work).join().unwrap()
}

/// One test, since there is one drain and one heap.
#[test]
fn a_thread_takes_one_allocation_for_each_of_ring_and_cells_and_gives_them_back() {
    let mut drain = Drain::claim().unwrap();
    registry::switch(true, vec![]);
    let (ring, cells) = (RING_RECORDS * 16, SLAB_CELLS * 8);
    let take_all = || {
        HITS.add(1);
        TOOK.record(Duration::from_nanos(1));
        DEPTH.set(1.0);
        drop(TOOK.start());
    };
    // Registers the metrics and learns the rate of the clock, neither of which allocates.
    take_all();
    let mut totals = Vec::with_capacity(2 * SLAB_CELLS);
    let mut drain_all = || {
        drain.pass(|_| ());
        drain.counters(&mut totals);
    };
    drain_all();
    let rest = LIVE_BYTES.load(Relaxed);

    let within = |(allocations, bytes): (usize, usize), expected: usize, size: usize| {
        assert_eq!(allocations, expected);
        assert!((size..=size + BESIDE).contains(&bytes), "{bytes} bytes, {size} expected");
    };
    within(taken(|| HITS.add(1)), 1, cells);
    within(taken(|| TOOK.record(Duration::from_nanos(1))), 1, ring);
    within(taken(|| DEPTH.set(1.0)), 1, ring);
    within(taken(prepare_thread), 2, ring + cells);
    let prepared = || {
        prepare_thread();
        let before = TAKEN.get();
        HITS.add(1);
        TOOK.record(Duration::from_nanos(1));
        assert_eq!(TAKEN.get(), before, "a prepared thread");
    };
    taken(prepared);
    // What ended threads owned is freed by the drain, but for what the threads' own stacks cost.
    drain_all();
    let left = LIVE_BYTES.load(Relaxed) - rest;
    assert!(left < ring as i64, "{left} bytes are left behind");
    for _ in 0..100 {
        taken(|| {
            HITS.add(1);
            TOOK.record(Duration::from_nanos(1));
        });
    }
    drain_all();
    let left = LIVE_BYTES.load(Relaxed) - rest;
    assert!(left < ring as i64, "{left} bytes are left behind after 100 threads");
}
