//! A device's clock: ticks into nanoseconds, and uptimes into ages and wall time.
//!
//! A duration is `(ticks - overhead) * 1e9 / hz`. What is cumulative is computed from the cumulative ticks each
//! time, so that no rounding adds up and a gateway that was restarted comes to the same number.
//!
//! When something happened is known by the uptime that the device says and by when that came. A frame may be
//! late, in a queue or behind others, and is never early: the smallest difference of both clocks over the last
//! one to two minutes is the best, and the drift of a crystal in that time (100 ppm: 12 ms) is small.

use crate::moment::Moment;

const NS_A_SECOND: u128 = 1_000_000_000;
/// How long a smallest difference counts, half of it at least, in microseconds.
const FILTER_US: u64 = 60_000_000;

/// How far from what is expected an uptime may be, in microseconds: a frame may have been late, the first one too.
const TOLERANCE_US: u64 = 2_000_000;
/// And one in so many of the time since, by which the clocks of cheap devices may be off.
const TOLERANCE_ONE_IN: u64 = 50;

/// An uptime that is not believed before another one confirms it: one damaged frame in 65 536 has the right checksum, and
/// it is not followed by one that fits it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Doubt {
    pub(crate) uptime: u64,
    pub(crate) at: Moment,
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct DeviceClock {
    hz: u32,
    overhead: u32,
    /// The highest uptime said, in ticks.
    uptime: u64,
    /// When an uptime came last.
    noted: Moment,
    /// The uptime at the first contact, in microseconds, and when that was.
    first: (u64, Moment),
    /// Smallest arrival less uptime, in microseconds, of this period and of the one before.
    offsets: [Option<i128>; 2],
    period_began_us: u64,
    /// The difference at the last arrival is taken, as for a recording that is not played at its own pace.
    is_unfiltered: bool,
}

impl DeviceClock {
    /// Of a device that said `uptime` ticks now, for the first time.
    pub(crate) fn new(hz: u32, overhead: u32, uptime: u64, now: Moment, is_unfiltered: bool) -> Self {
        let hz = hz.max(1);
        let first = (us(uptime, hz), now);
        let mut clock = Self {
            hz,
            overhead,
            uptime,
            noted: now,
            first,
            offsets: [None; 2],
            period_began_us: now.mono_us,
            is_unfiltered,
        };
        clock.note(uptime, now);
        clock
    }

    /// Notes that a frame with this uptime came.
    pub(crate) fn note(&mut self, uptime: u64, now: Moment) {
        (self.uptime, self.noted) = (self.uptime.max(uptime), now);
        let offset = i128::from(now.mono_us) - i128::from(us(uptime, self.hz));
        if self.is_unfiltered {
            self.offsets = [Some(offset); 2];
            return;
        }
        if now.mono_us.saturating_sub(self.period_began_us) >= FILTER_US {
            self.offsets = [self.offsets[1], None];
            self.period_began_us = now.mono_us;
        }
        let smallest = &mut self.offsets[1];
        *smallest = Some(smallest.map_or(offset, |known| known.min(offset)));
    }

    /// The highest uptime said, in ticks.
    pub(crate) const fn uptime(&self) -> u64 {
        self.uptime
    }

    /// The highest uptime said, in milliseconds.
    pub(crate) fn uptime_ms(&self) -> u64 {
        us(self.uptime, self.hz) / 1_000
    }

    /// The uptime at the first contact, in milliseconds.
    pub(crate) const fn first_uptime_ms(&self) -> u64 {
        self.first.0 / 1_000
    }

    /// How old the boot is now, in milliseconds. By our clock from the first contact on: a start that
    /// moves with the device's drift would be no start.
    pub(crate) const fn age_ms(&self, now: Moment) -> u64 {
        self.first_uptime_ms().saturating_add(now.ms_since(self.first.1))
    }

    /// The wall time of an uptime, in unix milliseconds; never later than now.
    pub(crate) fn unix_ms(&self, uptime: u64, now: Moment) -> u64 {
        self.unix_ns(uptime, now) / 1_000_000
    }

    /// The same in unix nanoseconds, as fine as the device's clock.
    pub(crate) fn unix_ns(&self, uptime: u64, now: Moment) -> u64 {
        let began_us = i128::from(now.unix_us) - i128::from(now.mono_us) + self.offset_us();
        let since_ns = u128::from(uptime) * NS_A_SECOND / u128::from(self.hz);
        let ns = began_us * 1_000 + i128::try_from(since_ns).unwrap_or(i128::MAX / 2);
        u64::try_from(ns.clamp(0, i128::from(now.unix_us) * 1_000)).unwrap_or(u64::MAX)
    }

    /// What the device's uptime is now, in ticks.
    pub(crate) fn uptime_at(&self, now: Moment) -> u64 {
        let us = u128::try_from(i128::from(now.mono_us) - self.offset_us()).unwrap_or(0);
        u64::try_from(us * u128::from(self.hz) / 1_000_000).unwrap_or(u64::MAX)
    }

    /// Whether an uptime is not further ahead than the time since the last one and `slack_us` explain.
    pub(crate) fn is_credible(&self, uptime: u64, slack_us: u64, now: Moment) -> bool {
        let passed_us = now.mono_us.saturating_sub(self.noted.mono_us);
        let expected_us = i128::from(now.mono_us) - self.offset_us();
        let most_us = expected_us + i128::from(tolerance_us(passed_us, slack_us));
        self.is_unfiltered || i128::from(us(uptime, self.hz)) <= most_us
    }

