//! A receiver of the test's own and a client that sees the bytes.

use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use zibrato_local::{Config, Running, Totals, start};
use zibrato_service::Shutdown;

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct Receiver {
    pub(crate) running: Running,
    pub(crate) shutdown: Shutdown,
}

impl Receiver {
    pub(crate) async fn on(db: &Path) -> Self {
        Self::with(db, |_| ()).await
    }

    pub(crate) async fn with(db: &Path, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::new("127.0.0.1:0".parse().unwrap(), db);
        change(&mut config);
        let shutdown = Shutdown::new();
        let running = start(config, shutdown.clone()).await.unwrap();
        Self { running, shutdown }
    }

    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        call(self.running.addr, method, path, headers, body.as_bytes()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, &[], "").await
    }

    pub(crate) async fn post(&self, body: &str) -> Answer {
        self.call("POST", "/v1/metrics", &[("Content-Type", "application/json")], body).await
    }

    /// Posts as a batch with this id.
    pub(crate) async fn post_batch(&self, id: &str, body: &str) -> Answer {
        self.call("POST", "/v1/metrics", &[("X-Zibrato-Batch", id)], body).await
    }

    /// All measurements of a metric, by source.
    pub(crate) async fn measurements(&self, name: &str, query: &str) -> serde_json::Value {
        let answer = self.get(&format!("/v1/metrics/{name}?{query}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["measurements"].clone()
    }

    /// Stops in order; the totals add up.
    pub(crate) async fn stop(self) -> Totals {
        self.shutdown.request();
        let totals = tokio::time::timeout(DEADLINE, self.running.join()).await.unwrap().unwrap();
        assert!(totals.adds_up(), "{totals:?}");
        totals
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body with the digits of `request_time` replaced by `T`, after a check that it is now.
    pub(crate) fn body_at_t(&self) -> String {
        let Some((before, after)) = self.body.split_once("\"request_time\":") else {
            return self.body.clone();
        };
        let digits = after.trim_end_matches('}');
        assert!((now() - digits.parse::<i64>().unwrap()).abs() <= 60, "{self:?}");
        format!("{before}\"request_time\":T{}", &after[digits.len()..])
    }
}

pub(crate) async fn call(
    addr: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let exchange = async {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|(name, _)| *name == "Host") {
            head.push_str(&format!("Host: {addr}\r\n"));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() || !["GET", "HEAD"].contains(&method) {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        stream.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        parse(&answer)
    };
    tokio::time::timeout(DEADLINE, exchange).await.expect("an answer before the deadline")
}

/// Reads an answer; what was sent with gzip is inflated, what was sent in chunks joined.
fn parse(answer: &[u8]) -> Answer {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no head in {:?}", String::from_utf8_lossy(answer)));
    let head = std::str::from_utf8(&answer[..end]).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines.map(|line| line.split_once(": ").unwrap());
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let mut parsed = Answer { status, headers, body: String::new() };
    let mut body = answer[end + 4..].to_vec();
    if parsed.header("Transfer-Encoding") == Some("chunked") {
        body = join(&body);
    }
    if parsed.header("Content-Encoding") == Some("gzip") {
        let mut inflated = Vec::new();
        flate2::read::GzDecoder::new(body.as_slice()).read_to_end(&mut inflated).unwrap();
        body = inflated;
    }
    parsed.body = String::from_utf8(body).unwrap();
    parsed
}

fn join(mut chunks: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = chunks.windows(2).position(|bytes| bytes == b"\r\n") {
        let length = usize::from_str_radix(std::str::from_utf8(&chunks[..end]).unwrap(), 16).unwrap();
        body.extend_from_slice(&chunks[end + 2..end + 2 + length]);
        chunks = &chunks[end + 2 + length + 2..];
    }
    body
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    flate2::read::GzEncoder::new(bytes, flate2::Compression::fast()).read_to_end(&mut packed).unwrap();
    packed
}

pub(crate) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

/// A directory for one test and a database path in it.
pub(crate) fn database() -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("local.db");
    (directory, path)
}
