//! Cumulative state of a series: what a publisher keeps between windows and puts into frames.
//!
//! Sums and counts go on for the publisher's life and wrap; minimum and maximum belong to the
//! window, of which `start_window` starts the next.

use crate::frame::State;
use crate::histogram::{Cells, Histogram};
#[cfg(feature = "std")]
use crate::metric::{Spill, Spilled};

/// State of a timer.
#[derive(Clone, Debug, Default)]
pub struct TimerSeries<C: Cells> {
    /// Records, wrapping.
    pub count: u64,
    /// Nanoseconds, wrapping.
    pub sum_ns: u64,
    /// Square nanoseconds, wrapping.
    pub sum_squares_ns2: u128,
    /// Smallest and largest duration of the window, in nanoseconds.
    pub window_ns: Option<(u64, u64)>,
    /// Distribution, in seconds.
    pub histogram: Histogram<C>,
}

impl<C: Cells> TimerSeries<C> {
    /// Counts one duration.
    #[inline]
    pub fn record_ns(&mut self, ns: u64) {
        self.add(1, ns, u128::from(ns) * u128::from(ns), ns, ns);
        self.histogram.record_ns(ns, 1);
    }

    #[cfg(feature = "std")]
    /// Counts what was spilled: exact in count and sum; the histogram and the sum of squares take
    /// each record for the mean.
    pub fn add_spilled(&mut self, spilled: &Spilled) {
        let Some(mean) = spilled.sum.checked_div(spilled.count) else { return };
        let squares = (u128::from(mean) * u128::from(mean)).wrapping_mul(u128::from(spilled.count));
        let (min, max) = spilled.range.unwrap_or((mean, mean));
        self.add(spilled.count, spilled.sum, squares, min, max);
        self.histogram.record_ns(mean, spilled.count);
    }

    /// Counts `n` durations by a sample of them: exact in count, and the buckets add up to it. Sums are
    /// those of the sample times `n` by its count, to half a unit; the window gets the sample's range, if
    /// that has one. Does nothing if the sample is empty.
    pub fn add_like<D: Cells>(&mut self, sample: &TimerSeries<D>, n: u64) {
        if sample.count == 0 {
            return;
        }
        let (total, times) = (u128::from(sample.count), u128::from(n));
        // In two steps, since a sum of squares may fill all of its bits.
        let scaled = |sum: u128| {
            (sum / total).wrapping_mul(times).wrapping_add((sum % total * times + total / 2) / total)
        };
        self.histogram.add_like(&sample.histogram, n, self.count);
        self.count = self.count.wrapping_add(n);
        self.sum_ns = self.sum_ns.wrapping_add(scaled(sample.sum_ns.into()) as u64);
        self.sum_squares_ns2 = self.sum_squares_ns2.wrapping_add(scaled(sample.sum_squares_ns2));
        if let Some((min, max)) = sample.window_ns {
            self.widen_window(min, max);
        }
    }

    /// Makes everything 0; the histogram keeps its scale and its buckets.
    pub fn clear(&mut self) {
        (self.count, self.sum_ns, self.sum_squares_ns2, self.window_ns) = (0, 0, 0, None);
        self.histogram.clear();
    }

    #[inline]
    fn add(&mut self, count: u64, sum_ns: u64, squares: u128, min: u64, max: u64) {
        self.count = self.count.wrapping_add(count);
        self.sum_ns = self.sum_ns.wrapping_add(sum_ns);
        self.sum_squares_ns2 = self.sum_squares_ns2.wrapping_add(squares);
        self.widen_window(min, max);
    }

    #[inline]
    fn widen_window(&mut self, min: u64, max: u64) {
        let (low, high) = self.window_ns.unwrap_or((min, max));
        self.window_ns = Some((low.min(min), high.max(max)));
    }

    /// Starts the next window.
    pub const fn start_window(&mut self) {
        self.window_ns = None;
    }
}

