//! A running measurement of a device's timer.

use core::mem::ManuallyDrop;

use super::clock::Clock;

/// Where a guard's duration goes: the cell of a [`super::Timer`] or an [`super::OwnedTimer`].
pub trait Fold {
    /// Whether the level may be off.
    #[doc(hidden)]
    const GATED: bool;

    /// Records a duration.
    #[doc(hidden)]
    fn fold(&mut self, ticks: u32);
}

/// A running measurement: records when it is dropped, also by an early return.
///
/// Held across an `await` it measures the waiting too.
#[must_use = "a guard that is not bound to a name measures nothing: `let guard = TIMER.start(CLOCK);`"]
#[derive(Debug)]
pub struct Guard<F: Fold, C: Clock> {
    fold: F,
    clock: C,
    start: u32,
    is_on: bool,
}

impl<F: Fold, C: Clock> Guard<F, C> {
    /// Reads the clock if the level is on.
    #[inline(always)]
    pub(super) fn start(fold: F, clock: C, is_on: bool) -> Self {
        let start = if !F::GATED || is_on { clock.ticks() } else { 0 };
        Self { fold, clock, start, is_on }
    }

    #[inline(always)]
    fn end(&mut self) -> Option<u32> {
        if F::GATED && !self.is_on {
            return None;
        }
        let ticks = self.clock.elapsed(self.start, self.clock.ticks());
        self.fold.fold(ticks);
        Some(ticks)
    }

    /// Ends the measurement and returns the ticks that are recorded, or `None` if the level was off at the start.
    #[inline]
    pub fn stop(self) -> Option<u32> {
        ManuallyDrop::new(self).end()
    }

    /// Ends the measurement without recording it.
    #[inline]
    pub fn cancel(self) {
        let _ = ManuallyDrop::new(self);
    }
}

impl<F: Fold, C: Clock> Drop for Guard<F, C> {
    #[inline(always)]
    fn drop(&mut self) {
        self.end();
    }
}
