//! Ports that have to be known before a program takes them.

use std::fs::File;
use std::net::TcpListener;

use crate::until::until;

/// Range of the reserved ports: below the system's ephemeral ones, so that nobody who asks for port
/// 0 is given one of them.
const FIRST: u16 = 10_240;
const LAST: u16 = 32_000;

/// Two neighbouring ports that stay reserved while this lives: a broker that is restarted has to come
/// back on the same ones.
///
/// Reserved is by agreement: other tests, also those of another run on this machine, pass over them.
#[derive(Debug)]
pub struct PortPair {
    /// The lower port; the other one is the next.
    pub port: u16,
    _lock: File,
}

impl PortPair {
    /// Reserves a pair that is free now.
    ///
    /// # Panics
    /// If none is free.
    pub fn reserve() -> Self {
        let directory = std::env::temp_dir().join("zibrato-e2e-ports");
        std::fs::create_dir_all(&directory).unwrap();
        let pairs = usize::from(LAST - FIRST) / 2;
        // Runs begin at different places, so that they seldom contend for one lock.
        let start = std::process::id() as usize * 97;
        for at in 0..pairs {
            let port = FIRST + 2 * ((start + at) % pairs) as u16;
            let lock = File::create(directory.join(format!("{port}.lock"))).unwrap();
            if lock.try_lock().is_ok() && is_free(port) && is_free(port + 1) {
                return Self { port, _lock: lock };
            }
        }
        panic!("no two neighbouring ports are free between {FIRST} and {LAST}");
    }

    /// Where publishers connect.
    pub fn publishers(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.port)
    }

    /// Where workers connect.
    pub fn workers(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.port + 1)
    }
}

/// Listens at a port that was reserved, or was listened at before.
///
/// # Panics
/// If it does not become free. A program that another test is starting holds all sockets of this process until it runs,
/// so a port that was just closed may be taken for a moment.
pub fn listen(addr: &str) -> TcpListener {
    until(format!("listening at {addr}"), || TcpListener::bind(addr).ok())
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}