/// State of a gauge.
#[derive(Clone, Copy, Debug, Default)]
pub struct GaugeSeries {
    /// How often it was set, wrapping.
    pub sets: u64,
    /// The value set last.
    pub last: f64,
    /// When it was seen, unix milliseconds.
    pub last_ms: u64,
    /// Smallest and largest value of the window in which it was set last.
    pub range: (f64, f64),
    window_sets: u64,
}

impl GaugeSeries {
    /// Counts one set of a finite `value`; false, and nothing changed, for NaN and infinities.
    #[inline]
    pub fn set(&mut self, value: f64) -> bool {
        if value.is_finite() {
            self.add(1, value, value);
            self.last = value;
        }
        value.is_finite()
    }

    #[cfg(feature = "std")]
    /// Counts what was spilled; `last_bits` are those of the value that any thread set last, the
    /// range if the cell had none.
    pub fn add_spilled(&mut self, spilled: &Spilled, last_bits: u64) {
        if spilled.count == 0 {
            return;
        }
        let last = f64::from_bits(last_bits);
        let last = if last.is_finite() { last } else { self.last };
        let value = |ordered| f64::from_bits(Spill::unorder(ordered));
        let (min, max) = spilled.range.map_or((last, last), |(min, max)| (value(min), value(max)));
        self.add(spilled.count, min, max);
    }

    #[inline]
    fn add(&mut self, sets: u64, min: f64, max: f64) {
        self.range =
            if self.window_sets == 0 { (min, max) } else { (self.range.0.min(min), self.range.1.max(max)) };
        self.window_sets += sets;
        self.sets = self.sets.wrapping_add(sets);
    }

    /// Brings the window up to `now_ms`; `last_bits` are those of the value that any thread set last.
    /// Returns whether the gauge was set in the window.
    pub fn end_window(&mut self, now_ms: u64, last_bits: u64) -> bool {
        if self.window_sets == 0 {
            return false;
        }
        let last = f64::from_bits(last_bits);
        if last.is_finite() {
            self.last = last;
            self.range = (self.range.0.min(last), self.range.1.max(last));
        }
        self.last_ms = now_ms;
        true
    }

    /// Starts the next window, whose range begins with its first value.
    pub const fn start_window(&mut self) {
        self.window_sets = 0;
    }

    /// The state for a frame.
    #[must_use]
    pub const fn state(&self) -> State<'static> {
        let (min, max) = self.range;
        State::Gauge { sets: self.sets, last: self.last, last_ms: self.last_ms, min, max }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Timer = TimerSeries<heapless::Vec<u32, 64>>;

    #[test]
    fn a_timer_keeps_count_sum_squares_and_the_window_range() {
        let mut timer = Timer::default();
        for ns in [5, 3, 9] {
            timer.record_ns(ns);
        }
        assert_eq!((timer.count, timer.sum_ns, timer.sum_squares_ns2), (3, 17, 25 + 9 + 81));
        assert_eq!(timer.window_ns, Some((3, 9)));
        timer.start_window();
        assert_eq!((timer.count, timer.window_ns), (3, None));
        assert_eq!(timer.histogram.total(), 3);
    }

    #[test]
    #[cfg(feature = "std")]
    fn spilled_records_keep_count_and_sum_and_every_bucket() {
        let mut timer = Timer::default();
        timer.add_spilled(&Spilled { count: 4, sum: 42, range: Some((1, 30)), odd: 0 });
        assert_eq!((timer.count, timer.sum_ns, timer.sum_squares_ns2), (4, 42, 400));
        assert_eq!((timer.window_ns, timer.histogram.total()), (Some((1, 30)), 4));
    }

