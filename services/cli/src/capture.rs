//! Recordings of a live stream: the file that `record` writes and `replay` reads.
//!
//! docs/CAPTURE.md is normative. The decoder is total: any bytes give records or an error, without a
//! panic and without allocating more than the longest message.

use std::io::{self, Read, Write};

use zibrato_core::limits::FRAME_BYTES_MAX;

/// First bytes of a file. Whatever rewrites line ends or cuts the eighth bit damages them.
const MAGIC: [u8; 8] = *b"\x89ZCAP\r\n\x1a";
/// Version that is written: major 1 in the high, minor 0 in the low four bits.
const VERSION: u8 = 0x10;
/// Length of the file's header.
pub(crate) const HEADER_BYTES: usize = 24;
/// Length of a record's header, and of the end.
pub(crate) const RECORD_BYTES: usize = 16;

/// Writes a recording.
#[derive(Debug)]
pub(crate) struct Writer<W> {
    output: W,
    bytes: u64,
    offset_us: u64,
}

impl<W: Write> Writer<W> {
    /// Writes the header. `started_ms` is when the recording began, in unix milliseconds.
    pub(crate) fn start(mut output: W, started_ms: u64) -> io::Result<Self> {
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(&MAGIC);
        header[8] = VERSION;
        header[12..20].copy_from_slice(&started_ms.to_le_bytes());
        let sum = crc32fast::hash(&header[..20]);
        header[20..].copy_from_slice(&sum.to_le_bytes());
        output.write_all(&header)?;
        Ok(Self { output, bytes: HEADER_BYTES as u64, offset_us: 0 })
    }

    /// Appends a message of 1 to [`FRAME_BYTES_MAX`] bytes that came `offset_us` behind the start. An
    /// offset before the last one counts as the last one.
    pub(crate) fn push(&mut self, offset_us: u64, message: &[u8]) -> io::Result<()> {
        if message.is_empty() || message.len() > FRAME_BYTES_MAX {
            return Err(io::Error::other(format!("a message of {} bytes cannot be recorded", message.len())));
        }
        self.put(offset_us, message)
    }

    /// Writes the end, which tells a whole recording from one that was cut; returns the output.
    pub(crate) fn finish(mut self, offset_us: u64) -> io::Result<W> {
        self.put(offset_us, &[])?;
        self.output.flush()?;
        Ok(self.output)
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }

    /// Length of the file if a message of `bytes` and the end were written now.
    pub(crate) const fn bytes_with(&self, bytes: usize) -> u64 {
        self.bytes + 2 * RECORD_BYTES as u64 + bytes as u64
    }

    /// Bytes written so far.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    fn put(&mut self, offset_us: u64, message: &[u8]) -> io::Result<()> {
        self.offset_us = self.offset_us.max(offset_us);
        let mut header = [0; RECORD_BYTES];
        header[..8].copy_from_slice(&self.offset_us.to_le_bytes());
        header[8..12].copy_from_slice(&(message.len() as u32).to_le_bytes());
        let sum = checksum(&header, message);
        header[12..].copy_from_slice(&sum.to_le_bytes());
        self.output.write_all(&header)?;
        self.output.write_all(message)?;
        self.bytes += (RECORD_BYTES + message.len()) as u64;
        Ok(())
    }
}

/// Reads a recording.
#[derive(Debug)]
pub(crate) struct Reader<R> {
    input: R,
    started_ms: u64,
    /// Position of the next record.
    at: u64,
    offset_us: u64,
    message: Vec<u8>,
}

