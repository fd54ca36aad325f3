//! Why a message is not a sample frame, or what stands in it not a sample.

use core::fmt;

use super::super::entry::EntryError;
use super::super::header::VERSION;
use crate::limits::{FRAME_BYTES_MAX, SAMPLE_METRICS_MAX};

/// Why a sample frame, or the rest of its samples, was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SamplesError {
    /// Longer than [`FRAME_BYTES_MAX`].
    Oversize {
        /// Length of the message, in bytes.
        bytes: usize,
    },
    /// The topic is not `0x04`, an accepted level and `0x00`.
    Topic,
    /// Shorter or longer than its header says.
    Length,
    /// The major version is not the one this library reads.
    Version {
        /// The version byte: major in the high, minor in the low four bits.
        version: u8,
    },
    /// Time, source or the number of metrics cannot be read.
    Head,
    /// More metrics than [`SAMPLE_METRICS_MAX`].
    MetricCount {
        /// How many it says it has.
        count: u64,
    },
    /// A metric cannot be read or breaks a rule.
    Metric(EntryError),
    /// A sample of a metric that the frame does not have.
    Index {
        /// Which one.
        index: u64,
    },
    /// A sample that cannot be read, or whose time is out of range.
    Sample,
    /// A gauge's value that is NaN or infinite.
    NotFinite,
}

impl SamplesError {
    /// A stable lower-case word for counters and logs.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Oversize { .. } => "oversize",
            Self::Topic => "topic",
            Self::Length => "length",
            Self::Version { .. } => "version",
            Self::Head => "samples_head",
            Self::MetricCount { .. } => "metric_count",
            Self::Metric(EntryError::UnknownKind { .. }) => "unknown_kind",
            Self::Metric(EntryError::Text) => "metric_text",
            Self::Metric(EntryError::Tags) => "metric_tags",
            Self::Metric(_) => "metric",
            Self::Index { .. } => "sample_index",
            Self::Sample => "sample",
            Self::NotFinite => "not_finite",
        }
    }
}

impl fmt::Display for SamplesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Oversize { bytes } => {
                write!(f, "sample frame of {bytes} bytes exceeds the limit of {FRAME_BYTES_MAX}")
            }
            Self::Topic => f.write_str("topic is not 0x04, a level and 0x00"),
            Self::Length => f.write_str("sample frame is not as long as its header says"),
            Self::Version { version } => {
                let (major, minor, accepted) = (version >> 4, version & 15, VERSION >> 4);
                write!(
                    f,
                    "sample frame version {major}.{minor} is not readable: accepted is major {accepted}"
                )
            }
            Self::Head => f.write_str("time, source or number of metrics of the sample frame cannot be read"),
            Self::MetricCount { count } => {
                write!(f, "sample frame of {count} metrics exceeds the limit of {SAMPLE_METRICS_MAX}")
            }
            Self::Metric(EntryError::UnknownKind { code }) => {
                write!(f, "metric of kind {code} is not known: accepted are 0 to 2")
            }
            Self::Metric(EntryError::Text) => {
                f.write_str("a name, source, unit or tag of a metric is not accepted")
            }
            Self::Metric(EntryError::Tags) => {
                f.write_str("tags of a metric are not in the order of their keys, each once")
            }
            Self::Metric(_) => f.write_str("a metric of the sample frame cannot be read"),
            Self::Index { index } => write!(f, "sample of metric {index}, which the frame does not have"),
            Self::Sample => f.write_str("a sample cannot be read"),
            Self::NotFinite => f.write_str("a gauge value of a sample is not finite"),
        }
    }
}

impl core::error::Error for SamplesError {}