    #[test]
    fn a_sample_stands_for_any_number_of_records() {
        let mut sample = Timer::default();
        for ns in [0, 1_000, 1_000, 1_000_000, 1_000_000, 1_000_000, 1_000_000] {
            sample.record_ns(ns);
        }
        for n in [0, 1, 2, 3, 6, 7, 64 * 7, 64 * 7 + 5, 1_000_003, u64::from(u32::MAX)] {
            let mut timer = Timer::default();
            timer.add_like(&sample, n);
            assert_eq!((timer.count, timer.histogram.total()), (n, n));
            // A share of each is off by less than one count.
            let near = |count: u64, part: u64| (count * 7).abs_diff(part * n) < 7;
            assert!(near(timer.histogram.zero(), 1), "{n}: {timer:?}");
            let counts: heapless::Vec<u64, 4> = timer.histogram.counts().map(|(_, count)| count).collect();
            let (&high, low) = counts.split_last().unwrap_or((&0, &[]));
            assert!(near(high, 4) && near(low.iter().sum(), 2), "{n}: {counts:?}");
            assert_eq!(timer.sum_ns, (4_002_000 * n * 2 + 7) / 14, "{n}");
            assert_eq!(timer.window_ns, Some((0, 1_000_000)));
        }
        let mut timer = Timer::default();
        for _ in 0..7_000 {
            timer.add_like(&sample, 1);
        }
        assert!(timer.histogram.zero().abs_diff(1_000) < 10, "one by one: {timer:?}");
        let mut timer = Timer::default();
        timer.add_like(&Timer::default(), 5);
        assert_eq!((timer.count, timer.histogram.total()), (0, 0), "nothing is known of them");
        let longest = (1u64 << 62) - 1;
        sample.clear();
        assert_eq!((sample.count, sample.histogram.total(), sample.window_ns), (0, 0, None));
        sample.record_ns(longest);
        timer.add_like(&sample, 2);
        assert_eq!(timer.sum_squares_ns2, (u128::from(longest) * u128::from(longest)).wrapping_mul(2));
        assert_eq!((timer.sum_ns, sample.window_ns), (2 * longest, Some((longest, longest))));
        timer.start_window();
        sample.start_window();
        timer.add_like(&sample, 1);
        assert_eq!((timer.count, timer.window_ns), (3, None), "nothing was timed in this window");
    }

    #[test]
    fn sums_wrap_instead_of_failing() {
        let mut timer = Timer { sum_ns: u64::MAX, count: u64::MAX, ..Timer::default() };
        timer.record_ns(2);
        assert_eq!((timer.sum_ns, timer.count), (1, 0));
    }

    #[test]
    fn a_gauge_refuses_what_is_not_finite_and_keeps_the_last_set_value() {
        let mut gauge = GaugeSeries::default();
        assert!(!gauge.set(f64::NAN) && !gauge.set(f64::INFINITY));
        assert!(!gauge.end_window(1, 0));
        for value in [0.0, -1.5, 1e9] {
            assert!(gauge.set(value));
        }
        assert!(gauge.end_window(7, 4.0f64.to_bits()));
        let expected = State::Gauge { sets: 3, last: 4.0, last_ms: 7, min: -1.5, max: 1e9 };
        assert_eq!(gauge.state(), expected);
        gauge.start_window();
        assert!(!gauge.end_window(8, 4.0f64.to_bits()), "an unchanged gauge was not set");
        gauge.set(2.0);
        assert!(gauge.end_window(9, f64::NAN.to_bits()));
        assert_eq!((gauge.last, gauge.range), (2.0, (2.0, 2.0)));
    }

    #[test]
    #[cfg(feature = "std")]
    fn spilled_sets_count_and_widen_the_range() {
        let mut gauge = GaugeSeries::default();
        gauge.set(1.0);
        let order = |value: f64| Spill::order(value.to_bits());
        let spilled = Spilled { count: 5, sum: 0, range: Some((order(-2.0), order(0.5))), odd: 0 };
        gauge.add_spilled(&spilled, 1.0f64.to_bits());
        assert!(gauge.end_window(1, 1.0f64.to_bits()));
        assert_eq!((gauge.sets, gauge.range), (6, (-2.0, 1.0)));
        gauge.start_window();
        gauge.add_spilled(&Spilled { range: None, ..spilled }, 7.0f64.to_bits());
        assert!(gauge.end_window(1, 7.0f64.to_bits()));
        assert_eq!((gauge.sets, gauge.range), (11, (7.0, 7.0)), "the range came with the answer before");
    }
}
