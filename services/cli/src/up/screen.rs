//! Standard output: one line that is kept up to date on a terminal, a line now and then elsewhere.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

/// How often the line is brought up to date on a terminal.
const PERIOD_TERMINAL: Duration = Duration::from_secs(1);
/// How often a line is written elsewhere.
const PERIOD_LINES: Duration = Duration::from_secs(5);

/// Where `zibrato up` prints. It uses no colours, so there is nothing for NO_COLOR to switch off.
#[derive(Debug)]
pub(crate) struct Screen<W = io::Stdout> {
    out: W,
    is_terminal: bool,
    /// Whether the cursor stands behind a status line.
    is_open: bool,
    /// Whether a pipe's reader went away.
    is_gone: bool,
}

impl Screen {
    pub(crate) fn stdout() -> Self {
        let out = io::stdout();
        // Without a known type the sequences below may be shown as text.
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        Self { is_terminal: out.is_terminal() && !is_dumb, out, is_open: false, is_gone: false }
    }
}

impl<W: Write> Screen<W> {
    /// How often a status is worth showing.
    pub(crate) fn period(&self) -> Duration {
        if self.is_terminal { PERIOD_TERMINAL } else { PERIOD_LINES }
    }

    /// Whether nobody reads any more what is printed into a pipe, as behind `zibrato up | head -1`.
    pub(crate) fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// Prints whole lines.
    pub(crate) fn print(&mut self, lines: &str) {
        self.finish();
        self.write(format_args!("{lines}\n"));
    }

    /// Shows a status in place of the one before.
    pub(crate) fn status(&mut self, line: &str) {
        if !self.is_terminal {
            return self.print(line);
        }
        self.is_open = true;
        // Without line wrap a terminal cuts the line at its own width: the line stays one line.
        self.write(format_args!("\r\x1b[?7l{line}\x1b[K\x1b[?7h"));
    }

    /// Leaves the status where it is; what comes next stands below it.
    pub(crate) fn finish(&mut self) {
        if std::mem::take(&mut self.is_open) {
            self.write(format_args!("\n"));
        }
    }

    /// A disk that is full or a terminal that hung up are no reason to stop measuring.
    fn write(&mut self, text: fmt::Arguments<'_>) {
        let written = self.out.write_fmt(text).and_then(|()| self.out.flush());
        self.is_gone |= written.is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(is_terminal: bool) -> String {
        let mut screen = Screen { out: Vec::new(), is_terminal, is_open: false, is_gone: false };
        screen.print("up");
        screen.status("one");
        screen.status("two");
        screen.print("end");
        screen.finish();
        String::from_utf8(screen.out).unwrap()
    }

    #[test]
    fn a_terminal_gets_one_line_in_place_and_a_pipe_plain_lines() {
        assert_eq!(written(false), "up\none\ntwo\nend\n");
        let line = |text| format!("\r\x1b[?7l{text}\x1b[K\x1b[?7h");
        assert_eq!(written(true), format!("up\n{}{}\nend\n", line("one"), line("two")));
    }

    #[test]
    fn only_a_broken_pipe_means_that_nobody_reads() {
        struct Fails(io::ErrorKind);
        impl Write for Fails {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        for (kind, is_gone) in [(io::ErrorKind::StorageFull, false), (io::ErrorKind::BrokenPipe, true)] {
            let mut screen = Screen { out: Fails(kind), is_terminal: false, is_open: false, is_gone: false };
            screen.print("up");
            assert_eq!(screen.is_gone(), is_gone, "{kind}");
        }
    }
}
