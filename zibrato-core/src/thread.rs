//! The recording side of a thread: how it finds its slab and ring (feature `std`).
//!
//! The thread-local is `const` and has no destructor, so that it costs one segment-relative load
//! and works until the very end of the thread. A second thread-local, touched once, has the
//! destructor: it points the first one away from slab and ring before they are given up, and what
//! is recorded after that goes to the metric's spill cell. So does what is recorded while a slab
//! or ring is being made, by an instrumented allocator for instance.
//!
//! # Invariants
//! - **T1** `cells` points to [`SLAB_CELLS`] cells of the slab this thread owns while `counters`
//!   is not 0, and `counters` is at most their number.
//! - **T2** `ring` points to [`EMPTY`], which is never written, or to the ring of that slab, which
//!   nobody frees while the slab is `LIVE`.
#![expect(
    unsafe_code,
    reason = "the thread-local holds pointers to what the thread owns; T1 and T2 say what"
)]

use core::cell::Cell;
use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::kind::Kind;
use crate::metric::{Metric, OFF, UNREGISTERED};
use crate::registry;
use crate::slab::{SLAB_CELLS, Slab, ThreadRing};

/// The ring of a thread that has none: always full, never written.
static EMPTY: ThreadRing = ThreadRing::new();

struct Local {
    ring: Cell<*const ThreadRing>,
    cells: Cell<*const AtomicU64>,
    counters: Cell<u32>,
    /// The thread has ended, or is inside the cold path: record into the spill cells.
    bypass: Cell<bool>,
    slab: Cell<Option<&'static Slab>>,
}

std::thread_local! {
    static LOCAL: Local = const {
        Local {
            ring: Cell::new(&raw const EMPTY),
            cells: Cell::new(ptr::null()),
            counters: Cell::new(0),
            bypass: Cell::new(false),
            slab: Cell::new(None),
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
        if state < local.counters.get() {
            // SAFETY: T1: `state` is below the number of cells.
            let cell = unsafe { local.cells.get().add(state as usize) };
            // SAFETY: T1: the slab lives for ever.
            let cell = unsafe { &*cell };
            cell.store(cell.load(Relaxed).wrapping_add(n), Relaxed);
        } else {
            add_cold(metric, n);
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

/// Gives this thread its slab and ring now, so that its first record costs no more than any other.
pub fn prepare_thread() {
    LOCAL.with(|local| {
        if !local.bypass.get() && ptr::eq(local.ring.get(), &EMPTY) {
            make_ring(local);
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
        if (state as usize) < SLAB_CELLS && (local.counters.get() != 0 || make_cells(local)) {
            add(metric, n);
        } else {
            metric.spill.add_to_counter(n);
        }
    });
}

#[cold]
#[inline(never)]
fn push_cold(metric: &'static Metric, value: u64) {
    LOCAL.with(|local| {
        let has_ring = !ptr::eq(local.ring.get(), &EMPTY) || make_ring(local);
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

/// Finds this thread a slab; false while bypassing.
fn make_cells(local: &Local) -> bool {
    if local.bypass.replace(true) {
        return false;
    }
    // From here to the end of the thread the destructor will run.
    if EXIT.try_with(|_| ()).is_err() {
        return false;
    }
    let slab = Slab::acquire();
    local.slab.set(Some(slab));
    local.cells.set(slab.cells.as_ptr());
    local.counters.set(SLAB_CELLS as u32);
    local.bypass.set(false);
    true
}

/// Finds this thread a slab and a ring; false while bypassing.
fn make_ring(local: &Local) -> bool {
    if local.slab.get().is_none() && !make_cells(local) {
        return false;
    }
    let Some(slab) = local.slab.get() else { return false };
    if local.bypass.replace(true) {
        return false;
    }
    local.ring.set(slab.ring());
    local.bypass.set(false);
    true
}

impl Local {
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
            if let Some(slab) = local.slab.take() {
                slab.close();
            }
        });
    }
}
