//! A publisher that sends exactly what it is told, when somebody has subscribed.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use zibrato_core::frame::{About, Encoder, Entry, Header, Prelude, PublisherId};

use crate::program::DEADLINE;

/// One client a process: tests that build one take turns.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection to a broker's port for publishers.
pub(crate) struct Publisher {
    socket: zmq::Socket,
    _context: zmq::Context,
}

impl Publisher {
    /// Connects, and waits until somebody at the broker has subscribed to each topic.
    pub(crate) fn wanted(port: u16, topics: &[&[u8]]) -> Self {
        let context = zmq::Context::new();
        let socket = zibrato_std::socket::publisher(&context).unwrap();
        socket.connect(&format!("tcp://127.0.0.1:{port}")).unwrap();
        let mut missing: Vec<Vec<u8>> = topics.iter().map(|topic| [b"\x01", *topic].concat()).collect();
        let deadline = Instant::now() + DEADLINE;
        while !missing.is_empty() {
            assert!(Instant::now() < deadline, "nobody subscribes to {missing:?}");
            if socket.poll(zmq::POLLIN, 10).unwrap() > 0 {
                let message = socket.recv_bytes(0).unwrap();
                missing.retain(|topic| *topic != message);
            }
        }
        Self { socket, _context: context }
    }

    pub(crate) fn send(&self, message: &[u8]) {
        self.socket.send(message, 0).unwrap();
    }
}

/// A frame of publisher `id` with these series.
pub(crate) fn frame(
    id: u8,
    level: &str,
    seq: u64,
    change: impl FnOnce(&mut Header),
    entries: &[Entry<'_>],
) -> Vec<u8> {
    let mut buffer = vec![0; 65_536];
    let mut header = Header::new(PublisherId([id; 16]), seq);
    change(&mut header);
    let about = About { program: "prog", host: "box", pid: 7, library: "1.0.0" };
    let about = header.flags.key.then_some(about);
    let prelude = Prelude {
        window_end_ms: 1_700_000_001_000,
        window_ms: 1_000,
        source: "src",
        about,
        ..Prelude::default()
    };
    let mut encoder = Encoder::new(&mut buffer, level, &header, &prelude).unwrap();
    entries.iter().for_each(|entry| encoder.push(entry).unwrap());
    encoder.finish().to_vec()
}

/// The header's key flag.
pub(crate) fn key(header: &mut Header) {
    header.flags.key = true;
}
