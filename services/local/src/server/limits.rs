//! What one server bears of its clients.

use std::time::Duration;

use zibrato_service::HttpLimits;

/// The limits of the HTTP server. The defaults suit a receiver of some hundred workers and pages;
/// tests set shorter times.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Connections at once; further ones wait in the operating system's queue until one ends.
    pub connections_max: usize,
    /// The bytes of all bodies that are being received or worked on. A request beyond it is answered
    /// with 503. One that comes with gzip counts 8 MiB while it is inflated.
    pub bodies_bytes_max: usize,
    /// How long the head of a request may take, from the end of the answer before it (or from the
    /// start of the connection) to its last line. So it is also how long a connection may idle. The
    /// connection is closed.
    pub head_timeout: Duration,
    /// How long the body of a request may take to arrive. The answer is 408.
    pub body_timeout: Duration,
    /// How long a client may take nothing of an answer that waits for it. The connection is cut.
    pub write_timeout: Duration,
}

impl Limits {
    /// Those of connections.
    pub(super) const fn http(&self) -> HttpLimits {
        let Self { connections_max, head_timeout, write_timeout, .. } = *self;
        HttpLimits { connections_max, head_timeout, write_timeout }
    }
}

impl Default for Limits {
    /// 256 connections, 128 MiB of bodies, and 30 s for each of the times.
    fn default() -> Self {
        let patience = Duration::from_secs(30);
        Self {
            connections_max: 256,
            bodies_bytes_max: 128 * 1024 * 1024,
            head_timeout: patience,
            body_timeout: patience,
            write_timeout: patience,
        }
    }
}
