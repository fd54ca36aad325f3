//! A publisher's sockets: one XPUB for each broker endpoint. The client's drain has them, and whoever
//! publishes for others, as `zibrato-gateway` does for devices.
//!
//! What to send and when is the caller's. These are the rules that make frames exact over a lossy
//! transport: a link never sends a part before an older one of the same level; it keeps at most one
//! frame a level of which parts are left, and while it does so newer frames pass it by: then it needs a
//! key frame as soon as it took the old one ([`Links::take_behind`]); nothing here waits. Only the thread
//! that opened them may use the sockets, and it has to call [`Links::read`] again and again, 20 times a
//! second or so, even if it has nothing to send.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use zibrato_core::frame::{Ack, PublisherId, TOPIC_SAMPLES, TOPIC_STATE, topic};
use zmq::{Context, Error, Socket};

use crate::socket::{Sent, connect, publisher, recv_now, send_now};

/// Longest topic of a subscription that is looked at, in bytes; longer ones cannot match.
const TOPIC_BYTES_MAX: usize = 64;
/// Most distinct subscriptions that are kept for one broker.
const SUBSCRIPTIONS_MAX: usize = 4_096;
/// Most messages read from one socket in one pass.
const READS_MAX: usize = 1_000;

/// What became of a sample frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Offered {
    /// At least one socket took it.
    Taken,
    /// All that have a subscriber were full.
    Refused,
    /// None has a subscriber any more.
    Unwanted,
}

/// The parts of one frame, ready to send.
#[derive(Clone, Debug)]
pub struct Frames {
    /// `seq` of part 0, which names the frame.
    pub frame_seq: u64,
    /// Whole messages, topic included, in the order of their parts.
    pub parts: Vec<Arc<[u8]>>,
}

/// One connection to one broker.
struct Link {
    socket: Socket,
    subscriptions: BTreeSet<Vec<u8>>,
    /// Parts that the socket did not take yet, by level, oldest first.
    pending: HashMap<String, VecDeque<Arc<[u8]>>>,
    /// Levels of which a frame passed this link by.
    behind: BTreeSet<String>,
    /// Names of the end frames that this broker stored, by level.
    acknowledged: HashMap<String, u64>,
    /// Whether a subscription beyond the limit was reported.
    warned: bool,
    /// Whether the socket refused a part of a state frame when it was offered one last.
    refused: bool,
}

impl Link {
    /// Whether somebody behind this link has a subscription that `topic` starts with.
    fn wants(&self, topic: &[u8]) -> bool {
        self.has_prefix(topic, 0)
    }

    /// Whether somebody behind this link has a subscription of `bytes_min` bytes or more that `topic` starts with.
    fn has_prefix(&self, topic: &[u8], bytes_min: usize) -> bool {
        (bytes_min..=topic.len()).any(|length| self.subscriptions.contains(&topic[..length]))
    }

    fn has_acknowledged(&self, level: &str, end: &Frames) -> bool {
        self.acknowledged.get(level) == Some(&end.frame_seq)
    }

    /// The broker's own subscription, or anybody's: either means that a connection is up.
    fn is_up(&self) -> bool {
        !self.subscriptions.is_empty()
    }
}

/// What the sockets said since the last call.
#[derive(Debug, Default)]
pub struct News {
    /// Subscriptions came or went.
    pub changed: bool,
    /// Topics newly subscribed to: whoever did needs a key frame of the levels they match.
    pub subscribed: Vec<Vec<u8>>,
    /// Acknowledged end frames: level and name.
    pub acknowledged: Vec<(String, u64)>,
}

/// All links of a publisher.
pub struct Links {
    links: Vec<Link>,
    id: PublisherId,
    /// Messages given to sockets, each socket counted.
    pub messages_sent: u64,
    /// Bytes of these.
    pub bytes_sent: u64,
    /// Times that a socket was at its high-water mark.
    pub refused_by_socket: u64,
    /// Parts are left that no socket refused: they are to go out soon.
    pub has_more: bool,
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links")
            .field("id", &self.id)
            .field("links", &self.links.len())
            .finish_non_exhaustive()
    }
}

