//! The words that a metric is recorded in.
//!
//! All zero at the start, so that they lie in `.bss` and cost no flash. Words are 32 bits wide and wrap: what they have
//! come to in all is known by what they grew since they were sent last. Behind the words that are recorded lie those
//! that the link keeps with them.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::link::{Form, Writer};

use super::claim;

/// A cell of any kind, as the link reads it.
///
/// Each kind writes itself, so that a device has the code of those kinds only that it has metrics of.
pub trait Cell: Sync {
    /// What all kinds begin with.
    #[doc(hidden)]
    fn head(&self) -> &Head;

    /// Writes what stands behind key and count, or from part `from` on what comes then; the part to go on with in the next
    /// frame, 0 if there is none. `key` is that of its item.
    #[doc(hidden)]
    fn write(&self, writer: &mut Writer, key: u32, from: usize) -> usize;
}

/// Most bytes of a state entry: key, two u64, two u32.
pub(super) const ENTRY_BYTES_MAX: usize = 3 + 10 + 10 + 5 + 5;
/// Most bytes of a count.
const COUNT_BYTES_MAX: usize = 5;

/// Adds to a word that only one context writes.
#[inline(always)]
fn add(word: &AtomicU32, n: u32) {
    word.store(word.load(Relaxed).wrapping_add(n), Relaxed);
}

/// A word that wraps, as it was when it was sent last, and how often it had wrapped then.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Wide {
    now: AtomicU32,
    seen: AtomicU32,
    high: AtomicU32,
}

impl Wide {
    const fn new() -> Self {
        Self { now: AtomicU32::new(0), seen: AtomicU32::new(0), high: AtomicU32::new(0) }
    }

    /// Whether it is another than when it was sent last.
    pub(super) fn is_changed(&self) -> bool {
        self.now.load(Relaxed) != self.seen.load(Relaxed)
    }

    /// What it has come to since the boot, which is then what was sent last. Only the link calls it.
    #[inline(never)]
    pub(super) fn total(&self) -> u64 {
        let now = self.now.load(Relaxed);
        if now < self.seen.load(Relaxed) {
            add(&self.high, 1);
        }
        self.seen.store(now, Relaxed);
        u64::from(self.high.load(Relaxed)) << 32 | u64::from(now)
    }
}

/// What every cell begins with, 20 bytes.
#[derive(Debug)]
#[repr(C)]
pub struct Head {
    pub(super) gate: AtomicU32,
    pub(super) taken: AtomicU32,
    /// What a counter has counted, how often a gauge was set, what a timer has recorded.
    pub(super) count: Wide,
}

impl Head {
    const fn gated(is_on: bool) -> Self {
        Self { gate: AtomicU32::new(is_on as u32), taken: AtomicU32::new(0), count: Wide::new() }
    }
}

/// A counter's words, 20 bytes.
#[derive(Debug)]
#[repr(C)]
pub struct CounterCell {
    head: Head,
}

impl CounterCell {
    /// Nothing counted, switched off if its level is on demand.
    #[must_use]
    pub const fn new() -> Self {
        Self::gated(false)
    }

    /// Nothing counted, switched on or off.
    pub(super) const fn gated(is_on: bool) -> Self {
        Self { head: Head::gated(is_on) }
    }

    /// Adds, in the only context that does.
    #[inline(always)]
    pub(super) fn add_alone(&self, n: u32) {
        add(&self.head.count.now, n);
    }

    /// Adds, in any context.
    #[cfg(target_has_atomic = "32")]
    #[inline(always)]
    pub(super) fn add_shared(&self, n: u32) {
        self.head.count.now.fetch_add(n, Relaxed);
    }

    /// Adds, in any context.
    #[cfg(all(not(target_has_atomic = "32"), feature = "critical-section"))]
    #[inline(always)]
    pub(super) fn add_shared(&self, n: u32) {
        claim::alone(|| self.add_alone(n));
    }
}

impl Cell for CounterCell {
    #[inline(always)]
    fn head(&self) -> &Head {
        &self.head
    }

    fn write(&self, _: &mut Writer, _: u32, _: usize) -> usize {
        0
    }
}

impl Default for CounterCell {
    fn default() -> Self {
        Self::new()
    }
}

/// A gauge's words, 24 bytes.
#[derive(Debug)]
#[repr(C)]
pub struct GaugeCell {
    head: Head,
    value: AtomicU32,
}

impl GaugeCell {
    /// Never set, switched off if its level is on demand.
    #[must_use]
    pub const fn new() -> Self {
        Self::gated(false)
    }

    /// Never set, switched on or off.
    pub(super) const fn gated(is_on: bool) -> Self {
        Self { head: Head::gated(is_on), value: AtomicU32::new(0) }
    }

    #[inline(always)]
    pub(super) fn set_alone(&self, bits: u32) {
        self.value.store(bits, Relaxed);
        add(&self.head.count.now, 1);
    }

    #[cfg(target_has_atomic = "32")]
    #[inline(always)]
    pub(super) fn set_shared(&self, bits: u32) {
        self.value.store(bits, Relaxed);
        self.head.count.now.fetch_add(1, Relaxed);
    }

    #[cfg(all(not(target_has_atomic = "32"), feature = "critical-section"))]
    #[inline(always)]
    pub(super) fn set_shared(&self, bits: u32) {
        claim::alone(|| self.set_alone(bits));
    }
}

impl Cell for GaugeCell {
    #[inline(always)]
    fn head(&self) -> &Head {
        &self.head
    }

