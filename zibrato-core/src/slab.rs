//! What recording threads own, a slab of counter cells and a ring each, and the right to read it
//! all (feature `std`).
//!
//! A thread gets its cells with its first counter and its ring with its first timer or gauge, each
//! by one allocation. When it ends it closes them; the drain takes what is left in them, adds the
//! cells to the sums of ended threads, and frees both.
#![expect(
    unsafe_code,
    reason = "threads and the drain reach slabs and rings through pointers; L1 to L3, S1 and S2 say when"
)]

mod cells;
mod list;

use std::boxed::Box;
use std::vec::Vec;

pub(crate) use cells::Cells;
use list::Last;
pub(crate) use list::{List, Node};

use crate::record::Record;
use crate::ring::Ring;

/// Cells that a slab starts with. Cell 0 is unused, since state 0 means off.
pub const SLAB_CELLS: usize = match () {
    () if cfg!(loom) => 2,
    () if cfg!(miri) => 64,
    () => 1_024,
};
/// Cells that a slab grows to, doubling; counters beyond them share an atomic in the metric.
pub const SLAB_CELLS_MAX: usize = 1 << 20;
/// Records of a thread's ring.
pub const RING_RECORDS: usize = match () {
    () if cfg!(loom) => 2,
    () if cfg!(zibrato_tiny_rings) => 16,
    () if cfg!(feature = "big-rings") => 131_072,
    () => 4_096,
};

pub(crate) type ThreadRing = Ring<RING_RECORDS>;

/// What all threads own.
#[derive(Debug)]
pub(crate) struct Slabs {
    pub(crate) cells: List<Cells>,
    pub(crate) rings: List<ThreadRing>,
}

impl Slabs {
    crate::sync::const_fn! {
        pub(crate) fn new() -> Self {
            Self { cells: List::new(), rings: List::new() }
        }
    }

    /// Takes out of every ring what is there, and frees the rings of ended threads.
    ///
    /// # Safety
    /// Only one thread at a time may read the slabs.
    #[inline]
    pub(crate) unsafe fn pass(&self, mut fold: impl FnMut(Record)) -> Pass {
        let mut sum = Pass::default();
        let each = |ring: &ThreadRing, _: Last| {
            // SAFETY: the caller is the only reader.
            let drained = unsafe { ring.drain(&mut fold) };
            sum.records += drained.records;
            sum.fullest = sum.fullest.max(drained.records);
            sum.corrupt += u64::from(drained.corrupt);
        };
        // SAFETY: the caller is the only reader.
        unsafe { self.rings.visit(each) };
        sum
    }

    /// Puts into `totals` the sums of all threads' cells by index; `ended` holds those of ended
    /// threads and takes those of the threads that ended since.
    ///
    /// # Safety
    /// Only one thread at a time may read the slabs.
    pub(crate) unsafe fn counters(&self, ended: &mut Vec<u64>, totals: &mut Vec<u64>) {
        totals.clear();
        totals.extend_from_slice(ended);
        let each = |cells: &Cells, last: Last| {
            // SAFETY: the caller is the only reader and holds no slice of older cells.
            unsafe { cells.reap() };
            add(totals, cells);
            if last.0 {
                add(ended, cells);
            }
        };
        // SAFETY: the caller is the only reader.
        unsafe { self.cells.visit(each) };
    }
}

fn add(totals: &mut Vec<u64>, cells: &Cells) {
    let cells = cells.cells();
    if totals.len() < cells.len() {
        totals.resize(cells.len(), 0);
    }
    for (total, cell) in totals.iter_mut().zip(cells) {
        *total = total.wrapping_add(cell.load(crate::sync::Ordering::Relaxed));
    }
}

/// What one pass over all rings found.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Pass {
    /// Records folded.
    pub records: usize,
    /// Most records that were in one ring.
    pub fullest: usize,
    /// Rings emptied unread because their indices were out of range.
    pub corrupt: u64,
}

/// Where the slots of a ring begin: they are its last field, and fill it up to its end.
const SLOTS_AT: usize = size_of::<ThreadRing>() - RING_RECORDS * size_of::<Record>();

