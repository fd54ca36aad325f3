//! Rings of records whose own values and times matter.
#![expect(
    unsafe_code,
    reason = "who has an end of a ring is the only one there, which the slots ask for: S3"
)]

use core::cell::Cell;
use core::convert::identity;
use core::marker::PhantomData;

use core::sync::atomic::AtomicU32;

use super::cell::{Cell as _, CounterCell, GaugeCell, TimerCell};
#[cfg(any(target_has_atomic = "32", feature = "critical-section"))]
use super::claim::claim;
use super::clock::Clock;
use super::declare::GaugeValue;
use super::local::{LocalCounter, LocalGauge, LocalTimer};
use super::place::{Holder, Place};
use super::ring::{Record, Slots};
use super::shared::{Counter, Gauge, Timer};

/// A metric of which samples can be taken: counters (increments), timers (ticks) and gauges.
///
/// It has to be in the list that the link was given; samples of others are counted as lost. Samples never feed what the
/// metric itself counts.
pub trait Sampled {
    /// What a sample is of.
    type Value;

    /// Whether samples are taken now.
    #[doc(hidden)]
    fn is_sampled(&'static self) -> bool;

    /// The metric's gate, which is where its cell is.
    #[doc(hidden)]
    fn gate(&'static self) -> &'static AtomicU32;

    /// The 32 bits of a value.
    #[doc(hidden)]
    fn bits(value: Self::Value) -> u32;
}

macro_rules! sampled {
    ([$($generics:tt)*] $type:ty, $value:ty, $bits:expr, $this:ident => $place:expr) => {
        impl<$($generics)*> Sampled for $type {
            type Value = $value;

            #[inline(always)]
            fn is_sampled(&'static self) -> bool {
                let $this = self;
                $place.is_open(self.gate())
            }

            #[inline(always)]
            fn gate(&'static self) -> &'static AtomicU32 {
                let $this = self;
                &Place::cell($place).head().gate
            }

            #[inline(always)]
            fn bits(value: $value) -> u32 {
                $bits(value)
            }
        }
    };
}

sampled!([H: Holder<CounterCell>] Counter<H>, u32, identity, this => this.holder.place());
sampled!([P: Place<CounterCell>] LocalCounter<P>, u32, identity, this => this.at.place);
sampled!([V: GaugeValue, H: Holder<GaugeCell>] Gauge<V, H>, V, V::to_bits,
    this => this.holder.place());
sampled!([V: GaugeValue, P: Place<GaugeCell>] LocalGauge<V, P>, V, V::to_bits,
    this => this.at.place);
sampled!([const BUCKETS: usize, H: Holder<TimerCell<BUCKETS>>] Timer<BUCKETS, H>, u32, identity,
    this => this.holder.place());
sampled!([const BUCKETS: usize, P: Place<TimerCell<BUCKETS>>] LocalTimer<BUCKETS, P>, u32, identity,
    this => this.at.place);

/// The record of a value now.
#[inline(always)]
fn record<M: Sampled>(metric: &'static M, value: M::Value, clock: impl Clock) -> Record<AtomicU32> {
    Record { metric: metric.gate(), time: clock.ticks(), bits: M::bits(value) }
}

/// A ring of `N` samples, a power of two up to 2^28, that one context fills: 12 bytes each, and 20.
///
/// At its limit it drops the newest sample and counts it.
#[derive(Debug)]
pub struct SampleRing<const N: usize> {
    slots: Slots<AtomicU32, N, true>,
    produced: AtomicU32,
    consumed: AtomicU32,
}

/// Whether a shared ring has one producer at a time, within critical sections.
const ALONE: bool = cfg!(not(target_has_atomic = "32"));

/// A ring of `N` samples, a power of two up to 2^28, that every context fills: 12 bytes each, and 16.
///
/// Interrupts are never switched off for it, but on thumbv6m, where it needs feature `critical-section`. At its limit it
/// drops the newest sample and counts it.
#[derive(Debug)]
pub struct SharedSampleRing<const N: usize> {
    slots: Slots<AtomicU32, N, ALONE>,
    consumed: AtomicU32,
}

impl<const N: usize> SampleRing<N> {
    /// An empty ring, all zero.
    #[must_use]
    pub const fn new() -> Self {
        Self { slots: Slots::new(), produced: AtomicU32::new(0), consumed: AtomicU32::new(0) }
    }

    /// Samples that found the ring full since the boot, wrapping.
    #[must_use]
    pub fn lost(&self) -> u32 {
        self.slots.lost()
    }
}

impl<const N: usize> SharedSampleRing<N> {
    /// An empty ring, all zero.
    #[must_use]
    pub const fn new() -> Self {
        Self { slots: Slots::new(), consumed: AtomicU32::new(0) }
    }

    /// Samples that found the ring full since the boot, wrapping.
    #[must_use]
    pub fn lost(&self) -> u32 {
        self.slots.lost()
    }
}

impl<const N: usize> Default for SampleRing<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Default for SharedSampleRing<N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(any(target_has_atomic = "32", feature = "critical-section"))]
impl<const N: usize> SampleRing<N> {
    /// The end that samples go in at, once; then `None`.
    #[must_use]
    pub fn producer(&'static self) -> Option<Producer<N>> {
        claim(&self.produced).then_some(Producer { slots: &self.slots, here: PhantomData })
    }

    /// The end for [`super::Link::add_ring`], once; then `None`.
    #[must_use]
    pub fn consumer(&'static self) -> Option<Consumer> {
        claim(&self.consumed).then_some(Consumer {
            slots: &self.slots,
            capacity: N as u32,
            here: PhantomData,
        })
    }
}

#[cfg(any(target_has_atomic = "32", feature = "critical-section"))]
impl<const N: usize> SharedSampleRing<N> {
    /// The end for [`super::Link::add_ring`], once; then `None`.
    #[must_use]
    pub fn consumer(&'static self) -> Option<Consumer> {
        claim(&self.consumed).then_some(Consumer {
            slots: &self.slots,
            capacity: N as u32,
            here: PhantomData,
        })
    }

    /// Takes a sample, in any context; false if the ring is full, and the sample counted as lost. Of a metric whose
    /// level is off none is taken, and that is true too.
    #[inline(always)]
    pub fn push<M: Sampled>(&'static self, metric: &'static M, value: M::Value, clock: impl Clock) -> bool {
        !metric.is_sampled() || self.put(record(metric, value, clock))
    }

    #[cfg(target_has_atomic = "32")]
    #[inline(always)]
    fn put(&self, record: Record<AtomicU32>) -> bool {
        self.slots.push_among(record)
    }

    #[cfg(all(not(target_has_atomic = "32"), feature = "critical-section"))]
    #[inline(always)]
    fn put(&self, record: Record<AtomicU32>) -> bool {
        super::claim::alone(|| {
            // SAFETY: S3: the critical section keeps all others away.
            unsafe { self.slots.push_alone(record) }
        })
    }
}

/// The end of a [`SampleRing`] that samples go in at, in the hands of the one context that fills it.
#[derive(Debug)]
pub struct Producer<const N: usize> {
    slots: &'static Slots<AtomicU32, N, true>,
    here: PhantomData<Cell<()>>,
}

impl<const N: usize> Producer<N> {
    /// Takes a sample; false if the ring is full, and the sample counted as lost. Of a metric whose level is off none is
    /// taken, and that is true too.
    #[inline(always)]
    pub fn push<M: Sampled>(&mut self, metric: &'static M, value: M::Value, clock: impl Clock) -> bool {
        if !metric.is_sampled() {
            return true;
        }
        // SAFETY: S3: `&mut self` of the only producer that the ring ever gave.
        unsafe { self.slots.push_alone(record(metric, value, clock)) }
    }
}

/// The end of a ring that samples come out at.
pub struct Consumer {
    slots: &'static (dyn Pop + Sync),
    capacity: u32,
    here: PhantomData<Cell<()>>,
}

// By hand: a slot's own would come with every ring into flash, by way of the table of `Pop`.
impl core::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Consumer").finish_non_exhaustive()
    }
}

impl Consumer {
    pub(super) fn pop(&mut self) -> Option<Record<AtomicU32>> {
        // SAFETY: S3: `&mut self` of the only consumer that the ring ever gave.
        unsafe { self.slots.pop_dyn() }
    }

    /// The most samples that the ring holds.
    pub(super) const fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Samples that found the ring full since the boot, wrapping.
    #[must_use]
    pub fn lost(&self) -> u32 {
        self.slots.lost_dyn()
    }
}

/// Slots of whatever number.
trait Pop {
    /// # Safety
    /// As [`Slots::pop`].
    unsafe fn pop_dyn(&self) -> Option<Record<AtomicU32>>;
    fn lost_dyn(&self) -> u32;
}

impl<const N: usize, const ALONE: bool> Pop for Slots<AtomicU32, N, ALONE> {
    unsafe fn pop_dyn(&self) -> Option<Record<AtomicU32>> {
        // SAFETY: the caller's promise is the one that is asked for.
        unsafe { self.pop() }
    }

    fn lost_dyn(&self) -> u32 {
        self.lost()
    }
}
