//! A receiver over HTTP that does as it is told: of the Librato API, and of all else that is posted.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::ports::listen;
use crate::until::until;

/// The longest body that has nothing in it: what Snappy makes of no bytes.
const EMPTY_BYTES_MAX: usize = 1;
/// Between two bytes of a slow answer.
const DRIP: Duration = Duration::from_millis(50);

/// What the receiver does with a POST.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Answers with this status and these further header lines.
    Answer(u16, Vec<String>),
    /// Answers with this status and this body.
    Say(u16, String),
    /// Answers with this status and a body that never ends.
    Endless(u16),
    /// Answers with headers that never end.
    EndlessHeaders,
    /// Begins to answer, a byte at a time, and is never done.
    Drip,
    /// Reads the request and closes the connection without a word.
    Close,
    /// Reads the request and says nothing, while the connection stays open.
    Silence,
}

/// A POST as it came.
#[derive(Clone, PartialEq, Debug)]
pub struct Request {
    /// When it had been read, in Unix milliseconds.
    pub at_ms: u64,
    /// What became of it.
    pub step: Step,
    /// Its `X-Zibrato-Batch`.
    pub batch: String,
    /// Its `Authorization`, empty without one.
    pub authorization: String,
    /// Its body.
    pub body: Vec<u8>,
}

impl Request {
    /// The gauges of the body: name, source, time and the rest.
    ///
    /// # Panics
    /// If the body is not what a worker posts.
    pub fn gauges(&self) -> Vec<serde_json::Value> {
        let json: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        json["gauges"].as_array().unwrap().clone()
    }

    /// Whether it was acknowledged.
    pub fn is_stored(&self) -> bool {
        self.step == Step::Answer(200, Vec::new())
    }
}

/// What is done with bodies when the script is over.
type Rule = dyn Fn(&[u8]) -> Step + Send;

#[derive(Default)]
struct Shared {
    script: VecDeque<Step>,
    rule: Option<Box<Rule>>,
    requests: Vec<Request>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("script", &self.script).finish_non_exhaustive()
    }
}

/// The receiver. It follows its script, a step a POST, then a rule if it has one, and then answers 200. HEAD, and a
/// POST with nothing in it as it is sent to try a remote write, is always answered 200.
///
/// Its threads end with the process.
#[derive(Clone, Debug)]
pub struct Backend {
    /// Where a worker posts to.
    pub url: String,
    shared: Arc<Mutex<Shared>>,
}

impl Backend {
    /// Listens on a free port.
    ///
    /// # Panics
    /// If there is none.
    pub fn start(script: impl IntoIterator<Item = Step>) -> Self {
        Self::on("127.0.0.1:0", script)
    }

    /// Listens at an address.
    ///
    /// # Panics
    /// If it is taken.
    pub fn on(addr: &str, script: impl IntoIterator<Item = Step>) -> Self {
        let listener = listen(addr);
        let url = format!("http://{}/v1/metrics", listener.local_addr().unwrap());
        let script = script.into_iter().collect();
        let shared = Arc::new(Mutex::new(Shared { script, ..Shared::default() }));
        let for_threads = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&for_threads);
                // What a client does wrong shows in what it gets counted for, not here.
                thread::spawn(move || serve(stream, &shared));
            }
        });
        Self { url, shared }
    }

    /// The POSTs so far.
    pub fn requests(&self) -> Vec<Request> {
        self.lock().requests.clone()
    }

    /// Those that were answered 200.
    pub fn stored(&self) -> Vec<Request> {
        self.requests().into_iter().filter(Request::is_stored).collect()
    }

    /// Sum of the values and of the sums of a metric over all that was stored.
    ///
    /// # Panics
    /// If a body is not what a worker posts.
    pub fn sum(&self, metric: &str) -> f64 {
        let gauges = self.stored().into_iter().flat_map(|request| request.gauges());
        gauges
            .filter(|gauge| gauge["name"] == metric)
            .map(|gauge| gauge["value"].as_f64().or(gauge["sum"].as_f64()).unwrap())
            .sum()
    }

    /// Waits for so many POSTs.
    ///
    /// # Panics
    /// If they do not come.
    pub fn asked(&self, requests: usize) {
        until(format!("{requests} requests"), || (self.requests().len() >= requests).then_some(()));
    }

    /// Goes on with other steps than those of the script that are left.
    pub fn follow(&self, steps: impl IntoIterator<Item = Step>) {
        self.lock().script = steps.into_iter().collect();
    }

    /// Decides by the bodies once the script is over.
    pub fn obey(&self, rule: impl Fn(&[u8]) -> Step + Send + 'static) {
        self.lock().rule = Some(Box::new(rule));
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves one connection until it closes.
fn serve(stream: TcpStream, shared: &Mutex<Shared>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut writer = stream;
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if line.trim().is_empty() {
                break;
            }
            head.push(line.trim().to_owned());
        }
        let header = |name: &str| {
            let found = head.iter().filter_map(|line| line.split_once(':'));
            found
                .filter(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.trim())
                .next()
                .unwrap_or_default()
        };
        let mut body = vec![0; header("content-length").parse().unwrap_or(0)];
        reader.read_exact(&mut body).ok()?;
        if !head.first()?.starts_with("POST") || body.len() <= EMPTY_BYTES_MAX {
            writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").ok()?;
            continue;
        }
        let step = {
            let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
            let told = shared.script.pop_front();
            let ruled = || shared.rule.as_ref().map(|rule| rule(&body));
            let step = told.or_else(ruled).unwrap_or(Step::Answer(200, Vec::new()));
            let at_ms = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_millis() as u64;
            shared.requests.push(Request {
                at_ms,
                step: step.clone(),
                batch: header("x-zibrato-batch").to_owned(),
                authorization: header("authorization").to_owned(),
                body,
            });
            step
        };
        match step {
            Step::Close => return None,
            // Ends when the client gives up.
            Step::Silence => {
                reader.read_line(&mut String::new()).ok()?;
                return None;
            }
            Step::Say(status, text) => {
                let length = text.len();
                write!(writer, "HTTP/1.1 {status} Told\r\nContent-Length: {length}\r\n\r\n{text}").ok()?;
            }
            // These end when the client gives up.
            Step::Endless(status) => {
                write!(writer, "HTTP/1.1 {status} Told\r\nContent-Length: {}\r\n\r\n", u64::MAX / 2).ok()?;
                loop {
                    writer.write_all(&[b'x'; 8_192]).ok()?;
                }
            }
            Step::EndlessHeaders => {
                writer.write_all(b"HTTP/1.1 200 Told\r\n").ok()?;
                loop {
                    writer.write_all(b"X-More: and more\r\n").ok()?;
                }
            }
            Step::Drip => {
                writer.write_all(b"HTTP/1.1 200 Told\r\nX-Slow: ").ok()?;
                loop {
                    writer.write_all(b"x").ok()?;
                    thread::sleep(DRIP);
                }
            }
            Step::Answer(status, headers) => {
                let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
                let answer = format!("HTTP/1.1 {status} Told\r\nContent-Length: 0\r\n{headers}\r\n");
                writer.write_all(answer.as_bytes()).ok()?;
            }
        }
    }
}
