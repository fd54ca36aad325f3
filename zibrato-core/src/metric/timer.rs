//! Timers and their guards.

use core::mem::ManuallyDrop;
use core::time::Duration;

use super::{Metric, declare};
use crate::clock;
use crate::record::TimerValue;

/// Durations: count, sum and distribution.
#[derive(Debug)]
#[repr(transparent)]
pub struct Timer {
    pub(super) metric: Metric,
}

declare!(Timer);

impl Timer {
    /// Records a duration that was measured elsewhere; longer ones than 146 years as 146 years.
    #[inline(always)]
    pub fn record(&'static self, duration: Duration) {
        if self.metric.is_on() {
            let bits = match duration.as_secs() {
                // Short ones need no multiplication.
                0 => TimerValue::subsecond_to_bits(duration.subsec_nanos()),
                _ => TimerValue::nanoseconds_to_bits(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)),
            };
            self.push(bits);
        }
    }

    #[inline(always)]
    fn push(&'static self, bits: u64) {
        crate::thread::push(&self.metric, bits);
    }
}

impl Timer {
    /// Starts a measurement that ends when the guard is dropped, also by a panic or an early return.
    ///
    /// If the level is off, no clock is read and nothing is recorded, even if the level comes on
    /// before the guard is dropped.
    #[inline(always)]
    pub fn start(&'static self) -> TimerGuard {
        self.guard()
    }

    /// As [`Timer::start`], with a last reading of the clock that waits until everything before it
    /// has happened.
    ///
    /// A plain guard lets the processor read the clock while the measured work is still going on, so
    /// that less than some 30 ns are read too short. This one reads them right and costs more: the
    /// processor stands still until the work is done (`ci/bench` says how long).
    #[inline(always)]
    pub fn start_exact(&'static self) -> TimerGuard<true> {
        self.guard()
    }

    #[inline(always)]
    fn guard<const EXACT: bool>(&'static self) -> TimerGuard<EXACT> {
        if self.metric.is_on() {
            TimerGuard { timer: Some(self), start: clock::ticks() }
        } else {
            TimerGuard { timer: None, start: 0 }
        }
    }

    /// Measures `future` from its first poll to its end, or to its drop: waiting is included.
    ///
    /// ```
    /// # use zibrato_core::{level::Level, metric::Timer};
    /// static FETCH: Timer = Timer::new("fetch", Level::INFO);
    /// async fn fetch() -> u32 { 42 }
    /// # async fn page() {
    /// let answer = FETCH.instrument(fetch()).await;
    /// # }
    /// ```
    pub async fn instrument<F: Future>(&'static self, future: F) -> F::Output {
        let _guard = self.start();
        future.await
    }

    /// Measures each poll of `future`: one record a poll, the time that its thread was busy with it.
    pub async fn instrument_polls<F: Future>(&'static self, future: F) -> F::Output {
        let mut future = core::pin::pin!(future);
        core::future::poll_fn(|context| {
            let _guard = self.start();
            future.as_mut().poll(context)
        })
        .await
    }

    /// Measures how long `work` takes, and returns what it returns.
    #[inline(always)]
    pub fn measure<R>(&'static self, work: impl FnOnce() -> R) -> R {
        let _guard = self.start();
        work()
    }
}

/// A record's value for a difference of ticks, in nanoseconds, and the duration that it says.
pub(super) fn in_nanoseconds(ticks: u64) -> (u64, Duration) {
    let bits = match TimerValue::from_bits(ticks) {
        TimerValue::Ticks(ticks) => TimerValue::nanoseconds_to_bits(clock::to_ns(ticks)),
        TimerValue::Nanoseconds(_) | TimerValue::Backwards => ticks,
    };
    match TimerValue::from_bits(bits) {
        TimerValue::Nanoseconds(ns) => (bits, Duration::from_nanos(ns)),
        TimerValue::Ticks(_) | TimerValue::Backwards => (bits, Duration::ZERO),
    }
}

/// A running measurement of a [`Timer`]: records when it is dropped, into the ring of the thread
/// that drops it.
///
/// Held across an `await` it measures the time from start to end, waiting included, as
/// [`Timer::instrument`] does; the record goes into the ring of the thread that drops it.
///
/// `EXACT` is true for [`Timer::start_exact`].
#[must_use = "a guard that is not bound to a name measures nothing: `let guard = TIMER.start();`"]
#[derive(Debug)]
pub struct TimerGuard<const EXACT: bool = false> {
    timer: Option<&'static Timer>,
    start: u64,
}

impl<const EXACT: bool> TimerGuard<EXACT> {
    /// Ticks since the start.
    #[inline(always)]
    fn elapsed(&self) -> u64 {
        let now = if EXACT { clock::ticks_behind() } else { clock::ticks() };
        now.wrapping_sub(self.start)
    }

    /// Ends the measurement and returns exactly the duration that is recorded, or `None` if the
    /// level was off at the start and no clock was read.
    #[inline]
    pub fn stop(self) -> Option<Duration> {
        let guard = ManuallyDrop::new(self);
        let timer = guard.timer?;
        let (bits, duration) = in_nanoseconds(guard.elapsed());
        timer.push(bits);
        Some(duration)
    }

    /// Ends the measurement without recording it.
    #[inline]
    pub fn cancel(self) {
        let _ = ManuallyDrop::new(self);
    }
}

impl<const EXACT: bool> Drop for TimerGuard<EXACT> {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(timer) = self.timer {
            timer.push(self.elapsed());
        }
    }
}
