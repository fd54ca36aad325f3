//! Tests over real sockets, and what they share.

use std::thread;
use std::time::{Duration, Instant};

use zibrato_core::frame::{
    Encoder, Entry, Flags, Header, Prelude, PublisherId, Replay, SampleMetric, SampleValue, SamplesEncoder,
    SamplesHeader, State,
};
use zibrato_core::kind::Kind;
use zibrato_service::{Shutdown, StatusEndpoint};
use zibrato_std::socket::{HIGH_WATER_MARK_SERVICE, Sent, publisher, recv_now, send_now};
use zmq::{Context, Error, Message, Socket};

use crate::{Config, Running, Totals, start};

mod end;
mod forward;
mod replay;

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
pub(crate) const KEY: Flags = Flags { key: true, end: false, heartbeat: false };
pub(crate) const END: Flags = Flags { key: true, end: true, heartbeat: false };
pub(crate) const DELTA: Flags = Flags { key: false, end: false, heartbeat: false };

/// The plain SUB of the original's workers, with a mark that holds what a test sends.
pub(crate) fn subscriber(context: &Context) -> Result<Socket, Error> {
    let socket = context.socket(zmq::SUB)?;
    socket.set_rcvhwm(HIGH_WATER_MARK_SERVICE)?;
    Ok(socket)
}

/// A frame of one series whose header was changed by `edit`.
pub(crate) fn frame(id: [u8; 16], level: &str, seq: u64, edit: impl FnOnce(&mut Header)) -> Vec<u8> {
    let mut header = Header::new(PublisherId(id), seq);
    edit(&mut header);
    let mut buffer = [0; 256];
    let mut encoder = Encoder::new(&mut buffer, level, &header, &Prelude::default()).unwrap();
    encoder.push(&Entry::new("n", State::Counter { sum: 1 })).unwrap();
    encoder.finish().to_vec()
}

/// Part `part` of `of` of the frame named `first`.
pub(crate) fn part(id: u8, level: &str, flags: Flags, first: u64, part: u16, of: u16) -> Vec<u8> {
    frame([id; 16], level, first + u64::from(part), |header| {
        (header.flags, header.part, header.of) = (flags, part, of);
    })
}

/// A sample frame with these durations.
pub(crate) fn samples(level: &str, durations_ns: &[u64]) -> Vec<u8> {
    let header = SamplesHeader::new(PublisherId([1; 16]), 0, 0);
    let mut encoder = SamplesEncoder::new([0; 256], level, &header, 9, "s").unwrap();
    let metric = encoder.add_metric(&SampleMetric::new(Kind::Timer, "t")).unwrap();
    for &ns in durations_ns {
        encoder.push(metric, 9, SampleValue::Timer { ns }).unwrap();
    }
    encoder.finish().to_vec()
}

pub(crate) fn config() -> Config {
    Config { port: 0, http: StatusEndpoint { addr: None, explicit: true }, ..Config::default() }
}

/// A broker on free ports, with sockets that outlive it.
pub(crate) struct Fixture {
    pub(crate) context: Context,
    pub(crate) shutdown: Shutdown,
    pub(crate) running: Running,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let shutdown = Shutdown::new();
        let running = start(config(), None, shutdown.clone()).unwrap();
        Self { context: Context::new(), shutdown, running }
    }

    /// A client's socket, once it has seen the broker's own subscription.
    pub(crate) fn publisher(&self) -> Socket {
        let socket = publisher(&self.context).unwrap();
        part_at_once(&socket);
        socket.connect(self.running.in_endpoint()).unwrap();
        await_message(&socket, b"\x01\x01");
        socket
    }

    /// The original's PUB socket, with a mark that a burst does not reach.
    pub(crate) fn original_publisher(&self) -> Socket {
        let socket = self.context.socket(zmq::PUB).unwrap();
        socket.set_sndhwm(100_000).unwrap();
        part_at_once(&socket);
        socket.connect(self.running.in_endpoint()).unwrap();
        socket
    }

    /// A worker's socket with these subscriptions, once the broker has them.
    pub(crate) fn worker(&self, topics: &[&[u8]]) -> Socket {
        let socket = subscriber(&self.context).unwrap();
        part_at_once(&socket);
        socket.connect(self.running.out_endpoint()).unwrap();
        self.subscribe(&socket, topics);
        socket
    }

    /// Adds subscriptions, and waits until the broker has handled them: it handles them in order,
    /// and answers the request that is the last one.
    pub(crate) fn subscribe(&self, worker: &Socket, topics: &[&[u8]]) {
        for topic in topics {
            worker.set_subscribe(topic).unwrap();
        }
        self.handled(worker);
    }

    /// Waits until the broker has handled everything this worker sent.
    pub(crate) fn handled(&self, worker: &Socket) {
        let request = Replay { level: "sync", nonce: [0; 8], from: 0 }.topic().unwrap();
        worker.set_subscribe(&request).unwrap();
        let end = Instant::now() + DEADLINE;
        while !receive_by(worker, end).starts_with(&request) {}
        worker.set_unsubscribe(&request).unwrap();
    }

    /// Waits until the broker's counts are such.
    pub(crate) fn until(&self, what: &str, is_so: impl Fn(&Totals) -> bool) -> Totals {
        let end = Instant::now() + DEADLINE;
        loop {
            let totals = self.running.status().totals();
            if is_so(&totals) {
                return totals;
            }
            assert!(Instant::now() < end, "not {what} within {DEADLINE:?}: {totals:?}");
            thread::yield_now();
        }
    }

    /// Ends the broker and returns its counts, whose sum must hold. An end that the test has asked
    /// for is not asked for again, which would make it immediate.
    pub(crate) fn end(self) -> Totals {
        if !self.shutdown.is_requested() {
            self.shutdown.request();
        }
        let totals = self.running.join();
        assert!(totals.adds_up(), "{totals}");
        assert_eq!(totals.failed, None);
        totals
    }
}

/// Else a test would wait at its end for a broker that is gone.
fn part_at_once(socket: &Socket) {
    socket.set_linger(0).unwrap();
}

pub(crate) fn send(socket: &Socket, message: &[u8]) {
    let end = Instant::now() + DEADLINE;
    while send_now(socket, message).unwrap() == Sent::Full {
        assert!(Instant::now() < end, "full for {DEADLINE:?}");
        socket.poll(zmq::POLLIN, 1).unwrap();
    }
}

/// The next message.
pub(crate) fn receive(socket: &Socket) -> Message {
    receive_by(socket, Instant::now() + DEADLINE)
}

/// Skips messages until this one comes.
pub(crate) fn await_message(socket: &Socket, expected: &[u8]) {
    let end = Instant::now() + DEADLINE;
    while receive_by(socket, end)[..] != *expected {}
}

/// All messages until this one comes, which a test sends to mark the end of what it expects.
pub(crate) fn receive_until(socket: &Socket, last: &[u8]) -> Vec<Vec<u8>> {
    let end = Instant::now() + DEADLINE;
    let mut all = Vec::new();
    loop {
        let message = receive_by(socket, end);
        if message[..] == *last {
            return all;
        }
        all.push(message.to_vec());
    }
}

fn receive_by(socket: &Socket, end: Instant) -> Message {
    loop {
        if let Some(message) = recv_now(socket).unwrap() {
            return message;
        }
        assert!(Instant::now() < end, "no message within {DEADLINE:?}");
        socket.poll(zmq::POLLIN, 10).unwrap();
    }
}
