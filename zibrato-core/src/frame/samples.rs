//! Sample frames (WIRE.md section 14): single measurements, for whoever wants to see each.
//!
//! They are events: what is lost is lost, and counted, and they never feed counts. A message stands
//! alone: it says whose metrics its samples are of. Decoders are total, as those of state frames.
//!
//! ```
//! use zibrato_core::frame::{PublisherId, SampleFrame, SampleMetric, SampleValue, SamplesEncoder, SamplesHeader};
//! use zibrato_core::kind::Kind;
//!
//! let mut buffer = [0; 256];
//! let header = SamplesHeader::new(PublisherId([7; 16]), 0, 0);
//! let mut encoder = SamplesEncoder::new(&mut buffer[..], "info", &header, 5_000, "host-1").unwrap();
//! let latency = encoder.add_metric(&SampleMetric::new(Kind::Timer, "web.latency")).unwrap();
//! encoder.push(latency, 5_000, SampleValue::Timer { ns: 40 }).unwrap();
//!
//! let frame = SampleFrame::parse(encoder.finish()).unwrap();
//! let sample = frame.samples().next().unwrap().unwrap();
//! assert_eq!(frame.metric(sample.metric).unwrap().name, "web.latency");
//! assert_eq!((sample.time_ns, sample.value), (5_000, SampleValue::Timer { ns: 40 }));
//! ```

mod encoder;
mod error;

pub use encoder::{SamplesEncoder, set_numbers};
pub use error::SamplesError;

use heapless::Vec;

use super::buckets::take_varint;
use super::control::split_level;
use super::entry::{EntryError, Head, check_texts, take};
use super::header::{PublisherId, TOPIC_SAMPLES, VERSION, array};
use super::split_length;
use crate::kind::Kind;
use crate::limits::{FRAME_BYTES_MAX, SAMPLE_METRICS_MAX, TAGS_MAX};
use crate::text::Field;

/// Length of the header of a sample frame, in bytes.
pub const SAMPLES_HEADER_BYTES: usize = 37;

const PUBLISHER_AT: usize = 1;
const FIRST_AT: usize = 17;
const LOST_AT: usize = 25;
const BODY_BYTES_AT: usize = 33;

/// The fixed header of a sample frame: what a broker reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SamplesHeader {
    /// Major and minor version, four bits each.
    pub version: u8,
    /// Who publishes.
    pub publisher: PublisherId,
    /// Number of the first sample, by publisher and level, counting those handed to the transport.
    pub first: u64,
    /// Samples of the level that the publisher could not hand over since its start.
    pub lost: u64,
}

impl SamplesHeader {
    /// A header of this version.
    #[must_use]
    pub const fn new(publisher: PublisherId, first: u64, lost: u64) -> Self {
        Self { version: VERSION, publisher, first, lost }
    }

    /// Reads the header of `bytes`, which start behind the topic and end where the message ends.
    ///
    /// # Errors
    /// [`SamplesError::Length`], [`SamplesError::Version`].
    pub fn parse(bytes: &[u8]) -> Result<Self, SamplesError> {
        let Some(&version) = bytes.first() else { return Err(SamplesError::Length) };
        if version >> 4 != VERSION >> 4 {
            return Err(SamplesError::Version { version });
        }
        let Some((header, body)) = bytes.split_at_checked(SAMPLES_HEADER_BYTES) else {
            return Err(SamplesError::Length);
        };
        if body.len() as u64 != u64::from(u32::from_le_bytes(array(header, BODY_BYTES_AT))) {
            return Err(SamplesError::Length);
        }
        Ok(Self {
            version,
            publisher: PublisherId(array(header, PUBLISHER_AT)),
            first: u64::from_le_bytes(array(header, FIRST_AT)),
            lost: u64::from_le_bytes(array(header, LOST_AT)),
        })
    }
}

