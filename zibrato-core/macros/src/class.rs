//! What literals in an attribute may look like: the classes of `zibrato_core::text`, so that a bad
//! text is reported at the literal and not at the static made from it.
//!
//! A proc-macro crate cannot depend on the crate that re-exports it, hence the second copy; a test
//! compares the two.

/// Most tags one metric may carry.
pub(crate) const TAGS_MAX: usize = 8;
const NAME_BYTES_MAX: usize = 255;
const LEVEL_BYTES_MAX: usize = 32;
const UNIT_BYTES_MAX: usize = 32;
const TAG_KEY_BYTES_MAX: usize = 64;
const TAG_VALUE_BYTES_MAX: usize = 255;

/// Which text is checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Class {
    Level,
    Name,
    Source,
    Unit,
    TagKey,
    TagValue,
}

impl Class {
    /// What error texts call it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Level => "level",
            Self::Name => "name",
            Self::Source => "source",
            Self::Unit => "unit",
            Self::TagKey => "tag key",
            Self::TagValue => "tag value",
        }
    }

    /// The accepted texts, in words.
    pub(crate) const fn accepted(self) -> &'static str {
        match self {
            Self::Level => "1 to 32 bytes without control characters, '|' or ','",
            Self::Name | Self::Source => "1 to 255 of A-Z a-z 0-9 . : _ -",
            Self::Unit => "at most 32 bytes without control characters",
            Self::TagKey => "1 to 64 of A-Z a-z 0-9 . : _ -",
            Self::TagValue => "1 to 255 bytes without control characters",
        }
    }

    const fn bytes_max(self) -> usize {
        match self {
            Self::Level => LEVEL_BYTES_MAX,
            Self::Name | Self::Source => NAME_BYTES_MAX,
            Self::Unit => UNIT_BYTES_MAX,
            Self::TagKey => TAG_KEY_BYTES_MAX,
            Self::TagValue => TAG_VALUE_BYTES_MAX,
        }
    }

    fn accepts(self, text: &str) -> bool {
        let byte_accepted = |byte: u8| match self {
            Self::Name | Self::Source | Self::TagKey => {
                byte.is_ascii_alphanumeric() || b".:_-".contains(&byte)
            }
            Self::Level => !byte.is_ascii_control() && byte != b'|' && byte != b',',
            Self::Unit | Self::TagValue => !byte.is_ascii_control(),
        };
        text.len() <= self.bytes_max()
            && (!text.is_empty() || self == Self::Unit)
            && text.bytes().all(byte_accepted)
    }

    /// Refuses `text` unless it is accepted, with a one-line reason.
    pub(crate) fn check(self, text: &str) -> Result<(), String> {
        if self.accepts(text) {
            return Ok(());
        }
        let (what, accepted) = (self.as_str(), self.accepted());
        if text.len() > self.bytes_max() {
            return Err(format!("{what} of {} bytes is too long: accepted are {accepted}", text.len()));
        }
        Err(format!("{what} {text:?} is not accepted: accepted are {accepted}"))
    }
}

#[cfg(test)]
mod tests {
    use zibrato_core::limits;
    use zibrato_core::text::Field;

    use super::*;

    const PAIRS: [(Class, Field); 6] = [
        (Class::Level, Field::Level),
        (Class::Name, Field::Name),
        (Class::Source, Field::Source),
        (Class::Unit, Field::Unit),
        (Class::TagKey, Field::TagKey),
        (Class::TagValue, Field::TagValue),
    ];

    #[test]
    fn the_classes_are_those_of_the_core() {
        assert_eq!(TAGS_MAX, limits::TAGS_MAX);
        for (class, field) in PAIRS {
            for byte in 0..=127u8 {
                let text = char::from(byte).to_string();
                assert_eq!(class.accepts(&text), field.accepts(&text), "{class:?} {byte}");
            }
            for text in ["", "größe", "a.b:c_d-e"] {
                assert_eq!(class.accepts(text), field.accepts(text), "{class:?} {text:?}");
            }
            for bytes in [field.bytes_max(), field.bytes_max() + 1] {
                let text = "x".repeat(bytes);
                assert_eq!(class.accepts(&text), field.accepts(&text), "{class:?} {bytes}");
            }
        }
    }

    #[test]
    fn the_words_for_what_is_accepted_are_those_of_the_core() {
        for (class, field) in PAIRS {
            let of_core = field.check(&"\0".repeat(300)).unwrap_err().to_string();
            let expected =
                format!("{} of 300 bytes refused: accepted are {}", class.as_str(), class.accepted());
            assert_eq!(of_core, expected);
        }
    }
}
