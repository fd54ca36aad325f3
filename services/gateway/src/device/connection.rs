//! The port of a device over its ups and downs: opened on a thread of its own, again and again.

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::Duration;

use crate::backoff::delay;
use crate::config::DeviceConfig;
use crate::moment::Moment;
use crate::port::{Opener, Port};

type Opened = io::Result<Box<dyn Port>>;

/// What happened to the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum News {
    /// It came up.
    Up,
    /// It could not be made.
    Down,
    None,
}

/// See the module.
pub(super) struct Connection {
    source: String,
    name: String,
    is_finite: bool,
    opener: Arc<Opener>,
    state: State,
    /// Failures since something valid came.
    failures: u32,
    /// Why it was down last.
    error: Option<String>,
    /// What the log says of it: that it is well or that it is not, and nothing at first. A port that opens and
    /// closes all the time, as one that somebody else has does, is not well in between.
    said: Option<bool>,
}

enum State {
    /// To be opened then.
    Waiting {
        until_us: u64,
    },
    Opening(Receiver<Opened>),
    Up {
        port: Box<dyn Port>,
        since: Moment,
    },
    /// It ended and is not opened again.
    Over,
}

impl Connection {
    pub(super) fn new(config: &DeviceConfig, opener: Opener) -> Self {
        Self {
            source: config.source.clone(),
            name: config.port.to_string(),
            is_finite: config.port.is_finite(),
            opener: Arc::new(opener),
            state: State::Waiting { until_us: 0 },
            failures: 0,
            error: None,
            said: None,
        }
    }

    pub(super) const fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    pub(super) const fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Since when it is up.
    pub(super) const fn since(&self) -> Option<Moment> {
        if let State::Up { since, .. } = &self.state { Some(*since) } else { None }
    }

    /// Why it is not up.
    pub(super) fn error(&self) -> Option<&str> {
        self.error.as_deref().filter(|_| !self.is_up())
    }

    pub(super) fn fd(&self) -> Option<RawFd> {
        self.port().and_then(Port::fd)
    }

    /// How long no bytes are to be expected, if the port knows.
    pub(super) fn due(&self) -> Option<Duration> {
        self.port().and_then(Port::due)
    }

    pub(super) fn dies_silently(&self) -> bool {
        self.port().is_some_and(Port::dies_silently)
    }

    fn port(&self) -> Option<&dyn Port> {
        if let State::Up { port, .. } = &self.state { Some(&**port) } else { None }
    }

    /// Goes on with opening.
    pub(super) fn poll(&mut self, now: Moment, may_open: bool) -> News {
        match &self.state {
            State::Waiting { until_us } if now.mono_us >= *until_us && may_open => {
                self.start(now);
                News::None
            }
            State::Opening(opened) => match opened.try_recv() {
                Err(TryRecvError::Empty) => News::None,
                Ok(Ok(port)) => {
                    if self.said.is_none() {
                        tracing::info!(device = self.source, port = self.name, "port opened");
                    }
                    self.state = State::Up { port, since: now };
                    News::Up
                }
                Ok(Err(error)) => {
                    self.lost(&error.to_string(), now);
                    News::Down
                }
                Err(TryRecvError::Disconnected) => {
                    self.lost("opening it failed", now);
                    News::Down
                }
            },
            _ => News::None,
        }
    }

    fn start(&mut self, now: Moment) {
        let (send, receive) = channel();
        let opener = Arc::clone(&self.opener);
        let open = move || {
            // Nobody waits for it any more if the gateway ends.
            let _ = send.send(opener.open());
        };
        match std::thread::Builder::new().name("zibrato-open".to_owned()).spawn(open) {
            Ok(_) => self.state = State::Opening(receive),
            Err(error) => self.lost(&error.to_string(), now),
        }
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match &mut self.state {
            State::Up { port, .. } => port.read(buffer),
            _ => Ok(None),
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.state {
            State::Up { port, .. } => port.write(bytes),
            _ => Ok(0),
        }
    }

    /// Something valid came: what comes next is no repetition of an earlier failure.
    pub(super) fn is_well(&mut self) {
        self.failures = 0;
        if self.said.replace(true) == Some(false) {
            tracing::info!(device = self.source, port = self.name, "connected again");
        }
    }

    /// The connection is gone, or could not be made. Logged once, not for each try.
    pub(super) fn lost(&mut self, why: &str, now: Moment) {
        if self.is_finite {
            tracing::info!(device = self.source, port = self.name, why, "ended");
            self.state = State::Over;
            return;
        }
        self.failures = self.failures.saturating_add(1);
        if self.said.replace(false) != Some(false) {
            tracing::warn!(
                device = self.source,
                port = self.name,
                why,
                "not connected: tried again until it is"
            );
        } else {
            tracing::debug!(device = self.source, port = self.name, why, "still not connected");
        }
        self.error = Some(why.to_owned());
        let mut random = [0; 4];
        // Without random numbers the pause is the longest of its range.
        let _ = getrandom::fill(&mut random);
        let pause = delay(self.failures, u32::from_le_bytes(random));
        let pause_us = u64::try_from(pause.as_micros()).unwrap_or(u64::MAX);
        self.state = State::Waiting { until_us: now.mono_us.saturating_add(pause_us) };
    }
}
