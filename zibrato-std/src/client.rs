//! The client: one a process, from `build` to `shutdown`.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use zibrato_core::frame::PublisherId;
use zibrato_core::level::Level;
use zibrato_core::{Drain, clock, registry};

use crate::builder::{BuildError, Builder, Config, SHUTDOWN_DEADLINE_MAX, Wire};
use crate::drain::Worker;
use crate::gates::Gates;
use crate::legacy::LegacyQueue;
use crate::links::Links;
use crate::publisher::{Identity, Publisher, Samples};
use crate::run_time::Named;
use crate::shared::{Request, Shared};
use crate::stats::Stats;

/// How long `stats` and `flush` wait for the drain thread, which answers in milliseconds unless
/// the machine is overwhelmed.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// What a join may take beyond the shutdown's deadline.
const JOIN_GRACE: Duration = Duration::from_millis(500);

/// Carries what the process records to the broker.
///
/// While it lives, always levels are on, and on-demand levels as long as a worker subscribes to
/// them. Dropping it shuts it down within the deadline it was built with.
///
/// In a forked child an inherited client does nothing; the child may build its own, which starts
/// from zero.
#[derive(Debug)]
pub struct Client {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    publisher: PublisherId,
    process: u32,
    shutdown_deadline: Duration,
}

impl Client {
    /// Settings, all with defaults.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn start(config: Config, context: Option<zmq::Context>) -> Result<Self, BuildError> {
        let mut drain = Drain::claim().ok_or(BuildError::AlreadyRunning)?;
        clock::calibrate();
        let mut id = [0; 16];
        getrandom::fill(&mut id)
            .map_err(|error| BuildError::Start { source: std::io::Error::other(error) })?;
        let publisher = PublisherId(id);
        let links = Links::open(&context.unwrap_or_default(), &config.endpoints, publisher)
            .map_err(|(endpoint, source)| BuildError::Endpoint { endpoint, source })?;
        let identity = Identity {
            id: publisher,
            source: config.source.clone(),
            program: program(),
            host: host(),
            pid: std::process::id(),
            started: Instant::now(),
        };
        let legacy = (config.wire == Wire::Legacy).then(|| LegacyQueue::new(&config.source));
        let samples = (config.wire == Wire::Samples).then(|| Samples::new(publisher, &config.source));
        let mut state = Publisher::new(identity, config.series_max, legacy, &mut drain);
        state.samples = samples.map(Box::new);
        let shared = Arc::new(Shared::new());
        let shutdown_deadline = config.shutdown_deadline;
        let worker = Worker {
            publisher: state,
            links,
            gates: Gates::new(config.hold, config.wire),
            shared: Arc::clone(&shared),
            ends: std::collections::HashMap::new(),
            delivered: crate::stats::Flow::default(),
            alone_since: Some(Instant::now()),
            parts_at_once: 1,
            close_by: Instant::now(),
            drain,
            config,
        };
        // Only now: what was recorded before belongs to nobody, what comes after will be drained. And
        // before the thread runs, which switches by subscriptions from its first moment on.
        registry::switch(true, Vec::new());
        let ended = Ended(Arc::clone(&shared));
        let run = move || {
            let _ended = ended;
            worker.run();
        };
        let thread =
            std::thread::Builder::new().name("zibrato-drain".to_owned()).spawn(run).map_err(|source| {
                registry::switch(false, Vec::new());
                BuildError::Start { source }
            })?;
        tracing::info!(%publisher, version = env!("CARGO_PKG_VERSION"), "client started");
        Ok(Self { shared, thread: Some(thread), publisher, process: std::process::id(), shutdown_deadline })
    }

    /// This run's random id, which every frame carries.
    #[must_use]
    pub const fn publisher(&self) -> PublisherId {
        self.publisher
    }

    /// A counter whose name is known only at run time; see [`Named`].
    pub fn counter(&self, name: &str, level: Level) -> Named<crate::Counter> {
        Named::new(name, level)
    }

    /// A gauge whose name is known only at run time; see [`Named`].
    pub fn gauge(&self, name: &str, level: Level) -> Named<crate::Gauge> {
        Named::new(name, level)
    }

    /// A timer whose name is known only at run time; see [`Named`].
    pub fn timer(&self, name: &str, level: Level) -> Named<crate::Timer> {
        Named::new(name, level)
    }

    /// Ends the window now: what this thread recorded before the call is in frames that the
    /// sockets have taken, or in state if no broker is connected. Does not wait for a broker.
    pub fn flush(&self) {
        if self.is_inherited() {
            return;
        }
        let _ = self.shared.ask(Request::Flush, ANSWER_TIMEOUT);
    }

    /// Waits until a worker subscribes to `level` (with wire `legacy`, anybody; with wire `samples`, to its state
    /// or its samples), for `timeout` at
    /// most. For programs that must not miss the start of an on-demand level. Returns whether one does.
    #[must_use]
    pub fn wait_subscribed(&self, level: Level, timeout: Duration) -> bool {
        !self.is_inherited() && self.shared.wait_subscribed(level.label(), timeout)
    }

    /// What the client took, sent and lost up to now. `None` in a forked child, or if the drain
    /// thread does not answer within 2 s.
    #[must_use]
    pub fn stats(&self) -> Option<Stats> {
        if self.is_inherited() {
            return None;
        }
        self.shared.ask(Request::Stats, ANSWER_TIMEOUT)
    }

    /// Ends the client: switches every metric off, sends the last state of every level, and waits
    /// until a broker acknowledged it, for `deadline` (1 h at most); without any broker for 250 ms at most.
    /// What the sockets took and did not send yet they go on sending until the deadline.
    ///
    /// The answer's `unacknowledged` counts the levels whose end nobody confirmed, and `held` what
    /// they hold. `None` in a forked child.
    pub fn shutdown(mut self, deadline: Duration) -> Option<Stats> {
        self.end(deadline)
    }

    fn end(&mut self, deadline: Duration) -> Option<Stats> {
        let thread = self.thread.take()?;
        if self.is_inherited() {
            // The thread lives in the parent; there is nothing here to join.
            std::mem::forget(thread);
            return None;
        }
        let until = Instant::now() + deadline.min(SHUTDOWN_DEADLINE_MAX);
        self.shared.request_shutdown(until);
        while !thread.is_finished() && Instant::now() < until + JOIN_GRACE {
            std::thread::sleep(Duration::from_millis(1));
        }
        if thread.is_finished() {
            let _ = thread.join();
        }
        self.shared.last_stats()
    }

    /// Whether this is a forked child's copy of its parent's client.
    fn is_inherited(&self) -> bool {
        self.process != std::process::id()
    }
}

/// Tells whoever waits for the drain thread that it is gone, also when it panicked.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.mark_ended();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.end(self.shutdown_deadline);
    }
}

/// Name of the executable, or empty.
fn program() -> String {
    let path = std::env::current_exe().unwrap_or_default();
    path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Name of the host, or empty where the system does not tell.
fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .unwrap_or_default()
}
