//! Native histograms: the exponential buckets as they are, with nothing lost.
//!
//! Bucket `i` of ours holds values in `(b^i, b^(i+1)]`, bucket `j` of Prometheus those in `(b^(j-1), b^j]`, so `j` is
//! `i + 1`. The schema is the scale.

use crate::measurement::TimerTotal;

/// Below it Prometheus takes a value for 0. What its own clients send; ours has zeros alone in that bucket.
pub(super) const ZERO_THRESHOLD: f64 = 2.938_735_877_055_719e-39;
/// Schemas that Prometheus knows.
const SCHEMA_MIN: i8 = -4;
const SCHEMA_MAX: i8 = 8;
/// Empty buckets in a row that cost no more than a new span.
const GAP_MAX: i64 = 2;

/// A histogram as Prometheus has it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Native {
    pub(super) schema: i32,
    pub(super) zero_count: u64,
    /// Of all buckets: Prometheus refuses a count that its buckets do not sum to.
    pub(super) count: u64,
    /// Gap before a run of buckets (the first: index of its first one), and their number.
    pub(super) spans: Vec<(i32, u32)>,
    /// Each count less that of the bucket before.
    pub(super) deltas: Vec<i64>,
}

impl Native {
    pub(super) fn of(total: &TimerTotal) -> Self {
        let histogram = &total.histogram;
        let schema = histogram.scale().clamp(SCHEMA_MIN, SCHEMA_MAX);
        // A bucket wider than those of the lowest schema goes where its upper bound is.
        let widen = u32::from(schema.abs_diff(histogram.scale()));
        let mut count = histogram.zero();
        let mut spans: Vec<(i32, u32)> = Vec::new();
        let (mut deltas, mut last) = (Vec::new(), 0_u64);
        let mut push = |count: u64| {
            deltas.push(count.wrapping_sub(last) as i64);
            last = count;
        };
        let mut next = 0_i64;
        for (index, of_bucket) in histogram.counts() {
            let place = (i64::from(index) + 1) << widen;
            let gap = place - next;
            // Outside of all doubles there is nothing to be lost.
            let Ok(offset) = i32::try_from(gap) else { continue };
            match spans.last_mut() {
                Some((_, length)) if gap <= GAP_MAX => {
                    (0..gap).for_each(|_| push(0));
                    *length += offset.unsigned_abs() + 1;
                }
                _ => spans.push((offset, 1)),
            }
            push(of_bucket);
            count = count.saturating_add(of_bucket);
            next = place + 1;
        }
        Self { schema: schema.into(), zero_count: histogram.zero(), count, spans, deltas }
    }
}

#[cfg(test)]
mod tests {
    use zibrato_core::histogram::{Histogram, lower_bound};

    use super::*;

    /// Upper bounds and counts, as Prometheus reads them.
    fn read(native: &Native) -> Vec<(f64, u64)> {
        let base = 2_f64.powf(2_f64.powi(-native.schema));
        let (mut index, mut count, mut deltas) = (0, 0, native.deltas.iter());
        let mut buckets = Vec::new();
        for (offset, length) in &native.spans {
            index += offset;
            for _ in 0..*length {
                count += deltas.next().unwrap();
                buckets.push((base.powi(index), count as u64));
                index += 1;
            }
        }
        assert_eq!(deltas.next(), None);
        buckets
    }

    #[test]
    fn every_bucket_arrives_with_its_bound() {
        let mut total = TimerTotal::default();
        for ns in [0, 0, 1, 900, 1_000_000, 1_010_000, 1_000_000_000, 1_000_000_001, 60_000_000_000] {
            total.histogram.record_ns(ns, ns % 7 + 1);
        }
        let native = Native::of(&total);
        let expected: Vec<_> = total.histogram.counts().collect();
        let got: Vec<_> = read(&native).into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(got.len(), expected.len());
        for ((bound, count), (index, expected)) in got.into_iter().zip(expected) {
            assert_eq!(count, expected);
            let upper = lower_bound(index + 1, total.histogram.scale());
            assert!((bound / upper - 1.0).abs() < 1e-9, "{bound} {upper}");
        }
        let scale = i32::from(total.histogram.scale());
        assert_eq!((native.schema, native.zero_count, native.count), (scale, 2, total.histogram.total()));
    }

    #[test]
    fn small_gaps_are_filled_and_large_ones_begin_a_span() {
        let counts = [4, 0, 0, 1, 0, 0, 0, 9];
        let histogram = Histogram::from_parts(3, 0, -2, counts);
        let native = Native::of(&TimerTotal { histogram, ..TimerTotal::default() });
        assert_eq!(native.spans, [(-1, 4), (3, 1)]);
        assert_eq!(native.deltas, [4, -4, 0, 1, 8]);
        assert_eq!((native.schema, native.count), (3, 14));
        let empty = Native::of(&TimerTotal::default());
        assert_eq!((empty.count, empty.spans.len(), empty.deltas.len()), (0, 0, 0));
    }

    #[test]
    fn a_scale_below_the_lowest_schema_keeps_upper_bounds_and_any_offset_is_borne() {
        let histogram = Histogram::from_parts(-6, 1, -1, [2, 3]);
        let native = Native::of(&TimerTotal { histogram, ..TimerTotal::default() });
        assert_eq!((native.schema, native.count), (-4, 6));
        let got: Vec<_> = read(&native).into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(got, [(1.0, 2), (2_f64.powi(64), 3)]);
        for offset in [i32::MIN, i32::MAX - 3] {
            for scale in [-10, 5] {
                let histogram = Histogram::from_parts(scale, 0, offset, [1, 1]);
                let _ = Native::of(&TimerTotal { histogram, ..TimerTotal::default() });
            }
        }
    }
}
