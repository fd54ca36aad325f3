//! Whether a broker is connected, which the log says when it changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a broker may be away before the log says so. A restart takes less.
const MISSED_AFTER: Duration = Duration::from_secs(3);

/// The connection to one broker.
pub(super) struct Connection {
    endpoint: String,
    is_up: bool,
    /// The same for other threads.
    shown: Arc<AtomicBool>,
    /// When it came up or went down last.
    since: Instant,
    /// Whether the log says that it is down.
    is_missed: bool,
}

impl Connection {
    /// One that is not up yet. Inside one process there is no handshake, and nothing to be lost by it.
    pub(super) fn new(endpoint: &str) -> Self {
        let is_up = endpoint.starts_with("inproc:");
        let shown = Arc::new(AtomicBool::new(is_up));
        Self { endpoint: endpoint.to_owned(), is_up, shown, since: Instant::now(), is_missed: false }
    }

    /// Whether it is up, for other threads.
    pub(super) fn shown(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.shown)
    }

    pub(super) const fn is_up(&self) -> bool {
        self.is_up
    }

    pub(super) fn set(&mut self, is_up: bool) {
        if is_up {
            tracing::info!(endpoint = self.endpoint, "connected to the broker");
        } else if self.is_up {
            tracing::warn!(endpoint = self.endpoint, "the connection to the broker is lost; trying again");
        }
        if is_up || self.is_up {
            (self.since, self.is_missed) = (Instant::now(), false);
        }
        self.is_up = is_up;
        self.shown.store(is_up, Ordering::Relaxed);
    }

    /// Says once that the broker is missed.
    pub(super) fn look(&mut self) {
        if self.is_up || self.is_missed || self.since.elapsed() < MISSED_AFTER {
            return;
        }
        self.is_missed = true;
        tracing::warn!(
            endpoint = self.endpoint,
            "no connection to the broker; trying on. Start it, or check --host, --port and --endpoint"
        );
    }
}
