//! Which frame numbers of a publisher were received, in bounded memory.

/// Most separate ranges of received numbers that are remembered. Beyond it the lowest is forgotten,
/// which makes a gap larger than it is until the next complete key frame heals it.
pub(super) const RANGES_MAX: usize = 64;

/// Received frame numbers of one publisher and level; numbers start at 1.
#[derive(Clone, Debug, Default)]
pub(super) struct Sequence {
    /// Each number up to this one was received, or a later complete key frame made it needless.
    base: u64,
    /// Whether numbers between `base` and the first range are missing, or were before our time.
    rooted: bool,
    /// Received ranges above `base + 1`: sorted, disjoint and not touching.
    above: Vec<(u64, u64)>,
    /// The highest number known to exist.
    announced: u64,
}

impl Sequence {
    /// Nothing received; `rooted` says whether numbers from 1 on are expected.
    pub(super) fn new(rooted: bool) -> Self {
        Self { rooted, ..Self::default() }
    }

    /// As after [`Sequence::heal_to`]`(base)`.
    pub(super) fn restored(base: u64, rooted: bool) -> Self {
        Self { base, rooted, announced: base, above: Vec::new() }
    }

    /// The number up to which nothing is missing.
    pub(super) const fn base(&self) -> u64 {
        self.base
    }

    /// Whether numbers from `base` on are expected.
    pub(super) const fn is_rooted(&self) -> bool {
        self.rooted
    }

    /// Notes that `number` was received; false if it was before, or is needless.
    pub(super) fn insert(&mut self, number: u64) -> bool {
        if self.covers(number, number) {
            return false;
        }
        self.announce(number);
        let at = self.above.partition_point(|&(_, last)| last < number);
        let joins_before = at > 0 && self.above[at - 1].1.saturating_add(1) == number;
        let joins_behind = self.above.get(at).is_some_and(|&(first, _)| number.saturating_add(1) == first);
        match (joins_before, joins_behind) {
            (true, true) => {
                self.above[at - 1].1 = self.above[at].1;
                self.above.remove(at);
            }
            (true, false) => self.above[at - 1].1 = number,
            (false, true) => self.above[at].0 = number,
            (false, false) => self.above.insert(at, (number, number)),
        }
        self.absorb();
        if self.above.len() > RANGES_MAX {
            self.above.remove(0);
        }
        true
    }

    /// Notes that `number` exists, received or not.
    pub(super) fn announce(&mut self, number: u64) {
        self.announced = self.announced.max(number);
    }

    /// Whether all numbers from `first` to `last` were received or are needless. An empty range is.
    pub(super) fn covers(&self, first: u64, last: u64) -> bool {
        if first > last || last <= self.base {
            return true;
        }
        let first = first.max(self.base.saturating_add(1));
        self.above.iter().any(|range| range.0 <= first && last <= range.1)
    }

    /// A complete key frame whose last part is `last` arrived: nothing before is needed any more.
    pub(super) fn heal_to(&mut self, last: u64) {
        self.rooted = true;
        self.base = self.base.max(last);
        self.announce(last);
        self.above.retain_mut(|range| {
            range.0 = range.0.max(self.base.saturating_add(1));
            range.0 <= range.1
        });
        self.absorb();
    }

    /// Gives up what is missing; returns how much that was.
    pub(super) fn give_up(&mut self) -> u64 {
        let missing = self.missing();
        self.heal_to(self.announced);
        missing
    }

    /// How many numbers are known to exist, were not received and are not healed.
    pub(super) fn missing(&self) -> u64 {
        let from = match self.above.first() {
            _ if self.rooted => self.base,
            Some(&(first, _)) => first - 1,
            None => return 0,
        };
        let received: u64 = self.above.iter().map(|&(first, last)| last - first + 1).sum();
        (self.announced - from).saturating_sub(received)
    }

    fn absorb(&mut self) {
        while let Some(&(first, last)) = self.above.first() {
            if first > self.base.saturating_add(1) {
                break;
            }
            self.base = self.base.max(last);
            self.above.remove(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_hole_is_missing_until_it_is_filled_or_healed() {
        let mut sequence = Sequence::new(true);
        for number in [1, 2, 5, 6, 9] {
            assert!(sequence.insert(number));
        }
        assert!(!sequence.insert(5));
        assert_eq!((sequence.base(), sequence.missing()), (2, 4));
        assert!(sequence.covers(5, 6) && !sequence.covers(5, 7) && sequence.covers(7, 6));
        assert!(sequence.insert(4) && sequence.insert(3));
        assert_eq!((sequence.base(), sequence.missing()), (6, 2));
        sequence.heal_to(8);
        assert_eq!((sequence.base(), sequence.missing()), (9, 0));
    }

    #[test]
    fn what_was_before_our_time_is_not_missing_and_not_received() {
        let mut sequence = Sequence::new(false);
        assert!(sequence.insert(15));
        assert_eq!(sequence.missing(), 0);
        assert!(!sequence.covers(10, 12));
        assert!(sequence.insert(12));
        assert_eq!(sequence.missing(), 2);
        sequence.heal_to(14);
        assert_eq!((sequence.base(), sequence.missing()), (15, 0));
        assert!(sequence.is_rooted());
    }

    #[test]
    fn a_heartbeat_reveals_a_lost_last_frame() {
        let mut sequence = Sequence::new(true);
        sequence.insert(1);
        sequence.announce(2);
        assert_eq!(sequence.missing(), 1);
        assert_eq!(sequence.give_up(), 1);
        assert_eq!((sequence.missing(), sequence.base()), (0, 2));
    }

    #[test]
    fn numbers_at_the_end_of_their_range_do_not_overflow() {
        let mut sequence = Sequence::new(true);
        assert!(sequence.insert(u64::MAX) && sequence.insert(u64::MAX - 1));
        assert_eq!(sequence.missing(), u64::MAX - 2);
        sequence.heal_to(u64::MAX);
        assert_eq!(sequence.missing(), 0);
        assert!(!sequence.insert(u64::MAX));
    }

    #[test]
    fn many_holes_cost_bounded_memory() {
        let mut sequence = Sequence::new(true);
        for number in 1..1_000 {
            sequence.insert(number * 2);
        }
        assert_eq!(sequence.above.len(), RANGES_MAX);
        assert_eq!(sequence.missing(), 1_998 - RANGES_MAX as u64);
    }

    #[test]
    fn any_order_agrees_with_a_set_of_numbers() {
        let mut state = 1u64;
        for round in 0..200 {
            let mut sequence = Sequence::new(true);
            let mut set = BTreeSet::new();
            for _ in 0..60 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(round);
                let number = 1 + (state >> 33) % 60;
                assert_eq!(sequence.insert(number), set.insert(number));
                let highest = set.last().copied().unwrap();
                assert_eq!(sequence.missing(), highest - set.len() as u64);
                let (first, last) = (1 + (state >> 40) % 60, 1 + (state >> 50) % 60);
                assert_eq!(sequence.covers(first, last), (first..=last).all(|number| set.contains(&number)));
            }
        }
    }
}
