//! Backend faults: whatever the receiver does, each batch is stored once, nothing is lost, and neither time
//! nor memory gets out of hand.
#![allow(clippy::unwrap_used, reason = "what fails here fails a test")]

use std::collections::HashSet;
use std::iter::repeat_n;
use std::path::Path;

use serde_json::Value;
use zibrato_e2e::{
    Backend, Broker, ClientLaw, Local, PortPair, Process, Request, Responses, Step, TcpProxy, Worker,
    batches, directory, field, now_s, read, until,
};

/// Seconds between two flushes where their times are looked at.
const FLUSH_S: u64 = 2;
/// Batches that wait for the backend there, at least.
const HELD_MIN: usize = 3;
/// What a worker may grow by during an outage of some seconds.
const GROWTH_BYTES_MAX: u64 = 24 * 1024 * 1024;

fn answer(status: u16, header: &[&str]) -> Step {
    Step::Answer(status, header.iter().map(|line| (*line).to_owned()).collect())
}

/// Unavailable, but not for long: the wait of the worker is then known.
fn unavailable(times: usize) -> impl Iterator<Item = Step> {
    repeat_n(answer(503, &["Retry-After: 1"]), times)
}

/// A program that records a counter of 3 and a timer of 1 ms once.
fn once(broker: &Broker) {
    let fixed = ["--endpoint", &broker.publishers, "--counter", "hits=3", "--timer", "lat=1000000"];
    let program = Process::run("once", &fixed);
    assert_eq!(ClientLaw::read(&program.stderr).delivered.counters, 3, "{}", program.stderr);
}

/// The flush times that a batch's counters and timers carry.
fn flush_times(request: &Request) -> HashSet<u64> {
    request.gauges().iter().map(|gauge| gauge["measure_time"].as_u64().unwrap()).collect()
}

/// Checks that every batch was stored once, and that each attempt for it carried the same bytes.
fn each_once(requests: &[Request]) {
    let ids: HashSet<&str> = requests.iter().map(|request| request.batch.as_str()).collect();
    for id in ids {
        let attempts: Vec<&Request> = requests.iter().filter(|request| request.batch == id).collect();
        assert!(attempts.iter().all(|attempt| attempt.body == attempts[0].body), "batch {id} changed");
        assert_eq!(attempts.iter().filter(|attempt| attempt.is_stored()).count(), 1, "batch {id}");
    }
}

#[test]
fn after_500_and_429_and_a_closed_connection_one_copy_is_stored_and_flushes_keep_their_times() {
    let home = directory();
    let script = [answer(500, &[]), answer(429, &["Retry-After: 1"]), Step::Close];
    let backend = Backend::start(script.into_iter().chain(unavailable(1_000)));
    let broker = Broker::start();
    let (flush, spool) = (FLUSH_S.to_string(), home.path().join("spool"));
    let worker = Worker::with(&[
        "--endpoint",
        &broker.workers,
        "--levels",
        "info,debug",
        "--flush",
        &flush, //
        "--url",
        &backend.url,
        "--spool",
        spool.to_str().unwrap(),
    ]);
    let program = Process::run(
        "latency-loop",
        &["--endpoint", &broker.publishers, "--wait-subscribed-ms", "20000", "--seconds", "7"],
    );
    assert_eq!(program.code, Some(0), "{}", program.stderr);
    let truth: Value = serde_json::from_str(&program.stdout).unwrap();
    let held = || worker.metrics().sum("zibrato_worker_spool_batches", &[]);
    // A slow disk makes few flushes of the seconds that it ran.
    until("the program's batch", || (held() >= 1.0).then_some(()));
    while held() < HELD_MIN as f64 {
        let before = held();
        once(&broker);
        until("one more batch", || (held() > before).then_some(()));
    }
    broker.finish();
    let recovered_s = now_s();
    backend.follow([]);
    // Everything but the last flush is there; the rest comes with the end.
    until("recovery", || (held() == 0.0).then_some(()));
    let page = worker.metrics();
    let delivery = worker.finish();
    let requests = backend.requests();

    let first = &requests[0].batch;
    let failed = requests.iter().take_while(|request| !request.is_stored()).count();
    assert!(failed >= 3 && requests[..=failed].iter().all(|request| request.batch == *first), "{requests:?}");
    assert_eq!(requests[2].step, Step::Close);
    assert!(requests[2].at_ms - requests[1].at_ms >= 1_000, "Retry-After was not honoured");
    each_once(&requests);
    assert_eq!(page.sum("zibrato_worker_retries_total", &[]), failed as f64);
    // Only of the closed connection is unknown what became of the request.
    let retries = failed.to_string();
    assert_eq!((field(&delivery.line, "retries"), field(&delivery.line, "ambiguous")), (&retries[..], "1"));
    assert_eq!(delivery.held, 0);

    let stored = backend.stored();
    let counted =
        truth["metrics"].as_array().unwrap().iter().find(|metric| metric["name"] == "loop.iterations");
    assert_eq!(backend.sum("loop.iterations"), counted.unwrap()["sum"].as_f64().unwrap());
    let mut times: Vec<u64> = Vec::new();
    for request in &stored {
        let is_counter =
            |gauge: &Value| ["loop.iterations", "hits"].map(Value::from).contains(&gauge["name"]);
        let counters = request.gauges().into_iter().filter(is_counter);
        let of_batch: HashSet<u64> = counters.map(|gauge| gauge["measure_time"].as_u64().unwrap()).collect();
        times.extend(of_batch);
    }
    // What waited has the time at which it was flushed, not that at which it was sent.
    assert!(times[HELD_MIN - 1] <= recovered_s, "{times:?}, and the backend was back at {recovered_s}");
    assert!(times.is_sorted_by(|earlier, later| earlier < later), "{times:?}");
    // A busy disk makes a flush late, but no interval has two. The last one is that of the end. On which second one falls
    // is for the unit tests of the clock.
    let intervals: HashSet<u64> = times[..HELD_MIN].iter().map(|time| time / FLUSH_S).collect();
    assert_eq!(intervals.len(), HELD_MIN, "{times:?}");
}

