//! Standard output, for pipes and for looking.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd as _;
use std::time::Duration;

use super::{response, status};
use crate::backend::Answer;

/// How long to wait for a pipe that is full, where somebody made it one that does not block.
const FULL_WAIT: Duration = Duration::from_millis(10);

/// See the module. It bypasses the standard library's buffer, in which what was not written would stay unseen.
#[derive(Debug, Default)]
pub(super) struct StdoutSink {
    file: Option<File>,
    progress: Progress,
}

/// How much of a batch is written.
#[derive(Debug, Default)]
struct Progress {
    id: String,
    bytes: usize,
    /// The last byte written is not the end of a line.
    torn: bool,
}

impl StdoutSink {
    /// Writes what is left of a batch; waits as long as the reader does not read.
    pub(super) fn write(&mut self, id: &str, text: &[u8]) -> Answer {
        let opened = match self.file.take() {
            Some(file) => Ok(file),
            None => io::stdout().as_fd().try_clone_to_owned().map(File::from),
        };
        let mut file = match opened {
            Ok(file) => file,
            Err(error) => return Answer::NotSent(format!("cannot write standard output: {error}")),
        };
        let answer = self.progress.write(&mut file, id, text);
        self.file = Some(file);
        answer
    }
}

impl Progress {
    fn write(&mut self, out: &mut impl Write, id: &str, text: &[u8]) -> Answer {
        match self.advance(out, id, text) {
            Ok(()) => response(status::WRITTEN, ""),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                response(status::NOBODY_READS, "nobody reads standard output any more")
            }
            Err(error) => {
                let why = format!("cannot write standard output: {error}");
                if self.bytes == 0 { Answer::NotSent(why) } else { Answer::Lost(why) }
            }
        }
    }

    fn advance(&mut self, out: &mut impl Write, id: &str, text: &[u8]) -> io::Result<()> {
        if self.id != id {
            if self.torn {
                // Another batch was given up in the middle of a line.
                write_some(out, b"\n")?;
            }
            *self = Self { id: id.to_owned(), ..Self::default() };
        }
        while let Some(rest) = text.get(self.bytes..).filter(|rest| !rest.is_empty()) {
            let taken = write_some(out, rest)?;
            self.bytes += taken;
            self.torn = rest[..taken].last() != Some(&b'\n');
        }
        Ok(())
    }
}

fn write_some(out: &mut impl Write, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match out.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(FULL_WAIT),
            written => return written,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Takes as many bytes at a time as it is told, or fails.
    #[derive(Default)]
    struct Pipe {
        text: Vec<u8>,
        script: VecDeque<Result<usize, ErrorKind>>,
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = self.script.pop_front().unwrap_or(Ok(bytes.len()))?.min(bytes.len());
            self.text.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn pipe(script: &[Result<usize, ErrorKind>]) -> Pipe {
        Pipe { script: script.iter().copied().collect(), ..Pipe::default() }
    }

    #[test]
    fn an_attempt_goes_on_behind_what_the_pipe_took() {
        let mut out = pipe(&[
            Err(ErrorKind::Interrupted),
            Ok(3),
            Err(ErrorKind::WouldBlock),
            Ok(2),
            Err(ErrorKind::StorageFull),
        ]);
        let mut progress = Progress::default();
        assert!(matches!(progress.write(&mut out, "a", b"one\ntwo\n"), Answer::Lost(_)));
        assert_eq!(progress.write(&mut out, "a", b"one\ntwo\n"), response(200, ""));
        // Already written: it is not written again.
        assert_eq!(progress.write(&mut out, "a", b"one\ntwo\n"), response(200, ""));
        assert_eq!(progress.write(&mut out, "b", b"three\n"), response(200, ""));
        assert_eq!(out.text, b"one\ntwo\nthree\n");
    }

    #[test]
    fn a_batch_that_was_given_up_leaves_no_line_without_an_end() {
        let mut out = pipe(&[Ok(5), Err(ErrorKind::StorageFull), Err(ErrorKind::StorageFull)]);
        let mut progress = Progress::default();
        assert!(matches!(progress.write(&mut out, "a", b"one\ntwo\n"), Answer::Lost(_)));
        assert!(matches!(progress.write(&mut out, "b", b"three\n"), Answer::Lost(_)));
        assert_eq!(progress.write(&mut out, "b", b"three\n"), response(200, ""));
        assert_eq!(out.text, b"one\nt\nthree\n");
    }

    #[test]
    fn a_pipe_that_nobody_reads_is_the_end() {
        let mut out = pipe(&[Err(ErrorKind::BrokenPipe)]);
        let answer = Progress::default().write(&mut out, "a", b"one\n");
        assert!(matches!(answer, Answer::Response(response) if response.status == 410));
        let mut out = pipe(&[Err(ErrorKind::StorageFull)]);
        assert!(matches!(Progress::default().write(&mut out, "a", b"one\n"), Answer::NotSent(_)));
    }
}
