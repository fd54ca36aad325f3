//! Base-2 exponential histograms of seconds, as OpenTelemetry defines them.
//!
//! At scale `s` the base is `b = 2^(2^-s)` and bucket `i` holds values in `(b^i, b^(i+1)]`. A
//! value reported for a bucket, `2 l u / (l + u)` of its bounds, is off by at most
//! `(b - 1) / (b + 1)`: 1.1 % at scale 5. Merging is the addition of buckets; a histogram that
//! would need more than [`HISTOGRAM_BUCKETS_MAX`] buckets is folded to the next lower scale, which
//! doubles the error and keeps every count.
//!
//! Source: OpenTelemetry metrics data model, "ExponentialHistogram".

mod cells;
mod scale;

pub use cells::Cells;
#[cfg(feature = "alloc")]
pub use cells::HostCells;
pub use scale::{index, lower_bound};

use crate::limits::{HISTOGRAM_BUCKETS_MAX, HISTOGRAM_SCALE, HISTOGRAM_SCALE_MIN};

/// The golden ratio's fraction, times 2^64.
const GOLDEN_RATIO: u64 = 0x9e37_79b9_7f4a_7c15;

/// Counts of durations by bucket, over cells of the caller's choice.
///
/// On a host the cells grow ([`HostCells`], feature `alloc`); elsewhere they are a
/// `heapless::Vec<u32, N>`, which folds to a lower scale when `N` buckets are not enough.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram<#[cfg(feature = "alloc")] C = HostCells, #[cfg(not(feature = "alloc"))] C> {
    scale: i8,
    zero: u64,
    offset: i32,
    cells: C,
}

impl<C: Cells> Default for Histogram<C> {
    fn default() -> Self {
        Self { scale: HISTOGRAM_SCALE, zero: 0, offset: 0, cells: C::default() }
    }
}

impl<C: Cells> Histogram<C> {
    /// A histogram without counts at [`HISTOGRAM_SCALE`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Builds a histogram from its parts, as they stand on the wire.
    ///
    /// A scale out of range is brought to the nearest accepted one; counts beyond the limit of
    /// buckets lower the scale, as recording them would.
    #[must_use]
    pub fn from_parts(scale: i8, zero: u64, offset: i32, counts: impl IntoIterator<Item = u64>) -> Self {
        let scale = scale.clamp(HISTOGRAM_SCALE_MIN, HISTOGRAM_SCALE);
        let mut histogram = Self { scale, zero, offset: 0, cells: C::default() };
        for (index, count) in (offset..).zip(counts) {
            if count != 0 {
                histogram.add_at(index, scale, count);
            }
        }
        histogram
    }

    /// Counts `n` durations of `ns` nanoseconds.
    #[inline]
    pub fn record_ns(&mut self, ns: u64, n: u64) {
        if ns == 0 {
            self.zero = self.zero.wrapping_add(n);
            return;
        }
        let index = index(ns as f64 / 1e9);
        // Below the first cell this is negative, and beyond the last as an unsigned number.
        let at = (index >> (HISTOGRAM_SCALE - self.scale)).wrapping_sub(self.offset);
        if !self.cells.add(at as u32 as usize, n) {
            self.add_at(index, HISTOGRAM_SCALE, n);
        }
    }

    /// Makes all counts 0. Scale and buckets stay, for the counts to come.
    pub fn clear(&mut self) {
        self.zero = 0;
        self.cells.clear();
    }

    /// Adds the counts of `other`; the result has the lower of both scales.
    pub fn merge<D: Cells>(&mut self, other: &Histogram<D>) {
        self.downscale_to(other.scale);
        self.zero = self.zero.wrapping_add(other.zero);
        for (index, count) in other.counts() {
            self.add_at(index, other.scale, count);
        }
    }

    /// Adds `n` counts that are distributed as those of `sample`, exactly `n` of them; none if the sample
    /// has none. The result has the lower of both scales.
    ///
    /// From the lowest on the counts are rounded together and not each for itself, so that no bucket is
    /// off by one count or more, and their sum by none. Where the rounding begins is chosen by `turn`, a
    /// number that differs from call to call: with one place for all, single counts added one after the
    /// other would all go to the middle of the sample.
    pub fn add_like<D: Cells>(&mut self, sample: &Histogram<D>, n: u64, turn: u64) {
        let total = u128::from(sample.total());
        if total == 0 {
            return;
        }
        self.downscale_to(sample.scale);
        // The fractions of the multiples of the golden ratio are spread evenly, however many are taken.
        let from = (u128::from(turn.wrapping_mul(GOLDEN_RATIO)) * total) >> u64::BITS;
        let (mut seen, mut given) = (0u128, 0u64);
        let mut share = |count: u64| {
            seen += u128::from(count);
            // At the end `seen` is `total`, and as `from` is less, this is `n`.
            let up_to = ((seen * u128::from(n) + from) / total) as u64;
            up_to - core::mem::replace(&mut given, up_to)
        };
        self.zero = self.zero.wrapping_add(share(sample.zero));
        for (index, count) in sample.counts() {
            match share(count) {
                0 => {}
                n => self.add_at(index, sample.scale, n),
            }
        }
    }