/// One message of a recording.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Record<'a> {
    /// When it came, in microseconds behind the start.
    pub(crate) offset_us: u64,
    pub(crate) message: &'a [u8],
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`CaptureError::NotACapture`], [`CaptureError::Version`], [`CaptureError::Damaged`], [`CaptureError::Truncated`].
    pub(crate) fn open(mut input: R) -> Result<Self, CaptureError> {
        let mut header = [0; HEADER_BYTES];
        let bytes = fill(&mut input, &mut header)?;
        let magic = bytes.min(MAGIC.len());
        if magic == 0 || header[..magic] != MAGIC[..magic] {
            return Err(CaptureError::NotACapture);
        }
        if bytes < HEADER_BYTES {
            return Err(CaptureError::Truncated { at: 0 });
        }
        if header[8] >> 4 != VERSION >> 4 {
            return Err(CaptureError::Version { version: header[8] });
        }
        if u32::from_le_bytes(array(&header, 20)) != crc32fast::hash(&header[..20]) {
            return Err(CaptureError::Damaged { at: 0 });
        }
        let started_ms = u64::from_le_bytes(array(&header, 12));
        Ok(Self { input, started_ms, at: HEADER_BYTES as u64, offset_us: 0, message: Vec::new() })
    }

    /// When the recording began, in unix milliseconds.
    pub(crate) const fn started_ms(&self) -> u64 {
        self.started_ms
    }

    /// When the last record read came, in microseconds behind the start; behind the end, its length.
    pub(crate) const fn offset_us(&self) -> u64 {
        self.offset_us
    }

    /// The next message; `None` at the end of a whole recording.
    ///
    /// # Errors
    /// [`CaptureError::Truncated`] and [`CaptureError::Damaged`]. What was read before is good; nothing behind it can be read.
    pub(crate) fn next(&mut self) -> Result<Option<Record<'_>>, CaptureError> {
        let at = self.at;
        let mut header = [0; RECORD_BYTES];
        if fill(&mut self.input, &mut header)? < RECORD_BYTES {
            return Err(CaptureError::Truncated { at });
        }
        let offset_us = u64::from_le_bytes(array(&header, 0));
        let length = u32::from_le_bytes(array(&header, 8)) as usize;
        // Before anything is allocated for it.
        if length > FRAME_BYTES_MAX || offset_us < self.offset_us {
            return Err(CaptureError::Damaged { at });
        }
        self.message.resize(length, 0);
        if fill(&mut self.input, &mut self.message)? < length {
            return Err(CaptureError::Truncated { at });
        }
        if u32::from_le_bytes(array(&header, 12)) != checksum(&header, &self.message) {
            return Err(CaptureError::Damaged { at });
        }
        self.offset_us = offset_us;
        self.at += (RECORD_BYTES + length) as u64;
        if length > 0 {
            return Ok(Some(Record { offset_us, message: &self.message }));
        }
        // The end is the last record of the file.
        if fill(&mut self.input, &mut [0])? > 0 {
            Err(CaptureError::Damaged { at: self.at })
        } else {
            Ok(None)
        }
    }
}

/// Checksum of a record: its offset and length, and the message.
fn checksum(header: &[u8; RECORD_BYTES], message: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&header[..12]);
    hasher.update(message);
    hasher.finalize()
}

/// Reads until the buffer is full or the input ends; how much that was.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> Result<usize, CaptureError> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(bytes) => filled += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(CaptureError::Read(error)),
        }
    }
    Ok(filled)
}

/// Copies `N` bytes from `at`, which every caller's header holds.
fn array<const N: usize>(header: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&header[at..at + N]);
    out
}

