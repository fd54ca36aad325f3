//! Metrics of one context: taken once, then recorded by plain loads and stores.

use core::cell::Cell;
use core::marker::PhantomData;

use super::cell::{CounterCell, GaugeCell, TimerCell};
#[cfg(any(target_has_atomic = "32", feature = "critical-section"))]
use super::claim::claim;
use super::clock::Clock;
use super::declare::{Descriptor, GaugeValue};
use super::guard::{Fold, Guard};
use super::shared::is_on;

/// Makes a handle that may move to another context and not be in two.
type OneContext = PhantomData<Cell<()>>;

/// A counter of one context: [`local_counter!`](crate::local_counter).
#[derive(Debug)]
#[repr(C)]
pub struct LocalCounter<const GATED: bool> {
    pub(super) descriptor: Descriptor,
    pub(super) cell: &'static CounterCell,
}

/// A gauge of one context: [`local_gauge!`](crate::local_gauge).
#[derive(Debug)]
#[repr(C)]
pub struct LocalGauge<V, const GATED: bool> {
    pub(super) descriptor: Descriptor,
    pub(super) cell: &'static GaugeCell,
    pub(super) value: PhantomData<fn(V)>,
}

/// A timer of one context: [`local_timer!`](crate::local_timer).
#[derive(Debug)]
#[repr(C)]
pub struct LocalTimer<const GATED: bool, const BUCKETS: usize = 0> {
    pub(super) descriptor: Descriptor,
    pub(super) cell: &'static TimerCell<BUCKETS>,
}

#[cfg(any(target_has_atomic = "32", feature = "critical-section"))]
impl<const GATED: bool> LocalCounter<GATED> {
    /// The counter, once; then `None`.
    #[must_use]
    pub fn take(&'static self) -> Option<OwnedCounter<GATED>> {
        claim(&self.cell.taken).then_some(OwnedCounter { cell: self.cell, here: PhantomData })
    }
}

#[cfg(any(target_has_atomic = "32", feature = "critical-section"))]
impl<V: GaugeValue, const GATED: bool> LocalGauge<V, GATED> {
    /// The gauge, once; then `None`.
    #[must_use]
    pub fn take(&'static self) -> Option<OwnedGauge<V, GATED>> {
        claim(&self.cell.taken).then_some(OwnedGauge {
            cell: self.cell,
            here: PhantomData,
            value: PhantomData,
        })
    }
}

#[cfg(any(target_has_atomic = "32", feature = "critical-section"))]
impl<const GATED: bool, const BUCKETS: usize> LocalTimer<GATED, BUCKETS> {
    /// The timer, once; then `None`.
    #[must_use]
    pub fn take(&'static self) -> Option<OwnedTimer<GATED, BUCKETS>> {
        claim(&self.cell.words.taken).then_some(OwnedTimer { cell: self.cell, here: PhantomData })
    }
}

/// A counter in the hands of the one context that counts with it.
#[derive(Debug)]
pub struct OwnedCounter<const GATED: bool> {
    cell: &'static CounterCell,
    here: OneContext,
}

impl<const GATED: bool> OwnedCounter<GATED> {
    /// Adds `n`. The cell wraps at 2^32; the link widens it.
    #[inline(always)]
    pub fn add(&mut self, n: u32) {
        if is_on::<GATED>(&self.cell.gate) {
            self.cell.add_alone(n);
        }
    }

    /// Adds 1.
    #[inline(always)]
    pub fn increment(&mut self) {
        self.add(1);
    }
}

/// A gauge in the hands of the one context that sets it.
#[derive(Debug)]
pub struct OwnedGauge<V, const GATED: bool> {
    cell: &'static GaugeCell,
    here: OneContext,
    value: PhantomData<fn(V)>,
}

impl<V: GaugeValue, const GATED: bool> OwnedGauge<V, GATED> {
    /// Sets the value. NaN and infinities are refused later, by the gateway, and counted.
    #[inline(always)]
    pub fn set(&mut self, value: V) {
        if is_on::<GATED>(&self.cell.gate) {
            self.cell.set_alone(value.to_bits());
        }
    }
}

/// A timer in the hands of the one context that records with it.
#[derive(Debug)]
pub struct OwnedTimer<const GATED: bool, const BUCKETS: usize = 0> {
    cell: &'static TimerCell<BUCKETS>,
    here: OneContext,
}

impl<const GATED: bool, const BUCKETS: usize> OwnedTimer<GATED, BUCKETS> {
    /// Records a duration of so many ticks, of the clock that the link was told of.
    #[inline(always)]
    pub fn record(&mut self, ticks: u32) {
        if is_on::<GATED>(&self.cell.words.gate) {
            self.cell.record_alone(ticks);
        }
    }

    /// Starts a measurement that ends when the guard is dropped.
    ///
    /// If the level is off, no clock is read and nothing recorded, even if it comes on before the guard is dropped.
    #[inline(always)]
    pub fn start<K: Clock>(&mut self, clock: K) -> Guard<Alone<'_, BUCKETS>, K> {
        let alone = Alone { cell: self.cell, here: PhantomData };
        Guard::start(alone, clock, is_on::<GATED>(&self.cell.words.gate))
    }

    /// Measures how long `work` takes, and returns what it returns.
    #[inline(always)]
    pub fn measure<K: Clock, R>(&mut self, clock: K, work: impl FnOnce() -> R) -> R {
        let guard = self.start(clock);
        let returned = work();
        // In place, where the drop of a guard is a call as soon as two guards have one type.
        guard.stop();
        returned
    }
}

/// The cell that a guard of a taken timer records in, for as long as it is borrowed.
#[derive(Debug)]
pub struct Alone<'a, const BUCKETS: usize> {
    cell: &'static TimerCell<BUCKETS>,
    here: PhantomData<&'a mut Cell<()>>,
}

impl<const BUCKETS: usize> Fold for Alone<'_, BUCKETS> {
    #[inline(always)]
    fn fold(&mut self, ticks: u32) {
        self.cell.record_alone(ticks);
    }
}
