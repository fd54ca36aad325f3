//! The original statsd, which runs on Node.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{accepts, file, installed, program, ready, receive_queue_bytes};
use crate::ports::PortPair;
use crate::process::Process;
use crate::services::directory;
use crate::until::until;

/// How often it flushes, so that tests need not wait for long.
const FLUSH: Duration = Duration::from_millis(100);

/// A running statsd.
///
/// What it holds is read through a backend of ours that adds up the flushes, as a store behind it would. Its
/// management port is not used: what that prints leaves out all but the first 100 values of a timer.
#[derive(Debug)]
pub struct Statsd {
    /// The process.
    pub process: Process,
    /// Where it receives, over UDP and TCP.
    pub addr: String,
    port: u16,
    totals: PathBuf,
    _home: TempDir,
    _ports: PortPair,
}

/// What all flushes together brought.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct StatsdTotals {
    /// How many flushes there were.
    pub flushes: u64,
    /// Sums of counters, also `statsd.metrics_received` and `statsd.bad_lines_seen`.
    pub counters: BTreeMap<String, f64>,
    /// Gauges as they are, also `statsd.timestamp_lag`.
    pub gauges: BTreeMap<String, f64>,
    /// Timers.
    pub timers: BTreeMap<String, StatsdTimer>,
    /// Distinct members of sets.
    pub sets: BTreeMap<String, Vec<String>>,
}

/// What all flushes together brought of a timer.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct StatsdTimer {
    /// Values that came.
    pub values: u64,
    /// The same with each value as often as its sample rate says.
    pub count: f64,
    /// Sum of the values that came.
    pub sum: f64,
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
}

impl Statsd {
    /// Starts one.
    ///
    /// # Panics
    /// If it is not installed or does not start; so for all here.
    pub fn start() -> Self {
        Self::flushing(FLUSH)
    }

    /// Starts one with another interval between flushes.
    pub fn flushing(interval: Duration) -> Self {
        let home = directory();
        let ports = PortPair::reserve();
        let (host, port) = ("127.0.0.1", ports.port);
        let [addr, management] = [port, port + 1].map(|port| format!("{host}:{port}"));
        let totals = home.path().join("totals.json");
        let config = json!({
            "servers": [
                {"server": "./servers/udp", "address": host, "port": port},
                {"server": "./servers/tcp", "address": host, "port": port},
            ],
            "mgmt_address": host,
            "mgmt_port": port + 1,
            "flushInterval": interval.as_millis() as u64,
            "deleteCounters": true,
            "deleteTimers": true,
            "deleteSets": true,
            "backends": [file("node/statsd_totals.js")],
            "totals": totals,
            "automaticConfigReload": false,
        });
        let config_file = home.path().join("config.js");
        std::fs::write(&config_file, config.to_string()).unwrap();
        let mut command = program("node");
        let directory = installed("node/node_modules/statsd");
        command.arg("--no-deprecation").arg("stats.js").arg(&config_file).current_dir(directory);
        let mut process = Process::spawn(command);
        ready(&mut process, "statsd", || {
            accepts(&addr) && accepts(&management) && receive_queue_bytes(port).is_some()
        });
        Self { process, addr, port, totals, _home: home, _ports: ports }
    }

    /// Whether it has taken all datagrams from the kernel.
    pub fn is_idle(&self) -> bool {
        receive_queue_bytes(self.port) == Some(0)
    }

    /// What it received up to now. This waits for two flushes, so that all it had read is in it.
    pub fn totals(&self) -> StatsdTotals {
        let before = self.read().map_or(0, |totals| totals.flushes);
        until("two flushes of statsd", || self.read().filter(|totals| totals.flushes >= before + 2))
    }

    fn read(&self) -> Option<StatsdTotals> {
        let said: Value = serde_json::from_str(&std::fs::read_to_string(&self.totals).ok()?).unwrap();
        let member = |value: &Value| value.as_str().unwrap().to_owned();
        Some(StatsdTotals {
            flushes: said["flushes"].as_u64().unwrap(),
            counters: map(&said["counters"], number),
            gauges: map(&said["gauges"], number),
            timers: map(&said["timers"], |timer| StatsdTimer {
                values: timer["values"].as_u64().unwrap(),
                count: number(&timer["count"]),
                sum: number(&timer["sum"]),
                min: number(&timer["min"]),
                max: number(&timer["max"]),
            }),
            sets: map(&said["sets"], |set| set.as_array().unwrap().iter().map(member).collect()),
        })
    }
}

fn map<T>(object: &Value, value: impl Fn(&Value) -> T) -> BTreeMap<String, T> {
    object.as_object().unwrap().iter().map(|(name, content)| (name.clone(), value(content))).collect()
}

/// A number; JSON has no infinite ones.
fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}
