//! All metrics of the program, and which of them are on (feature `std`).
//!
//! A metric registers itself at its first call, before or after a client exists. Registration and
//! switching hold one lock, so that no metric is missed by a switch; recording never takes it.

use std::boxed::Box;
use std::sync::{OnceLock, PoisonError};
use std::vec::Vec;

use crate::metric::{Metric, OFF, ON, UNREGISTERED};
use crate::sync::{AtomicU32, Mutex, MutexGuard, Ordering::Relaxed, const_fn};

/// A metric's place in the list, and its index in the slabs if it has cells there.
#[derive(Debug)]
pub(crate) struct Link {
    next: OnceLock<Option<&'static Metric>>,
    index: AtomicU32,
}

impl Link {
    const_fn! {
        pub(crate) fn new() -> Self {
            Self { next: OnceLock::new(), index: AtomicU32::new(0) }
        }
    }

    pub(crate) fn index(&self) -> u32 {
        self.index.load(Relaxed)
    }
}

/// The metrics, newest first, and the switches. Everything in it is reached under its lock; what
/// recording reads is the state word in each metric.
#[derive(Debug)]
pub(crate) struct Registry(Mutex<Registered>);

#[derive(Debug)]
struct Registered {
    newest: Option<&'static Metric>,
    metrics: usize,
    /// Indices given to metrics with cells.
    indices: u32,
    running: bool,
    subscribed: Vec<Box<str>>,
}

impl Registered {
    fn state_of(&self, metric: &Metric) -> u32 {
        let level = metric.level();
        let subscribed = || self.subscribed.iter().any(|label| **label == *level.label());
        let on = self.running && (!level.is_on_demand() || subscribed());
        match on {
            false => OFF,
            true if metric.has_cells() => metric.link.index(),
            true => ON,
        }
    }

    fn register(&mut self, metric: &'static Metric) -> u32 {
        if metric.state() != UNREGISTERED {
            return metric.state();
        }
        let _ = metric.link.next.set(self.newest);
        self.newest = Some(metric);
        self.metrics += 1;
        if metric.has_cells() {
            self.indices += 1;
            metric.link.index.store(self.indices, Relaxed);
        }
        let state = self.state_of(metric);
        metric.set_state(state);
        state
    }
}

impl Registry {
    const_fn! {
        pub(crate) fn new() -> Self {
            Self(Mutex::new(Registered {
                newest: None,
                metrics: 0,
                indices: 0,
                running: false,
                subscribed: Vec::new(),
            }))
        }
    }

    fn lock(&self) -> MutexGuard<'_, Registered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a metric into the list if it is not there, and returns its state word.
    #[cfg(loom)]
    pub(crate) fn register(&self, metric: &'static Metric) -> u32 {
        self.lock().register(metric)
    }

    /// Switches every metric; see [`switch`].
    pub(crate) fn switch(&self, running: bool, subscribed: Vec<Box<str>>) {
        // What is replaced is freed behind the lock: an instrumented allocator may register a metric.
        let replaced;
        {
            let mut registered = self.lock();
            registered.running = running;
            replaced = core::mem::replace(&mut registered.subscribed, subscribed);
            let mut next = registered.newest;
            while let Some(metric) = next {
                metric.set_state(registered.state_of(metric));
                next = metric.link.next.get().copied().flatten();
            }
        }
        drop(replaced);
    }
}

#[cfg(not(loom))]
pub use of_process::{forget_slots, is_on, newer_than, switch};
#[cfg(not(loom))]
pub(crate) use of_process::{indices, register};

#[cfg(not(loom))]
mod of_process {
    use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
    use std::boxed::Box;
    use std::sync::{MutexGuard, TryLockError};
    use std::vec::Vec;

    use super::{Registered, Registry};
    use crate::metric::{Metric, NO_SLOT};

    /// That of this process.
    pub(super) static REGISTRY: Registry = Registry::new();

    /// How often a first record tries for the lock, giving way each time: far longer than any switch.
    const LOCK_TRIES: u32 = 100_000;

    /// Puts a metric into the list if it is not there, and returns its state word.
    ///
    /// Neither allocates nor waits for more than another registration or a switch. `None` if that does
    /// not end: a thread of the parent held the lock when this process was forked.
    pub(crate) fn register(metric: &'static Metric) -> Option<u32> {
        Some(lock_for_recording()?.register(metric))
    }

    /// Takes the lock without waiting for ever.
    fn lock_for_recording() -> Option<MutexGuard<'static, Registered>> {
        /// Set once the lock was not to be had: from then on it is tried once only.
        static ABANDONED: AtomicBool = AtomicBool::new(false);
        let tries = if ABANDONED.load(Relaxed) { 1 } else { LOCK_TRIES };
        for _ in 0..tries {
            match REGISTRY.0.try_lock() {
                Ok(registered) => return Some(registered),
                Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => std::thread::yield_now(),
            }
        }
        ABANDONED.store(true, Relaxed);
        None
    }

    /// How many metrics with cells are registered; 0 if the lock is not to be had.
    pub(crate) fn indices() -> u32 {
        lock_for_recording().map_or(0, |registered| registered.indices)
    }

    /// How many metrics are registered, and those behind the first `seen`, the newest first: both by one
    /// look, so that none is missed and none is met twice while others register.
    pub fn newer_than(seen: usize) -> (usize, impl Iterator<Item = &'static Metric>) {
        let (newest, all) = {
            let registered = REGISTRY.lock();
            (registered.newest, registered.metrics)
        };
        let metrics = core::iter::successors(newest, |metric| metric.link.next.get().copied().flatten());
        (all, metrics.take(all.saturating_sub(seen)))
    }

    /// Whether records of a metric are taken now: what recording itself asks, for who would prepare something for it.
    #[inline]
    #[must_use]
    pub fn is_on(metric: &'static Metric) -> bool {
        metric.is_on()
    }

    /// Switches every metric: all off unless `running`; then always levels on, and on-demand levels
    /// on whose label is `subscribed`.
    pub fn switch(running: bool, subscribed: Vec<Box<str>>) {
        REGISTRY.switch(running, subscribed);
    }

    /// Makes every metric unknown to the client, for a new one.
    pub fn forget_slots() {
        newer_than(0).1.for_each(|metric| metric.set_slot(NO_SLOT));
    }
}

#[cfg(all(test, not(loom)))]
pub(crate) mod tests {
    /// Runs `f` while this thread holds the lock.
    pub(crate) fn while_locked(f: impl FnOnce()) {
        let _held = super::of_process::REGISTRY.lock();
        f();
    }
}
