//! Reading `/metrics` and `/healthz`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::until::DEADLINE;

/// The status and body of `GET path`.
///
/// # Panics
/// If nobody answers in HTTP.
pub fn get(addr: &str, path: &str) -> (u16, String) {
    let mut stream =
        TcpStream::connect(addr).unwrap_or_else(|error| panic!("cannot connect to {addr}: {error}"));
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) =
        answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP from {addr}: {answer:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("no status in {head:?}")), body.to_owned())
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
