//! A scripted broker: it accepts publishers, subscribes, and reads frames.
#![allow(clippy::unwrap_used, reason = "a test helper fails the test")]
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use zibrato_core::frame::{Ack, Frame, State, TOPIC_STATE, topic};
use zibrato_std::{Builder, Client, Stats, socket};

/// Longest wait for anything that should happen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// One client a process: tests that build one take turns.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Polls until `done` answers something.
pub(crate) fn until<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(Instant::now() < deadline, "no {what} within {DEADLINE:?}");
        std::thread::yield_now();
    }
}

pub(crate) struct Broker {
    pub(crate) socket: zmq::Socket,
    pub(crate) endpoint: String,
    context: zmq::Context,
}

impl Broker {
    /// Binds a free port; subscribes to nothing.
    pub(crate) fn bind() -> Self {
        Self::bind_to("tcp://127.0.0.1:*")
    }

    pub(crate) fn bind_to(endpoint: &str) -> Self {
        let context = zmq::Context::new();
        let socket = socket::broker_in(&context).unwrap();
        until("free port", || socket.bind(endpoint).ok());
        let endpoint = socket.get_last_endpoint().unwrap().unwrap();
        Self { socket, endpoint, context }
    }

    /// Holds the subscription of a real broker.
    pub(crate) fn with_own_subscription(self) -> Self {
        self.subscribe(&[TOPIC_STATE]);
        self
    }

    pub(crate) fn subscribe(&self, topic: &[u8]) {
        self.socket.send([&[1], topic].concat(), 0).unwrap();
    }

    pub(crate) fn unsubscribe(&self, topic: &[u8]) {
        self.socket.send([&[0], topic].concat(), 0).unwrap();
    }

    pub(crate) fn subscribe_level(&self, level: &str) {
        self.subscribe(&topic(TOPIC_STATE, level).unwrap());
    }

    pub(crate) fn unsubscribe_level(&self, level: &str) {
        self.unsubscribe(&topic(TOPIC_STATE, level).unwrap());
    }

    pub(crate) fn read(&self) -> Option<Vec<u8>> {
        socket::recv_now(&self.socket).unwrap().map(|message| message.to_vec())
    }

    /// Polls until `done`, reading in between: a socket acts on connections only then.
    pub(crate) fn serve_until(&self, what: &str, mut done: impl FnMut() -> bool) {
        until(what, || {
            self.read();
            done().then_some(())
        });
    }

    /// The next message that `select` answers something for.
    pub(crate) fn next<T>(&self, what: &str, mut select: impl FnMut(&[u8]) -> Option<T>) -> T {
        until(what, || self.read().and_then(|message| select(&message)))
    }

    /// Acknowledges an end frame at its last part.
    pub(crate) fn acknowledge(&self, message: &[u8]) {
        let header = Frame::parse(message).unwrap().header;
        if header.flags.end && header.part + 1 == header.of {
            self.acknowledge_frame(message);
        }
    }

    /// Acknowledges the frame that this is a part of.
    pub(crate) fn acknowledge_frame(&self, part: &[u8]) {
        let frame = Frame::parse(part).unwrap();
        let (publisher, frame_seq) = (frame.header.publisher, frame.header.frame_seq());
        self.socket.send(&Ack { publisher, level: frame.level, frame_seq }.encode()[..], 0).unwrap();
    }
}

/// The sum of counter `name` in a frame, if it is there.
pub(crate) fn counter(message: &[u8], name: &str) -> Option<u64> {
    let frame = Frame::parse(message).ok()?;
    frame.entries().flatten().find(|entry| entry.name == name).and_then(|entry| match entry.state {
        State::Counter { sum } => Some(sum),
        _ => None,
    })
}

/// The records of timer `name` in a frame, if it is there.
pub(crate) fn timer(message: &[u8], name: &str) -> Option<u64> {
    let frame = Frame::parse(message).ok()?;
    frame.entries().flatten().find(|entry| entry.name == name).and_then(|entry| match entry.state {
        State::Timer { count, .. } => Some(count),
        _ => None,
    })
}

/// A client for `endpoint` with short windows.
pub(crate) fn builder(endpoint: &str) -> Builder {
    Client::builder()
        .endpoint(endpoint)
        .window(Duration::from_millis(50))
        .shutdown_deadline(Duration::from_millis(100))
}

/// Shuts a client down; answers its statistics and the end frames of all levels, acknowledged.
pub(crate) fn end_frames(client: Client, broker: &Broker) -> (Stats, Vec<Vec<u8>>) {
    let stopper = std::thread::spawn(move || client.shutdown(DEADLINE).unwrap());
    let mut frames = std::collections::BTreeMap::new();
    until("end of the client", || {
        if let Some(message) = broker.read() {
            let header = Frame::parse(&message).unwrap().header;
            if header.flags.end {
                broker.acknowledge(&message);
                frames.insert((Frame::parse(&message).unwrap().level.to_owned(), header.part), message);
            }
        }
        stopper.is_finished().then_some(())
    });
    let stats = stopper.join().unwrap();
    assert_eq!(stats.unacknowledged, 0, "{stats}");
    (stats, frames.into_values().collect())
}
