//! A program on a pseudo-terminal, and what its screen shows.
#![allow(dead_code, reason = "not every test uses every helper")]
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, ExitStatus, MasterPty, PtySize, native_pty_system};

/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(60);
/// Pause between two looks at a condition.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A program on a pseudo-terminal; it is killed when this is dropped.
pub(crate) struct Pty {
    child: Box<dyn Child + Send + Sync>,
    master: Box<dyn MasterPty + Send>,
    keyboard: Box<dyn Write + Send>,
    seen: Arc<Mutex<Seen>>,
    reader: Option<JoinHandle<()>>,
}

/// What the program wrote.
struct Seen {
    parser: vt100::Parser,
    bytes: Vec<u8>,
}

impl Pty {
    /// Starts a program on a terminal of `columns` x `rows`, with no environment but `TERM` and `env`.
    pub(crate) fn start(
        program: &str,
        args: &[&str],
        (columns, rows): (u16, u16),
        env: &[(&str, &str)],
    ) -> Self {
        let pair = native_pty_system().openpty(size(columns, rows)).unwrap();
        let mut command = CommandBuilder::new(program);
        command.args(args);
        command.env_clear();
        command.env("TERM", "xterm-256color");
        env.iter().for_each(|(name, value)| command.env(name, value));
        let child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let parser = vt100::Parser::new(nonzero(rows), nonzero(columns), 0);
        let seen = Arc::new(Mutex::new(Seen { parser, bytes: Vec::new() }));
        let (mut output, shared) = (pair.master.try_clone_reader().unwrap(), Arc::clone(&seen));
        let reader = thread::spawn(move || {
            let mut buffer = [0; 65_536];
            // A terminal whose program has ended answers with an error.
            while let Ok(read @ 1..) = output.read(&mut buffer) {
                let mut seen = shared.lock().unwrap();
                seen.parser.process(&buffer[..read]);
                seen.bytes.extend_from_slice(&buffer[..read]);
            }
        });
        let keyboard = pair.master.take_writer().unwrap();
        Self { child, master: pair.master, keyboard, seen, reader: Some(reader) }
    }

    /// What the screen shows, line by line, without blanks at the ends of lines.
    pub(crate) fn lines(&self) -> Vec<String> {
        let seen = self.seen();
        let (_, columns) = seen.parser.screen().size();
        let width = columns.get();
        seen.parser.screen().rows(0, width).map(|line| line.trim_end().to_owned()).collect()
    }

    /// What the screen shows.
    pub(crate) fn screen(&self) -> String {
        self.lines().join("\n")
    }

    /// The first line of the screen that contains `text`.
    pub(crate) fn line(&self, text: &str) -> Option<String> {
        self.lines().into_iter().find(|line| line.contains(text))
    }

    /// Waits until the screen satisfies `condition`.
    pub(crate) fn wait_for(&self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !condition(self) {
            assert!(Instant::now() < deadline, "no {what}; the screen:\n{}", self.screen());
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Waits until the screen shows `text`.
    pub(crate) fn wait_for_text(&self, text: &str) {
        self.wait_for(text, |pty| pty.screen().contains(text));
    }

    /// Types.
    pub(crate) fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
        self.keyboard.flush().unwrap();
    }

    /// Gives the terminal another size, which the program is told.
    pub(crate) fn resize(&mut self, columns: u16, rows: u16) {
        self.seen().parser.screen_mut().set_size(nonzero(rows), nonzero(columns));
        self.master.resize(size(columns, rows)).unwrap();
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.process_id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Waits for the end; the exit status, and everything that was written.
    pub(crate) fn end(mut self) -> (ExitStatus, Ended) {
        let deadline = Instant::now() + DEADLINE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "does not end; the screen:\n{}", self.screen());
            thread::sleep(LOOK_AGAIN);
        };
        self.reader.take().unwrap().join().unwrap();
        let seen = self.seen();
        let screen = seen.parser.screen();
        let ended = Ended {
            screen: screen.contents(),
            is_alternate: screen.alternate_screen(),
            is_cursor_hidden: screen.hide_cursor(),
            bytes: seen.bytes.clone(),
        };
        drop(seen);
        (status, ended)
    }

    /// Everything written so far.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.seen().bytes.clone()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A terminal whose program has ended.
pub(crate) struct Ended {
    pub(crate) screen: String,
    pub(crate) is_alternate: bool,
    pub(crate) is_cursor_hidden: bool,
    pub(crate) bytes: Vec<u8>,
}

/// The SGR sequences (`ESC [ ... m`) in what was written that set a colour.
pub(crate) fn colour_sequences(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let sequences = text.split("\x1b[").skip(1).filter_map(|rest| {
        let end = rest.find(|char: char| !char.is_ascii_digit() && char != ';')?;
        rest[end..].starts_with('m').then(|| rest[..end].to_owned())
    });
    let is_colour = |sequence: &String| {
        sequence.split(';').filter_map(|code| code.parse::<u32>().ok()).any(|code| {
            // 39 and 49 are the terminal's own colours.
            matches!(code, 30..=38 | 40..=48 | 90..=107)
        })
    };
    sequences.filter(is_colour).collect()
}

fn nonzero(value: u16) -> NonZeroU16 {
    NonZeroU16::new(value).unwrap()
}

fn size(columns: u16, rows: u16) -> PtySize {
    PtySize { rows, cols: columns, pixel_width: 0, pixel_height: 0 }
}
