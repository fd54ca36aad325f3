//! The broker's port for workers: subscriptions go out, messages come in.
//!
//! It subscribes as a worker does, through an XSUB (docs/decisions/004), and knows when the broker has
//! taken in what was subscribed to: [`Feed::confirm`] asks for an empty page of kept frames, and since
//! a broker reads a connection in order, its answer says that it has read everything before it.

use std::net::ToSocketAddrs;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use zibrato_core::frame::{
    Replay, ReplayMessage, TOPIC_REPLAY, TOPIC_SAMPLES, TOPIC_STATE, legacy_topic, topic,
};
use zibrato_std::socket::{connect, recv_now, send_now, subscriber};
use zmq::{Context, Error, Message, PollEvents, PollItem, Socket, SocketEvent};

/// How often subscriptions are sent again, because a stranger that cancels what it never had can make
/// a broker believe that nobody is left.
const RESUBSCRIBE: Duration = Duration::from_secs(5);
/// Longest wait inside of a call, so that a request to stop is seen soon.
pub(crate) const POLL: Duration = Duration::from_millis(50);
/// Level by which a confirmation asks; the broker's own.
const CONFIRM_LEVEL: &str = "zibrato";
/// Position of the page that is asked for: behind every kept frame, so that the answer has none.
const CONFIRM_FROM: u32 = u32::MAX;
/// Monitors are named by number: a name must be unique in a context.
static MONITORS: AtomicU64 = AtomicU64::new(0);

/// How long to wait for the broker.
#[derive(Clone, PartialEq, Eq, Debug, Args)]
pub(crate) struct WaitArgs {
    /// Seconds that the broker may take to answer, 1 to 3600. Nothing is waited for longer than this
    /// without progress.
    #[arg(long, env = "ZIBRATO_TIMEOUT", value_name = "SECONDS", default_value_t = 5,
          value_parser = zibrato_service::whole_number::<u64>(1, 3_600))]
    timeout: u64,
}

impl WaitArgs {
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

/// What a [`Feed`] has to tell.
#[derive(Debug)]
pub(crate) enum Event {
    /// A message of one part, replays of others left out.
    Message(Message),
    /// The connection came up, for the first time or again.
    Connected,
    /// The connection was lost; it is tried again in the background.
    Lost,
    /// The broker has read everything that was sent before the confirmation was asked for.
    Confirmed,
    /// Whoever read the watched output went away.
    OutputClosed,
}

/// A connection to the broker's port for workers.
pub(crate) struct Feed {
    endpoint: String,
    socket: Socket,
    monitor: Socket,
    topics: Vec<Vec<u8>>,
    subscribed: Instant,
    is_up: bool,
    was_up: bool,
    /// The confirmation that is waited for.
    asked: Option<Asked>,
    output: Option<RawFd>,
}

/// A request for confirmation.
struct Asked {
    topic: Vec<u8>,
    since: Instant,
    timeout: Duration,
}

impl Feed {
    /// Starts to connect; the broker need not be there yet.
    pub(crate) fn open(context: &Context, endpoint: &str) -> Result<Self, FeedError> {
        let failed = |source| FeedError::Socket { endpoint: endpoint.to_owned(), source };
        let socket = subscriber(context).map_err(failed)?;
        let monitor = monitor(context, &socket).map_err(failed)?;
        // Nothing of what waits here is worth waiting for at the end.
        socket.set_linger(0).map_err(failed)?;
        connect(&socket, endpoint).map_err(failed)?;
        Ok(Self {
            endpoint: endpoint.to_owned(),
            socket,
            monitor,
            topics: Vec::new(),
            subscribed: Instant::now(),
            is_up: false,
            was_up: false,
            asked: None,
            output: None,
        })
    }

    /// Tells by an event when whoever reads this output goes away. A write would tell as well, but
    /// there may be nothing to write for hours.
    pub(crate) fn watch_output(&mut self, output: &impl AsRawFd) {
        self.output = Some(output.as_raw_fd());
    }

