//! The `workload` program of this crate, and what it comes to.

use std::time::Duration;

use crate::process::{Process, command};

/// The level of one counter; all else is `info`.
pub const AUDIT: &str = "audit";
/// Routes of the counter `shop.orders`, and what each round adds.
pub const ORDERS: [(&str, u64); 2] = [("/a b", 3), ("/c", 5)];
/// What each round adds to the counter `shop.bytes`, of the unit `B`, at the level `audit`.
pub const BYTES: u64 = 4_096;
/// The last value of the gauge `shop.depth`.
pub const DEPTH: f64 = -7.5;
/// The gauge `shop.load`.
pub const LOAD: f64 = 0.25;
/// Records of the timer `shop.latency` in each round: 1 to so many steps.
pub const LATENCIES: u64 = 1_000;
/// A step of it.
pub const LATENCY_STEP: Duration = Duration::from_millis(1);
/// By how much a percentile may be off: our buckets' half width.
pub const PERCENTILE_ERROR: f64 = 0.011;

/// The value of the gauge `shop.depth` in a round.
pub fn depth(round: u64, rounds: u64) -> f64 {
    if round == rounds { DEPTH } else { round as f64 }
}

/// A workload that ran.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    rounds: u64,
}

impl Workload {
    /// Runs it against a broker at an endpoint.
    ///
    /// # Panics
    /// If it fails.
    pub fn run(endpoint: &str, source: &str, rounds: u64) -> Self {
        let mut workload = command("workload");
        workload.args(["--endpoint", endpoint, "--source", source, "--rounds", &rounds.to_string()]);
        let ended = Process::spawn(workload).wait();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        Self { rounds }
    }

    /// Sum of the counter `shop.orders` of a route, by its place in [`ORDERS`].
    pub fn orders(&self, at: usize) -> f64 {
        (self.rounds * ORDERS[at].1) as f64
    }

    /// Sum of the counter `shop.bytes`.
    pub fn bytes(&self) -> f64 {
        (self.rounds * BYTES) as f64
    }

    /// Records of the timer `shop.latency`.
    pub fn records(&self) -> f64 {
        (self.rounds * LATENCIES) as f64
    }

    /// Sum of the timer `shop.latency`, in seconds.
    pub fn seconds(&self) -> f64 {
        let steps = LATENCIES * (LATENCIES + 1) / 2;
        self.rounds as f64 * steps as f64 * LATENCY_STEP.as_secs_f64()
    }

    /// A percentile of the timer `shop.latency`, in seconds.
    pub fn percentile(&self, percentile: f64) -> f64 {
        (percentile / 100.0 * LATENCIES as f64).ceil() * LATENCY_STEP.as_secs_f64()
    }
}

/// Whether two sums of floats are the same amount.
pub fn same(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}

/// Whether a percentile is within its error, or `more` where the store adds some.
pub fn near(value: f64, exact: f64, more: f64) -> bool {
    (value / exact - 1.0).abs() <= PERCENTILE_ERROR + more
}
