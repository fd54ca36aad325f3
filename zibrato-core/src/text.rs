//! What names, sources, levels, units and tags may look like, checked in one place.
//!
//! The checks are `const`, so that a static metric with a bad name does not compile; the same
//! checks guard every decoded frame.

use core::fmt;

use crate::limits::{
    LEVEL_BYTES_MAX, NAME_BYTES_MAX, SOURCE_BYTES_MAX, TAG_KEY_BYTES_MAX, TAG_VALUE_BYTES_MAX, TAGS_MAX,
    UNIT_BYTES_MAX,
};

/// A tag: key and value.
pub type Tag = (&'static str, &'static str);

/// Which text was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Field {
    /// A level label.
    Level,
    /// A metric name.
    Name,
    /// A source.
    Source,
    /// A unit.
    Unit,
    /// The key of a tag.
    TagKey,
    /// The value of a tag.
    TagValue,
}

impl Field {
    /// The longest accepted text, in bytes.
    pub const fn bytes_max(self) -> usize {
        match self {
            Self::Level => LEVEL_BYTES_MAX,
            Self::Name => NAME_BYTES_MAX,
            Self::Source => SOURCE_BYTES_MAX,
            Self::Unit => UNIT_BYTES_MAX,
            Self::TagKey => TAG_KEY_BYTES_MAX,
            Self::TagValue => TAG_VALUE_BYTES_MAX,
        }
    }

    const fn accepted(self) -> &'static str {
        match self {
            Self::Level => "1 to 32 bytes without control characters, '|' or ','",
            Self::Name => "1 to 255 of A-Z a-z 0-9 . : _ -",
            Self::Source => "1 to 255 of A-Z a-z 0-9 . : _ -",
            Self::Unit => "at most 32 bytes without control characters",
            Self::TagKey => "1 to 64 of A-Z a-z 0-9 . : _ -",
            Self::TagValue => "1 to 255 bytes without control characters",
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Level => "level",
            Self::Name => "name",
            Self::Source => "source",
            Self::Unit => "unit",
            Self::TagKey => "tag key",
            Self::TagValue => "tag value",
        }
    }

    /// Whether `text` may stand in this field.
    pub const fn accepts(self, text: &str) -> bool {
        let bytes = text.as_bytes();
        if bytes.len() > self.bytes_max() || (bytes.is_empty() && !matches!(self, Self::Unit)) {
            return false;
        }
        let mut i = 0;
        while i < bytes.len() {
            let ok = match self {
                Self::Name | Self::Source | Self::TagKey => is_name_byte(bytes[i]),
                Self::Level => !bytes[i].is_ascii_control() && bytes[i] != b'|' && bytes[i] != b',',
                Self::Unit | Self::TagValue => !bytes[i].is_ascii_control(),
            };
            if !ok {
                return false;
            }
            i += 1;
        }
        true
    }

    /// Refuses `text` unless [`Field::accepts`] it.
    ///
    /// # Errors
    /// [`TextError`] names the field and what it accepts.
    pub const fn check(self, text: &str) -> Result<(), TextError> {
        if self.accepts(text) { Ok(()) } else { Err(TextError { field: self, bytes: text.len() }) }
    }
}

/// Whether `byte` is one of `A-Za-z0-9.:_-`, the class Librato documents for names and sources.
pub const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b':' | b'_' | b'-')
}

/// Refuses tags that no frame could carry; `const`, so that a static with such tags does not compile.
pub(crate) const fn check_tags(tags: &[Tag]) {
    assert!(tags.len() <= TAGS_MAX, "tags: accepted are at most 8");
    let mut i = 0;
    while i < tags.len() {
        assert!(Field::TagKey.accepts(tags[i].0), "tag key: accepted are 1 to 64 of A-Z a-z 0-9 . : _ -");
        assert!(
            Field::TagValue.accepts(tags[i].1),
            "tag value: accepted are 1 to 255 bytes without control characters"
        );
        i += 1;
    }
}

/// A text that its field does not accept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct TextError {
    /// The field that refused.
    pub field: Field,
    /// Length of the refused text, in bytes.
    pub bytes: usize,
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} bytes refused: accepted are {}",
            self.field.as_str(),
            self.bytes,
            self.field.accepted()
        )
    }
}

impl core::error::Error for TextError {}

#[cfg(test)]
mod tests {
    use std::prelude::v1::*;

    use super::*;

    #[test]
    fn the_documented_classes_are_what_is_accepted() {
        for byte in 0..=127u8 {
            let text = [byte];
            let text = core::str::from_utf8(&text).unwrap();
            let name = byte.is_ascii_alphanumeric() || ".:_-".contains(text);
            assert_eq!(Field::Name.accepts(text), name, "{byte}");
            assert_eq!(Field::Source.accepts(text), name, "{byte}");
            assert_eq!(Field::TagKey.accepts(text), name, "{byte}");
            let printable = !byte.is_ascii_control();
            assert_eq!(Field::Level.accepts(text), printable && byte != b'|' && byte != b',', "{byte}");
            assert_eq!(Field::TagValue.accepts(text), printable, "{byte}");
            assert_eq!(Field::Unit.accepts(text), printable, "{byte}");
        }
    }

    #[test]
    fn each_field_takes_its_longest_text_and_no_longer_one() {
        let long = "x".repeat(256);
        for field in [Field::Level, Field::Name, Field::Source, Field::Unit, Field::TagKey, Field::TagValue] {
            let max = field.bytes_max();
            assert!(field.accepts(&long[..max]));
            let error = field.check(&long[..max + 1]).unwrap_err();
            assert_eq!((error.field, error.bytes), (field, max + 1));
            assert_eq!(field.accepts(""), field == Field::Unit);
        }
        assert!(Field::TagValue.accepts("/api/größe"));
    }

    #[test]
    fn the_error_names_field_length_and_what_is_accepted() {
        let text = Field::Name.check("a b").unwrap_err().to_string();
        assert_eq!(text, "name of 3 bytes refused: accepted are 1 to 255 of A-Z a-z 0-9 . : _ -");
    }
}
