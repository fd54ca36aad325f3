//! Metrics that every context may record.
//!
//! [`counter!`](crate::counter) and its like make two statics of one, the cell in `.bss` and the rest in flash.
//! `Counter::new` makes one static of both, as on a host, for code that is to run on either: it lies in `.data`, costs its
//! size in flash a second time, and looks at its gate on every level.

use core::marker::PhantomData;

use crate::level::Level;
use crate::link::Form;
use crate::text::Tag;

#[cfg(any(target_has_atomic = "32", feature = "critical-section"))]
use super::cell::Cell as _;
use super::cell::{CounterCell, GaugeCell, TimerCell};
#[cfg(any(target_has_atomic = "32", feature = "critical-section"))]
use super::clock::Clock;
use super::declare::{Descriptor, GaugeValue, Item};
#[cfg(any(target_has_atomic = "32", feature = "critical-section"))]
use super::guard::{Fold, Guard};
use super::place::{At, Own};
#[cfg(any(target_has_atomic = "32", feature = "critical-section"))]
use super::place::{Holder, Place};

/// A sum of non-negative whole numbers, which every context may add to.
#[derive(Debug)]
pub struct Counter<H = Own<CounterCell>> {
    pub(super) descriptor: Descriptor,
    pub(super) holder: H,
}

#[cfg(any(target_has_atomic = "32", feature = "critical-section"))]
impl<H: Holder<CounterCell>> Counter<H> {
    /// Adds `n`. The cell wraps at 2^32; the link widens it.
    #[inline(always)]
    pub fn add(&'static self, n: u32) {
        let place = self.holder.place();
        let cell = place.cell();
        if place.is_open(&cell.head().gate) {
            cell.add_shared(n);
        }
    }

    /// Adds 1.
    #[inline(always)]
    pub fn increment(&'static self) {
        self.add(1);
    }
}

/// A value that is set; the last one counts. Every context may set it.
#[derive(Debug)]
pub struct Gauge<V = f64, H = Own<GaugeCell>> {
    pub(super) descriptor: Descriptor,
    pub(super) holder: H,
    pub(super) value: PhantomData<fn(V)>,
}

#[cfg(any(target_has_atomic = "32", feature = "critical-section"))]
impl<V: GaugeValue, H: Holder<GaugeCell>> Gauge<V, H> {
    /// Sets the value. NaN and infinities are refused later, by the gateway, and counted.
    #[inline(always)]
    pub fn set(&'static self, value: V) {
        let place = self.holder.place();
        let cell = place.cell();
        if place.is_open(&cell.head().gate) {
            cell.set_shared(value.to_bits());
        }
    }
}

/// Durations: count, sum, smallest, largest, and with `BUCKETS` their distribution. Every context may record.
#[derive(Debug)]
pub struct Timer<const BUCKETS: usize = 0, H = Own<TimerCell<BUCKETS>>> {
    pub(super) descriptor: Descriptor,
    pub(super) holder: H,
}

#[cfg(any(target_has_atomic = "32", feature = "critical-section"))]
impl<const BUCKETS: usize, H: Holder<TimerCell<BUCKETS>>> Timer<BUCKETS, H> {
    /// Records a duration of so many ticks, of the clock that the link was told of.
    #[inline(always)]
    pub fn record(&'static self, ticks: u32) {
        let place = self.holder.place();
        let cell = place.cell();
        if place.is_open(&cell.head().gate) {
            cell.record_shared(ticks);
        }
    }

    /// Starts a measurement that ends when the guard is dropped.
    ///
    /// If the level is off, no clock is read and nothing recorded, even if it comes on before the guard is dropped.
    #[inline(always)]
    pub fn start<K: Clock>(&'static self, clock: K) -> Guard<Shared<BUCKETS, H::Place>, K> {
        let place = self.holder.place();
        Guard::start(Shared(place), clock, place.is_open(&place.cell().head().gate))
    }

    /// Measures how long `work` takes, and returns what it returns.
    #[inline(always)]
    pub fn measure<K: Clock, R>(&'static self, clock: K, work: impl FnOnce() -> R) -> R {
        let _guard = self.start(clock);
        work()
    }
}

/// The cell that a guard of a shared timer records in.
#[derive(Debug)]
pub struct Shared<const BUCKETS: usize, P>(P);

#[cfg(any(target_has_atomic = "32", feature = "critical-section"))]
impl<const BUCKETS: usize, P: Place<TimerCell<BUCKETS>>> Fold for Shared<BUCKETS, P> {
    const GATED: bool = P::GATED;

    #[inline(always)]
    fn fold(&mut self, ticks: u32) {
        self.0.cell().record_shared(ticks);
    }
}

/// The making of metrics: with a cell of its own static by a macro, or in one static with it as on a host.
macro_rules! make {
    ([$($generics:tt)*] [$($parameters:tt)*] $type:ident, $cell:ty, $one:ty, $own:ty, $form:expr $(, $extra:ident)?) => {
        impl<$($generics)* P> $type<$($parameters)* At<P, $cell>> {
            /// What the macro makes of its parts.
            #[doc(hidden)]
            #[must_use]
            pub const fn declare(descriptor: Descriptor, holder: At<P, $cell>) -> Self {
                Self { descriptor, holder $(, $extra: PhantomData)? }
            }

            /// Its place in a list of metrics; see [`metrics!`](crate::metrics).
            #[must_use]
            pub const fn item(&'static self) -> Item {
                Item::new(&self.descriptor, self.holder.level, self.holder.more, self.holder.cell)
            }
        }

        impl $one {
            /// Declares a metric at a level, in one static.
            ///
            /// # Panics
            /// If the name is not 1 to 255 of `A-Za-z0-9.:_-`: in a static that is a compile error.
            #[must_use]
            pub const fn new(name: &'static str, level: Level) -> Self {
                let holder = Own(<$own>::gated(!level.is_on_demand()));
                Self { descriptor: Descriptor::new($form, name, level), holder $(, $extra: PhantomData)? }
            }

            /// See [`Descriptor::source`].
            #[must_use]
            pub const fn source(mut self, source: &'static str) -> Self {
                self.descriptor = self.descriptor.source(source);
                self
            }

            /// See [`Descriptor::unit`].
            #[must_use]
            pub const fn unit(mut self, unit: &'static str) -> Self {
                self.descriptor = self.descriptor.unit(unit);
                self
            }

            /// See [`Descriptor::tags`].
            #[must_use]
            pub const fn tags(mut self, tags: &'static [Tag]) -> Self {
                self.descriptor = self.descriptor.tags(tags);
                self
            }

            /// Its place in a list of metrics; see [`metrics!`](crate::metrics).
            #[must_use]
            pub const fn item(&'static self) -> Item {
                Item::new(&self.descriptor, &self.descriptor.level, &self.descriptor.more, &self.holder.0)
            }
        }
    };
}

make!([] [] Counter, CounterCell, Counter, CounterCell, Form::Counter);
make!([V: GaugeValue,] [V,] Gauge, GaugeCell, Gauge<f64>, GaugeCell, Form::Float, value);
make!([const BUCKETS: usize,] [BUCKETS,] Timer, TimerCell<BUCKETS>, Timer, TimerCell, Form::Timer);