impl Links {
    /// Opens a socket for each endpoint. Connecting goes on in the background for ever. Acknowledgements
    /// are looked for under `id`.
    ///
    /// # Errors
    /// The endpoint for which no socket could be made or that cannot be read, with what ZeroMQ said.
    pub fn open(context: &Context, endpoints: &[String], id: PublisherId) -> Result<Self, (String, Error)> {
        let links = endpoints
            .iter()
            .map(|endpoint| {
                let failed = |error| (endpoint.clone(), error);
                let socket = publisher(context).map_err(failed)?;
                connect(&socket, endpoint).map_err(failed)?;
                Ok(Link {
                    socket,
                    subscriptions: BTreeSet::new(),
                    pending: HashMap::new(),
                    behind: BTreeSet::new(),
                    acknowledged: HashMap::new(),
                    warned: false,
                    refused: false,
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { links, id, messages_sent: 0, bytes_sent: 0, refused_by_socket: 0, has_more: false })
    }

    /// Sets the id under which acknowledgements are looked for, before anything is published: whoever is
    /// published for may become known only when the connections are up.
    pub const fn publish_as(&mut self, id: PublisherId) {
        self.id = id;
    }

    /// The sockets, to poll them together with other things. Sending and reading is done here.
    pub fn sockets(&self) -> impl Iterator<Item = &Socket> {
        self.links.iter().map(|link| &link.socket)
    }

    /// Brokers that are connected.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.links.iter().filter(|link| link.is_up()).count()
    }

    /// Whether anybody wants state frames of `level`, the broker itself included.
    #[must_use]
    pub fn wants_state(&self, level: &str) -> bool {
        topic(TOPIC_STATE, level).is_some_and(|topic| self.links.iter().any(|link| link.wants(&topic)))
    }

    /// Whether a worker subscribes to state frames of `level`: by more than the broker's one byte.
    #[must_use]
    pub fn has_worker(&self, level: &str) -> bool {
        self.has_longer_prefix(TOPIC_STATE, level)
    }

    /// Whether somebody subscribes to samples of `level`, and not just to those of any level.
    #[must_use]
    pub fn has_sampler(&self, level: &str) -> bool {
        self.has_longer_prefix(TOPIC_SAMPLES, level)
    }

    /// Whether anybody wants samples of `level`, those of any level included.
    #[must_use]
    pub fn wants_samples(&self, level: &str) -> bool {
        let Some(topic) = topic(TOPIC_SAMPLES, level) else { return false };
        self.links.iter().any(|link| link.has_prefix(&topic, 1))
    }

    fn has_longer_prefix(&self, first: u8, level: &str) -> bool {
        let Some(topic) = topic(first, level) else { return false };
        self.links.iter().any(|link| link.has_prefix(&topic, 2))
    }

    /// Whether anybody subscribes to legacy text of `level`, by any prefix of `level|`.
    pub(crate) fn wants_legacy(&self, level: &str) -> bool {
        let topic = format!("{level}|");
        self.links.iter().any(|link| link.wants(topic.as_bytes()))
    }

    /// Topics that may be prefixes of legacy text, of which the empty one is one.
    pub(crate) fn text_topics(&self) -> Vec<Vec<u8>> {
        let is_text = |topic: &&Vec<u8>| topic.first().is_none_or(|first| !first.is_ascii_control());
        self.links.iter().flat_map(|link| link.subscriptions.iter().filter(is_text).cloned()).collect()
    }

    /// Topics that are prefixes of sample topics. The empty one is none: who asks for everything has not
    /// asked for each measurement.
    pub(crate) fn sample_topics(&self) -> Vec<Vec<u8>> {
        let is_samples = |topic: &&Vec<u8>| topic.first() == Some(&TOPIC_SAMPLES);
        self.links.iter().flat_map(|link| link.subscriptions.iter().filter(is_samples).cloned()).collect()
    }

    /// Levels that somebody subscribes to by their exact topic with this first byte.
    pub(crate) fn exact_levels(&self, first: u8) -> impl Iterator<Item = &str> {
        let topics = self.links.iter().flat_map(|link| &link.subscriptions);
        topics.filter_map(move |topic| match topic.as_slice() {
            [head, level @ .., 0] if *head == first => std::str::from_utf8(level).ok(),
            _ => None,
        })
    }

    /// Reads what the sockets have. A socket acts on connections only when it is read.
    ///
    /// # Errors
    /// [`Error::ETERM`] if the context ended.
    pub fn read(&mut self) -> Result<News, Error> {
        let mut news = News::default();
        for link in &mut self.links {
            for _ in 0..READS_MAX {
                let Some(message) = recv_now(&link.socket)? else { break };
                match message.split_first() {
                    Some((1, topic)) if topic.len() <= TOPIC_BYTES_MAX => {
                        if link.subscriptions.len() < SUBSCRIPTIONS_MAX || link.subscriptions.contains(topic)
                        {
                            link.subscriptions.insert(topic.to_vec());
                            news.subscribed.push(topic.to_vec());
                            news.changed = true;
                        } else if !std::mem::replace(&mut link.warned, true) {
                            tracing::warn!(
                                limit = SUBSCRIPTIONS_MAX,
                                "a broker sends more subscriptions than are kept"
                            );
                        }
                    }
                    Some((0, topic)) => news.changed |= link.subscriptions.remove(topic),
                    _ => {
                        if let Some(ack) = Ack::parse(&message).filter(|ack| ack.publisher == self.id) {
                            link.acknowledged.insert(ack.level.to_owned(), ack.frame_seq);
                            news.acknowledged.push((ack.level.to_owned(), ack.frame_seq));
                        }
                    }
                }
            }
            if !link.is_up() {
                // The connection is gone, and with it whoever waited for the rest of a frame.
                link.pending.clear();
                link.behind.clear();
                link.refused = false;
            }
        }
        Ok(news)
    }

    /// Offers a frame to every link with a subscriber of `level`, but for those that acknowledged it
    /// and those that still have parts to send. Each gets `most` parts now; [`Links::retry`] goes on.
    /// Calls `between` behind each part that a socket took.
    ///
    /// # Errors
    /// [`Error::ETERM`] if the context ended.
    pub fn offer(
        &mut self,
        level: &str,
        frames: &Frames,
        most: usize,
        mut between: impl FnMut(),
    ) -> Result<(), Error> {
        let Some(topic) = topic(TOPIC_STATE, level) else { return Ok(()) };
        for at in 0..self.links.len() {
            let link = &mut self.links[at];
            if !link.wants(&topic) || link.has_acknowledged(level, frames) {
                continue;
            }
            if link.pending.contains_key(level) {
                link.behind.insert(level.to_owned());
                continue;
            }
            link.pending.insert(level.to_owned(), frames.parts.iter().cloned().collect());
            self.send_pending(at, level, most, &mut between)?;
        }
        Ok(())
    }

    /// Whether a broker that is connected has not acknowledged this end frame.
    #[must_use]
    pub fn awaits(&self, level: &str, end: &Frames) -> bool {
        let Some(topic) = topic(TOPIC_STATE, level) else { return false };
        self.links.iter().any(|link| link.wants(&topic) && !link.has_acknowledged(level, end))
    }

    /// Whether a frame of `level` passed a link by that could take a key frame now.
    pub fn take_behind(&mut self, level: &str) -> bool {
        let mut behind = false;
        for link in self.links.iter_mut().filter(|link| !link.pending.contains_key(level)) {
            behind |= link.behind.remove(level);
        }
        behind
    }

    /// Offers `most` parts of each level that links still have to take. Calls `between` behind each part
    /// that a socket took.
    ///
    /// # Errors
    /// [`Error::ETERM`] if the context ended.
    pub fn retry(&mut self, most: usize, mut between: impl FnMut()) -> Result<(), Error> {
        self.has_more = false;
        for at in 0..self.links.len() {
            let levels: Vec<_> = self.links[at].pending.keys().cloned().collect();
            for level in levels {
                self.send_pending(at, &level, most, &mut between)?;
            }
        }
        Ok(())
    }

    /// Whether any link still has parts to take.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        self.links.iter().any(|link| !link.pending.is_empty())
    }

    /// Whether every link that wants `level` still has parts of its last frame to take.
    #[must_use]
    pub fn is_blocked(&self, level: &str) -> bool {
        let Some(topic) = topic(TOPIC_STATE, level) else { return true };
        self.links.iter().filter(|link| link.wants(&topic)).all(|link| link.pending.contains_key(level))
    }

    fn send_pending(
        &mut self,
        at: usize,
        level: &str,
        most: usize,
        between: &mut impl FnMut(),
    ) -> Result<(), Error> {
        let link = &mut self.links[at];
        let Some(pending) = link.pending.get_mut(level) else { return Ok(()) };
        for _ in 0..most {
            let Some(part) = pending.front() else { break };
            match send_now(&link.socket, part)? {
                Sent::Accepted => {
                    self.messages_sent += 1;
                    self.bytes_sent += part.len() as u64;
                    pending.pop_front();
                    link.refused = false;
                    between();
                }
                Sent::Full => {
                    self.refused_by_socket += 1;
                    link.refused = true;
                    return Ok(());
                }
            }
        }
        if pending.is_empty() {
            link.pending.remove(level);
        } else {
            self.has_more = true;
        }
        Ok(())
    }

    /// Offers a sample frame to every link with a subscriber, once. A link that could not take a state frame gets
    /// none until it did: events never keep state waiting.
    pub fn offer_samples(&mut self, level: &str, message: &[u8]) -> Offered {
        let Some(topic) = topic(TOPIC_SAMPLES, level) else { return Offered::Unwanted };
        let mut offered = Offered::Unwanted;
        for link in &self.links {
            if !link.has_prefix(&topic, 1) {
                continue;
            }
            // A socket that is broken is found out when it is read.
            if !link.refused && send_now(&link.socket, message) == Ok(Sent::Accepted) {
                self.messages_sent += 1;
                self.bytes_sent += message.len() as u64;
                offered = Offered::Taken;
            } else {
                self.refused_by_socket += u64::from(!link.refused);
                if offered == Offered::Unwanted {
                    offered = Offered::Refused;
                }
            }
        }
        offered
    }

    /// Sends one legacy message on the only link; false if the socket is full.
    pub(crate) fn send_legacy(&mut self, message: &[u8]) -> bool {
        let Some(link) = self.links.first() else { return false };
        match send_now(&link.socket, message) {
            Ok(Sent::Accepted) => {
                self.messages_sent += 1;
                self.bytes_sent += message.len() as u64;
                true
            }
            Ok(Sent::Full) => {
                self.refused_by_socket += 1;
                false
            }
            Err(_) => false,
        }
    }

    /// Closes the sockets, and lets each go on sending for `linger_ms` at most.
    pub fn close(self, linger_ms: i32) {
        for link in self.links {
            // A socket that refuses its option keeps the shared default, which is bounded too.
            let _ = link.socket.set_linger(linger_ms);
        }
    }
}

#[cfg(test)]
mod tests;
