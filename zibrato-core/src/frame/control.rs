//! Topics, and the messages around the frames: acknowledgement, replay and forwarded counts
//! (WIRE.md sections 2 and 7).

use core::str;

use heapless::Vec;

use super::header::{PublisherId, TOPIC_FORWARDED, TOPIC_REPLAY, USER_ACK};
use crate::limits::LEVEL_BYTES_MAX;
use crate::text::Field;

/// Longest topic: first byte, level, `0x00`, nonce and position of a replay.
const TOPIC_BYTES_MAX: usize = LEVEL_BYTES_MAX + 14;

/// A topic, as bytes.
pub type Topic = Vec<u8, TOPIC_BYTES_MAX>;

/// The topic `first level 0x00`, or `None` if the level is not accepted.
///
/// `first` is [`TOPIC_STATE`](super::TOPIC_STATE), [`TOPIC_SAMPLES`](super::TOPIC_SAMPLES) or [`TOPIC_FORWARDED`].
#[must_use]
pub fn topic(first: u8, level: &str) -> Option<Topic> {
    if !Field::Level.accepts(level) {
        return None;
    }
    let mut text = Topic::new();
    text.push(first).ok()?;
    text.extend_from_slice(level.as_bytes()).ok()?;
    text.push(0).ok()?;
    Some(text)
}

/// The topic `level|` of legacy messages, or `None` if the level is not accepted.
#[must_use]
pub fn legacy_topic(level: &str) -> Option<Topic> {
    if !Field::Level.accepts(level) {
        return None;
    }
    let mut text = Topic::new();
    text.extend_from_slice(level.as_bytes()).ok()?;
    text.push(b'|').ok()?;
    Some(text)
}

/// Splits `level 0x00 rest`.
pub(super) fn split_level(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = bytes.iter().take(LEVEL_BYTES_MAX + 1).position(|&byte| byte == 0)?;
    let level = str::from_utf8(&bytes[..end]).ok().filter(|level| Field::Level.accepts(level))?;
    Some((level, &bytes[end + 1..]))
}

/// The level of a topic or message that starts `first level 0x00`, and what stands behind it.
fn split_first(first: u8, bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (&head, rest) = bytes.split_first()?;
    if head == first { split_level(rest) } else { None }
}

/// Takes `N` bytes off the front.
fn take<const N: usize>(bytes: &[u8]) -> Option<([u8; N], &[u8])> {
    bytes.split_first_chunk::<N>().map(|(head, rest)| (*head, rest))
}

/// A broker's word that it stored all parts of an end frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ack<'a> {
    /// Whose end frame.
    pub publisher: PublisherId,
    /// Its level.
    pub level: &'a str,
    /// Its name: the `seq` of part 0.
    pub frame_seq: u64,
}

impl<'a> Ack<'a> {
    /// The user message `0x06 publisher(16) seq(u64 LE) level`.
    #[must_use]
    pub fn encode(&self) -> Vec<u8, { LEVEL_BYTES_MAX + 25 }> {
        let mut out = Vec::new();
        // Cannot fail: a level is at most LEVEL_BYTES_MAX long, and a longer one is cut.
        let level = &self.level.as_bytes()[..self.level.len().min(LEVEL_BYTES_MAX)];
        let _ = out.push(USER_ACK);
        let _ = out.extend_from_slice(&self.publisher.0);
        let _ = out.extend_from_slice(&self.frame_seq.to_le_bytes());
        let _ = out.extend_from_slice(level);
        out
    }

    /// Reads such a message; `None` for anything else.
    #[must_use]
    pub fn parse(message: &'a [u8]) -> Option<Self> {
        let [USER_ACK, rest @ ..] = message else { return None };
        let (publisher, rest) = take::<16>(rest)?;
        let (seq, level) = take::<8>(rest)?;
        let level = str::from_utf8(level).ok().filter(|level| Field::Level.accepts(level))?;
        Some(Self { publisher: PublisherId(publisher), level, frame_seq: u64::from_le_bytes(seq) })
    }
}

/// The subscription by which a worker asks for a page of kept frames; also the answers' topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Replay<'a> {
    /// The level asked for.
    pub level: &'a str,
    /// Chosen by the worker, so that nobody else receives the answer.
    pub nonce: [u8; 8],
    /// Position of the first kept frame wanted, from 0.
    pub from: u32,
}

