//! What broker and worker say of themselves at `/status` is what happens.
#![allow(clippy::unwrap_used, reason = "support of tests: what fails here fails a test")]

use serde_json::Value;
use zibrato_e2e::{Broker, Harm, Local, PortPair, Process, Proxy, Worker, directory, get, until};
use zibrato_service::{Account, BrokerReport, PublisherReport, Report, WorkerReport};

/// Clocks of one machine agree but for what a frame takes to arrive on a busy one.
const SKEW_MS_MAX: i64 = 5_000;

fn report(addr: &str) -> Report {
    let (status, body) = get(addr, "/status");
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// The broker's report; whatever it says has to add up.
fn of_broker(broker: &Broker) -> BrokerReport {
    let Report::Broker(report) = report(&broker.http) else { panic!("not a broker") };
    assert_add_up(&report.accounts);
    report
}

/// The worker's, likewise.
fn of_worker(worker: &Worker) -> WorkerReport {
    let Report::Worker(report) = report(&worker.http) else { panic!("not a worker") };
    assert_add_up(&report.accounts);
    report
}

fn assert_add_up(accounts: &[Account]) {
    assert!(!accounts.is_empty());
    accounts.iter().for_each(|account| assert!(account.adds_up(), "{account:?}"));
}

fn account<'a>(report: &'a WorkerReport, stage: &str, unit: &str) -> &'a Account {
    report.accounts.iter().find(|account| account.stage == stage && account.unit == unit).unwrap()
}

/// The report once `is_so`.
fn worker_until(worker: &Worker, what: &str, is_so: impl Fn(&WorkerReport) -> bool) -> WorkerReport {
    until(what, || Some(of_worker(worker)).filter(&is_so))
}

fn recorder(endpoint: &str, levels: &str) -> Process {
    Process::start("recorder", &["--endpoint", endpoint, "--levels", levels, "--window-ms", "25"])
}

fn the_one(report: &WorkerReport) -> Option<&PublisherReport> {
    assert!(report.publishers.len() <= 1, "{report:?}");
    report.publishers.first()
}

#[test]
fn reports_name_publishers_levels_and_connections_and_account_for_every_measurement() {
    let directory = directory();
    let (local, broker) = (Local::with(directory.path(), &["--listen", "127.0.0.1:0"]), Broker::start());
    let worker = Worker::start(&broker.workers, "info,audit", &local.url(), &directory.path().join("spool"));
    broker.subscribed(2);
    let mut recorder = recorder(&broker.publishers, "info,audit");

    let seen = worker_until(&worker, "a publisher on two levels that was flushed", |report| {
        let is_told = the_one(report).is_some_and(|one| !one.program.is_empty() && one.levels.len() == 2);
        is_told && report.delivered_ms.is_some()
    });
    let one = the_one(&seen).unwrap();
    assert_eq!((one.program.as_str(), one.pid), ("recorder", recorder.pid()));
    assert!(!one.host.is_empty() && one.version == env!("CARGO_PKG_VERSION"), "{one:?}");
    let mut levels = one.levels.clone();
    levels.sort();
    assert_eq!(levels, ["audit", "info"]);
    assert!(!one.ended && !one.vanished && one.series > 0 && one.age_ms > 0, "{one:?}");
    assert!(one.clock_skew_ms.is_some_and(|skew| skew.abs() < SKEW_MS_MAX), "{one:?}");
    assert_eq!(seen.process.pid, worker.process.pid());
    assert_eq!((seen.backend.as_str(), seen.target.as_str()), ("librato", local.url().as_str()));
    assert_eq!((&seen.levels[..], seen.flush_s), (&["info".to_owned(), "audit".to_owned()][..], 1.0));
    let [connection] = &seen.brokers[..] else { panic!("{seen:?}") };
    assert_eq!((&connection.endpoint, connection.connected), (&broker.workers, true));
    assert_eq!((seen.backend_error.as_deref(), seen.process.degraded.as_deref()), (None, None));

    let kept = until("the publisher in the broker's report", || {
        Some(of_broker(&broker)).filter(|report| report.publishers.iter().any(|kept| kept.id == one.id))
    });
    assert_eq!(kept.subscribed_levels, ["audit", "info"]);
    assert_eq!((&kept.publishers_endpoint, &kept.workers_endpoint), (&broker.publishers, &broker.workers));
    assert!(kept.kept_bytes > 0 && kept.kept_bytes <= kept.kept_bytes_max, "{kept:?}");

    recorder.close_stdin();
    let ended = recorder.wait();
    let said: Value = serde_json::from_str(&ended.stdout).unwrap();
    let told = worker_until(&worker, "the end of the publisher, delivered", |report| {
        let spooled = account(report, "spool", "timer records");
        the_one(report).is_some_and(|one| one.ended)
            && spooled.delivered == said["accepted"]["timers"].as_f64().unwrap()
            && account(report, "ledger", "counter units").held == 0.0
    });
    for (unit, key) in [("counter units", "counters"), ("timer records", "timers"), ("gauge sets", "gauges")]
    {
        let ledger = account(&told, "ledger", unit);
        assert_eq!(ledger.offered, said["accepted"][key].as_f64().unwrap(), "{unit}: {said}");
        assert_eq!(ledger.delivered, account(&told, "spool", unit).offered, "{unit}");
    }
    // The broker renews its view once a second.
    until("the end of the publisher in the broker's report", || {
        let is_it = |kept: &zibrato_service::KeptPublisher| kept.id == one.id && kept.ended;
        of_broker(&broker).publishers.iter().any(is_it).then_some(())
    });
    assert_eq!((told.spool.batches, &told.lost.len()), (0, &0), "{:?}", told.lost);
    worker.finish();
}

