//! On-demand metrics record only while a worker subscribes, through a real broker and a real worker.
#![allow(clippy::unwrap_used, reason = "support of tests: what fails here fails a test")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use zibrato_core::frame::{TOPIC_STATE, topic};
use zibrato_e2e::{Broker, DEADLINE, Local, PortPair, Worker, directory, read, until, until_within};
use zibrato_std::{Client, Counter, Level, Timer};

/// How soon a worker's subscription reaches a running program.
const SWITCH_MAX: Duration = Duration::from_secs(1);
const WINDOW: Duration = Duration::from_millis(50);

/// One client a process: the tests take turns.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn a_worker_switches_an_on_demand_level_on_within_a_second_and_its_leaving_off_after_the_hold() {
    const HOLD: Duration = Duration::from_secs(1);
    static PLAIN: Counter = Counter::new("gates.plain", Level::INFO);
    static DETAIL: Counter = Counter::new("gates.detail", Level::DEBUG);
    static TOOK: Timer = Timer::new("gates.took", Level::DEBUG);
    let _alone = alone();
    let directory = directory();
    let (local, broker) = (Local::start(directory.path()), Broker::start());
    let client = client(&broker.publishers, HOLD);

    for _ in 0..1_000 {
        DETAIL.add(1);
        TOOK.measure(|| ());
        PLAIN.add(1);
    }
    client.flush();
    let stats = client.stats().unwrap();
    assert_eq!((stats.offered.counters, stats.offered.timers), (1_000, 0), "only the always level is on");

    let started = Instant::now();
    let worker = Worker::start(&broker.workers, "debug", &local.url(), &directory.path().join("spool"));
    let left = SWITCH_MAX.saturating_sub(started.elapsed());
    assert!(
        client.wait_subscribed(Level::DEBUG, left),
        "debug is off {:?} after the start",
        started.elapsed()
    );
    let mut detail = 0;
    until_within(SWITCH_MAX.saturating_sub(started.elapsed()), "record at the level that came on", || {
        let before = offered(&client);
        DETAIL.add(1);
        let recorded = offered(&client) - before;
        detail += recorded;
        (recorded > 0).then_some(())
    });
    DETAIL.add(41);
    detail += 41;

    until("points of the level that came on", || {
        let stored = read(&local.db);
        (stored.sum("gates.detail", "gates") as u64 == detail).then_some(())
    });
    let leaving = Instant::now();
    let ended = thread::spawn(|| worker.finish());
    until("unsubscription at the client", || {
        (!client.wait_subscribed(Level::DEBUG, Duration::ZERO)).then_some(())
    });
    DETAIL.add(7);
    detail += 7;
    assert_eq!(offered(&client), 1_000 + detail, "the level outlives its worker by the hold");
    until("end of the hold", || {
        let before = offered(&client);
        DETAIL.add(1);
        let recorded = offered(&client) - before;
        detail += recorded;
        (recorded == 0).then_some(())
    });
    assert!(leaving.elapsed() >= HOLD, "off {:?} after the worker left", leaving.elapsed());
    assert_eq!(ended.join().unwrap().held, 0);
    let stats = client.shutdown(DEADLINE).unwrap();
    assert!(stats.law_holds() && stats.unacknowledged == 0, "{stats}");
    assert_eq!(stats.delivered.counters, 1_000 + detail);

    // What was recorded after the worker left comes with the broker's kept frames.
    let worker = Worker::start(&broker.workers, "debug", &local.url(), &directory.path().join("spool"));
    until("what was recorded during the hold", || {
        (read(&local.db).sum("gates.detail", "gates") as u64 == detail).then_some(())
    });
    assert_eq!(worker.finish().held, 0);
    broker.finish();
    assert!(arrived_only(&local, &["gates.detail"]), "info was not asked for");
    local.finish();
}

