//! From a stream of bytes to frames: COBS, and the CRC behind it.
//!
//! Source: S. Cheshire and M. Baker, "Consistent Overhead Byte Stuffing", 1999.

use super::{CRC_BYTES, HEAD_BYTES, LinkError, PAYLOAD_BYTES_MAX};

/// CRC-16/CCITT-FALSE: polynomial 0x1021, first value 0xFFFF. Without a table: 256 entries are 512 bytes of flash.
#[must_use]
pub fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xffff, |crc: u16, &byte| {
        let mut crc = crc.rotate_left(8) ^ u16::from(byte);
        crc ^= (crc & 0xff) >> 4;
        crc ^= crc << 12;
        crc ^ (crc & 0xff) << 5
    })
}

/// Cuts a stream of bytes into frames, in whatever pieces it comes, within one buffer of `N` bytes.
///
/// `N` bounds the longest frame before its encoding, kind to CRC: [`PAYLOAD_BYTES_MAX`], or less where only short
/// frames are to be expected, as at a device.
#[derive(Clone, Debug)]
pub struct Receiver<const N: usize = PAYLOAD_BYTES_MAX> {
    buffer: [u8; N],
    length: usize,
    /// Bytes until the next code byte; 0 if the next byte is one.
    run: u8,
    /// Whether a zero stands before the next run.
    zero_due: bool,
    /// Why the bytes up to the next `0x00` are no frame.
    broken: Option<LinkError>,
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
        Self { buffer: [0; N], length: 0, run: 0, zero_due: false, broken: None }
    }

    /// Takes one byte. At the end of a frame: its kind, seq and body, for [`super::Frame::parse`], or why it is none.
    ///
    /// After an error the next frame is read from its start.
    pub fn push(&mut self, byte: u8) -> Option<Result<&[u8], LinkError>> {
        if byte == 0 {
            return self.end();
        }
        if self.run == 0 {
            if self.zero_due {
                self.put(0);
            }
            self.run = byte - 1;
            // A run of 254 has no zero behind it.
            self.zero_due = byte != 0xff;
        } else {
            self.run -= 1;
            self.put(byte);
        }
        None
    }

    fn put(&mut self, byte: u8) {
        match self.buffer.get_mut(self.length) {
            Some(place) => {
                *place = byte;
                self.length += 1;
            }
            None => self.broken = Some(LinkError::Long),
        }
    }

    fn end(&mut self) -> Option<Result<&[u8], LinkError>> {
        let is_empty = self.length == 0 && self.run == 0 && !self.zero_due && self.broken.is_none();
        let (length, run, broken) = (self.length, self.run, self.broken);
        (self.length, self.run, self.zero_due, self.broken) = (0, 0, false, None);
        if is_empty {
            return None;
        }
        if let Some(error) = broken {
            return Some(Err(error));
        }
        if run != 0 {
            return Some(Err(LinkError::Cobs));
        }
        let Some((payload, crc)) = self.buffer.get(..length).and_then(<[u8]>::split_last_chunk::<CRC_BYTES>)
        else {
            return Some(Err(LinkError::Short));
        };
        if payload.len() < HEAD_BYTES {
            return Some(Err(LinkError::Short));
        }
        if crc16(payload) != u16::from_le_bytes(*crc) {
            return Some(Err(LinkError::Crc));
        }
        Some(Ok(payload))
    }
}
