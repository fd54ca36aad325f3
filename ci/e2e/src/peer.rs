//! A receiver of text over TCP that does as it is told, as carbon or a statsd would.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::ports::listen;
use crate::until::until;

/// What the receiver does with a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PeerStep {
    /// Reads to the end and closes.
    Take,
    /// Reads to the end and resets the connection.
    Reset,
    /// Reads to the end and does not close.
    Silence,
    /// Says something.
    Talk,
}

#[derive(Debug)]
struct Shared {
    script: VecDeque<PeerStep>,
    connections: Vec<(PeerStep, Vec<u8>)>,
}

/// The receiver. It follows its script, a step a connection, and then takes all. Its threads end with the process.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where it listens.
    pub addr: String,
    shared: Arc<Mutex<Shared>>,
}

impl Peer {
    /// Listens at an address; port 0 is a free one.
    ///
    /// # Panics
    /// If it is taken.
    pub fn on(addr: &str, script: impl IntoIterator<Item = PeerStep>) -> Self {
        let listener = listen(addr);
        let addr = listener.local_addr().unwrap().to_string();
        let script = script.into_iter().collect();
        let shared = Arc::new(Mutex::new(Shared { script, connections: Vec::new() }));
        let for_threads = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&for_threads);
                // What a client does wrong shows in what it gets counted for, not here.
                thread::spawn(move || serve(stream, &shared));
            }
        });
        Self { addr, shared }
    }

    /// What each connection has brought so far, and what became of it.
    pub fn connections(&self) -> Vec<(PeerStep, Vec<u8>)> {
        lock(&self.shared).connections.clone()
    }

    /// Waits until so many connections have brought something.
    ///
    /// # Panics
    /// If they do not come.
    pub fn asked(&self, connections: usize) {
        let brought = || self.connections().iter().filter(|(_, bytes)| !bytes.is_empty()).count();
        until(format!("{connections} connections"), || (brought() >= connections).then_some(()));
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(mut stream: TcpStream, shared: &Mutex<Shared>) -> Option<()> {
    let (at, step) = {
        let mut shared = lock(shared);
        let step = shared.script.pop_front().unwrap_or(PeerStep::Take);
        shared.connections.push((step, Vec::new()));
        (shared.connections.len() - 1, step)
    };
    if step == PeerStep::Talk {
        stream.write_all(b"220 at your service\r\n").ok()?;
    }
    let mut buffer = [0; 8_192];
    while let length @ 1.. = stream.read(&mut buffer).ok()? {
        lock(shared).connections[at].1.extend_from_slice(&buffer[..length]);
    }
    match step {
        PeerStep::Take | PeerStep::Talk => {}
        PeerStep::Reset => rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).ok()?,
        // As long as the test runs.
        PeerStep::Silence => thread::park(),
    }
    Some(())
}
