//! Which on-demand levels of a device are on: those that somebody subscribes to, and for the hold after that.

use std::collections::BTreeMap;
use std::time::Duration;

use zibrato_core::link::MASK_EVERY_MS;

use crate::moment::Moment;

/// The mask, and when it was said last.
#[derive(Debug)]
pub(crate) struct Mask {
    hold_ms: u64,
    /// Bits that are on, and since when nobody subscribes; `None` while somebody does.
    on: BTreeMap<u8, Option<Moment>>,
    said: Option<(u32, Moment)>,
}

impl Mask {
    pub(crate) fn new(hold: Duration) -> Self {
        let hold_ms = u64::try_from(hold.as_millis()).unwrap_or(u64::MAX);
        Self { hold_ms, on: BTreeMap::new(), said: None }
    }

    /// Takes in who subscribes now: number of each on-demand level, and whether somebody does.
    pub(crate) fn update(&mut self, levels: impl Iterator<Item = (u8, bool)>, now: Moment) {
        let mut on = BTreeMap::new();
        for (number, is_wanted) in levels {
            let left = match (is_wanted, self.on.get(&number)) {
                (true, _) => None,
                (false, Some(left)) => Some(left.unwrap_or(now)),
                (false, None) => continue,
            };
            if left.is_none_or(|left| now.ms_since(left) < self.hold_ms) {
                on.insert(number, left);
            }
        }
        self.on = on;
    }

    /// The mask, if it is to be said now: it changed, or was not said for a while.
    pub(crate) fn due(&self, now: Moment) -> Option<u32> {
        let mask = self.bits();
        let is_said =
            self.said.is_some_and(|(said, at)| said == mask && now.ms_since(at) < MASK_EVERY_MS.into());
        (!is_said).then_some(mask)
    }

    pub(crate) fn said(&mut self, mask: u32, now: Moment) {
        self.said = Some((mask, now));
    }

    /// The device may not have heard what was said.
    pub(crate) fn repeat(&mut self) {
        self.said = None;
    }

    /// Bit *n* for level number *n*.
    pub(crate) fn bits(&self) -> u32 {
        self.on.keys().fold(0, |mask, number| mask | 1u32.checked_shl((*number).into()).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment { mono_us: ms * 1_000, unix_us: 0 }
    }

    #[test]
    fn a_level_is_on_while_somebody_subscribes_and_for_the_hold_after_that() {
        let mut mask = Mask::new(Duration::from_secs(15));
        let mut bits = |wanted: bool, ms| {
            mask.update([(3, wanted), (31, true)].into_iter(), at(ms));
            mask.bits()
        };
        const TOP: u32 = 1 << 31;
        assert_eq!(bits(false, 0), TOP);
        assert_eq!(bits(true, 1), TOP | 8);
        assert_eq!((bits(false, 2), bits(false, 15_001)), (TOP | 8, TOP | 8));
        assert_eq!(bits(false, 15_002), TOP);
        assert_eq!(
            (bits(true, 15_003), bits(false, 15_004), bits(true, 15_005)),
            (TOP | 8, TOP | 8, TOP | 8)
        );
        assert_eq!(bits(false, 30_000), TOP | 8, "the hold begins when the last one leaves");
        assert_eq!((bits(false, 44_999), bits(false, 45_000)), (TOP | 8, TOP));
    }

    #[test]
    fn a_mask_is_said_at_once_when_it_changes_and_else_every_five_seconds() {
        let mut mask = Mask::new(Duration::ZERO);
        assert_eq!(mask.due(at(0)), Some(0));
        mask.said(0, at(0));
        assert_eq!(mask.due(at(4_999)), None);
        assert_eq!(mask.due(at(5_000)), Some(0));
        mask.update([(1, true)].into_iter(), at(100));
        assert_eq!(mask.due(at(100)), Some(2));
        mask.said(2, at(100));
        assert_eq!(mask.due(at(200)), None);
        mask.update([(1, false)].into_iter(), at(201));
        assert_eq!(mask.due(at(201)), Some(0), "without a hold it ends at once");
        mask.said(0, at(201));
        mask.repeat();
        assert_eq!(mask.due(at(202)), Some(0));
    }
}