    /// Takes away the counts of `older`, wrapping; the result has the lower of both scales.
    pub fn subtract<D: Cells>(&mut self, older: &Histogram<D>) {
        self.downscale_to(older.scale);
        self.zero = self.zero.wrapping_sub(older.zero);
        for (index, count) in older.counts() {
            self.add_at(index, older.scale, count.wrapping_neg());
        }
    }

    /// Folds buckets together until the scale is at most `scale`.
    pub fn downscale_to(&mut self, scale: i8) {
        while self.scale > scale.max(HISTOGRAM_SCALE_MIN) {
            self.cells.halve(self.offset & 1 != 0);
            self.offset >>= 1;
            self.scale -= 1;
        }
    }

    /// Present scale.
    #[must_use]
    pub const fn scale(&self) -> i8 {
        self.scale
    }

    /// Durations of 0.
    #[must_use]
    pub const fn zero(&self) -> u64 {
        self.zero
    }

    /// Index of the first bucket; 0 without buckets.
    #[must_use]
    pub const fn offset(&self) -> i32 {
        self.offset
    }

    /// Number of buckets from the first to the last one used.
    #[must_use]
    pub fn buckets(&self) -> usize {
        self.cells.len()
    }

    /// Index and count of each bucket whose count is not 0, from the lowest.
    pub fn counts(&self) -> impl Iterator<Item = (i32, u64)> + '_ {
        self.cells_from_offset().filter(|&(_, count)| count != 0)
    }

    /// Index and count of each bucket from [`Histogram::offset`] on, zeros too.
    pub fn cells_from_offset(&self) -> impl Iterator<Item = (i32, u64)> + '_ {
        (self.offset..).zip((0..self.cells.len()).map(|at| self.cells.at(at)))
    }

    /// Count of the bucket `at` places behind the first; 0 beyond the last.
    #[must_use]
    pub fn count_at(&self, at: usize) -> u64 {
        self.cells.at(at)
    }

    /// Sum of all counts, wrapping.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts().fold(self.zero, |sum, (_, count)| sum.wrapping_add(count))
    }

    /// Largest relative error of a reported value at the present scale.
    #[must_use]
    pub fn relative_error(&self) -> f64 {
        let base = lower_bound(1, self.scale);
        (base - 1.0) / (base + 1.0)
    }

    /// The `q` quantile in seconds, 0 <= q <= 1, within [`Histogram::relative_error`]; `None` if empty.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let total = self.total();
        if total == 0 {
            return None;
        }
        // The rank of the wanted record, from 1; the cast cuts, so one is added unless exact.
        let exact = q.clamp(0.0, 1.0) * total as f64;
        let cut = exact as u64;
        let rank = if (cut as f64) < exact { cut + 1 } else { cut }.clamp(1, total);
        let mut seen = self.zero;
        if rank <= seen {
            return Some(0.0);
        }
        let mut value = 0.0;
        for (index, count) in self.counts() {
            let (low, high) = (lower_bound(index, self.scale), lower_bound(index + 1, self.scale));
            value = 2.0 * low * (high / (low + high));
            seen = seen.saturating_add(count);
            if rank <= seen {
                break;
            }
        }
        Some(value)
    }

    /// Adds `n` to the bucket that `index` of scale `scale` falls into.
    ///
    /// `scale` is never below the scale of `self`.
    fn add_at(&mut self, index: i32, scale: i8, n: u64) {
        loop {
            let index = index >> (scale - self.scale).max(0);
            let length = self.cells.len();
            if length == 0 {
                self.offset = index;
            }
            let front = (i64::from(self.offset) - i64::from(index)).max(0) as usize;
            let back = (i64::from(index) - i64::from(self.offset) - length as i64 + 1).max(0) as usize;
            let fits = length + front + back <= HISTOGRAM_BUCKETS_MAX;
            if fits && self.cells.grow(front, back) {
                self.offset -= front as i32;
                self.cells.add((index - self.offset) as usize, n);
                return;
            }
            if self.scale == HISTOGRAM_SCALE_MIN {
                // Cells too few even for the lowest scale: the nearest bucket keeps the count.
                if length > 0 {
                    self.cells.add(if front > 0 { 0 } else { length - 1 }, n);
                }
                return;
            }
            self.downscale_to(self.scale - 1);
        }
    }
}

#[cfg(all(test, feature = "alloc"))]
mod tests;
