//! Progress on a terminal, for what takes longer than a second.

use std::fmt::Display;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::paint::knows_sequences;

/// How long something may take before its progress is shown.
const QUIET: Duration = Duration::from_secs(1);
/// How often a spinner turns.
const TICK: Duration = Duration::from_millis(100);

/// Progress on standard error: nothing in the first second, and nothing at all unless it is a terminal.
///
/// It shows itself, so that a wait needs nothing to do for it.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    is_shown: Arc<AtomicBool>,
    /// What shows the bar when it is time; `None` if nobody would see it.
    shower: Option<Shower>,
}

/// A thread that waits for the first second to pass, or for the end.
#[derive(Debug)]
struct Shower {
    end: Sender<()>,
    thread: JoinHandle<()>,
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

    /// For something during which the terminal belongs to somebody else.
    pub(crate) fn silent() -> Self {
        Self { bar: ProgressBar::hidden(), is_shown: Arc::default(), shower: None }
    }

    fn new(bar: ProgressBar, template: &str, what: &'static str) -> Self {
        bar.set_draw_target(ProgressDrawTarget::hidden());
        // The templates are ours and can be read.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(what);
        let is_shown = Arc::new(AtomicBool::new(false));
        // Without the thread there is no progress, which is no reason to stop.
        let shower =
            knows_sequences(&std::io::stderr()).then(|| Shower::start(&bar, &is_shown).ok()).flatten();
        Self { bar, is_shown, shower }
    }

    /// Says how far it is. `message` is called only if it will be seen.
    pub(crate) fn at(&self, position: u64, message: impl FnOnce() -> String) {
        self.bar.set_position(position);
        if self.is_shown.load(Ordering::Relaxed) {
            self.bar.set_message(message());
        }
    }

    /// Writes a line to standard error above the progress.
    pub(crate) fn say(&self, line: impl Display) {
        self.bar.suspend(|| note(line));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(Shower { end, thread }) = self.shower.take() {
            drop(end);
            // Else it could show the bar behind its end.
            let _ = thread.join();
        }
        self.bar.finish_and_clear();
    }
}

impl Shower {
    fn start(bar: &ProgressBar, is_shown: &Arc<AtomicBool>) -> std::io::Result<Self> {
        let (bar, is_shown) = (bar.clone(), Arc::clone(is_shown));
        let (end, ended) = channel();
        let thread = thread::Builder::new().name("progress".to_owned()).spawn(move || {
            if ended.recv_timeout(QUIET) == Err(RecvTimeoutError::Timeout) {
                bar.set_draw_target(ProgressDrawTarget::stderr());
                bar.enable_steady_tick(TICK);
                is_shown.store(true, Ordering::Relaxed);
            }
        })?;
        Ok(Self { end, thread })
    }
}

/// Writes a line to standard error. If nobody reads it, nobody misses it.
pub(crate) fn note(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
