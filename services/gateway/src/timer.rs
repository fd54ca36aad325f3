//! A device's timer as a native series: ticks become nanoseconds, a device's buckets ours.
//!
//! What a restarted gateway comes to has to be what the one before came to, for it goes on as the same publisher.
//! So a state is computed from the device's cumulative state and not from what was seen of it, where
//! that is possible: count and sum, and with buckets everything. A timer without buckets has the records of a
//! window at their mean; after a restart it has all of them at the mean of all. Workers notice that
//! buckets fell and place the records of that one difference at its mean.
//!
//! The count of a timer with buckets is what its buckets add up to. The device sends count and
//! buckets in different frames while it goes on recording, so they differ by what came in between,
//! and by what the line lost; later frames bring both up, and the end places what is left at the mean.

use zibrato_core::histogram::{Histogram, HostCells};
use zibrato_core::link::{BUCKETS_MAX, bucket_bounds};

use crate::device_clock::DeviceClock;

/// A bucket of a device wraps at this.
const WRAP: u64 = 1 << u32::BITS;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Timer {
    said: Totals,
    /// What of that was before our zero.
    base: Totals,
    buckets: Option<Box<Buckets>>,
    /// Records in the histogram.
    count: u64,
    sum_ns: u64,
    sum_squares_ns2: u128,
    window_ns: Option<(u64, u64)>,
    histogram: Histogram<HostCells>,
    /// Frames were lost, and with them perhaps the range of a window.
    is_range_broken: bool,
}

/// What the device says beside buckets.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Totals {
    pub(crate) count: u64,
    pub(crate) ticks: u64,
}

#[derive(Clone, Debug)]
struct Buckets {
    /// What the device said last.
    said: [u32; BUCKETS_MAX],
    /// Records that no bucket tells of, because buckets wrapped before we came or did not come before
    /// the end; at their mean.
    beside: u64,
    /// All of one state came, so that only what was recorded since may be missing.
    are_whole: bool,
}

/// What a frame carries of a timer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown<'a> {
    pub(crate) count: u64,
    pub(crate) sum_ns: u64,
    pub(crate) sum_squares_ns2: u128,
    pub(crate) window_ns: Option<(u64, u64)>,
    pub(crate) histogram: &'a Histogram<HostCells>,
}

impl Timer {
    pub(crate) fn new(has_buckets: bool) -> Self {
        Self {
            said: Totals::default(),
            base: Totals::default(),
            buckets: has_buckets
                .then(|| Box::new(Buckets { said: [0; BUCKETS_MAX], beside: 0, are_whole: false })),
            count: 0,
            sum_ns: 0,
            sum_squares_ns2: 0,
            window_ns: None,
            histogram: Histogram::new(),
            is_range_broken: false,
        }
    }

    pub(crate) const fn has_buckets(&self) -> bool {
        self.buckets.is_some()
    }

    /// Takes in totals and the range of the window, in ticks. `None`, and nothing changes, if the totals fell;
    /// else whether they grew.
    pub(crate) fn apply(
        &mut self,
        totals: Totals,
        range: Option<(u32, u32)>,
        clock: &DeviceClock,
    ) -> Option<bool> {
        let more = totals.since(self.said);
        if (more.count as i64) < 0 || (more.ticks as i64) < 0 {
            return None;
        }
        self.said = totals;
        if let Some((min, max)) = range {
            self.widen(clock.duration_ns(min.into()), clock.duration_ns(max.into()));
        }
        if self.buckets.is_none() && more.count > 0 {
            self.place(mean_ns(more, clock), more.count);
        }
        let since_base = totals.since(self.base);
        let sum_ns = clock.sum_ns(since_base.ticks, since_base.count);
        // It falls by some ticks where durations are below the overhead, and a sum must not.
        if (sum_ns.wrapping_sub(self.sum_ns) as i64) > 0 {
            self.sum_ns = sum_ns;
        }
        Some(more != Totals::default())
    }