/// Why a file cannot be read on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaptureError {
    /// It is something else.
    #[error("not a recording of zibrato record")]
    NotACapture,
    /// A later major version wrote it.
    #[error("recording of version {}.{} cannot be read: accepted is major {}", version >> 4, version & 15, VERSION >> 4)]
    Version { version: u8 },
    /// It ends in the middle of a record, or without an end.
    #[error("the recording was cut at byte {at}")]
    Truncated { at: u64 },
    /// A checksum is wrong, or an order.
    #[error("the recording is damaged at byte {at}")]
    Damaged { at: u64 },
    /// The system cannot read it.
    #[error("the recording cannot be read")]
    Read(#[source] io::Error),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    static LONGEST: [u8; FRAME_BYTES_MAX] = [7; FRAME_BYTES_MAX];

    fn example() -> Vec<u8> {
        let mut writer = Writer::start(Vec::new(), 1_700_000_000_000).unwrap();
        for (offset_us, message) in [(0, &b"info|Counter|n|1|1|s"[..]), (1_500, b"\x01x"), (1_500, b"y")] {
            writer.push(offset_us, message).unwrap();
        }
        writer.finish(2_000).unwrap()
    }

    /// Offsets and lengths of the messages, and how the reading ended.
    fn read(bytes: &[u8]) -> (Vec<(u64, usize)>, Result<u64, CaptureError>) {
        let mut messages = Vec::new();
        let mut reader = match Reader::open(bytes) {
            Ok(reader) => reader,
            Err(error) => return (messages, Err(error)),
        };
        loop {
            match reader.next() {
                Ok(Some(record)) => messages.push((record.offset_us, record.message.len())),
                Ok(None) => return (messages, Ok(reader.offset_us())),
                Err(error) => return (messages, Err(error)),
            }
        }
    }

    #[test]
    fn a_recording_comes_back_as_it_was_written() {
        let bytes = example();
        assert_eq!(Reader::open(&bytes[..]).unwrap().started_ms(), 1_700_000_000_000);
        let (messages, end) = read(&bytes);
        assert_eq!((messages, end.unwrap()), (vec![(0, 20), (1_500, 2), (1_500, 1)], 2_000));
    }

    #[test]
    fn the_bytes_are_those_of_the_document() {
        let mut writer = Writer::start(Vec::new(), 258).unwrap();
        writer.push(1_000, b"a|").unwrap();
        let bytes = writer.finish(2_000).unwrap();
        let page = include_str!("../../../docs/CAPTURE.md");
        let (_, example) = page.split_once("## 3. Example").unwrap();
        let (example, _) = example.split_once("## 4.").unwrap();
        let hex = |word: &str| u8::from_str_radix(word, 16).ok().filter(|_| word.len() == 2);
        let lines = example.lines().filter_map(|line| line.strip_prefix("    "));
        let written: Vec<u8> = lines.flat_map(|line| line.split_whitespace().map_while(hex)).collect();
        assert_eq!(written, bytes);
    }

    #[test]
    fn a_recording_that_was_cut_anywhere_gives_the_messages_before_the_cut() {
        let bytes = example();
        let record_ends = [24 + 36, 24 + 36 + 18, 24 + 36 + 18 + 17];
        for length in 1..bytes.len() {
            let (messages, end) = read(&bytes[..length]);
            let whole = record_ends.iter().filter(|end| **end <= length).count();
            assert_eq!(messages.len(), whole, "{length}");
            assert!(matches!(end, Err(CaptureError::Truncated { .. })), "{length}: {end:?}");
        }
        assert!(matches!(read(&[]).1, Err(CaptureError::NotACapture)));
    }

    #[test]
    fn every_bit_flip_is_noticed_and_costs_nothing_before_it() {
        let bytes = example();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let (messages, end) = read(&flipped);
            // A later minor version is not damage by itself, but its checksum is.
            let error = end.unwrap_err();
            let expected = [(0, 20), (1_500, 2), (1_500, 1)];
            assert!(expected.starts_with(&messages), "{bit}: {messages:?} {error}");
        }
        let longer = [&bytes[..], b"x"].concat();
        assert!(matches!(read(&longer).1, Err(CaptureError::Damaged { at }) if at == bytes.len() as u64));
    }

    #[test]
    fn another_file_and_a_later_version_are_told_apart() {
        let mut later = example();
        later[8] = 0x20;
        let error = read(&later).1.unwrap_err().to_string();
        assert_eq!(error, "recording of version 2.0 cannot be read: accepted is major 1");
        later[8] = 0x11;
        let sum = crc32fast::hash(&later[..20]);
        later[20..24].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(read(&later).0.len(), 3);
        assert!(matches!(read(b"PK\x03\x04 and so on, for a while").1, Err(CaptureError::NotACapture)));
    }

    #[test]
    fn messages_that_no_frame_can_be_are_not_recorded_and_time_does_not_go_back() {
        let mut writer = Writer::start(Vec::new(), 0).unwrap();
        assert!(writer.push(0, b"").is_err());
        assert!(writer.push(0, &[&LONGEST[..], b"x"].concat()).is_err());
        let before = writer.bytes_with(LONGEST.len());
        writer.push(9, &LONGEST).unwrap();
        assert_eq!(writer.bytes() + RECORD_BYTES as u64, before);
        writer.push(5, b"x").unwrap();
        let bytes = writer.finish(0).unwrap();
        let (messages, end) = read(&bytes);
        assert_eq!((messages, end.unwrap()), (vec![(9, FRAME_BYTES_MAX), (9, 1)], 9));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), length in 0u32..70_000) {
            let mut header = example();
            header.truncate(HEADER_BYTES);
            let behind_header = [&header[..], &bytes].concat();
            let mut with_length = behind_header.clone();
            if let Some(field) = with_length.get_mut(HEADER_BYTES + 8..HEADER_BYTES + 12) {
                field.copy_from_slice(&length.to_le_bytes());
            }
            for input in [&bytes, &behind_header, &with_length] {
                let _ = read(input);
            }
        }
    }
}
