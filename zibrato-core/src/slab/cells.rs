//! The counter cells of one thread, which grow when the program has more counters.
//!
//! # Invariants
//! - **S1** The owner alone stores into cells and calls [`Cells::grow`].
//! - **S2** After a growth the owner never touches the older cells; the drain frees them only then.
//!
//! # Orderings
//! | access | ordering | pairs with |
//! |---|---|---|
//! | the owner stores `grown` | Release | the drain's load: the copied cells are visible, the owner is done with the older (S2) |
//! | the drain loads `grown` | Acquire | the store above |
//! | cells | Relaxed | nothing: a cell is a number of its own, and only goes on |

use core::ptr;
use std::boxed::Box;

use super::SLAB_CELLS;
use crate::sync::{AtomicPtr, AtomicU64, Ordering, array, const_fn};

/// Cells that a thread starts with, and those it has grown to.
#[derive(Debug)]
pub(crate) struct Cells {
    first: [AtomicU64; SLAB_CELLS],
    grown: AtomicPtr<Grown>,
}

#[derive(Debug)]
struct Grown {
    cells: Box<[AtomicU64]>,
    /// What it has grown from, until the drain has freed it.
    older: AtomicPtr<Grown>,
}

impl Cells {
    const_fn! {
        pub(crate) fn new() -> Self {
            Self {
                first: array!(AtomicU64::new(0); SLAB_CELLS),
                grown: AtomicPtr::new(ptr::null_mut()),
            }
        }
    }

    /// The present cells.
    pub(crate) fn cells(&self) -> &[AtomicU64] {
        // SAFETY: S2: the newest cells are freed with `self` only.
        unsafe { self.grown.load(Ordering::Acquire).as_ref() }.map_or(&self.first, |grown| &grown.cells)
    }

    /// Makes room for `wanted` cells. Called by the owner, which from then on uses [`Cells::cells`].
    pub(crate) fn grow(&self, wanted: usize) {
        let older = AtomicPtr::new(self.grown.load(Ordering::Relaxed));
        let cells = (0..wanted).map(|_| AtomicU64::new(0)).collect();
        let grown = Box::new(Grown { cells, older });
        // Behind the last allocation: an instrumented allocator counts in the cells we grow from.
        for (new, old) in grown.cells.iter().zip(self.cells()) {
            new.store(old.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.grown.store(Box::into_raw(grown), Ordering::Release);
    }

    /// Frees what the present cells have grown from.
    ///
    /// # Safety
    /// Only one thread at a time may read and reap these cells, and no slice of older cells is held.
    pub(super) unsafe fn reap(&self) {
        // SAFETY: S2: the newest cells are freed with `self` only.
        let Some(grown) = (unsafe { self.grown.load(Ordering::Acquire).as_ref() }) else { return };
        let mut older = grown.older.swap(ptr::null_mut(), Ordering::Relaxed);
        while !older.is_null() {
            // SAFETY: S2: the owner has left them, the reader is us, and the pointer is from `Box::into_raw`.
            let freed = unsafe { Box::from_raw(older) };
            older = freed.older.load(Ordering::Relaxed);
        }
    }
}

impl Drop for Cells {
    fn drop(&mut self) {
        // SAFETY: `&mut self`: nobody else has the cells.
        unsafe { self.reap() };
        let grown = self.grown.load(Ordering::Relaxed);
        if !grown.is_null() {
            // SAFETY: as above, and the pointer is from `Box::into_raw`.
            drop(unsafe { Box::from_raw(grown) });
        }
    }
}
