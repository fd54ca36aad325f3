//! Building a frame in the buffer from which it is sent.

use super::cobs::{CRC_FIRST, crc16_next};
use super::{BODY_BYTES_MAX, CRC_BYTES, Form, HEAD_BYTES, LINE_BYTES_MAX};

/// Where the body ends at the latest: behind it come the CRC and the closing zero.
const BODY_END: u8 = (LINE_BYTES_MAX - CRC_BYTES - 1) as u8;

/// Numbers frames, writes one at a time and encodes it where it stands. All zero at the start.
///
/// What is written beyond the longest frame is left out, so whoever writes asks [`Writer::has_room`] first; nothing here
/// panics.
// In this order, since what stands behind the buffer is far for a device's instructions.
#[derive(Debug)]
#[repr(C)]
pub struct Writer {
    /// Number of the frame.
    seq: u16,
    /// Bytes used, the place of the first COBS code included.
    length: u8,
    /// Longer than a line, so that what a `u8` says is a place in it also behind the body, and none is checked.
    buffer: [u8; LINE_BYTES_MAX + CRC_BYTES + 1],
}

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}

impl Writer {
    /// Before the first frame, which is number 0.
    #[must_use]
    pub const fn new() -> Self {
        Self::numbered(0)
    }

    /// Before the frame of this number.
    #[must_use]
    pub const fn numbered(seq: u16) -> Self {
        Self { buffer: [0; LINE_BYTES_MAX + CRC_BYTES + 1], length: 0, seq }
    }

    /// Begins a frame; one that was begun and not finished is forgotten.
    #[inline(never)]
    pub fn start(&mut self, kind: u8) {
        [self.buffer[2], self.buffer[3]] = self.seq.to_le_bytes();
        self.buffer[1] = kind;
        // The first COBS code comes before it all.
        self.length = 1 + HEAD_BYTES as u8;
    }

    /// Whether the body may still take so many bytes.
    #[must_use]
    pub const fn has_room(&self, bytes: usize) -> bool {
        bytes <= BODY_BYTES_MAX && self.length as usize <= BODY_END as usize - bytes
    }

    /// Whether a frame was begun.
    pub(crate) const fn is_begun(&self) -> bool {
        self.length > 0
    }

    /// Appends a byte.
    // Not inlined, as its neighbours: every call would carry the check, and flash is what counts here.
    #[inline(never)]
    pub fn byte(&mut self, byte: u8) {
        if self.length < BODY_END {
            self.buffer[usize::from(self.length)] = byte;
            self.length += 1;
        }
    }

    /// Appends a number as LEB128.
    #[inline(never)]
    pub fn varint(&mut self, mut value: u64) {
        loop {
            let (low, rest) = (value as u8 & 0x7f, value >> 7);
            self.byte(if rest == 0 { low } else { low | 0x80 });
            if rest == 0 {
                break;
            }
            value = rest;
        }
    }

    /// Appends a signed number as zig-zag LEB128.
    pub fn zigzag(&mut self, value: i32) {
        self.varint(((value << 1) ^ (value >> 31)).cast_unsigned().into());
    }

    /// Appends the bits of a value by the form of its key: as `f32`, or as a signed number.
    #[inline(never)]
    pub(crate) fn value(&mut self, key: u32, bits: u32) {
        if key & Form::BITS == Form::Float as u32 {
            self.bytes(&bits.to_le_bytes());
        } else {
            self.zigzag(bits.cast_signed());
        }
    }

    /// Appends bytes as they are.
    #[inline(never)]
    pub fn bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.byte(byte);
        }
    }

    /// Appends a text behind its length.
    #[inline(never)]
    pub fn text(&mut self, text: &str) {
        self.varint(text.len() as u64);
        self.bytes(text.as_bytes());
    }

    /// Where the next byte goes, for [`Writer::patch`].
    #[must_use]
    pub const fn mark(&self) -> u8 {
        self.length
    }

    /// Replaces the byte at a mark.
    pub fn patch(&mut self, mark: u8, byte: u8) {
        self.buffer[usize::from(mark)] = byte;
    }

    /// Ends the frame: CRC, COBS, closing zero. The bytes for the line; the next frame is the next number.
    #[inline(never)]
    pub fn finish(&mut self) -> &[u8] {
        let frame = &mut self.buffer;
        let (mut crc, mut at) = (CRC_FIRST, 1u8);
        loop {
            crc = crc16_next(crc, frame[usize::from(at)]);
            at = at.wrapping_add(1);
            if at == self.length {
                break;
            }
        }
        let body = usize::from(at);
        [frame[body], frame[body + 1], frame[body + 2]] = [crc as u8, (crc >> 8) as u8, 0];
        let end = at.wrapping_add(2);
        // At most 254 bytes, so that no run is longer than a code can say: the first place, and each zero but the closing
        // one, becomes the distance to the next zero.
        let (mut code, mut at) = (0u8, 1u8);
        loop {
            if frame[usize::from(at)] == 0 {
                frame[usize::from(code)] = at.wrapping_sub(code);
                code = at;
            }
            if at == end {
                break;
            }
            at = at.wrapping_add(1);
        }
        self.length = end.wrapping_add(1);
        self.seq = self.seq.wrapping_add(1);
        self.line()
    }

    /// Begins none: [`Writer::line`] is empty.
    pub(crate) const fn clear(&mut self) {
        self.length = 0;
    }

    /// The bytes of the frame that was finished last, until the next one is begun.
    pub(crate) fn line(&self) -> &[u8] {
        &self.buffer[..usize::from(self.length)]
    }
}
