//! From a stream of bytes to frames: COBS, and the CRC behind it.
//!
//! Source: S. Cheshire and M. Baker, "Consistent Overhead Byte Stuffing", 1999.

use super::{CRC_BYTES, HEAD_BYTES, LINE_BYTES_MAX, LinkError};

/// CRC-16/CCITT-FALSE: polynomial 0x1021, first value 0xFFFF. Without a table: 256 entries are 512 bytes of flash.
#[must_use]
pub fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(CRC_FIRST, |crc, &byte| crc16_next(crc, byte))
}

/// The CRC of no bytes.
pub(super) const CRC_FIRST: u16 = 0xffff;

/// The CRC with one byte more.
pub(super) const fn crc16_next(crc: u16, byte: u8) -> u16 {
    let mut crc = crc.rotate_left(8) ^ byte as u16;
    crc ^= (crc & 0xff) >> 4;
    crc ^= crc << 12;
    crc ^ (crc & 0xff) << 5
}

/// Cuts a stream of bytes into frames, in whatever pieces it comes, within one buffer of `N` bytes.
///
/// `N` bounds the longest frame as it is encoded, without its closing `0x00`: [`LINE_BYTES_MAX`]` - 1`, or less where
/// only short frames are to be expected, as at a device.
#[derive(Clone, Debug)]
pub struct Receiver<const N: usize = { LINE_BYTES_MAX - 1 }> {
    buffer: [u8; N],
    /// Bytes since the last `0x00`, also those that the buffer had no room for.
    length: usize,
}

impl<const N: usize> Default for Receiver<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Receiver<N> {
    /// Between two frames.
    #[must_use]
    pub const fn new() -> Self {
        Self { buffer: [0; N], length: 0 }
    }

    /// Takes one byte. At the end of a frame: its kind, seq and body, for [`super::Frame::parse`], or why it is none.
    ///
    /// After an error the next frame is read from its start.
    pub fn push(&mut self, byte: u8) -> Option<Result<&[u8], LinkError>> {
        if byte != 0 {
            if let Some(place) = self.buffer.get_mut(self.length) {
                *place = byte;
            }
            self.length = self.length.saturating_add(1);
            return None;
        }
        let length = core::mem::take(&mut self.length);
        if length == 0 {
            return None;
        }
        Some(match self.buffer.get_mut(..length) {
            Some(frame) => decode(frame),
            None => Err(LinkError::Long),
        })
    }
}

/// Decodes where it stands what came between two `0x00`, of which the caller knows that it has none.
fn decode(frame: &mut [u8]) -> Result<&[u8], LinkError> {
    // Each code says how far the next one is, and stands where a zero was; the first one stands before it all.
    let mut at = 0;
    while let Some(code) = frame.get_mut(at) {
        at += usize::from(core::mem::take(code));
    }
    if at != frame.len() {
        return Err(LinkError::Cobs);
    }
    let Some((payload, crc)) = frame.get(1..).and_then(<[u8]>::split_last_chunk::<CRC_BYTES>) else {
        return Err(LinkError::Short);
    };
    if payload.len() < HEAD_BYTES {
        return Err(LinkError::Short);
    }
    if crc16(payload) != u16::from_le_bytes(*crc) {
        return Err(LinkError::Crc);
    }
    Ok(payload)
}