#[test]
fn during_an_outage_spool_and_memory_stay_flat_and_everything_arrives_after_it() {
    let home = directory();
    let backend = Backend::start(unavailable(1_000));
    let broker = Broker::start();
    let worker = Worker::start(&broker.workers, "info,debug", &backend.url, &home.path().join("spool"));
    broker.subscribed(2);
    let mut program = Process::start(
        "latency-loop",
        &["--endpoint", &broker.publishers, "--wait-subscribed-ms", "20000", "--seconds", "5"],
    );
    let held = || worker.metrics().sum("zibrato_worker_spool_batches", &[]);
    until("first batch", || (held() >= 1.0).then_some(()));
    let (before, mut most) = (worker.process.resident_bytes(), 0);
    until("end of the program", || {
        most = most.max(worker.process.resident_bytes());
        (!program.is_running()).then_some(())
    });
    let program = program.wait();
    // A slow disk makes few flushes of five seconds, but this is one more.
    let before_last = held();
    once(&broker);
    until("one more batch", || (held() > before_last).then_some(()));
    broker.finish();
    let page = worker.metrics();
    let (batches, flushes) =
        (page.sum("zibrato_worker_spool_batches", &[]), page.sum("zibrato_worker_flushes_total", &[]));
    assert!(batches >= 2.0 && batches <= flushes, "{batches} batches of {flushes} flushes");
    // A series takes its hundred bytes a flush, however often it was recorded.
    let bytes = page.sum("zibrato_worker_spool_bytes", &[]) / batches;
    assert!(bytes < 16_384.0, "{bytes} bytes a batch");
    assert!(most < before + GROWTH_BYTES_MAX, "{before} bytes became {most}");
    assert!(backend.stored().is_empty());

    backend.follow([]);
    until("recovery", || (held() == 0.0).then_some(()));
    let delivery = worker.finish();
    assert_eq!((delivery.held, field(&delivery.line, "ambiguous")), (0, "0"));
    each_once(&backend.requests().into_iter().filter(Request::is_stored).collect::<Vec<_>>());
    let truth: Value = serde_json::from_str(&program.stdout).unwrap();
    // One is that of the last program.
    let mut records = 1;
    for timer in truth["metrics"].as_array().unwrap().iter().filter(|metric| metric["kind"] == "timer") {
        let stored = backend.stored();
        let gauges = stored.iter().flat_map(Request::gauges).filter(|gauge| gauge["name"] == timer["name"]);
        let count: u64 = gauges.map(|gauge| gauge["count"].as_u64().unwrap()).sum();
        assert_eq!(count, timer["count"].as_u64().unwrap(), "{timer}");
        records += count;
    }
    assert_eq!(delivery.timer_records, records);
}

#[test]
fn a_restarted_worker_sends_what_the_spool_holds_although_nobody_publishes_any_more() {
    let home = directory();
    let spool = home.path().join("spool");
    let backend = Backend::start(unavailable(1_000));
    let broker = Broker::start();
    let worker = Worker::start(&broker.workers, "info", &backend.url, &spool);
    broker.subscribed(1);
    once(&broker);
    worker.counted("zibrato_worker_spool_batches", &[], 1.0);
    let endpoint = broker.workers.clone();
    broker.finish();
    let delivery = worker.finish();
    assert_eq!((delivery.held, delivery.points), (1, 0), "{}", delivery.line);
    let refused = backend.requests();

    backend.follow([]);
    let worker = Worker::start(&endpoint, "info", &backend.url, &spool);
    until("delivery", || (!backend.stored().is_empty()).then_some(()));
    let delivery = worker.finish();
    assert_eq!((delivery.held, delivery.points, delivery.timer_records), (0, 2, 1), "{}", delivery.line);
    let stored = backend.stored();
    assert_eq!((stored.len(), &stored[0].batch), (1, &refused[0].batch));
    assert_eq!(stored[0].body, refused[0].body);
    assert_eq!((backend.sum("hits"), backend.sum("lat")), (3.0, 0.001));
    assert_eq!(flush_times(&stored[0]).len(), 1);
}

