//! Servers of others, which a worker writes to: each as a process on ports of its own, with a way to read back what
//! it holds. `ci/setup` installs them.
//!
//! All panic if their server is not installed, does not start, or answers otherwise than it does when all is well.

mod graphite;
mod influx;
mod openmetrics;
mod prometheus;
mod promql;
mod rotel;
mod statsd;
mod victoria_metrics;

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;

use crate::http::request;
use crate::process::Process;
use crate::until::until;

pub use graphite::Graphite;
pub use influx::{Influx, InfluxSeries};
pub use openmetrics::{OPENMETRICS, OpenMetricsFamily, openmetrics_families};
pub use prometheus::{Prometheus, promtool_check_metrics};
pub use rotel::{Rotel, decode_otlp};
pub use statsd::{Statsd, StatsdTimer, StatsdTotals};
pub use victoria_metrics::VictoriaMetrics;

/// Labels or tags of a series by their name.
pub type Labels = BTreeMap<String, String>;

/// A program of others, without arguments and with an empty environment but for `PATH`.
fn program(path: impl Into<PathBuf>) -> Command {
    let mut command = Command::new(path.into());
    command.env_clear();
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

/// A path below the directory of what ci/setup installed from PyPI and npm.
fn installed(path: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/servers").join(path);
    // As it is: where a link of Python's environment leads does not have its packages.
    assert!(path.exists(), "{} is missing: run ci/setup", path.display());
    path
}

/// A file of this crate.
fn file(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Waits until a server is ready, as long as it runs.
fn ready(process: &mut Process, what: &str, mut is_ready: impl FnMut() -> bool) {
    until(format!("ready {what}"), || {
        let ready = is_ready();
        assert!(ready || process.is_running(), "{what} ended: {}{}", process.stdout(), process.stderr());
        ready.then_some(())
    });
}

/// Whether `GET path` is answered with a status of success.
fn answers(addr: &str, path: &str) -> bool {
    request(addr, "GET", path, &[], b"").is_ok_and(|answer| (200..300).contains(&answer.status))
}

/// Whether somebody accepts connections.
fn accepts(addr: &str) -> bool {
    TcpStream::connect(addr).is_ok()
}

/// Bytes of datagrams that wait for whoever receives at a port of 127.0.0.1; `None` if nobody does. Nobody would tell,
/// and to try to take the port might take it from the server.
fn receive_queue_bytes(port: u16) -> Option<u64> {
    let sockets = std::fs::read_to_string("/proc/net/udp").unwrap();
    let local = format!("0100007F:{port:04X}");
    // slot, local address, remote address, state, bytes to send:bytes received
    let mut fields = sockets.lines().map(|line| line.split_whitespace().skip(1));
    let mut socket = fields.find_map(|mut fields| (fields.next()? == local).then_some(fields))?;
    u64::from_str_radix(socket.nth(2)?.split_once(':')?.1, 16).ok()
}
