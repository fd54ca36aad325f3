//! Publishes messages as they are, and sees each one come back on the broker's port for workers.
//!
//! A message that came back was forwarded, so [`Courier::settle`] is proof for all of them. At most
//! [`IN_FLIGHT_MAX`] are under way: the broker is never given more than it forwards, and no
//! subscriber more than its high-water mark.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use zibrato_service::Shutdown;
use zibrato_std::socket::{Sent, connect, publisher, recv_now, send_now};
use zmq::{Context, Error, Socket};

use crate::broker_args::BrokerArgs;
use crate::feed::{Event, Feed, FeedError, POLL};
use crate::human::plural;

/// Most messages that were published and did not come back yet.
const IN_FLIGHT_MAX: usize = 10_000;
/// Most bytes of these.
const IN_FLIGHT_BYTES_MAX: usize = 16 << 20;
/// Wait for something that comes soon, on either socket.
const SHORT: Duration = Duration::from_millis(1);
/// How long the broker may take to say what others subscribe to.
pub(crate) const LISTED_WITHIN: Duration = Duration::from_secs(1);
/// Begins the topic that tells when it has: of a level that nobody publishes.
const LIST_TOPIC: &[u8] = b"\x01zibrato.send\0";
/// Most messages read in one turn.
const TURN_MESSAGES: usize = 1_000;

/// See the module.
pub(crate) struct Courier {
    endpoint: String,
    socket: Socket,
    feed: Feed,
    timeout: Duration,
    shutdown: Shutdown,
    /// What the broker subscribed to at our socket.
    upstream: BTreeSet<Vec<u8>>,
    in_flight: InFlight,
    published: u64,
    /// Whether `upstream` holds what others had subscribed to when the broker was connected.
    is_listed: bool,
    /// When something last moved.
    moved: Instant,
}

impl Courier {
    /// Connects to both ports and waits until the broker answers.
    ///
    /// # Errors
    /// [`CourierError`].
    pub(crate) fn open(
        broker: &BrokerArgs,
        timeout: Duration,
        shutdown: &Shutdown,
    ) -> Result<Self, CourierError> {
        let context = Context::new();
        let endpoint = broker.publishers();
        let failed = |source| FeedError::Socket { endpoint: endpoint.clone(), source };
        let mut feed = Feed::open(&context, &broker.workers())?;
        feed.confirm(timeout, || shutdown.is_requested(), |_| {})?;
        let socket = publisher(&context).map_err(failed)?;
        // What came back has left, and what did not is an error already.
        socket.set_linger(0).map_err(failed)?;
        connect(&socket, &endpoint).map_err(failed)?;
        Ok(Self {
            endpoint,
            socket,
            feed,
            timeout,
            shutdown: shutdown.clone(),
            upstream: BTreeSet::new(),
            in_flight: InFlight::default(),
            published: 0,
            is_listed: false,
            moved: Instant::now(),
        })
    }

    /// Gets the way ready for messages of these topics: they will come back, and the broker wants them.
    pub(crate) fn prepare(&mut self, topics: &[Vec<u8>]) -> Result<(), CourierError> {
        for topic in topics {
            self.feed.subscribe(topic)?;
        }
        let Self { feed, in_flight, shutdown, timeout, .. } = self;
        feed.confirm(*timeout, || shutdown.is_immediate(), |message| _ = in_flight.remove(message))?;
        self.moved = Instant::now();
        while !topics.iter().all(|topic| self.wants(topic)) {
            self.turn(SHORT)?;
            self.check_patience()?;
        }
        Ok(())
    }

    /// Whether somebody subscribes to a topic that is not prepared yet; also if that is not known within
    /// [`LISTED_WITHIN`].
    pub(crate) fn is_heard(&mut self, topic: &[u8]) -> Result<bool, CourierError> {
        if !self.is_listed {
            self.list()?;
        }
        self.turn(Duration::ZERO)?;
        // Every broker subscribes to the first byte of all frames.
        let is_wanted = |known: &Vec<u8>| known.len() != 1 && topic.starts_with(known);
        Ok(!self.is_listed || self.upstream.iter().any(is_wanted))
    }

    /// Waits until the broker has said what is subscribed to. It says so when it is connected, in no order, and what
    /// is subscribed to from then on it says last.
    fn list(&mut self) -> Result<(), CourierError> {
        let until = Instant::now() + LISTED_WITHIN;
        let mut nonce = [0; 8];
        getrandom::fill(&mut nonce).map_err(FeedError::random)?;
        let mark = [LIST_TOPIC, &nonce].concat();
        while self.upstream.is_empty() && Instant::now() < until {
            self.turn(SHORT)?;
        }
        self.feed.subscribe(&mark)?;
        while !self.is_listed && Instant::now() < until {
            self.turn(SHORT)?;
            self.is_listed = self.upstream.contains(&mark);
        }
        Ok(())
    }

