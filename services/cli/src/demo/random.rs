//! Numbers that look like measurements: a generator of 64 bits of state and a lognormal spread.

use std::time::Duration;

/// Sums of this many evenly spread numbers are close to normal; their variance is 1.
const SUMMANDS: u32 = 12;

/// SplitMix64: fast, tiny, and good enough for a show.
#[derive(Clone, Debug)]
pub(crate) struct Random {
    state: u64,
}

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// Evenly spread over 0 to 1, 1 excluded.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// True with this probability.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Evenly spread over 0 to `bound`, `bound` excluded.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.unit() * bound as f64) as usize
    }

    /// Spread like latencies: half are below `median`, the tail is long, nothing is above `max`.
    pub(crate) fn lognormal(&mut self, median: Duration, sigma: f64, max: Duration) -> Duration {
        let sum: f64 = (0..SUMMANDS).map(|_| self.unit()).sum();
        let normal = sum - f64::from(SUMMANDS) / 2.0;
        median.mul_f64((sigma * normal).exp()).min(max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_have_the_median_that_was_asked_for_and_a_long_tail() {
        let mut random = Random::new(1);
        let (median, max) = (Duration::from_millis(4), Duration::from_millis(100));
        let mut drawn: Vec<_> = (0..10_001).map(|_| random.lognormal(median, 0.8, max)).collect();
        drawn.sort_unstable();
        let ms = |at: usize| drawn[at].as_secs_f64() * 1e3;
        assert!((3.7..4.3).contains(&ms(5_000)), "{}", ms(5_000));
        // exp(0.8 * 2.33) is 6.4.
        assert!((21.0..31.0).contains(&ms(9_900)), "{}", ms(9_900));
        assert!(drawn[10_000] <= max && drawn[0] > Duration::ZERO);
    }

    #[test]
    fn chances_and_bounds_are_kept() {
        let mut random = Random::new(2);
        let hits = (0..10_000).filter(|_| random.chance(0.3)).count();
        assert!((2_800..3_200).contains(&hits), "{hits}");
        let mut seen = [false; 5];
        (0..1_000).for_each(|_| seen[random.below(5)] = true);
        assert_eq!(seen, [true; 5]);
        assert!(!random.chance(0.0));
    }
}
