//! What is changed in a message when it is played again, so that a fresh worker counts what one counted
//! when it was recorded.
//!
//! *Ages.* A worker counts a series from zero if its publisher started after the worker began to listen (or is
//! younger than a minute), and it computes that start from the frame's arrival and age. Played at its own
//! pace a recording needs no change: every start lies as far behind the beginning as it did. Played
//! faster, arrivals move together while ages do not, and a publisher that started during the recording
//! would look as if it had been there before. Its ages are divided by the speed as well; those of
//! publishers that were there before stay, and what they had counted before stays out.
//!
//! *Ids.* Publishers with new ids count from zero again, so what they had counted before the recording is
//! taken out; see [`Rebase`].
//!
//! *Times.* Points of gauges and legacy text say when they were measured, and worker and backend drop what is too
//! old; see [`Times`].

use std::collections::{HashMap, HashSet};

use zibrato_core::frame::{
    Encoder, Entry, Frame, Header, PublisherId, State, VERSION, set_age_ms, set_publisher,
};
use zibrato_core::limits::FRAME_BYTES_MAX;

use super::rebase::Rebase;
use super::{Speed, Times};
use crate::tally::Sort;

/// Changes messages on their way.
#[derive(Debug)]
pub(super) struct Rewrite {
    speed: Speed,
    /// `None` leaves them as they are.
    times: Option<Times>,
    /// New ids by old ones; `None` leaves them as they are.
    fresh: Option<HashMap<PublisherId, PublisherId>>,
    rebase: Rebase,
    /// Publishers that started during the recording, and those that did not.
    born: HashSet<PublisherId>,
    old: HashSet<PublisherId>,
    buffer: Vec<u8>,
}

impl Rewrite {
    pub(super) fn new(speed: Speed, fresh_ids: bool, times: Option<Times>) -> Self {
        let fresh = fresh_ids.then(HashMap::new);
        let buffer = vec![0; FRAME_BYTES_MAX];
        let rebase = Rebase::default();
        Self { speed, times, fresh, rebase, born: HashSet::new(), old: HashSet::new(), buffer }
    }

    /// Changes a message that came `offset_us` behind the start.
    ///
    /// # Errors
    /// The system's, if it has no random numbers for a new id.
    pub(super) fn message(&mut self, message: &mut Vec<u8>, offset_us: u64) -> Result<(), getrandom::Error> {
        match Sort::of(message) {
            Sort::Frame { level, header } => {
                // The topic is the level between two bytes.
                let header_at = level.len() + 2;
                let is_born = self.frame(&header, offset_us, &mut message[header_at..])?;
                let times = self.times.as_ref();
                let changed = if self.fresh.is_some() && !is_born {
                    self.rebase.frame(message, times, &mut self.buffer)
                } else {
                    times.and_then(|times| move_frame(message, times, &mut self.buffer))
                };
                if let Some(changed) = changed {
                    message.clear();
                    message.extend_from_slice(changed);
                }
            }
            Sort::Legacy => {
                if let Some(moved) = self.times.as_ref().and_then(|times| move_text(message, times)) {
                    *message = moved;
                }
            }
            Sort::Control | Sort::Unreadable => {}
        }
        Ok(())
    }

