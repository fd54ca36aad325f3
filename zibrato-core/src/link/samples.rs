//! Sample frames: single records, each with its time.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::take::{take_f32, take_i32, take_u8, take_u32};
use super::{Form, LinkError};

/// Values of which a frame remembers the last: one for each four low bits of an id.
pub(crate) const HISTORY: usize = 16;

/// The last value of samples with the same four low bits of their id, for both ends of the link.
///
/// Of atomics, since an array of plain words is cleared by a function that takes 170 bytes of a device's flash.
#[derive(Debug)]
pub(crate) struct History([AtomicU32; HISTORY]);

impl History {
    pub(crate) const fn new() -> Self {
        Self([const { AtomicU32::new(0) }; HISTORY])
    }

    /// Forgets them all.
    pub(crate) fn clear(&self) {
        for place in &self.0 {
            place.store(0, Relaxed);
        }
    }

    /// Puts a value in the place of the last one, which it returns. The mask keeps it in range, which the compiler sees.
    pub(crate) fn replace(&self, id: u16, value: u32) -> u32 {
        let place = &self.0[usize::from(id) & (HISTORY - 1)];
        let last = place.load(Relaxed);
        place.store(value, Relaxed);
        last
    }

    /// The last value.
    fn last(&self, id: u16) -> u32 {
        self.0[usize::from(id) & (HISTORY - 1)].load(Relaxed)
    }
}

/// A sample frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Samples<'a> {
    /// Number of the first sample since the boot, counting those that were sent, wrapping.
    pub first: u32,
    /// Records that full rings dropped since the boot, wrapping.
    pub lost: u32,
    /// Times are rounded down to this power of two, in ticks.
    pub shift: u8,
    /// When the first sample was made: ticks since the boot, the low 32 bits.
    pub time: u32,
    samples: &'a [u8],
}

impl<'a> Samples<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, LinkError> {
        let (first, body) = take_u32(body)?;
        let (lost, body) = take_u32(body)?;
        let (shift, body) = take_u8(body)?;
        let (time, samples) = take_u32(body)?;
        if u32::from(shift) >= u32::BITS {
            return Err(LinkError::Number);
        }
        Ok(Self { first, lost, shift, time: time << shift, samples })
    }

    /// Its samples; one that cannot be read is the last.
    #[must_use]
    pub fn iter(&self) -> SamplesIter<'a> {
        let Self { samples, shift, time, .. } = *self;
        SamplesIter { bytes: samples, shift, time, history: History::new() }
    }
}

/// One record.
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Sample {
    /// Which metric.
    pub id: u16,
    /// Ticks since the boot, the low 32 bits.
    pub time: u32,
    /// What was recorded.
    pub value: SampleValue,
}

/// The value of a record.
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum SampleValue {
    /// An increment of a counter.
    Increment(u32),
    /// A duration in ticks.
    Ticks(u32),
    /// What a gauge of whole numbers was set to.
    Whole(i32),
    /// What a gauge of `f32` was set to.
    Float(f32),
}

/// Samples of a frame.
#[derive(Debug)]
pub struct SamplesIter<'a> {
    bytes: &'a [u8],
    shift: u8,
    time: u32,
    history: History,
}

impl Iterator for SamplesIter<'_> {
    type Item = Result<Sample, LinkError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.bytes.is_empty() {
            return None;
        }
        let taken = self.take();
        if taken.is_err() {
            self.bytes = &[];
        }
        Some(taken)
    }
}

impl SamplesIter<'_> {
    fn take(&mut self) -> Result<Sample, LinkError> {
        let (key, rest) = take_u32(self.bytes)?;
        let (id, form) = Form::split(key)?;
        let (later, rest) = take_u32(rest)?;
        let (value, rest) = match form {
            Form::Float => take_f32(rest).map(|(value, rest)| (SampleValue::Float(value), rest))?,
            form => {
                let (change, rest) = take_i32(rest)?;
                let bits = self.history.last(id).wrapping_add_signed(change);
                self.history.replace(id, bits);
                let value = match form {
                    Form::Counter => SampleValue::Increment(bits),
                    Form::Whole => SampleValue::Whole(bits.cast_signed()),
                    _ => SampleValue::Ticks(bits),
                };
                (value, rest)
            }
        };
        let later = later << self.shift;
        (self.bytes, self.time) = (rest, self.time.wrapping_add(later));
        Ok(Sample { id, time: self.time, value })
    }
}
