//! When to flush: at multiples of the interval on the wall clock, whether messages arrive or not.

use std::time::Duration;

/// The instant of the next flush after `now_ms`, both in Unix milliseconds: the next multiple of the
/// interval. Workers with the same interval flush together, and points of several days line up.
pub fn next_flush(now_ms: u64, interval: Duration) -> u64 {
    let interval_ms = interval_ms(interval);
    (now_ms / interval_ms).saturating_add(1).saturating_mul(interval_ms)
}

/// Decides when a flush is due and what time it carries, on a clock that may jump.
///
/// A clock that went ahead makes a flush due at once, one for all that was missed. A clock that
/// went back moves the next flush to at most one interval from now, and the flush carries a time
/// that is still later than the one before.
#[derive(Clone, Debug)]
pub struct FlushClock {
    interval: Duration,
    due_ms: u64,
    last_ms: u64,
    backwards: u64,
}

/// Stores keep whole seconds, so two flushes must not carry the same one.
const SECOND_MS: u64 = 1_000;

impl FlushClock {
    /// A clock whose last flush carried `last_ms`, 0 if there was none.
    pub fn new(now_ms: u64, last_ms: u64, interval: Duration) -> Self {
        Self { interval, due_ms: next_flush(now_ms, interval), last_ms, backwards: 0 }
    }

    /// How long to wait for the next flush; zero when it is due.
    pub fn wait(&mut self, now_ms: u64) -> Duration {
        let next_ms = next_flush(now_ms, self.interval);
        // Only a clock that went back can put the flush further away than the next multiple.
        self.due_ms = self.due_ms.min(next_ms);
        Duration::from_millis(self.due_ms.saturating_sub(now_ms))
    }

    /// The time that a flush made now carries: now, or the second after the last flush if that is
    /// later. With an interval below a second several flushes share one, and are a millisecond apart at least.
    /// [`FlushClock::made`] says that it was made.
    pub fn stamp_ms(&self, now_ms: u64) -> u64 {
        let next_second_ms = (self.last_ms / SECOND_MS).saturating_add(1).saturating_mul(SECOND_MS);
        let is_quick = self.interval < Duration::from_millis(SECOND_MS);
        let earliest_ms = if is_quick { self.last_ms.saturating_add(1) } else { next_second_ms };
        now_ms.max(earliest_ms)
    }

    /// Notes that a flush with this time was made or tried, and sets the next one.
    pub fn made(&mut self, now_ms: u64, stamp_ms: u64) {
        // A last flush at a shutdown may be up to a second ahead of the clock by itself.
        if now_ms.saturating_add(SECOND_MS) < self.last_ms {
            self.backwards += 1;
        }
        self.last_ms = stamp_ms;
        self.due_ms = next_flush(now_ms, self.interval);
    }

    /// Flushes whose time was moved because the clock had gone back.
    pub fn backwards(&self) -> u64 {
        self.backwards
    }
}

fn interval_ms(interval: Duration) -> u64 {
    u64::try_from(interval.as_millis()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const NOON_MS: u64 = 1_700_049_600_000;

    #[test]
    fn flushes_fall_on_multiples_of_the_interval() {
        assert_eq!(next_flush(NOON_MS, MINUTE), NOON_MS + 60_000);
        assert_eq!(next_flush(NOON_MS + 1, MINUTE), NOON_MS + 60_000);
        assert_eq!(next_flush(NOON_MS + 59_999, MINUTE), NOON_MS + 60_000);
        assert_eq!(next_flush(0, MINUTE), 60_000);
        assert_eq!(next_flush(5, Duration::ZERO), 6);
        assert_eq!(next_flush(u64::MAX, MINUTE), u64::MAX);
    }

    #[test]
    fn a_flush_is_due_once_an_interval() {
        let mut clock = FlushClock::new(NOON_MS + 1_000, 0, MINUTE);
        assert_eq!(clock.wait(NOON_MS + 1_000), Duration::from_secs(59));
        assert_eq!(clock.wait(NOON_MS + 60_003), Duration::ZERO);
        assert_eq!(clock.stamp_ms(NOON_MS + 60_003), NOON_MS + 60_003);
        clock.made(NOON_MS + 60_003, NOON_MS + 60_003);
        assert_eq!(clock.wait(NOON_MS + 60_003), Duration::from_millis(59_997));
        assert_eq!(clock.backwards(), 0);
    }

    #[test]
    fn a_clock_that_went_back_delays_by_one_interval_at_most_and_times_never_go_back() {
        let mut clock = FlushClock::new(NOON_MS, NOON_MS, MINUTE);
        let hour_back = NOON_MS - 3_600_000;
        assert_eq!(clock.wait(hour_back), MINUTE);
        let now = hour_back + 60_000;
        let stamp = clock.stamp_ms(now);
        assert_eq!(stamp, NOON_MS + 1_000);
        clock.made(now, stamp);
        assert_eq!(clock.stamp_ms(now + 60_000), NOON_MS + 2_000);
        assert_eq!(clock.backwards(), 1);
    }

    #[test]
    fn two_flushes_never_carry_the_same_second() {
        let mut clock = FlushClock::new(NOON_MS, NOON_MS + 200, MINUTE);
        assert_eq!(clock.stamp_ms(NOON_MS + 700), NOON_MS + 1_000);
        clock.made(NOON_MS + 700, NOON_MS + 1_000);
        assert_eq!(clock.stamp_ms(NOON_MS + 60_000), NOON_MS + 60_000);
        assert_eq!(clock.backwards(), 0);
        let quick = FlushClock::new(NOON_MS, NOON_MS + 200, Duration::from_millis(50));
        assert_eq!(quick.stamp_ms(NOON_MS + 700), NOON_MS + 700);
        assert_eq!(quick.stamp_ms(NOON_MS + 100), NOON_MS + 201);
    }

    #[test]
    fn a_clock_that_went_ahead_makes_one_flush_due() {
        let mut clock = FlushClock::new(NOON_MS, 0, MINUTE);
        let day_ahead = NOON_MS + 86_400_000;
        assert_eq!(clock.wait(day_ahead), Duration::ZERO);
        clock.made(day_ahead, clock.stamp_ms(day_ahead));
        assert_eq!(clock.wait(day_ahead), MINUTE);
    }
}
