//! The original's publisher: a plain PUB socket that connects and sends text.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::services::Broker;
use crate::until::until;

/// Unix time in whole seconds, as the original stamps its messages.
///
/// # Panics
/// If the clock stands before 1970.
pub fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A plain PUB socket without a high-water mark, so that what is lost is not lost here.
pub struct Publisher {
    /// The socket.
    pub socket: zmq::Socket,
}

impl Publisher {
    /// Connects to where publishers connect.
    ///
    /// # Panics
    /// If ZeroMQ refuses; so for all here.
    pub fn connect(endpoint: &str) -> Self {
        let socket = zmq::Context::new().socket(zmq::PUB).unwrap();
        socket.set_sndhwm(0).unwrap();
        socket.connect(endpoint).unwrap();
        Self { socket }
    }

    /// Sends probes of each level until the broker has forwarded one: a plain PUB does not say when
    /// a subscription has reached it. They are counters of 0 named `probe`.
    pub fn probe(&self, broker: &Broker, levels: &[&str]) {
        for level in levels {
            let count = || broker.metrics().sum("zibrato_broker_forwarded_total", &[("level", level)]);
            let before = count();
            until(format!("way for level {level}"), || {
                self.send(&format!("{level}|Counter|probe|0|{}|probe", now_s()));
                (count() > before).then_some(())
            });
        }
    }

    /// Sends one message.
    pub fn send(&self, message: &str) {
        self.send_bytes(message.as_bytes());
    }

    /// Sends one message that need not be text.
    pub fn send_bytes(&self, message: &[u8]) {
        self.socket.send(message, 0).unwrap();
    }
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Publisher")
    }
}
