//! State frames: what metrics have come to since the boot.

use super::take::{take_f32, take_i32, take_u8, take_u32, take_varint};
use super::{BUCKETS_MAX, Form, LinkError};

/// Flags of a state frame.
pub(crate) mod flags {
    /// All metrics are in the frames of this window.
    pub(crate) const ALL: u8 = 1;
    /// The last frame of this window.
    pub(crate) const LAST: u8 = 2;
    /// The device ends.
    pub(crate) const END: u8 = 4;
}

/// A state frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct State<'a> {
    /// All metrics are in the frames of this window.
    pub is_all: bool,
    /// The last frame of this window.
    pub is_last: bool,
    /// The device ends.
    pub is_end: bool,
    /// Ticks since the boot.
    pub uptime: u64,
    /// Records that full rings dropped since the boot, wrapping.
    pub lost: u32,
    entries: &'a [u8],
}

impl<'a> State<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, LinkError> {
        let (bits, body) = take_u8(body)?;
        let (uptime, body) = take_varint(body)?;
        let (lost, entries) = take_u32(body)?;
        let has = |flag| bits & flag != 0;
        Ok(Self {
            is_all: has(flags::ALL),
            is_last: has(flags::LAST),
            is_end: has(flags::END),
            uptime,
            lost,
            entries,
        })
    }

    /// Its entries; one that cannot be read is the last.
    #[must_use]
    pub const fn entries(&self) -> StateEntries<'a> {
        StateEntries { bytes: self.entries }
    }
}

/// State of one metric, or some buckets of one.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct StateEntry<'a> {
    /// Which metric.
    pub id: u16,
    /// What it has come to.
    pub value: StateValue<'a>,
}

/// What a metric has come to since the boot.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum StateValue<'a> {
    /// A counter.
    Counter {
        /// Sum of all increments.
        sum: u64,
    },
    /// A gauge of whole numbers.
    Whole {
        /// How often it was set.
        sets: u64,
        /// The value set last.
        value: i32,
    },
    /// A gauge of `f32`, which may be no number.
    Float {
        /// How often it was set.
        sets: u64,
        /// The value set last.
        value: f32,
    },
    /// A timer.
    Timer {
        /// Records.
        count: u64,
        /// Ticks, wrapping.
        sum: u64,
        /// Smallest and largest duration since the last state of this metric, in ticks; `None` if there was none.
        range: Option<(u32, u32)>,
    },
    /// Some buckets of a timer.
    Buckets(Buckets<'a>),
}

/// Consecutive buckets of a timer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Buckets<'a> {
    first: u8,
    length: u8,
    counts: &'a [u8],
}

impl Buckets<'_> {
    /// Bucket and count, each wrapping at 2^32; see [`super::bucket_bounds`].
    pub fn iter(&self) -> impl Iterator<Item = (usize, u32)> + '_ {
        let mut rest = self.counts;
        (0..usize::from(self.length)).map_while(move |at| {
            let (count, behind) = take_u32(rest).ok()?;
            rest = behind;
            Some((usize::from(self.first) + at, count))
        })
    }
}

/// Entries of a state frame.
#[derive(Clone, Debug)]
pub struct StateEntries<'a> {
    bytes: &'a [u8],
}

impl<'a> Iterator for StateEntries<'a> {
    type Item = Result<StateEntry<'a>, LinkError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.bytes.is_empty() {
            return None;
        }
        match take_entry(self.bytes) {
            Ok((entry, rest)) => {
                self.bytes = rest;
                Some(Ok(entry))
            }
            Err(error) => {
                self.bytes = &[];
                Some(Err(error))
            }
        }
    }
}

fn take_entry(bytes: &[u8]) -> Result<(StateEntry<'_>, &[u8]), LinkError> {
    let (key, bytes) = take_u32(bytes)?;
    let (id, form) = Form::split(key)?;
    let (value, rest) = match form {
        Form::Counter => {
            let (sum, rest) = take_varint(bytes)?;
            (StateValue::Counter { sum }, rest)
        }
        Form::Whole => {
            let (sets, rest) = take_varint(bytes)?;
            let (value, rest) = take_i32(rest)?;
            (StateValue::Whole { sets, value }, rest)
        }
        Form::Float => {
            let (sets, rest) = take_varint(bytes)?;
            let (value, rest) = take_f32(rest)?;
            (StateValue::Float { sets, value }, rest)
        }
        Form::Timer => {
            let (count, rest) = take_varint(bytes)?;
            let (sum, rest) = take_varint(rest)?;
            let (range, rest) = take_range(rest)?;
            (StateValue::Timer { count, sum, range }, rest)
        }
        Form::Buckets => {
            let (buckets, rest) = take_buckets(bytes)?;
            (StateValue::Buckets(buckets), rest)
        }
    };
    Ok((StateEntry { id, value }, rest))
}

/// Smallest and largest duration, in ticks.
type Range = Option<(u32, u32)>;

fn take_range(bytes: &[u8]) -> Result<(Range, &[u8]), LinkError> {
    let (mark, rest) = take_varint(bytes)?;
    let Some(min) = mark.checked_sub(1) else { return Ok((None, rest)) };
    let min = u32::try_from(min).map_err(|_| LinkError::Number)?;
    let (span, rest) = take_u32(rest)?;
    let max = min.checked_add(span).ok_or(LinkError::Number)?;
    Ok((Some((min, max)), rest))
}

fn take_buckets(bytes: &[u8]) -> Result<(Buckets<'_>, &[u8]), LinkError> {
    let (first, rest) = take_u8(bytes)?;
    let (length, counts) = take_u8(rest)?;
    if usize::from(first) + usize::from(length) > BUCKETS_MAX {
        return Err(LinkError::Buckets);
    }
    let mut rest = counts;
    for _ in 0..length {
        rest = take_u32(rest)?.1;
    }
    let counts = counts.get(..counts.len() - rest.len()).unwrap_or_default();
    Ok((Buckets { first, length, counts }, rest))
}
