//! The bytes between a device and the gateway (WIRE.md section 13): frames, written by hand on one side and read
//! totally on the other.
//!
//! A frame is built in one buffer and encoded where it stands; a [`Receiver`] cuts a stream of bytes, in whatever
//! pieces it comes, into frames. What the writer writes is what postcard would write, byte for byte, without its
//! 1.3 KiB of flash; a test holds one against the other.
//!
//! ```
//! use zibrato_core::link::{Body, Frame, Receiver, Writer, kind};
//!
//! let mut writer = Writer::numbered(7);
//! writer.start(kind::MASK);
//! writer.varint(0b101);
//! let line = writer.finish();
//!
//! let mut receiver: Receiver = Receiver::new();
//! let mut seen = false;
//! for &byte in line {
//!     let Some(payload) = receiver.push(byte) else { continue };
//!     let frame = Frame::parse(payload.unwrap()).unwrap();
//!     assert!(frame.seq == 7 && matches!(frame.body, Body::Mask(0b101)));
//!     seen = true;
//! }
//! assert!(seen);
//! ```

mod cobs;
mod descriptor;
mod error;
mod samples;
mod state;
mod take;
mod writer;

pub use cobs::{Receiver, crc16};
#[cfg(not(loom))]
pub(crate) use descriptor::write_descriptor;
pub use descriptor::{Descriptor, Tags};
pub use error::LinkError;
pub(crate) use samples::History;
pub use samples::{Sample, SampleValue, Samples, SamplesIter};
pub(crate) use state::flags;
pub use state::{Buckets, State, StateEntries, StateEntry, StateValue};
pub use writer::Writer;

use take::{take_text, take_u8, take_u32, take_varint};

/// Longest frame before its encoding: kind, seq, body and CRC. COBS then adds exactly one byte.
pub const PAYLOAD_BYTES_MAX: usize = 253;
/// Longest frame on the line, its closing `0x00` included.
pub const LINE_BYTES_MAX: usize = PAYLOAD_BYTES_MAX + 2;
/// Bytes of kind and seq before the body.
pub const HEAD_BYTES: usize = 3;
/// Bytes of the CRC behind the body.
pub const CRC_BYTES: usize = 2;
/// Longest body.
pub const BODY_BYTES_MAX: usize = PAYLOAD_BYTES_MAX - HEAD_BYTES - CRC_BYTES;
/// Version that this library speaks: major in the high, minor in the low four bits.
pub const PROTOCOL: u8 = 0x10;
/// Most levels of a device: the bits of a mask.
pub const LEVELS_MAX: usize = 32;
/// Longest name of a device's program, in bytes.
pub const PROGRAM_BYTES_MAX: usize = 64;
/// Most buckets of a device's timer: four an octave, for all of u32.
pub const BUCKETS_MAX: usize = 124;
/// Default of [`crate::device::Settings::window_ms`]: how often a device sends what changed.
pub const WINDOW_MS_DEFAULT: u32 = 1_000;
/// Every how many windows a device sends all metrics.
pub const ALL_EVERY_WINDOWS: u32 = 10;
/// Every how many windows a device sends a timer with buckets.
pub const BUCKETS_EVERY_WINDOWS: u32 = 4;
/// How often a device says hello, in milliseconds.
pub const HELLO_EVERY_MS: u32 = 10_000;
/// How often a gateway repeats the mask, in milliseconds.
pub const MASK_EVERY_MS: u32 = 5_000;
/// How long a device keeps a mask that is not repeated, in milliseconds.
pub const MASK_HOLD_MS: u32 = 15_000;

/// First byte of each frame.
pub mod kind {
    /// Who the device is.
    pub const HELLO: u8 = 0x01;
    /// What one id means.
    pub const DESCRIPTOR: u8 = 0x02;
    /// Cumulative state.
    pub const STATE: u8 = 0x03;
    /// Raw samples.
    pub const SAMPLES: u8 = 0x04;
    /// To the device: which on-demand levels are on.
    pub const MASK: u8 = 0x81;
    /// To the device: say hello and all descriptors again.
    pub const ASK: u8 = 0x82;
}

/// What an id or an entry is; the lowest three bits of every key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum Form {
    /// A counter.
    Counter = 0,
    /// A gauge of whole numbers.
    Whole = 1,
    /// A timer.
    Timer = 2,
    /// A gauge of `f32`.
    Float = 3,
    /// A timer with buckets; in a state frame, some of its buckets.
    Buckets = 4,
}

impl Form {
    /// The form with this code, or `None` for one of a later version.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Counter),
            1 => Some(Self::Whole),
            2 => Some(Self::Timer),
            3 => Some(Self::Float),
            4 => Some(Self::Buckets),
            _ => None,
        }
    }

    /// The kind of metric.
    #[must_use]
    pub const fn kind(self) -> crate::kind::Kind {
        match self {
            Self::Counter => crate::kind::Kind::Counter,
            Self::Whole | Self::Float => crate::kind::Kind::Gauge,
            Self::Timer | Self::Buckets => crate::kind::Kind::Timer,
        }
    }

    /// The form of a timer with so many buckets.
    #[must_use]
    pub const fn of_timer(buckets: usize) -> Self {
        if buckets == 0 { Self::Timer } else { Self::Buckets }
    }

    /// Key of an entry or sample: `id << 3 | form`.
    #[inline]
    #[must_use]
    pub const fn key(self, id: u16) -> u32 {
        (id as u32) << 3 | self as u32
    }

    /// The bits of a key that say its form.
    pub(crate) const BITS: u32 = 7;

    /// The same key with this form.
    pub(crate) const fn in_key(self, key: u32) -> u32 {
        key & !Self::BITS | self as u32
    }

    /// Splits a key.
    ///
    /// # Errors
    /// [`LinkError::Form`], [`LinkError::Id`].
    pub(crate) fn split(key: u32) -> Result<(u16, Self), LinkError> {
        let form = Self::from_code((key & 7) as u8).ok_or(LinkError::Form { code: (key & 7) as u8 })?;
        let id = u16::try_from(key >> 3).map_err(|_| LinkError::Id)?;
        Ok((id, form))
    }
}

