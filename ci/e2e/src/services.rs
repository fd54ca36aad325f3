//! Broker, worker and local store as processes on ports of their own.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::http::{Metrics, metrics};
use crate::law::{BrokerSum, number_after};
use crate::ports::PortPair;
use crate::process::{Ended, Process, command, field};
use crate::until::until;

/// Topics a worker subscribes to for each level: native frames, text, and the broker's count of text.
const TOPICS_PER_LEVEL: usize = 3;

/// A new directory that is removed with everything in it.
///
/// # Panics
/// If it cannot be made.
pub fn directory() -> TempDir {
    tempfile::Builder::new().prefix("zibrato-e2e-").tempdir().unwrap()
}

/// A running `zibrato-broker`.
#[derive(Debug)]
pub struct Broker {
    /// The process.
    pub process: Process,
    /// Where publishers connect, as an endpoint.
    pub publishers: String,
    /// Where workers connect, as an endpoint.
    pub workers: String,
    /// Address of the status endpoint.
    pub http: String,
}

impl Broker {
    /// Starts one on any two free ports.
    ///
    /// # Panics
    /// If it does not start; so for all here.
    pub fn start() -> Self {
        Self::with(&["--port", "0"])
    }

    /// Starts one on a reserved pair of ports.
    pub fn on(ports: &PortPair) -> Self {
        Self::with(&["--port", &ports.port.to_string()])
    }

    /// Starts one with these arguments.
    pub fn with(args: &[&str]) -> Self {
        let mut command = command("zibrato-broker");
        command.args(args);
        Self::spawn(command)
    }

    /// Starts a command that becomes a broker; the status endpoint is added to its arguments.
    pub fn spawn(mut command: Command) -> Self {
        command.args(["--http", "127.0.0.1:0"]);
        let mut process = Process::spawn(command);
        let line = process.line("broker started");
        let [publishers, workers, http] =
            ["publishers", "workers", "http"].map(|name| field(&line, name).to_owned());
        Self { process, publishers, workers, http }
    }

    /// Its metrics now.
    pub fn metrics(&self) -> Metrics {
        metrics(&self.http)
    }

    /// Waits until workers are subscribed to so many levels.
    pub fn subscribed(&self, levels: usize) {
        let wanted = (levels * TOPICS_PER_LEVEL) as f64;
        until(format!("subscriptions to {levels} levels"), || {
            (self.metrics().sum("zibrato_broker_topics", &[]) >= wanted).then_some(())
        });
    }

    /// Stops it in order. It must end with code 0 and a sum that holds.
    pub fn finish(self) -> BrokerSum {
        let Ended { code, stderr, .. } = self.process.terminate();
        assert_eq!(code, Some(0), "{stderr}");
        BrokerSum::read(&stderr)
    }
}

/// A running `zibrato-local`.
#[derive(Debug)]
pub struct Local {
    /// The process.
    pub process: Process,
    /// Where it listens.
    pub addr: String,
    /// Its database.
    pub db: PathBuf,
}

/// What a local store says of its points at the end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Account {
    /// Points in requests.
    pub offered: u64,
    /// Points stored.
    pub accepted: u64,
    /// Batches that had come before.
    pub duplicate_batches: u64,
    /// What it wrote.
    pub stderr: String,
}

impl Local {
    /// Starts one with `local.db` in a directory, on any free port.
    ///
    /// # Panics
    /// If it does not start; so for all here.
    pub fn start(directory: &Path) -> Self {
        Self::with(directory, &["--listen", "127.0.0.1:0"])
    }

    /// Starts one with `local.db` in a directory and these arguments.
    pub fn with(directory: &Path, args: &[&str]) -> Self {
        let db = directory.join("local.db");
        let mut process = Process::start("zibrato-local", &[args, &["--db", db.to_str().unwrap()]].concat());
        let line = process.line("zibrato-local listens");
        let addr = field(&line, "addr").to_owned();
        Self { process, addr, db }
    }

    /// Where a worker posts to.
    pub fn url(&self) -> String {
        format!("http://{}/v1/metrics", self.addr)
    }

