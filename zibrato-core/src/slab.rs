//! Slabs: the counter cells and the ring of one recording thread (feature `std`).
//!
//! # Invariants
//! - **S1** A slab is leaked when it is made; references to it are good for ever.
//! - **S2** While a slab is `LIVE` one thread owns it: it alone stores into the cells and pushes
//!   into the ring.
//! - **S3** Only whoever holds the [`Drain`] reads a ring, and it frees one only after it moved
//!   the slab from `CLOSED` to `REAPING`, when no thread owns it.
//!
//! # Orderings
//! | access | ordering | pairs with |
//! |---|---|---|
//! | a thread takes a slab, `FREE` or `CLOSED` to `LIVE` | Acquire | the store of `FREE` or `CLOSED`: what the owner before did is visible |
//! | an ending thread stores `CLOSED` | Release | the taking, and the drain's move to `REAPING` |
//! | the drain moves `CLOSED` to `REAPING` | Acquire | the store of `CLOSED`: all its records are visible |
//! | the drain stores `FREE` | Release | the taking: the ring pointer is null |
//! | ring pointer, list of slabs | Release / Acquire | the content behind the pointer |
//! | cells | Relaxed | nothing: a cell is a number of its own |
#![expect(
    unsafe_code,
    reason = "threads and the drain reach slabs and rings through pointers; S1 to S3 say when"
)]

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::boxed::Box;
use std::vec::Vec;

use crate::record::Record;
use crate::ring::Ring;

/// Cells of a slab. Cell 0 is unused, since state 0 means off; counters beyond the last cell share
/// an atomic in the metric.
pub const SLAB_CELLS: usize = 1_024;
/// Records of a thread's ring.
pub const RING_RECORDS: usize = if cfg!(feature = "big-rings") { 65_536 } else { 4_096 };

pub(crate) type ThreadRing = Ring<RING_RECORDS>;

const FREE: u8 = 0;
const LIVE: u8 = 1;
const CLOSED: u8 = 2;
const REAPING: u8 = 3;

pub(crate) struct Slab {
    owner: AtomicU8,
    ring: AtomicPtr<ThreadRing>,
    next: AtomicPtr<Slab>,
    pub(crate) cells: [AtomicU64; SLAB_CELLS],
}

static SLABS: AtomicPtr<Slab> = AtomicPtr::new(ptr::null_mut());

impl Slab {
    /// Takes a slab that no thread owns, or makes one.
    pub(crate) fn acquire() -> &'static Self {
        for slab in slabs() {
            for state in [FREE, CLOSED] {
                let taken = slab.owner.compare_exchange(state, LIVE, Ordering::Acquire, Ordering::Relaxed);
                if taken.is_ok() {
                    return slab;
                }
            }
        }
        let slab: &'static Self = Box::leak(Box::new(Self {
            owner: AtomicU8::new(LIVE),
            ring: AtomicPtr::new(ptr::null_mut()),
            next: AtomicPtr::new(ptr::null_mut()),
            cells: [const { AtomicU64::new(0) }; SLAB_CELLS],
        }));
        let mut newest = SLABS.load(Ordering::Relaxed);
        loop {
            slab.next.store(newest, Ordering::Relaxed);
            let slab = ptr::from_ref(slab).cast_mut();
            match SLABS.compare_exchange_weak(newest, slab, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => break,
                Err(other) => newest = other,
            }
        }
        slab
    }

    /// The ring of this slab, made if there is none. Called by the owner.
    pub(crate) fn ring(&self) -> *const ThreadRing {
        let ring = self.ring.load(Ordering::Acquire);
        if !ring.is_null() {
            return ring;
        }
        let ring = Box::into_raw(new_ring());
        self.ring.store(ring, Ordering::Release);
        ring
    }

    /// Gives the slab up. Called by the owner when its thread ends.
    pub(crate) fn close(&self) {
        self.owner.store(CLOSED, Ordering::Release);
    }

    fn drain(&self, fold: &mut impl FnMut(Record)) -> Pass {
        let reaping =
            self.owner.compare_exchange(CLOSED, REAPING, Ordering::Acquire, Ordering::Relaxed).is_ok();
        let pointer = self.ring.load(Ordering::Acquire);
        let mut pass = Pass::default();
        // SAFETY: S3: rings are freed only below, by the holder of the drain, which we are.
        if let Some(ring) = unsafe { pointer.as_ref() } {
            // SAFETY: the holder of the drain is the only consumer.
            let drained = unsafe { ring.drain(fold) };
            pass.records = drained.records;
            pass.corrupt = u64::from(drained.corrupt);
        }
        if reaping {
            self.ring.store(ptr::null_mut(), Ordering::Relaxed);
            if !pointer.is_null() {
                // SAFETY: S3: the slab is REAPING, so no thread has the pointer, and it came from
                // `Box::into_raw`.
                drop(unsafe { Box::from_raw(pointer) });
            }
            self.owner.store(FREE, Ordering::Release);
        }
        pass
    }
}

