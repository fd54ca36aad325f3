//! The DevTools protocol: calls and events as JSON over a web socket.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::{Error, Message, WebSocket};

use crate::until::DEADLINE;

/// The most events that wait to be looked at.
const EVENTS_MAX: usize = 100_000;

/// An event of a session.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) session: String,
    pub(super) method: String,
    pub(super) params: Value,
}

/// The connection to a browser.
#[derive(Debug)]
pub(super) struct DevTools {
    socket: WebSocket<TcpStream>,
    calls: u64,
    events: VecDeque<Event>,
}

impl DevTools {
    /// Connects to the address that a browser printed, such as `ws://127.0.0.1:1/devtools/browser/x`.
    pub(super) fn connect(address: &str) -> Self {
        let host = address.trim_start_matches("ws://").split('/').next().unwrap();
        let stream =
            TcpStream::connect(host).unwrap_or_else(|error| panic!("cannot reach {address}: {error}"));
        stream.set_nodelay(true).unwrap();
        let (socket, _) = tungstenite::client(address, stream).unwrap();
        Self { socket, calls: 0, events: VecDeque::new() }
    }

    /// Calls a method, of the browser if `session` is empty, and returns its result.
    pub(super) fn call(&mut self, session: &str, method: &str, params: Value) -> Value {
        self.try_call(session, method, params).unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// The same; the error is what the browser says.
    pub(super) fn try_call(&mut self, session: &str, method: &str, params: Value) -> Result<Value, Value> {
        self.calls += 1;
        let mut call = json!({ "id": self.calls, "method": method, "params": params });
        if !session.is_empty() {
            call["sessionId"] = session.into();
        }
        self.socket.send(Message::text(call.to_string())).unwrap();
        let by = Instant::now() + DEADLINE;
        loop {
            assert!(Instant::now() < by, "no answer to {method} within {DEADLINE:?}");
            let Some(mut message) = self.read(by) else { continue };
            if message["id"] == self.calls {
                return match message.get("error") {
                    Some(error) => Err(error.clone()),
                    None => Ok(message["result"].take()),
                };
            }
        }
    }

    /// The events up to now, which are then forgotten.
    pub(super) fn take_events(&mut self) -> Vec<Event> {
        while self.read(Instant::now()).is_some() {}
        self.events.drain(..).collect()
    }

    /// The next message, kept if it is an event; none if there is none by then.
    fn read(&mut self, by: Instant) -> Option<Value> {
        let left = by.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.socket.get_ref().set_read_timeout(Some(left)).unwrap();
        let text = match self.socket.read() {
            Ok(Message::Text(text)) => text,
            Ok(_) => return Some(Value::Null),
            Err(Error::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return None;
            }
            Err(error) => panic!("the browser is gone: {error}"),
        };
        let mut message: Value = serde_json::from_str(text.as_str()).unwrap();
        if let Some(method) = message["method"].as_str().map(str::to_owned) {
            assert!(self.events.len() < EVENTS_MAX, "more than {EVENTS_MAX} events that nobody looks at");
            let session = message["sessionId"].as_str().unwrap_or_default().to_owned();
            self.events.push_back(Event { session, method, params: message["params"].take() });
        }
        Some(message)
    }
}