    /// Takes in one bucket's count; whether it grew.
    pub(crate) fn apply_bucket(&mut self, bucket: usize, count: u32, clock: &DeviceClock) -> bool {
        let Some(said) = self.buckets.as_mut().and_then(|buckets| buckets.said.get_mut(bucket)) else {
            return false;
        };
        let more = count.wrapping_sub(std::mem::replace(said, count));
        if more > 0
            && let Some((low, high)) = bucket_bounds(bucket)
        {
            let middle = (u64::from(low) + u64::from(high)).div_ceil(2);
            self.place(clock.duration_ns(middle), more.into());
        }
        more > 0
    }

    /// All buckets of one state have come. Those that wrapped before we came are made up for, which only now can be
    /// told from those that were late.
    pub(crate) fn complete(&mut self, clock: &DeviceClock) {
        let missing = self.missing();
        let Some(buckets) = &mut self.buckets else { return };
        buckets.are_whole = true;
        self.place_beside(missing.saturating_add(WRAP / 2) / WRAP * WRAP, clock);
    }

    /// Whether it may be shown: the gateway before us has shown all buckets, and a count must not fall.
    pub(crate) fn is_whole(&self) -> bool {
        self.buckets.as_ref().is_none_or(|buckets| buckets.are_whole)
    }

    /// Makes everything so far the zero, for a device whose earlier records may have been counted already.
    pub(crate) fn rebase(&mut self) {
        let buckets = self.buckets.take().map(|buckets| Box::new(Buckets { beside: 0, ..*buckets }));
        *self = Self { said: self.said, base: self.said, buckets, ..Self::new(false) };
    }

    /// Link frames were lost: the range of what was in them is not known.
    pub(crate) fn break_range(&mut self) {
        self.is_range_broken = true;
    }

    /// The state for a frame.
    pub(crate) fn show(&self) -> Shown<'_> {
        // Without the range of all that was recorded a reader goes by the buckets, if these tell anything.
        let is_known = !(self.is_range_broken && self.buckets.is_some());
        Shown {
            count: self.count,
            sum_ns: self.sum_ns,
            sum_squares_ns2: self.sum_squares_ns2,
            window_ns: self.window_ns.filter(|_| is_known),
            histogram: &self.histogram,
        }
    }

    /// The device has ended: records whose buckets did not come are placed at the mean.
    pub(crate) fn end(&mut self, clock: &DeviceClock) {
        if self.buckets.is_some() {
            self.place_beside(self.missing(), clock);
        }
        if let Some(buckets) = &mut self.buckets {
            buckets.are_whole = true;
        }
    }

    /// A frame has the state.
    pub(crate) const fn start_window(&mut self) {
        (self.window_ns, self.is_range_broken) = (None, false);
    }

    /// Records that the device counted and that are not in a bucket; none if buckets are ahead.
    fn missing(&self) -> u64 {
        self.said.since(self.base).count.saturating_sub(self.count)
    }

    fn place_beside(&mut self, records: u64, clock: &DeviceClock) {
        if records > 0 {
            self.place(mean_ns(self.said.since(self.base), clock), records);
            if let Some(buckets) = &mut self.buckets {
                buckets.beside = buckets.beside.wrapping_add(records);
            }
        }
    }

    fn place(&mut self, ns: u64, records: u64) {
        self.count = self.count.wrapping_add(records);
        let squares = (u128::from(ns) * u128::from(ns)).wrapping_mul(records.into());
        self.sum_squares_ns2 = self.sum_squares_ns2.wrapping_add(squares);
        self.histogram.record_ns(ns, records);
    }

    fn widen(&mut self, min: u64, max: u64) {
        let (low, high) = self.window_ns.unwrap_or((min, max));
        self.window_ns = Some((low.min(min), high.max(max)));
    }
}

impl Totals {
    const fn since(self, before: Self) -> Self {
        Self { count: self.count.wrapping_sub(before.count), ticks: self.ticks.wrapping_sub(before.ticks) }
    }
}

