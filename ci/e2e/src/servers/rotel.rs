//! Rotel, a collector of OpenTelemetry's protocol.

use serde_json::Value;
use tempfile::TempDir;

use super::{accepts, file, installed, program, ready};
use crate::ports::PortPair;
use crate::process::Process;
use crate::recorder::Recorder;
use crate::services::directory;

/// A running Rotel that passes on what it receives.
#[derive(Debug)]
pub struct Rotel {
    /// The process.
    pub process: Process,
    /// Where it listens to OTLP over HTTP.
    pub addr: String,
    /// Where metrics go.
    pub url: String,
    /// Where it listens to OTLP over gRPC.
    pub grpc: String,
    /// What it passed on.
    pub passed_on: Recorder,
    _home: TempDir,
    _ports: PortPair,
}

impl Rotel {
    /// Starts one.
    ///
    /// # Panics
    /// If it is not installed or does not start; so for all here.
    pub fn start() -> Self {
        let home = directory();
        let ports = PortPair::reserve();
        let [addr, grpc] = [ports.port, ports.port + 1].map(|port| format!("127.0.0.1:{port}"));
        let passed_on = Recorder::http();
        // The directory of the packages has Python's version in its name.
        let libraries = std::fs::read_dir(installed("python/lib")).unwrap().flatten();
        let agents = libraries.map(|python| python.path().join("site-packages/rotel/rotel-agent"));
        let agent = agents.into_iter().find(|agent| agent.exists()).expect("no rotel: run ci/setup");
        let mut command = program(agent);
        command
            .args(["start", "--otlp-http-endpoint", &addr, "--otlp-grpc-endpoint", &grpc])
            .args(["--exporter", "otlp", "--otlp-exporter-protocol", "http"])
            .args(["--otlp-exporter-endpoint", &format!("http://{}", passed_on.addr)])
            .arg("--disable-batching")
            .arg("--pid-file")
            .arg(home.path().join("rotel.pid"))
            .arg("--log-file")
            .arg(home.path().join("rotel.log"));
        let mut process = Process::spawn(command);
        ready(&mut process, "Rotel", || accepts(&addr) && accepts(&grpc));
        let url = format!("http://{addr}/v1/metrics");
        Self { process, addr, url, grpc, passed_on, _home: home, _ports: ports }
    }

    /// The points it passed on so far, as [`decode_otlp`] tells them.
    pub fn points(&self) -> Vec<Value> {
        decode_otlp(&self.passed_on.messages())
    }

    /// The sum of a metric over all points it passed on so far: of their values, and of the sums of distributions.
    pub fn sum(&self, metric: &str) -> f64 {
        let points = self.points();
        let points = points.iter().filter(|point| point["name"] == metric);
        let number = |point: &Value| point["value"].as_f64().or(point["sum"].as_f64()).unwrap();
        points.fold(0.0, |sum, point| sum + number(point))
    }
}

/// The points of bodies as OTLP over HTTP has them (protobuf, with or without gzip), read with OpenTelemetry's own code.
///
/// A point is an object: `name`, `unit`, `resource` and `attributes` (objects), `start_ns`, `time_ns`, and `kind`.
/// `sum` and `gauge` have a `value`; `histogram` has `count`, `sum`, `min`, `max` (null if absent), `bounds` and
/// `buckets`; `exponential_histogram` has the same with `scale`, `zero`, `offset` and `buckets` of positive values.
/// All but `gauge` have `temporality` (`delta` or `cumulative`), `sum` has `monotonic`.
///
/// # Panics
/// If they are not, or the packages are not installed.
pub fn decode_otlp(bodies: &[Vec<u8>]) -> Vec<Value> {
    let mut command = program(installed("python/bin/python"));
    command.arg(file("python/otlp_points.py"));
    let mut process = Process::spawn(command);
    for body in bodies {
        process.feed(&(body.len() as u32).to_be_bytes());
        process.feed(body);
    }
    process.close_stdin();
    let ended = process.wait();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
