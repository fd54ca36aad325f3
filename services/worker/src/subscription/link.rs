//! One broker: its socket, the monitor that tells when it is connected, and its replays.
//!
//! The socket is an XSUB, as the broker's own towards publishers. A SUB will not do: up to libzmq
//! 4.3.4 at least it takes the cancellation of a topic whose first byte is `0x01`, which is ours for
//! state frames, for a subscription. It then sends the cancellation although others were counted,
//! and subscribes again at the next connection. On an XSUB the first byte of the message decides.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use zibrato_core::frame::{TOPIC_FORWARDED, TOPIC_REPLAY, TOPIC_STATE, legacy_topic, topic};
use zibrato_std::socket::{connect, recv_now, send_now, subscriber};
use zmq::{Context, Error, PollItem, Socket, SocketEvent};

use super::connection::Connection;
use super::pages::Pages;
use super::{End, Message, Output, Timing, count};

/// Most messages read in one turn, so that a flood from one broker does not starve the other.
const TURN_MESSAGES: usize = 1_000;
/// Monitors are named by number: a name must be unique in a context.
static MONITORS: AtomicU64 = AtomicU64::new(0);

/// One broker.
pub(super) struct Link {
    socket: Socket,
    monitor: Socket,
    topics: Vec<Vec<u8>>,
    /// How often each topic was subscribed to, and so how often it is to be cancelled.
    times: u64,
    connection: Connection,
    pages: Pages,
}

impl Link {
    /// Opens the socket, subscribes and connects.
    pub(super) fn open(
        context: &Context,
        endpoint: &str,
        levels: &[&str],
        timing: Timing,
    ) -> Result<Self, Error> {
        let socket = subscriber(context)?;
        let name = format!("inproc://zibrato-subscription-{}", MONITORS.fetch_add(1, Ordering::Relaxed));
        let events = SocketEvent::HANDSHAKE_SUCCEEDED.to_raw() | SocketEvent::DISCONNECTED.to_raw();
        socket.monitor(&name, events.into())?;
        let monitor = context.socket(zmq::PAIR)?;
        monitor.connect(&name)?;
        let mut topics = Vec::new();
        for level in levels {
            topics.extend(topic(TOPIC_STATE, level).map(|topic| topic.to_vec()));
            topics.extend(legacy_topic(level).map(|topic| topic.to_vec()));
            topics.extend(topic(TOPIC_FORWARDED, level).map(|topic| topic.to_vec()));
        }
        let connection = Connection::new(endpoint);
        let pages = Pages::new(timing.page_timeout);
        let mut link = Self { socket, monitor, topics, times: 0, connection, pages };
        link.subscribe()?;
        connect(&link.socket, endpoint)?;
        Ok(link)
    }

    /// Whether the broker is connected, for other threads.
    pub(super) fn shown(&self) -> Arc<AtomicBool> {
        self.connection.shown()
    }

    /// Sends every subscription, once more if it was sent before.
    pub(super) fn subscribe(&mut self) -> Result<(), Error> {
        self.times += 1;
        self.topics.iter().try_for_each(|topic| subscribe(&self.socket, topic))
    }

    /// Cancels every subscription.
    pub(super) fn unsubscribe(&mut self) -> Result<(), Error> {
        self.pages.cancel(&self.socket)?;
        for _ in 0..std::mem::take(&mut self.times) {
            self.topics.iter().try_for_each(|topic| cancel(&self.socket, topic))?;
        }
        Ok(())
    }

    pub(super) fn request_replay(&mut self, level: &Arc<str>) -> Result<(), Error> {
        self.pages.request(level, &self.socket, self.connection.is_up())
    }

    pub(super) fn poll_items(&self) -> [PollItem<'_>; 2] {
        [self.socket.as_poll_item(zmq::POLLIN), self.monitor.as_poll_item(zmq::POLLIN)]
    }

    /// Reads what is there and looks after the replays.
    pub(super) fn turn(&mut self, endpoint: usize, output: &mut Output) -> Result<(), End> {
        self.read_monitor(endpoint, output)?;
        for _ in 0..TURN_MESSAGES {
            let Some(message) = recv_now(&self.socket)? else {
                // Only an empty socket shows that a page is late; a full channel is no reason.
                if self.connection.is_up() {
                    self.pages.tick(&self.socket, endpoint, output)?;
                }
                return Ok(());
            };
            if message.get_more() {
                count(&output.shared.multipart);
                self.skip_parts()?;
            } else if message.first() == Some(&TOPIC_REPLAY) {
                self.pages.take(&message, &self.socket, endpoint, output)?;
            } else {
                output.hand_on(endpoint, Message::Published(message.to_vec()))?;
            }
        }
        Ok(())
    }

    fn skip_parts(&self) -> Result<(), Error> {
        // libzmq hands over a message of several parts only when all of them are there.
        while recv_now(&self.socket)?.is_some_and(|part| part.get_more()) {}
        Ok(())
    }

    fn read_monitor(&mut self, endpoint: usize, output: &mut Output) -> Result<(), End> {
        while let Some(event) = recv_now(&self.monitor)? {
            // The second part is the address.
            if event.get_more() {
                recv_now(&self.monitor)?;
            }
            let Some(number) = event.first_chunk().copied().map(u16::from_ne_bytes) else { continue };
            self.connection.set(number == SocketEvent::HANDSHAKE_SUCCEEDED.to_raw());
            if self.connection.is_up() {
                count(&output.shared.connections);
                output.hand_on(endpoint, Message::Connected)?;
                self.pages.connected(&self.socket)?;
            } else {
                self.pages.disconnected(&self.socket)?;
            }
        }
        self.connection.look();
        Ok(())
    }
}

/// Subscribes to a topic; once more if it was before.
pub(super) fn subscribe(socket: &Socket, topic: &[u8]) -> Result<(), Error> {
    send(socket, 1, topic)
}

/// Takes one subscription to a topic back.
pub(super) fn cancel(socket: &Socket, topic: &[u8]) -> Result<(), Error> {
    send(socket, 0, topic)
}

fn send(socket: &Socket, first: u8, topic: &[u8]) -> Result<(), Error> {
    // An XSUB is never full: a connection that cannot take it learns it when it comes up again.
    let _ = send_now(socket, &[&[first], topic].concat())?;
    Ok(())
}
