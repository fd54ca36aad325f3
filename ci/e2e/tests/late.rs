//! Late and short-lived: what starts early, ends early or says little is counted all the same.
#![allow(clippy::unwrap_used, reason = "what fails here fails a test")]

use std::time::{Duration, Instant};

use serde_json::Value;
use zibrato_e2e::{
    Backend, Broker, ClientLaw, Ended, Flow, Local, PortPair, Process, ScriptedBroker, Worker, directory,
    now_s, read, until,
};

/// A counter, a gauge and a timer.
const RECORDS: [&str; 6] = ["--counter", "hits=3", "--gauge", "depth=-1.5", "--timer", "lat=1000000"];
/// What they are in the units of the law.
const RECORDED: Flow = Flow { counters: 3, timers: 1, gauges: 1 };

/// How long a program lived before its shutdown, and how long that took, in milliseconds.
fn times(ended: &Ended) -> (u64, u64) {
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let json: Value = serde_json::from_str(ended.stdout.lines().last().unwrap()).unwrap();
    (json["lived_ms"].as_u64().unwrap(), json["shutdown_ms"].as_u64().unwrap())
}

/// Waits until the store holds what `runs` programs recorded, and nothing more.
fn stored(local: &Local, runs: u64) {
    let totals = until("delivery", || {
        let stored = read(&local.db);
        let totals = ["hits", "depth", "lat"].map(|metric| stored.get(metric, "once").cloned());
        let [Some(hits), Some(depth), Some(lat)] = totals else { return None };
        (hits.sum >= 3.0 * runs as f64 && lat.count >= runs as f64).then_some([hits, depth, lat])
    });
    let [hits, depth, lat] = totals;
    assert_eq!(hits.sum, 3.0 * runs as f64);
    assert_eq!((lat.count, lat.sum_ns), (runs as f64, runs * 1_000_000));
    assert!(depth.points.iter().all(|(_, value)| *value == -1.5), "{depth:?}");
    assert_eq!(depth.points.len(), runs as usize);
}

#[test]
fn a_program_that_records_once_and_ends_at_once_delivers() {
    let home = directory();
    let (broker, local) = (Broker::start(), Local::start(home.path()));
    let worker = Worker::start(&broker.workers, "info", &local.url(), &home.path().join("spool"));
    broker.subscribed(1);
    let endpoint = ["--endpoint", &broker.publishers];
    for _ in 0..5 {
        let ended = Process::run("once", &[&endpoint[..], &RECORDS].concat());
        let (lived, _) = times(&ended);
        assert!(lived < 50, "{lived} ms");
        let law = ClientLaw::read(&ended.stderr);
        assert_eq!((law.offered, law.delivered), (RECORDED, RECORDED), "{}", ended.stderr);
    }
    stored(&local, 5);
    broker.finish();
    worker.finish();
    local.finish();
}

#[test]
fn a_program_that_started_before_the_broker_delivers() {
    let (home, ports) = (directory(), PortPair::reserve());
    let endpoint = ["--endpoint", &ports.publishers(), "--until-stdin-closes"];
    let mut program = Process::start("once", &[&endpoint[..], &RECORDS].concat());
    program.printed("recorded");
    let local = Local::start(home.path());
    let worker = Worker::start(&ports.workers(), "info", &local.url(), &home.path().join("spool"));
    let broker = Broker::on(&ports);
    stored(&local, 1);
    program.close_stdin();
    let ended = program.wait();
    times(&ended);
    assert_eq!(ClientLaw::read(&ended.stderr).delivered, RECORDED, "{}", ended.stderr);
    broker.finish();
    worker.finish();
    stored(&local, 1);
    local.finish();
}