    /// Stops it in order. It must end with code 0, and every offered point be accepted or refused.
    pub fn finish(self) -> Account {
        let Ended { code, stderr, .. } = self.process.terminate();
        assert_eq!(code, Some(0), "{stderr}");
        let line =
            stderr.lines().rfind(|line| line.contains(": totals ")).unwrap_or_else(|| panic!("{stderr}"));
        let number = |name| field(line, name).parse::<u64>().unwrap();
        let refused: u64 = line
            .split_once("points_refused={")
            .and_then(|(_, rest)| rest.split_once('}'))
            .map(|(reasons, _)| reasons.split(", ").filter_map(|reason| reason.rsplit_once(": ")))
            .unwrap_or_else(|| panic!("{line}"))
            .map(|(_, count)| count.parse::<u64>().unwrap())
            .sum();
        let (offered, accepted) = (number("points_offered"), number("points_accepted"));
        assert_eq!(offered, accepted + refused, "{line}");
        Account { offered, accepted, duplicate_batches: number("duplicate_batches"), stderr }
    }
}

/// A running worker.
#[derive(Debug)]
pub struct Worker {
    /// The process.
    pub process: Process,
    /// Address of the status endpoint.
    pub http: String,
}

/// What a worker says at its end.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Points acknowledged by the backend in this run.
    pub points: u64,
    /// Records of timers among them.
    pub timer_records: u64,
    /// Batches that stay in the spool.
    pub held: u64,
    /// Its last line.
    pub line: String,
    /// All it wrote.
    pub stderr: String,
}

impl Worker {
    /// Starts one that flushes every second.
    ///
    /// # Panics
    /// If it does not start; so for all here.
    pub fn start(endpoint: &str, levels: &str, url: &str, spool: &Path) -> Self {
        Self::with(&[
            "--endpoint",
            endpoint,
            "--levels",
            levels,
            "--url",
            url,
            "--spool",
            spool.to_str().unwrap(),
        ])
    }

    /// Starts `zibrato-librato`, which flushes every second unless these arguments say otherwise.
    pub fn with(args: &[&str]) -> Self {
        Self::of("zibrato-librato", args)
    }

    /// Starts the program of another backend likewise.
    pub fn of(program: &str, args: &[&str]) -> Self {
        let mut command = command(program);
        command.args(args);
        if !args.contains(&"--flush") {
            command.args(["--flush", "1"]);
        }
        Self::spawn(command)
    }

    /// Starts a command that becomes a worker; the status endpoint is added to its arguments.
    pub fn spawn(mut command: Command) -> Self {
        command.args(["--http", "127.0.0.1:0"]);
        let mut process = Process::spawn(command);
        let line = process.line("worker started");
        let http = field(&line, "status").to_owned();
        Self { process, http }
    }

    /// Its metrics now.
    pub fn metrics(&self) -> Metrics {
        metrics(&self.http)
    }

    /// Waits until a counter of its metrics is at least `value`.
    pub fn counted(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        until(format!("{name} {labels:?} of {value}"), || {
            (self.metrics().sum(name, labels) >= value).then_some(())
        });
    }

    /// Waits for the answer to its first probe: from then on it knows what the backend takes.
    pub fn probed(&mut self) {
        self.process.line("the backend answers");
    }

    /// Stops it in order. It must end with code 0 and a law that holds.
    pub fn finish(self) -> Delivery {
        let Ended { code, stderr, .. } = self.process.terminate();
        assert_eq!(code, Some(0), "{stderr}");
        let line = stderr
            .lines()
            .rfind(|line| line.contains("worker stopped"))
            .unwrap_or_else(|| panic!("{stderr}"));
        assert_eq!(field(line, "law"), "holds", "{line}");
        let delivered = line.split_once(" delivered [").and_then(|(_, rest)| rest.split_once(']'));
        let (delivered, _) = delivered.unwrap_or_else(|| panic!("{line}"));
        Delivery {
            points: number_after(delivered, "points"),
            timer_records: number_after(delivered, "timer_records"),
            held: field(line, "batches_held").parse().unwrap(),
            line: line.to_owned(),
            stderr: stderr.clone(),
        }
    }
}
