//! What only one context at a time may do: once, or at the cost of a moment without interrupts.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Claims a flag; true for the first caller only, in whatever contexts they are.
#[cfg(target_has_atomic = "32")]
pub(crate) fn claim(flag: &AtomicU32) -> bool {
    flag.swap(1, Relaxed) == 0
}

/// Claims a flag; true for the first caller only, in whatever contexts they are.
#[cfg(all(not(target_has_atomic = "32"), feature = "critical-section"))]
pub(crate) fn claim(flag: &AtomicU32) -> bool {
    alone(|| {
        let is_first = flag.load(Relaxed) == 0;
        flag.store(1, Relaxed);
        is_first
    })
}

/// Runs `work` while nobody else records: for targets that cannot change a word in one step.
#[cfg(all(not(target_has_atomic = "32"), feature = "critical-section"))]
#[inline(always)]
pub(crate) fn alone<R>(work: impl FnOnce() -> R) -> R {
    critical_section::with(|_| work())
}

/// Takes a word and leaves 0 there.
#[cfg(target_has_atomic = "32")]
pub(crate) fn take(word: &AtomicU32) -> u32 {
    word.swap(0, Relaxed)
}

/// Takes a word and leaves 0 there.
///
/// Without a critical section what is stored between the two steps is lost. Only smallest and largest values of a
/// window are taken, so that a loss is one of those and never of a count.
#[cfg(not(target_has_atomic = "32"))]
pub(crate) fn take(word: &AtomicU32) -> u32 {
    let steps = || {
        let value = word.load(Relaxed);
        word.store(0, Relaxed);
        value
    };
    #[cfg(feature = "critical-section")]
    return alone(steps);
    #[cfg(not(feature = "critical-section"))]
    steps()
}
