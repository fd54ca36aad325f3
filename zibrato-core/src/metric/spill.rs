//! Cells in the metric itself, for measurements that cannot go through slab or ring: the ring is
//! full, the thread is ending, or a counter beyond the slabs.

use crate::sync::{AtomicU64, Ordering::Relaxed};

use crate::record::TimerValue;
use crate::sync::const_fn;

/// Shared cells on a cache line of their own, all zero at the start.
#[derive(Debug)]
#[repr(align(64))]
pub struct Spill {
    /// Spilled timer records or gauge sets.
    count: AtomicU64,
    /// Of a timer nanoseconds, of a counter its shared part.
    sum: AtomicU64,
    /// The complement of the smallest value, so that zero means none.
    min_complement: AtomicU64,
    /// The largest value.
    max: AtomicU64,
    /// Bits of the value a gauge was set to last; of a sampled timer the shared part of its calls,
    /// which goes on for ever as a counter's does, while `sum` is taken with the spilled records.
    last: AtomicU64,
    /// Timer records whose clock went backwards, or gauge sets that were not finite.
    odd: AtomicU64,
}

/// What was folded into the cells since they were taken last.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Spilled {
    /// Timer records, or gauge sets with a finite value.
    pub count: u64,
    /// Nanoseconds of a timer.
    pub sum: u64,
    /// Smallest and largest value: nanoseconds, or a gauge's values in the order of [`Spill::order`].
    /// `None` if the range was taken with the answer before.
    pub range: Option<(u64, u64)>,
    /// Of a timer: how many of `count` had a clock that went backwards and were taken as 0. Of a
    /// gauge: how often it was set to a value that is not finite, beside `count`.
    pub odd: u64,
}

impl Spill {
    const_fn! {
        pub(crate) fn new() -> Self {
            Self {
                count: AtomicU64::new(0),
                sum: AtomicU64::new(0),
                min_complement: AtomicU64::new(0),
                max: AtomicU64::new(0),
                last: AtomicU64::new(0),
                odd: AtomicU64::new(0),
            }
        }
    }

    /// Maps the bits of an `f64` to a number of the same order.
    #[must_use]
    pub const fn order(bits: u64) -> u64 {
        if bits >> 63 == 0 { bits ^ (1 << 63) } else { !bits }
    }

    /// The inverse of [`Spill::order`].
    #[must_use]
    pub const fn unorder(ordered: u64) -> u64 {
        if ordered >> 63 == 0 { !ordered } else { ordered ^ (1 << 63) }
    }
}

impl Spill {
    /// Adds to a counter's shared part.
    pub(crate) fn add_to_counter(&self, n: u64) {
        self.sum.fetch_add(n, Relaxed);
    }

    /// A counter's shared part.
    #[must_use]
    pub fn counter(&self) -> u64 {
        self.sum.load(Relaxed)
    }

    /// Counts a call of a sampled timer in the shared part.
    pub(crate) fn add_call(&self) {
        self.last.fetch_add(1, Relaxed);
    }

    /// The shared part of a sampled timer's calls.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.last.load(Relaxed)
    }

    /// Keeps the value a gauge was set to.
    #[inline(always)]
    pub(crate) fn set_last(&self, bits: u64) {
        self.last.store(bits, Relaxed);
    }

    /// Bits of the value the gauge was set to last, by whichever thread.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last.load(Relaxed)
    }

    /// Folds a gauge's value.
    pub(crate) fn fold_gauge(&self, bits: u64) {
        if f64::from_bits(bits).is_finite() {
            self.fold(Self::order(bits), 0);
        } else {
            self.odd.fetch_add(1, Relaxed);
        }
    }

    /// Folds a timer's value.
    pub(crate) fn fold_timer(&self, bits: u64) {
        let ns = match TimerValue::from_bits(bits) {
            TimerValue::Nanoseconds(ns) => ns,
            TimerValue::Ticks(ticks) => crate::clock::to_ns(ticks),
            TimerValue::Backwards => {
                self.odd.fetch_add(1, Relaxed);
                0
            }
        };
        self.fold(ns, ns);
    }

    fn fold(&self, value: u64, sum: u64) {
        self.max.fetch_max(value, Relaxed);
        self.min_complement.fetch_max(!value, Relaxed);
        self.sum.fetch_add(sum, Relaxed);
        // Last, so that whoever takes the count takes at least what belongs to it.
        self.count.fetch_add(1, crate::sync::Ordering::Release);
    }

    /// Takes what was folded since the last call. Counts and sums are exact over all calls; a
    /// record folded during the call may have its sum and range in this and its count in the next
    /// answer.
    #[must_use]
    pub fn take(&self) -> Option<Spilled> {
        if self.count.load(Relaxed) == 0 && self.odd.load(Relaxed) == 0 {
            return None;
        }
        let count = self.count.swap(0, crate::sync::Ordering::Acquire);
        let sum = self.sum.swap(0, Relaxed);
        let max = self.max.swap(0, Relaxed);
        let min_complement = self.min_complement.swap(0, Relaxed);
        // Two halves of one fold may lie in different answers: then they are no range.
        let range = (min_complement != 0 && !min_complement <= max).then_some((!min_complement, max));
        let odd = self.odd.swap(0, Relaxed);
        Some(Spilled { count, sum, range, odd })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_bits_is_the_order_of_values_and_back() {
        let values = [f64::NEG_INFINITY, -1e9, -1.5, -0.0, 0.0, 1e-300, 17.0, f64::INFINITY];
        for pair in values.windows(2) {
            assert!(Spill::order(pair[0].to_bits()) < Spill::order(pair[1].to_bits()), "{pair:?}");
        }
        for value in values {
            assert_eq!(Spill::unorder(Spill::order(value.to_bits())), value.to_bits());
        }
    }

    #[test]
    fn taking_returns_count_sum_min_and_max_once() {
        let spill = Spill::new();
        assert_eq!(spill.take(), None);
        for ns in [5, 3, 9] {
            spill.fold_timer(TimerValue::nanoseconds_to_bits(ns));
        }
        spill.fold_timer(u64::MAX);
        let expected = Spilled { count: 4, sum: 17, range: Some((0, 9)), odd: 1 };
        assert_eq!(spill.take(), Some(expected));
        assert_eq!(spill.take(), None);
    }

    #[test]
    fn gauge_sets_that_are_not_finite_are_counted_apart() {
        let spill = Spill::new();
        spill.fold_gauge(f64::NAN.to_bits());
        spill.fold_gauge(f64::NEG_INFINITY.to_bits());
        assert_eq!(spill.take(), Some(Spilled { odd: 2, ..Spilled::default() }));
        spill.fold_gauge((-1.5f64).to_bits());
        let order = Spill::order((-1.5f64).to_bits());
        assert_eq!(spill.take(), Some(Spilled { count: 1, sum: 0, range: Some((order, order)), odd: 0 }));
    }
}
