//! What became of every message, and the sum that must hold.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use zibrato_core::frame::{TOPIC_FORWARDED, TOPIC_SAMPLES, TOPIC_STATE, legacy_topic, topic};

use crate::LEVELS_MAX;
use crate::classify::{Class, Refusal};
use crate::subscriptions::{Cover, Ignored, Subscriptions};

/// Name under which levels beyond [`LEVELS_MAX`] are counted together.
const OTHER: &str = "other";

/// Counts of a broker since its start.
///
/// `received = forwarded + no_subscriber + refused` holds in every snapshot. The broker's own
/// frames, replays and answers are not received from anybody and stand outside this sum.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// Messages received from publishers, each counted once however many parts it has.
    pub received: u64,
    /// Messages and their dispositions by level; levels beyond [`LEVELS_MAX`] together as `other`.
    pub levels: BTreeMap<String, LevelTotals>,
    /// Messages refused, by reason; reasons that never occurred are left out.
    pub refused: BTreeMap<&'static str, u64>,
    /// Messages and subscriptions from workers that were ignored, by reason.
    pub ignored: BTreeMap<&'static str, u64>,
    /// End frames acknowledged, repetitions included.
    pub acknowledged: u64,
    /// Pages of kept frames sent.
    pub replay_pages: u64,
    /// Kept frames sent in them.
    pub replayed: u64,
    /// Publishers of a level forgotten, by reason: `bytes_live` and `bytes_ended` for want of memory,
    /// `age_live` and `age_ended` for their age.
    pub evicted: BTreeMap<&'static str, u64>,
    /// Frames kept now.
    pub kept_frames: usize,
    /// Bytes they take now, overhead included.
    pub kept_bytes: usize,
    /// Publishers of which something is kept now, once for each level.
    pub kept_publishers: usize,
    /// Distinct topics that workers are subscribed to now.
    pub topics: usize,
    /// The error of ZeroMQ that ended the broker, if one did.
    pub failed: Option<zmq::Error>,
}

/// Counts of one level.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LevelTotals {
    /// Messages handed to at least one subscriber's queue.
    pub forwarded: u64,
    /// Messages nobody was subscribed to when they came. State frames were kept all the same.
    pub no_subscriber: u64,
    /// The legacy messages among the forwarded ones.
    pub legacy_forwarded: u64,
}

impl Totals {
    /// Messages forwarded, all levels.
    #[must_use]
    pub fn forwarded(&self) -> u64 {
        self.levels.values().map(|level| level.forwarded).sum()
    }

    /// Messages without a subscriber, all levels.
    #[must_use]
    pub fn no_subscriber(&self) -> u64 {
        self.levels.values().map(|level| level.no_subscriber).sum()
    }

    /// Messages refused, for all reasons.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.values().sum()
    }

    /// Whether every message received has exactly one disposition.
    #[must_use]
    pub fn adds_up(&self) -> bool {
        self.received == self.forwarded() + self.no_subscriber() + self.refused()
    }
}

/// The sum on one line: `received 3 = forwarded 1 + no_subscriber 1 + refused 1 (topic 1)`.
impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.adds_up() { '=' } else { '≠' };
        let (forwarded, no_subscriber, refused) = (self.forwarded(), self.no_subscriber(), self.refused());
        write!(
            f,
            "received {} {sign} forwarded {forwarded} + no_subscriber {no_subscriber} + refused {refused}",
            self.received
        )?;
        for (index, (reason, count)) in self.refused.iter().enumerate() {
            write!(f, "{}{reason} {count}", if index == 0 { " (" } else { ", " })?;
        }
        if self.refused.is_empty() { Ok(()) } else { f.write_str(")") }
    }
}

/// The counters while the broker runs.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) received: u64,
    pub(crate) acknowledged: u64,
    pub(crate) replay_pages: u64,
    pub(crate) replayed: u64,
    levels: HashMap<Box<str>, LevelState>,
    other: LevelTotals,
    refused: [u64; Refusal::ALL.len()],
    ignored: [u64; Ignored::ALL.len()],
}

/// Counts of a level, and which of its messages have a subscriber, so that it need not be looked
/// up for each message.
#[derive(Debug)]
struct LevelState {
    totals: LevelTotals,
    native: Cover,
    samples: Cover,
    legacy: Cover,
    /// Whether somebody asked for this level's forwarded counts.
    is_reported: bool,
    generation: u64,
}