#[test]
fn a_worker_killed_between_the_post_and_its_answer_sends_the_same_bytes_under_the_same_id() {
    let home = directory();
    let spool = home.path().join("spool");
    let backend = Backend::start([Step::Silence]);
    let broker = Broker::start();
    let worker = Worker::start(&broker.workers, "info", &backend.url, &spool);
    broker.subscribed(1);
    once(&broker);
    backend.asked(1);
    worker.process.kill();
    let worker = Worker::start(&broker.workers, "info", &backend.url, &spool);
    until("delivery", || (!backend.stored().is_empty()).then_some(()));
    // A program after that is in batches of its own.
    once(&broker);
    until("second delivery", || (backend.stored().len() >= 2).then_some(()));
    broker.finish();
    worker.finish();
    let requests = backend.requests();
    assert_eq!((&requests[0].batch, &requests[0].body), (&requests[1].batch, &requests[1].body));
    assert_eq!((backend.sum("hits"), backend.stored().len()), (6.0, 2));
    assert_ne!(requests[1].batch, requests[2].batch);
}

/// A real store behind a proxy that can lose its answers, and a worker that is killed when one is lost.
fn lose_the_answer(home: &Path, broker: &Broker, kill: bool) -> (Local, Worker) {
    let spool = home.join("spool");
    let local = Local::start(home);
    let proxy = TcpProxy::start(&local.addr);
    let mut worker = Worker::start(&broker.workers, "info", &proxy.url(), &spool);
    worker.probed();
    broker.subscribed(1);
    // Killed it is while it waits for the answer; else the connection closes without one.
    proxy.set(if kill { Responses::Swallow } else { Responses::Lose });
    once(broker);
    // The store has answered, so it has stored.
    proxy.swallowed(1);
    assert_eq!(read(&local.db).sum("hits", "once"), 3.0);
    if kill {
        worker.process.kill();
        proxy.set(Responses::Pass);
        worker = Worker::start(&broker.workers, "info", &proxy.url(), &spool);
    } else {
        proxy.set(Responses::Pass);
    }
    worker.counted("zibrato_worker_batches_delivered_total", &[], 1.0);
    (local, worker)
}

fn stored_once(home: &Path, local: Local) {
    let stored = read(&local.db);
    let (hits, lat) = (&stored[("hits", "once")], &stored[("lat", "once")]);
    assert_eq!((hits.sum, hits.points.len()), (3.0, 1), "{}", home.display());
    assert_eq!((lat.count, lat.sum_ns), (1.0, 1_000_000));
    assert_eq!(batches(&local.db), 1);
    let account = local.finish();
    // The batch came twice and its points were offered twice.
    assert_eq!(
        (account.duplicate_batches, account.offered, account.accepted),
        (1, 4, 2),
        "{}",
        account.stderr
    );
}

#[test]
fn a_worker_killed_before_it_could_delete_what_was_stored_does_not_double_it() {
    let home = directory();
    let broker = Broker::start();
    let (local, worker) = lose_the_answer(home.path(), &broker, true);
    broker.finish();
    worker.finish();
    stored_once(home.path(), local);
}

#[test]
fn a_lost_answer_is_counted_ambiguous_and_what_was_stored_is_not_doubled() {
    let home = directory();
    let broker = Broker::start();
    let (local, worker) = lose_the_answer(home.path(), &broker, false);
    broker.finish();
    let delivery = worker.finish();
    assert_eq!((field(&delivery.line, "ambiguous"), delivery.points), ("1", 2), "{}", delivery.line);
    stored_once(home.path(), local);
}

#[test]
fn a_backend_that_comes_later_gets_everything() {
    let (home, ports) = (directory(), PortPair::reserve());
    let addr = format!("127.0.0.1:{}", ports.port);
    let broker = Broker::start();
    let url = format!("http://{addr}/v1/metrics");
    let mut worker = Worker::start(&broker.workers, "info", &url, &home.path().join("spool"));
    worker.process.line("the backend does not answer; batches are kept until it does");
    broker.subscribed(1);
    once(&broker);
    worker.counted("zibrato_worker_spool_batches", &[], 1.0);
    let local = Local::with(home.path(), &["--listen", &addr]);
    worker.counted("zibrato_worker_batches_delivered_total", &[], 1.0);
    broker.finish();
    let delivery = worker.finish();
    // A refused connection leaves nothing in doubt.
    assert_eq!(field(&delivery.line, "ambiguous"), "0", "{}", delivery.line);
    assert_eq!(read(&local.db).sum("hits", "once"), 3.0);
    assert_eq!(local.finish().duplicate_batches, 0);
}
