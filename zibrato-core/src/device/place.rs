//! How metrics are made, with their cell beside them or in them, and how they get into a list.

use core::marker::PhantomData;

use crate::level::Level;
use crate::link::Form;
use crate::text::Tag;

use super::cell::{CounterCell, GaugeCell, TimerCell};
use super::declare::{Cell, Descriptor, GaugeValue, Item};
use super::local::{LocalCounter, LocalGauge, LocalTimer};
use super::shared::{Counter, Gauge, Timer};

/// What all metrics have, wherever their cell is.
macro_rules! item {
    ([$($generics:tt)*] $type:ty, $this:ident => $cell:expr) => {
        impl<$($generics)*> $type {
            /// Its place in a list of metrics; see [`metrics!`](crate::metrics).
            #[must_use]
            pub const fn item(&'static self) -> Item {
                let $this = self;
                Item { descriptor: &self.descriptor, cell: $cell }
            }

            /// What it is.
            #[must_use]
            pub const fn descriptor(&'static self) -> &'static Descriptor {
                &self.descriptor
            }
        }
    };
}

item!([const GATED: bool] Counter<GATED, CounterCell>, this => Cell::Counter(&this.cell));
item!([const GATED: bool] Counter<GATED, &'static CounterCell>, this => Cell::Counter(this.cell));
item!([const GATED: bool] LocalCounter<GATED>, this => Cell::Counter(this.cell));
item!([V: GaugeValue, const GATED: bool] Gauge<V, GATED, GaugeCell>, this => Cell::Gauge(&this.cell));
item!([V: GaugeValue, const GATED: bool] Gauge<V, GATED, &'static GaugeCell>, this => Cell::Gauge(this.cell));
item!([V: GaugeValue, const GATED: bool] LocalGauge<V, GATED>, this => Cell::Gauge(this.cell));
item!([const GATED: bool, const BUCKETS: usize] Timer<GATED, BUCKETS, TimerCell<BUCKETS>>,
    this => Cell::Timer(&this.cell.words, &this.cell.buckets));
item!([const GATED: bool, const BUCKETS: usize] Timer<GATED, BUCKETS, &'static TimerCell<BUCKETS>>,
    this => Cell::Timer(&this.cell.words, &this.cell.buckets));
item!([const GATED: bool, const BUCKETS: usize] LocalTimer<GATED, BUCKETS>,
    this => Cell::Timer(&this.cell.words, &this.cell.buckets));

/// The making of metrics whose cell is a static of its own, which the macros call.
macro_rules! declare {
    ([$($generics:tt)*] $type:ty, $cell:ty $(, $extra:ident: $value:expr)?) => {
        impl<$($generics)*> $type {
            /// What the macro makes of a descriptor and a cell.
            #[doc(hidden)]
            #[must_use]
            pub const fn declare(descriptor: Descriptor, cell: &'static $cell) -> Self {
                Self { descriptor, cell $(, $extra: $value)? }
            }
        }
    };
}

declare!([const GATED: bool] Counter<GATED, &'static CounterCell>, CounterCell);
declare!([const GATED: bool] LocalCounter<GATED>, CounterCell);
declare!([V: GaugeValue, const GATED: bool] Gauge<V, GATED, &'static GaugeCell>, GaugeCell, value: PhantomData);
declare!([V: GaugeValue, const GATED: bool] LocalGauge<V, GATED>, GaugeCell, value: PhantomData);
declare!([const GATED: bool, const BUCKETS: usize] Timer<GATED, BUCKETS, &'static TimerCell<BUCKETS>>, TimerCell<BUCKETS>);
declare!([const GATED: bool, const BUCKETS: usize] LocalTimer<GATED, BUCKETS>, TimerCell<BUCKETS>);

/// The making of metrics that are one static with their cell, as on a host.
macro_rules! new {
    ($type:ty, $cell:ident, $form:expr $(, $extra:ident: $value:expr)?) => {
        impl $type {
            /// Declares a metric at a level, in one static.
            ///
            /// # Panics
            /// If the name is not 1 to 255 of `A-Za-z0-9.:_-`: in a static that is a compile error.
            #[must_use]
            pub const fn new(name: &'static str, level: Level) -> Self {
                let cell = <$cell>::gated(!level.is_on_demand());
                Self { descriptor: Descriptor::new($form, name, level), cell $(, $extra: $value)? }
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
        }
    };
}

new!(Counter, CounterCell, Form::Counter);
new!(Gauge<f64>, GaugeCell, Form::Float, value: PhantomData);
new!(Timer, TimerCell, Form::Timer);