    /// Publishes a message; waits as long as too many are under way.
    pub(crate) fn publish(&mut self, message: &[u8]) -> Result<(), CourierError> {
        self.turn(Duration::ZERO)?;
        // Between two messages there may be any pause; patience begins with the wait.
        self.moved = Instant::now();
        loop {
            // Without a subscription the socket would drop the message and not say so.
            if self.in_flight.has_room() && self.wants(message) {
                let sent = send_now(&self.socket, message).map_err(|source| self.failed(source))?;
                if sent == Sent::Accepted {
                    self.in_flight.add(message);
                    self.published += 1;
                    self.moved = Instant::now();
                    return Ok(());
                }
            }
            self.turn(SHORT)?;
            self.check_patience()?;
        }
    }

    /// Waits until every message came back.
    pub(crate) fn settle(&mut self) -> Result<(), CourierError> {
        self.moved = Instant::now();
        while self.in_flight.messages > 0 {
            self.turn(POLL)?;
            self.check_patience()?;
        }
        Ok(())
    }

    /// Messages given to the socket.
    pub(crate) fn published(&self) -> u64 {
        self.published
    }

    /// Looks after both sockets, and waits up to `wait` for something to come.
    pub(crate) fn turn(&mut self, wait: Duration) -> Result<(), CourierError> {
        while let Some(message) = recv_now(&self.socket).map_err(|source| self.failed(source))? {
            match message.split_first() {
                Some((1, topic)) => _ = self.upstream.insert(topic.to_vec()),
                Some((0, topic)) => _ = self.upstream.remove(topic),
                _ => {}
            }
        }
        let mut wait = wait;
        for _ in 0..TURN_MESSAGES {
            match self.feed.next(wait)? {
                Some(Event::Message(message)) if self.in_flight.remove(&message) => {
                    self.moved = Instant::now();
                }
                Some(_) => {}
                None => break,
            }
            // Only the first message is waited for.
            wait = Duration::ZERO;
        }
        Ok(())
    }

    /// Whether the broker subscribed to something that `message` starts with.
    fn wants(&self, message: &[u8]) -> bool {
        self.upstream.iter().any(|topic| message.starts_with(topic))
    }

    fn check_patience(&self) -> Result<(), CourierError> {
        let is_late = self.moved.elapsed() >= self.timeout;
        if !is_late && !self.shutdown.is_immediate() {
            return Ok(());
        }
        let (endpoint, timeout_s) = (self.endpoint.clone(), self.timeout.as_secs());
        Err(match self.in_flight.messages {
            missing if !is_late => CourierError::Stopped { missing },
            0 => CourierError::NotWanted { endpoint, timeout_s },
            missing => CourierError::Missing { missing, published: self.published, timeout_s },
        })
    }

    fn failed(&self, source: Error) -> CourierError {
        FeedError::Socket { endpoint: self.endpoint.clone(), source }.into()
    }
}

/// The messages under way.
#[derive(Debug, Default)]
struct InFlight {
    /// Each message, and how often it is under way.
    times: HashMap<Box<[u8]>, u32>,
    messages: usize,
    bytes: usize,
}

impl InFlight {
    fn has_room(&self) -> bool {
        self.messages < IN_FLIGHT_MAX && self.bytes < IN_FLIGHT_BYTES_MAX
    }

    fn add(&mut self, message: &[u8]) {
        *self.times.entry(message.into()).or_default() += 1;
        self.messages += 1;
        self.bytes += message.len();
    }

    /// Notes a message that was forwarded; false if it is somebody else's.
    fn remove(&mut self, message: &[u8]) -> bool {
        let Some(times) = self.times.get_mut(message) else { return false };
        *times -= 1;
        if *times == 0 {
            self.times.remove(message);
        }
        self.messages -= 1;
        self.bytes -= message.len();
        true
    }
}

/// Why messages are not known to be forwarded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CourierError {
    /// Nothing comes from the broker.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// The publishers' port does not ask for what is to be sent.
    #[error("no broker asks for the message at {endpoint} within {timeout_s} s; check --host and --port")]
    NotWanted { endpoint: String, timeout_s: u64 },
    /// Messages did not come back.
    #[error(
        "{missing} of {published} messages did not come back within {timeout_s} s; the broker did not forward them, or lost them on the way"
    )]
    Missing { missing: usize, published: u64, timeout_s: u64 },
    /// The wait was interrupted.
    #[error("stopped before {} came back", plural(*missing, "message"))]
    Stopped { missing: usize },
}