/// A zeroed ring made on the heap, since it is too large for many stacks.
fn new_ring() -> Box<ThreadRing> {
    let layout = std::alloc::Layout::new::<ThreadRing>();
    // SAFETY: the layout's size is not 0.
    let memory = unsafe { std::alloc::alloc_zeroed(layout) }.cast::<ThreadRing>();
    if memory.is_null() {
        std::alloc::handle_alloc_error(layout);
    }
    // SAFETY: the memory has the layout of a ring, and all zero is an empty ring (see `Ring::new`).
    unsafe { Box::from_raw(memory) }
}

fn slabs() -> impl Iterator<Item = &'static Slab> {
    fn at(slab: &AtomicPtr<Slab>) -> Option<&'static Slab> {
        // SAFETY: S1: a slab in the list is never freed.
        unsafe { slab.load(Ordering::Acquire).as_ref() }
    }
    core::iter::successors(at(&SLABS), |slab| at(&slab.next))
}

/// What one pass over all rings found.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Pass {
    /// Records folded.
    pub records: usize,
    /// Rings emptied unread because their indices were out of range.
    pub corrupt: u64,
}

/// The right to read all rings: at most one in a process.
#[derive(Debug)]
pub struct Drain {
    process: u32,
}

/// Process that holds the drain; 0 for none.
static DRAIN_HELD_BY: AtomicU32 = AtomicU32::new(0);

impl Drain {
    /// Takes the right, or `None` if it is taken. A forked child does not inherit it.
    #[must_use]
    pub fn claim() -> Option<Self> {
        let process = std::process::id();
        let holder = DRAIN_HELD_BY.load(Ordering::Relaxed);
        if holder == process {
            return None;
        }
        // Another process' number was inherited by a fork, and its holder is not here.
        let claimed = DRAIN_HELD_BY.compare_exchange(holder, process, Ordering::AcqRel, Ordering::Relaxed);
        claimed.is_ok().then_some(Self { process })
    }

    /// Takes out of every ring what is there, and frees the rings of ended threads.
    #[inline]
    pub fn pass(&mut self, mut fold: impl FnMut(Record)) -> Pass {
        let mut sum = Pass::default();
        for slab in slabs() {
            let pass = slab.drain(&mut fold);
            sum.records += pass.records;
            sum.corrupt += pass.corrupt;
        }
        sum
    }

    /// The sums of all threads' cells: `totals[i]` is that of the counter with index `i`, wrapping.
    pub fn counters(&self, totals: &mut Vec<u64>) {
        totals.clear();
        totals.resize(SLAB_CELLS, 0);
        for slab in slabs() {
            for (total, cell) in totals.iter_mut().zip(&slab.cells) {
                *total = total.wrapping_add(cell.load(Ordering::Relaxed));
            }
        }
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        // A child's copy of its parent's right gives nothing back.
        if self.process == std::process::id() {
            DRAIN_HELD_BY.store(0, Ordering::Release);
        }
    }
}
