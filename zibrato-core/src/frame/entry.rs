//! Series entries (WIRE.md section 5): what identifies a series, and its cumulative state.

use core::fmt;

use heapless::Vec;
use serde::ser::SerializeTuple;
use serde::{Deserialize, Serialize, Serializer};

use super::buckets::BucketRuns;
use super::split_length;
use crate::kind::Kind;
use crate::limits::{HISTOGRAM_SCALE, HISTOGRAM_SCALE_MIN, TAGS_MAX};
use crate::text::Field;

/// One series of a frame with its cumulative state.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry<'a> {
    /// Metric name.
    pub name: &'a str,
    /// Source; empty means the prelude's.
    pub source: &'a str,
    /// Unit; empty means none.
    pub unit: &'a str,
    /// Tags, in the order of their keys, each key once.
    pub tags: Vec<(&'a str, &'a str), TAGS_MAX>,
    /// What it measured since the publisher's start.
    pub state: State<'a>,
}

/// Cumulative state of a series. On the wire the fields follow the kind in this order.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum State<'a> {
    /// A counter.
    Counter {
        /// Sum of all increments, wrapping.
        sum: u64,
    },
    /// A gauge.
    Gauge {
        /// How often it was set, wrapping.
        sets: u64,
        /// The value set last; finite.
        last: f64,
        /// When it was seen, unix milliseconds on the publisher's wall clock.
        last_ms: u64,
        /// Smallest value of the window in which it was set last.
        min: f64,
        /// Largest value of that window.
        max: f64,
    },
    /// A timer.
    Timer {
        /// Records, wrapping.
        count: u64,
        /// Sum of durations in nanoseconds, wrapping.
        sum_ns: u64,
        /// Sum of squares in square nanoseconds, wrapping.
        sum_squares_ns2: u128,
        /// Smallest and largest duration of the window in nanoseconds; `None` if it had none.
        window_ns: Option<(u64, u64)>,
        /// Distribution, in seconds.
        #[serde(borrow)]
        histogram: HistogramState<'a>,
    },
}

impl State<'_> {
    /// The kind this is a state of.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Counter { .. } => Kind::Counter,
            Self::Gauge { .. } => Kind::Gauge,
            Self::Timer { .. } => Kind::Timer,
        }
    }
}

/// Bucket counts of a timer, absolute or as differences to a key frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistogramState<'a> {
    /// Scale: bucket `i` holds durations in `(b^i, b^(i+1)]` seconds with `b = 2^(2^-scale)`.
    pub scale: i8,
    /// Durations of 0.
    pub zero: u64,
    /// 0 if the counts are absolute; else the name (`seq` of part 0) of the key frame whose counts
    /// of this series are to be added, after both were brought to the lower scale.
    pub base: u64,
    /// Index of the first count.
    pub offset: i32,
    /// Counts, see [`BucketRuns`].
    #[serde(borrow)]
    pub counts: &'a [u8],
}

impl<'a> HistogramState<'a> {
    /// No counts at the default scale.
    pub const EMPTY: Self = Self { scale: HISTOGRAM_SCALE, zero: 0, base: 0, offset: 0, counts: &[] };

    /// The counts from [`HistogramState::offset`] on.
    #[must_use]
    pub const fn buckets(&self) -> BucketRuns<'a> {
        BucketRuns::new(self.counts)
    }

    fn check(&self) -> Result<(), EntryError> {
        let scale = HISTOGRAM_SCALE_MIN..=HISTOGRAM_SCALE;
        let count = BucketRuns::count_all(self.counts).ok_or(EntryError::State)?;
        // Indices of all doubles at the default scale fit; this keeps their arithmetic in range.
        let ends_in_range = self.offset.unsigned_abs() < 1 << 20 && count < 1 << 20;
        if scale.contains(&self.scale) && ends_in_range { Ok(()) } else { Err(EntryError::State) }
    }
}

impl<'a> Entry<'a> {
    /// A series without source, unit and tags of its own.
    #[must_use]
    pub const fn new(name: &'a str, state: State<'a>) -> Self {
        Self { name, source: "", unit: "", tags: Vec::new(), state }
    }

    /// Refuses what no decoder may pass on.
    ///
    /// # Errors
    /// [`EntryError::Text`], [`EntryError::Tags`], [`EntryError::NotFinite`], [`EntryError::State`].
    pub fn check(&self) -> Result<(), EntryError> {
        check_texts(self.name, self.source, self.unit, &self.tags)?;
        match &self.state {
            State::Counter { .. } => Ok(()),
            State::Gauge { last, min, max, .. } if [last, min, max].iter().all(|value| value.is_finite()) => {
                Ok(())
            }
            State::Gauge { .. } => Err(EntryError::NotFinite),
            State::Timer { histogram, .. } => histogram.check(),
        }
    }

