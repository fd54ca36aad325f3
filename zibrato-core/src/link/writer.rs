//! Building a frame in the buffer from which it is sent.

use super::{CRC_BYTES, HEAD_BYTES, LINE_BYTES_MAX, crc16};

/// Writes one frame at a time into a borrowed buffer and encodes it in place.
///
/// The buffer bounds the frames: [`LINE_BYTES_MAX`] bytes hold the longest. What is written beyond it is left out, so
/// whoever writes asks [`Writer::room`] first; nothing here panics.
#[derive(Debug)]
pub struct Writer<'b> {
    buffer: &'b mut [u8],
    /// Bytes used, the place of the first COBS code included.
    length: usize,
}

impl<'b> Writer<'b> {
    /// Of `buffer`, at most [`LINE_BYTES_MAX`] bytes are used.
    #[must_use]
    pub fn new(buffer: &'b mut [u8]) -> Self {
        let limit = buffer.len().min(LINE_BYTES_MAX);
        Self { buffer: buffer.split_at_mut(limit).0, length: 0 }
    }

    /// Begins a frame; one that was begun and not finished is forgotten.
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
        self.buffer.len().saturating_sub(CRC_BYTES + 1 + self.length)
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

    /// Ends the frame: CRC, COBS, closing zero. The bytes for the line; none if the buffer has no room for any frame.
    #[must_use]
    pub fn finish(&mut self) -> &[u8] {
        let end = self.length + CRC_BYTES;
        let Some(frame) = self.buffer.get_mut(..=end) else { return &[] };
        let crc = crc16(frame.get(1..self.length).unwrap_or_default()).to_le_bytes();
        if let Some(place) = frame.get_mut(self.length..end) {
            place.copy_from_slice(&crc);
        }
        // At most 254 bytes, so that no run is longer than a code can say. From the back: each zero, and the first
        // place, becomes the distance to the next zero or to the end.
        let mut next = end;
        for (at, place) in frame.iter_mut().enumerate().rev() {
            if at == end {
                *place = 0;
            } else if at == 0 || *place == 0 {
                *place = (next - at) as u8;
                next = at;
            }
        }
        self.length = 0;
        frame
    }
}
