//! A worker inside the test's process, with a backend that adds up what it posts.

use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::runtime::Runtime;
use zibrato_service::{Shutdown, StatusEndpoint};
use zibrato_worker::backend::{
    Answer, Backend, Batch, Body, Content, Encoded, Limits, Pending, Response, Verdict,
};
use zibrato_worker::clock::WallClock;
use zibrato_worker::measurement::{Measurement, Value as Measured};
use zibrato_worker::totals::Totals;
use zibrato_worker::units::PointUnits;
use zibrato_worker::worker::{Config, LaneConfig, Running, Source, start};

use crate::recording::{Truth, Truths};

/// Interval between two flushes of a [`TallyWorker`].
const FLUSH: Duration = Duration::from_millis(200);
const SPOOL_BYTES_MAX: u64 = 64 << 20;

/// A worker in this process that posts to a [`Tally`]. Dropped without [`TallyWorker::stop`] it ends
/// like a killed one.
#[derive(Debug)]
pub struct TallyWorker {
    runtime: Runtime,
    running: Running,
    shutdown: Shutdown,
}

impl TallyWorker {
    /// Starts a worker that subscribes to `levels` at all `endpoints`.
    ///
    /// # Panics
    /// If it cannot start.
    pub fn start(endpoints: &[&str], levels: &[&str], spool: &Path, tally: &Tally) -> Self {
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        let config = Config {
            source: Source { endpoints: owned(endpoints), levels: owned(levels), clock: WallClock::system() },
            status: StatusEndpoint { addr: None, explicit: false },
            lane: LaneConfig { spool_bytes_max: SPOOL_BYTES_MAX, ..LaneConfig::new(FLUSH, spool.to_owned()) },
        };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let shutdown = Shutdown::new();
        let context = zmq::Context::new();
        let starting = start(config, Arc::new(tally.clone()), &context, shutdown.clone());
        let running = runtime.block_on(starting).unwrap();
        Self { runtime, running, shutdown }
    }

    /// The totals so far.
    pub fn totals(&self) -> Totals {
        self.running.totals()
    }

    /// Ends it in order, and returns its last totals, which add up.
    ///
    /// # Panics
    /// If it ended by itself before, or its totals do not add up.
    pub fn stop(self) -> Totals {
        self.shutdown.request();
        let totals = self.runtime.block_on(self.running.join()).unwrap();
        assert!(totals.law_holds(), "{totals}: {:#?}", totals.ledger);
        totals
    }
}

/// Adds up what was posted; clones share the sums. It accepts everything.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<Mutex<Sums>>);

#[derive(Debug, Default)]
struct Sums {
    truths: Truths,
    /// The time of the last point of each gauge, in Unix milliseconds.
    times: BTreeMap<String, u64>,
    batches: BTreeSet<String>,
    repeated: u64,
}

impl Tally {
    /// The sums so far, of all sources together.
    ///
    /// # Panics
    /// If a batch was not readable.
    pub fn truths(&self) -> Truths {
        self.0.lock().unwrap().truths.clone()
    }

    /// Batches that came more than once, which are not added again.
    ///
    /// # Panics
    /// As [`Tally::truths`].
    pub fn repeated(&self) -> u64 {
        self.0.lock().unwrap().repeated
    }

    fn take(&self, batch: &Batch) {
        let mut sums = self.0.lock().unwrap();
        if !sums.batches.insert(batch.id.clone()) {
            sums.repeated += 1;
            return;
        }
        let points: Vec<Value> = serde_json::from_slice(&batch.body.bytes).unwrap();
        points.iter().for_each(|point| sums.add(point));
    }
}

impl Sums {
    fn add(&mut self, point: &Value) {
        let name = point["name"].as_str().unwrap().to_owned();
        let number = |key: &str| point[key].as_u64().unwrap();
        let new = match point["kind"].as_str().unwrap() {
            "counter" => Truth::Counter(number("sum")),
            "timer" => Truth::Timer {
                count: number("count"),
                sum_ns: number("sum_ns"),
                in_buckets: number("in_buckets"),
            },
            _ => {
                let time_ms = number("time_ms");
                let last_ms = self.times.entry(name.clone()).or_default();
                if time_ms < *last_ms {
                    return;
                }
                *last_ms = time_ms;
                Truth::Gauge(point["value"].as_f64().unwrap())
            }
        };
        let known = self.truths.entry(name).or_insert(match new {
            Truth::Counter(_) => Truth::Counter(0),
            Truth::Timer { .. } => Truth::Timer { count: 0, sum_ns: 0, in_buckets: 0 },
            Truth::Gauge(_) => Truth::Gauge(0.0),
        });
        match (known, new) {
            (Truth::Counter(sum), Truth::Counter(more)) => *sum += more,
            (
                Truth::Timer { count, sum_ns, in_buckets },
                Truth::Timer { count: records, sum_ns: ns, in_buckets: bucketed },
            ) => {
                *count += records;
                *sum_ns += ns;
                *in_buckets += bucketed;
            }
            (known, new) => *known = new,
        }
    }
}

impl Backend for Tally {
    fn name(&self) -> &'static str {
        "tally"
    }

    fn target(&self) -> String {
        "this process".to_owned()
    }

    fn limits(&self) -> Limits {
        Limits {
            points_max: usize::MAX,
            body_bytes_max: usize::MAX,
            age_max: Duration::from_secs(7_200),
            points_per_series_max: usize::MAX,
        }
    }

    fn encode(&self, content: &Content<'_>) -> Encoded {
        let (mut rows, mut points) = (Vec::new(), Vec::new());
        for Measurement { series, value, .. } in content.measurements {
            let name = &series.name;
            match value {
                Measured::Counter { delta } => {
                    rows.push(json!({"kind": "counter", "name": name, "sum": *delta as u64}));
                    points.push(PointUnits::Counter(*delta));
                }
                Measured::Timer(timer) => {
                    let fits = |(_, records)| records <= timer.count;
                    assert!(timer.histogram.counts().all(fits), "a bucket of {name} fell: {timer:?}");
                    rows.push(json!({"kind": "timer", "name": name, "count": timer.count,
                        "sum_ns": timer.sum_ns as u64, "in_buckets": timer.histogram.total()}));
                    points.push(PointUnits::Timer(timer.count));
                }
                Measured::Gauge { points: set } => {
                    for point in set {
                        rows.push(json!({"kind": "gauge", "name": name, "value": point.value,
                            "time_ms": point.time_ms}));
                        points.push(PointUnits::Gauge(1));
                    }
                }
                Measured::RawTimer { .. } => panic!("nobody asked for raw timers"),
            }
        }
        let bytes = serde_json::to_vec(&rows).unwrap();
        let body = Body { bytes, content_type: "application/json".to_owned(), points };
        Encoded { bodies: if rows.is_empty() { vec![] } else { vec![body] }, ..Encoded::default() }
    }

    fn send<'a>(&'a self, batch: &'a Batch) -> Pending<'a, Answer> {
        self.take(batch);
        Box::pin(ready(Answer::Response(Response { status: 200, ..Response::default() })))
    }

    fn classify(&self, _response: &Response, _batch: &Batch, _now_ms: u64) -> Verdict {
        Verdict::Delivered { odd: false }
    }

    fn select(&self, _bytes: &[u8], _keep: &[bool]) -> Option<Vec<u8>> {
        None
    }

    fn describe(&self, _bytes: &[u8], _point: usize) -> Option<String> {
        None
    }
}