#[test]
fn without_any_broker_a_program_ends_in_a_quarter_of_a_second_and_says_what_it_kept() {
    let ports = PortPair::reserve();
    let shortest = (0..3).map(|_| {
        let ended = Process::run("once", &[&["--endpoint", &ports.publishers()][..], &RECORDS].concat());
        let law = ClientLaw::read(&ended.stderr);
        assert_eq!(
            (law.offered, law.held, law.delivered),
            (RECORDED, RECORDED, Flow::default()),
            "{}",
            ended.stderr
        );
        assert!(ended.stderr.contains("the end frame of 1 level was not acknowledged"), "{}", ended.stderr);
        times(&ended).1
    });
    let shortest = shortest.min().unwrap();
    // A busy machine may stretch each of them; the client's own deadline is 2 s.
    assert!((200..1_000).contains(&shortest), "{shortest} ms");
}

#[test]
fn a_program_that_came_and_went_while_the_worker_was_down_is_counted_when_it_comes_back() {
    let home = directory();
    let spool = home.path().join("spool");
    let (broker, local) = (Broker::start(), Local::start(home.path()));
    let start = || Worker::start(&broker.workers, "info", &local.url(), &spool);
    let worker = start();
    broker.subscribed(1);
    let endpoint = ["--endpoint", &broker.publishers];
    let run = || ClientLaw::read(&Process::run("once", &[&endpoint[..], &RECORDS].concat()).stderr).delivered;
    assert_eq!(run(), RECORDED);
    stored(&local, 1);
    worker.finish();
    for _ in 0..3 {
        assert_eq!(run(), RECORDED);
    }
    let worker = start();
    stored(&local, 4);
    // And it is not counted again by one that comes back once more.
    worker.finish();
    let worker = start();
    assert_eq!(run(), RECORDED);
    stored(&local, 5);
    broker.finish();
    worker.finish();
    stored(&local, 5);
    local.finish();
}

#[test]
fn a_program_that_came_and_went_before_the_first_worker_is_counted() {
    let home = directory();
    let (broker, local) = (Broker::start(), Local::start(home.path()));
    let endpoint = ["--endpoint", &broker.publishers];
    let ended = Process::run("once", &[&endpoint[..], &RECORDS].concat());
    assert_eq!(ClientLaw::read(&ended.stderr).delivered, RECORDED, "{}", ended.stderr);
    let worker = Worker::start(&broker.workers, "info", &local.url(), &home.path().join("spool"));
    stored(&local, 1);
    broker.finish();
    worker.finish();
    local.finish();
}

#[test]
fn a_worker_that_hears_one_message_and_nothing_more_flushes() {
    let home = directory();
    // A real broker sends something every second.
    let broker = ScriptedBroker::bind();
    let backend = Backend::start([]);
    let worker = Worker::start(&broker.endpoint, "info", &backend.url, &home.path().join("spool"));
    broker.await_info();
    broker.send(format!("info|Counter|hits|3|{}|old", now_s()).as_bytes());
    until("delivery", || (backend.sum("hits") >= 3.0).then_some(()));
    assert_eq!(worker.metrics().sum("zibrato_worker_messages_total", &[]), 1.0);
    worker.finish();
}

#[test]
fn a_quiet_program_is_posted_once_while_it_lives() {
    let home = directory();
    let (broker, local) = (Broker::start(), Local::start(home.path()));
    let worker = Worker::start(&broker.workers, "info", &local.url(), &home.path().join("spool"));
    broker.subscribed(1);
    let fixed = ["--endpoint", &broker.publishers, "--wait-subscribed-ms", "20000", "--until-stdin-closes"];
    let mut program = Process::start("once", &[&fixed[..], &RECORDS].concat());
    program.printed("recorded");
    let recorded = Instant::now();
    // The program records nothing more, and still lives.
    stored(&local, 1);
    let took = recorded.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?} for a window of 1 s and a flush of 1 s");
    assert!(program.is_running());
    // Nothing changes, so nothing is posted again.
    let flushes = worker.metrics().sum("zibrato_worker_flushes_total", &[]);
    worker.counted("zibrato_worker_flushes_total", &[], flushes + 3.0);
    stored(&local, 1);
    program.close_stdin();
    times(&program.wait());
    broker.finish();
    worker.finish();
    stored(&local, 1);
    local.finish();
}
