//! HTTP as a client: `/metrics` and `/healthz`, and what the servers of others ask for.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::until::DEADLINE;

/// The status and body of `GET path`.
///
/// # Panics
/// If nobody answers in HTTP.
pub fn get(addr: &str, path: &str) -> (u16, String) {
    let head = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    let answer = exchange(addr, head.as_bytes()).unwrap_or_else(|error| panic!("{addr}: {error}"));
    (answer.status, answer.body)
}

/// An answer in HTTP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    /// Its body.
    pub body: String,
}

/// Sends a request with a body and these further headers. It is one of HTTP/1.0, so that nobody answers in chunks and
/// everybody closes after the answer.
///
/// # Errors
/// If nobody answers in HTTP.
pub fn request(
    addr: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Answer> {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    let head =
        format!("{method} {path} HTTP/1.0\r\nHost: {addr}\r\nContent-Length: {length}\r\n{headers}\r\n");
    exchange(addr, &[head.as_bytes(), body].concat())
}

/// Text as a value in the query of a path.
pub fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// Sends a request and reads until the other side closes.
fn exchange(addr: &str, request: &[u8]) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let no_http = || io::Error::new(io::ErrorKind::InvalidData, format!("no HTTP: {answer:?}"));
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(no_http)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(no_http)?;
    Ok(Answer { status, head: head.to_owned(), body: body.to_owned() })
}

/// The page of metrics that `addr` serves now.
///
/// # Panics
/// If it serves none.
pub fn metrics(addr: &str) -> Metrics {
    let (status, page) = get(addr, "/metrics");
    assert_eq!(status, 200, "{page}");
    Metrics { page }
}

/// A page in the Prometheus text format.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// The page.
    pub page: String,
}

impl Metrics {
    /// The sum of the samples of `name` that carry all of `labels`; 0 if there is none.
    ///
    /// # Panics
    /// If a sample is not a number.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let samples = self.page.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            if !rest.starts_with(['{', ' ']) {
                return None;
            }
            let (sample, value) = rest.rsplit_once(' ')?;
            let has = |(label, content): &(&str, &str)| sample.contains(&format!("{label}=\"{content}\""));
            labels.iter().all(has).then(|| value.parse::<f64>().unwrap())
        });
        // The empty sum of floats is -0.
        samples.fold(0.0, |sum, value| sum + value)
    }
}
