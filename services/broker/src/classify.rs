//! What a message from a publisher is, read from topic and header alone.

use std::str;

use zibrato_core::frame::{
    FrameError, Header, SamplesError, SamplesHeader, TOPIC_SAMPLES, TOPIC_STATE, split_samples_topic,
    split_topic,
};
use zibrato_core::limits::{FRAME_BYTES_MAX, LEVEL_BYTES_MAX};
use zibrato_core::text::Field;

/// A message worth forwarding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Class<'a> {
    /// A state frame.
    Native {
        /// Level from the topic.
        level: &'a str,
        /// The fixed header.
        header: Header,
        /// Header and body.
        untopiced: &'a [u8],
    },
    /// A sample frame, which is forwarded and nothing else.
    Samples {
        /// Level from the topic.
        level: &'a str,
    },
    /// A text message of the original; only its level is looked at.
    Legacy {
        /// Everything before the first `|`.
        level: &'a str,
    },
}

impl<'a> Class<'a> {
    /// Reads one message of one part.
    ///
    /// # Errors
    /// A [`Refusal`]: the message is to be counted and not forwarded.
    pub(crate) fn of(message: &'a [u8]) -> Result<Self, Refusal> {
        if message.len() > FRAME_BYTES_MAX {
            return Err(Refusal::Oversize);
        }
        if message.first() == Some(&TOPIC_STATE) {
            let (level, untopiced) = split_topic(message)?;
            let header = Header::parse(untopiced)?;
            return Ok(Self::Native { level, header, untopiced });
        }
        if message.first() == Some(&TOPIC_SAMPLES) {
            let (level, untopiced) = split_samples_topic(message)?;
            // Looks at version and length.
            SamplesHeader::parse(untopiced)?;
            return Ok(Self::Samples { level });
        }
        // A level has no control character, so what starts with the first byte of a reply or of a
        // broker's own topics is refused here too.
        let bar = message.iter().take(LEVEL_BYTES_MAX + 1).position(|&byte| byte == b'|');
        let level = bar.and_then(|bar| str::from_utf8(&message[..bar]).ok());
        match level.filter(|level| Field::Level.accepts(level)) {
            Some(level) => Ok(Self::Legacy { level }),
            None => Err(Refusal::Topic),
        }
    }
}

/// Why a message was not forwarded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    /// Several ZeroMQ parts.
    MultiPart,
    /// Longer than a frame may be.
    Oversize,
    /// Neither a native topic nor a legacy level.
    Topic,
    /// A native or sample frame shorter or longer than its header says.
    Length,
    /// A native or sample frame of another major version.
    Version,
    /// A native frame with impossible part or sequence numbers.
    Parts,
    /// The outgoing socket did not take it. A lossy XPUB never says so; this keeps the sum right if it did.
    Full,
}

impl Refusal {
    /// All reasons, in the order of their counters.
    pub(crate) const ALL: [Self; 7] =
        [Self::MultiPart, Self::Oversize, Self::Topic, Self::Length, Self::Version, Self::Parts, Self::Full];

    /// A stable lower-case word.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::MultiPart => "multi_part",
            Self::Oversize => "oversize",
            Self::Topic => "topic",
            Self::Length => "length",
            Self::Version => "version",
            Self::Parts => "parts",
            Self::Full => "full",
        }
    }
}

impl From<SamplesError> for Refusal {
    fn from(error: SamplesError) -> Self {
        match error {
            SamplesError::Oversize { .. } => Self::Oversize,
            SamplesError::Topic => Self::Topic,
            SamplesError::Version { .. } => Self::Version,
            // As for a state frame.
            _ => Self::Length,
        }
    }
}

impl From<FrameError> for Refusal {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Oversize { .. } => Self::Oversize,
            FrameError::Topic => Self::Topic,
            FrameError::Version { .. } => Self::Version,
            FrameError::Parts => Self::Parts,
            // A broker reads no further than the header; every other error is one of its length.
            _ => Self::Length,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{frame, samples};

    #[test]
    fn frames_and_text_are_recognised_with_their_level() {
        let message = frame([3; 16], "info", 9, |_| {});
        let Ok(Class::Native { level, header, untopiced }) = Class::of(&message) else { panic!() };
        assert_eq!((level, header.seq, untopiced), ("info", 9, &message[6..]));
        assert_eq!(Class::of(b"info|Counter|n|1|1|s"), Ok(Class::Legacy { level: "info" }));
        assert_eq!(Class::of(&samples("info", &[5])), Ok(Class::Samples { level: "info" }));
        let longest = format!("{}|", "x".repeat(LEVEL_BYTES_MAX));
        assert_eq!(Class::of(longest.as_bytes()), Ok(Class::Legacy { level: &longest[..LEVEL_BYTES_MAX] }));
    }

    #[test]
    fn each_reason_to_refuse_is_reached() {
        let good = frame([3; 16], "info", 9, |_| {});
        let changed = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        let good_samples = samples("info", &[5, 6]);
        let newer_samples = {
            let mut bytes = good_samples.clone();
            bytes[6] = 0x20;
            bytes
        };
        let too_long_level = format!("{}|", "x".repeat(LEVEL_BYTES_MAX + 1));
        for (message, reason) in [
            (vec![b'|'; FRAME_BYTES_MAX + 1], "oversize"),
            ([good.clone(), vec![0; FRAME_BYTES_MAX]].concat(), "oversize"),
            (Vec::new(), "topic"),
            (b"info".to_vec(), "topic"),
            (b"|Counter".to_vec(), "topic"),
            (b"in\xffo|".to_vec(), "topic"),
            (b"\x02info\0|".to_vec(), "topic"),
            (b"\x03info\0|".to_vec(), "topic"),
            (b"\x06|".to_vec(), "topic"),
            (b"\x01info".to_vec(), "topic"),
            (b"\x01\0".to_vec(), "topic"),
            (too_long_level.into_bytes(), "topic"),
            (good[..good.len() - 1].to_vec(), "length"),
            (good[..6].to_vec(), "length"),
            ([&good[..], b"x"].concat(), "length"),
            (changed(6, 0x20), "version"),
            ([&good_samples[..], &[0; FRAME_BYTES_MAX]].concat(), "oversize"),
            (b"\x04info".to_vec(), "topic"),
            (b"\x04in|fo\0".to_vec(), "topic"),
            (good_samples[..6].to_vec(), "length"),
            (good_samples[..good_samples.len() - 1].to_vec(), "length"),
            ([&good_samples[..], b"x"].concat(), "length"),
            (newer_samples, "version"),
            // The part number is not below the number of parts.
            (changed(6 + 26, 1), "parts"),
        ] {
            assert_eq!(Class::of(&message).unwrap_err().as_str(), reason, "{message:.60?}");
        }
    }
}
