//! The original's text message: `level|mtype|name|value|timestamp|source` (WIRE.md section 8).

use core::fmt;
use core::str;

use crate::kind::Kind;
use crate::limits::FRAME_BYTES_MAX;
use crate::text::Field;

/// One measurement as the original sends it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Message<'a> {
    /// Level label.
    pub level: &'a str,
    /// Kind; a counter's value is an increment.
    pub kind: Kind,
    /// Metric name, as it came: any characters but `|`.
    pub name: &'a str,
    /// Finite value: an increment, a level or seconds.
    pub value: f64,
    /// Unix time in whole seconds.
    pub timestamp_s: u64,
    /// Source, as it came: any characters but `|`.
    pub source: &'a str,
}

impl<'a> Message<'a> {
    /// Reads one message.
    ///
    /// The kind is matched in singular or plural and in any case; a fraction of the time stamp is
    /// cut off. Anything else that the original would have choked on is an error.
    ///
    /// # Errors
    /// [`LegacyError`] names the first field that is wrong.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, LegacyError> {
        if bytes.len() > FRAME_BYTES_MAX {
            return Err(LegacyError::TooLong { bytes: bytes.len() });
        }
        let text = str::from_utf8(bytes).map_err(|_| LegacyError::NotUtf8)?;
        let mut fields = text.split('|');
        let mut next = || fields.next().ok_or(LegacyError::FieldCount);
        let (level, mtype, name, value, timestamp, source) =
            (next()?, next()?, next()?, next()?, next()?, next()?);
        if fields.next().is_some() {
            return Err(LegacyError::FieldCount);
        }
        if !Field::Level.accepts(level) {
            return Err(LegacyError::Level);
        }
        let kind = kind_of(mtype).ok_or(LegacyError::Kind)?;
        if name.is_empty() {
            return Err(LegacyError::Name);
        }
        let value = value.trim().parse::<f64>().map_err(|_| LegacyError::Value)?;
        if !value.is_finite() {
            return Err(LegacyError::NotFinite);
        }
        let timestamp = timestamp.trim();
        let timestamp_s = match timestamp.parse::<u64>() {
            Ok(whole) => whole,
            Err(_) => match timestamp.parse::<f64>() {
                // The cast saturates; a time stamp past the year 10^11 is nobody's.
                Ok(fraction) if fraction >= 0.0 && fraction.is_finite() => fraction as u64,
                _ => return Err(LegacyError::Timestamp),
            },
        };
        Ok(Self { level, kind, name, value, timestamp_s, source })
    }
}

/// Writes the message exactly as the original does: `5`, `0.100174`, `Counter`.
impl fmt::Display for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mtype = match self.kind {
            Kind::Counter => "Counter",
            Kind::Gauge => "Gauge",
            Kind::Timer => "Timer",
        };
        write!(f, "{}|{mtype}|{}|{}|{}|{}", self.level, self.name, self.value, self.timestamp_s, self.source)
    }
}

fn kind_of(mtype: &str) -> Option<Kind> {
    let mtype = mtype.trim();
    let singular = mtype.strip_suffix(['s', 'S']).unwrap_or(mtype);
    [Kind::Counter, Kind::Gauge, Kind::Timer]
        .into_iter()
        .find(|kind| singular.eq_ignore_ascii_case(kind.as_str()))
}

/// Why a legacy message was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum LegacyError {
    /// Longer than [`FRAME_BYTES_MAX`].
    TooLong {
        /// Length of the message, in bytes.
        bytes: usize,
    },
    /// Not UTF-8.
    NotUtf8,
    /// Not six fields separated by `|`.
    FieldCount,
    /// The level is empty, too long or has a control character.
    Level,
    /// The kind is none of counter, gauge and timer.
    Kind,
    /// The name is empty.
    Name,
    /// The value is not a number.
    Value,
    /// The value is NaN or infinite.
    NotFinite,
    /// The time stamp is not a non-negative number.
    Timestamp,
}

impl LegacyError {
    /// A stable lower-case word for counters and logs.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::TooLong { .. } => "oversize",
            Self::NotUtf8 => "not_utf8",
            Self::FieldCount => "field_count",
            Self::Level => "level",
            Self::Kind => "kind",
            Self::Name => "name",
            Self::Value => "value",
            Self::NotFinite => "not_finite",
            Self::Timestamp => "timestamp",
        }
    }
}

impl fmt::Display for LegacyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { bytes } => {
                write!(f, "legacy message of {bytes} bytes exceeds the limit of {FRAME_BYTES_MAX}")
            }
            Self::NotUtf8 => f.write_str("legacy message is not UTF-8"),
            Self::FieldCount => {
                f.write_str("legacy message has not the six fields level|mtype|name|value|timestamp|source")
            }
            Self::Level => {
                f.write_str("legacy level refused: accepted are 1 to 32 bytes without control characters")
            }
            Self::Kind => f.write_str("legacy mtype is none of Counter, Gauge and Timer"),
            Self::Name => f.write_str("legacy name is empty"),
            Self::Value => f.write_str("legacy value is not a number"),
            Self::NotFinite => f.write_str("legacy value is not finite"),
            Self::Timestamp => f.write_str("legacy time stamp is not a non-negative number of seconds"),
        }
    }
}

impl core::error::Error for LegacyError {}

#[cfg(test)]
mod tests {
    use std::prelude::v1::*;

    use super::*;

    const ORIGINALS: [&str; 3] = [
        "testing|Gauge|test_gauge|999|1700000000|not_specified",
        "info|Counter|countertest|5|1700000001|deathstar",
        "debug|Timer|myfunct_timer|0.100174|1700000002|myprog",
    ];

    #[test]
    fn the_originals_messages_come_back_byte_for_byte() {
        for text in ORIGINALS {
            assert_eq!(Message::parse(text.as_bytes()).unwrap().to_string(), text);
        }
    }

    #[test]
    fn kinds_match_in_singular_plural_and_any_case() {
        for (mtype, kind) in [("counters", Kind::Counter), ("GAUGE", Kind::Gauge), ("Timers", Kind::Timer)] {
            let text = format!("a|{mtype}|n|-1.5|1700000000.9|");
            let message = Message::parse(text.as_bytes()).unwrap();
            assert_eq!((message.kind, message.value, message.timestamp_s), (kind, -1.5, 1_700_000_000));
        }
    }

    #[test]
    fn each_wrong_field_has_its_own_reason() {
        let long = "x".repeat(FRAME_BYTES_MAX + 1);
        let cases: [(&[u8], &str); 15] = [
            (long.as_bytes(), "oversize"),
            (b"a|Gauge|\xff|1|1|s", "not_utf8"),
            (b"", "field_count"),
            (b"a|Gauge|n|1|1", "field_count"),
            (b"a|Gauge|n|1|1|s|t", "field_count"),
            (b"|Gauge|n|1|1|s", "level"),
            (b"a\n|Gauge|n|1|1|s", "level"),
            (b"a|Gouge|n|1|1|s", "kind"),
            (b"a|Gauge||1|1|s", "name"),
            (b"a|Gauge|n|one|1|s", "value"),
            (b"a|Gauge|n||1|s", "value"),
            (b"a|Gauge|n|NaN|1|s", "not_finite"),
            (b"a|Gauge|n|-inf|1|s", "not_finite"),
            (b"a|Gauge|n|1|-1|s", "timestamp"),
            (b"a|Gauge|n|1|soon|s", "timestamp"),
        ];
        for (bytes, reason) in cases {
            assert_eq!(Message::parse(bytes).unwrap_err().reason(), reason, "{bytes:.40?}");
        }
    }
}
