//! The atomics, the lock and the cell that ring, slab, spill cells and gates are built on, in one
//! place, so that the model checker can take the place of all of them: swapping the atomics alone
//! would let a wrong ordering pass.
//!
//! Built with `--cfg loom` the core has ring, slab, spill cells and registry only: loom's atomics
//! have no `const` constructor, so there are no statics to record at.

#[cfg(not(loom))]
mod real {
    #[cfg(feature = "std")]
    pub(crate) use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
    pub(crate) use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
    #[cfg(feature = "std")]
    pub(crate) use std::sync::{Mutex, MutexGuard};

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
}
#[cfg(loom)]
mod real {
    pub(crate) use loom::cell::UnsafeCell as Slot;
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
    pub(crate) use loom::sync::{Mutex, MutexGuard};
}
pub(crate) use real::*;

/// How the producer publishes a record (R2).
#[cfg(not(loom))]
#[cfg_attr(
    all(feature = "single-core", not(feature = "std")),
    expect(dead_code, reason = "fences take its place")
)]
#[inline(always)]
pub(crate) const fn publish() -> Ordering {
    Ordering::Release
}

#[cfg(loom)]
std::thread_local! {
    /// Makes [`publish`] wrong: a model must see loom refuse it.
    pub(crate) static WRONG_PUBLISH: core::cell::Cell<bool> = const { core::cell::Cell::new(false) };
}

/// How the producer publishes a record, or how it must not.
#[cfg(loom)]
pub(crate) fn publish() -> Ordering {
    if WRONG_PUBLISH.get() { Ordering::Relaxed } else { Ordering::Release }
}

/// Declares a function that is `const` but under loom.
macro_rules! const_fn {
    ($(#[$attribute:meta])* $visibility:vis fn $($rest:tt)*) => {
        #[cfg(not(loom))]
        $(#[$attribute])*
        $visibility const fn $($rest)*
        #[cfg(loom)]
        $(#[$attribute])*
        $visibility fn $($rest)*
    };
}
pub(crate) use const_fn;

/// An array of new values: each by a constant, and by a call under loom.
macro_rules! array {
    ($new:expr; $length:expr) => {{
        #[cfg(not(loom))]
        let array = [const { $new }; $length];
        #[cfg(loom)]
        let array = core::array::from_fn::<_, { $length }, _>(|_| $new);
        array
    }};
}
pub(crate) use array;
