//! How long to wait before a port is opened again.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// The pause behind the failure number `failures`, from 1: 0.1 s doubling to 5 s, of which `random` takes up to
/// a half, so that devices behind one hub do not come back in step.
pub(crate) fn delay(failures: u32, random: u32) -> Duration {
    let full = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(LONGEST);
    full - full.mul_f64(f64::from(random) / f64::from(u32::MAX) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_the_longest_and_lose_half_at_most() {
        let full: Vec<u128> = (1..=9).map(|failures| delay(failures, 0).as_millis()).collect();
        assert_eq!(full, [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000, 5_000]);
        assert_eq!(delay(u32::MAX, 0), LONGEST);
        assert_eq!(delay(0, 0), FIRST);
        for failures in 1..=9 {
            assert_eq!(delay(failures, u32::MAX), delay(failures, 0) / 2);
        }
    }
}