/// The level of a sample message and the bytes behind its topic.
///
/// # Errors
/// [`SamplesError::Topic`], [`SamplesError::Oversize`].
pub fn split_samples_topic(message: &[u8]) -> Result<(&str, &[u8]), SamplesError> {
    if message.len() > FRAME_BYTES_MAX {
        return Err(SamplesError::Oversize { bytes: message.len() });
    }
    let [TOPIC_SAMPLES, rest @ ..] = message else { return Err(SamplesError::Topic) };
    split_level(rest).ok_or(SamplesError::Topic)
}

/// A metric that samples of a frame are of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SampleMetric<'a> {
    /// Counter, gauge or timer.
    pub kind: Kind,
    /// Metric name.
    pub name: &'a str,
    /// Source; empty means the frame's.
    pub source: &'a str,
    /// Unit; empty means none.
    pub unit: &'a str,
    /// Tags, in the order of their keys, each key once.
    pub tags: Vec<(&'a str, &'a str), TAGS_MAX>,
}

impl<'a> SampleMetric<'a> {
    /// A metric without source, unit and tags of its own.
    #[must_use]
    pub const fn new(kind: Kind, name: &'a str) -> Self {
        Self { kind, name, source: "", unit: "", tags: Vec::new() }
    }

    /// Reads one metric; what stands behind it comes back as well.
    fn take(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), EntryError> {
        let (&code, bytes) = bytes.split_first().ok_or(EntryError::State)?;
        let kind = Kind::from_code(code).ok_or(EntryError::UnknownKind { code })?;
        let (Head { name, source, unit, tags }, rest) = take::<Head<'a>>(bytes)?;
        check_texts(name, source, unit, &tags)?;
        Ok((Self { kind, name, source, unit, tags }, rest))
    }
}

/// What was measured once.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum SampleValue {
    /// Of a counter.
    Counter {
        /// What was added.
        increment: u64,
    },
    /// Of a gauge.
    Gauge {
        /// What it was set to; finite.
        value: f64,
    },
    /// Of a timer.
    Timer {
        /// A duration, in nanoseconds.
        ns: u64,
    },
}

impl SampleValue {
    /// The kind of metric that it belongs to.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Counter { .. } => Kind::Counter,
            Self::Gauge { .. } => Kind::Gauge,
            Self::Timer { .. } => Kind::Timer,
        }
    }
}

/// One measurement.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sample {
    /// Of which metric, for [`SampleFrame::metric`].
    pub metric: usize,
    /// When, unix nanoseconds on the publisher's clock.
    pub time_ns: u64,
    /// What.
    pub value: SampleValue,
}

/// A decoded sample frame that borrows the message.
#[derive(Clone, Debug)]
pub struct SampleFrame<'a> {
    /// Level label from the topic.
    pub level: &'a str,
    /// The fixed header.
    pub header: SamplesHeader,
    /// Time of the first sample, unix nanoseconds.
    pub time_ns: u64,
    /// Source of every metric that has none of its own.
    pub source: &'a str,
    metrics: &'a [u8],
    /// Where each metric starts in `metrics`; a message is shorter than 64 KiB by its topic.
    starts: Vec<u16, SAMPLE_METRICS_MAX>,
    samples: &'a [u8],
}

impl<'a> SampleFrame<'a> {
    /// Reads a whole message of topic [`TOPIC_SAMPLES`].
    ///
    /// # Errors
    /// [`SamplesError`] says what is wrong; the message is then to be counted and dropped whole.
    /// What is wrong with a sample is told by [`SampleFrame::samples`].
    pub fn parse(message: &'a [u8]) -> Result<Self, SamplesError> {
        let (level, untopiced) = split_samples_topic(message)?;
        let header = SamplesHeader::parse(untopiced)?;
        let body = &untopiced[SAMPLES_HEADER_BYTES..];
        let (time_ns, rest) = take_varint(body).ok_or(SamplesError::Head)?;
        let (source, rest) = split_length(rest).ok_or(SamplesError::Head)?;
        let source = core::str::from_utf8(source).ok().filter(|source| Field::Source.accepts(source));
        let source = source.ok_or(SamplesError::Head)?;
        let (count, metrics) = take_varint(rest).ok_or(SamplesError::Head)?;
        if count > SAMPLE_METRICS_MAX as u64 {
            return Err(SamplesError::MetricCount { count });
        }
        let (mut starts, mut samples) = (Vec::new(), metrics);
        for _ in 0..count {
            // Cannot fail: there are as many places as metrics at most.
            let _ = starts.push((metrics.len() - samples.len()) as u16);
            (_, samples) = SampleMetric::take(samples).map_err(SamplesError::Metric)?;
        }
        Ok(Self { level, header, time_ns, source, metrics, starts, samples })
    }

