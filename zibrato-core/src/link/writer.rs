//! Building a frame in the buffer from which it is sent.

use super::{CRC_BYTES, HEAD_BYTES, LINE_BYTES_MAX, crc16};

/// Writes one frame at a time into a borrowed buffer and encodes it in place.
///
/// What is written beyond the longest frame is left out, so whoever writes asks [`Writer::room`] first; nothing here
/// panics.
#[derive(Debug)]
pub struct Writer<'b> {
    buffer: &'b mut [u8; LINE_BYTES_MAX],
    /// Bytes used, the place of the first COBS code included.
    length: usize,
}

impl<'b> Writer<'b> {
    /// A writer without a frame.
    #[must_use]
    pub const fn new(buffer: &'b mut [u8; LINE_BYTES_MAX]) -> Self {
        Self { buffer, length: 1 }
    }

    /// Begins a frame; one that was begun and not finished is forgotten.
    #[inline(never)]
    pub fn start(&mut self, kind: u8, seq: u16) {
        // The first COBS code comes before it all.
        self.length = 1;
        self.byte(kind);
        self.byte(seq as u8);
        self.byte((seq >> 8) as u8);
    }

    /// Bytes that the body may still take.
    #[must_use]
    pub fn room(&self) -> usize {
        // Behind the body come the CRC and the closing zero.
        LINE_BYTES_MAX - CRC_BYTES - 1 - self.length
    }

    /// Whether the frame has no body yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length <= 1 + HEAD_BYTES
    }

    /// Appends a byte.
    // Not inlined, as its neighbours: every call would carry the check, and flash is what counts here.
    #[inline(never)]
    pub fn byte(&mut self, byte: u8) {
        if self.room() > 0
            && let Some(place) = self.buffer.get_mut(self.length)
        {
            *place = byte;
            self.length += 1;
        }
    }

    /// Appends a number as LEB128.
    #[inline(never)]
    pub fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.byte(value as u8 | 0x80);
            value >>= 7;
        }
        self.byte(value as u8);
    }

    /// Appends a signed number as zig-zag LEB128.
    pub fn zigzag(&mut self, value: i32) {
        self.varint(((value << 1) ^ (value >> 31)).cast_unsigned().into());
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
    pub const fn mark(&self) -> usize {
        self.length
    }

    /// Replaces the byte at a mark.
    pub fn patch(&mut self, mark: usize, byte: u8) {
        if let Some(place) = self.buffer.get_mut(mark) {
            *place = byte;
        }
    }

    /// Ends the frame: CRC, COBS, closing zero. The bytes for the line.
    #[must_use]
    #[inline(never)]
    pub fn finish(&mut self) -> &[u8] {
        let (body, end) = (self.length, self.length + CRC_BYTES);
        self.length = 1;
        let Some(frame) = self.buffer.get_mut(..=end) else { return &[] };
        let crc = crc16(frame.get(1..body).unwrap_or_default());
        // At most 254 bytes, so that no run is longer than a code can say. From the back: each zero, and the first
        // place, becomes the distance to the next zero or to the end.
        let mut next = end;
        for (at, place) in frame.iter_mut().enumerate().rev() {
            if at >= body {
                *place = if at == end { 0 } else { (crc >> (8 * (at - body))) as u8 };
            }
            if at == 0 || (*place == 0 && at != end) {
                *place = (next - at) as u8;
                next = at;
            }
        }
        frame
    }
}
