//! What came over the wire, counted: by what it is, and how many frames are missing between.

use std::collections::HashMap;
use std::fmt;

use zibrato_core::frame::{Header, PublisherId, TOPIC_STATE, split_topic};

/// Most publishers whose frames are looked at for gaps, and most levels of each.
const PUBLISHERS_MAX: usize = 10_000;
const LEVELS_MAX: usize = 256;

/// Counts of messages.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) frames: u64,
    pub(crate) legacy: u64,
    pub(crate) unreadable: u64,
    /// Frames that were published between those that came.
    pub(crate) missed: u64,
    /// By publisher and level, the highest number that came.
    seen: HashMap<PublisherId, Vec<(Box<str>, u64)>>,
}

/// What a message is, by its first bytes.
#[derive(Debug)]
pub(crate) enum Sort<'a> {
    /// A frame with its level, header and what stands behind the topic.
    Frame { level: &'a str, header: Header },
    /// Text of the original.
    Legacy,
    /// What a broker tells workers; it carries no measurement.
    Control,
    /// A frame whose topic or header cannot be read.
    Unreadable,
}

impl<'a> Sort<'a> {
    pub(crate) fn of(message: &'a [u8]) -> Self {
        match message.first() {
            Some(&TOPIC_STATE) => {
                let parsed = split_topic(message)
                    .and_then(|(level, rest)| Ok(Self::Frame { level, header: Header::parse(rest)? }));
                parsed.unwrap_or(Self::Unreadable)
            }
            Some(0x20..) => Self::Legacy,
            _ => Self::Control,
        }
    }
}

impl Tally {
    /// Counts a message.
    pub(crate) fn note(&mut self, sort: &Sort<'_>) {
        match sort {
            Sort::Frame { level, header } => {
                self.frames += 1;
                self.note_seq(level, header);
            }
            Sort::Legacy => self.legacy += 1,
            Sort::Control => {}
            Sort::Unreadable => self.unreadable += 1,
        }
    }

    pub(crate) fn messages(&self) -> u64 {
        self.frames + self.legacy + self.unreadable
    }

    fn note_seq(&mut self, level: &str, header: &Header) {
        if self.seen.len() == PUBLISHERS_MAX && !self.seen.contains_key(&header.publisher) {
            return;
        }
        let levels = self.seen.entry(header.publisher).or_default();
        match levels.iter_mut().find(|(known, _)| **known == *level) {
            None => {
                if levels.len() < LEVELS_MAX {
                    levels.push((level.into(), header.seq));
                }
            }
            Some((_, last)) => {
                // A heartbeat repeats the number of the last frame, so it shows when that one is missing.
                let next = last.saturating_add(u64::from(!header.flags.heartbeat));
                self.missed += header.seq.saturating_sub(next);
                *last = (*last).max(header.seq);
            }
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { frames, legacy, unreadable, missed, .. } = self;
        write!(
            f,
            "messages {} = frames {frames} + legacy {legacy} + unreadable {unreadable}",
            self.messages()
        )?;
        if *missed > 0 { write!(f, "; {missed} frames missed") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use zibrato_core::frame::{Encoder, Prelude};

    use super::*;

    fn frame(publisher: u8, level: &str, seq: u64, heartbeat: bool) -> Vec<u8> {
        let mut buffer = [0; 256];
        let mut header = Header::new(PublisherId([publisher; 16]), seq);
        header.flags.heartbeat = heartbeat;
        Encoder::new(&mut buffer, level, &header, &Prelude::default()).unwrap().finish().to_vec()
    }

    #[test]
    fn what_is_missing_between_two_frames_of_a_publisher_and_level_is_counted() {
        let mut tally = Tally::default();
        for (message, missed) in [
            (frame(1, "info", 5, false), 0),
            (frame(1, "info", 6, false), 0),
            (frame(1, "info", 6, true), 0),
            (frame(1, "info", 9, false), 2),
            (frame(1, "info", 7, false), 2),
            (frame(1, "info", 10, true), 3),
            (frame(1, "info", 11, false), 3),
            (frame(1, "debug", 2, false), 3),
            (frame(2, "info", 80, false), 3),
            (b"info|Counter|n|1|1|s".to_vec(), 3),
            (b"\x01info".to_vec(), 3),
            (b"\x03info\0".to_vec(), 3),
            (Vec::new(), 3),
        ] {
            tally.note(&Sort::of(&message));
            assert_eq!(tally.missed, missed, "{message:?}");
        }
        assert_eq!(tally.messages(), 11);
        let text = "messages 11 = frames 9 + legacy 1 + unreadable 1; 3 frames missed";
        assert_eq!(tally.to_string(), text);
    }

    #[test]
    fn gaps_are_looked_for_in_so_many_publishers() {
        let mut tally = Tally::default();
        let mut header = Header::new(PublisherId([0; 16]), 1);
        for at in 0..=PUBLISHERS_MAX as u128 {
            header.publisher = PublisherId(at.to_le_bytes());
            header.seq = 1;
            tally.note(&Sort::Frame { level: "info", header });
            header.seq = 3;
            tally.note(&Sort::Frame { level: "info", header });
        }
        assert_eq!((tally.missed, tally.frames), (PUBLISHERS_MAX as u64, 2 * (PUBLISHERS_MAX as u64 + 1)));
    }
}
