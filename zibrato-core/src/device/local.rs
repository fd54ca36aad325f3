//! Metrics of one context: taken once, then recorded by plain loads and stores.

use core::cell::Cell;
use core::marker::PhantomData;

use super::cell::{Cell as _, CounterCell, GaugeCell, TimerCell};
#[cfg(any(target_has_atomic = "32", feature = "critical-section"))]
use super::claim::claim;
use super::clock::Clock;
use super::declare::{Descriptor, GaugeValue, Item};
use super::guard::{Fold, Guard};
use super::place::{At, Place};

/// Makes a handle that may move to another context and not be in two.
type OneContext = PhantomData<Cell<()>>;

/// A counter of one context: [`local_counter!`](crate::local_counter).
#[derive(Debug)]
pub struct LocalCounter<P> {
    descriptor: Descriptor,
    pub(super) at: At<P, CounterCell>,
}

/// A gauge of one context: [`local_gauge!`](crate::local_gauge).
#[derive(Debug)]
pub struct LocalGauge<V, P> {
    descriptor: Descriptor,
    pub(super) at: At<P, GaugeCell>,
    value: PhantomData<fn(V)>,
}

/// A timer of one context: [`local_timer!`](crate::local_timer).
#[derive(Debug)]
pub struct LocalTimer<const BUCKETS: usize, P> {
    descriptor: Descriptor,
    pub(super) at: At<P, TimerCell<BUCKETS>>,
}

/// The making of a metric by its macro, and its taking.
macro_rules! local {
    ([$($generics:tt)*] [$($parameters:tt)*] $type:ident, $owned:ident<$($of:ident),*>, $cell:ty $(, $value:ident)?) => {
        impl<$($generics)* P> $type<$($parameters)* P> {
            /// What the macro makes of its parts.
            #[doc(hidden)]
            #[must_use]
            pub const fn declare(descriptor: Descriptor, at: At<P, $cell>) -> Self {
                Self { descriptor, at $(, $value: PhantomData)? }
            }

            /// Its place in a list of metrics; see [`metrics!`](crate::metrics).
            #[must_use]
            pub const fn item(&'static self) -> Item {
                Item::new(&self.descriptor, self.at.level, self.at.more, self.at.cell)
            }
        }

        #[cfg(any(target_has_atomic = "32", feature = "critical-section"))]
        impl<$($generics)* P: Place<$cell>> $type<$($parameters)* P> {
            /// The metric, once; then `None`.
            #[must_use]
            pub fn take(&'static self) -> Option<$owned<$($of),*>> {
                let place = self.at.place;
                claim(&place.cell().head().taken).then_some($owned { place, here: PhantomData $(, $value: PhantomData)? })
            }
        }
    };
}

local!([] [] LocalCounter, OwnedCounter<P>, CounterCell);
local!([V: GaugeValue,] [V,] LocalGauge, OwnedGauge<V, P>, GaugeCell, value);
local!([const BUCKETS: usize,] [BUCKETS,] LocalTimer, OwnedTimer<P, BUCKETS>, TimerCell<BUCKETS>);

/// A counter in the hands of the one context that counts with it; of no size.
#[derive(Debug)]
pub struct OwnedCounter<P> {
    place: P,
    here: OneContext,
}

impl<P: Place<CounterCell>> OwnedCounter<P> {
    /// Adds `n`. The cell wraps at 2^32; the link widens it.
    #[inline(always)]
    pub fn add(&mut self, n: u32) {
        let cell = self.place.cell();
        if self.place.is_open(&cell.head().gate) {
            cell.add_alone(n);
        }
    }

    /// Adds 1.
    #[inline(always)]
    pub fn increment(&mut self) {
        self.add(1);
    }
}

/// A gauge in the hands of the one context that sets it; of no size.
#[derive(Debug)]
pub struct OwnedGauge<V, P> {
    place: P,
    here: OneContext,
    value: PhantomData<fn(V)>,
}

impl<V: GaugeValue, P: Place<GaugeCell>> OwnedGauge<V, P> {
    /// Sets the value. NaN and infinities are refused later, by the gateway, and counted.
    #[inline(always)]
    pub fn set(&mut self, value: V) {
        let cell = self.place.cell();
        if self.place.is_open(&cell.head().gate) {
            cell.set_alone(value.to_bits());
        }
    }
}

/// A timer in the hands of the one context that records with it; of no size.
#[derive(Debug)]
pub struct OwnedTimer<P, const BUCKETS: usize = 0> {
    place: P,
    here: OneContext,
}

impl<const BUCKETS: usize, P: Place<TimerCell<BUCKETS>>> OwnedTimer<P, BUCKETS> {
    /// Records a duration of so many ticks, of the clock that the link was told of.
    #[inline(always)]
    pub fn record(&mut self, ticks: u32) {
        let cell = self.place.cell();
        if self.place.is_open(&cell.head().gate) {
            cell.record_alone(ticks);
        }
    }

    /// Starts a measurement that ends when the guard is dropped.
    ///
    /// If the level is off, no clock is read and nothing recorded, even if it comes on before the guard is dropped.
    #[inline(always)]
    pub fn start<K: Clock>(&mut self, clock: K) -> Guard<Alone<'_, BUCKETS, P>, K> {
        let is_on = self.place.is_open(&self.place.cell().head().gate);
        Guard::start(Alone { place: self.place, here: PhantomData }, clock, is_on)
    }

    /// Measures how long `work` takes, and returns what it returns.
    #[inline(always)]
    pub fn measure<K: Clock, R>(&mut self, clock: K, work: impl FnOnce() -> R) -> R {
        let _guard = self.start(clock);
        work()
    }
}

/// The cell that a guard of a taken timer records in, for as long as it is borrowed.
#[derive(Debug)]
pub struct Alone<'a, const BUCKETS: usize, P> {
    place: P,
    here: PhantomData<&'a mut Cell<()>>,
}

impl<const BUCKETS: usize, P: Place<TimerCell<BUCKETS>>> Fold for Alone<'_, BUCKETS, P> {
    const GATED: bool = P::GATED;

    #[inline(always)]
    fn fold(&mut self, ticks: u32) {
        self.place.cell().record_alone(ticks);
    }
}
