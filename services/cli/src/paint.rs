//! Standard output: pretty on a terminal, plain elsewhere, and no fuss when its reader goes away.

use std::io::{self, ErrorKind, IsTerminal, Write};

/// Colours of lines that are printed, or none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Paint {
    has_colours: bool,
}

/// What a text says by its colour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tone {
    Good,
    Warning,
    Bad,
    Faint,
    Strong,
}

impl Paint {
    /// No colours, whatever a test's output is.
    #[cfg(test)]
    pub(crate) const PLAIN: Self = Self { has_colours: false };

    /// What standard output can show: colours on a terminal that has them, unless `NO_COLOR` is set.
    pub(crate) fn stdout() -> Self {
        Self { has_colours: is_pretty() && colours_wanted() }
    }

    /// The text in that tone.
    pub(crate) fn tone(self, tone: Tone, text: &str) -> String {
        if !self.has_colours {
            return text.to_owned();
        }
        // These read well on dark and on light ground.
        let code = match tone {
            Tone::Good => "32",
            Tone::Warning => "33",
            Tone::Bad => "1;31",
            Tone::Faint => "2",
            Tone::Strong => "1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Whether standard output is a terminal that knows control sequences.
pub(crate) fn is_pretty() -> bool {
    knows_sequences(&io::stdout())
}

/// Whether a stream is a terminal that knows control sequences.
pub(crate) fn knows_sequences(stream: &impl IsTerminal) -> bool {
    // Without a known type the sequences may be shown as text.
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    stream.is_terminal() && !is_dumb
}

/// Whether the user did not ask for no colours: <https://no-color.org>.
pub(crate) fn colours_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Prints a text as it is. A reader that went away has seen enough, which is no error.
///
/// # Errors
/// Any other error of the operating system.
pub(crate) fn print(text: &str) -> Result<(), PrintError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

/// Standard output is full or broken.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output")]
pub(crate) struct PrintError(#[from] io::Error);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_colours_a_text_stays_as_it_is() {
        assert_eq!(Paint { has_colours: false }.tone(Tone::Bad, "x"), "x");
        assert_eq!(Paint { has_colours: true }.tone(Tone::Bad, "x"), "\x1b[1;31mx\x1b[0m");
    }
}
