//! What a service says of itself at `/status`, as JSON.
//!
//! `/healthz` answers a supervisor and `/metrics` a time-series store; this answers a person, through
//! `zibrato doctor`, `zibrato top` and the page of zibrato-local. A reader skips fields it does not
//! know and takes the default for those that are missing, so that versions can be mixed.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::Health;

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
    /// A gateway's.
    Gateway(GatewayReport),
}

impl Report {
    /// The process that answered.
    #[must_use]
    pub const fn process(&self) -> &Process {
        match self {
            Self::Broker(BrokerReport { process, .. })
            | Self::Worker(WorkerReport { process, .. })
            | Self::Local(LocalReport { process, .. })
            | Self::Gateway(GatewayReport { process, .. }) => process,
        }
    }

    /// The report without ages and clocks: two of one service differ only if something happened.
    #[must_use]
    pub fn without_ages(mut self) -> Self {
        let process = match &mut self {
            Self::Broker(broker) => {
                broker.publishers.iter_mut().for_each(|publisher| publisher.silent_ms = 0);
                &mut broker.process
            }
            Self::Worker(worker) => {
                for publisher in &mut worker.publishers {
                    (publisher.silent_ms, publisher.age_ms, publisher.clock_skew_ms) = (0, 0, None);
                }
                (worker.flushed_ms, worker.delivered_ms, worker.spool.oldest_ms) = (None, None, None);
                &mut worker.process
            }
            Self::Local(local) => &mut local.process,
            Self::Gateway(gateway) => {
                gateway.devices.iter_mut().for_each(|device| (device.heard_ms, device.uptime_ms) = (None, 0));
                &mut gateway.process
            }
        };
        (process.uptime_s, process.unix_ms) = (0, 0);
        self
    }
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
    /// What needs care, as `/healthz` says it; none if all is well.
    pub degraded: Option<String>,
}

impl Process {
    /// This process, which runs `version` and did so since `started`.
    #[must_use]
    pub fn this(version: &str, started: Instant, health: &Health) -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            version: version.to_owned(),
            pid: std::process::id(),
            uptime_s: started.elapsed().as_secs(),
            unix_ms: u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX),
            degraded: match health {
                Health::Ok => None,
                Health::Degraded(reason) => Some(reason.clone()),
            },
        }
    }
}

/// One stage's account in one unit: `offered = accepted + merged + refused` and
/// `accepted = delivered + held + dropped`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Account {
    /// Where in the service: `forward` in a broker, `ledger` and then `spool` in a worker, `store` in
    /// zibrato-local, `link` and the device's source in a gateway.
    pub stage: String,
    /// What is counted: `messages`, `points`, `counter units`, `timer records`, `gauge sets`, `legacy
    /// counters`, `entries`.
    pub unit: String,
    /// What came in, with what an earlier run had left in the spool.
    pub offered: f64,
    /// What was taken.
    pub accepted: f64,
    /// What became part of another one: sets of a gauge of which only the last is kept.
    pub merged: f64,
    /// What was not taken, by reason.
    pub refused: BTreeMap<String, f64>,
    /// What the next stage has.
    pub delivered: f64,
    /// What waits.
    pub held: f64,
    /// What was given up, by reason.
    pub dropped: BTreeMap<String, f64>,
}

/// Sums of floats taken in different orders differ by a few units in the last place.
const SUM_TOLERANCE: f64 = 1e-9;

impl Account {
    /// Whether everything is accounted for, to a billionth of the largest amount.
    #[must_use]
    pub fn adds_up(&self) -> bool {
        let (refused, dropped): (f64, f64) = (self.refused.values().sum(), self.dropped.values().sum());
        let largest = [self.offered, self.accepted, self.delivered, self.held, refused, dropped]
            .into_iter()
            .fold(1.0, |largest, amount| amount.abs().max(largest));
        let same = |left: f64, right: f64| (left - right).abs() <= largest * SUM_TOLERANCE;
        same(self.offered, self.accepted + self.merged + refused)
            && same(self.accepted, self.delivered + self.held + dropped)
    }
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
    /// Levels that somebody is subscribed to, natively or as text, in the order of the alphabet: the
    /// open gates.
    pub subscribed_levels: Vec<String>,
    /// Bytes kept for replay, and their limit.
    pub kept_bytes: u64,
    /// The most bytes kept.
    pub kept_bytes_max: u64,
    /// The publishers whose frames are kept, at most [`PUBLISHERS_MAX`].
    pub publishers: Vec<KeptPublisher>,
    /// All publishers whose frames are kept.
    pub publishers_total: u64,
    /// Publishers of a level that were forgotten, by reason: `bytes_live` and `bytes_ended` for want of
    /// memory, `age_live` and `age_ended` for their age.
    pub evicted: BTreeMap<String, u64>,
}

/// The most publishers in one report.
///
/// Beyond it those heard last are told.
pub const PUBLISHERS_MAX: usize = 1_000;
/// The most levels told of one publisher.
pub const PUBLISHER_LEVELS_MAX: usize = 16;

