//! The fixed header (WIRE.md section 3): what a broker reads without decoding the body.

use core::fmt;

use super::FrameError;

/// First byte of the topic of state frames.
pub const TOPIC_STATE: u8 = 0x01;
/// First byte of the topic by which a worker asks for kept frames.
pub const TOPIC_REPLAY: u8 = 0x02;
/// First byte of the topic on which a broker says how many legacy messages it forwarded.
pub const TOPIC_FORWARDED: u8 = 0x03;
/// First byte of the topic of sample frames.
pub const TOPIC_SAMPLES: u8 = 0x04;
/// First byte of the upstream user message that acknowledges an end frame.
pub const USER_ACK: u8 = 0x06;
/// Version this library writes: major 1 in the high, minor 0 in the low four bits.
pub const VERSION: u8 = 0x10;
/// Length of the header, in bytes.
pub const HEADER_BYTES: usize = 46;

/// One run of one instrumented process or device: 128 random bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PublisherId(pub [u8; 16]);

impl fmt::Display for PublisherId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PublisherId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Flags of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Flags {
    /// All series of the level; bit 0.
    pub key: bool,
    /// The last frame of this publisher on this level; bit 1. Always with `key`.
    pub end: bool,
    /// Nothing changed in this window; bit 2. Repeats the last `seq` and has no entries.
    pub heartbeat: bool,
}

impl Flags {
    const fn to_byte(self) -> u8 {
        self.key as u8 | (self.end as u8) << 1 | (self.heartbeat as u8) << 2
    }

    const fn from_byte(byte: u8) -> Self {
        Self { key: byte & 1 != 0, end: byte & 2 != 0, heartbeat: byte & 4 != 0 }
    }
}

/// The fixed header of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Header {
    /// Major and minor version, four bits each.
    pub version: u8,
    /// Key, end, heartbeat.
    pub flags: Flags,
    /// Who publishes.
    pub publisher: PublisherId,
    /// Number of this part, from 1, per publisher and level.
    pub seq: u64,
    /// Which part of the frame, from 0.
    pub part: u16,
    /// Of how many parts, at least 1.
    pub of: u16,
    /// Age of the publisher when it encoded the frame, in milliseconds of its monotonic clock.
    pub age_ms: u64,
    /// How long a broker held the frame before this replay, in milliseconds; else 0.
    pub held_ms: u32,
}

impl Header {
    /// A header of this version for a frame of one part without flags.
    #[must_use]
    pub const fn new(publisher: PublisherId, seq: u64) -> Self {
        let flags = Flags { key: false, end: false, heartbeat: false };
        Self { version: VERSION, flags, publisher, seq, part: 0, of: 1, age_ms: 0, held_ms: 0 }
    }

    /// The name of the frame that this is a part of: the `seq` of its part 0.
    #[must_use]
    pub const fn frame_seq(&self) -> u64 {
        self.seq - self.part as u64
    }

    /// Reads the header of `bytes`, which end where the frame ends.
    ///
    /// # Errors
    /// [`FrameError::Length`], [`FrameError::Version`], [`FrameError::Parts`].
    pub fn parse(bytes: &[u8]) -> Result<Self, FrameError> {
        let Some((&version, _)) = bytes.split_first() else { return Err(FrameError::Length) };
        if version >> 4 != VERSION >> 4 {
            return Err(FrameError::Version { version });
        }
        let Some((header, body)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Err(FrameError::Length);
        };
        let parsed = Self {
            version,
            flags: Flags::from_byte(header[1]),
            publisher: PublisherId(array(header, 2)),
            seq: u64::from_le_bytes(array(header, 18)),
            part: u16::from_le_bytes(array(header, 26)),
            of: u16::from_le_bytes(array(header, 28)),
            age_ms: u64::from_le_bytes(array(header, 30)),
            held_ms: u32::from_le_bytes(array(header, 38)),
        };
        if body.len() as u64 != u64::from(u32::from_le_bytes(array(header, BODY_BYTES_AT))) {
            return Err(FrameError::Length);
        }
        // A heartbeat before the first frame carries seq 0.
        let first = if parsed.flags.heartbeat { 0 } else { 1 };
        if parsed.part >= parsed.of || parsed.seq < u64::from(parsed.part) + first {
            return Err(FrameError::Parts);
        }
        Ok(parsed)
    }

    /// Writes the header with a body length of 0 into the first [`HEADER_BYTES`] of `out`.
    pub(super) fn write(&self, out: &mut [u8]) {
        out[0] = self.version;
        out[1] = self.flags.to_byte();
        set_publisher(out, self.publisher);
        out[18..26].copy_from_slice(&self.seq.to_le_bytes());
        set_parts(out, self.part, self.of);
        set_age_ms(out, self.age_ms);
        set_held_ms(out, self.held_ms);
        set_body_bytes(out, 0);
    }
}

const BODY_BYTES_AT: usize = 42;

pub(super) fn set_parts(header: &mut [u8], part: u16, of: u16) {
    header[26..28].copy_from_slice(&part.to_le_bytes());
    header[28..30].copy_from_slice(&of.to_le_bytes());
}

pub(super) fn set_publisher(header: &mut [u8], publisher: PublisherId) {
    header[2..18].copy_from_slice(&publisher.0);
}

pub(super) fn set_age_ms(header: &mut [u8], age_ms: u64) {
    header[30..38].copy_from_slice(&age_ms.to_le_bytes());
}

pub(super) fn set_held_ms(header: &mut [u8], held_ms: u32) {
    header[38..42].copy_from_slice(&held_ms.to_le_bytes());
}

pub(super) fn set_body_bytes(header: &mut [u8], bytes: u32) {
    header[BODY_BYTES_AT..BODY_BYTES_AT + 4].copy_from_slice(&bytes.to_le_bytes());
}

/// Copies `N` bytes from `at`. Every caller's range lies within its fixed header.
pub(super) fn array<const N: usize>(header: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&header[at..at + N]);
    out
}
