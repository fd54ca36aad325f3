//! The `recorder` program of this crate, and the truth it tells.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::process::{Process, command};
use crate::sqlite::{Totals, read};

/// Pause between two looks at what arrived.
const PAUSE: Duration = Duration::from_millis(20);

/// What one series recorded, or what arrived of it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Truth {
    /// The sum of a counter.
    Counter(u64),
    /// The records of a timer.
    Timer {
        /// How many.
        count: u64,
        /// Their sum, in nanoseconds.
        sum_ns: u64,
        /// What the buckets sum to.
        in_buckets: u64,
    },
    /// The last value of a gauge.
    Gauge(f64),
}

/// Series by the name of their metric; one that never recorded is left out.
pub type Truths = BTreeMap<String, Truth>;

/// A recorder that runs.
#[derive(Debug)]
pub struct Recording(Process);

impl Recording {
    /// Starts `recorder` with these arguments.
    ///
    /// # Panics
    /// As [`Process::start`].
    pub fn start(args: &[&str]) -> Self {
        let mut command = command("recorder");
        command.args(args);
        Self::spawn(command)
    }

    /// Starts a command that becomes a `recorder`.
    ///
    /// # Panics
    /// As [`Process::spawn`].
    pub fn spawn(command: Command) -> Self {
        Self(Process::spawn(command))
    }

    /// Ends the recording and returns the truth.
    ///
    /// # Panics
    /// If the client's account of itself does not add up, or a broker did not acknowledge all of it.
    pub fn finish(mut self) -> Truths {
        self.0.close_stdin();
        let ended = self.0.wait();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let said: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(said["law_holds"], true, "{said}");
        assert_eq!(said["unacknowledged"], 0, "{said}");
        assert_eq!(said["accepted"], said["delivered"], "{said}");
        said["series"].as_array().unwrap().iter().filter_map(truth).collect()
    }
}

/// What a local store holds of a recorder's source.
///
/// # Panics
/// If it cannot be read.
pub fn arrived(db: &Path, source: &str) -> Truths {
    let stored = read(db).0.into_iter().filter(|((_, of), _)| of == source);
    let truth = |((metric, _), totals): ((String, String), Totals)| {
        let truth = match metric.split('.').nth(2) {
            Some("counter") => Truth::Counter(totals.sum as u64),
            Some("timer") => Truth::Timer {
                count: totals.count as u64,
                sum_ns: totals.sum_ns,
                in_buckets: totals.histogram.total(),
            },
            Some("gauge") => {
                let points = totals.points.into_iter();
                // Of two points of one time the one that was stored later.
                Truth::Gauge(points.max_by_key(|point| point.0).unwrap().1)
            }
            _ => panic!("{metric} is no metric of a recorder"),
        };
        (metric, truth)
    };
    stored.map(truth).collect()
}

/// Waits until a local store holds exactly what was recorded; says what differs if it does not.
///
/// # Panics
/// If it does not within `deadline`.
pub fn assert_arrives(db: &Path, source: &str, recorded: &Truths, deadline: Duration) {
    let truths = settle(recorded, deadline, || arrived(db, source));
    assert_truths(recorded, &truths, source);
}

/// Looks until the truths are what was recorded, `deadline` at most, and returns the last ones.
pub fn settle(recorded: &Truths, deadline: Duration, mut look: impl FnMut() -> Truths) -> Truths {
    let by = Instant::now() + deadline;
    loop {
        let truths = look();
        if truths == *recorded || Instant::now() > by {
            return truths;
        }
        thread::sleep(PAUSE);
    }
}

/// # Panics
/// If there is a difference, with the first one.
pub fn assert_truths(recorded: &Truths, arrived: &Truths, context: &str) {
    for (name, truth) in recorded {
        assert_eq!(arrived.get(name), Some(truth), "{name}: {context}");
    }
    assert_eq!(arrived, recorded, "{context}");
}

fn truth(row: &Value) -> Option<(String, Truth)> {
    let number = |key: &str| row[key].as_u64().unwrap();
    let truth = match row["kind"].as_str().unwrap() {
        "counter" => Truth::Counter(number("sum")),
        "timer" => {
            let count = number("count");
            Truth::Timer { count, sum_ns: number("sum_ns"), in_buckets: count }
        }
        _ if number("count") == 0 => return None,
        _ => Truth::Gauge(row["last"].as_f64().unwrap()),
    };
    let is_empty = matches!(truth, Truth::Counter(0) | Truth::Timer { count: 0, .. });
    (!is_empty).then(|| (row["name"].as_str().unwrap().to_owned(), truth))
}
