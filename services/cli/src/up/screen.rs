//! Standard output: one line that is kept up to date on a terminal, a line now and then elsewhere.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

/// How often the line is brought up to date on a terminal.
const PERIOD_TERMINAL: Duration = Duration::from_secs(1);
/// How often a line is written elsewhere.
const PERIOD_LINES: Duration = Duration::from_secs(5);

/// Where `zibrato up` prints. It uses no colours, so there is nothing for NO_COLOR to switch off. A
/// reader that went away is no reason to stop, so errors are ignored.
#[derive(Debug)]
pub(crate) struct Screen<W = io::Stdout> {
    out: W,
    is_terminal: bool,
    /// Whether the cursor stands behind a status line.
    is_open: bool,
}

impl Screen {
    pub(crate) fn stdout() -> Self {
        let out = io::stdout();
        // Without a known type the sequences below may be shown as text.
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        Self { is_terminal: out.is_terminal() && !is_dumb, out, is_open: false }
    }
}

impl<W: Write> Screen<W> {
    /// How often a status is worth showing.
    pub(crate) fn period(&self) -> Duration {
        if self.is_terminal { PERIOD_TERMINAL } else { PERIOD_LINES }
    }

    /// Prints whole lines.
    pub(crate) fn print(&mut self, lines: &str) {
        self.finish();
        let _ = writeln!(self.out, "{lines}").and_then(|()| self.out.flush());
    }

    /// Shows a status in place of the one before.
    pub(crate) fn status(&mut self, line: &str) {
        if !self.is_terminal {
            return self.print(line);
        }
        self.is_open = true;
        // Without line wrap a terminal cuts the line at its own width: the line stays one line.
        let _ = write!(self.out, "\r\x1b[?7l{line}\x1b[K\x1b[?7h").and_then(|()| self.out.flush());
    }

    /// Leaves the status where it is; what comes next stands below it.
    pub(crate) fn finish(&mut self) {
        if std::mem::take(&mut self.is_open) {
            let _ = writeln!(self.out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(is_terminal: bool) -> String {
        let mut screen = Screen { out: Vec::new(), is_terminal, is_open: false };
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
}
