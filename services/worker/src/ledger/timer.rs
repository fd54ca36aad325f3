//! State of one timer: wrapping totals, and buckets that non-key frames give as differences.

use std::sync::Arc;

use zibrato_core::frame::{HistogramState, State};
use zibrato_core::histogram::{Histogram, lower_bound};

use super::series::{Arrival, Change, KeptTimer};
use crate::measurement::TimerDelta;

const NS_A_SECOND: f64 = 1e9;

/// One timer of one publisher.
///
/// The three histograms are shared: of an idle timer they are one.
#[derive(Debug, Default)]
pub(super) struct Timer {
    totals: Totals,
    flushed: Totals,
    /// Number of the part that brought `flushed`.
    flushed_seq: u64,
    /// Smallest and largest since the last flush, in nanoseconds.
    min_max_ns: Option<(u64, u64)>,
    /// Whether min and max of a step are to be taken from the buckets when these are known.
    bounds_due: bool,
    /// Buckets by the last state in which they could be known.
    histogram: Arc<Histogram>,
    /// Buckets at the last flush; `None` if the first state known had none.
    flushed_histogram: FlushedHistogram,
    /// The key frame by which differences are read; 0 before the first.
    base: u64,
    base_histogram: Arc<Histogram>,
    waiting: Option<Box<Waiting>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    count: u64,
    sum_ns: u64,
    sum_squares_ns2: u128,
}

#[derive(Clone, Debug)]
struct FlushedHistogram(Option<Arc<Histogram>>);

impl Default for FlushedHistogram {
    fn default() -> Self {
        Self(Some(Arc::default()))
    }
}

/// A difference to a key frame that is not known.
#[derive(Debug)]
struct Waiting {
    base: u64,
    difference: Histogram,
    since_ms: u64,
}

/// How to take back a flush of a timer.
#[derive(Debug)]
pub(super) struct TimerUndo {
    flushed: Totals,
    flushed_seq: u64,
    flushed_histogram: FlushedHistogram,
    min_max_ns: Option<(u64, u64)>,
    /// Records flushed without buckets that no later flush will bring.
    pub(super) buckets_unknown: u64,
}

impl Timer {
    /// Takes in a newer state.
    pub(super) fn apply(&mut self, state: &State<'_>, arrival: Arrival, change: &mut Change) {
        let State::Timer { count, sum_ns, sum_squares_ns2, window_ns, histogram } = *state else { return };
        let records = count.wrapping_sub(self.totals.count);
        self.totals = Totals { count, sum_ns, sum_squares_ns2 };
        change.amounts.timers = records.into();
        if records > 0 {
            match window_ns.filter(|_| arrival.follows && !self.bounds_due) {
                Some((min, max)) => self.note_min_max(min, max),
                None => self.bounds_due = true,
            }
        }
        let own = read(&histogram);
        if histogram.base == 0 {
            self.set_histogram(Arc::new(own), change);
            if let Some(key) = arrival.key {
                (self.base, self.base_histogram) = (key, Arc::clone(&self.histogram));
            }
        } else if histogram.base == self.base {
            self.set_histogram(sum(&self.base_histogram, &own), change);
        } else {
            // The first state that waits keeps its time, so that a flush does not wait for ever.
            let since_ms = self.waiting.as_ref().map_or(arrival.awake_ms, |waiting| waiting.since_ms);
            self.waiting = Some(Box::new(Waiting { base: histogram.base, difference: own, since_ms }));
            change.waits = true;
        }
    }

    /// Takes the buckets of a key frame that is older than the state known.
    pub(super) fn offer_key(&mut self, histogram: &HistogramState<'_>, key: u64, change: &mut Change) {
        if key <= self.base || histogram.base != 0 {
            return;
        }
        (self.base, self.base_histogram) = (key, Arc::new(read(histogram)));
        if let Some(waiting) = self.waiting.take_if(|waiting| waiting.base == key) {
            self.set_histogram(sum(&self.base_histogram, &waiting.difference), change);
        }
    }

    fn set_histogram(&mut self, histogram: Arc<Histogram>, change: &mut Change) {
        if self.bounds_due {
            let grown = difference(&histogram, &self.histogram);
            if let Some((min, max)) = grown.as_ref().and_then(bounds_ns) {
                self.note_min_max(min, max);
            }
            self.bounds_due = false;
        }
        if self.flushed_histogram.0.is_none() {
            change.buckets_unknown = self.totals.count.wrapping_sub(self.flushed.count);
            self.flushed_histogram.0 = Some(Arc::clone(&histogram));
        }
        self.histogram = histogram;
        self.waiting = None;
    }

    fn note_min_max(&mut self, min: u64, max: u64) {
        let (old_min, old_max) = self.min_max_ns.unwrap_or((u64::MAX, 0));
        self.min_max_ns = Some((old_min.min(min), old_max.max(max)));
    }

    /// Makes the present state the baseline.
    pub(super) fn settle(&mut self, seq: u64) {
        (self.flushed, self.flushed_seq) = (self.totals, seq);
        (self.min_max_ns, self.bounds_due) = (None, false);
        self.flushed_histogram.0 = self.waiting.is_none().then(|| Arc::clone(&self.histogram));
    }