/// A publisher as a broker knows it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct KeptPublisher {
    /// Its id, in hexadecimal.
    pub id: String,
    /// The levels it published, at most [`PUBLISHER_LEVELS_MAX`].
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
    /// Its accounts: those of the ledger and then those of the spool, one for each unit.
    pub accounts: Vec<Account>,
    /// What did not reach the ledger, by reason: `gaps_lost` are frames that never came and that no key
    /// frame healed, `legacy_lost` text messages that a broker forwarded and that did not arrive, `buckets_unknown` timer records without
    /// their place in the distribution, `joined_late` series with history from before the subscription,
    /// `multipart` and `abandoned` messages. A reason that never occurred is left out.
    pub lost: BTreeMap<String, u64>,
    /// Publishers, each counted at each of its levels, that fell silent without an end frame, as a killed
    /// program does. Nothing that was sent is lost by that.
    pub vanished: u64,
    /// Messages, frames or states that the ledger did not take, by reason.
    pub refused: BTreeMap<String, u64>,
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
    /// The levels it publishes, at most [`PUBLISHER_LEVELS_MAX`].
    pub levels: Vec<String>,
    /// Its series in the ledger.
    pub series: u64,
    /// Milliseconds since its last frame.
    pub silent_ms: u64,
    /// Milliseconds since it started.
    pub age_ms: u64,
    /// Whether it ended in order.
    pub ended: bool,
    /// Whether it fell silent without an end frame, and asking brokers brought nothing.
    pub vanished: bool,
    /// How far its wall clock is ahead of the worker's, in milliseconds, transit included; none if
    /// its frames do not tell.
    pub clock_skew_ms: Option<i64>,
    /// Its frames that are missing and that no key frame has healed yet.
    pub gaps: u64,
    /// What it dropped or refused itself since its start, by reason.
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
    /// Bytes that it may still take on its file system; none if that is not known.
    pub disk_free_bytes: Option<u64>,
    /// Measurement time of the newest point, in seconds since 1970; none in an empty store.
    pub newest_s: Option<i64>,
    /// Points stored since the start that came as another kind than their metric has.
    pub kind_clash_points: u64,
    /// The metrics of such points, at most 100.
    pub kind_clashes: Vec<KindClash>,
}

/// A metric that programs record as two kinds; a store without kinds, as Librato's is, has them as one.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct KindClash {
    /// Its name.
    pub metric: String,
    /// The kind it has in the store, that which came first: counter, gauge or timer.
    pub is: String,
    /// The kind that is sent as well.
    pub sent: String,
}

/// A gateway.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GatewayReport {
    /// The process.
    pub process: Process,
    /// Endpoints of the brokers.
    pub endpoints: Vec<String>,
    /// Entries of state frames of each device; "delivered" are those that became state of a publisher.
    pub accounts: Vec<Account>,
    /// The devices.
    pub devices: Vec<GatewayDevice>,
}

/// A device as a gateway knows it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GatewayDevice {
    /// Its source.
    pub source: String,
    /// How it is reached.
    pub port: String,
    /// Whether its port is open and something came lately.
    pub connected: bool,
    /// Why the port is not open; none if it is, or was not tried yet.
    pub error: Option<String>,
    /// Whether it ended for good, as a recording that was played.
    pub over: bool,
    /// Milliseconds since its last frame; none before the first.
    pub heard_ms: Option<u64>,
    /// Brokers that its publisher is connected to.
    pub brokers: u64,
    /// Its program, as it says; empty before its hello.
    pub program: String,
    /// The id under which its boot is published, in hexadecimal; empty before its hello.
    pub publisher: String,
    /// Milliseconds since its boot.
    pub uptime_ms: u64,
    /// Its levels.
    pub levels: Vec<String>,
    /// On-demand levels of these that it was told to have on.
    pub levels_on: Vec<String>,
    /// Metrics whose descriptors are known.
    pub metrics: u64,
    /// Metrics that it says it has.
    pub metrics_total: u64,
    /// Frames that came whole.
    pub frames: u64,
    /// Frames that it sent and that did not come.
    pub frames_lost: u64,
    /// Pieces of the line that were no frame, by reason.
    pub bad: BTreeMap<String, u64>,
    /// Records that full rings on the device dropped.
    pub lost_on_device: u64,
    /// How often it started again.
    pub resets: u64,
    /// Samples that came.
    pub samples: u64,
    /// Samples that it sent and that did not come.
    pub samples_lost: u64,
    /// Why it is not recorded any more, if it was to be.
    pub record_error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_passes_changes_nothing_but_ages() {
        let publisher = PublisherReport { series: 1, silent_ms: 5, age_ms: 6, ..PublisherReport::default() };
        let worker = WorkerReport {
            process: Process { uptime_s: 1, unix_ms: 2, pid: 3, ..Process::default() },
            publishers: vec![publisher],
            flushed_ms: Some(3),
            delivered_ms: Some(4),
            spool: SpoolReport { oldest_ms: Some(1), ..SpoolReport::default() },
            ..WorkerReport::default()
        };
        let mut later = worker.clone();
        (later.process.uptime_s, later.process.unix_ms) = (2, 1_002);
        (later.flushed_ms, later.delivered_ms, later.spool.oldest_ms) = (Some(1_003), Some(1_004), None);
        (later.publishers[0].silent_ms, later.publishers[0].age_ms) = (0, 1_006);
        let bare = |worker: &WorkerReport| Report::Worker(worker.clone()).without_ages();
        assert_eq!(bare(&worker), bare(&later));
        later.publishers[0].series = 2;
        assert_ne!(bare(&worker), bare(&later));
        let broker = |silent_ms| {
            let publishers = vec![KeptPublisher { silent_ms, ..KeptPublisher::default() }];
            Report::Broker(BrokerReport { publishers, ..BrokerReport::default() }).without_ages()
        };
        assert_eq!(broker(1), broker(2));
        assert_eq!(Report::Worker(later).process().pid, 3);
    }

    #[test]
    fn an_account_adds_up_only_if_nothing_is_missing() {
        let mut account = Account { offered: 10.3, accepted: 6.3, merged: 1.0, ..Account::default() };
        account.refused.insert("level".to_owned(), 3.0);
        assert!(!account.adds_up());
        (account.delivered, account.held) = (0.1 + 0.2, 4.0);
        account.dropped.insert("too_old".to_owned(), 2.0);
        assert!(account.adds_up());
        account.merged = 0.0;
        assert!(!account.adds_up());
    }

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