#[test]
fn while_the_store_is_down_the_spool_grows_and_the_worker_says_why() {
    let (directory, ports) = (directory(), PortPair::reserve());
    let listen = format!("127.0.0.1:{}", ports.port);
    let (local, broker) = (Local::with(directory.path(), &["--listen", &listen]), Broker::start());
    let worker = Worker::start(&broker.workers, "info", &local.url(), &directory.path().join("spool"));
    broker.subscribed(1);
    let recorder = recorder(&broker.publishers, "info");
    worker_until(&worker, "a delivery", |report| report.delivered_ms.is_some());
    local.finish();
    let down = worker_until(&worker, "three batches held", |report| report.spool.batches >= 3);
    let error = down.backend_error.as_deref().unwrap();
    assert!(!error.is_empty() && !error.contains('\n'), "{error}");
    assert!(down.spool.bytes > 0 && down.spool.bytes < down.spool.bytes_max, "{:?}", down.spool);
    assert!(down.spool.oldest_ms.is_some_and(|oldest_ms| oldest_ms >= 1_000), "{:?}", down.spool);
    assert!(account(&down, "spool", "points").held > 0.0);
    let _local = Local::with(directory.path(), &["--listen", &listen]);
    let up = worker_until(&worker, "an empty spool", |report| {
        report.spool.batches == 0 && report.backend_error.is_none()
    });
    assert_eq!((up.spool.bytes, up.spool.oldest_ms), (0, None));
    drop(recorder);
}

#[test]
fn a_killed_broker_is_not_connected_and_its_absence_makes_the_worker_unwell() {
    let (directory, ports) = (directory(), PortPair::reserve());
    let (local, broker) = (Local::start(directory.path()), Broker::on(&ports));
    let worker = Worker::start(&broker.workers, "info", &local.url(), &directory.path().join("spool"));
    let connected = |is_up: bool| {
        worker_until(&worker, "the connection to change", |report| {
            report.brokers.iter().all(|broker| broker.connected == is_up)
                && report.brokers.len() == 1
                && report.process.degraded.is_none()
        })
    };
    connected(true);
    broker.process.kill();
    connected(false);
    let degraded = worker_until(&worker, "a word of care", |report| report.process.degraded.is_some());
    let reason = degraded.process.degraded.unwrap();
    assert!(reason.starts_with("no broker has been connected for "), "{reason}");
    assert_eq!(get(&worker.http, "/healthz").0, 503);
    let _broker = Broker::on(&ports);
    connected(true);
    assert_eq!(get(&worker.http, "/healthz"), (200, "ok\n".to_owned()));
}

#[test]
fn frames_that_are_lost_on_the_way_are_gaps_of_their_publisher_until_a_key_frame_heals_them() {
    let directory = directory();
    let (local, broker) = (Local::start(directory.path()), Broker::start());
    let proxy = Proxy::to_workers(&broker.workers, Harm { drop: 30, ..Harm::NONE }, 7);
    let worker = Worker::start(proxy.endpoint(), "info", &local.url(), &directory.path().join("spool"));
    broker.subscribed(1);
    let _recorder = recorder(&broker.publishers, "info");
    let gaps = |is_open: bool| {
        let is_so = |report: &WorkerReport| the_one(report).is_some_and(|one| (one.gaps > 0) == is_open);
        worker_until(&worker, "a change of gaps", is_so)
    };
    gaps(true);
    let healed = gaps(false);
    assert_eq!(healed.lost.get("gaps_lost"), None, "nothing is lost for good: {:?}", healed.lost);
    assert!(worker.metrics().sum("zibrato_worker_gaps_healed_total", &[]) > 0.0);
}

#[test]
fn a_killed_publisher_that_stays_silent_is_told_as_vanished() {
    let directory = directory();
    let (local, broker) = (Local::start(directory.path()), Broker::start());
    let worker = Worker::start(&broker.workers, "info", &local.url(), &directory.path().join("spool"));
    broker.subscribed(1);
    let recorder = recorder(&broker.publishers, "info");
    worker_until(&worker, "a publisher", |report| the_one(report).is_some());
    recorder.kill();
    let gone = worker_until(&worker, "a publisher that vanished", |report| {
        report.vanished == 1 && the_one(report).is_some_and(|one| one.vanished)
    });
    let one = the_one(&gone).unwrap();
    assert!(!one.ended && one.silent_ms >= 5_000, "{one:?}");
    assert_eq!(worker.metrics().sum("zibrato_worker_vanished_total", &[]), 1.0);
    assert!(of_broker(&broker).publishers.iter().any(|kept| kept.id == one.id && !kept.ended));
}