    fn parse(bytes: &'a [u8]) -> Result<Self, EntryError> {
        let (&code, bytes) = bytes.split_first().ok_or(EntryError::State)?;
        let kind = Kind::from_code(code).ok_or(EntryError::UnknownKind { code })?;
        let (head, bytes) = postcard::take_from_bytes::<Head<'a>>(bytes).map_err(|_| EntryError::State)?;
        let state = match kind {
            Kind::Counter => {
                let (sum, _newer) = take::<u64>(bytes)?;
                State::Counter { sum }
            }
            Kind::Gauge => {
                let ((sets, last, last_ms, min, max), _newer) = take::<(u64, f64, u64, f64, f64)>(bytes)?;
                State::Gauge { sets, last, last_ms, min, max }
            }
            Kind::Timer => {
                let ((count, sum_ns, sum_squares_ns2, window_ns, histogram), _newer) =
                    take::<(u64, u64, u128, Option<(u64, u64)>, HistogramState<'a>)>(bytes)?;
                State::Timer { count, sum_ns, sum_squares_ns2, window_ns, histogram }
            }
        };
        let Head { name, source, unit, tags } = head;
        let entry = Self { name, source, unit, tags, state };
        entry.check()?;
        Ok(entry)
    }
}

impl Serialize for Entry<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(6)?;
        tuple.serialize_element(&self.state.kind().code())?;
        tuple.serialize_element(self.name)?;
        tuple.serialize_element(self.source)?;
        tuple.serialize_element(self.unit)?;
        tuple.serialize_element(&self.tags)?;
        tuple.serialize_element(&self.state)?;
        tuple.end()
    }
}

/// What tells a series from others, and its unit, as they stand behind the kind.
#[derive(Deserialize)]
pub(super) struct Head<'a> {
    #[serde(borrow)]
    pub(super) name: &'a str,
    #[serde(borrow)]
    pub(super) source: &'a str,
    #[serde(borrow)]
    pub(super) unit: &'a str,
    #[serde(borrow)]
    pub(super) tags: Vec<(&'a str, &'a str), TAGS_MAX>,
}

/// The rules for texts and tags of an entry, which hold for a metric of a sample frame as well.
pub(super) fn check_texts(
    name: &str,
    source: &str,
    unit: &str,
    tags: &[(&str, &str)],
) -> Result<(), EntryError> {
    let texts = Field::Name.accepts(name)
        && (source.is_empty() || Field::Source.accepts(source))
        && Field::Unit.accepts(unit);
    let accepted =
        |&(key, value): &(&str, &str)| Field::TagKey.accepts(key) && Field::TagValue.accepts(value);
    if !texts || !tags.iter().all(accepted) {
        return Err(EntryError::Text);
    }
    if tags.is_sorted_by(|a, b| a.0 < b.0) { Ok(()) } else { Err(EntryError::Tags) }
}

/// Bytes behind the known fields belong to a newer minor version and are returned.
pub(super) fn take<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<(T, &'a [u8]), EntryError> {
    postcard::take_from_bytes(bytes).map_err(|_| EntryError::State)
}

/// The series entries of a frame.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    bytes: &'a [u8],
}

impl<'a> Entries<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, EntryError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.bytes.is_empty() {
            return None;
        }
        let Some((entry, rest)) = split_length(self.bytes) else {
            self.bytes = &[];
            return Some(Err(EntryError::Length));
        };
        self.bytes = rest;
        Some(Entry::parse(entry))
    }
}

/// Why one entry of a frame was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum EntryError {
    /// The length before the entry is wrong; what follows in the frame is lost with it.
    Length,
    /// A kind of a later version.
    UnknownKind {
        /// Its wire code.
        code: u8,
    },
    /// The fields cannot be read, or are out of range.
    State,
    /// A name, source, unit or tag is not accepted.
    Text,
    /// Tags are not in the order of their keys, or a key stands twice.
    Tags,
    /// A gauge value is NaN or infinite.
    NotFinite,
}

impl EntryError {
    /// A stable lower-case word for counters and logs.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Length => "entry_length",
            Self::UnknownKind { .. } => "unknown_kind",
            Self::State => "entry_state",
            Self::Text => "entry_text",
            Self::Tags => "entry_tags",
            Self::NotFinite => "not_finite",
        }
    }
}

impl fmt::Display for EntryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length => f.write_str("entry is longer than its frame"),
            Self::UnknownKind { code } => write!(f, "entry of kind {code} is not known: accepted are 0 to 2"),
            Self::State => f.write_str("entry cannot be read"),
            Self::Text => f.write_str("a name, source, unit or tag of the entry is not accepted"),
            Self::Tags => f.write_str("tags of the entry are not in the order of their keys, each once"),
            Self::NotFinite => f.write_str("a gauge value of the entry is not finite"),
        }
    }
}

impl core::error::Error for EntryError {}
