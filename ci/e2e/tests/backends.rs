//! Each backend against its real server: a known workload goes through broker and worker, and what the server's own query
//! says is compared to the unit.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::collections::BTreeMap;

use serde_json::Value;
use tempfile::TempDir;
use zibrato_e2e::workload::{DEPTH, LOAD, ORDERS, Workload, near, same};
use zibrato_e2e::{Broker, Rotel, Worker, directory, until};

/// Rounds of the workload: several flushes.
const ROUNDS: u64 = 12;
const SOURCE: &str = "shop-1";

/// A broker, a worker of one backend, and the workload that went through them.
struct Run {
    broker: Broker,
    worker: Worker,
    workload: Workload,
    _spool: TempDir,
}

impl Run {
    fn of(program: &str, args: &[&str]) -> Self {
        let (broker, spool) = (Broker::start(), directory());
        let of_worker = ["--endpoint", &broker.workers, "--levels", "info,audit", "--spool"];
        let worker = Worker::of(program, &[&of_worker[..], &[spool.path().to_str().unwrap()], args].concat());
        let workload = Workload::run(&broker.publishers, SOURCE, ROUNDS);
        Self { broker, worker, workload, _spool: spool }
    }

    /// Ends worker and broker; nothing may be held or lost.
    fn finish(self) {
        let delivery = self.worker.finish();
        assert_eq!(delivery.held, 0, "{}", delivery.stderr);
        assert!(
            delivery.line.contains("dropped [none]") && delivery.line.contains("refused [none]"),
            "{}",
            delivery.line
        );
        assert_eq!(delivery.timer_records as f64, self.workload.records());
        self.broker.finish();
    }
}

/// The last point of each series, as OTLP tells it.
fn last_points(points: &[Value]) -> BTreeMap<(String, String), Value> {
    let key = |point: &Value| {
        (
            point["name"].as_str().unwrap().to_owned(),
            point["attributes"]["route"].as_str().unwrap_or_default().to_owned(),
        )
    };
    // In the order in which they came.
    points.iter().map(|point| (key(point), point.clone())).collect()
}

#[test]
fn otlp() {
    let server = Rotel::start();
    let run = Run::of("zibrato-otlp", &["--url", &server.url]);
    let truth = run.workload;
    let last = until("all of it", || {
        let last = last_points(&server.points());
        let latency = last.get(&("shop.latency".to_owned(), String::new()))?;
        (latency["count"].as_f64() == Some(truth.records())).then_some(last)
    });
    run.finish();
    let of = |name: &str, route: &str| last[&(name.to_owned(), route.to_owned())].clone();
    for (at, (route, _)) in ORDERS.iter().enumerate() {
        let orders = of("shop.orders", route);
        assert_eq!(orders["value"].as_f64(), Some(truth.orders(at)), "{orders}");
        assert_eq!((&orders["monotonic"], &orders["temporality"]), (&true.into(), &"cumulative".into()));
        assert_eq!(
            (&orders["attributes"]["source"], &orders["attributes"]["level"]),
            (&SOURCE.into(), &"info".into())
        );
    }
    let bytes = of("shop.bytes", "");
    assert_eq!((bytes["value"].as_f64(), bytes["unit"].as_str()), (Some(truth.bytes()), Some("B")));
    assert_eq!(of("shop.depth", "")["value"].as_f64(), Some(DEPTH));
    assert_eq!(of("shop.load", "")["value"].as_f64(), Some(LOAD));
    let latency = of("shop.latency", "");
    assert!(same(latency["sum"].as_f64().unwrap(), truth.seconds()), "{latency}");
    for percentile in [50.0, 99.0] {
        let value = exponential_percentile(&latency, percentile);
        assert!(near(value, truth.percentile(percentile), 0.0), "p{percentile} {value}");
    }
}

/// A percentile of an exponential histogram: the middle of the bucket of its rank.
fn exponential_percentile(point: &Value, percentile: f64) -> f64 {
    let base = 2f64.powf(2f64.powi(-point["scale"].as_i64().unwrap() as i32));
    let rank = (percentile / 100.0 * point["count"].as_f64().unwrap()).ceil();
    let mut seen = point["zero"].as_f64().unwrap();
    for (at, count) in point["buckets"].as_array().unwrap().iter().enumerate() {
        seen += count.as_f64().unwrap();
        if seen >= rank {
            let low = base.powf((point["offset"].as_i64().unwrap() + at as i64) as f64);
            return 2.0 * low * base / (1.0 + base);
        }
    }
    f64::NAN
}
