//! Recordings of a device: the bytes that came, with their times (docs/CAPTURE.md section 6).
//!
//! The decoder is total: any bytes give chunks or an error, without a panic and without allocating more than the
//! longest chunk.

use std::io::{self, Read, Write};

/// First bytes of a file. Whatever rewrites line ends or cuts the eighth bit damages them.
const MAGIC: [u8; 8] = *b"\x89ZDEV\r\n\x1a";
/// Version that is written: major 1 in the high, minor 0 in the low four bits.
const VERSION: u8 = 0x10;
/// Longest chunk, in bytes.
pub(crate) const CHUNK_BYTES_MAX: usize = 65_536;

/// Writes a recording.
#[derive(Debug)]
pub(crate) struct Writer<W> {
    output: W,
    last_us: u64,
}

impl<W: Write> Writer<W> {
    /// Writes the head; time counts from `now_us` on, microseconds of a monotonic clock.
    pub(crate) fn start(mut output: W, now_us: u64) -> io::Result<Self> {
        output.write_all(&MAGIC)?;
        output.write_all(&[VERSION])?;
        Ok(Self { output, last_us: now_us })
    }

    /// Appends what came at `now_us`.
    pub(crate) fn push(&mut self, now_us: u64, bytes: &[u8]) -> io::Result<()> {
        for chunk in bytes.chunks(CHUNK_BYTES_MAX) {
            self.put(now_us, chunk)?;
        }
        Ok(())
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }

    /// Writes the end, which tells a whole recording from one that was cut; returns the output.
    pub(crate) fn finish(mut self, now_us: u64) -> io::Result<W> {
        self.put(now_us, &[])?;
        self.output.flush()?;
        Ok(self.output)
    }

    fn put(&mut self, now_us: u64, bytes: &[u8]) -> io::Result<()> {
        let waited_us = now_us.saturating_sub(self.last_us);
        self.last_us = self.last_us.max(now_us);
        put_varint(&mut self.output, waited_us)?;
        put_varint(&mut self.output, bytes.len() as u64)?;
        self.output.write_all(bytes)
    }
}

/// Reads a recording.
#[derive(Debug)]
pub(crate) struct Reader<R> {
    input: R,
    at: u64,
    bytes: Vec<u8>,
}

/// Some bytes of a recording.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Chunk<'a> {
    /// Microseconds since the chunk before, or since the start.
    pub(crate) waited_us: u64,
    pub(crate) bytes: &'a [u8],
}

impl<R: Read> Reader<R> {
    /// Reads the head.
    ///
    /// # Errors
    /// [`CaptureError::NotACapture`], [`CaptureError::Version`], [`CaptureError::Truncated`].
    pub(crate) fn open(mut input: R) -> Result<Self, CaptureError> {
        let mut head = [0; 9];
        let mut filled = 0;
        while filled < head.len() {
            match input.read(&mut head[filled..]) {
                Ok(0) => break,
                Ok(bytes) => filled += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(CaptureError::Read(error)),
            }
        }
        let magic = filled.min(MAGIC.len());
        if magic == 0 || head[..magic] != MAGIC[..magic] {
            return Err(CaptureError::NotACapture);
        }
        match head[8] {
            _ if filled < head.len() => Err(CaptureError::Truncated { at: 0 }),
            version if version >> 4 != VERSION >> 4 => Err(CaptureError::Version { version }),
            _ => Ok(Self { input, at: head.len() as u64, bytes: Vec::new() }),
        }
    }

