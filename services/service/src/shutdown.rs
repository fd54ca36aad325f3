//! The ordered end of a service, in two stages.

use std::io;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// A request to stop that is shared by all threads and tasks of a service.
///
/// It has three stages: 0 is running, 1 asks for an ordered end (stop intake, drain, flush, close,
/// report), 2 asks to end at once. A stage never goes back. Clones share one stage, and
/// [`request`](Self::request), [`is_requested`](Self::is_requested) and
/// [`is_immediate`](Self::is_immediate) work on threads without a runtime as well.
#[derive(Clone, Debug)]
pub struct Shutdown {
    stage: Arc<watch::Sender<u8>>,
}

const ORDERED: u8 = 1;
const IMMEDIATE: u8 = 2;

impl Shutdown {
    /// A service that runs.
    pub fn new() -> Self {
        Self { stage: Arc::new(watch::Sender::new(0)) }
    }

    /// Raises the stage by one, to 2 at most.
    pub fn request(&self) {
        self.stage.send_if_modified(|stage| {
            let raised = (*stage + 1).min(IMMEDIATE);
            std::mem::replace(stage, raised) != raised
        });
    }

    /// Whether an end was requested, ordered or immediate.
    pub fn is_requested(&self) -> bool {
        *self.stage.borrow() >= ORDERED
    }

    /// Whether the service should end at once and skip what can be skipped.
    pub fn is_immediate(&self) -> bool {
        *self.stage.borrow() >= IMMEDIATE
    }

    /// Waits until an end is requested; returns at once if it was.
    pub async fn requested(&self) {
        self.reached(ORDERED).await;
    }

    /// Waits until an immediate end is requested; returns at once if it was.
    pub async fn immediate(&self) {
        self.reached(IMMEDIATE).await;
    }

    /// Lets each SIGTERM and SIGINT of this process call [`request`](Self::request).
    ///
    /// The handlers stand when this returns, so no signal after it takes the default action. Call it
    /// inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// The operating system's error if a handler cannot be installed.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with its I/O driver enabled.
    pub fn spawn_on_signals(&self) -> io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = self.clone();
        tokio::spawn(async move {
            loop {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                shutdown.request();
                tracing::info!(signal = name, immediate = shutdown.is_immediate(), "stop requested");
            }
        });
        Ok(())
    }

    async fn reached(&self, stage: u8) {
        // An error means that the sender is gone, and `self` holds it.
        let _ = self.stage.subscribe().wait_for(|now| *now >= stage).await;
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    #[test]
    fn each_request_raises_the_stage_by_one_up_to_two() {
        let shutdown = Shutdown::new();
        let clone = shutdown.clone();
        assert!(!clone.is_requested() && !clone.is_immediate());
        shutdown.request();
        assert!(clone.is_requested() && !clone.is_immediate());
        shutdown.request();
        assert!(clone.is_requested() && clone.is_immediate());
        for _ in 0..300 {
            shutdown.request();
        }
        assert!(clone.is_requested() && clone.is_immediate());
    }

    #[tokio::test]
    async fn a_request_from_a_plain_thread_wakes_the_waiting_tasks() {
        let shutdown = Shutdown::new();
        let (first, second) = (shutdown.clone(), shutdown.clone());
        let ordered = tokio::spawn(async move { first.requested().await });
        let immediate = tokio::spawn(async move { second.immediate().await });
        let from_thread = shutdown.clone();
        std::thread::spawn(move || from_thread.request()).join().unwrap();
        tokio::time::timeout(DEADLINE, ordered).await.unwrap().unwrap();
        assert!(!immediate.is_finished());
        shutdown.request();
        tokio::time::timeout(DEADLINE, immediate).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn waiting_for_a_stage_already_reached_returns_at_once() {
        let shutdown = Shutdown::new();
        shutdown.request();
        shutdown.request();
        tokio::time::timeout(DEADLINE, shutdown.requested()).await.unwrap();
        tokio::time::timeout(DEADLINE, shutdown.immediate()).await.unwrap();
    }

    #[tokio::test]
    async fn sigterm_and_sigint_each_raise_the_stage() {
        let shutdown = Shutdown::new();
        shutdown.spawn_on_signals().unwrap();
        let pid = std::process::id().to_string();
        let kill = |signal: &str| {
            assert!(std::process::Command::new("kill").args([signal, &pid]).status().unwrap().success());
        };
        kill("-TERM");
        tokio::time::timeout(DEADLINE, shutdown.requested()).await.unwrap();
        assert!(!shutdown.is_immediate());
        kill("-INT");
        tokio::time::timeout(DEADLINE, shutdown.immediate()).await.unwrap();
    }
}
