//! A bus, a receiver that can fail in scripted ways, and a worker between both.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value as Json;
use zibrato_service::{Shutdown, StatusEndpoint};
use zibrato_worker::backends::librato::{AGE_MAX, Librato, LibratoConfig};
use zibrato_worker::clock::WallClock;
use zibrato_worker::retry::RetryPolicy;
use zibrato_worker::totals::Totals;
use zibrato_worker::worker::{Config, Error, LaneConfig, Running, Source, start};

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Polls until the condition holds, for at most [`DEADLINE`].
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A socket that a worker subscribes to in place of a broker.
pub(crate) struct Bus {
    socket: zmq::Socket,
    pub(crate) endpoint: String,
}

impl Bus {
    pub(crate) fn new() -> Self {
        let socket = zmq::Context::new().socket(zmq::XPUB).unwrap();
        socket.set_linger(0).unwrap();
        // No mark: a test must not lose what it sends.
        socket.set_sndhwm(0).unwrap();
        socket.set_xpub_verbose(true).unwrap();
        socket.bind("tcp://127.0.0.1:*").unwrap();
        let endpoint = socket.get_last_endpoint().unwrap().unwrap();
        Self { socket, endpoint }
    }

    /// Waits until a worker has subscribed to the level's text messages.
    pub(crate) fn wait_subscribed(&self, level: &str) {
        let wanted = [b"\x01", level.as_bytes(), b"|"].concat();
        wait_until("a subscription", || {
            self.socket.poll(zmq::POLLIN, 10).unwrap() > 0 && self.socket.recv_bytes(0).unwrap() == wanted
        });
    }

    pub(crate) fn send(&self, text: &str) {
        // Subscriptions are taken in only while the socket is read.
        while self.socket.poll(zmq::POLLIN, 0).unwrap() > 0 {
            self.socket.recv_bytes(0).unwrap();
        }
        self.socket.send(text, 0).unwrap();
    }

    pub(crate) fn count(&self, name: &str, value: u64) {
        self.send(&format!("info|Counter|{name}|{value}|{}|test", now_s()));
    }
}

pub(crate) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// How the receiver answers one POST.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// A status line, headers and a body; nothing is stored unless the status is 200.
    Status(u16, &'static str, String),
    /// Hangs up without an answer.
    Close,
    /// Stores, then hangs up.
    StoreAndClose,
    /// Stores and never answers.
    StoreAndHang,
}

pub(crate) fn status(status: u16) -> Reply {
    Reply::Status(status, "", String::new())
}

/// A POST as it came.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Post {
    pub(crate) id: String,
    pub(crate) body: String,
}

#[derive(Default)]
struct State {
    script: VecDeque<Reply>,
    otherwise: Option<Reply>,
    posts: Vec<Post>,
    heads: usize,
    /// Header line of the answer to HEAD.
    accepts: &'static str,
    stored: BTreeMap<String, String>,
}

/// A receiver on a free port. It stores a batch id once.
#[derive(Clone)]
pub(crate) struct Receiver {
    state: Arc<Mutex<State>>,
    pub(crate) addr: SocketAddr,
}

