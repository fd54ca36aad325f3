//! A broker may be killed and come back, or be one of two: no count, sum or bucket is lost or doubled.
#![allow(clippy::unwrap_used, reason = "support of tests: what fails here fails a test")]

use std::path::Path;
use std::slice;

use tempfile::TempDir;
use zibrato_e2e::{
    Broker, DEADLINE, Local, PortPair, Recording, Truths, Worker, assert_arrives, directory, until,
};

/// Windows of the recorder: short ones, so that many frames are on their way when a broker dies.
const WINDOW_MS: &str = "25";
/// Frames that the broker forwards before it is killed, each time at another point of a key period;
/// and whether it hangs before that, so that what was sent to it for a second or two dies with it.
const KILLS: [(f64, bool); 4] = [(1.0, false), (17.0, true), (30.0, false), (8.0, true)];
/// A worker flushes every second, so this also tells that time passed for a publisher.
const FLUSHES: &str = "zibrato_worker_flushes_total";
/// A connection is probed every 2 s and given up after 6 s without an answer.
const GIVEN_UP_AFTER_S: f64 = 9.0;

/// A local store, and a directory for it and for spools.
struct Store {
    directory: TempDir,
    local: Local,
}

impl Store {
    fn new() -> Self {
        let directory = directory();
        let local = Local::start(directory.path());
        Self { directory, local }
    }

    /// A worker that knows already that this store takes buckets.
    fn worker(&self, endpoints: &[String]) -> Worker {
        let (url, spool) = (self.local.url(), self.directory.path().join("spool"));
        let mut args = vec!["--levels", "info,audit", "--url", &url, "--spool", spool.to_str().unwrap()];
        endpoints.iter().for_each(|endpoint| args.extend(["--endpoint", endpoint]));
        let mut worker = Worker::with(&args);
        worker.probed();
        worker
    }

    /// Everything arrives, and every account adds up.
    fn settle(self, recorded: &Truths, worker: Worker, brokers: Vec<Broker>) {
        assert_eq!(recorded.len(), 18, "three series of each kind on both levels");
        assert_arrives(&self.local.db, "recorder", recorded, DEADLINE);
        assert_eq!(worker.finish().held, 0);
        assert_all_forwarded(brokers);
        let db = self.local.db.clone();
        let account = self.local.finish();
        assert_eq!((account.accepted, account.duplicate_batches), (account.offered, 0), "{}", account.stderr);
        // The worker's last flush brought nothing more.
        assert_arrived(&db, recorded);
    }
}

#[test]
fn a_broker_that_is_killed_again_and_again_costs_no_count_sum_or_bucket() {
    let (store, ports) = (Store::new(), PortPair::reserve());
    let mut broker = Broker::on(&ports);
    let worker = store.worker(&[ports.workers()]);
    let recording = record(&[&ports.publishers()]);
    for (frames, hangs) in KILLS {
        forwards(&broker, frames);
        if hangs {
            broker.process.signal("STOP");
            let flushes = worker.metrics().sum(FLUSHES, &[]);
            worker.counted(FLUSHES, &[], flushes + 2.0);
        }
        broker.process.kill();
        broker = Broker::on(&ports);
    }
    forwards(&broker, 1.0);
    store.settle(&recording.finish(), worker, vec![broker]);
}

#[test]
fn a_program_that_starts_without_a_broker_loses_nothing_once_one_comes() {
    let (store, ports) = (Store::new(), PortPair::reserve());
    let worker = store.worker(&[ports.workers()]);
    let recording = record(&[&ports.publishers()]);
    let flushes = worker.metrics().sum(FLUSHES, &[]);
    worker.counted(FLUSHES, &[], flushes + 2.0);
    let broker = Broker::on(&ports);
    forwards(&broker, 1.0);
    store.settle(&recording.finish(), worker, vec![broker]);
}

#[test]
fn a_broker_that_hangs_is_given_up_by_its_heartbeats_and_costs_nothing_when_it_goes_on() {
    let store = Store::new();
    let broker = Broker::start();
    let worker = store.worker(slice::from_ref(&broker.workers));
    let recording = record(&[&broker.publishers]);
    forwards(&broker, 10.0);
    broker.process.signal("STOP");
    let flushes = worker.metrics().sum(FLUSHES, &[]);
    worker.counted(FLUSHES, &[], flushes + GIVEN_UP_AFTER_S);
    broker.process.signal("CONT");
    worker.counted("zibrato_worker_connections_total", &[], 2.0);
    forwards_more(&broker, 10.0);
    store.settle(&recording.finish(), worker, vec![broker]);
}

#[test]
fn of_two_brokers_in_parallel_either_may_die_and_nothing_is_counted_twice() {
    let (store, ports) = (Store::new(), [PortPair::reserve(), PortPair::reserve()]);
    let [mut first, second] = [Broker::on(&ports[0]), Broker::on(&ports[1])];
    let worker = store.worker(&[ports[0].workers(), ports[1].workers()]);
    let recording = record(&[&ports[0].publishers(), &ports[1].publishers()]);
    forwards(&first, 30.0);
    forwards(&second, 30.0);
    first.process.kill();
    forwards_more(&second, 30.0);
    first = Broker::on(&ports[0]);
    forwards(&first, 30.0);
    second.process.kill();
    forwards_more(&first, 30.0);
    store.settle(&recording.finish(), worker, vec![first]);
}

fn record(endpoints: &[&str]) -> Recording {
    let mut args = vec!["--window-ms", WINDOW_MS, "--levels", "info,audit"];
    endpoints.iter().for_each(|endpoint| args.extend(["--endpoint", endpoint]));
    Recording::start(&args)
}

fn forwarded(broker: &Broker) -> f64 {
    let metrics = broker.metrics();
    let of = |level| metrics.sum("zibrato_broker_forwarded_total", &[("level", level)]);
    f64::min(of("info"), of("audit"))
}

/// Waits until the broker has forwarded so many frames of each level.
fn forwards(broker: &Broker, frames: f64) {
    until(format!("{frames} frames through {}", broker.publishers), || {
        (forwarded(broker) >= frames).then_some(())
    });
}

fn forwards_more(broker: &Broker, frames: f64) {
    forwards(broker, forwarded(broker) + frames);
}

fn assert_all_forwarded(brokers: Vec<Broker>) {
    for broker in brokers {
        let sum = broker.finish();
        assert!(sum.forwarded > 0 && sum.refused == 0, "{sum:?}");
    }
}

fn assert_arrived(db: &Path, recorded: &Truths) {
    assert_eq!(zibrato_e2e::arrived(db, "recorder"), *recorded);
}
