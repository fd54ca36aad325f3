//! A worker's peer that is no broker: it sends what a test likes to whoever subscribes.

use crate::until::until;

/// What a worker subscribes to for level info: native frames, text, and the broker's count of text.
pub const INFO_TOPICS: [&[u8]; 3] = [b"\x01info\0", b"info|", b"\x03info\0"];

/// A bound XPUB socket without a high-water mark.
pub struct ScriptedBroker {
    /// The socket.
    pub socket: zmq::Socket,
    /// Where workers connect.
    pub endpoint: String,
}

impl ScriptedBroker {
    /// Binds a free port.
    ///
    /// # Panics
    /// If ZeroMQ refuses; so for all here.
    pub fn bind() -> Self {
        let socket = zmq::Context::new().socket(zmq::XPUB).unwrap();
        socket.set_sndhwm(0).unwrap();
        socket.bind("tcp://127.0.0.1:*").unwrap();
        let endpoint = socket.get_last_endpoint().unwrap().unwrap();
        Self { socket, endpoint }
    }

    /// Waits for a worker's subscriptions to level info.
    pub fn await_info(&self) {
        let mut missing = INFO_TOPICS.to_vec();
        until("subscriptions", || {
            while let Ok(message) = self.socket.recv_bytes(zmq::DONTWAIT) {
                missing.retain(|topic| message != [&[1], *topic].concat());
            }
            missing.is_empty().then_some(())
        });
    }

    /// Sends one message.
    pub fn send(&self, message: &[u8]) {
        self.socket.send(message, 0).unwrap();
    }
}

impl std::fmt::Debug for ScriptedBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScriptedBroker").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}
