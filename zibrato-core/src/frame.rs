//! The unit on the wire: topic, fixed header, prelude and series entries (WIRE.md is normative).
//!
//! One frame is one ZeroMQ message. A frame stands alone: whoever reads it needs no other frame to
//! know the count and sum of each series in it. Decoders are total: any bytes give a value or a
//! [`FrameError`], without a panic and without allocating.
//!
//! ```
//! use zibrato_core::frame::{Encoder, Entry, Frame, Header, Prelude, PublisherId, State};
//!
//! let mut buffer = [0; 256];
//! let header = Header::new(PublisherId([7; 16]), 1);
//! let mut encoder = Encoder::new(&mut buffer, "info", &header, &Prelude::default()).unwrap();
//! encoder.push(&Entry::new("web.requests", State::Counter { sum: 4 })).unwrap();
//! let bytes = encoder.finish();
//!
//! let frame = Frame::parse(bytes).unwrap();
//! assert_eq!(frame.level, "info");
//! let entry = frame.entries().next().unwrap().unwrap();
//! assert_eq!(entry.name, "web.requests");
//! ```

mod buckets;
mod control;
mod entry;
mod header;
mod samples;

pub(crate) use buckets::take_varint;
pub use buckets::{BucketRuns, encode_buckets};
pub use control::{Ack, Forwarded, Replay, ReplayMessage, Topic, legacy_topic, topic};
pub use entry::{Entries, Entry, EntryError, HistogramState, State};
pub use header::{
    Flags, HEADER_BYTES, Header, PublisherId, TOPIC_FORWARDED, TOPIC_REPLAY, TOPIC_SAMPLES, TOPIC_STATE,
    USER_ACK, VERSION,
};

pub use samples::{
    SAMPLES_HEADER_BYTES, Sample, SampleFrame, SampleMetric, SampleValue, Samples, SamplesEncoder,
    SamplesError, SamplesHeader, set_numbers, split_samples_topic,
};

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::limits::{FRAME_BYTES_MAX, LOSSES_MAX};
use crate::text::Field;

/// A decoded frame that borrows the message.
#[derive(Clone, Debug)]
pub struct Frame<'a> {
    /// Level label from the topic.
    pub level: &'a str,
    /// The fixed header.
    pub header: Header,
    /// What the publisher says of itself and of the window.
    pub prelude: Prelude<'a>,
    entries: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Reads a whole message of topic [`TOPIC_STATE`].
    ///
    /// # Errors
    /// [`FrameError`] says what is wrong; the message is then to be counted and dropped whole. An
    /// entry that is wrong costs only itself, see [`Frame::entries`].
    pub fn parse(message: &'a [u8]) -> Result<Self, FrameError> {
        let (level, rest) = split_topic(message)?;
        Self::parse_untopiced(level, rest)
    }

    /// As [`Frame::parse`], for the bytes after the topic, as a replay carries them.
    ///
    /// # Errors
    /// As [`Frame::parse`].
    pub fn parse_untopiced(level: &'a str, bytes: &'a [u8]) -> Result<Self, FrameError> {
        let header = Header::parse(bytes)?;
        let body = &bytes[HEADER_BYTES..];
        let (prelude_bytes, entries) = split_length(body).ok_or(FrameError::Prelude)?;
        // Bytes behind the known fields belong to a newer minor version.
        let (prelude, _newer) =
            postcard::take_from_bytes::<Prelude<'a>>(prelude_bytes).map_err(|_| FrameError::Prelude)?;
        if !Field::Source.accepts(prelude.source) {
            return Err(FrameError::Prelude);
        }
        Ok(Self { level, header, prelude, entries })
    }

    /// The series entries in wire order.
    ///
    /// An entry that cannot be read is an error of its own; the iteration goes on behind it unless
    /// its length is wrong, which ends it.
    #[must_use]
    pub fn entries(&self) -> Entries<'a> {
        Entries::new(self.entries)
    }
}

/// The level of a state message and the bytes behind its topic.
///
/// # Errors
/// [`FrameError::Topic`], [`FrameError::Oversize`].
pub fn split_topic(message: &[u8]) -> Result<(&str, &[u8]), FrameError> {
    if message.len() > FRAME_BYTES_MAX {
        return Err(FrameError::Oversize { bytes: message.len() });
    }
    let [TOPIC_STATE, rest @ ..] = message else { return Err(FrameError::Topic) };
    control::split_level(rest).ok_or(FrameError::Topic)
}

/// What each part of a frame says of the publisher and its window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prelude<'a> {
    /// End of the window, unix milliseconds on the publisher's wall clock.
    pub window_end_ms: u64,
    /// Length of the window, in milliseconds; 0 in a heartbeat.
    pub window_ms: u32,
    /// Source of every series in the frame that has none of its own.
    #[serde(borrow)]
    pub source: &'a str,
    /// Losses of this publisher since its start, cumulative, by reason.
    pub losses: heapless::Vec<Loss, LOSSES_MAX>,
    /// Who publishes; in every part of a key frame, else `None`.
    pub about: Option<About<'a>>,
}