impl Counts {
    /// Counts a message that is handed to the outgoing socket, by whether it has a subscriber.
    pub(crate) fn passed(&mut self, class: &Class<'_>, message: &[u8], subscriptions: &Subscriptions) {
        let (Class::Native { level, .. } | Class::Samples { level } | Class::Legacy { level }) = class;
        let is_legacy = matches!(class, Class::Legacy { .. });
        let (totals, cover) = match self.level(level, subscriptions) {
            Some(state) => {
                let cover = match class {
                    Class::Native { .. } => state.native,
                    Class::Samples { .. } => state.samples,
                    Class::Legacy { .. } => state.legacy,
                };
                (&mut state.totals, cover)
            }
            None => (&mut self.other, Cover::Some),
        };
        let has_subscriber = match cover {
            Cover::All => true,
            Cover::Some => subscriptions.matches(message),
            Cover::None => false,
        };
        if has_subscriber {
            totals.forwarded += 1;
            totals.legacy_forwarded += u64::from(is_legacy);
        } else {
            totals.no_subscriber += 1;
        }
    }

    /// Counts a message that is not handed on.
    pub(crate) fn refuse(&mut self, reason: Refusal) {
        self.refused[reason as usize] += 1;
    }

    /// Counts what a worker sent and the broker does not heed.
    pub(crate) fn ignore(&mut self, reason: Ignored) {
        self.ignored[reason as usize] += 1;
    }

    /// Legacy messages of a level that were forwarded; `None` if that level is counted as `other`.
    pub(crate) fn legacy_forwarded(&self, level: &str) -> Option<u64> {
        match self.levels.get(level) {
            Some(state) => Some(state.totals.legacy_forwarded),
            None => (self.levels.len() < LEVELS_MAX).then_some(0),
        }
    }

    /// The levels whose forwarded counts somebody asked for, with their counts.
    pub(crate) fn reported(&mut self, subscriptions: &Subscriptions) -> Vec<(&str, u64)> {
        let levels = self.levels.iter_mut().filter_map(|(level, state)| {
            state.renew(level, subscriptions);
            state.is_reported.then_some((&**level, state.totals.legacy_forwarded))
        });
        levels.collect()
    }

    /// Writes the counters into a snapshot.
    pub(crate) fn write_to(&self, totals: &mut Totals) {
        totals.received = self.received;
        totals.acknowledged = self.acknowledged;
        totals.replay_pages = self.replay_pages;
        totals.replayed = self.replayed;
        totals.levels = self.levels.iter().map(|(level, state)| (level.to_string(), state.totals)).collect();
        if self.other != LevelTotals::default() {
            // A level of that very name and the rest share a row.
            let row = totals.levels.entry(OTHER.to_owned()).or_default();
            row.forwarded += self.other.forwarded;
            row.no_subscriber += self.other.no_subscriber;
            row.legacy_forwarded += self.other.legacy_forwarded;
        }
        totals.refused = nonzero(Refusal::ALL.map(Refusal::as_str), self.refused);
        totals.ignored = nonzero(Ignored::ALL.map(Ignored::as_str), self.ignored);
    }

    /// The level's state, up to date with the subscriptions; `None` beyond [`LEVELS_MAX`].
    fn level(&mut self, level: &str, subscriptions: &Subscriptions) -> Option<&mut LevelState> {
        if !self.levels.contains_key(level) {
            if self.levels.len() == LEVELS_MAX {
                return None;
            }
            let state = LevelState {
                totals: LevelTotals::default(),
                native: Cover::None,
                samples: Cover::None,
                legacy: Cover::None,
                is_reported: false,
                // Never equal to that of the subscriptions, so that it is renewed below.
                generation: u64::MAX,
            };
            self.levels.insert(level.into(), state);
        }
        let state = self.levels.get_mut(level)?;
        state.renew(level, subscriptions);
        Some(state)
    }
}

impl LevelState {
    fn renew(&mut self, level: &str, subscriptions: &Subscriptions) {
        if self.generation == subscriptions.generation() {
            return;
        }
        self.generation = subscriptions.generation();
        let cover = |first| topic(first, level).map_or(Cover::Some, |topic| subscriptions.cover(&topic));
        (self.native, self.samples) = (cover(TOPIC_STATE), cover(TOPIC_SAMPLES));
        self.legacy = legacy_topic(level).map_or(Cover::Some, |topic| subscriptions.cover(&topic));
        self.is_reported = topic(TOPIC_FORWARDED, level).is_some_and(|topic| subscriptions.asks_for(&topic));
    }
}

