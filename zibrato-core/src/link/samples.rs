//! Sample frames: single records, each with its time.

use super::take::{take_f32, take_i32, take_u32};
use super::{Form, LinkError};

/// A sample frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Samples<'a> {
    /// Number of the first sample since the boot, counting those that were sent, wrapping.
    pub first: u32,
    /// Records that full rings dropped since the boot, wrapping.
    pub lost: u32,
    /// When the first sample was made: ticks since the boot, the low 32 bits.
    pub time: u32,
    samples: &'a [u8],
}

impl<'a> Samples<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, LinkError> {
        let (first, body) = take_u32(body)?;
        let (lost, body) = take_u32(body)?;
        let (time, samples) = take_u32(body)?;
        Ok(Self { first, lost, time, samples })
    }

    /// Its samples; one that cannot be read is the last.
    #[must_use]
    pub const fn iter(&self) -> SamplesIter<'a> {
        SamplesIter { bytes: self.samples, time: self.time }
    }
}

/// One record.
#[derive(Clone, Copy, PartialEq, Debug)]
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
#[derive(Clone, Debug)]
pub struct SamplesIter<'a> {
    bytes: &'a [u8],
    time: u32,
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
            Form::Counter => take_u32(rest).map(|(n, rest)| (SampleValue::Increment(n), rest))?,
            Form::Timer | Form::Buckets => {
                take_u32(rest).map(|(ticks, rest)| (SampleValue::Ticks(ticks), rest))?
            }
            Form::Whole => take_i32(rest).map(|(value, rest)| (SampleValue::Whole(value), rest))?,
            Form::Float => take_f32(rest).map(|(value, rest)| (SampleValue::Float(value), rest))?,
        };
        (self.bytes, self.time) = (rest, self.time.wrapping_add(later));
        Ok(Sample { id, time: self.time, value })
    }
}
