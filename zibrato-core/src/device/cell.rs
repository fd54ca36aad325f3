//! The words that a metric is recorded in.
//!
//! All zero at the start, so that they lie in `.bss` and cost no flash. Words are 32 bits wide and wrap: what they have
//! come to in all is known by what they grew since they were sent last. Behind the words that are recorded lie those
//! that the link keeps with them.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::link::{BUCKETS_EVERY_WINDOWS, Form, Writer};

use super::claim;

/// A cell of any kind, as the link reads it.
///
/// Each kind writes itself, so that a device has the code of those kinds only that it has metrics of.
pub trait Cell: Sync {
    /// Opens or shuts its gate.
    #[doc(hidden)]
    fn gate(&self) -> &AtomicU32;

    /// Whether something was recorded since it was written last, and such a cell goes out in the window of this number.
    #[doc(hidden)]
    fn is_due(&self, window: u32) -> bool;

    /// Writes what it has come to, from part `from` on, into a frame with room for [`ENTRY_BYTES_MAX`]; the part to go on
    /// with in the next frame, 0 if there is none.
    #[doc(hidden)]
    fn write(&self, writer: &mut Writer<'_>, id: u16, form: Form, from: usize) -> usize;
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
    #[inline(never)]
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

    pub(super) const fn taken(&self) -> &AtomicU32 {
        &self.taken
    }
}

impl Cell for CounterCell {
    fn gate(&self) -> &AtomicU32 {
        &self.gate
    }

    fn is_due(&self, _: u32) -> bool {
        self.sum.load(Relaxed) != self.seen.low.load(Relaxed)
    }

    fn write(&self, writer: &mut Writer<'_>, id: u16, form: Form, _: usize) -> usize {
        writer.varint(form.key(id).into());
        writer.varint(self.seen.total(self.sum.load(Relaxed)));
        0
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

    pub(super) const fn taken(&self) -> &AtomicU32 {
        &self.taken
    }
}

impl Cell for GaugeCell {
    fn gate(&self) -> &AtomicU32 {
        &self.gate
    }

    fn is_due(&self, _: u32) -> bool {
        self.sets.load(Relaxed) != self.seen_sets.load(Relaxed)
    }

    fn write(&self, writer: &mut Writer<'_>, id: u16, form: Form, _: usize) -> usize {
        let sets = self.sets.load(Relaxed);
        self.seen_sets.store(sets, Relaxed);
        writer.varint(form.key(id).into());
        writer.varint(sets.into());
        // It may be one newer than the number of sets says.
        let bits = self.value.load(Relaxed);
        match form {
            Form::Float => writer.bytes(&bits.to_le_bytes()),
            _ => writer.zigzag(bits.cast_signed()),
        }
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
    pub(super) words: TimerWords,
    pub(super) buckets: [AtomicU32; BUCKETS],
}

/// What every timer has.
#[derive(Debug)]
#[repr(C)]
pub(super) struct TimerWords {
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

    pub(super) const fn taken(&self) -> &AtomicU32 {
        &self.words.taken
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

    /// Writes count and sum since the boot, and the range since the last call.
    fn write(&self, writer: &mut Writer<'_>, id: u16) {
        writer.varint(Form::Timer.key(id).into());
        writer.varint(self.seen_count.total(self.count.load(Relaxed)));
        writer.varint(self.seen_sum.total(self.sum.load(Relaxed)));
        let (max, complement) = (claim::take(&self.max), claim::take(&self.min_complement));
        // Only a duration of 2^32 - 1 leaves no complement, and it is a largest one; one of 0 no largest.
        if max == 0 && complement == 0 {
            writer.byte(0);
        } else {
            // A record may have come between the two, or be half in: then one of them is missing, and the other is both.
            let (min, max) = if complement == 0 { (max, max) } else { (!complement, max.max(!complement)) };
            writer.varint(u64::from(min) + 1);
            writer.varint((max - min).into());
        }
    }
}

impl<const BUCKETS: usize> Cell for TimerCell<BUCKETS> {
    fn gate(&self) -> &AtomicU32 {
        &self.words.gate
    }

    fn is_due(&self, window: u32) -> bool {
        (BUCKETS == 0 || window.is_multiple_of(BUCKETS_EVERY_WINDOWS))
            && self.words.count.load(Relaxed) != self.words.seen_count.low.load(Relaxed)
    }

    fn write(&self, writer: &mut Writer<'_>, id: u16, _: Form, from: usize) -> usize {
        if from == 0 {
            self.words.write(writer, id);
        }
        // Part n begins with bucket n - 1.
        if BUCKETS == 0 { 0 } else { write_buckets(writer, id, &self.buckets, from.saturating_sub(1)) }
    }
}

/// Writes buckets from `first` on, as many as there is room for; 1 more than where to go on, 0 if all that are not 0 are
/// out.
#[inline(never)]
fn write_buckets(writer: &mut Writer<'_>, id: u16, buckets: &[AtomicU32], first: usize) -> usize {
    let count = |at: usize| buckets.get(at).map_or(0, |bucket| bucket.load(Relaxed));
    let Some(last) = (first..buckets.len()).rev().find(|&at| count(at) != 0) else { return 0 };
    let first = (first..last).find(|&at| count(at) != 0).unwrap_or(last);
    if writer.room() < 3 + 2 + COUNT_BYTES_MAX {
        return first + 1;
    }
    writer.varint(Form::Buckets.key(id).into());
    writer.byte(first as u8);
    let length_at = writer.mark();
    writer.byte(0);
    let mut at = first;
    while at <= last && writer.room() >= COUNT_BYTES_MAX {
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
    use crate::link::{Body, Frame, LINE_BYTES_MAX, Receiver, StateValue, kind};

    /// The range that is sent of words that a record was half in.
    fn range_of(max: u32, min: u32) -> Option<(u32, u32)> {
        let cell = TimerCell::<0>::new();
        cell.words.max.store(max, Relaxed);
        cell.words.min_complement.store(!min, Relaxed);
        let mut buffer = [0; LINE_BYTES_MAX];
        let mut writer = Writer::new(&mut buffer);
        writer.start(kind::STATE, 0);
        writer.bytes(&[0; 3]);
        cell.write(&mut writer, 0, Form::Timer, 0);
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
