//! Progress on a terminal, for what takes longer than a second.

use std::cell::Cell;
use std::fmt::Display;
use std::io::Write;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::paint::knows_sequences;

/// How long something may take before its progress is shown.
const QUIET: Duration = Duration::from_secs(1);
/// How often it is looked whether it is time to show what work is under way.
const LOOK: Duration = Duration::from_millis(100);
/// How often a spinner turns.
const TICK: Duration = Duration::from_millis(100);

/// Progress on standard error: nothing in the first second, and nothing at all unless it is a terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    begun: Instant,
    is_shown: Cell<bool>,
    is_terminal: bool,
}

impl Progress {
    /// For something whose length is not known.
    pub(crate) fn spinner(what: &'static str) -> Self {
        Self::new(ProgressBar::no_length(), "{spinner} {prefix} {elapsed} {msg}", what)
    }

    /// For something of `total` steps.
    pub(crate) fn bar(what: &'static str, total: u64) -> Self {
        Self::new(ProgressBar::new(total), "{prefix} [{bar:30}] {percent}% {elapsed} {msg}", what)
    }

    fn new(bar: ProgressBar, template: &str, what: &'static str) -> Self {
        bar.set_draw_target(ProgressDrawTarget::hidden());
        // The templates are ours and can be read.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(what);
        Self {
            bar,
            begun: Instant::now(),
            is_shown: Cell::new(false),
            is_terminal: knows_sequences(&std::io::stderr()),
        }
    }

    /// Says how far it is. `message` is called only if it will be seen.
    pub(crate) fn at(&self, position: u64, message: impl FnOnce() -> String) {
        if self.show() {
            self.bar.set_position(position);
            self.bar.set_message(message());
        }
    }

    /// Shows itself if it is time; whether it is seen.
    pub(crate) fn show(&self) -> bool {
        let is_due = self.is_terminal && self.begun.elapsed() >= QUIET;
        if is_due && !self.is_shown.replace(true) {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.bar.enable_steady_tick(TICK);
        }
        is_due
    }

    /// Waits for `work`, and shows itself meanwhile if it is time.
    pub(crate) async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(LOOK) => {
                    self.show();
                }
            }
        }
    }

    /// Writes a line to standard error above the progress.
    pub(crate) fn say(&self, line: impl Display) {
        self.bar.suspend(|| note(line));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Writes a line to standard error. If nobody reads it, nobody misses it.
pub(crate) fn note(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
