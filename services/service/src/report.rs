//! What a service says of itself at `/status`, as JSON.
//!
//! `/healthz` answers a supervisor and `/metrics` a time-series store; this answers a person, through
//! `zibrato doctor`, `zibrato top` and the page of zibrato-local. A reader skips fields it does not
//! know and takes the default for those that are missing, so that versions can be mixed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The path of the report on each status endpoint.
pub const REPORT_PATH: &str = "/status";

/// What a service says of itself.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "service", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Report {
    /// A broker's.
    Broker(BrokerReport),
    /// A worker's.
    Worker(WorkerReport),
    /// That of zibrato-local.
    Local(LocalReport),
}

/// The process that answers.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    /// Its version, as `--version` prints it.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// Its wall clock when it answered, in milliseconds since 1970. Against the reader's clock it
    /// shows the skew between the two.
    pub unix_ms: u64,
}

/// One stage's account: `offered = accepted + refused` and `accepted = delivered + held + dropped`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Account {
    /// What is counted: `messages`, `points`, `counter units`, `records`, `sets`…
    pub unit: String,
    /// What came in.
    pub offered: f64,
    /// What was taken.
    pub accepted: f64,
    /// What was not taken, by reason.
    pub refused: BTreeMap<String, f64>,
    /// What the next stage has.
    pub delivered: f64,
    /// What waits.
    pub held: f64,
    /// What was given up, by reason.
    pub dropped: BTreeMap<String, f64>,
}

/// A broker.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BrokerReport {
    /// The process.
    pub process: Process,
    /// Endpoint of publishers.
    pub publishers_endpoint: String,
    /// Endpoint of workers.
    pub workers_endpoint: String,
    /// Messages; "delivered" are forwarded ones, "dropped" those without a subscriber.
    pub accounts: Vec<Account>,
    /// Levels that workers are subscribed to: the open gates.
    pub subscribed_levels: Vec<String>,
    /// Bytes kept for replay, and their limit.
    pub kept_bytes: u64,
    /// The most bytes kept.
    pub kept_bytes_max: u64,
    /// The publishers whose frames are kept, at most [`PUBLISHERS_MAX`].
    pub publishers: Vec<KeptPublisher>,
    /// All publishers whose frames are kept.
    pub publishers_total: u64,
}

/// The most publishers in one report.
pub const PUBLISHERS_MAX: usize = 1_000;

/// A publisher as a broker knows it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct KeptPublisher {
    /// Its id, in hexadecimal.
    pub id: String,
    /// The levels it published.
    pub levels: Vec<String>,
    /// Milliseconds since its last frame.
    pub silent_ms: u64,
    /// Whether it ended in order.
    pub ended: bool,
}

/// A worker.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkerReport {
    /// The process.
    pub process: Process,
    /// The backend's name.
    pub backend: String,
    /// Where batches go, without secrets.
    pub target: String,
    /// The levels subscribed to.
    pub levels: Vec<String>,
    /// The brokers, and whether each is connected.
    pub brokers: Vec<Connection>,
    /// Its accounts, one for each unit.
    pub accounts: Vec<Account>,
    /// What is lost before the ledger or known to be lost to it, by reason: gaps that never healed,
    /// publishers that vanished, legacy messages that did not arrive.
    pub lost: BTreeMap<String, u64>,
    /// Series in the ledger.
    pub series: u64,
    /// Seconds from flush to flush.
    pub flush_s: f64,
    /// Milliseconds since the last committed flush; none before the first.
    pub flushed_ms: Option<u64>,
    /// Milliseconds since the backend last took a batch; none before the first.
    pub delivered_ms: Option<u64>,
    /// What the backend does not take at present, in one line; none if all is well.
    pub backend_error: Option<String>,
    /// Batches on disk.
    pub spool: SpoolReport,
    /// Publishers in the ledger, at most [`PUBLISHERS_MAX`].
    pub publishers: Vec<PublisherReport>,
    /// All publishers in the ledger.
    pub publishers_total: u64,
}

/// A connection to a broker.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Connection {
    /// The broker's endpoint for workers.
    pub endpoint: String,
    /// Whether it is up.
    pub connected: bool,
}

/// Batches that the backend has not acknowledged.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SpoolReport {
    /// How many.
    pub batches: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The most bytes held.
    pub bytes_max: u64,
    /// Age of the oldest in milliseconds; none without one.
    pub oldest_ms: Option<u64>,
}

/// A publisher as a worker knows it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PublisherReport {
    /// Its id, in hexadecimal.
    pub id: String,
    /// The program, if a key frame said so.
    pub program: String,
    /// The host, likewise.
    pub host: String,
    /// The process id, likewise; 0 if unknown.
    pub pid: u32,
    /// The version of its zibrato library, likewise.
    pub version: String,
    /// The levels it publishes.
    pub levels: Vec<String>,
    /// Its series in the ledger.
    pub series: u64,
    /// Milliseconds since its last frame.
    pub silent_ms: u64,
    /// Milliseconds since it started.
    pub age_ms: u64,
    /// Whether it ended in order.
    pub ended: bool,
    /// How far its wall clock is ahead of the worker's, in milliseconds, transit included; none if
    /// its frames do not tell.
    pub clock_skew_ms: Option<i64>,
    /// Gaps in its frames that no key frame has healed yet.
    pub gaps: u64,
    /// What it dropped itself, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Records it spilled: counted and summed exactly, their percentiles approximate.
    pub spilled: u64,
}

/// zibrato-local.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LocalReport {
    /// The process.
    pub process: Process,
    /// Points.
    pub account: Account,
    /// Metrics stored.
    pub metrics: u64,
    /// Bytes of the database, without what is free in it.
    pub db_bytes: u64,
    /// Measurement time of the newest point, in seconds since 1970; none in an empty store.
    pub newest_s: Option<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_tells_its_service_and_survives_unknown_and_missing_fields() {
        let report = Report::Broker(BrokerReport { kept_bytes: 7, ..BrokerReport::default() });
        let text = serde_json::to_string(&report).unwrap();
        assert!(text.starts_with(r#"{"service":"broker""#), "{text}");
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
        let newer = r#"{"service":"worker","series":3,"invented_later":[1]}"#;
        let Report::Worker(worker) = serde_json::from_str(newer).unwrap() else { panic!("not a worker") };
        assert_eq!((worker.series, worker.flushed_ms), (3, None));
    }
}
