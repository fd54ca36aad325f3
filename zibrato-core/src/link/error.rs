//! Why bytes of a line are no frame.

use core::fmt;

use super::{BUCKETS_MAX, PAYLOAD_BYTES_MAX, PROTOCOL};

/// Why a frame, or the rest of one, was refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum LinkError {
    /// More bytes before the next `0x00` than a frame may have.
    Long,
    /// Fewer bytes than the fields need.
    Short,
    /// The encoding points beyond the frame's end.
    Cobs,
    /// The check sum differs.
    Crc,
    /// A number does not fit its field.
    Number,
    /// A text is no UTF-8 or not accepted; see [`crate::text::Field`].
    Text,
    /// Tags are too many, or not in the order of their keys, each once.
    Tags,
    /// The major version is not the one this library speaks.
    Version {
        /// The version byte: major in the high, minor in the low four bits.
        protocol: u8,
    },
    /// The clock has no ticks a second.
    Clock,
    /// An id above 65 535.
    Id,
    /// A form of a later version.
    Form {
        /// Its code.
        code: u8,
    },
    /// A level number above 31.
    Level,
    /// Buckets beyond the last one.
    Buckets,
}

impl LinkError {
    /// All reasons, in the order of their counters.
    pub const REASONS: [&'static str; 13] = [
        "long", "short", "cobs", "crc", "number", "text", "tags", "version", "clock", "id", "form", "level",
        "buckets",
    ];

    /// A stable lower-case word for counters and logs.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        Self::REASONS[self.index()]
    }

    /// Its place in [`LinkError::REASONS`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Long => 0,
            Self::Short => 1,
            Self::Cobs => 2,
            Self::Crc => 3,
            Self::Number => 4,
            Self::Text => 5,
            Self::Tags => 6,
            Self::Version { .. } => 7,
            Self::Clock => 8,
            Self::Id => 9,
            Self::Form { .. } => 10,
            Self::Level => 11,
            Self::Buckets => 12,
        }
    }
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Long => write!(f, "link frame is longer than {PAYLOAD_BYTES_MAX} bytes"),
            Self::Short => f.write_str("link frame is shorter than its fields"),
            Self::Cobs => f.write_str("link frame's COBS encoding points beyond its end"),
            Self::Crc => f.write_str("link frame's CRC differs"),
            Self::Number => f.write_str("a number of the link frame does not fit its field"),
            Self::Text => f.write_str("a text of the link frame is not accepted"),
            Self::Tags => f.write_str("tags of the link frame are not in the order of their keys, each once"),
            Self::Version { protocol } => write!(
                f,
                "link version {}.{} is not readable: accepted is major {}",
                protocol >> 4,
                protocol & 15,
                PROTOCOL >> 4
            ),
            Self::Clock => f.write_str("the device's clock has 0 ticks a second: accepted is at least 1"),
            Self::Id => f.write_str("an id of the link frame is above 65535"),
            Self::Form { code } => {
                write!(f, "form {code} of the link frame is not known: accepted are 0 to 4")
            }
            Self::Level => f.write_str("a level number of the link frame is above 31"),
            Self::Buckets => write!(f, "buckets of the link frame reach beyond the last of {BUCKETS_MAX}"),
        }
    }
}

impl core::error::Error for LinkError {}
