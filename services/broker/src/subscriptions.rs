//! The topics that workers are subscribed to, as the outgoing socket reports them.
//!
//! The socket counts the subscribers of each topic itself and reports every subscription but only
//! the last unsubscription, so this is a set. It exists because the socket cannot be asked, and
//! `no_subscriber` is to be counted.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use zibrato_core::frame::{TOPIC_SAMPLES, TOPIC_STATE};
use zibrato_core::text::Field;

use crate::{TOPIC_BYTES_MAX, TOPICS_MAX};

/// A set of topics; a message has a subscriber if one of them is a prefix of it.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    topics: BTreeSet<Box<[u8]>>,
    /// How many topics there are of each length, so that only lengths in use are looked up.
    lengths: BTreeMap<usize, usize>,
    generation: u64,
}

/// Which messages of a topic have a subscriber.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cover {
    /// Every one.
    All,
    /// Those that a longer topic matches; each message must be looked at.
    Some,
    /// None.
    None,
}

/// Why a subscription was ignored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ignored {
    /// A message that is no subscription.
    UserMessage,
    /// Longer than [`TOPIC_BYTES_MAX`].
    Oversize,
    /// The first byte of a request, but not one.
    Malformed,
    /// A new topic beyond [`TOPICS_MAX`].
    Limit,
    /// An unsubscription from a topic that nobody holds.
    Unknown,
}

impl Ignored {
    /// All reasons, in the order of their counters.
    pub(crate) const ALL: [Self; 5] =
        [Self::UserMessage, Self::Oversize, Self::Malformed, Self::Limit, Self::Unknown];

    /// A stable lower-case word.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::UserMessage => "user_message",
            Self::Oversize => "oversize",
            Self::Malformed => "malformed",
            Self::Limit => "limit",
            Self::Unknown => "unknown",
        }
    }
}

impl Subscriptions {
    /// Adds a topic and says whether it is new.
    ///
    /// # Errors
    /// [`Ignored::Oversize`], [`Ignored::Limit`].
    pub(crate) fn add(&mut self, topic: &[u8]) -> Result<bool, Ignored> {
        if topic.len() > TOPIC_BYTES_MAX {
            return Err(Ignored::Oversize);
        }
        if self.topics.contains(topic) {
            return Ok(false);
        }
        if self.topics.len() == TOPICS_MAX {
            return Err(Ignored::Limit);
        }
        self.topics.insert(topic.into());
        *self.lengths.entry(topic.len()).or_default() += 1;
        self.generation += 1;
        Ok(true)
    }

