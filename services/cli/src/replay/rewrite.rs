//! What is changed in a frame when it is played again.
//!
//! A worker counts a series from zero if its publisher started after the worker began to listen (or is
//! younger than a minute), and it computes that start from the frame's arrival and age. Played at its own
//! pace a recording needs no change: every start lies as far behind the beginning as it did. Played
//! faster, arrivals move together while ages do not, and a publisher that started during the recording
//! would look as if it had been there before. Its ages are divided by the speed as well; those of
//! publishers that were there before stay, and what they had counted before stays out.

use std::collections::{HashMap, HashSet};

use zibrato_core::frame::{Header, PublisherId, set_age_ms, set_publisher};

use super::Speed;

/// Changes frames on their way.
#[derive(Debug)]
pub(super) struct Rewrite {
    speed: Speed,
    /// New ids by old ones; `None` leaves them as they are.
    fresh: Option<HashMap<PublisherId, PublisherId>>,
    /// Publishers that started during the recording, and those that did not.
    born: HashSet<PublisherId>,
    old: HashSet<PublisherId>,
}

impl Rewrite {
    pub(super) fn new(speed: Speed, fresh_ids: bool) -> Self {
        let fresh = fresh_ids.then(HashMap::new);
        Self { speed, fresh, born: HashSet::new(), old: HashSet::new() }
    }

    /// Changes a frame that came `offset_us` behind the start; `untopiced` is what stands behind its topic.
    ///
    /// # Errors
    /// The system's, if it has no random numbers for a new id.
    pub(super) fn frame(
        &mut self,
        header: &Header,
        offset_us: u64,
        untopiced: &mut [u8],
    ) -> Result<(), getrandom::Error> {
        let Header { publisher, age_ms, .. } = *header;
        if self.is_born(publisher, age_ms, offset_us) {
            set_age_ms(untopiced, self.speed.shorten_ms(age_ms));
        }
        if let Some(fresh) = &mut self.fresh {
            let new = match fresh.get(&publisher) {
                Some(new) => *new,
                None => {
                    let mut id = [0; 16];
                    getrandom::fill(&mut id)?;
                    *fresh.entry(publisher).or_insert(PublisherId(id))
                }
            };
            set_publisher(untopiced, new);
        }
        Ok(())
    }

    /// Whether a publisher started during the recording; its first frame says so.
    fn is_born(&mut self, publisher: PublisherId, age_ms: u64, offset_us: u64) -> bool {
        if self.born.contains(&publisher) {
            return true;
        }
        if self.old.contains(&publisher) {
            return false;
        }
        let is_born = age_ms <= offset_us / 1_000;
        let group = if is_born { &mut self.born } else { &mut self.old };
        group.insert(publisher);
        is_born
    }
}

#[cfg(test)]
mod tests {
    use zibrato_core::frame::{Encoder, Frame, Prelude, split_topic};

    use super::*;

    /// A frame of an age, as it is after its rewrite.
    fn rewritten(rewrite: &mut Rewrite, publisher: u8, age_ms: u64, offset_ms: u64) -> Header {
        let mut buffer = [0; 256];
        let mut header = Header::new(PublisherId([publisher; 16]), 5);
        header.age_ms = age_ms;
        let message = Encoder::new(&mut buffer, "info", &header, &Prelude::default()).unwrap().finish();
        let mut message = message.to_vec();
        let topic = message.len() - split_topic(&message).unwrap().1.len();
        rewrite.frame(&header, offset_ms * 1_000, &mut message[topic..]).unwrap();
        Frame::parse(&message).unwrap().header
    }

    #[test]
    fn at_its_own_pace_a_frame_stays_as_it_is() {
        let mut rewrite = Rewrite::new(Speed::Times(1.0), false);
        for (age_ms, offset_ms) in [(10, 5), (10, 50_000), (9_000_000, 50_000)] {
            let header = rewritten(&mut rewrite, 1, age_ms, offset_ms);
            assert_eq!((header.publisher, header.age_ms), (PublisherId([1; 16]), age_ms));
        }
    }

    #[test]
    fn faster_a_publisher_keeps_its_side_of_the_beginning() {
        let mut ten = Rewrite::new(Speed::Times(10.0), false);
        // Started at 20 s: its start stays behind the beginning, a tenth as far.
        assert_eq!(rewritten(&mut ten, 1, 100_000, 120_000).age_ms, 10_000);
        assert_eq!(rewritten(&mut ten, 1, 300_000, 310_000).age_ms, 30_000);
        // Was there before: stays there, also in later frames.
        assert_eq!(rewritten(&mut ten, 2, 100_000, 1_000).age_ms, 100_000);
        assert_eq!(rewritten(&mut ten, 2, 200_000, 101_000).age_ms, 200_000);
        let mut max = Rewrite::new(Speed::Max, false);
        assert_eq!(rewritten(&mut max, 1, 100_000, 120_000).age_ms, 0);
    }

    #[test]
    fn a_fresh_id_is_the_same_for_all_frames_of_a_publisher_and_no_other() {
        let mut rewrite = Rewrite::new(Speed::Times(1.0), true);
        let ids = [1, 2, 1].map(|publisher| rewritten(&mut rewrite, publisher, 0, 0).publisher);
        assert_eq!(ids[0], ids[2]);
        assert!(ids[0] != ids[1] && ids[0] != PublisherId([1; 16]));
    }
}
