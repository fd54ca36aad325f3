//! The terminal: drawn on while top runs, and left as it was found however it ends.

use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{panic, thread};

use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, Event, KeyEvent};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::{DefaultTerminal, Frame, Terminal};
use tokio::sync::mpsc;

/// How long the thread that reads keys waits before it looks whether anybody wants them.
const POLL: Duration = Duration::from_millis(200);
/// Keys that may wait.
const EVENTS_MAX: usize = 256;

/// Whether the terminal is ours now. Leaving the alternate screen twice would move the cursor back to
/// where it was, over what was written since.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// The alternate screen in raw mode; the terminal is restored when this is dropped, and before the
/// message of a panic of any thread.
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
        let hook = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            restore();
            hook(info);
        }));
        IS_TAKEN.store(true, Ordering::Relaxed);
        let entered = enable_raw_mode()
            .and_then(|()| execute!(io::stdout(), EnterAlternateScreen))
            .and_then(|()| Terminal::new(CrosstermBackend::new(io::stdout())));
        if entered.is_err() {
            restore();
        }
        Ok(Self { terminal: entered? })
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
        restore();
    }
}

/// Leaves the terminal as it was found. Of one that is gone nothing can be restored, so errors say
/// nothing.
fn restore() {
    if IS_TAKEN.swap(false, Ordering::Relaxed) {
        let _ = disable_raw_mode();
        let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
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

#[cfg(test)]
#[path = "../../tests/support/pty.rs"]
mod pty;

#[cfg(test)]
mod tests {
    use super::*;
    use pty::Pty;

    /// Run by the test below, in a process and on a terminal of its own.
    #[test]
    #[ignore = "panics on purpose; another test starts it"]
    fn panics_on_the_screen() {
        let mut screen = Screen::enter().unwrap();
        screen.draw(|frame| frame.render_widget("drawn", frame.area())).unwrap();
        let panicked = thread::spawn(|| panic!("out of cheese")).join();
        panic!("{panicked:?}");
    }

    #[test]
    fn a_panic_leaves_the_terminal_as_it_was_and_its_message_on_it() {
        let program = std::env::current_exe().unwrap();
        let name = "top::terminal::tests::panics_on_the_screen";
        let args = [name, "--exact", "--ignored", "--nocapture"];
        let pty = Pty::start(program.to_str().unwrap(), &args, (80, 24), &[]);
        let (status, ended) = pty.end();
        assert!(!status.success());
        assert!(String::from_utf8_lossy(&ended.bytes).contains("drawn"));
        assert!(!ended.is_alternate && !ended.is_cursor_hidden);
        assert!(ended.screen.contains("out of cheese"), "{}", ended.screen);
    }
}