    /// Removes a topic whose last subscriber left.
    ///
    /// # Errors
    /// [`Ignored::Unknown`]: it was ignored when it came, or somebody cancelled what he never had.
    pub(crate) fn remove(&mut self, topic: &[u8]) -> Result<(), Ignored> {
        if !self.topics.remove(topic) {
            return Err(Ignored::Unknown);
        }
        if let Some(count) = self.lengths.get_mut(&topic.len()) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&topic.len());
            }
        }
        self.generation += 1;
        Ok(())
    }

    /// Whether a topic is a prefix of `message`.
    pub(crate) fn matches(&self, message: &[u8]) -> bool {
        self.lengths.range(..=message.len()).any(|(&length, _)| self.topics.contains(&message[..length]))
    }

    /// As [`Subscriptions::matches`], without the empty topic, by which a stranger gets everything
    /// but asks for nothing in particular.
    pub(crate) fn asks_for(&self, message: &[u8]) -> bool {
        self.lengths.range(1..=message.len()).any(|(&length, _)| self.topics.contains(&message[..length]))
    }

    /// Which messages that start with `topic` have a subscriber.
    pub(crate) fn cover(&self, topic: &[u8]) -> Cover {
        if self.matches(topic) {
            return Cover::All;
        }
        let mut behind = self.topics.range::<[u8], _>((Bound::Excluded(topic), Bound::Unbounded));
        if behind.next().is_some_and(|next| next.starts_with(topic)) { Cover::Some } else { Cover::None }
    }

    /// The levels that topics name: natively, for samples, as text, or as the bare word that the original's workers
    /// subscribe to.
    pub(crate) fn levels(&self) -> BTreeSet<&str> {
        let levels = self.topics.iter().filter_map(|topic| {
            let level = match &**topic {
                [TOPIC_STATE | TOPIC_SAMPLES, level @ .., 0] | [level @ .., b'|'] => level,
                level => level,
            };
            str::from_utf8(level).ok()
        });
        levels.filter(|level| Field::Level.accepts(level)).collect()
    }

    /// Grows with each change, so that answers can be cached.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Topics held.
    pub(crate) fn count(&self) -> usize {
        self.topics.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(topics: &[&str]) -> Subscriptions {
        let mut set = Subscriptions::default();
        for topic in topics {
            assert_eq!(set.add(topic.as_bytes()), Ok(true));
        }
        set
    }

    #[test]
    fn a_message_matches_any_prefix_and_nothing_else() {
        let subscriptions = set(&["info|", "in", "debug"]);
        for (message, expected) in [
            ("info|x", true),
            ("information", true),
            ("i", false),
            ("debu", false),
            ("debug", true),
            ("", false),
        ] {
            assert_eq!(subscriptions.matches(message.as_bytes()), expected, "{message}");
        }
        let everything = set(&[""]);
        assert!(everything.matches(b"") && everything.matches(b"x") && !everything.asks_for(b"x"));
        assert!(subscriptions.asks_for(b"info|x"));
    }

    #[test]
    fn the_cover_of_a_topic_says_whether_messages_must_be_looked_at() {
        let subscriptions = set(&["info|Counter", "audit|", "b"]);
        assert_eq!(subscriptions.cover(b"info|"), Cover::Some);
        assert_eq!(subscriptions.cover(b"audit|"), Cover::All);
        assert_eq!(subscriptions.cover(b"bulk|"), Cover::All);
        assert_eq!(subscriptions.cover(b"debug|"), Cover::None);
    }

    #[test]
    fn the_levels_are_those_that_a_topic_names() {
        let topics = [
            "\x01info\0",
            "info|",
            "debug",
            "audit|",
            "",
            "\x01\x01",
            "\x03late\0",
            "a|b|",
            "\x01x",
            "\x04trace\0",
        ];
        assert_eq!(Vec::from_iter(set(&topics).levels()), ["audit", "debug", "info", "trace"]);
    }

    #[test]
    fn only_changes_raise_the_generation() {
        let mut subscriptions = set(&["a"]);
        assert_eq!(subscriptions.generation(), 1);
        assert_eq!(subscriptions.add(b"a"), Ok(false));
        assert_eq!(subscriptions.remove(b"b"), Err(Ignored::Unknown));
        assert_eq!(subscriptions.generation(), 1);
        assert_eq!(subscriptions.remove(b"a"), Ok(()));
        assert_eq!((subscriptions.generation(), subscriptions.matches(b"a")), (2, false));
    }

    #[test]
    fn length_and_number_of_topics_are_bounded() {
        let mut subscriptions = Subscriptions::default();
        assert_eq!(subscriptions.add(&[b'x'; TOPIC_BYTES_MAX + 1]), Err(Ignored::Oversize));
        assert_eq!(subscriptions.add(&[b'x'; TOPIC_BYTES_MAX]), Ok(true));
        for topic in 1..TOPICS_MAX {
            assert_eq!(subscriptions.add(topic.to_string().as_bytes()), Ok(true));
        }
        assert_eq!(subscriptions.add(b"one more"), Err(Ignored::Limit));
        assert_eq!(subscriptions.add(b"1"), Ok(false));
        assert_eq!(subscriptions.count(), TOPICS_MAX);
    }
}
