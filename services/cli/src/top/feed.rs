//! Listens like a worker, with the worker's own subscription and ledger, and hands over once a
//! second what happened; what a worker would spool is forgotten.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use zibrato_service::{PUBLISHER_LEVELS_MAX, PublisherReport};
use zibrato_worker::clock::WallClock;
use zibrato_worker::ledger::{self, Counts, Ledger};
use zibrato_worker::measurement::Measurement;
use zibrato_worker::subscription::{self, Incoming, Subscription};

use super::gauges::{Gauges, Known};

/// How often something is handed over.
pub(crate) const TICK: Duration = Duration::from_secs(1);
/// Longest wait for a message, so that a tick is on time.
const WAIT_MAX: Duration = Duration::from_millis(50);
/// Messages that wait for the ledger. At the limit the subscription stops reading, and then the
/// high-water mark of its sockets applies.
const INCOMING_MAX: usize = 10_000;
/// Messages taken in before the clock is looked at.
const TURN_MESSAGES_MAX: usize = 1_000;
/// Most series of the ledger, of each publisher its own; further ones are refused and counted.
const SERIES_MAX: usize = 20_000;
/// Most publishers of the ledger, each level counted by itself; further ones are refused and counted.
const PUBLISHERS_MAX: usize = 10_000;
/// Most publishers that are shown, those first that run and were heard last.
const PUBLISHERS_SHOWN_MAX: usize = 1_000;
/// Ticks that may wait for the screen. At the limit the feed waits, and messages after it.
const TICKS_MAX: usize = 4;

/// What happened in one second.
#[derive(Clone, Debug)]
pub(crate) struct Tick {
    pub(crate) measurements: Vec<Measurement>,
    /// Gauges that were not known before, with the values they have.
    pub(crate) gauges: Vec<Known>,
    /// What the ledger counted so far.
    pub(crate) counts: Counts,
    /// Series in the ledger, those too that did not change.
    pub(crate) series: usize,
    /// Who publishes.
    pub(crate) publishers: Vec<PublisherReport>,
    /// Whether the connection to the broker is up.
    pub(crate) is_connected: bool,
}

/// Why there is no feed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The subscription cannot start.
    #[error(transparent)]
    Subscription(#[from] subscription::Error),
    /// The system gives no thread.
    #[error("cannot start a thread; free memory or raise the limit of processes")]
    Thread(#[source] io::Error),
}

/// Starts to listen. The broker need not be there. The feed ends when the receiver is dropped.
pub(crate) fn start(endpoint: &str, levels: &[String]) -> Result<mpsc::Receiver<Tick>, Error> {
    let clock = WallClock::system();
    let now_ms = clock.now_ms();
    let mut config = ledger::Config::default();
    // What a publisher did before top began is nothing that happens now, however young it is.
    config.join_age_ms = 0;
    (config.series_max, config.publishers_max) = (SERIES_MAX, PUBLISHERS_MAX);
    let mut ledger = Ledger::new(config, now_ms);
    levels.iter().for_each(|level| ledger.subscribe_level(level, now_ms));
    let (messages, incoming) = sync_channel(INCOMING_MAX);
    let subscription = Subscription::start(
        &zmq::Context::new(),
        &[endpoint.to_owned()],
        levels,
        vec![("top".to_owned(), messages)],
    )?;
    let (sender, ticks) = mpsc::channel(TICKS_MAX);
    let feed = Feed { ledger, gauges: Gauges::default(), subscription, incoming, clock };
    thread::Builder::new().name("feed".to_owned()).spawn(move || feed.run(&sender)).map_err(Error::Thread)?;
    Ok(ticks)
}

struct Feed {
    ledger: Ledger,
    gauges: Gauges,
    subscription: Subscription,
    incoming: Receiver<Arc<Incoming>>,
    clock: WallClock,
}

impl Feed {
    fn run(mut self, ticks: &mpsc::Sender<Tick>) {
        let mut due = Instant::now() + TICK;
        while self.take_in(due.saturating_duration_since(Instant::now()).min(WAIT_MAX)) {
            let now = Instant::now();
            if now < due {
                continue;
            }
            // Ticks missed while the process stood still are not made up for.
            due = (due + TICK).max(now);
            if ticks.blocking_send(self.tick()).is_err() {
                return;
            }
        }
    }

    /// Takes in what comes within `wait`; false if nothing will come any more.
    fn take_in(&mut self, wait: Duration) -> bool {
        let first = match self.incoming.recv_timeout(wait) {
            Ok(first) => first,
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
        };
        let now_ms = self.clock.now_ms();
        for next in std::iter::once(first).chain(self.incoming.try_iter().take(TURN_MESSAGES_MAX)) {
            self.gauges.look(&next.message);
            self.ledger.receive(&next, now_ms);
        }
        true
    }

    fn tick(&mut self) -> Tick {
        let now_ms = self.clock.now_ms();
        for level in self.ledger.replay_wanted(now_ms) {
            self.subscription.request_replay(&level);
        }
        let flush = self.ledger.prepare_flush(now_ms);
        self.ledger.commit_flush();
        Tick {
            measurements: flush.changes.measurements(),
            gauges: self.gauges.news(),
            counts: self.ledger.counts(),
            series: self.ledger.series(),
            publishers: self.ledger.latest_publishers(PUBLISHERS_SHOWN_MAX, PUBLISHER_LEVELS_MAX),
            is_connected: self.subscription.brokers().any(|(_, is_up)| is_up),
        }
    }
}
