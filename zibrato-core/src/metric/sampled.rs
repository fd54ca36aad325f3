//! Timers that count every call and time one in `n`.

use core::mem::ManuallyDrop;
use core::time::Duration;

use super::timer::in_nanoseconds;
use super::{Metric, OFF, Timer};
use crate::{clock, thread};

/// Smallest `n` of [`Timer::sampled`].
pub const ONE_IN_MIN: u32 = 2;
/// Largest `n` of [`Timer::sampled`]. A thread that calls every microsecond times 15 calls a second then.
pub const ONE_IN_MAX: u32 = 65_536;

impl Timer {
    /// The same timer for loops in which two readings of the clock are too much: every call is counted,
    /// one in `n` is timed. Source, unit and tags come before this.
    ///
    /// ```
    /// # use zibrato_core::{level::Level, metric::{SampledTimer, Timer}};
    /// static STEP: SampledTimer = Timer::new("step", Level::INFO).sampled(64);
    ///
    /// for _ in 0..1_000 {
    ///     let _guard = STEP.start();
    ///     // the work
    /// }
    /// ```
    ///
    /// # Panics
    /// If `n` is not a power of two from [`ONE_IN_MIN`] to [`ONE_IN_MAX`]: in a static that is a compile
    /// error.
    #[must_use]
    pub const fn sampled(mut self, n: u32) -> SampledTimer {
        assert!(
            n.is_power_of_two() && n >= ONE_IN_MIN && n <= ONE_IN_MAX,
            "sampled: accepted are powers of two from 2 to 65536"
        );
        self.metric.one_in_mask = n - 1;
        SampledTimer { timer: self }
    }
}

/// A timer that counts every call and times one in `n`: [`Timer::sampled`].
///
/// A call that is not timed costs some 11 instructions, about two counters, and reads no clock.
///
/// # Which calls are timed
/// Each thread times its first call, and then every one that starts when a multiple of `n` calls have
/// ended on it: of calls one after the other every `n`th. What runs inside or beside a timed call before
/// that ends, recursion for instance, is timed too. A call is counted when it ends; a panic ends it too.
///
/// # What the numbers say
/// In every frame the count is that of the calls, exactly. Durations are an estimate: the timed calls of
/// a window stand for all that ended in it, so that the buckets add up to the count. If no call of a
/// window was timed, those timed last stand for its calls. With `R` timed calls whose durations have the
/// standard deviation `s`, the mean is off by some `s / sqrt(R)`, and so is the sum, times the count.
/// Smallest and largest are those of the timed calls: a rare outlier is mostly missed. In legacy text
/// each call is a message with the mean of the timed ones.
///
/// # When not to use it
/// - In work that repeats with an even period. Of calls that are slow every 64th time too many are timed
///   or none is. Another `n` does not help, since every one shares a factor of two with the period: time
///   another place of the loop, or every call with a plain [`Timer`]. An odd period does no harm.
/// - In threads that live for a few calls: the first of each is timed, which finds caches cold.
/// - In work of more than some microseconds, beside which a plain timer costs nothing.
#[derive(Debug)]
#[repr(transparent)]
pub struct SampledTimer {
    timer: Timer,
}

impl SampledTimer {
    /// Starts a call, which ends when the guard is dropped, also by a panic or an early return.
    ///
    /// If the level is off, the call is neither counted nor timed, even if the level comes on before the
    /// guard is dropped.
    #[inline(always)]
    pub fn start(&'static self) -> SampledGuard {
        let state = self.timer.metric.state();
        if state == OFF {
            return SampledGuard { timer: self, state: OFF, start: None };
        }
        let Some(calls) = thread::calls(state) else {
            let state = self.state_without_cell();
            // Made here, since a guard that a call returns would stand in memory and not in registers.
            let start = if state == OFF { None } else { Some(clock::ticks()) };
            return SampledGuard { timer: self, state, start };
        };
        if calls & u64::from(self.timer.metric.one_in_mask) != 0 {
            return SampledGuard { timer: self, state, start: None };
        }
        SampledGuard { timer: self, state, start: Some(clock::ticks()) }
    }

    /// The state word at the thread's first call, or without a place to count it in. The cell is made when
    /// the call ends and not here, so that the making is not measured.
    #[cold]
    #[inline(never)]
    fn state_without_cell(&'static self) -> u32 {
        if self.timer.metric.is_on() { self.timer.metric.state() } else { OFF }
    }

    /// Runs `work` as a call, and returns what it returns.
    #[inline(always)]
    pub fn measure<R>(&'static self, work: impl FnOnce() -> R) -> R {
        let _guard = self.start();
        work()
    }

    /// What this has in common with the other kinds.
    #[must_use]
    pub const fn metric(&'static self) -> &'static Metric {
        &self.timer.metric
    }
}

/// A running call of a [`SampledTimer`]: when it is dropped the call is counted, and recorded if it was
/// timed, in the cells and the ring of the thread that drops it.
///
/// As a plain guard it may be held across an `await` and be sent to another thread.
#[must_use = "a guard that is not bound to a name measures nothing: `let guard = TIMER.start();`"]
#[derive(Debug)]
pub struct SampledGuard {
    timer: &'static SampledTimer,
    /// State word at the start.
    state: u32,
    /// Clock at the start, if the call is timed.
    start: Option<u64>,
}

impl SampledGuard {
    /// Ends the call and returns exactly the duration that is recorded, or `None` if the call was not
    /// timed or the level was off at the start.
    #[inline]
    pub fn stop(self) -> Option<Duration> {
        let guard = ManuallyDrop::new(self);
        let timed = guard.start.map(|start| in_nanoseconds(clock::ticks().wrapping_sub(start)));
        guard.end(timed.map(|(bits, _)| bits));
        timed.map(|(_, duration)| duration)
    }

    /// Ends the call without counting or recording it.
    #[inline]
    pub fn cancel(self) {
        let _ = ManuallyDrop::new(self);
    }

    /// Records first, so that whoever sees the call counted mostly finds its record.
    #[inline(always)]
    fn end(&self, timed: Option<u64>) {
        if self.state != OFF {
            let metric = &self.timer.timer.metric;
            if let Some(bits) = timed {
                thread::push(metric, bits);
            }
            thread::count_call(metric, self.state);
        }
    }
}

impl Drop for SampledGuard {
    #[inline(always)]
    fn drop(&mut self) {
        self.end(self.start.map(|start| clock::ticks().wrapping_sub(start)));
    }
}
