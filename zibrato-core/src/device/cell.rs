//! The words that a metric is recorded in.
//!
//! All zero at the start, so that they lie in `.bss` and cost no flash. Words are 32 bits wide and wrap: what they have
//! come to in all is known by what they grew since they were read last. Behind the words that are recorded lie those
//! that the link keeps with them.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::claim;

/// Adds to a word that only one context writes.
#[inline(always)]
fn add(word: &AtomicU32, n: u32) {
    word.store(word.load(Relaxed).wrapping_add(n), Relaxed);
}

/// A word as it was read last, and how often it has wrapped since the boot.
#[derive(Debug)]
struct Seen {
    low: AtomicU32,
    high: AtomicU32,
}

impl Seen {
    const fn new() -> Self {
        Self { low: AtomicU32::new(0), high: AtomicU32::new(0) }
    }

    /// What a word that is `now` has come to since the boot. Only the link calls it.
    fn total(&self, now: u32) -> u64 {
        if now < self.low.load(Relaxed) {
            add(&self.high, 1);
        }
        self.low.store(now, Relaxed);
        u64::from(self.high.load(Relaxed)) << 32 | u64::from(now)
    }
}

/// A counter's words, 20 bytes.
#[derive(Debug)]
#[repr(C)]
pub struct CounterCell {
    pub(super) gate: AtomicU32,
    pub(super) taken: AtomicU32,
    sum: AtomicU32,
    seen: Seen,
}

impl CounterCell {
    /// Nothing counted, switched off if its level is on demand.
    #[must_use]
    pub const fn new() -> Self {
        Self { gate: AtomicU32::new(0), taken: AtomicU32::new(0), sum: AtomicU32::new(0), seen: Seen::new() }
    }

    /// Nothing counted, switched on or off.
    pub(super) const fn gated(is_on: bool) -> Self {
        let mut cell = Self::new();
        cell.gate = AtomicU32::new(is_on as u32);
        cell
    }

    /// Adds, in the only context that does.
    #[inline(always)]
    pub(super) fn add_alone(&self, n: u32) {
        add(&self.sum, n);
    }

    /// Adds, in any context.
    #[cfg(target_has_atomic = "32")]
    #[inline(always)]
    pub(super) fn add_shared(&self, n: u32) {
        self.sum.fetch_add(n, Relaxed);
    }

    /// Adds, in any context.
    #[cfg(all(not(target_has_atomic = "32"), feature = "critical-section"))]
    #[inline(always)]
    pub(super) fn add_shared(&self, n: u32) {
        claim::alone(|| self.add_alone(n));
    }

    pub(super) fn is_changed(&self) -> bool {
        self.sum.load(Relaxed) != self.seen.low.load(Relaxed)
    }

    pub(super) fn total(&self) -> u64 {
        self.seen.total(self.sum.load(Relaxed))
    }
}

impl Default for CounterCell {
    fn default() -> Self {
        Self::new()
    }
}

/// A gauge's words, 20 bytes.
#[derive(Debug)]
#[repr(C)]
pub struct GaugeCell {
    pub(super) gate: AtomicU32,
    pub(super) taken: AtomicU32,
    value: AtomicU32,
    sets: AtomicU32,
    seen_sets: AtomicU32,
}

impl GaugeCell {
    /// Never set, switched off if its level is on demand.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            gate: AtomicU32::new(0),
            taken: AtomicU32::new(0),
            value: AtomicU32::new(0),
            sets: AtomicU32::new(0),
            seen_sets: AtomicU32::new(0),
        }
    }

    /// Never set, switched on or off.
    pub(super) const fn gated(is_on: bool) -> Self {
        let mut cell = Self::new();
        cell.gate = AtomicU32::new(is_on as u32);
        cell
    }

    #[inline(always)]
    pub(super) fn set_alone(&self, bits: u32) {
        self.value.store(bits, Relaxed);
        add(&self.sets, 1);
    }

    #[cfg(target_has_atomic = "32")]
    #[inline(always)]
    pub(super) fn set_shared(&self, bits: u32) {
        self.value.store(bits, Relaxed);
        self.sets.fetch_add(1, Relaxed);
    }

    #[cfg(all(not(target_has_atomic = "32"), feature = "critical-section"))]
    #[inline(always)]
    pub(super) fn set_shared(&self, bits: u32) {
        claim::alone(|| self.set_alone(bits));
    }

    pub(super) fn is_changed(&self) -> bool {
        self.sets.load(Relaxed) != self.seen_sets.load(Relaxed)
    }

    /// How often it was set, and the bits of the last value. A value may be one newer than the number of sets says.
    pub(super) fn total(&self) -> (u32, u32) {
        let sets = self.sets.load(Relaxed);
        self.seen_sets.store(sets, Relaxed);
        (sets, self.value.load(Relaxed))
    }
}

impl Default for GaugeCell {
    fn default() -> Self {
        Self::new()
    }
}

