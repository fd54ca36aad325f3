//! The backend programs as a table, and what tests that do one thing with each of them share.

use std::path::Path;
use std::thread;

use crate::bodies::{Format, Point};
use crate::process::Process;
use crate::services::{Broker, Worker};

/// A backend program, and what is known of its receiver.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// The program.
    pub program: &'static str,
    /// Its flags, given where it sends to: a host and port, or a file.
    pub flags: fn(&str) -> Vec<String>,
    /// What it writes.
    pub format: Format,
    /// Whether it tells what series have come to, and not by how much they changed.
    pub totals: bool,
}

/// `zibrato-librato`.
pub const LIBRATO: Kind = Kind {
    program: "zibrato-librato",
    flags: |addr| url_and(addr, "/v1/metrics", &[]),
    format: Format::Librato,
    totals: false,
};

/// `zibrato-otlp`.
pub const OTLP: Kind = Kind {
    program: "zibrato-otlp",
    flags: |addr| url_and(addr, "", &[]),
    format: Format::Otlp,
    totals: true,
};

/// `zibrato-influx`.
pub const INFLUX: Kind = Kind {
    program: "zibrato-influx",
    flags: |addr| url_and(addr, "", &["--database", "shop"]),
    format: Format::Influx,
    totals: false,
};

/// `zibrato-prometheus`.
pub const PROMETHEUS: Kind = Kind {
    program: "zibrato-prometheus",
    flags: |addr| url_and(addr, "", &["--instance", "w1"]),
    format: Format::RemoteWrite,
    totals: true,
};

/// `zibrato-graphite`.
pub const GRAPHITE: Kind = Kind {
    program: "zibrato-graphite",
    flags: |addr| vec!["--address".to_owned(), addr.to_owned()],
    format: Format::Graphite,
    totals: false,
};

/// `zibrato-statsd` over TCP.
pub const STATSD: Kind = Kind {
    program: "zibrato-statsd",
    flags: |addr| vec!["--address".to_owned(), format!("tcp://{addr}")],
    format: Format::Statsd,
    totals: false,
};

/// `zibrato-jsonl` into a file.
pub const JSONL: Kind = Kind {
    program: "zibrato-jsonl",
    flags: |path| vec!["--file".to_owned(), path.to_owned()],
    format: Format::Jsonl,
    totals: false,
};

/// All programs of one backend.
pub const KINDS: [Kind; 7] = [LIBRATO, OTLP, INFLUX, PROMETHEUS, GRAPHITE, STATSD, JSONL];

impl Kind {
    /// What bodies say about a name, in their order.
    pub fn values<'a>(&self, bodies: impl IntoIterator<Item = &'a [u8]>, name: &str) -> Vec<f64> {
        self.points(bodies).filter(|point| point.name == name).map(|point| point.value).collect()
    }

    /// What a name comes to after all bodies.
    pub fn total<'a>(&self, bodies: impl IntoIterator<Item = &'a [u8]>, name: &str) -> f64 {
        let values = self.values(bodies, name);
        if self.totals { values.last().copied().unwrap_or_default() } else { values.iter().sum() }
    }

    /// The points of bodies, in their order.
    pub fn points<'a>(&self, bodies: impl IntoIterator<Item = &'a [u8]>) -> impl Iterator<Item = Point> {
        let format = self.format;
        bodies.into_iter().flat_map(move |body| format.points(body))
    }
}

fn url_and(addr: &str, path: &str, more: &[&str]) -> Vec<String> {
    let url = format!("http://{addr}{path}");
    ["--url", &url].iter().chain(more).map(|text| (*text).to_owned()).collect()
}

/// Does a row for each of a table at the same time.
///
/// # Panics
/// With the names of those whose row panicked.
pub fn each<T: Sync>(table: &[T], name: impl Fn(&T) -> String, row: impl Fn(&T) + Sync) {
    let failed: Vec<String> = thread::scope(|scope| {
        let start = |one| {
            let thread = thread::Builder::new().name(name(one));
            (name(one), thread.spawn_scoped(scope, || row(one)).unwrap())
        };
        let running: Vec<_> = table.iter().map(start).collect();
        running.into_iter().filter_map(|(name, thread)| thread.join().is_err().then_some(name)).collect()
    });
    assert!(failed.is_empty(), "failed for {failed:?}");
}

/// The arguments of a worker whose spool is `spool` in a directory.
pub fn worker_args(flags: &[String], endpoint: &str, home: &Path) -> Vec<String> {
    let spool = home.join("spool");
    let own = ["--endpoint", endpoint, "--spool", spool.to_str().unwrap()].map(str::to_owned);
    own.iter().chain(flags).cloned().collect()
}

/// Starts a worker that flushes every second.
///
/// # Panics
/// If it does not start.
pub fn worker_of(program: &str, flags: &[String], broker: &Broker, home: &Path) -> Worker {
    let args = worker_args(flags, &broker.workers, home);
    Worker::of(program, &args.iter().map(String::as_str).collect::<Vec<_>>())
}

/// A program that records once; `hits=3` is a counter, and `lat=5` a timer.
///
/// # Panics
/// If it fails.
pub fn record(broker: &Broker, records: &[&str]) {
    let flag = |record: &&str| if record.starts_with("lat=") { "--timer" } else { "--counter" };
    let records: Vec<&str> = records.iter().flat_map(|record| [flag(record), *record]).collect();
    let program = Process::run("once", &[&["--endpoint", &broker.publishers], &records[..]].concat());
    assert_eq!(program.code, Some(0), "{}", program.stderr);
}
