//! All metrics of the program, and which of them are on (feature `std`).
//!
//! A metric registers itself at its first call, before or after a client exists. Registration and
//! switching hold one lock, so that no metric is missed by a switch; recording never takes it.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::boxed::Box;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::vec::Vec;

use crate::kind::Kind;
use crate::metric::{Metric, NO_SLOT, OFF, ON, UNREGISTERED};

/// A metric's place in the list, and its index in the slabs if it is a counter.
#[derive(Debug)]
pub(crate) struct Link {
    next: OnceLock<Option<&'static Metric>>,
    index: AtomicU32,
}

impl Link {
    pub(crate) const fn new() -> Self {
        Self { next: OnceLock::new(), index: AtomicU32::new(0) }
    }

    pub(crate) fn index(&self) -> u32 {
        self.index.load(Relaxed)
    }
}

/// How often a first record tries for the lock, giving way each time: far longer than any switch.
const LOCK_TRIES: u32 = 100_000;

struct Registry {
    newest: Option<&'static Metric>,
    metrics: usize,
    counters: u32,
    running: bool,
    subscribed: Vec<Box<str>>,
}

static REGISTRY: Mutex<Registry> =
    Mutex::new(Registry { newest: None, metrics: 0, counters: 0, running: false, subscribed: Vec::new() });

fn lock() -> MutexGuard<'static, Registry> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Registry {
    fn state_of(&self, metric: &Metric) -> u32 {
        let level = metric.level();
        let subscribed = || self.subscribed.iter().any(|label| **label == *level.label());
        let on = self.running && (!level.is_on_demand() || subscribed());
        match (on, metric.kind()) {
            (false, _) => OFF,
            (true, Kind::Counter) => metric.link.index(),
            (true, Kind::Gauge | Kind::Timer) => ON,
        }
    }
}

/// Puts a metric into the list if it is not there, and returns its state word.
///
/// Neither allocates nor waits for more than another registration or a switch. `None` if that does
/// not end: a thread of the parent held the lock when this process was forked.
pub(crate) fn register(metric: &'static Metric) -> Option<u32> {
    let mut registry = lock_for_recording()?;
    if metric.state() != UNREGISTERED {
        return Some(metric.state());
    }
    let _ = metric.link.next.set(registry.newest);
    registry.newest = Some(metric);
    registry.metrics += 1;
    if metric.kind() == Kind::Counter {
        registry.counters += 1;
        metric.link.index.store(registry.counters, Relaxed);
    }
    let state = registry.state_of(metric);
    metric.set_state(state);
    Some(state)
}

/// Takes the lock without waiting for ever.
fn lock_for_recording() -> Option<MutexGuard<'static, Registry>> {
    /// Set once the lock was not to be had: from then on it is tried once only.
    static ABANDONED: AtomicBool = AtomicBool::new(false);
    let tries = if ABANDONED.load(Relaxed) { 1 } else { LOCK_TRIES };
    for _ in 0..tries {
        match REGISTRY.try_lock() {
            Ok(registry) => return Some(registry),
            Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => std::thread::yield_now(),
        }
    }
    ABANDONED.store(true, Relaxed);
    None
}

/// All metrics registered so far, the newest first.
pub fn metrics() -> impl Iterator<Item = &'static Metric> {
    let newest = lock().newest;
    core::iter::successors(newest, |metric| metric.link.next.get().copied().flatten())
}

/// How many metrics are registered.
#[must_use]
pub fn len() -> usize {
    lock().metrics
}

/// Switches every metric: all off unless `running`; then always levels on, and on-demand levels on
/// whose label is `subscribed`.
pub fn switch(running: bool, subscribed: Vec<Box<str>>) {
    // What is replaced is freed behind the lock: an instrumented allocator may register a metric.
    let replaced;
    {
        let mut registry = lock();
        registry.running = running;
        replaced = core::mem::replace(&mut registry.subscribed, subscribed);
        let mut next = registry.newest;
        while let Some(metric) = next {
            metric.set_state(registry.state_of(metric));
            next = metric.link.next.get().copied().flatten();
        }
    }
    drop(replaced);
}

/// Makes every metric unknown to the client, for a new one.
pub fn forget_slots() {
    metrics().for_each(|metric| metric.set_slot(NO_SLOT));
}

#[cfg(test)]
pub(crate) mod tests {
    /// Runs `f` while this thread holds the lock.
    pub(crate) fn while_locked(f: impl FnOnce()) {
        let _held = super::lock();
        f();
    }
}