#[test]
fn a_stranger_that_cancels_what_it_never_had_does_not_switch_a_level_off() {
    // Longer than the 5 s after which a worker repeats its subscriptions.
    const HOLD: Duration = Duration::from_millis(6_500);
    static DETAIL: Counter = Counter::new("gates.stranger", Level::DEBUG);
    let _alone = alone();
    let directory = directory();
    let (local, broker) = (Local::start(directory.path()), Broker::start());
    let client = client(&broker.publishers, HOLD);
    let worker = Worker::start(&broker.workers, "debug", &local.url(), &directory.path().join("spool"));
    assert!(client.wait_subscribed(Level::DEBUG, DEADLINE));

    let _stranger = cancel(&broker.workers, &topic(TOPIC_STATE, "debug").unwrap());
    until("unsubscription at the client", || {
        (!client.wait_subscribed(Level::DEBUG, Duration::ZERO)).then_some(())
    });
    // For longer than the hold every record counts, since the worker's subscription comes again.
    let cancelled = Instant::now();
    let mut added = 0;
    while cancelled.elapsed() < HOLD + Duration::from_secs(1) {
        DETAIL.add(1);
        added += 1;
        assert_eq!(offered(&client), added, "off {:?} after the stranger came", cancelled.elapsed());
        thread::sleep(Duration::from_millis(2));
    }
    assert!(client.wait_subscribed(Level::DEBUG, Duration::ZERO), "the worker repeats its subscription");
    let stats = client.shutdown(DEADLINE).unwrap();
    assert!(stats.law_holds() && stats.unacknowledged == 0, "{stats}");
    until("all records", || (read(&local.db).sum("gates.stranger", "gates") as u64 == added).then_some(()));
    assert_eq!(worker.finish().held, 0);
    broker.finish();
    local.finish();
}

#[test]
fn a_subscription_survives_a_broker_restart() {
    const HOLD: Duration = Duration::from_millis(300);
    static DETAIL: Counter = Counter::new("gates.restart", Level::DEBUG);
    let _alone = alone();
    let (directory, ports) = (directory(), PortPair::reserve());
    let (local, mut broker) = (Local::start(directory.path()), Broker::on(&ports));
    let client = client(&broker.publishers, HOLD);
    let worker = Worker::start(&broker.workers, "debug", &local.url(), &directory.path().join("spool"));
    assert!(client.wait_subscribed(Level::DEBUG, DEADLINE));
    for killed in [false, true] {
        // A broker that stops says goodbye, one that is killed does not.
        if killed {
            broker.process.kill();
        } else {
            broker.finish();
        }
        until("level off without a broker", || {
            let before = offered(&client);
            DETAIL.add(1);
            (offered(&client) == before).then_some(())
        });
        broker = Broker::on(&ports);
        assert!(client.wait_subscribed(Level::DEBUG, DEADLINE), "off after a restart, killed: {killed}");
        until("level on with the broker", || {
            let before = offered(&client);
            DETAIL.add(1);
            (offered(&client) > before).then_some(())
        });
    }
    let stats = client.shutdown(DEADLINE).unwrap();
    assert!(stats.law_holds() && stats.unacknowledged == 0, "{stats}");
    until("all records", || {
        (read(&local.db).sum("gates.restart", "gates") as u64 == stats.accepted.counters).then_some(())
    });
    assert_eq!(worker.finish().held, 0);
    broker.finish();
    local.finish();
}

/// A client that is connected.
fn client(endpoint: &str, hold: Duration) -> Client {
    let builder = Client::builder().endpoint(endpoint).source("gates").window(WINDOW).hold(hold);
    let client = builder.build().unwrap();
    until("connection to the broker", || (client.stats().unwrap().connected == 1).then_some(()));
    client
}

/// The sum of all counters up to now.
fn offered(client: &Client) -> u64 {
    client.stats().unwrap().offered.counters
}

/// Whether the store holds points of these metrics and of no others.
fn arrived_only(local: &Local, metrics: &[&str]) -> bool {
    read(&local.db).0.keys().all(|(metric, _)| metrics.contains(&metric.as_str()))
}

/// Connects as a ZMTP 3.0 subscriber and cancels a subscription that it never made; libzmq's own
/// sockets would not send that.
fn cancel(endpoint: &str, topic: &[u8]) -> TcpStream {
    const GREETING_BYTES: usize = 64;
    const LAST_COMMAND: u8 = 0x04;
    const LAST_MESSAGE: u8 = 0x00;
    let mut stream = TcpStream::connect(endpoint.strip_prefix("tcp://").unwrap()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut greeting = [0; GREETING_BYTES];
    (greeting[0], greeting[9], greeting[10]) = (0xff, 0x7f, 3);
    greeting[12..16].copy_from_slice(b"NULL");
    stream.write_all(&greeting).unwrap();
    stream.read_exact(&mut greeting).unwrap();
    let ready = b"\x05READY\x0bSocket-Type\x00\x00\x00\x03SUB";
    for (flags, body) in [(LAST_COMMAND, &ready[..]), (LAST_MESSAGE, &[&[0], topic].concat())] {
        stream.write_all(&[flags, body.len() as u8]).unwrap();
        stream.write_all(body).unwrap();
    }
    stream
}