    /// Subscribes to levels as a worker does, native and legacy; to everything if there are none.
    pub(crate) fn subscribe_levels(&mut self, levels: &[String]) -> Result<(), FeedError> {
        for level in levels {
            let topics = [topic(TOPIC_STATE, level), legacy_topic(level)];
            topics.iter().flatten().try_for_each(|topic| self.subscribe(topic))?;
        }
        if levels.is_empty() { self.subscribe(b"") } else { Ok(()) }
    }

    /// Subscribes to the samples of levels; to those of all levels that are on if there are none.
    pub(crate) fn subscribe_samples(&mut self, levels: &[String]) -> Result<(), FeedError> {
        let topics = levels.iter().filter_map(|level| topic(TOPIC_SAMPLES, level));
        topics.into_iter().try_for_each(|topic| self.subscribe(&topic))?;
        if levels.is_empty() { self.subscribe(&[TOPIC_SAMPLES]) } else { Ok(()) }
    }

    /// Subscribes to a topic, once however often it is asked for. The empty topic is everything.
    pub(crate) fn subscribe(&mut self, topic: &[u8]) -> Result<(), FeedError> {
        if self.topics.iter().all(|known| known != topic) {
            self.topics.push(topic.to_owned());
            self.send(1, topic)?;
        }
        Ok(())
    }

    /// Asks the broker to confirm that it has read all subscriptions. [`Feed::next`] tells when it did, and
    /// fails if it does not within `timeout`. After a reconnect the socket asks again by itself.
    pub(crate) fn ask(&mut self, timeout: Duration) -> Result<(), FeedError> {
        self.forget_asked()?;
        let mut nonce = [0; 8];
        getrandom::fill(&mut nonce).map_err(FeedError::random)?;
        let request = Replay { level: CONFIRM_LEVEL, nonce, from: CONFIRM_FROM };
        if let Some(topic) = request.topic() {
            self.send(1, &topic)?;
            self.asked = Some(Asked { topic: topic.to_vec(), since: Instant::now(), timeout });
        }
        Ok(())
    }

    /// Asks and waits for the answer; messages that come meanwhile go to `take`.
    ///
    /// # Errors
    /// [`FeedError::NoBroker`], [`FeedError::NoAnswer`], [`FeedError::Stopped`].
    pub(crate) fn confirm(
        &mut self,
        timeout: Duration,
        is_stopped: impl Fn() -> bool,
        mut take: impl FnMut(&[u8]),
    ) -> Result<(), FeedError> {
        self.ask(timeout)?;
        while !is_stopped() {
            match self.next(POLL)? {
                Some(Event::Confirmed) => return Ok(()),
                Some(Event::Message(message)) => take(&message),
                Some(Event::Connected | Event::Lost | Event::OutputClosed) | None => {}
            }
        }
        Err(self.stopped())
    }

    /// The error of a wait that was interrupted.
    pub(crate) fn stopped(&self) -> FeedError {
        FeedError::Stopped { endpoint: self.endpoint.clone() }
    }

    /// The next event, or `None` if there is none within `wait`.
    pub(crate) fn next(&mut self, wait: Duration) -> Result<Option<Event>, FeedError> {
        if self.subscribed.elapsed() >= RESUBSCRIBE {
            self.subscribed = Instant::now();
            self.topics.iter().try_for_each(|topic| self.send(1, topic))?;
        }
        if let Some(event) = self.read()? {
            return Ok(Some(event));
        }
        if let Some(asked) = self.asked.as_ref().filter(|asked| asked.since.elapsed() >= asked.timeout) {
            return Err(self.silent(asked.timeout));
        }
        let sockets = [&self.socket, &self.monitor].map(|socket| socket.as_poll_item(zmq::POLLIN));
        let output = self.output.map(|output| PollItem::from_fd(output, PollEvents::empty()));
        let mut items: Vec<_> = sockets.into_iter().chain(output).collect();
        match zmq::poll(&mut items, i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)) {
            // A signal may be the one to stop; the caller looks.
            Ok(0) | Err(Error::EINTR) => Ok(None),
            Ok(_) if items.iter().any(PollItem::is_error) => Ok(Some(Event::OutputClosed)),
            Ok(_) => self.read(),
            Err(source) => Err(self.failed(source)),
        }
    }

