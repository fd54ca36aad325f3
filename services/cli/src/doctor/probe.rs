//! A message of our own through the broker: in at the publishers' port, out at the workers'.
//!
//! It is a heartbeat of a publisher that the broker does not know, at a level that is doctor's own, so
//! nothing is kept of it and no worker sees it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use zibrato_core::frame::{Encoder, Frame, Header, Prelude, PublisherId, TOPIC_STATE, topic};
use zibrato_std::socket::{publisher, recv_now, send_now, subscriber};
use zmq::{Context, Error, POLLIN, Socket};

/// The level of the message.
pub(super) const LEVEL: &str = "zibrato.doctor";
/// How often it is sent.
const ROUNDS: u64 = 5;
/// How long all of it may take.
pub(super) const WITHIN: Duration = Duration::from_secs(3);
/// How often the subscription is sent again: a stranger may cancel it.
const RESUBSCRIBE: Duration = Duration::from_secs(1);
/// Longest wait before sockets are looked at again, in milliseconds.
const POLL_MS: i64 = 10;
/// Room for a heartbeat, in bytes.
const MESSAGE_BYTES_MAX: usize = 256;

/// How the probe ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// Every message came back.
    Came {
        /// The median of the round trips.
        median: Duration,
        /// The longest.
        longest: Duration,
    },
    /// No subscription at all came out of the publishers' port.
    NotConnected,
    /// The publishers' port works, but our subscription at the workers' port does not come out of it.
    NotSubscribed,
    /// The message went in and did not come out.
    NotForwarded,
    /// The probe itself failed.
    Failed(Error),
}

/// Runs the probe on the calling thread.
pub(super) fn probe(publishers: SocketAddr, workers: SocketAddr) -> Outcome {
    let mut id = [0; 16];
    if getrandom::fill(&mut id).is_err() {
        return Outcome::Failed(Error::EAGAIN);
    }
    let probe = Probe { id: PublisherId(id), by: Instant::now() + WITHIN };
    probe.run(publishers, workers).unwrap_or_else(Outcome::Failed)
}

struct Probe {
    id: PublisherId,
    by: Instant,
}

impl Probe {
    fn run(&self, publishers: SocketAddr, workers: SocketAddr) -> Result<Outcome, Error> {
        let context = Context::new();
        let (input, output) = (publisher(&context)?, subscriber(&context)?);
        for (socket, addr) in [(&input, publishers), (&output, workers)] {
            // Nothing of ours is worth waiting for at the end.
            socket.set_linger(0)?;
            socket.set_ipv6(addr.is_ipv6())?;
            socket.connect(&format!("tcp://{addr}"))?;
        }
        let Some(topic) = topic(TOPIC_STATE, LEVEL) else { return Err(Error::EINVAL) };
        if let Some(outcome) = self.subscribe(&input, &output, &topic)? {
            return Ok(outcome);
        }
        let mut trips = Vec::new();
        for round in 0..ROUNDS {
            match self.round(&input, &output, round)? {
                Some(trip) => trips.push(trip),
                None => return Ok(Outcome::NotForwarded),
            }
        }
        trips.sort_unstable();
        let longest = trips.last().copied().unwrap_or_default();
        Ok(Outcome::Came { median: trips[trips.len() / 2], longest })
    }

    /// Subscribes until the subscription comes out of the publishers' port; why not, if it does not.
    fn subscribe(&self, input: &Socket, output: &Socket, topic: &[u8]) -> Result<Option<Outcome>, Error> {
        let subscription = [&[1], topic].concat();
        let mut subscribed: Option<Instant> = None;
        let mut is_connected = false;
        while Instant::now() < self.by {
            if subscribed.is_none_or(|subscribed| subscribed.elapsed() >= RESUBSCRIBE) {
                subscribed = Some(Instant::now());
                let _ = send_now(output, &subscription)?;
            }
            while let Some(message) = recv_now(input)? {
                is_connected = true;
                if *message == *subscription {
                    return Ok(None);
                }
            }
            wait(input, output)?;
            // A socket attends to its connection only when it is used.
            while recv_now(output)?.is_some() {}
        }
        Ok(Some(if is_connected { Outcome::NotSubscribed } else { Outcome::NotConnected }))
    }

    /// Sends one message and waits for it; `None` if it does not come.
    fn round(&self, input: &Socket, output: &Socket, round: u64) -> Result<Option<Duration>, Error> {
        let mut header = Header::new(self.id, round);
        header.flags.heartbeat = true;
        let mut buffer = [0; MESSAGE_BYTES_MAX];
        let message = Encoder::new(&mut buffer, LEVEL, &header, &Prelude::default()).map(Encoder::finish);
        let Ok(message) = message else { return Err(Error::EINVAL) };
        let sent = Instant::now();
        let _ = send_now(input, message)?;
        while Instant::now() < self.by {
            while let Some(message) = recv_now(output)? {
                let header = Frame::parse(&message).map(|frame| frame.header);
                if header.is_ok_and(|header| header.publisher == self.id && header.seq == round) {
                    return Ok(Some(sent.elapsed()));
                }
            }
            wait(input, output)?;
            while recv_now(input)?.is_some() {}
        }
        Ok(None)
    }
}

fn wait(input: &Socket, output: &Socket) -> Result<(), Error> {
    match zmq::poll(&mut [input.as_poll_item(POLLIN), output.as_poll_item(POLLIN)], POLL_MS) {
        Ok(_) | Err(Error::EINTR) => Ok(()),
        Err(error) => Err(error),
    }
}