    /// Records that are not flushed.
    pub(super) const fn pending(&self) -> u64 {
        self.totals.count.wrapping_sub(self.flushed.count)
    }

    /// Whether buckets of pending records are still to come within `patience_ms`.
    pub(super) fn is_waiting(&self, awake_ms: u64, patience_ms: u64) -> bool {
        let patient = |waiting: &Waiting| awake_ms.saturating_sub(waiting.since_ms) < patience_ms;
        self.pending() > 0 && self.waiting.as_deref().is_some_and(patient)
    }

    /// Takes what is not flushed; `None` if no record is.
    pub(super) fn take(&mut self, seq: u64) -> Option<(TimerDelta, TimerUndo)> {
        let count = self.pending();
        if count == 0 {
            return None;
        }
        let sum_ns = risen(self.totals.sum_ns, self.flushed.sum_ns);
        let mean = sum_ns / count;
        let squares_at_mean = (u128::from(mean) * u128::from(mean)).wrapping_mul(count.into());
        let mut sum_squares_ns2 = self.totals.sum_squares_ns2.wrapping_sub(self.flushed.sum_squares_ns2);
        // Squares fall without a bucket that falls where records moved within one.
        if self.totals.sum_squares_ns2 < self.flushed.sum_squares_ns2 && sum_squares_ns2.cast_signed() < 0 {
            sum_squares_ns2 = squares_at_mean;
        }
        let histogram = match self.flushed_histogram.0.as_deref() {
            Some(flushed) => difference(&self.histogram, flushed).unwrap_or_else(|| {
                sum_squares_ns2 = squares_at_mean;
                let mut at_mean = Histogram::new();
                at_mean.record_ns(mean, count);
                at_mean
            }),
            None => Histogram::new(),
        };
        // Without any bucket to go by, the mean is the one value known to lie between both.
        let (min_ns, max_ns) = self.min_max_ns.unwrap_or((mean, mean));
        let delta = TimerDelta { count, sum_ns: sum_ns.into(), sum_squares_ns2, min_ns, max_ns, histogram };
        let undo = TimerUndo {
            flushed: self.flushed,
            flushed_seq: self.flushed_seq,
            flushed_histogram: self.flushed_histogram.clone(),
            min_max_ns: self.min_max_ns.take(),
            buckets_unknown: if self.flushed_histogram.0.is_none() { count } else { 0 },
        };
        (self.flushed, self.flushed_seq) = (self.totals, seq);
        if let Some(flushed) = &mut self.flushed_histogram.0 {
            *flushed = Arc::clone(&self.histogram);
        }
        Some((delta, undo))
    }

    /// Takes back a flush.
    pub(super) fn undo(&mut self, undo: TimerUndo) {
        (self.flushed, self.flushed_seq) = (undo.flushed, undo.flushed_seq);
        self.flushed_histogram = undo.flushed_histogram;
        if let Some((min, max)) = undo.min_max_ns {
            self.note_min_max(min, max);
        }
    }

    /// Records whose count was flushed without their buckets, which came since.
    pub(super) fn buckets_left(&self) -> u64 {
        match &self.flushed_histogram.0 {
            Some(flushed) if self.pending() == 0 => self.histogram.total().wrapping_sub(flushed.total()),
            _ => 0,
        }
    }

    /// The flushed state. `seq` is the number of the present one.
    pub(super) fn kept(&self, seq: u64) -> KeptTimer {
        let behind = self.pending() > 0;
        KeptTimer {
            seq: if behind { self.flushed_seq } else { seq },
            count: self.flushed.count,
            sum_ns: self.flushed.sum_ns,
            sum_squares_ns2: self.flushed.sum_squares_ns2,
            histogram: self.flushed_histogram.0.clone(),
            behind,
        }
    }

    /// Rebuilds a timer. Its base is not kept: the replay at the start or the next key frame brings one.
    pub(super) fn restored(kept: KeptTimer) -> Self {
        let totals = Totals { count: kept.count, sum_ns: kept.sum_ns, sum_squares_ns2: kept.sum_squares_ns2 };
        Self {
            totals,
            flushed: totals,
            flushed_seq: kept.seq,
            bounds_due: kept.behind,
            histogram: kept.histogram.clone().unwrap_or_default(),
            flushed_histogram: FlushedHistogram(kept.histogram),
            ..Self::default()
        }
    }
}

fn read(state: &HistogramState<'_>) -> Histogram {
    Histogram::from_parts(state.scale, state.zero, state.offset, state.buckets())
}

fn sum(base: &Histogram, difference: &Histogram) -> Arc<Histogram> {
    let mut sum = base.clone();
    sum.merge(difference);
    Arc::new(sum)
}