    /// Whether an uptime that is below the highest one is so by more than a damaged frame, which is credible, could have
    /// put that ahead; or is that of a device which has only just started.
    pub(crate) fn is_far_behind(&self, uptime: u64, slack_us: u64) -> bool {
        let tolerance_us = tolerance_us(0, slack_us);
        let behind_us = us(self.uptime, self.hz).saturating_sub(us(uptime, self.hz));
        behind_us > tolerance_us || us(uptime, self.hz) <= tolerance_us
    }

    /// Whether an uptime fits one that was not believed and the time since.
    pub(crate) fn confirms(&self, doubt: Doubt, uptime: u64, slack_us: u64, now: Moment) -> bool {
        let Some(later) = uptime.checked_sub(doubt.uptime) else { return false };
        let passed_us = now.mono_us.saturating_sub(doubt.at.mono_us);
        self.is_unfiltered || us(later, self.hz).abs_diff(passed_us) <= tolerance_us(passed_us, slack_us)
    }

    fn offset_us(&self) -> i128 {
        self.offsets.iter().flatten().min().copied().unwrap_or_default()
    }

    /// One duration, in nanoseconds.
    pub(crate) fn duration_ns(&self, ticks: u64) -> u64 {
        to_ns(ticks.saturating_sub(self.overhead.into()).into(), self.hz)
    }

    /// The sum of `count` durations, in nanoseconds, wrapping.
    pub(crate) fn sum_ns(&self, ticks: u64, count: u64) -> u64 {
        let overhead = u128::from(count) * u128::from(self.overhead);
        to_ns(u128::from(ticks).saturating_sub(overhead), self.hz)
    }
}

const fn tolerance_us(passed_us: u64, slack_us: u64) -> u64 {
    (TOLERANCE_US + passed_us / TOLERANCE_ONE_IN).saturating_add(slack_us)
}

fn to_ns(ticks: u128, hz: u32) -> u64 {
    // Less than 2^64 * 2^30, so nothing overflows; the cast wraps as sums on the wire do.
    (ticks * NS_A_SECOND / u128::from(hz)) as u64
}

fn us(ticks: u64, hz: u32) -> u64 {
    u64::try_from(u128::from(ticks) * 1_000_000 / u128::from(hz)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: u64) -> Moment {
        Moment { mono_us: ms * 1_000, unix_us: 1_700_000_000_000_000 + ms * 1_000 }
    }

    #[test]
    fn ticks_become_nanoseconds_without_the_overhead() {
        let clock = DeviceClock::new(168_000_000, 4, 0, at(0), false);
        assert_eq!(clock.duration_ns(172), 1_000);
        assert_eq!((clock.duration_ns(4), clock.duration_ns(3)), (0, 0));
        assert_eq!(clock.sum_ns(3 * 172, 3), 3_000);
        assert_eq!(clock.sum_ns(5, 3), 0);
        let slow = DeviceClock::new(3, 0, 0, at(0), false);
        assert_eq!(slow.sum_ns(1, 1) + slow.sum_ns(1, 1) + slow.sum_ns(1, 1), 999_999_999);
        assert_eq!(slow.sum_ns(3, 3), 1_000_000_000, "cumulative sums do not collect the roundings");
        assert_eq!(slow.sum_ns(u64::MAX, 0), (u128::from(u64::MAX) * NS_A_SECOND / 3) as u64);
    }

    #[test]
    fn what_comes_late_in_a_burst_keeps_the_time_at_which_it_happened() {
        let mut clock = DeviceClock::new(1_000, 0, 0, at(5), false);
        for ms in 1..=50 {
            clock.note(ms * 1_000, at(ms * 1_000 + 5));
        }
        // Ten seconds of frames come at once.
        for ms in 51..=60 {
            clock.note(ms * 1_000, at(60_500));
            assert_eq!(clock.unix_ms(ms * 1_000, at(60_500)), 1_700_000_000_000 + ms * 1_000 + 5);
        }
        assert_eq!(clock.unix_ms(70_000, at(60_500)), 1_700_000_060_500, "never in the future");
    }

    #[test]
    fn a_clock_that_drifts_is_followed_and_an_age_is_by_our_own() {
        // 1 % slow, for ten minutes.
        let mut clock = DeviceClock::new(1_000, 0, 7_000, at(0), false);
        for second in 1..=600u64 {
            clock.note(7_000 + second * 990, at(second * 1_000));
        }
        let now = at(600_000);
        let late_ms = now.unix_ms() - clock.unix_ms(7_000 + 600 * 990, now);
        assert!(late_ms <= 1_200, "{late_ms} ms");
        assert_eq!((clock.age_ms(now), clock.first_uptime_ms()), (607_000, 7_000));
        assert_eq!(clock.uptime_ms(), 601_000);
    }

    proptest! {
        #[test]
        fn sums_do_not_fall_as_ticks_grow_by_more_than_the_overhead(
            hz in 1u32.., overhead in 0u32..1_000,
            steps in proptest::collection::vec((0u64..100, 0u64..1 << 40), 1..50),
        ) {
            let clock = DeviceClock::new(hz, overhead, 0, Moment::default(), false);
            let (mut ticks, mut count, mut last) = (0u64, 0u64, 0u64);
            for (n, more) in steps {
                count += n;
                ticks += n * u64::from(overhead) + more;
                let sum = clock.sum_ns(ticks, count);
                // Below 2^64 ns, that is, not wrapped.
                if u128::from(ticks) * NS_A_SECOND / u128::from(hz) < 1 << 64 {
                    prop_assert!(sum >= last);
                }
                last = sum;
            }
        }
    }
}
