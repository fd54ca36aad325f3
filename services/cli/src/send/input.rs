//! Lines from standard input, read by a thread of their own so that nothing else waits for them.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

/// Longest line, in bytes; a longer one is refused whole.
const LINE_BYTES_MAX: usize = 65_536;
/// Lines that may wait to be sent.
const QUEUE_MAX: usize = 1_000;

/// A line, or why it cannot be read.
#[derive(Debug)]
pub(super) struct Line {
    /// From 1.
    pub(super) number: u64,
    pub(super) text: Result<String, String>,
}

/// The lines of standard input.
pub(super) struct Input {
    lines: Receiver<Line>,
}

/// What [`Input::next`] found.
pub(super) enum Next {
    Line(Line),
    /// None came within the time.
    Nothing,
    End,
}

impl Input {
    /// Starts to read. The thread ends with the input, or with the process.
    pub(super) fn stdin() -> io::Result<Self> {
        let (sender, lines) = sync_channel(QUEUE_MAX);
        thread::Builder::new().name("stdin".to_owned()).spawn(move || read(io::stdin().lock(), &sender))?;
        Ok(Self { lines })
    }

    pub(super) fn next(&self, wait: Duration) -> Next {
        match self.lines.recv_timeout(wait) {
            Ok(line) => Next::Line(line),
            Err(RecvTimeoutError::Timeout) => Next::Nothing,
            Err(RecvTimeoutError::Disconnected) => Next::End,
        }
    }
}

fn read(mut input: impl BufRead, sender: &SyncSender<Line>) {
    for number in 1.. {
        let text = match read_line(&mut input) {
            Ok(Some(text)) => text,
            Ok(None) => return,
            Err(error) => {
                let _ = sender.send(Line { number, text: Err(format!("cannot read the input: {error}")) });
                return;
            }
        };
        if sender.send(Line { number, text }).is_err() {
            return;
        }
    }
}

/// The next line without its end; `None` at the end of the input.
fn read_line(input: &mut impl BufRead) -> io::Result<Option<Result<String, String>>> {
    let mut bytes = Vec::new();
    let most = LINE_BYTES_MAX as u64 + 1;
    if input.by_ref().take(most).read_until(b'\n', &mut bytes)? == 0 {
        return Ok(None);
    }
    let is_whole = bytes.pop_if(|last| *last == b'\n').is_some();
    if !is_whole && bytes.len() > LINE_BYTES_MAX {
        input.skip_until(b'\n')?;
        return Ok(Some(Err(format!("the line is longer than {LINE_BYTES_MAX} bytes"))));
    }
    Ok(Some(String::from_utf8(bytes).map_err(|_| "the line is not UTF-8".to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_cannot_be_read_costs_only_itself() {
        let long = "x".repeat(LINE_BYTES_MAX);
        let text = [b"one\n", long.as_bytes(), b"\n", long.as_bytes(), b"y\n\xff\n\nlast"].concat();
        let (sender, lines) = sync_channel(10);
        read(&text[..], &sender);
        drop(sender);
        let lines: Vec<_> = lines.iter().collect();
        let numbers: Vec<_> = lines.iter().map(|line| line.number).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
        let text = |at: usize| lines[at].text.as_deref();
        assert_eq!((text(0), text(4), text(5)), (Ok("one"), Ok(""), Ok("last")));
        assert_eq!(text(1).map(str::len), Ok(LINE_BYTES_MAX));
        assert!(text(2).unwrap_err().contains("longer than 65536 bytes"));
        assert!(text(3).unwrap_err().contains("not UTF-8"));
    }
}
