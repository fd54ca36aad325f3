//! The worker's sockets: one thread subscribes to its levels at every broker and hands on what comes.
//!
//! Levels match exactly. For each level the thread subscribes to native frames, to legacy text and
//! to the broker's count of forwarded legacy messages, and re-sends these subscriptions every
//! [`RESUBSCRIBE_MS`]: a stranger that cancels what it never had can make a broker believe that
//! nobody is left. libzmq passes a repeated subscription on, and counts it: one that was sent n times
//! has to be cancelled n times before the cancellation leaves the socket.
//!
//! Nothing is decoded here but the answers to replays, which have to be paged. What comes goes to every lane, which is a
//! ledger and its backend. When a lane's channel is full the thread stops reading, and ZeroMQ's high-water mark applies.

mod connection;
mod link;
mod pages;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use zibrato_core::text::Field;

use link::Link;

/// How often the subscriptions of all levels are sent again, in milliseconds.
pub const RESUBSCRIBE_MS: u64 = 5_000;
/// How long a page of a replay may stand still before it is asked for again, in milliseconds.
pub const PAGE_TIMEOUT_MS: u64 = 2_000;
/// How often one page is asked for before the replay is given up as incomplete.
pub const PAGE_TRIES_MAX: u32 = 5;
/// Replay requests that may wait for the thread; one more is not taken.
pub const REQUESTS_MAX: usize = 1_024;
/// How long [`Subscription::stop`] goes on reading while messages come, in milliseconds.
pub const STOP_MS_MAX: u64 = 1_000;
/// Silence after which [`Subscription::stop`] takes the sockets for empty, in milliseconds.
pub const STOP_QUIET_MS: i64 = 50;
/// How long the thread waits for messages before it looks at requests, in milliseconds.
const POLL_MS: i64 = 20;
/// How long the thread waits before it tries a full channel again.
const FULL_WAIT: Duration = Duration::from_millis(1);

/// One message and the broker it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// Position in the list of endpoints.
    pub endpoint: usize,
    /// What came.
    pub message: Message,
}

/// What a subscription hands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A native frame, a legacy text or a count of forwarded messages, as it came.
    Published(Vec<u8>),
    /// A kept frame: everything behind its topic.
    Replayed {
        /// Level that was asked for.
        level: Arc<str>,
        /// For [`Frame::parse_untopiced`](zibrato_core::frame::Frame::parse_untopiced).
        untopiced: Vec<u8>,
    },
    /// A replay ended.
    ReplayDone {
        /// Level that was asked for.
        level: Arc<str>,
        /// Whether every kept frame arrived.
        complete: bool,
    },
    /// The connection came up, for the first time or again.
    Connected,
}

/// Why a subscription cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No endpoint was given.
    #[error("no broker endpoint given: at least one such as tcp://127.0.0.1:5551 is needed")]
    NoEndpoint,
    /// No level was given.
    #[error("no level given: at least one such as info is needed")]
    NoLevel,
    /// A level is not accepted.
    #[error("level {level:?} is not accepted: 1 to 32 bytes without control characters, '|' or ','")]
    Level {
        /// The level, without surrounding spaces.
        level: String,
    },
    /// A socket cannot be opened or connected.
    #[error(
        "cannot connect to broker endpoint {endpoint:?}: accepted is transport://address, such as tcp://127.0.0.1:5551"
    )]
    Socket {
        /// The endpoint.
        endpoint: String,
        /// What libzmq says.
        source: zmq::Error,
    },
    /// The thread cannot start.
    #[error("cannot start the subscription thread")]
    Thread(#[source] std::io::Error),
}

/// How often things are repeated; the constants above outside of tests.
#[derive(Clone, Copy, Debug)]
struct Timing {
    resubscribe: Duration,
    page_timeout: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            resubscribe: Duration::from_millis(RESUBSCRIBE_MS),
            page_timeout: Duration::from_millis(PAGE_TIMEOUT_MS),
        }
    }
}

/// A running subscription. Dropping it without [`Subscription::stop`] ends the thread as well, but
/// does not wait for it.
#[derive(Debug)]
pub struct Subscription {
    requests: SyncSender<Arc<str>>,
    /// The brokers, and whether each is connected.
    brokers: Vec<(String, Arc<AtomicBool>)>,
    shared: Arc<Shared>,
    lanes: Lanes,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// A lane's name, and the end of its channel where messages go in.
pub type LaneEnd = (String, SyncSender<Arc<Incoming>>);

type Lanes = Arc<Mutex<Vec<LaneEnd>>>;

impl Subscription {
    /// Connects to every endpoint and subscribes to every level; each level and endpoint counts
    /// once, however often it is given, and spaces around a level are cut off.
    ///
    /// A broker need not be there yet. Each message goes to all lanes.
    ///
    /// # Errors
    /// [`Error`] names the endpoint or level that is not accepted.
    pub fn start(
        context: &zmq::Context,
        endpoints: &[String],
        levels: &[String],
        lanes: Vec<LaneEnd>,
    ) -> Result<Self, Error> {
        Self::start_with(context, endpoints, levels, lanes, Timing::default())
    }