/// A thread's ring on the heap, since it is too large for many stacks.
///
/// Its slots stay as they come: to write all of them would make the system find 16 pages during the
/// thread's first record (measured: 33 instead of 3 µs).
pub(crate) fn new_ring() -> Box<Node<ThreadRing>> {
    if cfg!(loom) {
        return Box::new(Node::new(Ring::new()));
    }
    const { assert!(core::mem::offset_of!(Node<ThreadRing>, content) == 0) };
    let mut node = Box::<Node<ThreadRing>>::new_uninit();
    let bytes = node.as_mut_ptr().cast::<u8>();
    // SAFETY: the ring is the first field of the node, and its slots are behind this.
    unsafe { bytes.write_bytes(0, SLOTS_AT) };
    // SAFETY: the ring ends within the node.
    let behind = unsafe { bytes.add(size_of::<ThreadRing>()) };
    // SAFETY: this is the rest of the node.
    unsafe { behind.write_bytes(0, size_of::<Node<ThreadRing>>() - size_of::<ThreadRing>()) };
    // SAFETY: all but the slots, which may hold anything, is zero: an open node with an empty ring and
    // no next (see `Ring::new`).
    unsafe { node.assume_init() }
}

/// As [`new_ring`], with the slots written once: no record of the first round meets a page that the
/// system has yet to find.
#[cfg(not(loom))]
pub(crate) fn new_warm_ring() -> Box<Node<ThreadRing>> {
    let mut node = new_ring();
    // SAFETY: the slots begin there.
    let slots = unsafe { (&raw mut *node).cast::<u8>().add(SLOTS_AT) };
    // SAFETY: they hold nothing yet, and nobody else has the node.
    unsafe { slots.write_bytes(0, size_of::<ThreadRing>() - SLOTS_AT) };
    node
}

#[cfg(not(loom))]
pub use right::Drain;

#[cfg(not(loom))]
pub(crate) use right::SLABS;

#[cfg(not(loom))]
mod right {
    use core::sync::atomic::{AtomicU32, Ordering};
    use std::vec::Vec;

    use super::{Pass, Slabs};
    use crate::record::Record;

    /// Those of this process.
    pub(crate) static SLABS: Slabs = Slabs::new();

    /// Process that holds the drain; 0 for none.
    static HELD_BY: AtomicU32 = AtomicU32::new(0);

    /// The right to read all slabs and rings: at most one in a process.
    #[derive(Debug)]
    pub struct Drain {
        process: u32,
        /// Sums of the cells of ended threads.
        ended: Vec<u64>,
    }

    impl Drain {
        /// Takes the right, or `None` if it is taken. A forked child does not inherit it.
        #[must_use]
        pub fn claim() -> Option<Self> {
            let process = std::process::id();
            let holder = HELD_BY.load(Ordering::Relaxed);
            if holder == process {
                return None;
            }
            // Another process' number was inherited by a fork, and its holder is not here.
            let claimed = HELD_BY.compare_exchange(holder, process, Ordering::AcqRel, Ordering::Relaxed);
            claimed.is_ok().then_some(Self { process, ended: Vec::new() })
        }

        /// Takes out of every ring what is there, and frees the rings of ended threads.
        #[inline]
        pub fn pass(&mut self, fold: impl FnMut(Record)) -> Pass {
            // SAFETY: `&mut self` of the only drain in the process.
            unsafe { SLABS.pass(fold) }
        }

        /// The sums of all threads' cells: `totals[i]` is that of the metric with index `i`, wrapping.
        /// Those of threads that ended before this drain was claimed are not in it: the difference
        /// of two answers is what was counted in between. Frees the cells of ended threads.
        pub fn counters(&mut self, totals: &mut Vec<u64>) {
            // SAFETY: `&mut self` of the only drain in the process.
            unsafe { SLABS.counters(&mut self.ended, totals) }
        }
    }

    impl Drop for Drain {
        fn drop(&mut self) {
            // A child's copy of its parent's right gives nothing back.
            if self.process == std::process::id() {
                HELD_BY.store(0, Ordering::Release);
            }
        }
    }
}
