//! The thread that owns the ledger: takes messages in, asks for replays, and flushes in time.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use zibrato_service::Shutdown;

use super::flusher::Flusher;
use crate::clock::WallClock;
use crate::report::View;
use crate::subscription::{Incoming, Subscription};

/// Longest wait for a message, so that an end is noticed and silence is watched.
const TICK: Duration = Duration::from_millis(50);
/// How often the ledger is asked for replays, and how often the totals show what it counts.
const LOOK: Duration = Duration::from_secs(1);
/// Messages taken in before anything else gets a turn.
const TURN_MESSAGES_MAX: u32 = 1_000;

/// What the thread owns.
pub(super) struct Keeper {
    pub(super) flusher: Flusher,
    pub(super) incoming: Receiver<Arc<Incoming>>,
    pub(super) subscription: Arc<Subscription>,
    pub(super) clock: WallClock,
    pub(super) shutdown: Shutdown,
}

impl Keeper {
    /// Runs until the lane is closed; false if nobody had asked for an end. Either way the last flush was made.
    pub(super) fn run(mut self) -> bool {
        let mut looked: Option<Instant> = None;
        while self.take_turn() {
            if looked.is_none_or(|looked| looked.elapsed() >= LOOK) {
                looked = Some(Instant::now());
                for level in self.flusher.ledger.replay_wanted(self.clock.now_ms()) {
                    self.subscription.request_replay(&level);
                }
                self.show();
            }
            let now_ms = self.clock.now_ms();
            if self.flusher.clock.wait(now_ms).is_zero() {
                // First, so that a batch that was delivered is one of publishers that are shown.
                self.show_view();
                self.flusher.flush(now_ms);
            }
        }
        let in_order = self.shutdown.is_requested();
        if !in_order {
            tracing::error!("the subscription ended by itself; flushing and stopping");
        }
        // What the subscription counts until it stops is counted too.
        self.show();
        self.flusher.flush(self.clock.now_ms());
        self.flusher.show();
        in_order
    }

    /// Shows who is there.
    fn show_view(&self) {
        self.flusher.totals.set_view(View::of(&self.subscription, &self.flusher.ledger));
    }

    /// Shows what is counted, and who is there.
    fn show(&self) {
        self.flusher.show();
        self.show_view();
        let is_connected = self.subscription.brokers().any(|(_, is_up)| is_up);
        let mut totals = self.flusher.totals.lock();
        totals.subscription = self.subscription.totals();
        totals.no_broker_since = match totals.no_broker_since {
            _ if is_connected => None,
            since => since.or_else(|| Some(Instant::now())),
        };
    }

    /// Takes in what waits, or waits for something to take in; false if nothing will come any more.
    fn take_turn(&mut self) -> bool {
        let wait = self.flusher.clock.wait(self.clock.now_ms()).min(TICK);
        let first = match self.incoming.recv_timeout(wait) {
            Ok(first) => first,
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
        };
        let now_ms = self.clock.now_ms();
        self.flusher.receive(&first, now_ms);
        for _ in 1..TURN_MESSAGES_MAX {
            let Ok(next) = self.incoming.try_recv() else { break };
            self.flusher.receive(&next, now_ms);
        }
        self.flusher.show_received();
        true
    }
}