/// What `newer` has more than `older`, without the empty buckets at its ends; `None` if a bucket fell. That is so
/// when a gateway was restarted that publishes for a device without buckets: where it places records it decides anew
/// (WIRE.md section 5.3).
fn difference(newer: &Histogram, older: &Histogram) -> Option<Histogram> {
    let mut difference = newer.clone();
    difference.subtract(older);
    let mut all = difference.counts().map(|(_, count)| count).chain([difference.zero()]);
    if all.any(|count| count.cast_signed() < 0) {
        return None;
    }
    let counts = difference.cells_from_offset().map(|(_, count)| count);
    Some(Histogram::from_parts(difference.scale(), difference.zero(), difference.offset(), counts))
}

/// By how much a number that wraps has grown; 0 if it fell instead, by less than half of its range.
const fn risen(newer: u64, older: u64) -> u64 {
    let difference = newer.wrapping_sub(older);
    if newer < older && difference.cast_signed() < 0 { 0 } else { difference }
}

/// Outer bounds of the outermost buckets with a count, in nanoseconds.
fn bounds_ns(grown: &Histogram) -> Option<(u64, u64)> {
    let indices = || grown.counts().map(|(index, _)| index);
    let zero = (grown.zero() > 0).then_some(0);
    // The casts saturate, and cut towards the outside at the lower bound.
    let low = indices().min().map(|index| (lower_bound(index, grown.scale()) * NS_A_SECOND) as u64);
    let high =
        indices().max().map(|index| (lower_bound(index + 1, grown.scale()) * NS_A_SECOND).ceil() as u64);
    Some((zero.or(low)?, high.or(zero)?))
}

#[cfg(test)]
mod tests {
    use zibrato_core::frame::encode_buckets;

    use super::*;

    /// Takes in a key frame's state with `records` at each of these durations, in nanoseconds.
    fn apply(timer: &mut Timer, seq: u64, placed: &[(u64, u64)], sum_ns: u64) {
        let mut histogram: Histogram = Histogram::new();
        placed.iter().for_each(|&(ns, records)| histogram.record_ns(ns, records));
        let mut counts = [0; 6_400];
        let used =
            encode_buckets(histogram.cells_from_offset().map(|(_, count)| count), &mut counts).unwrap();
        let histogram = HistogramState {
            scale: histogram.scale(),
            zero: histogram.zero(),
            base: 0,
            offset: histogram.offset(),
            counts: &counts[..used],
        };
        let squares =
            placed.iter().map(|&(ns, records)| u128::from(ns) * u128::from(ns) * u128::from(records));
        let state = State::Timer {
            count: placed.iter().map(|&(_, records)| records).sum(),
            sum_ns,
            sum_squares_ns2: squares.sum::<u128>(),
            window_ns: None,
            histogram,
        };
        let arrival = Arrival { seq, key: Some(seq), follows: false, awake_ms: 0 };
        timer.apply(&state, arrival, &mut Change::default());
    }

    #[test]
    fn buckets_that_fell_cost_one_difference_its_places_and_nothing_of_count_and_sum() {
        let mut timer = Timer::default();
        apply(&mut timer, 1, &[(1_000, 4), (9_000, 2)], 22_000);
        let (delta, _) = timer.take(1).unwrap();
        assert_eq!((delta.count, delta.histogram.total()), (6, 6));
        // A gateway was restarted and places all records at the mean of all, the four new ones too.
        apply(&mut timer, 2, &[(4_600, 10)], 46_000);
        let (delta, undo) = timer.take(2).unwrap();
        assert_eq!((delta.count, delta.sum_ns, delta.sum_squares_ns2), (4, 24_000, 4 * 6_000 * 6_000));
        assert_eq!((delta.min_ns, delta.max_ns), (6_000, 6_000));
        assert_eq!((delta.histogram.total(), delta.histogram.buckets()), (4, 1));
        timer.undo(undo);
        assert_eq!(timer.take(2).unwrap().0.histogram.total(), 4);
        // From there on it is as ever.
        apply(&mut timer, 3, &[(4_600, 10), (100, 1)], 46_100);
        let (delta, _) = timer.take(3).unwrap();
        assert_eq!((delta.count, delta.sum_ns, delta.sum_squares_ns2), (1, 100, 10_000));
        assert_eq!(delta.histogram.total(), 1);
    }

    #[test]
    fn a_sum_that_fell_by_a_little_did_not_grow_by_five_hundred_years() {
        let mut timer = Timer::default();
        apply(&mut timer, 1, &[(1_000, 4)], 4_000);
        timer.take(1).unwrap();
        apply(&mut timer, 2, &[(1_000, 5)], 3_990);
        let (delta, _) = timer.take(2).unwrap();
        assert_eq!((delta.count, delta.sum_ns), (1, 0));
    }

    #[test]
    fn squares_that_fell_are_those_of_the_mean_though_no_bucket_fell() {
        let mut timer = Timer::default();
        // All in one bucket, before and after.
        apply(&mut timer, 1, &[(1_010, 100)], 101_000);
        timer.take(1).unwrap();
        apply(&mut timer, 2, &[(1_000, 101)], 102_000);
        let (delta, _) = timer.take(2).unwrap();
        assert_eq!((delta.histogram.total(), delta.histogram.buckets()), (1, 1), "no bucket fell");
        assert_eq!((delta.count, delta.sum_ns, delta.sum_squares_ns2), (1, 1_000, 1_000_000));
    }
}
