//! What the loop recorded, counted beside the metrics.

use std::fmt::Write as _;
use std::time::Duration;

use zibrato_std::{Flow, Gauge};

use crate::workload::{BYTES_IN, BYTES_OUT, DETAIL, ITERATIONS, LARGE, NEGATIVE, PROGRESS, WORK, ZERO};

/// The truth of one thread or of all.
#[derive(Clone, Default, Debug)]
pub(crate) struct Recorded {
    pub(crate) iterations: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) zero: Sets,
    pub(crate) negative: Sets,
    pub(crate) large: Sets,
    /// One a thread, in the order of the threads.
    pub(crate) progress: Vec<Sets>,
    pub(crate) work: Times,
    pub(crate) detail: Times,
}

/// Sets of a gauge.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Sets {
    count: u64,
    last: f64,
}

/// Records of a timer.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Times {
    count: u64,
    sum_ns: u64,
}

impl Recorded {
    /// Adds what another thread recorded.
    pub(crate) fn add(&mut self, other: Self) {
        self.iterations += other.iterations;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.zero.merge(other.zero);
        self.negative.merge(other.negative);
        self.large.merge(other.large);
        self.progress.extend(other.progress);
        self.work.merge(other.work);
        self.detail.merge(other.detail);
    }

    /// The same in the units of the client's account.
    pub(crate) fn flow(&self) -> Flow {
        let constant = self.zero.count + self.negative.count + self.large.count;
        Flow {
            counters: self.iterations + self.bytes_in + self.bytes_out,
            gauges: constant + self.progress.iter().map(|sets| sets.count).sum::<u64>(),
            timers: self.work.count + self.detail.count,
        }
    }

    /// One line of JSON. A timer that was never on and a gauge that was never set are left out, as
    /// no store will have them either.
    pub(crate) fn json(&self, source: &str) -> String {
        let mut rows = Vec::new();
        for (counter, sum) in
            [(&ITERATIONS, self.iterations), (&BYTES_IN, self.bytes_in), (&BYTES_OUT, self.bytes_out)]
        {
            let metric = counter.metric();
            rows.push(row(metric.name(), "counter", metric.tags(), &format!("\"sum\":{sum}")));
        }
        for (timer, times) in [(&WORK, self.work), (&DETAIL, self.detail)] {
            let Times { count, sum_ns } = times;
            if count > 0 {
                let value = format!("\"count\":{count},\"sum_ns\":{sum_ns}");
                rows.push(row(timer.metric().name(), "timer", &[], &value));
            }
        }
        for (gauge, sets) in [(&ZERO, self.zero), (&NEGATIVE, self.negative), (&LARGE, self.large)] {
            rows.push(row(gauge.metric().name(), "gauge", &[], &sets.json()));
        }
        for (number, sets) in self.progress.iter().enumerate() {
            rows.push(row(PROGRESS, "gauge", &[("thread", &number.to_string())], &sets.json()));
        }
        // The client has checked the source, and no name or tag needs escaping.
        format!("{{\"source\":\"{source}\",\"metrics\":[{}]}}", rows.join(","))
    }
}

impl Sets {
    /// Sets the gauge and counts it.
    pub(crate) fn set(&mut self, gauge: &'static Gauge, value: f64) {
        gauge.set(value);
        self.count += 1;
        self.last = value;
    }

    fn merge(&mut self, other: Self) {
        self.count += other.count;
        // All threads set the same value.
        self.last = other.last;
    }

    fn json(&self) -> String {
        format!("\"count\":{},\"last\":{}", self.count, self.last)
    }
}

impl Times {
    /// Counts what a guard recorded; `None` is a level that was off.
    pub(crate) fn add(&mut self, recorded: Option<Duration>) {
        if let Some(duration) = recorded {
            self.count += 1;
            self.sum_ns += duration.as_nanos() as u64;
        }
    }

    fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.sum_ns += other.sum_ns;
    }
}

fn row(name: &str, kind: &str, tags: &[(&str, &str)], value: &str) -> String {
    let mut row = format!("{{\"name\":\"{name}\",\"kind\":\"{kind}\",\"tags\":{{");
    for (at, (key, tag)) in tags.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        // Writing to a string has no way to fail.
        let _ = write!(row, "{comma}\"{key}\":\"{tag}\"");
    }
    row + "}," + value + "}"
}