impl Default for Prelude<'_> {
    fn default() -> Self {
        Self {
            window_end_ms: 0,
            window_ms: 0,
            source: crate::limits::SOURCE_DEFAULT,
            losses: heapless::Vec::new(),
            about: None,
        }
    }
}

/// Who publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct About<'a> {
    /// Name of the program or device.
    pub program: &'a str,
    /// Host name.
    pub host: &'a str,
    /// Process id; 0 where there is none.
    pub pid: u32,
    /// Version of the publishing library.
    pub library: &'a str,
}

/// How many measurements a publisher refused, dropped or spilled for one reason, since its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Loss {
    /// Wire code of a [`LossReason`]; a code of a later version is kept as it is.
    pub reason: u8,
    /// Count, cumulative.
    pub count: u64,
}

/// Why measurements were not counted in the ordinary way (WIRE.md section 6).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum LossReason {
    /// Folded into the metric's spill cell because the ring was full or the thread was ending.
    /// Nothing is lost: only the position in the histogram is that of the mean.
    Spilled = 0,
    /// Refused: the value was NaN or infinite.
    NotFinite = 1,
    /// Refused: another metric of the same name has another kind.
    KindClash = 2,
    /// Kept in the overflow series, because the publisher has as many series as it may have.
    SeriesLimit = 3,
    /// A timer's clock went backwards, or a sampled timer ended without one timed call to go by; the
    /// duration was counted as 0.
    ClockBackwards = 4,
    /// Dropped with a ring whose indices were out of range.
    Corrupt = 5,
    /// Dropped: the queue of legacy messages was full.
    LegacyQueue = 6,
    /// Dropped on a device whose ring was full and that has no spill cell.
    RingFull = 7,
    /// Missing in sample frames; state has counted them as any other (WIRE.md section 14).
    Samples = 8,
}

impl LossReason {
    /// All reasons of this version, in wire order.
    pub const ALL: [Self; 9] = [
        Self::Spilled,
        Self::NotFinite,
        Self::KindClash,
        Self::SeriesLimit,
        Self::ClockBackwards,
        Self::Corrupt,
        Self::LegacyQueue,
        Self::RingFull,
        Self::Samples,
    ];

    /// The wire code.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// A stable lower-case word for counters and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Spilled => "spilled",
            Self::NotFinite => "not_finite",
            Self::KindClash => "kind_clash",
            Self::SeriesLimit => "series_limit",
            Self::ClockBackwards => "clock_backwards",
            Self::Corrupt => "corrupt",
            Self::LegacyQueue => "legacy_queue",
            Self::RingFull => "ring_full",
            Self::Samples => "samples",
        }
    }
}

/// Writes one frame into a borrowed buffer.
#[derive(Debug)]
pub struct Encoder<'b> {
    buffer: &'b mut [u8],
    header_at: usize,
    length: usize,
}

impl<'b> Encoder<'b> {
    /// Starts a frame of at most `buffer.len()` bytes, and never more than [`FRAME_BYTES_MAX`].
    ///
    /// # Errors
    /// [`EncodeError::Full`] if topic, header and prelude do not fit; [`EncodeError::Text`] if the
    /// level or the prelude's source is not accepted.
    pub fn new(
        buffer: &'b mut [u8],
        level: &str,
        header: &Header,
        prelude: &Prelude<'_>,
    ) -> Result<Self, EncodeError> {
        if !Field::Level.accepts(level) || !Field::Source.accepts(prelude.source) {
            return Err(EncodeError::Text);
        }
        let limit = buffer.len().min(FRAME_BYTES_MAX);
        let buffer = &mut buffer[..limit];
        let header_at = level.len() + 2;
        if limit < header_at + HEADER_BYTES {
            return Err(EncodeError::Full);
        }
        buffer[0] = TOPIC_STATE;
        buffer[1..=level.len()].copy_from_slice(level.as_bytes());
        buffer[level.len() + 1] = 0;
        header.write(&mut buffer[header_at..header_at + HEADER_BYTES]);
        let mut encoder = Self { buffer, header_at, length: header_at + HEADER_BYTES };
        encoder.push_sized(prelude)?;
        Ok(encoder)
    }

    /// Appends one series.
    ///
    /// # Errors
    /// [`EncodeError::Full`] if it does not fit; the frame is then as it was before the call.
    /// [`EncodeError::Text`] if a text of the entry is not accepted.
    pub fn push(&mut self, entry: &Entry<'_>) -> Result<(), EncodeError> {
        entry.check().map_err(|_| EncodeError::Text)?;
        self.push_sized(entry)
    }

    /// Length so far, in bytes.
    #[must_use]
    pub const fn length(&self) -> usize {
        self.length
    }