    /// The metrics, in the order of their indices.
    pub fn metrics(&self) -> impl Iterator<Item = SampleMetric<'a>> + '_ {
        (0..self.starts.len()).filter_map(|index| self.metric(index))
    }

    /// The metric of this index.
    #[must_use]
    pub fn metric(&self, index: usize) -> Option<SampleMetric<'a>> {
        let start = usize::from(*self.starts.get(index)?);
        Some(SampleMetric::take(self.metrics.get(start..)?).ok()?.0)
    }

    /// The samples, in wire order. One that cannot be read is an error and ends the iteration, since
    /// nobody can tell where the next one starts.
    #[must_use]
    pub const fn samples(&self) -> Samples<'_, 'a> {
        Samples { frame: self, bytes: self.samples, time_ns: self.time_ns }
    }

    fn kind(&self, index: usize) -> Option<Kind> {
        let start = usize::from(*self.starts.get(index)?);
        Kind::from_code(*self.metrics.get(start)?)
    }
}

/// The samples of a frame.
#[derive(Clone, Debug)]
pub struct Samples<'f, 'a> {
    frame: &'f SampleFrame<'a>,
    bytes: &'a [u8],
    time_ns: u64,
}

impl Samples<'_, '_> {
    fn read(&mut self) -> Result<Sample, SamplesError> {
        let (head, rest) = take_varint(self.bytes).ok_or(SamplesError::Sample)?;
        let (index, is_whole) = (head >> 1, head & 1 == 1);
        let metric = usize::try_from(index).map_err(|_| SamplesError::Index { index })?;
        let kind = self.frame.kind(metric).ok_or(SamplesError::Index { index })?;
        let (since_ns, rest) = take_varint(rest).ok_or(SamplesError::Sample)?;
        let time_ns = self.time_ns.checked_add(since_ns).ok_or(SamplesError::Sample)?;
        let varint = || take_varint(rest).ok_or(SamplesError::Sample);
        let (value, rest) = match (kind, is_whole) {
            (Kind::Counter, false) => {
                let (increment, rest) = varint()?;
                (SampleValue::Counter { increment }, rest)
            }
            (Kind::Timer, false) => {
                let (ns, rest) = varint()?;
                (SampleValue::Timer { ns }, rest)
            }
            (Kind::Gauge, true) => {
                let (bits, rest) = varint()?;
                (SampleValue::Gauge { value: unzigzag(bits) as f64 }, rest)
            }
            (Kind::Gauge, false) => {
                let (bytes, rest) = rest.split_first_chunk::<8>().ok_or(SamplesError::Sample)?;
                (SampleValue::Gauge { value: f64::from_le_bytes(*bytes) }, rest)
            }
            (Kind::Counter | Kind::Timer, true) => return Err(SamplesError::Sample),
        };
        if matches!(value, SampleValue::Gauge { value } if !value.is_finite()) {
            return Err(SamplesError::NotFinite);
        }
        (self.bytes, self.time_ns) = (rest, time_ns);
        Ok(Sample { metric, time_ns, value })
    }
}

impl Iterator for Samples<'_, '_> {
    type Item = Result<Sample, SamplesError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.bytes.is_empty() {
            return None;
        }
        let sample = self.read();
        if sample.is_err() {
            self.bytes = &[];
        }
        Some(sample)
    }
}

const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

const fn unzigzag(bits: u64) -> i64 {
    (bits >> 1).cast_signed() ^ -((bits & 1).cast_signed())
}

#[cfg(test)]
pub(super) mod tests;