impl<'a> Replay<'a> {
    /// The topic `0x02 level 0x00 nonce(8) from(u32 LE)`, or `None` if the level is not accepted.
    #[must_use]
    pub fn topic(&self) -> Option<Topic> {
        let mut text = topic(TOPIC_REPLAY, self.level)?;
        text.extend_from_slice(&self.nonce).ok()?;
        text.extend_from_slice(&self.from.to_le_bytes()).ok()?;
        Some(text)
    }

    /// Reads a subscription; `None` for any other.
    #[must_use]
    pub fn parse(topic: &'a [u8]) -> Option<Self> {
        let (request, rest) = Self::split(topic)?;
        rest.is_empty().then_some(request)
    }

    fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (level, rest) = split_first(TOPIC_REPLAY, bytes)?;
        let (nonce, rest) = take::<8>(rest)?;
        let (from, rest) = take::<4>(rest)?;
        Some((Self { level, nonce, from: u32::from_le_bytes(from) }, rest))
    }
}

/// One message of the answer to a [`Replay`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReplayMessage<'a> {
    /// A kept frame: everything behind its topic, with `held_ms` set.
    Frame {
        /// Which page this answers.
        request: Replay<'a>,
        /// Header and body, for [`Frame::parse_untopiced`](super::Frame::parse_untopiced).
        untopiced: &'a [u8],
    },
    /// The end of the page.
    Trailer {
        /// Which page this answers.
        request: Replay<'a>,
        /// Frames sent in this page.
        count: u32,
        /// Position to ask for next; equal to `total` when there is no more.
        next: u32,
        /// Kept frames of this level in all.
        total: u32,
    },
}

const REPLAY_FRAME: u8 = 0;
const REPLAY_TRAILER: u8 = 1;

impl<'a> ReplayMessage<'a> {
    /// What stands between the topic and the frame in an answer: `0x00`.
    pub const FRAME_MARK: u8 = REPLAY_FRAME;

    /// What stands behind the topic in a trailer: `0x01 count next total`, u32 LE each.
    #[must_use]
    pub fn trailer(count: u32, next: u32, total: u32) -> [u8; 13] {
        let mut out = [REPLAY_TRAILER; 13];
        out[1..5].copy_from_slice(&count.to_le_bytes());
        out[5..9].copy_from_slice(&next.to_le_bytes());
        out[9..].copy_from_slice(&total.to_le_bytes());
        out
    }

    /// Reads one message of an answer; `None` for anything else.
    #[must_use]
    pub fn parse(message: &'a [u8]) -> Option<Self> {
        let (request, rest) = Replay::split(message)?;
        match rest.split_first()? {
            (&REPLAY_FRAME, untopiced) => Some(Self::Frame { request, untopiced }),
            (&REPLAY_TRAILER, rest) => {
                let (count, rest) = take::<4>(rest)?;
                let (next, rest) = take::<4>(rest)?;
                let (total, rest) = take::<4>(rest)?;
                rest.is_empty().then_some(Self::Trailer {
                    request,
                    count: u32::from_le_bytes(count),
                    next: u32::from_le_bytes(next),
                    total: u32::from_le_bytes(total),
                })
            }
            _ => None,
        }
    }
}

/// A broker's count of the legacy messages it handed to its subscribers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Forwarded<'a> {
    /// The level counted.
    pub level: &'a str,
    /// Which run of which broker.
    pub broker: PublisherId,
    /// Legacy messages of this level forwarded since the broker's start.
    pub messages: u64,
}

impl<'a> Forwarded<'a> {
    /// The message `0x03 level 0x00 broker(16) messages(u64 LE)`, or `None` if the level is not accepted.
    #[must_use]
    pub fn encode(&self) -> Option<Vec<u8, { LEVEL_BYTES_MAX + 26 }>> {
        let mut out = Vec::new();
        out.extend_from_slice(&topic(TOPIC_FORWARDED, self.level)?).ok()?;
        out.extend_from_slice(&self.broker.0).ok()?;
        out.extend_from_slice(&self.messages.to_le_bytes()).ok()?;
        Some(out)
    }

    /// Reads such a message; `None` for anything else.
    #[must_use]
    pub fn parse(message: &'a [u8]) -> Option<Self> {
        let (level, rest) = split_first(TOPIC_FORWARDED, message)?;
        let (broker, rest) = take::<16>(rest)?;
        let (messages, rest) = take::<8>(rest)?;
        rest.is_empty().then_some(Self {
            level,
            broker: PublisherId(broker),
            messages: u64::from_le_bytes(messages),
        })
    }
}