fn mean_ns(totals: Totals, clock: &DeviceClock) -> u64 {
    clock.duration_ns(totals.ticks.checked_div(totals.count).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zibrato_core::link::bucket_of;

    use super::*;
    use crate::moment::Moment;

    /// A tick is a microsecond, and two readings take one.
    fn clock() -> DeviceClock {
        DeviceClock::new(1_000_000, 1, 0, Moment::default(), false)
    }

    fn totals(count: u64, ticks: u64) -> Totals {
        Totals { count, ticks }
    }

    #[test]
    fn without_buckets_each_window_is_at_its_mean() {
        let clock = clock();
        let mut timer = Timer::new(false);
        assert_eq!(timer.apply(totals(2, 22), Some((6, 16)), &clock), Some(true));
        let shown = timer.show();
        assert_eq!((shown.count, shown.sum_ns, shown.window_ns), (2, 20_000, Some((5_000, 15_000))));
        assert_eq!((shown.histogram.total(), shown.sum_squares_ns2), (2, 2 * 10_000 * 10_000));
        timer.start_window();
        assert_eq!(timer.apply(totals(2, 22), None, &clock), Some(false));
        assert_eq!(timer.apply(totals(3, 1_023), Some((1_001, 1_001)), &clock), Some(true));
        let shown = timer.show();
        assert_eq!((shown.count, shown.sum_ns, shown.histogram.total()), (3, 1_020_000, 3));
        assert_eq!(shown.histogram.counts().count(), 2);
        assert_eq!(timer.apply(totals(2, 2_000), None, &clock), None, "a count never falls");
        assert_eq!(timer.show().count, 3);
    }

    #[test]
    fn with_buckets_a_restarted_gateway_comes_to_the_very_same_state() {
        let clock = clock();
        let (mut always, mut restarted) = (Timer::new(true), Timer::new(true));
        let mut said = [0u32; BUCKETS_MAX];
        let mut sum = 0;
        for n in 1..=1_000u64 {
            let ticks = n * n % 40_000;
            said[bucket_of(ticks as u32)] += 1;
            sum += ticks;
            if n % 100 == 0 {
                always.apply(totals(n, sum), None, &clock).unwrap();
                for (bucket, &count) in said.iter().enumerate() {
                    always.apply_bucket(bucket, count, &clock);
                }
                assert_eq!(always.show().histogram.total(), n);
            }
        }
        restarted.apply(totals(1_000, sum), None, &clock).unwrap();
        for (bucket, &count) in said.iter().enumerate() {
            restarted.apply_bucket(bucket, count, &clock);
        }
        let (one, other) = (always.show(), restarted.show());
        assert_eq!(
            (one.count, one.sum_ns, one.sum_squares_ns2),
            (other.count, other.sum_ns, other.sum_squares_ns2)
        );
        assert_eq!(one.histogram, other.histogram);
    }

    #[test]
    fn what_buckets_do_not_tell_waits_for_them_and_is_at_the_mean_at_the_end() {
        let clock = clock();
        let mut timer = Timer::new(true);
        timer.apply(totals(10, 1_010), Some((3, 700)), &clock).unwrap();
        assert_eq!(timer.show().count, 0, "no bucket came yet");
        timer.apply_bucket(bucket_of(101), 7, &clock);
        timer.break_range();
        let shown = timer.show();
        assert_eq!((shown.count, shown.histogram.total(), shown.window_ns), (7, 7, None));
        timer.end(&clock);
        let shown = timer.show();
        assert_eq!((shown.count, shown.histogram.total(), shown.sum_ns), (10, 10, 1_000_000));
    }

    #[test]
    fn buckets_widen_and_those_that_wrapped_before_we_came_are_made_up_for() {
        let clock = clock();
        let mut timer = Timer::new(true);
        timer.apply(totals(u64::from(u32::MAX), 100 * u64::from(u32::MAX)), None, &clock).unwrap();
        timer.apply_bucket(bucket_of(100), u32::MAX, &clock);
        timer.apply(totals(WRAP + 4, 100 * (WRAP + 4)), None, &clock).unwrap();
        timer.apply_bucket(bucket_of(100), 4, &clock);
        assert_eq!(timer.show().count, WRAP + 4);
        let mut late = Timer::new(true);
        late.apply(totals(3 * WRAP + 4, 100 * (3 * WRAP + 4)), None, &clock).unwrap();
        late.apply_bucket(bucket_of(100), 4, &clock);
        assert_eq!((late.show().count, late.is_whole()), (4, false), "they may be late");
        late.complete(&clock);
        assert!(late.is_whole());
        assert_eq!(late.show().count, 3 * WRAP + 4);
        late.apply(totals(3 * WRAP + 6, 100 * (3 * WRAP + 6)), None, &clock).unwrap();
        late.apply_bucket(bucket_of(100), 6, &clock);
        let shown = late.show();
        assert_eq!((shown.count, shown.histogram.total()), (3 * WRAP + 6, 3 * WRAP + 6));
    }

    #[test]
    fn a_zero_that_is_set_takes_away_what_was_before() {
        let clock = clock();
        for has_buckets in [false, true] {
            let mut timer = Timer::new(has_buckets);
            timer.apply(totals(5, 50), Some((1, 40)), &clock).unwrap();
            timer.apply_bucket(bucket_of(10), 5, &clock);
            timer.rebase();
            let shown = timer.show();
            assert_eq!(
                (shown.count, shown.sum_ns, shown.window_ns, shown.histogram.total()),
                (0, 0, None, 0)
            );
            assert_eq!(timer.has_buckets(), has_buckets);
            timer.apply(totals(7, 72), None, &clock).unwrap();
            timer.apply_bucket(bucket_of(10), 7, &clock);
            let shown = timer.show();
            assert_eq!((shown.count, shown.sum_ns, shown.histogram.total()), (2, 20_000, 2));
        }
    }

    #[test]
    fn a_duration_is_off_by_an_eighth_at_most() {
        let clock = DeviceClock::new(1_000_000_000, 0, 0, Moment::default(), false);
        for ticks in (0..4_096).chain((0..20).map(|shift| (1 << 12) + (7 << shift))) {
            let mut timer = Timer::new(true);
            timer.apply_bucket(bucket_of(ticks), 1, &clock);
            let (ns, ticks) = ((timer.sum_squares_ns2 as f64).sqrt(), f64::from(ticks));
            assert!((ns - ticks).abs() <= ticks * 0.125 + 1e-6, "{ticks}: {ns}");
        }
    }

    proptest! {
        #[test]
        fn counts_sums_and_buckets_never_fall_whatever_is_lost(
            records in proptest::collection::vec((0u32..1_000_000, any::<bool>(), any::<bool>()), 1..200),
            has_buckets: bool,
        ) {
            let clock = clock();
            let mut timer = Timer::new(has_buckets);
            let (mut said, mut device) = ([0u32; BUCKETS_MAX], totals(0, 0));
            let mut before = (0, 0, 0, Histogram::new());
            for (ticks, shows_totals, shows_buckets) in records {
                said[bucket_of(ticks)] += 1;
                device = totals(device.count + 1, device.ticks + u64::from(ticks));
                if shows_totals {
                    timer.apply(device, Some((ticks, ticks)), &clock).unwrap();
                }
                if shows_buckets {
                    for (bucket, &count) in said.iter().enumerate() {
                        timer.apply_bucket(bucket, count, &clock);
                    }
                }
                let shown = timer.show();
                prop_assert_eq!(shown.histogram.total(), shown.count);
                prop_assert!(shown.count >= before.0 && shown.sum_ns >= before.1 && shown.sum_squares_ns2 >= before.2);
                let mut grown = shown.histogram.clone();
                grown.subtract(&before.3);
                prop_assert!(grown.counts().all(|(_, count)| count <= 200));
                before = (shown.count, shown.sum_ns, shown.sum_squares_ns2, shown.histogram.clone());
            }
            timer.apply(device, None, &clock).unwrap();
            timer.end(&clock);
            let shown = timer.show();
            prop_assert_eq!((shown.count, shown.histogram.total()), (device.count, device.count));
        }
    }
}