    fn read(&mut self) -> Result<Option<Event>, FeedError> {
        if let Some(event) = self.read_monitor()? {
            return Ok(Some(event));
        }
        while let Some(message) = self.receive()? {
            if message.get_more() {
                // Nothing of ours has several parts. libzmq hands over all of them at once.
                while self.receive()?.is_some_and(|part| part.get_more()) {}
            } else if message.first() == Some(&TOPIC_REPLAY) {
                if self.is_confirmation(&message)? {
                    return Ok(Some(Event::Confirmed));
                }
            } else {
                return Ok(Some(Event::Message(message)));
            }
        }
        Ok(None)
    }

    fn read_monitor(&mut self) -> Result<Option<Event>, FeedError> {
        let Some(event) = recv_now(&self.monitor).map_err(|source| self.failed(source))? else {
            return Ok(None);
        };
        // The second part is the address.
        if event.get_more() {
            recv_now(&self.monitor).map_err(|source| self.failed(source))?;
        }
        let number = event.first_chunk().copied().map(u16::from_ne_bytes);
        self.is_up = number == Some(SocketEvent::HANDSHAKE_SUCCEEDED.to_raw());
        self.was_up |= self.is_up;
        Ok(Some(if self.is_up { Event::Connected } else { Event::Lost }))
    }

    /// Whether a message of a replay is what [`Feed::ask`] asked for.
    fn is_confirmation(&mut self, message: &[u8]) -> Result<bool, FeedError> {
        let is_trailer = matches!(ReplayMessage::parse(message), Some(ReplayMessage::Trailer { .. }));
        let is_ours = self.asked.as_ref().is_some_and(|asked| message.starts_with(&asked.topic));
        if is_trailer && is_ours {
            self.forget_asked()?;
        }
        Ok(is_trailer && is_ours)
    }

    fn forget_asked(&mut self) -> Result<(), FeedError> {
        self.asked.take().map_or(Ok(()), |asked| self.send(0, &asked.topic))
    }

    fn receive(&self) -> Result<Option<Message>, FeedError> {
        recv_now(&self.socket).map_err(|source| self.failed(source))
    }

    /// Sends a subscription (1) or its cancellation (0).
    fn send(&self, first: u8, topic: &[u8]) -> Result<(), FeedError> {
        // An XSUB is never full: a connection that is not up learns it when it comes up.
        let _ = send_now(&self.socket, &[&[first], topic].concat()).map_err(|source| self.failed(source))?;
        Ok(())
    }

    fn failed(&self, source: Error) -> FeedError {
        FeedError::Socket { endpoint: self.endpoint.clone(), source }
    }

    /// Why there is no answer.
    fn silent(&self, timeout: Duration) -> FeedError {
        let (endpoint, timeout_s) = (self.endpoint.clone(), timeout.as_secs());
        if self.was_up {
            return FeedError::NoAnswer { endpoint, timeout_s };
        }
        // ZeroMQ looks the name up again and again, and never says that there is none.
        match endpoint.trim_start_matches("tcp://").to_socket_addrs() {
            Err(source) => FeedError::Unresolved { endpoint, source },
            Ok(_) => FeedError::NoBroker { endpoint, timeout_s },
        }
    }
}

/// A socket that tells when another one is connected.
fn monitor(context: &Context, socket: &Socket) -> Result<Socket, Error> {
    let name = format!("inproc://zibrato-feed-{}", MONITORS.fetch_add(1, Ordering::Relaxed));
    let events = SocketEvent::HANDSHAKE_SUCCEEDED.to_raw() | SocketEvent::DISCONNECTED.to_raw();
    socket.monitor(&name, events.into())?;
    let monitor = context.socket(zmq::PAIR)?;
    monitor.connect(&name)?;
    Ok(monitor)
}