/// Names with their counts, without those that are 0.
pub(crate) fn nonzero<const N: usize>(
    names: [&'static str; N],
    counts: [u64; N],
) -> BTreeMap<&'static str, u64> {
    names.into_iter().zip(counts).filter(|(_, count)| *count > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(counts: &Counts) -> Totals {
        let mut totals = Totals::default();
        counts.write_to(&mut totals);
        totals
    }

    fn pass(counts: &mut Counts, message: &str, subscriptions: &Subscriptions) {
        counts.received += 1;
        counts.passed(&Class::of(message.as_bytes()).unwrap(), message.as_bytes(), subscriptions);
    }

    #[test]
    fn the_reasons_stand_in_the_order_of_their_counters() {
        for (index, reason) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
        for (index, reason) in Ignored::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
    }

    #[test]
    fn a_cached_answer_follows_the_subscriptions() {
        let (mut counts, mut subscriptions) = (Counts::default(), Subscriptions::default());
        pass(&mut counts, "info|a", &subscriptions);
        subscriptions.add(b"info|b").unwrap();
        pass(&mut counts, "info|a", &subscriptions);
        pass(&mut counts, "info|b", &subscriptions);
        subscriptions.add(b"info|").unwrap();
        pass(&mut counts, "info|a", &subscriptions);
        pass(&mut counts, "information|a", &subscriptions);
        subscriptions.remove(b"info|").unwrap();
        subscriptions.remove(b"info|b").unwrap();
        pass(&mut counts, "info|b", &subscriptions);
        let totals = totals(&counts);
        let expected = LevelTotals { forwarded: 2, no_subscriber: 3, legacy_forwarded: 2 };
        assert_eq!(totals.levels["info"], expected);
        assert_eq!(totals.levels["information"].no_subscriber, 1);
        assert!(totals.adds_up());
        assert_eq!(totals.to_string(), "received 6 = forwarded 2 + no_subscriber 4 + refused 0");
    }

    #[test]
    fn sample_frames_are_counted_by_who_subscribes_to_samples() {
        let (mut counts, mut subscriptions) = (Counts::default(), Subscriptions::default());
        let message = crate::tests::samples("info", &[1]);
        let mut pass = |subscriptions: &Subscriptions| {
            counts.received += 1;
            counts.passed(&Class::of(&message).unwrap(), &message, subscriptions);
            let LevelTotals { forwarded, no_subscriber, legacy_forwarded } = totals(&counts).levels["info"];
            assert_eq!(legacy_forwarded, 0);
            (forwarded, no_subscriber)
        };
        subscriptions.add(b"\x01info\0").unwrap();
        subscriptions.add(b"info|").unwrap();
        assert_eq!(pass(&subscriptions), (0, 1));
        subscriptions.add(b"\x04info\0").unwrap();
        assert_eq!(pass(&subscriptions), (1, 1));
        subscriptions.remove(b"\x04info\0").unwrap();
        assert_eq!(pass(&subscriptions), (1, 2));
    }

    #[test]
    fn levels_beyond_the_limit_are_counted_together() {
        let (mut counts, mut subscriptions) = (Counts::default(), Subscriptions::default());
        subscriptions.add(b"over1|").unwrap();
        for level in 0..LEVELS_MAX {
            assert_eq!(counts.legacy_forwarded("over1"), Some(0));
            pass(&mut counts, &format!("{level}|"), &subscriptions);
        }
        pass(&mut counts, "over1|", &subscriptions);
        pass(&mut counts, "over2|", &subscriptions);
        pass(&mut counts, "7|", &subscriptions);
        let totals = totals(&counts);
        assert_eq!(totals.levels.len(), LEVELS_MAX + 1);
        let expected = LevelTotals { forwarded: 1, no_subscriber: 1, legacy_forwarded: 1 };
        assert_eq!(totals.levels[OTHER], expected);
        assert_eq!(counts.legacy_forwarded("over1"), None);
        assert!(totals.adds_up());
    }

    #[test]
    fn the_line_of_totals_names_each_reason_and_shows_a_sum_that_does_not_hold() {
        let mut counts = Counts { received: 4, ..Counts::default() };
        counts.refuse(Refusal::Topic);
        counts.refuse(Refusal::Topic);
        counts.refuse(Refusal::MultiPart);
        let text = totals(&counts).to_string();
        assert_eq!(text, "received 4 ≠ forwarded 0 + no_subscriber 0 + refused 3 (multi_part 1, topic 2)");
    }
}
