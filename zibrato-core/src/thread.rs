//! The recording side of a thread: how it finds its slab and ring (feature `std`).
//!
//! The thread-local is `const` and has no destructor, so that it costs one segment-relative load
//! and works until the very end of the thread. A second thread-local, touched once, has the
//! destructor: it points the first one away from slab and ring before they are given up, and what
//! is recorded after that goes to the metric's spill cell. So does what is recorded while cells or a
//! ring are being made, by an instrumented allocator for instance.
//!
//! A signal handler must not record timers or gauges: one that interrupts a push on its own thread would
//! leave a slot behind that nobody wrote. Nor is a first record of any kind for a handler: it allocates.
//!
//! # Invariants
//! - **T1** `cells` points to at least `counters` cells, the present ones of `own_cells`.
//! - **T2** `ring` points to [`EMPTY`], which is never written, or to the ring of `own_ring`.
//! - **T3** `own_cells` and `own_ring` point to nodes that this thread added and did not close; they
//!   are cleared, and the pointers of T1 and T2 turned away, before a node is closed.
#![expect(unsafe_code, reason = "the thread-local holds pointers to what the thread owns; T1 to T3 say what")]

use core::cell::Cell;
use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::boxed::Box;

use crate::kind::Kind;
use crate::metric::{Metric, OFF, UNREGISTERED};
use crate::registry;
use crate::slab::{Cells, Node, SLAB_CELLS_MAX, SLABS, ThreadRing, new_ring, new_warm_ring};

/// The ring of a thread that has none: always full, never written.
static EMPTY: ThreadRing = ThreadRing::new();

struct Local {
    ring: Cell<*const ThreadRing>,
    cells: Cell<*const AtomicU64>,
    counters: Cell<u32>,
    /// The thread has ended, or is inside the cold path: record into the spill cells.
    bypass: Cell<bool>,
    own_ring: Cell<*const Node<ThreadRing>>,
    own_cells: Cell<*const Node<Cells>>,
}

std::thread_local! {
    static LOCAL: Local = const {
        Local {
            ring: Cell::new(&raw const EMPTY),
            cells: Cell::new(ptr::null()),
            counters: Cell::new(0),
            bypass: Cell::new(false),
            own_ring: Cell::new(ptr::null()),
            own_cells: Cell::new(ptr::null()),
        }
    };
    static EXIT: Exit = const { Exit };
}

/// Adds to a counter: one state load, one compare and one add in a cell of this thread.
#[inline(always)]
pub(crate) fn add(metric: &'static Metric, n: u64) {
    let state = metric.state();
    if state == OFF {
        return;
    }
    LOCAL.with(|local| {
        if let Some(cell) = local.cell(state) {
            cell.store(cell.load(Relaxed).wrapping_add(n), Relaxed);
        } else {
            add_cold(metric, n);
        }
    });
}

/// Calls of a sampled timer that ended on this thread, by its state word; `None` without a cell for it.
#[inline(always)]
pub(crate) fn calls(state: u32) -> Option<u64> {
    LOCAL.with(|local| local.cell(state).map(|cell| cell.load(Relaxed)))
}

/// Counts a call of a sampled timer that was on at its start, `state` being the state word of then: the
/// gate is not asked again, and the thread may be another one.
#[inline(always)]
pub(crate) fn count_call(metric: &'static Metric, state: u32) {
    LOCAL.with(|local| {
        if let Some(cell) = local.cell(state) {
            cell.store(cell.load(Relaxed).wrapping_add(1), Relaxed);
        } else {
            count_call_cold(metric, state);
        }
    });
}

/// Puts a record into this thread's ring, or into the spill cell if that is full.
#[inline(always)]
pub(crate) fn push(metric: &'static Metric, value: u64) {
    LOCAL.with(|local| {
        // SAFETY: T2: the ring is there.
        let ring = unsafe { &*local.ring.get() };
        // SAFETY: T2: we own the ring, or it is EMPTY, whose limit is always reached.
        if !unsafe { ring.push(metric, value) } {
            push_cold(metric, value);
        }
    });
}

/// Gives this thread its cells and its ring now, so that its first record costs no more than any other.
pub fn prepare_thread() {
    LOCAL.with(|local| {
        if !local.bypass.get() {
            let _ = make_cells(local, registry::indices()) && make_ring(local, new_warm_ring);
        }
    });
}

/// Registers a metric and returns its state word.
///
/// Inside the cold path, and in a forked child that inherited a held lock, nothing can be
/// registered: an always metric counts as on then.
pub(crate) fn register(metric: &'static Metric) -> u32 {
    LOCAL.with(|local| {
        let unregistered = || if metric.level().is_on_demand() { OFF } else { UNREGISTERED };
        if local.bypass.get() && !local.is_ended() {
            return unregistered();
        }
        let before = local.bypass.replace(true);
        let state = registry::register(metric);
        local.bypass.set(before);
        state.unwrap_or_else(unregistered)
    })
}