/// Bucket of a duration in ticks: 0 to 3 are their own, then each octave has four.
#[inline(always)]
#[must_use]
pub const fn bucket_of(ticks: u32) -> usize {
    if ticks < 4 {
        return ticks as usize;
    }
    let octave = 31 - ticks.leading_zeros();
    (((octave - 1) << 2) | ((ticks >> (octave - 2)) & 3)) as usize
}

/// Smallest and largest duration in ticks of a bucket; `None` beyond [`BUCKETS_MAX`].
#[must_use]
pub const fn bucket_bounds(bucket: usize) -> Option<(u32, u32)> {
    match bucket {
        0..=3 => Some((bucket as u32, bucket as u32)),
        4..BUCKETS_MAX => {
            let shift = bucket as u32 / 4 - 1;
            let low = (4 + bucket as u32 % 4) << shift;
            Some((low, low + ((1 << shift) - 1)))
        }
        _ => None,
    }
}

/// A frame that was received whole.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Frame<'a> {
    /// Number of the frame, wrapping.
    pub seq: u16,
    /// What it says.
    pub body: Body<'a>,
}

/// What a frame says.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum Body<'a> {
    /// Who the device is.
    Hello(Hello<'a>),
    /// What one id means.
    Descriptor(Descriptor<'a>),
    /// Cumulative state.
    State(State<'a>),
    /// Raw samples.
    Samples(Samples<'a>),
    /// To the device: a bit for each level that is on.
    Mask(u32),
    /// To the device: say hello and all descriptors again.
    Ask,
    /// A frame of a later version: to be counted and skipped.
    Unknown(u8),
}

impl<'a> Frame<'a> {
    /// Reads what [`Receiver::push`] returned.
    ///
    /// Entries and samples are read when they are iterated over; one that cannot be read ends its frame.
    ///
    /// # Errors
    /// [`LinkError`] says what is wrong; the frame is then to be counted and dropped whole.
    pub fn parse(payload: &'a [u8]) -> Result<Self, LinkError> {
        let [kind, low, high, body @ ..] = payload else { return Err(LinkError::Short) };
        let seq = u16::from_le_bytes([*low, *high]);
        let body = match *kind {
            kind::HELLO => Body::Hello(Hello::parse(body)?),
            kind::DESCRIPTOR => Body::Descriptor(Descriptor::parse(body)?),
            kind::STATE => Body::State(State::parse(body)?),
            kind::SAMPLES => Body::Samples(Samples::parse(body)?),
            kind::MASK => Body::Mask(take_u32(body)?.0),
            kind::ASK => Body::Ask,
            unknown => Body::Unknown(unknown),
        };
        Ok(Self { seq, body })
    }
}

/// Who the device is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Hello<'a> {
    /// Major and minor version, four bits each.
    pub protocol: u8,
    /// Differs from boot to boot; 0 if the device cannot tell its boots apart.
    pub boot: u64,
    /// Ticks a second, at least 1.
    pub clock_hz: u32,
    /// Ticks that two readings of the clock with nothing between them take.
    pub overhead: u32,
    /// Ticks since the boot.
    pub uptime: u64,
    /// How often changed state is sent, in milliseconds.
    pub window_ms: u32,
    /// Number of descriptors.
    pub metrics: u16,
    /// Name of the program, or empty.
    pub program: &'a str,
}

impl<'a> Hello<'a> {
    fn parse(body: &'a [u8]) -> Result<Self, LinkError> {
        let (protocol, body) = take_u8(body)?;
        if protocol >> 4 != PROTOCOL >> 4 {
            return Err(LinkError::Version { protocol });
        }
        let (boot, body) = take_varint(body)?;
        let (clock_hz, body) = take_u32(body)?;
        let (overhead, body) = take_u32(body)?;
        let (uptime, body) = take_varint(body)?;
        let (window_ms, body) = take_u32(body)?;
        let (metrics, body) = take::take_u16(body)?;
        let (program, _newer) = take_text(body)?;
        if clock_hz == 0 {
            return Err(LinkError::Clock);
        }
        if program.len() > PROGRAM_BYTES_MAX || program.bytes().any(|byte| byte.is_ascii_control()) {
            return Err(LinkError::Text);
        }
        Ok(Self { protocol, boot, clock_hz, overhead, uptime, window_ms, metrics, program })
    }

    /// Writes the frame's body.
    pub fn write(&self, writer: &mut Writer) {
        writer.byte(self.protocol);
        writer.varint(self.boot);
        writer.varint(self.clock_hz.into());
        writer.varint(self.overhead.into());
        writer.varint(self.uptime);
        writer.varint(self.window_ms.into());
        writer.varint(self.metrics.into());
        writer.text(self.program);
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