/// Why nothing comes from the broker.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FeedError {
    /// A socket cannot be made, or does not take the endpoint.
    #[error("cannot connect to {endpoint}; check --host and --port")]
    Socket { endpoint: String, source: Error },
    /// Nobody accepts the connection.
    #[error(
        "no broker at {endpoint} within {timeout_s} s; start one with `zibrato up`, or check --host and --port (the publishers' port; workers connect to the next one)"
    )]
    NoBroker { endpoint: String, timeout_s: u64 },
    /// The broker's name means nothing.
    #[error("no broker: the name in {endpoint} cannot be resolved; check --host")]
    Unresolved { endpoint: String, source: std::io::Error },
    /// Somebody accepts the connection and does not speak as a broker.
    #[error(
        "connected to {endpoint}, but no broker answered within {timeout_s} s; --port is the publishers' port of a zibrato-broker"
    )]
    NoAnswer { endpoint: String, timeout_s: u64 },
    /// The wait was interrupted.
    #[error("stopped before the broker at {endpoint} answered")]
    Stopped { endpoint: String },
    /// The system has no random numbers.
    #[error("cannot read random numbers")]
    Random(#[source] std::io::Error),
}

impl FeedError {
    /// The system has no random numbers.
    pub(crate) fn random(source: getrandom::Error) -> Self {
        Self::Random(std::io::Error::other(source))
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use zibrato_service::Shutdown;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn broker() -> (zibrato_broker::Running, Shutdown) {
        let shutdown = Shutdown::new();
        let config = zibrato_broker::Config { port: 0, ..Default::default() };
        (zibrato_broker::start(config, None, shutdown.clone()).unwrap(), shutdown)
    }

    #[test]
    fn a_subscription_that_is_confirmed_brings_the_very_next_message() {
        let (running, shutdown) = broker();
        let context = Context::new();
        let mut feed = Feed::open(&context, running.out_endpoint()).unwrap();
        feed.subscribe(b"info|").unwrap();
        feed.confirm(TIMEOUT, || false, |_| panic!("nothing was sent")).unwrap();

        let publisher = context.socket(zmq::XPUB).unwrap();
        publisher.connect(running.in_endpoint()).unwrap();
        while publisher.recv_bytes(0).unwrap() != b"\x01info|" {}
        publisher.send("info|Counter|n|1|1|s", 0).unwrap();
        let until = Instant::now() + TIMEOUT;
        loop {
            assert!(Instant::now() < until);
            if let Some(Event::Message(message)) = feed.next(POLL).unwrap() {
                assert_eq!(message.as_str(), Some("info|Counter|n|1|1|s"));
                break;
            }
        }
        shutdown.request();
        assert!(running.join().adds_up());
    }

    #[test]
    fn without_a_broker_the_error_says_whether_somebody_else_was_there() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let silent = format!("tcp://{}", listener.local_addr().unwrap());
        let short = Duration::from_millis(200);
        let error = |endpoint: &str, is_stopped: bool| {
            let mut feed = Feed::open(&Context::new(), endpoint).unwrap();
            feed.confirm(short, || is_stopped, |_| {}).unwrap_err().to_string()
        };
        assert!(error(&silent, false).starts_with("no broker at tcp://127.0.0.1:"));
        drop(listener);
        assert!(error(&silent, false).starts_with("no broker at tcp://127.0.0.1:"));

        // The original's forwarder takes the connection, but does not know our requests.
        let forwarder = Context::new().socket(zmq::PUB).unwrap();
        forwarder.bind("tcp://127.0.0.1:*").unwrap();
        let endpoint = forwarder.get_last_endpoint().unwrap().unwrap();
        assert!(error(&endpoint, false).starts_with("connected to tcp://127.0.0.1:"));

        let unresolved = "no broker: the name in tcp://nosuch.invalid:5551 cannot be resolved; check --host";
        assert_eq!(error("tcp://nosuch.invalid:5551", false), unresolved);

        assert!(error(&endpoint, true).starts_with("stopped before the broker"));
    }
}