impl Receiver {
    pub(crate) fn new() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    pub(crate) fn on(listener: TcpListener) -> Self {
        let addr = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let seen = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, state) = (stream.unwrap(), Arc::clone(&seen));
                std::thread::spawn(move || serve(stream, &state));
            }
        });
        Self { state, addr }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/v1/metrics", self.addr)
    }

    /// Answers the next POSTs so, then 200.
    pub(crate) fn script(&self, replies: impl IntoIterator<Item = Reply>) {
        self.state.lock().unwrap().script.extend(replies);
    }

    /// Answers all POSTs so from now on; `None` for 200.
    pub(crate) fn always(&self, reply: Option<Reply>) {
        self.state.lock().unwrap().otherwise = reply;
    }

    /// Says what it understands, in a line such as `X-Zibrato-Accepts: origin/1\r\n`.
    pub(crate) fn accept(&self, accepts: &'static str) {
        self.state.lock().unwrap().accepts = accepts;
    }

    pub(crate) fn posts(&self) -> Vec<Post> {
        self.state.lock().unwrap().posts.clone()
    }

    pub(crate) fn heads(&self) -> usize {
        self.state.lock().unwrap().heads
    }

    pub(crate) fn gauges(&self) -> Vec<Json> {
        let state = self.state.lock().unwrap();
        let bodies = state.stored.values().map(|body| serde_json::from_str::<Json>(body).unwrap());
        bodies.flat_map(|body| body["gauges"].as_array().unwrap().clone()).collect()
    }

    /// Sum of the values stored under the name.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        self.gauges()
            .iter()
            .filter(|gauge| gauge["name"] == name)
            .filter_map(|gauge| gauge["value"].as_f64())
            .sum()
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    while let Some((method, id, body)) = read_request(&mut reader) {
        let reply = {
            let mut state = state.lock().unwrap();
            if method == "HEAD" {
                state.heads += 1;
                Reply::Status(200, state.accepts, String::new())
            } else {
                state.posts.push(Post { id: id.clone(), body: body.clone() });
                let reply =
                    state.script.pop_front().or_else(|| state.otherwise.clone()).unwrap_or(status(200));
                if matches!(reply, Reply::Status(200, ..) | Reply::StoreAndClose | Reply::StoreAndHang) {
                    state.stored.entry(id).or_insert(body);
                }
                reply
            }
        };
        match reply {
            Reply::Status(status, headers, body) => {
                let length = body.len();
                let head = format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {length}\r\n\r\n");
                if writer.write_all((head + &body).as_bytes()).is_err() {
                    return;
                }
            }
            Reply::Close | Reply::StoreAndClose => return,
            // Blocks until the other side hangs up.
            Reply::StoreAndHang => _ = reader.read(&mut [0]),
        }
    }
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<(String, String, String)> {
    let (mut method, mut id, mut length) = (String::new(), String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if method.is_empty() {
            method = line.split(' ').next()?.to_owned();
        } else if line.is_empty() {
            break;
        } else if let Some((name, value)) = line.split_once(": ") {
            match name {
                "x-zibrato-batch" => id = value.to_owned(),
                "content-length" => length = value.parse().ok()?,
                _ => {}
            }
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((method, id, String::from_utf8(body).ok()?))
}

/// Settings for tests: quick flushes and quick retries.
pub(crate) fn config(bus: &Bus, spool: &Path) -> Config {
    Config {
        source: Source {
            endpoints: vec![bus.endpoint.clone()],
            levels: vec!["info".to_owned()],
            clock: WallClock::system(),
        },
        status: StatusEndpoint { addr: Some("127.0.0.1:0".parse().unwrap()), explicit: true },
        lane: LaneConfig {
            spool_bytes_max: 16 << 20,
            retry: RetryPolicy {
                floor: Duration::from_millis(5),
                ceiling: Duration::from_millis(50),
                hold: Duration::from_millis(10),
            },
            ..LaneConfig::new(Duration::from_millis(50), spool.to_owned())
        },
    }
}

pub(crate) async fn launch(config: Config, url: &str, shutdown: &Shutdown) -> Result<Running, Error> {
    let librato =
        LibratoConfig { url: url.parse().unwrap(), credentials: None, age_max: AGE_MAX, raw_timers: false };
    let backend = Arc::new(Librato::new(&librato).unwrap());
    start(config, backend, &zmq::Context::new(), shutdown.clone()).await
}

/// Ends a worker in order and checks the law.
pub(crate) async fn stop(running: Running, shutdown: &Shutdown) -> Totals {
    shutdown.request();
    let totals = tokio::time::timeout(DEADLINE, running.join()).await.unwrap().unwrap();
    assert!(totals.law_holds(), "{totals}");
    totals
}