    fn write(&self, writer: &mut Writer, key: u32, _: usize) -> usize {
        // It may be one newer than the count says.
        writer.value(key, self.value.load(Relaxed));
        0
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
    words: TimerWords,
    buckets: [AtomicU32; BUCKETS],
}

/// What every timer has.
#[derive(Debug)]
#[repr(C)]
struct TimerWords {
    head: Head,
    sum: Wide,
    max: AtomicU32,
    /// The complement of the smallest duration, so that 0 is none.
    min_complement: AtomicU32,
}

impl<const BUCKETS: usize> TimerCell<BUCKETS> {
    /// Nothing recorded, switched off if its level is on demand.
    #[must_use]
    pub const fn new() -> Self {
        Self::gated(false)
    }

    /// Nothing recorded, switched on or off.
    pub(super) const fn gated(is_on: bool) -> Self {
        const { assert!(BUCKETS <= crate::link::BUCKETS_MAX, "buckets: accepted are at most 124") };
        let words = TimerWords {
            head: Head::gated(is_on),
            sum: Wide::new(),
            max: AtomicU32::new(0),
            min_complement: AtomicU32::new(0),
        };
        Self { words, buckets: [const { AtomicU32::new(0) }; BUCKETS] }
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
        add(&self.head.count.now, 1);
        add(&self.sum.now, ticks);
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
        self.head.count.now.fetch_add(1, Relaxed);
        self.sum.now.fetch_add(ticks, Relaxed);
        // Most records are neither the smallest nor the largest, and a look is cheaper than a change.
        if ticks > self.max.load(Relaxed) {
            self.max.fetch_max(ticks, Relaxed);
        }
        if !ticks > self.min_complement.load(Relaxed) {
            self.min_complement.fetch_max(!ticks, Relaxed);
        }
    }

    /// Writes the sum since the boot, and the range since the last call.
    fn write(&self, writer: &mut Writer) {
        writer.varint(self.sum.total());
        let (max, complement) = (claim::take(&self.max), claim::take(&self.min_complement));
        // Only a duration of 2^32 - 1 leaves no complement, and it is a largest one; one of 0 no largest.
        let is_some = max | complement != 0;
        // A record may have come between the two, or be half in: then one of them is missing, and the other is both.
        let min = if complement == 0 { max } else { !complement };
        writer.varint(u64::from(min) + u64::from(is_some));
        if is_some {
            writer.varint(max.saturating_sub(min).into());
        }
    }
}

impl<const BUCKETS: usize> Cell for TimerCell<BUCKETS> {
    #[inline(always)]
    fn head(&self) -> &Head {
        &self.words.head
    }

    fn write(&self, writer: &mut Writer, key: u32, from: usize) -> usize {
        if from == 0 {
            self.words.write(writer);
        }
        // Part n begins with bucket n - 1.
        if BUCKETS == 0 { 0 } else { write_buckets(writer, key, &self.buckets, from.saturating_sub(1)) }
    }
}

/// Writes buckets from `first` on, as many as there is room for; 1 more than where to go on, 0 if all that are not 0 are
/// out.
#[inline(never)]
fn write_buckets(writer: &mut Writer, key: u32, buckets: &[AtomicU32], first: usize) -> usize {
    let count = |at: usize| buckets.get(at).map_or(0, |bucket| bucket.load(Relaxed));
    let Some(last) = (first..buckets.len()).rev().find(|&at| count(at) != 0) else { return 0 };
    let first = (first..last).find(|&at| count(at) != 0).unwrap_or(last);
    if !writer.has_room(3 + 2 + COUNT_BYTES_MAX) {
        return first + 1;
    }
    writer.varint(Form::Buckets.in_key(key).into());
    writer.byte(first as u8);
    let length_at = writer.mark();
    writer.byte(0);
    let mut at = first;
    while at <= last && writer.has_room(COUNT_BYTES_MAX) {
        writer.varint(count(at).into());
        at += 1;
    }
    writer.patch(length_at, (at - first) as u8);
    if at > last { 0 } else { at + 1 }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]
mod tests {
    use super::*;
    use crate::link::{Body, Frame, Receiver, StateValue, kind};

    /// The range that is sent of words that a record was half in.
    fn range_of(max: u32, min: u32) -> Option<(u32, u32)> {
        let cell = TimerCell::<0>::new();
        cell.words.max.store(max, Relaxed);
        cell.words.min_complement.store(!min, Relaxed);
        let mut writer = Writer::new();
        writer.start(kind::STATE);
        writer.bytes(&[0; 3]);
        let key = Form::Timer.key(0);
        writer.varint(key.into());
        writer.varint(1);
        cell.write(&mut writer, key, 0);
        let mut receiver: Receiver = Receiver::new();
        for &byte in writer.finish() {
            let Some(payload) = receiver.push(byte) else { continue };
            let Body::State(state) = Frame::parse(payload.unwrap()).unwrap().body else { unreachable!() };
            let entry = state.entries().next().unwrap().unwrap();
            let StateValue::Timer { range, .. } = entry.value else { unreachable!() };
            return range;
        }
        None
    }

    #[test]
    fn a_record_that_was_half_in_is_the_smallest_and_the_largest() {
        assert_eq!(range_of(9, 5), Some((5, 9)));
        assert_eq!(range_of(0, 5), Some((5, 5)), "not 0 to 0");
        assert_eq!(range_of(9, u32::MAX), Some((9, 9)));
        assert_eq!(range_of(0, 0), Some((0, 0)), "a duration of no ticks");
        assert_eq!(range_of(0, u32::MAX), None);
    }
}