    /// Ends the frame: writes the body length into the header and returns the message.
    #[must_use]
    pub fn finish(self) -> &'b [u8] {
        let body = self.length - self.header_at - HEADER_BYTES;
        // The buffer is at most FRAME_BYTES_MAX long, so the length fits.
        header::set_body_bytes(&mut self.buffer[self.header_at..], body as u32);
        &self.buffer[..self.length]
    }

    /// Writes `value` with its length before it. The length takes one byte up to 127, so the value
    /// is written one byte in and moved up when its length needs more.
    fn push_sized<T: Serialize>(&mut self, value: &T) -> Result<(), EncodeError> {
        let free = &mut self.buffer[self.length..];
        let Some(room) = free.get_mut(1..) else { return Err(EncodeError::Full) };
        let used = postcard::to_slice(value, room).map_err(|_| EncodeError::Full)?.len();
        let mut prefix = [0; 5];
        let prefix_bytes = buckets::put_varint(used as u64, &mut prefix).ok_or(EncodeError::Full)?;
        if prefix_bytes + used > free.len() {
            return Err(EncodeError::Full);
        }
        free.copy_within(1..1 + used, prefix_bytes);
        free[..prefix_bytes].copy_from_slice(&prefix[..prefix_bytes]);
        self.length += prefix_bytes + used;
        Ok(())
    }
}

/// Sets in an encoded message of `level` which part of how many it is.
///
/// A publisher learns the number of parts only when it has encoded the last one.
pub fn set_parts(message: &mut [u8], level: &str, part: u16, of: u16) {
    if let Some(header) = message.get_mut(level.len() + 2..).filter(|header| header.len() >= HEADER_BYTES) {
        header::set_parts(header, part, of);
    }
}

/// Sets in the bytes behind a topic how long the broker held the frame, in milliseconds.
pub fn set_held_ms(untopiced: &mut [u8], held_ms: u32) {
    if untopiced.len() >= HEADER_BYTES {
        header::set_held_ms(untopiced, held_ms);
    }
}

/// Sets in the bytes behind a topic who publishes. A recording is played as a new run with it.
pub fn set_publisher(untopiced: &mut [u8], publisher: PublisherId) {
    if untopiced.len() >= HEADER_BYTES {
        header::set_publisher(untopiced, publisher);
    }
}

/// Sets in the bytes behind a topic how old the publisher was, in milliseconds.
pub fn set_age_ms(untopiced: &mut [u8], age_ms: u64) {
    if untopiced.len() >= HEADER_BYTES {
        header::set_age_ms(untopiced, age_ms);
    }
}

/// Splits `length` varint, that many bytes, rest.
fn split_length(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = take_varint(bytes)?;
    let length = usize::try_from(length).ok()?;
    (length <= rest.len()).then(|| rest.split_at(length))
}

/// Why a frame could not be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum EncodeError {
    /// The buffer or the frame limit is too small for what was to be added.
    Full,
    /// A level, name, source, unit or tag is not accepted; see [`crate::text::Field`].
    Text,
    /// A sample is of no metric of its frame, of another kind than its metric, or not finite.
    Sample,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => {
                write!(f, "frame is full: the limit is the buffer's length, at most {FRAME_BYTES_MAX} bytes")
            }
            Self::Text => f.write_str("a level, name, source, unit or tag of the frame is not accepted"),
            Self::Sample => f.write_str(
                "sample is not accepted: give a finite value of the kind of a metric of this frame",
            ),
        }
    }
}

impl core::error::Error for EncodeError {}

/// Why a message is not a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum FrameError {
    /// Longer than [`FRAME_BYTES_MAX`].
    Oversize {
        /// Length of the message, in bytes.
        bytes: usize,
    },
    /// The topic is not `0x01`, an accepted level and `0x00`.
    Topic,
    /// Shorter or longer than its header says.
    Length,
    /// The major version is not the one this library reads.
    Version {
        /// The version byte: major in the high, minor in the low four bits.
        version: u8,
    },
    /// `part` is not below `of`, or `seq` is too small for its part.
    Parts,
    /// The prelude cannot be read.
    Prelude,
}

impl FrameError {
    /// A stable lower-case word for counters and logs.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Oversize { .. } => "oversize",
            Self::Topic => "topic",
            Self::Length => "length",
            Self::Version { .. } => "version",
            Self::Parts => "parts",
            Self::Prelude => "prelude",
        }
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Oversize { bytes } => {
                write!(f, "frame of {bytes} bytes exceeds the limit of {FRAME_BYTES_MAX}")
            }
            Self::Topic => f.write_str("topic is not 0x01, a level and 0x00"),
            Self::Length => f.write_str("frame is not as long as its header says"),
            Self::Version { version } => {
                write!(
                    f,
                    "frame version {}.{} is not readable: accepted is major {}",
                    version >> 4,
                    version & 15,
                    VERSION >> 4
                )
            }
            Self::Parts => f.write_str("part number of the frame is out of range"),
            Self::Prelude => f.write_str("prelude of the frame cannot be read"),
        }
    }
}

impl core::error::Error for FrameError {}

#[cfg(test)]
mod tests;
