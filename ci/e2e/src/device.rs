//! Simulated devices and the gateway that serves them.

use std::path::Path;

use serde_json::Value;

use crate::http::{Metrics, metrics};
use crate::process::{Ended, Process, field};
use crate::recording::{Truth, Truths};
use crate::until::until;

/// The `simdevice` program of this crate: the firmware's code behind TCP or a terminal.
#[derive(Debug)]
pub struct Device {
    process: Process,
    /// Where it listens; empty if it opened a terminal.
    pub addr: String,
    answers: usize,
}

impl Device {
    /// Starts one that listens on a port of its own.
    ///
    /// # Panics
    /// If it does not start; so for all here.
    pub fn listen(boot: u64, args: &[&str]) -> Self {
        Self::reached_by("--listen", boot, args)
    }

    /// Starts one behind a serial port, whose path is its address.
    pub fn serial(boot: u64, args: &[&str]) -> Self {
        Self::reached_by("--serial", boot, args)
    }

    fn reached_by(flag: &str, boot: u64, args: &[&str]) -> Self {
        let mut device = Self::start(boot, &[&[flag], args].concat());
        device.addr = device.answer().strip_prefix("listens ").unwrap().to_owned();
        device
    }

    /// Starts one at the other end of a pseudo-terminal.
    pub fn open(boot: u64, terminal: &str, args: &[&str]) -> Self {
        Self::start(boot, &[&["--open", terminal], args].concat())
    }

    fn start(boot: u64, args: &[&str]) -> Self {
        let boot = boot.to_string();
        let process = Process::start("simdevice", &[&["--boot", &boot], args].concat());
        Self { process, addr: String::new(), answers: 0 }
    }

    /// Records so many rounds.
    pub fn run(&mut self, rounds: u64) {
        assert_eq!(self.ask(&format!("run {rounds}")), "ran");
    }

    /// Begins so many rounds and does not wait for their end; the next answer is `ran`.
    pub fn begin(&mut self, rounds: u64) {
        self.process.tell(&format!("run {rounds}"));
    }

    /// Waits for the end of what [`Device::begin`] began.
    pub fn ran(&mut self) {
        assert_eq!(self.answer(), "ran");
    }

    /// What it recorded.
    pub fn truths(&mut self) -> Truths {
        truths(&serde_json::from_str(&self.ask("truth")).unwrap())
    }

    /// Samples that it made.
    pub fn samples(&mut self) -> u64 {
        let told: Value = serde_json::from_str(&self.ask("truth")).unwrap();
        told["samples"].as_u64().unwrap()
    }

    /// Harms one byte in so many that it sends; 0 none.
    pub fn noise(&mut self, one_in: u64) {
        assert_eq!(self.ask(&format!("noise {one_in}")), "noisy");
    }

    /// Takes the cable out or puts it in.
    pub fn plug(&mut self, is_in: bool) {
        assert_eq!(
            self.ask(if is_in { "plug" } else { "unplug" }),
            if is_in { "plugged" } else { "unplugged" }
        );
    }

    /// Counts once with the on-demand counter `dev.trace.counter`; whether its level is on.
    pub fn trace(&mut self) -> bool {
        self.ask("trace") == "trace on"
    }

    /// Lets it say that it ends.
    pub fn end(mut self) {
        self.process.tell("end");
        assert_eq!(self.process.wait().code, Some(0));
    }

    /// A reset: it ends without a word.
    pub fn kill(self) {
        self.process.kill();
    }

    fn ask(&mut self, line: &str) -> String {
        self.process.tell(line);
        self.answer()
    }

    fn answer(&mut self) -> String {
        let at = self.answers;
        self.answers += 1;
        until("an answer of the device", || {
            let stdout = self.process.stdout();
            let whole = &stdout[..stdout.rfind('\n').map_or(0, |end| end + 1)];
            whole.lines().nth(at).map(str::to_owned)
        })
    }
}

fn truths(told: &Value) -> Truths {
    let each = |kind: &str| told[kind].as_object().unwrap().clone().into_iter();
    let counters = each("counters").map(|(name, sum)| (name, Truth::Counter(sum.as_u64().unwrap())));
    let gauges = each("gauges").filter_map(|(name, last)| Some((name, Truth::Gauge(last.as_f64()?))));
    let timers = each("timers").map(|(name, timer)| {
        let number = |key: &str| timer[key].as_u64().unwrap();
        let truth =
            Truth::Timer { count: number("count"), sum_ns: number("sum_ns"), in_buckets: number("count") };
        (name, truth)
    });
    counters.chain(gauges).chain(timers).filter(|(_, truth)| !is_nothing(truth)).collect()
}

const fn is_nothing(truth: &Truth) -> bool {
    matches!(truth, Truth::Counter(0) | Truth::Timer { count: 0, .. })
}

/// The truths of two boots or devices together; of a gauge the second one's.
#[must_use]
pub fn together(first: &Truths, second: &Truths) -> Truths {
    let mut sum = first.clone();
    for (name, &more) in second {
        let entry = sum.entry(name.clone()).or_insert(more);
        match (&mut *entry, more) {
            (Truth::Counter(sum), Truth::Counter(n)) if first.contains_key(name) => *sum += n,
            (
                Truth::Timer { count, sum_ns, in_buckets },
                Truth::Timer { count: records, sum_ns: ns, in_buckets: placed },
            ) if first.contains_key(name) => {
                (*count, *sum_ns, *in_buckets) = (*count + records, *sum_ns + ns, *in_buckets + placed);
            }
            (entry, more) => *entry = more,
        }
    }
    sum
}

/// A running `zibrato-gateway`.
#[derive(Debug)]
pub struct Gateway {
    /// The process.
    pub process: Process,
    /// Address of the status endpoint.
    pub http: String,
}

impl Gateway {
    /// Starts one that publishes to this endpoint.
    ///
    /// # Panics
    /// If it does not start; so for all here.
    pub fn start(endpoint: &str, args: &[&str]) -> Self {
        let always = ["--endpoint", endpoint, "--http", "127.0.0.1:0", "--site", "e2e"];
        let mut process = Process::start("zibrato-gateway", &[&always, args].concat());
        let line = process.line("gateway started");
        Self { process, http: field(&line, "http").to_owned() }
    }

    /// Path of its first pseudo-terminal.
    pub fn terminal(&self) -> String {
        self.process.printed("\n");
        self.process.stdout().lines().next().unwrap().to_owned()
    }

    /// Its metrics now.
    pub fn metrics(&self) -> Metrics {
        metrics(&self.http)
    }

    /// Waits until one of its metrics is at least `value`.
    pub fn counted(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        until(format!("{name} {labels:?} of {value}"), || {
            (self.metrics().sum(name, labels) >= value).then_some(())
        });
    }

    /// Stops it in order. It must end with code 0, and every device's law hold.
    pub fn finish(self) -> String {
        Self::check(self.process.terminate())
    }

    /// Waits until it ends by itself.
    pub fn wait(self) -> String {
        Self::check(self.process.wait())
    }

    fn check(ended: Ended) -> String {
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let laws: Vec<_> = ended.stderr.lines().filter(|line| line.contains("device closed")).collect();
        assert!(
            !laws.is_empty() && laws.iter().all(|line| field(line, "law") == "holds"),
            "{}",
            ended.stderr
        );
        ended.stderr
    }

    /// Records `device` and serves it as [`Gateway::start`] does.
    pub fn recording(endpoint: &str, args: &[&str], file: &Path) -> Self {
        Self::start(endpoint, &[args, &["--record", file.to_str().unwrap()]].concat())
    }
}
