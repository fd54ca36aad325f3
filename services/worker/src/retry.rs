//! How long to wait before the next attempt.

use std::time::Duration;

/// Longest wait that a store can ask for with Retry-After or a rate limit's reset.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);
/// Attempts after which a batch is dropped that something between us and the store refuses.
pub const RETRY_FEW_MAX: u32 = 5;

/// Waits between attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Shortest wait. Default 500 ms.
    pub floor: Duration,
    /// Longest wait without a wish of the store's. Default 60 s.
    pub ceiling: Duration,
    /// Wait after credentials or the address were refused. Default 120 s.
    pub hold: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            floor: Duration::from_millis(500),
            ceiling: Duration::from_secs(60),
            hold: Duration::from_secs(120),
        }
    }
}

impl RetryPolicy {
    /// The wait after `failures` failed attempts in a row (1 after the first), with full jitter:
    /// evenly spread from the floor to a bound that doubles up to the ceiling. `random` is evenly
    /// spread over all values.
    ///
    /// A wish of the store's replaces the bound: at least as long as asked for, at most
    /// [`RETRY_AFTER_MAX`], plus up to one floor so that workers do not come back together.
    pub fn delay(&self, failures: u32, after: Option<Duration>, random: u32) -> Duration {
        let fraction = f64::from(random) / f64::from(u32::MAX);
        if let Some(after) = after {
            return after.clamp(self.floor, RETRY_AFTER_MAX.max(self.floor)) + self.floor.mul_f64(fraction);
        }
        let doubled = self.floor.saturating_mul(1 << failures.min(20));
        let bound = doubled.clamp(self.floor, self.ceiling.max(self.floor));
        self.floor + (bound - self.floor).mul_f64(fraction)
    }

    /// The wait after a refusal that the batch is not to blame for: the hold, up to a quarter longer.
    pub fn hold_delay(&self, random: u32) -> Duration {
        self.hold + self.hold.mul_f64(f64::from(random) / f64::from(u32::MAX) / 4.0)
    }
}

/// Reads a Retry-After header: whole seconds, or an HTTP date. `None` for anything else; a date
/// that has passed is no wait; what is too long is capped by [`RetryPolicy::delay`].
pub fn retry_after(value: &str, now_ms: u64) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a u64 holds is still a number, and a long one.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    let now = std::time::UNIX_EPOCH.checked_add(Duration::from_millis(now_ms))?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        floor: Duration::from_millis(500),
        ceiling: Duration::from_secs(60),
        hold: Duration::from_secs(120),
    };

    #[test]
    fn waits_double_from_the_floor_to_the_ceiling_and_no_further() {
        assert_eq!(RetryPolicy::default(), POLICY);
        let longest: Vec<_> = [1, 2, 3, 6, 7, 8, 20, 21, u32::MAX]
            .map(|failures| POLICY.delay(failures, None, u32::MAX).as_millis())
            .into();
        assert_eq!(longest, [1_000, 2_000, 4_000, 32_000, 60_000, 60_000, 60_000, 60_000, 60_000]);
        for failures in [0, 1, 7, u32::MAX] {
            assert_eq!(POLICY.delay(failures, None, 0), POLICY.floor);
        }
    }

    #[test]
    fn jitter_covers_the_whole_range() {
        let middle = POLICY.delay(7, None, u32::MAX / 2).as_secs_f64();
        assert!((30.0..30.5).contains(&middle), "{middle}");
    }

    #[test]
    fn retry_after_is_honoured_between_the_floor_and_the_cap() {
        let after = |seconds| POLICY.delay(1, Some(Duration::from_secs(seconds)), 0);
        assert_eq!(after(0), POLICY.floor);
        assert_eq!(after(7), Duration::from_secs(7));
        assert_eq!(after(601), RETRY_AFTER_MAX);
        assert_eq!(after(u64::MAX), RETRY_AFTER_MAX);
        let latest = POLICY.delay(1, Some(Duration::from_secs(7)), u32::MAX);
        assert_eq!(latest, Duration::from_millis(7_500));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_garbage_is_ignored() {
        let now_ms = 784_111_770_000;
        let read = |value| retry_after(value, now_ms);
        assert_eq!(read(" 120 "), Some(Duration::from_secs(120)));
        assert_eq!(read("99999999999999999999999"), Some(Duration::from_secs(u64::MAX)));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::from_secs(7)));
        assert_eq!(read("Sun, 06 Nov 1983 08:49:37 GMT"), Some(Duration::ZERO));
        for garbage in ["", "-5", "1.5", "soon", "0x10", "Sun, 99 Nov 1994 08:49:37 GMT"] {
            assert_eq!(read(garbage), None, "{garbage:?}");
        }
    }

    #[test]
    fn a_refusal_of_credentials_waits_long() {
        assert_eq!(POLICY.hold_delay(0), Duration::from_secs(120));
        assert_eq!(POLICY.hold_delay(u32::MAX), Duration::from_secs(150));
    }
}