/// A timer's words, 40 bytes, and 4 for each bucket.
#[derive(Debug)]
#[repr(C)]
pub struct TimerCell<const BUCKETS: usize = 0> {
    pub(super) words: TimerWords,
    pub(super) buckets: [AtomicU32; BUCKETS],
}

/// What every timer has.
#[derive(Debug)]
#[repr(C)]
pub struct TimerWords {
    pub(super) gate: AtomicU32,
    pub(super) taken: AtomicU32,
    count: AtomicU32,
    sum: AtomicU32,
    max: AtomicU32,
    /// The complement of the smallest duration, so that 0 is none.
    min_complement: AtomicU32,
    seen_count: Seen,
    seen_sum: Seen,
}

/// What a timer has come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TimerTotal {
    pub(super) count: u64,
    pub(super) sum: u64,
    pub(super) range: Option<(u32, u32)>,
}

impl<const BUCKETS: usize> TimerCell<BUCKETS> {
    /// Nothing recorded, switched off if its level is on demand.
    #[must_use]
    pub const fn new() -> Self {
        const { assert!(BUCKETS <= crate::link::BUCKETS_MAX, "buckets: accepted are at most 124") };
        let words = TimerWords {
            gate: AtomicU32::new(0),
            taken: AtomicU32::new(0),
            count: AtomicU32::new(0),
            sum: AtomicU32::new(0),
            max: AtomicU32::new(0),
            min_complement: AtomicU32::new(0),
            seen_count: Seen::new(),
            seen_sum: Seen::new(),
        };
        Self { words, buckets: [const { AtomicU32::new(0) }; BUCKETS] }
    }

    /// Nothing recorded, switched on or off.
    pub(super) const fn gated(is_on: bool) -> Self {
        let mut cell = Self::new();
        cell.words.gate = AtomicU32::new(is_on as u32);
        cell
    }

    /// Records a duration, in the only context that does.
    #[inline(always)]
    pub(super) fn record_alone(&self, ticks: u32) {
        self.words.record_alone(ticks);
        if let Some(bucket) = self.bucket(ticks) {
            add(bucket, 1);
        }
    }

    /// Records a duration, in any context.
    #[cfg(target_has_atomic = "32")]
    #[inline(always)]
    pub(super) fn record_shared(&self, ticks: u32) {
        self.words.record_shared(ticks);
        if let Some(bucket) = self.bucket(ticks) {
            bucket.fetch_add(1, Relaxed);
        }
    }

    /// Records a duration, in any context.
    #[cfg(all(not(target_has_atomic = "32"), feature = "critical-section"))]
    #[inline(always)]
    pub(super) fn record_shared(&self, ticks: u32) {
        claim::alone(|| self.record_alone(ticks));
    }

    /// The bucket of a duration, the last one for all that are too long; `None` without buckets.
    #[inline(always)]
    fn bucket(&self, ticks: u32) -> Option<&AtomicU32> {
        if BUCKETS == 0 {
            return None;
        }
        let bucket = crate::link::bucket_of(ticks);
        self.buckets.get(if bucket < BUCKETS { bucket } else { BUCKETS - 1 })
    }
}

impl<const BUCKETS: usize> Default for TimerCell<BUCKETS> {
    fn default() -> Self {
        Self::new()
    }
}

impl TimerWords {
    #[inline(always)]
    fn record_alone(&self, ticks: u32) {
        add(&self.count, 1);
        add(&self.sum, ticks);
        if ticks > self.max.load(Relaxed) {
            self.max.store(ticks, Relaxed);
        }
        if !ticks > self.min_complement.load(Relaxed) {
            self.min_complement.store(!ticks, Relaxed);
        }
    }

    #[cfg(target_has_atomic = "32")]
    #[inline(always)]
    fn record_shared(&self, ticks: u32) {
        self.count.fetch_add(1, Relaxed);
        self.sum.fetch_add(ticks, Relaxed);
        // Most records are neither the smallest nor the largest, and a look is cheaper than a change.
        if ticks > self.max.load(Relaxed) {
            self.max.fetch_max(ticks, Relaxed);
        }
        if !ticks > self.min_complement.load(Relaxed) {
            self.min_complement.fetch_max(!ticks, Relaxed);
        }
    }

    pub(super) fn is_changed(&self) -> bool {
        self.count.load(Relaxed) != self.seen_count.low.load(Relaxed)
    }

    /// Count and sum since the boot, and the range since the last call.
    pub(super) fn total(&self) -> TimerTotal {
        let count = self.seen_count.total(self.count.load(Relaxed));
        let sum = self.seen_sum.total(self.sum.load(Relaxed));
        let (max, complement) = (claim::take(&self.max), claim::take(&self.min_complement));
        // Only a duration of 2^32 - 1 leaves no complement, and it is a largest one; one of 0 no largest.
        let range = (max != 0 || complement != 0).then(|| ((!complement).min(max), max));
        TimerTotal { count, sum, range }
    }
}