    /// Changes age and id of a frame; `untopiced` is what stands behind its topic. Whether its publisher started
    /// during the recording.
    fn frame(
        &mut self,
        header: &Header,
        offset_us: u64,
        untopiced: &mut [u8],
    ) -> Result<bool, getrandom::Error> {
        let Header { publisher, age_ms, .. } = *header;
        let is_born = self.is_born(publisher, age_ms, offset_us);
        if is_born {
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
        Ok(is_born)
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

/// The frame with every time moved. `None` for one that holds what is not known here, such as a frame of a
/// later version: it stays as it is.
fn move_frame<'b>(message: &[u8], times: &Times, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
    let mut frame = Frame::parse(message).ok().filter(|frame| frame.header.version == VERSION)?;
    frame.prelude.window_end_ms = times.moved(frame.prelude.window_end_ms);
    let mut encoder = Encoder::new(buffer, frame.level, &frame.header, &frame.prelude).ok()?;
    for entry in frame.entries() {
        let mut entry: Entry<'_> = entry.ok()?;
        if let State::Gauge { last_ms, .. } = &mut entry.state {
            *last_ms = times.moved(*last_ms);
        }
        encoder.push(&entry).ok()?;
    }
    Some(encoder.finish())
}

/// The text with its time moved, and nothing else touched; `None` if it has none.
fn move_text(message: &[u8], times: &Times) -> Option<Vec<u8>> {
    let mut fields: Vec<_> = str::from_utf8(message).ok()?.split('|').collect();
    let seconds = fields.get(4)?.trim().parse::<f64>().ok().filter(|seconds| *seconds >= 0.0)?;
    // The cast saturates, and a time that large is nobody's.
    let moved = times.moved((seconds * 1e3) as u64) / 1_000;
    let moved = moved.to_string();
    fields[4] = &moved;
    Some(fields.join("|").into_bytes())
}

#[cfg(test)]
mod tests {
    use zibrato_core::frame::{Encoder, Prelude};

    use super::*;

    const GAUGE: State<'_> = State::Gauge { sets: 2, last: 1.5, last_ms: 900, min: -1.0, max: 2.0 };

    /// So much later.
    fn later(ms: u64) -> Option<Times> {
        Some(Times { recorded_end_ms: 0, played_end_ms: ms, pace: 1.0 })
    }

    fn frame(publisher: u8, age_ms: u64) -> Vec<u8> {
        let mut buffer = [0; 256];
        let mut header = Header::new(PublisherId([publisher; 16]), 5);
        header.age_ms = age_ms;
        let prelude = Prelude { window_end_ms: 1_000, window_ms: 10, ..Prelude::default() };
        let mut encoder = Encoder::new(&mut buffer, "info", &header, &prelude).unwrap();
        encoder.push(&Entry::new("c", State::Counter { sum: 7 })).unwrap();
        encoder.push(&Entry::new("g", GAUGE)).unwrap();
        encoder.finish().to_vec()
    }

    /// The header of a frame of an age, as it is after its rewrite.
    fn rewritten(rewrite: &mut Rewrite, publisher: u8, age_ms: u64, offset_ms: u64) -> Header {
        let mut message = frame(publisher, age_ms);
        rewrite.message(&mut message, offset_ms * 1_000).unwrap();
        Frame::parse(&message).unwrap().header
    }

    #[test]
    fn at_its_own_pace_a_frame_stays_as_it_is() {
        let mut rewrite = Rewrite::new(Speed::Times(1.0), false, None);
        for (age_ms, offset_ms) in [(10, 5), (10, 50_000), (9_000_000, 50_000)] {
            let mut message = frame(1, age_ms);
            rewrite.message(&mut message, offset_ms * 1_000).unwrap();
            assert_eq!(message, frame(1, age_ms));
        }
    }

    #[test]
    fn faster_a_publisher_keeps_its_side_of_the_beginning() {
        let mut ten = Rewrite::new(Speed::Times(10.0), false, None);
        // Started at 20 s: its start stays behind the beginning, a tenth as far.
        assert_eq!(rewritten(&mut ten, 1, 100_000, 120_000).age_ms, 10_000);
        assert_eq!(rewritten(&mut ten, 1, 300_000, 310_000).age_ms, 30_000);
        // Was there before: stays there, also in later frames.
        assert_eq!(rewritten(&mut ten, 2, 100_000, 1_000).age_ms, 100_000);
        assert_eq!(rewritten(&mut ten, 2, 200_000, 101_000).age_ms, 200_000);
        let mut max = Rewrite::new(Speed::Max, false, None);
        assert_eq!(rewritten(&mut max, 1, 100_000, 120_000).age_ms, 0);
    }

    #[test]
    fn a_fresh_id_is_the_same_for_all_frames_of_a_publisher_and_no_other() {
        let mut rewrite = Rewrite::new(Speed::Times(1.0), true, None);
        let ids = [1, 2, 1].map(|publisher| rewritten(&mut rewrite, publisher, 0, 0).publisher);
        assert_eq!(ids[0], ids[2]);
        assert!(ids[0] != ids[1] && ids[0] != PublisherId([1; 16]));
    }

    #[test]
    fn every_time_of_a_frame_is_moved_and_nothing_else() {
        let mut rewrite = Rewrite::new(Speed::Times(1.0), false, later(1_700_000_000_000));
        let mut message = frame(1, 9);
        rewrite.message(&mut message, 0).unwrap();
        let moved = Frame::parse(&message).unwrap();
        assert_eq!(moved.prelude.window_end_ms, 1_700_000_001_000);
        let last_ms = moved.entries().find_map(|entry| match entry.unwrap().state {
            State::Gauge { last_ms, .. } => Some(last_ms),
            _ => None,
        });
        assert_eq!(last_ms, Some(1_700_000_000_900));
        let back = Times { recorded_end_ms: 1_700_000_000_000, played_end_ms: 0, pace: 1.0 };
        Rewrite::new(Speed::Max, false, Some(back)).message(&mut message, 0).unwrap();
        assert_eq!(message, frame(1, 9));
    }

    #[test]
    fn a_frame_that_is_not_known_through_and_through_keeps_its_times() {
        let mut later_version = frame(1, 9);
        later_version["info".len() + 2] = VERSION + 1;
        let mut unknown_kind = frame(1, 9);
        let kind = unknown_kind.windows(3).position(|bytes| bytes == b"\x01\x01g").unwrap();
        unknown_kind[kind] = 9;
        for message in [later_version, unknown_kind] {
            let mut rewrite = Rewrite::new(Speed::Times(1.0), false, later(5_000));
            let mut played = message.clone();
            rewrite.message(&mut played, 0).unwrap();
            assert_eq!(played, message);
        }
    }

    #[test]
    fn of_a_text_only_the_time_is_touched() {
        for (text, moved) in [
            ("info|counters|n|5.0|1700000000|s", "info|counters|n|5.0|1700000012|s"),
            ("info|Gauge|n| 1 |1700000000.9|", "info|Gauge|n| 1 |1700000013|"),
            ("info|Gauge|n|1|soon|s", "info|Gauge|n|1|soon|s"),
            ("info|Gauge|n", "info|Gauge|n"),
        ] {
            let mut message = text.as_bytes().to_vec();
            Rewrite::new(Speed::Max, true, later(12_500)).message(&mut message, 0).unwrap();
            assert_eq!(String::from_utf8(message).unwrap(), moved);
            let mut message = text.as_bytes().to_vec();
            Rewrite::new(Speed::Max, true, None).message(&mut message, 0).unwrap();
            assert_eq!(String::from_utf8(message).unwrap(), text);
        }
    }
}
