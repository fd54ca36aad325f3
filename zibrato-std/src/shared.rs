//! What the drain thread and the owner of the client share: requests, answers, subscriptions.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::stats::Stats;

/// What the drain thread is asked to do; the ticket names the request in the answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Request {
    Stats(u64),
    Flush(u64),
    /// Somebody waits to learn who subscribes.
    Tell,
    Shutdown(Instant),
}

#[derive(Debug)]
struct State {
    requests: Vec<Request>,
    tickets: u64,
    answered: u64,
    stats: Option<Stats>,
    ended: bool,
    /// Levels that somebody waits for, and whether a worker subscribes to them.
    levels: BTreeMap<String, bool>,
}

/// A mailbox between two threads.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// Wakes the drain thread.
    asked: Condvar,
    /// Wakes whoever waits for it.
    told: Condvar,
}

impl Shared {
    pub(crate) fn new() -> Self {
        let state = State {
            requests: Vec::new(),
            tickets: 0,
            answered: 0,
            stats: None,
            ended: false,
            levels: BTreeMap::new(),
        };
        Self { state: Mutex::new(state), asked: Condvar::new(), told: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // The drain thread's side.

    /// The next request, or `None` after `pause`.
    pub(crate) fn wait(&self, pause: Duration) -> Option<Request> {
        let state = self.lock();
        let (mut state, _) = self
            .asked
            .wait_timeout_while(state, pause, |state| state.requests.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        if state.requests.is_empty() { None } else { Some(state.requests.remove(0)) }
    }

    pub(crate) fn answer(&self, ticket: u64, stats: Stats) {
        let mut state = self.lock();
        state.answered = state.answered.max(ticket);
        state.stats = Some(stats);
        self.told.notify_all();
    }

    /// The last answer.
    pub(crate) fn end(&self, stats: Stats) {
        self.lock().stats = Some(stats);
        self.mark_ended();
    }

    /// Nobody will answer any more.
    pub(crate) fn mark_ended(&self) {
        self.lock().ended = true;
        self.told.notify_all();
    }

    pub(crate) fn update_subscribed(&self, is_subscribed: impl Fn(&str) -> bool) {
        let mut state = self.lock();
        for (label, subscribed) in &mut state.levels {
            *subscribed = is_subscribed(label);
        }
        self.told.notify_all();
    }

    // The owner's side.

    /// Asks and waits for the answer, for `timeout` at most. After the end: the last statistics.
    pub(crate) fn ask(&self, request: fn(u64) -> Request, timeout: Duration) -> Option<Stats> {
        let mut state = self.lock();
        state.tickets += 1;
        let ticket = state.tickets;
        state.requests.push(request(ticket));
        self.asked.notify_one();
        let (state, result) = self
            .told
            .wait_timeout_while(state, timeout, |state| state.answered < ticket && !state.ended)
            .unwrap_or_else(PoisonError::into_inner);
        if result.timed_out() { None } else { state.stats }
    }

    pub(crate) fn request_shutdown(&self, deadline: Instant) {
        self.lock().requests.push(Request::Shutdown(deadline));
        self.asked.notify_one();
    }

    /// The statistics of the last answer.
    pub(crate) fn last_stats(&self) -> Option<Stats> {
        self.lock().stats
    }

    /// Waits until a worker subscribes to `level`; false after `timeout` or the end.
    pub(crate) fn wait_subscribed(&self, level: &str, timeout: Duration) -> bool {
        let mut state = self.lock();
        state.levels.entry(level.to_owned()).or_insert(false);
        state.requests.push(Request::Tell);
        self.asked.notify_one();
        let waiting = |state: &mut State| !state.ended && state.levels.get(level) == Some(&false);
        let (state, _) =
            self.told.wait_timeout_while(state, timeout, waiting).unwrap_or_else(PoisonError::into_inner);
        !state.ended && state.levels.get(level) == Some(&true)
    }
}