    /// The next chunk; `None` at the end of a whole recording.
    ///
    /// # Errors
    /// [`CaptureError::Truncated`], [`CaptureError::Damaged`]. What was read before is good; nothing behind it can be read.
    pub(crate) fn next(&mut self) -> Result<Option<Chunk<'_>>, CaptureError> {
        let at = self.at;
        let waited_us = self.varint(at)?;
        let length = self.varint(at)?;
        // Before anything is allocated for it.
        let length = usize::try_from(length).ok().filter(|&length| length <= CHUNK_BYTES_MAX);
        let Some(length) = length else { return Err(CaptureError::Damaged { at }) };
        self.bytes.resize(length, 0);
        match self.input.read_exact(&mut self.bytes) {
            Ok(()) => self.at += length as u64,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(CaptureError::Truncated { at });
            }
            Err(error) => return Err(CaptureError::Read(error)),
        }
        if length > 0 {
            return Ok(Some(Chunk { waited_us, bytes: &self.bytes }));
        }
        // The end is the last thing in the file.
        match self.byte() {
            Ok(None) => Ok(None),
            Ok(Some(_)) => Err(CaptureError::Damaged { at: self.at - 1 }),
            Err(error) => Err(CaptureError::Read(error)),
        }
    }

    fn varint(&mut self, at: u64) -> Result<u64, CaptureError> {
        let mut value = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte().map_err(CaptureError::Read)?.ok_or(CaptureError::Truncated { at })?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(CaptureError::Damaged { at })
    }

    fn byte(&mut self) -> io::Result<Option<u8>> {
        let mut byte = [0];
        match self.input.read_exact(&mut byte) {
            Ok(()) => {
                self.at += 1;
                Ok(Some(byte[0]))
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn put_varint(output: &mut impl Write, mut value: u64) -> io::Result<()> {
    let mut bytes = [0; 10];
    let mut used = 0;
    loop {
        let more = value >= 0x80;
        bytes[used] = (value & 0x7f) as u8 | u8::from(more) << 7;
        used += 1;
        value >>= 7;
        if !more {
            return output.write_all(&bytes[..used]);
        }
    }
}

/// Why a file cannot be read on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// It is something else.
    #[error("not a recording of zibrato-gateway --record")]
    NotACapture,
    /// A later major version wrote it.
    #[error("recording of version {}.{} cannot be read: accepted is major {}", version >> 4, version & 15, VERSION >> 4)]
    Version {
        /// Its version byte.
        version: u8,
    },
    /// It ends in the middle of a chunk, or without an end.
    #[error("the recording was cut at byte {at}; what is before is used")]
    Truncated {
        /// Where the last whole chunk ends.
        at: u64,
    },
    /// A length or a time that no recording has, or bytes behind the end.
    #[error("the recording is damaged at byte {at}; what is before is used")]
    Damaged {
        /// Where.
        at: u64,
    },
    /// The system cannot read it.
    #[error("the recording cannot be read")]
    Read(#[source] io::Error),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn example() -> Vec<u8> {
        let mut writer = Writer::start(Vec::new(), 1_000).unwrap();
        writer.push(1_005, b"abc").unwrap();
        writer.push(1_305, &[0; 200]).unwrap();
        writer.push(1_200, b"x").unwrap();
        writer.finish(2_305).unwrap()
    }

    fn read(bytes: &[u8]) -> (Vec<(u64, usize)>, Result<(), CaptureError>) {
        let mut chunks = Vec::new();
        let mut reader = match Reader::open(bytes) {
            Ok(reader) => reader,
            Err(error) => return (chunks, Err(error)),
        };
        loop {
            match reader.next() {
                Ok(Some(chunk)) => chunks.push((chunk.waited_us, chunk.bytes.len())),
                Ok(None) => return (chunks, Ok(())),
                Err(error) => return (chunks, Err(error)),
            }
        }
    }

    #[test]
    fn a_recording_comes_back_as_it_was_written() {
        let (chunks, end) = read(&example());
        end.unwrap();
        assert_eq!(chunks, [(5, 3), (300, 200), (0, 1)], "time does not go back");
    }

    #[test]
    fn the_bytes_are_those_of_the_document() {
        let mut writer = Writer::start(Vec::new(), 0).unwrap();
        writer.push(300, &[0x00, 0x02]).unwrap();
        let bytes = writer.finish(300).unwrap();
        let page = include_str!("../../../docs/CAPTURE.md");
        let (_, section) = page.split_once("## 6.").unwrap();
        let hex = |word: &str| u8::from_str_radix(word, 16).ok().filter(|_| word.len() == 2);
        let lines = section.lines().filter_map(|line| line.strip_prefix("    "));
        let written: Vec<u8> = lines.flat_map(|line| line.split_whitespace().map_while(hex)).collect();
        assert_eq!(written, bytes);
    }

    #[test]
    fn a_recording_that_was_cut_anywhere_gives_the_chunks_before_the_cut() {
        let bytes = example();
        let ends = [9 + 2 + 3, 14 + 4 + 200, 218 + 2 + 1];
        for length in 1..bytes.len() {
            let (chunks, end) = read(&bytes[..length]);
            assert_eq!(chunks.len(), ends.iter().filter(|end| **end <= length).count(), "{length}");
            assert!(matches!(end, Err(CaptureError::Truncated { .. })), "{length}: {end:?}");
        }
        assert!(matches!(read(&[]).1, Err(CaptureError::NotACapture)));
    }

    #[test]
    fn other_files_later_versions_and_impossible_lengths_are_told_apart() {
        assert!(matches!(read(b"PK\x03\x04 and so on").1, Err(CaptureError::NotACapture)));
        let mut later = example();
        later[8] = 0x20;
        let error = read(&later).1.unwrap_err().to_string();
        assert_eq!(error, "recording of version 2.0 cannot be read: accepted is major 1");
        later[8] = 0x1f;
        read(&later).1.unwrap();
        let longer = [&example()[..], b"x"].concat();
        assert!(
            matches!(read(&longer).1, Err(CaptureError::Damaged { at }) if at == longer.len() as u64 - 1)
        );
        let huge = [&example()[..9], &[0, 0xff, 0xff, 0xff, 0x7f]].concat();
        assert!(matches!(read(&huge).1, Err(CaptureError::Damaged { at: 9 })));
        let endless = [&example()[..9], &[0xff; 20]].concat();
        assert!(matches!(read(&endless).1, Err(CaptureError::Damaged { at: 9 })));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
            let _ = read(&[&example()[..9], &bytes].concat());
        }

        #[test]
        fn chunks_of_any_time_and_length_come_back(chunks in proptest::collection::vec((any::<u32>(), 1usize..300), 0..20)) {
            let mut writer = Writer::start(Vec::new(), 0).unwrap();
            let mut now_us = 0;
            for &(waited_us, length) in &chunks {
                now_us += u64::from(waited_us);
                writer.push(now_us, &vec![7; length]).unwrap();
            }
            let (seen, end) = read(&writer.finish(now_us).unwrap());
            end.unwrap();
            let expected: Vec<_> = chunks.iter().map(|&(us, length)| (u64::from(us), length)).collect();
            prop_assert_eq!(seen, expected);
        }
    }
}
