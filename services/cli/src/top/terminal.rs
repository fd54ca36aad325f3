//! The terminal: drawn on while top runs, and left as it was found however it ends.

use std::io::{self, ErrorKind};
use std::thread;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyEvent};
use ratatui::{DefaultTerminal, Frame};
use tokio::sync::mpsc;

/// How long the thread that reads keys waits before it looks whether anybody wants them.
const POLL: Duration = Duration::from_millis(200);
/// Keys that may wait.
const EVENTS_MAX: usize = 256;

/// The alternate screen in raw mode; the terminal is restored when this is dropped, and on a panic of
/// any thread.
#[derive(Debug)]
pub(crate) struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    /// Takes the terminal over.
    ///
    /// # Errors
    /// That of the operating system. The terminal is then as it was.
    pub(crate) fn enter() -> io::Result<Self> {
        match ratatui::try_init() {
            Ok(terminal) => Ok(Self { terminal }),
            Err(error) => {
                let _ = ratatui::try_restore();
                Err(error)
            }
        }
    }

    /// Draws; false if the terminal is gone.
    ///
    /// # Errors
    /// That of the operating system.
    pub(crate) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<bool> {
        match self.terminal.draw(draw) {
            Ok(_) => Ok(true),
            Err(error) if is_gone(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Of a terminal that is gone nothing can be restored.
        let _ = self.terminal.show_cursor();
        let _ = ratatui::try_restore();
    }
}

/// What the user does, read on a thread of its own, because reading cannot be waited for otherwise.
#[derive(Debug)]
pub(crate) struct Input(mpsc::Receiver<Event>);

impl Input {
    /// Starts to read. The thread ends when this is dropped, or with the terminal.
    pub(crate) fn start() -> Self {
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        // Without the thread the channel is closed, which ends the program.
        let _ = thread::Builder::new().name("keys".to_owned()).spawn(move || read(&sender));
        Self(events)
    }

    /// The next event; `None` if the terminal is gone.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        self.0.recv().await
    }
}

/// The key of an event; `None` for other events, such as a new size.
pub(crate) fn key(event: &Event) -> Option<KeyEvent> {
    match event {
        Event::Key(key) => Some(*key),
        _ => None,
    }
}

fn read(sender: &mpsc::Sender<Event>) {
    while !sender.is_closed() {
        let event = match event::poll(POLL) {
            Ok(false) => continue,
            Ok(true) => event::read(),
            Err(error) => Err(error),
        };
        let is_open = match event {
            Ok(event) => sender.blocking_send(event).is_ok(),
            Err(error) => error.kind() == ErrorKind::Interrupted,
        };
        if !is_open {
            return;
        }
    }
}

/// Whether the other side of the terminal was closed.
fn is_gone(error: &io::Error) -> bool {
    // EIO, which has no kind of its own, is what a terminal without another side answers.
    error.kind() == ErrorKind::BrokenPipe || error.raw_os_error() == Some(5)
}
