//! The atomics and the cell that ring and slab are built on, in one place, so that a model checker
//! can take the place of both: swapping the atomics alone would let a wrong ordering pass.

pub(crate) use core::sync::atomic::{AtomicUsize, Ordering};

/// An `UnsafeCell` whose content is reached only through closures.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Slot<T>(core::cell::UnsafeCell<T>);

impl<T> Slot<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(core::cell::UnsafeCell::new(value))
    }

    /// Passes a pointer for reading.
    #[inline(always)]
    pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        f(self.0.get())
    }

    /// Passes a pointer for writing.
    #[inline(always)]
    pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }
}