    fn start_with(
        context: &zmq::Context,
        endpoints: &[String],
        levels: &[String],
        lanes: Vec<LaneEnd>,
        timing: Timing,
    ) -> Result<Self, Error> {
        let levels = distinct(levels.iter().map(|level| level.trim()));
        if levels.is_empty() {
            return Err(Error::NoLevel);
        }
        if let Some(level) = levels.iter().find(|level| !Field::Level.accepts(level)) {
            return Err(Error::Level { level: (*level).to_owned() });
        }
        let endpoints = distinct(endpoints.iter().map(String::as_str));
        if endpoints.is_empty() {
            return Err(Error::NoEndpoint);
        }
        let (mut links, mut brokers) = (Vec::new(), Vec::new());
        for endpoint in endpoints {
            let link = Link::open(context, endpoint, &levels, timing)
                .map_err(|source| Error::Socket { endpoint: endpoint.to_owned(), source })?;
            brokers.push((endpoint.to_owned(), link.shown()));
            links.push(link);
        }
        let shared = Arc::new(Shared::default());
        let (requests, asked) = sync_channel(REQUESTS_MAX);
        let lanes: Lanes = Arc::new(Mutex::new(lanes));
        let output =
            Output { lanes: Arc::clone(&lanes), shared: Arc::clone(&shared), stop_by: None, given_up: false };
        let thread = thread::Builder::new()
            .name("subscription".to_owned())
            .spawn(move || Thread { links, asked, output, timing }.run())
            .map_err(Error::Thread)?;
        Ok(Self { requests, brokers, shared, lanes, thread: Mutex::new(Some(thread)) })
    }

    /// Hands on what comes from now on to another lane as well.
    pub fn add_lane(&self, lane: LaneEnd) {
        lock(&self.lanes).push(lane);
    }

    /// Closes the channel of a lane. What comes while there is none is dropped and counted.
    pub fn close_lane(&self, name: &str) {
        lock(&self.lanes).retain(|(known, _)| known != name);
    }

    /// Asks every broker for the kept frames of a level.
    ///
    /// They arrive as [`Message::Replayed`], and one [`Message::ReplayDone`] for each broker. A level
    /// whose replay is under way is not asked for again.
    pub fn request_replay(&self, level: &str) {
        if self.requests.try_send(level.into()).is_err() {
            self.shared.replays_refused.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The brokers' endpoints, and whether each is connected now.
    pub fn brokers(&self) -> impl Iterator<Item = (&str, bool)> {
        self.brokers.iter().map(|(endpoint, is_up)| (endpoint.as_str(), is_up.load(Ordering::Relaxed)))
    }

    /// Counters so far.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.shared.totals()
    }

    /// Whether the thread still reads. It ends by itself only if the context ends or no lane is left.
    #[must_use]
    pub fn is_running(&self) -> bool {
        lock(&self.thread).as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Lets the thread unsubscribe, hand on what is there already, and close the lanes. It takes at most
    /// [`STOP_MS_MAX`] longer than they need.
    pub fn request_stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
    }

    /// As [`Subscription::request_stop`], and waits for it.
    pub fn stop(&self) -> Totals {
        self.request_stop();
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("subscription thread panicked");
        }
        self.shared.totals()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.request_stop();
    }
}

/// Counters of a subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// Messages handed on.
    pub messages: u64,
    /// Messages of several parts, which nothing of ours is; dropped.
    pub multipart: u64,
    /// Answers to replays that could not be read, or that nobody asked for; dropped.
    pub replay_strays: u64,
    /// Pages of replays that arrived whole.
    pub replay_pages: u64,
    /// Pages that came short or not at all and were asked for again.
    pub replay_pages_short: u64,
    /// Replays given up after [`PAGE_TRIES_MAX`] tries for one page.
    pub replays_given_up: u64,
    /// Replay requests not taken because too many waited.
    pub replays_refused: u64,
    /// Connections that came up.
    pub connections: u64,
    /// How often a full channel made the thread wait.
    pub full_waits: u64,
    /// Messages dropped because a lane did not take them within [`STOP_MS_MAX`] of the stop, or there was none.
    pub abandoned: u64,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    messages: AtomicU64,
    multipart: AtomicU64,
    replay_strays: AtomicU64,
    replay_pages: AtomicU64,
    replay_pages_short: AtomicU64,
    replays_given_up: AtomicU64,
    replays_refused: AtomicU64,
    connections: AtomicU64,
    full_waits: AtomicU64,
    abandoned: AtomicU64,
}