#[cold]
#[inline(never)]
fn add_cold(metric: &'static Metric, n: u64) {
    let state = match metric.state() {
        UNREGISTERED => register(metric),
        state => state,
    };
    if state == OFF {
        return;
    }
    LOCAL.with(|local| {
        if (state as usize) < SLAB_CELLS_MAX && make_cells(local, state) {
            add(metric, n);
        } else {
            metric.spill.add_to_counter(n);
        }
    });
}

#[cold]
#[inline(never)]
fn count_call_cold(metric: &'static Metric, state: u32) {
    LOCAL.with(|local| {
        if (state as usize) < SLAB_CELLS_MAX && make_cells(local, state) {
            count_call(metric, state);
        } else {
            metric.spill.add_call();
        }
    });
}

#[cold]
#[inline(never)]
fn push_cold(metric: &'static Metric, value: u64) {
    LOCAL.with(|local| {
        let has_ring = make_ring(local, new_ring);
        // SAFETY: T2: the ring is there.
        let ring = unsafe { &*local.ring.get() };
        // SAFETY: T2: we own the ring, since it is not EMPTY.
        let pushed = has_ring && unsafe { ring.refresh() } && unsafe { ring.push(metric, value) };
        if !pushed {
            spill(metric, value);
        }
    });
}

fn spill(metric: &Metric, value: u64) {
    match metric.kind() {
        Kind::Gauge => metric.spill.fold_gauge(value),
        Kind::Timer => metric.spill.fold_timer(value),
        Kind::Counter => metric.spill.add_to_counter(value),
    }
}

/// Sees to it that this thread has the cell `index`; false while bypassing.
fn make_cells(local: &Local, index: u32) -> bool {
    index < local.counters.get()
        || local.make(|| {
            let mut own = local.own_cells.get();
            if own.is_null() {
                own = SLABS.cells.add(Box::new(Node::new(Cells::new())));
                local.own_cells.set(own);
            }
            // SAFETY: T3: the node is ours, and nobody frees it before we close it.
            let slab = unsafe { &(*own).content };
            if index as usize >= slab.cells().len() {
                slab.grow((index as usize + 1).next_power_of_two());
            }
            let cells = slab.cells();
            local.cells.set(cells.as_ptr());
            local.counters.set(cells.len() as u32);
        })
}

/// Sees to it that this thread has a ring; false while bypassing.
fn make_ring(local: &Local, new: fn() -> Box<Node<ThreadRing>>) -> bool {
    !local.own_ring.get().is_null()
        || local.make(|| {
            let own = SLABS.rings.add(new());
            local.own_ring.set(own);
            // SAFETY: T3: the node is ours, and nobody frees it before we close it.
            local.ring.set(unsafe { &raw const (*own).content });
        })
}

impl Local {
    /// This thread's cell `index`, if it has come to that one.
    #[inline(always)]
    fn cell(&self, index: u32) -> Option<&AtomicU64> {
        if index >= self.counters.get() {
            return None;
        }
        // SAFETY: T1: `index` is below the number of cells.
        let cell = unsafe { self.cells.get().add(index as usize) };
        // SAFETY: T1 and T3: the cells live while this thread owns them.
        Some(unsafe { &*cell })
    }

    /// Runs `make` with the cold path bypassed; false, and nothing made, inside of it and after the
    /// destructor has run.
    fn make(&self, make: impl FnOnce()) -> bool {
        if self.bypass.replace(true) {
            return false;
        }
        // From here to the end of the thread the destructor will run; if it has, bypassing is for good.
        if EXIT.try_with(|_| ()).is_err() {
            return false;
        }
        make();
        self.bypass.set(false);
        true
    }

    /// Whether the destructor has run: bypassing for good.
    fn is_ended(&self) -> bool {
        self.bypass.get() && EXIT.try_with(|_| ()).is_err()
    }
}

/// Runs when the thread ends.
struct Exit;

impl Drop for Exit {
    fn drop(&mut self) {
        LOCAL.with(|local| {
            local.bypass.set(true);
            local.ring.set(&raw const EMPTY);
            local.counters.set(0);
            // SAFETY: T3: the node is ours until we close it.
            if let Some(own) = unsafe { local.own_cells.replace(ptr::null()).as_ref() } {
                own.close();
            }
            // SAFETY: as above.
            if let Some(own) = unsafe { local.own_ring.replace(ptr::null()).as_ref() } {
                own.close();
            }
        });
    }
}
