//! Metrics that every context may record: a cell of their own, and what they are.
//!
//! [`counter!`](crate::counter) and its like make two statics of one, the cell in `.bss` and the rest in flash.
//! `Counter::new` makes one static of both, as on a host, for code that is to run on either: it lies in `.data`, costs its
//! size in flash a second time, and looks at its gate on every level.

use core::borrow::Borrow;
use core::marker::PhantomData;

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::cell::{CounterCell, GaugeCell, TimerCell};
#[cfg(any(target_has_atomic = "32", feature = "critical-section"))]
use super::clock::Clock;
use super::declare::{Descriptor, GaugeValue};
#[cfg(any(target_has_atomic = "32", feature = "critical-section"))]
use super::guard::{Fold, Guard};

/// Whether records are taken now: always, but for a level on demand that is off.
#[inline(always)]
pub(super) fn is_on<const GATED: bool>(gate: &AtomicU32) -> bool {
    !GATED || gate.load(Relaxed) != 0
}

/// A sum of non-negative whole numbers, which every context may add to.
#[derive(Debug)]
#[repr(C)]
pub struct Counter<const GATED: bool = true, C = CounterCell> {
    pub(super) descriptor: Descriptor,
    pub(super) cell: C,
}

impl<const GATED: bool, C: Borrow<CounterCell>> Counter<GATED, C> {
    /// Adds `n`. The cell wraps at 2^32; the link widens it.
    #[cfg(any(target_has_atomic = "32", feature = "critical-section"))]
    #[inline(always)]
    pub fn add(&'static self, n: u32) {
        let cell = self.cell.borrow();
        if is_on::<GATED>(&cell.gate) {
            cell.add_shared(n);
        }
    }

    /// Adds 1.
    #[cfg(any(target_has_atomic = "32", feature = "critical-section"))]
    #[inline(always)]
    pub fn increment(&'static self) {
        self.add(1);
    }
}

/// A value that is set; the last one counts. Every context may set it.
#[derive(Debug)]
#[repr(C)]
pub struct Gauge<V = f64, const GATED: bool = true, C = GaugeCell> {
    pub(super) descriptor: Descriptor,
    pub(super) cell: C,
    pub(super) value: PhantomData<fn(V)>,
}

impl<V: GaugeValue, const GATED: bool, C: Borrow<GaugeCell>> Gauge<V, GATED, C> {
    /// Sets the value. NaN and infinities are refused later, by the gateway, and counted.
    #[cfg(any(target_has_atomic = "32", feature = "critical-section"))]
    #[inline(always)]
    pub fn set(&'static self, value: V) {
        let cell = self.cell.borrow();
        if is_on::<GATED>(&cell.gate) {
            cell.set_shared(value.to_bits());
        }
    }
}

/// Durations: count, sum, smallest, largest, and with `BUCKETS` their distribution. Every context may record.
#[derive(Debug)]
#[repr(C)]
pub struct Timer<const GATED: bool = true, const BUCKETS: usize = 0, C = TimerCell<BUCKETS>> {
    pub(super) descriptor: Descriptor,
    pub(super) cell: C,
}

#[cfg(any(target_has_atomic = "32", feature = "critical-section"))]
impl<const GATED: bool, const BUCKETS: usize, C: Borrow<TimerCell<BUCKETS>>> Timer<GATED, BUCKETS, C> {
    /// Records a duration of so many ticks, of the clock that the link was told of.
    #[inline(always)]
    pub fn record(&'static self, ticks: u32) {
        let cell = self.cell.borrow();
        if is_on::<GATED>(&cell.words.gate) {
            cell.record_shared(ticks);
        }
    }

    /// Starts a measurement that ends when the guard is dropped.
    ///
    /// If the level is off, no clock is read and nothing recorded, even if it comes on before the guard is dropped.
    #[inline(always)]
    pub fn start<K: Clock>(&'static self, clock: K) -> Guard<Shared<BUCKETS>, K> {
        let cell: &'static TimerCell<BUCKETS> = self.cell.borrow();
        Guard::start(Shared(cell), clock, is_on::<GATED>(&cell.words.gate))
    }

    /// Measures how long `work` takes, and returns what it returns.
    #[inline(always)]
    pub fn measure<K: Clock, R>(&'static self, clock: K, work: impl FnOnce() -> R) -> R {
        let guard = self.start(clock);
        let returned = work();
        // In place, where the drop of a guard is a call as soon as two guards have one type.
        guard.stop();
        returned
    }
}

/// The cell that a guard of a shared timer records in.
#[derive(Debug)]
pub struct Shared<const BUCKETS: usize>(&'static TimerCell<BUCKETS>);

#[cfg(any(target_has_atomic = "32", feature = "critical-section"))]
impl<const BUCKETS: usize> Fold for Shared<BUCKETS> {
    #[inline(always)]
    fn fold(&mut self, ticks: u32) {
        self.0.record_shared(ticks);
    }
}