impl Shared {
    fn totals(&self) -> Totals {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Totals {
            messages: read(&self.messages),
            multipart: read(&self.multipart),
            replay_strays: read(&self.replay_strays),
            replay_pages: read(&self.replay_pages),
            replay_pages_short: read(&self.replay_pages_short),
            replays_given_up: read(&self.replays_given_up),
            replays_refused: read(&self.replays_refused),
            connections: read(&self.connections),
            full_waits: read(&self.full_waits),
            abandoned: read(&self.abandoned),
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// No lane is left, so there is nothing left to do.
#[derive(Debug)]
struct Closed;

/// Why the thread ends early.
#[derive(Debug)]
enum End {
    Closed,
    Socket(zmq::Error),
}

impl From<Closed> for End {
    fn from(_: Closed) -> Self {
        Self::Closed
    }
}

impl From<zmq::Error> for End {
    fn from(error: zmq::Error) -> Self {
        Self::Socket(error)
    }
}

/// The way to the lanes. They are closed when it is dropped, however the thread ends.
struct Output {
    lanes: Lanes,
    shared: Arc<Shared>,
    /// When reading ends, once stopping.
    stop_by: Option<Instant>,
    /// Stopping, and nobody takes anything.
    given_up: bool,
}

impl Output {
    fn hand_on(&mut self, endpoint: usize, message: Message) -> Result<(), Closed> {
        let incoming = Arc::new(Incoming { endpoint, message });
        let begun = Instant::now();
        // Held while a lane is waited for: one that is added meanwhile gets what comes behind this.
        let lanes = Arc::clone(&self.lanes);
        let mut lanes = lock(&lanes);
        let (mut at, mut is_skipped, mut is_left) = (0, lanes.is_empty(), false);
        while let Some((_, lane)) = lanes.get(at) {
            match lane.try_send(Arc::clone(&incoming)) {
                Ok(()) => at += 1,
                Err(TrySendError::Disconnected(_)) => {
                    lanes.remove(at);
                    is_left = true;
                }
                Err(TrySendError::Full(_)) if self.given_up => (at, is_skipped) = (at + 1, true),
                Err(TrySendError::Full(_)) => {
                    count(&self.shared.full_waits);
                    self.given_up = self.stop_asked() && begun.elapsed() > Duration::from_millis(STOP_MS_MAX);
                    thread::park_timeout(FULL_WAIT);
                }
            }
        }
        if is_left && lanes.is_empty() {
            return Err(Closed);
        }
        count(if is_skipped { &self.shared.abandoned } else { &self.shared.messages });
        // The time that lanes take is not the sockets'.
        self.stop_by = self.stop_by.map(|stop_by| stop_by + begun.elapsed());
        Ok(())
    }

    fn stop_asked(&self) -> bool {
        self.shared.stop.load(Ordering::Acquire)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        lock(&self.lanes).clear();
    }
}

/// Nothing that is locked here is left half done by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Thread {
    links: Vec<Link>,
    asked: Receiver<Arc<str>>,
    output: Output,
    timing: Timing,
}

impl Thread {
    fn run(mut self) {
        let result = self.read().and_then(|()| self.finish());
        if let Err(End::Socket(error)) = result {
            tracing::error!(%error, "subscription ended by its socket");
        }
    }

    fn read(&mut self) -> Result<(), End> {
        let mut subscribed = Instant::now();
        while !self.output.stop_asked() {
            self.take_requests()?;
            if subscribed.elapsed() >= self.timing.resubscribe {
                subscribed = Instant::now();
                self.links.iter_mut().try_for_each(Link::subscribe)?;
            }
            self.wait(POLL_MS)?;
            for (endpoint, link) in self.links.iter_mut().enumerate() {
                link.turn(endpoint, &mut self.output)?;
            }
        }
        Ok(())
    }

    fn take_requests(&mut self) -> Result<(), End> {
        loop {
            match self.asked.try_recv() {
                Ok(level) => self.links.iter_mut().try_for_each(|link| link.request_replay(&level))?,
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return Ok(()),
            }
        }
    }

    fn wait(&self, timeout_ms: i64) -> Result<bool, zmq::Error> {
        let mut items: Vec<_> = self.links.iter().flat_map(Link::poll_items).collect();
        match zmq::poll(&mut items, timeout_ms) {
            Ok(ready) => Ok(ready > 0),
            Err(zmq::Error::EINTR) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Unsubscribes and reads what is there.
    fn finish(&mut self) -> Result<(), End> {
        self.links.iter_mut().try_for_each(Link::unsubscribe)?;
        self.output.stop_by = Some(Instant::now() + Duration::from_millis(STOP_MS_MAX));
        while self.output.stop_by.is_some_and(|stop_by| Instant::now() < stop_by)
            && self.wait(STOP_QUIET_MS)?
        {
            for (endpoint, link) in self.links.iter_mut().enumerate() {
                link.turn(endpoint, &mut self.output)?;
            }
        }
        Ok(())
    }
}

/// The texts in their order, each once, without empty ones.
fn distinct<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut distinct = Vec::new();
    for text in texts {
        if !text.is_empty() && !distinct.contains(&text) {
            distinct.push(text);
        }
    }
    distinct
}

#[cfg(test)]
mod tests;
