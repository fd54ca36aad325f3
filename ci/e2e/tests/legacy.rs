//! Old with new: the original's text goes in and comes out with its meaning, and neither side is
//! disturbed by the other's messages.
#![allow(clippy::unwrap_used, reason = "what fails here fails a test")]

use std::time::Duration;

use zibrato_core::frame::TOPIC_STATE;
use zibrato_e2e::{
    Broker, ClientLaw, Delivery, Local, Process, Publisher, Stored, Worker, directory, now_s, read, until,
};

/// Messages of the burst.
const BURST: u64 = 20_000;

/// A broker, a worker for some levels and a store.
struct Stack {
    home: tempfile::TempDir,
    broker: Broker,
    worker: Worker,
    local: Local,
}

impl Stack {
    fn start(levels: &str) -> Self {
        let home = directory();
        let (broker, local) = (Broker::start(), Local::start(home.path()));
        let worker = Worker::start(&broker.workers, levels, &local.url(), &home.path().join("spool"));
        broker.subscribed(levels.split(',').count());
        Self { home, broker, worker, local }
    }

    /// Stops all of it in the order of the flow, and reads what was stored without the probes.
    fn finish(self) -> (Stored, Delivery) {
        self.broker.finish();
        let delivery = self.worker.finish();
        let mut stored = read(&self.local.db);
        self.local.finish();
        drop(self.home);
        stored.0.retain(|(metric, _), _| metric != "probe");
        (stored, delivery)
    }
}

/// A worker of the original: a plain SUB with a bare level.
fn original_worker(broker: &Broker, level: &str) -> zmq::Socket {
    let socket = zmq::Context::new().socket(zmq::SUB).unwrap();
    socket.set_rcvhwm(0).unwrap();
    socket.set_subscribe(level.as_bytes()).unwrap();
    let before = broker.metrics().sum("zibrato_broker_topics", &[]);
    socket.connect(&broker.workers).unwrap();
    until("the original's subscription", || {
        (broker.metrics().sum("zibrato_broker_topics", &[]) > before).then_some(())
    });
    socket
}

/// The next message, without the probes.
fn next(socket: &zmq::Socket) -> Vec<u8> {
    until("message", || {
        let message = socket.recv_bytes(zmq::DONTWAIT).ok()?;
        (!message.windows(7).any(|bytes| bytes == b"|probe|")).then_some(message)
    })
}

/// The three messages of the original's description with these time stamps.
fn examples(stamps: [u64; 3]) -> [String; 3] {
    let [gauge, counter, timer] = stamps;
    [
        format!("testing|Gauge|test_gauge|999|{gauge}|not_specified"),
        format!("info|Counter|countertest|5|{counter}|deathstar"),
        format!("debug|Timer|myfunct_timer|0.100174|{timer}|myprog"),
    ]
}

#[test]
fn the_originals_three_messages_arrive_with_their_meaning() {
    let stack = Stack::start("testing,info,debug");
    let publisher = Publisher::connect(&stack.broker.publishers);
    publisher.probe(&stack.broker, &["testing", "info", "debug"]);
    let now = now_s();
    for message in examples([now - 7, now, now]) {
        publisher.send(&message);
    }
    // Twice is twice: text carries events.
    publisher.send(&examples([0, now, 0])[1]);
    until("delivery", || (read(&stack.local.db).sum("countertest", "deathstar") >= 10.0).then_some(()));
    let (stored, _) = stack.finish();
    assert_eq!(stored[("test_gauge", "not_specified")].points, [(now as i64 - 7, 999.0)]);
    assert_eq!(stored.sum("countertest", "deathstar"), 10.0);
    let timer = &stored[("myfunct_timer", "myprog")];
    assert_eq!((timer.count, timer.sum_ns), (1.0, 100_174_000));
    assert_eq!((timer.min, timer.max), (0.100174, 0.100174));
    assert_eq!(stored.0.len(), 3, "{:?}", stored.0.keys());
}

#[test]
fn messages_with_an_old_stamp_are_counted_too_old_and_not_stored() {
    let stack = Stack::start("testing,info,debug");
    let publisher = Publisher::connect(&stack.broker.publishers);
    publisher.probe(&stack.broker, &["testing", "info", "debug"]);
    for message in examples([1_700_000_000, 1_700_000_001, 1_700_000_002]) {
        publisher.send(&message);
    }
    let too_old = [("reason", "too_old")];
    stack.worker.counted("zibrato_worker_ledger_dropped_total", &too_old, 3.0);
    let page = stack.worker.metrics();
    for kind in ["gauge", "legacy_counter", "timer"] {
        let labels = [("reason", "too_old"), ("kind", kind)];
        assert_eq!(page.sum("zibrato_worker_ledger_dropped_total", &labels), 1.0, "{kind}: {}", page.page);
    }
    let (stored, _) = stack.finish();
    assert_eq!(stored.points(), 0, "{:?}", stored.0.keys());
}

#[test]
fn twenty_thousand_messages_at_full_speed_are_stored_to_the_unit() {
    let stack = Stack::start("info");
    let publisher = Publisher::connect(&stack.broker.publishers);
    publisher.probe(&stack.broker, &["info"]);
    let probes = stack.broker.metrics().sum("zibrato_broker_forwarded_total", &[]);
    let (mut counted, mut nanoseconds) = ([0_u64; 2], 0);
    let now = now_s();
    for number in 0..BURST {
        match number % 4 {
            kind @ (0 | 1) => {
                counted[kind as usize] += number % 11;
                publisher.send(&format!("info|Counter|hits|{}|{now}|web{kind}", number % 11));
            }
            2 => {
                let us = number % 997 + 1;
                nanoseconds += us * 1_000;
                publisher.send(&format!("info|Timer|lat|0.{us:06}|{now}|web"));
            }
            _ => publisher.send(&format!("info|Gauge|depth|{number}|{now}|web")),
        }
    }
    stack.worker.counted("zibrato_worker_legacy_messages_total", &[], BURST as f64 + probes);
    let page = stack.worker.metrics();
    assert_eq!(page.sum("zibrato_worker_legacy_lost_total", &[]), 0.0);
    assert_eq!(page.sum("zibrato_worker_messages_refused_total", &[]), 0.0, "{}", page.page);
    let (stored, _) = stack.finish();
    assert_eq!(stored.sum("hits", "web0"), counted[0] as f64);
    assert_eq!(stored.sum("hits", "web1"), counted[1] as f64);
    assert_eq!(
        (stored[("lat", "web")].count, stored[("lat", "web")].sum_ns),
        (BURST as f64 / 4.0, nanoseconds)
    );
    // Gauges go one by one, as the original's did, in their order.
    let depth: Vec<f64> = stored[("depth", "web")].points.iter().map(|(_, value)| *value).collect();
    let expected: Vec<f64> =
        (0..BURST).filter(|number| number % 4 == 3).map(|number| number as f64).collect();
    assert_eq!(depth, expected);
}

#[test]
fn a_client_set_to_legacy_is_read_by_the_originals_worker() {
    let broker = Broker::start();
    let original = original_worker(&broker, "info");
    let records = ["--counter", "hits=5", "--gauge", "depth=-1.5", "--timer", "lat=100174000"];
    let fixed = [
        "--endpoint",
        &broker.publishers,
        "--wire",
        "legacy",
        "--source",
        "new",
        "--wait-subscribed-ms",
        "20000",
    ];
    let before = now_s();
    let program = Process::run("once", &[&fixed[..], &records].concat());
    assert_eq!(program.code, Some(0), "{}", program.stderr);
    let after = now_s();
    let mut messages: Vec<String> = (0..3).map(|_| String::from_utf8(next(&original)).unwrap()).collect();
    messages.sort();
    for (message, expected) in
        messages.iter().zip(["info|Counter|hits|5|", "info|Gauge|depth|-1.5|", "info|Timer|lat|0.100174|"])
    {
        let rest = message.strip_prefix(expected).unwrap_or_else(|| panic!("{message} is not {expected}..."));
        let (stamp, source) = rest.split_once('|').unwrap();
        assert!((before..=after).contains(&stamp.parse().unwrap()), "{message}");
        assert_eq!(source, "new", "{message}");
    }
    let law = ClientLaw::read(&program.stderr);
    assert_eq!((law.delivered, law.delivered.counters), (law.offered, 5));
    let sum = broker.finish();
    assert_eq!((sum.received, sum.forwarded), (3, 3));
}

#[test]
fn the_originals_worker_never_sees_a_native_frame() {
    let stack = Stack::start("info");
    let original = original_worker(&stack.broker, "info");
    let args =
        ["--endpoint", &stack.broker.publishers, "--wait-subscribed-ms", "20000", "--counter", "hits=7"];
    let program = Process::run("once", &args);
    assert_eq!(ClientLaw::read(&program.stderr).delivered.counters, 7, "{}", program.stderr);
    // The broker has forwarded the frames to the worker, so whatever follows comes after them.
    until("forwarded frame", || {
        let forwarded = stack.broker.metrics().sum("zibrato_broker_forwarded_total", &[("level", "info")]);
        (forwarded >= 1.0).then_some(())
    });
    let publisher = Publisher::connect(&stack.broker.publishers);
    publisher.probe(&stack.broker, &["info"]);
    publisher.send(&format!("info|Counter|last|1|{}|old", now_s()));
    let first = next(&original);
    assert!(first.starts_with(b"info|Counter|last|1|"), "{:?}", String::from_utf8_lossy(&first));
    assert!(original.recv_bytes(zmq::DONTWAIT).is_err());
    stack.worker.counted("zibrato_worker_legacy_messages_total", &[], 2.0);
    let (stored, _) = stack.finish();
    assert_eq!((stored.sum("hits", "once"), stored.sum("last", "old")), (7.0, 1.0));
}

#[test]
fn information_never_reaches_a_worker_for_info() {
    let stack = Stack::start("info");
    // The original's worker for info asks for both, so that the broker has somebody to forward to.
    let original = original_worker(&stack.broker, "info");
    let native = original_worker(&stack.broker, std::str::from_utf8(&[TOPIC_STATE]).unwrap());
    let publisher = Publisher::connect(&stack.broker.publishers);
    publisher.probe(&stack.broker, &["info", "information"]);
    let now = now_s();
    publisher.send(&format!("information|Counter|other|1|{now}|old"));
    let args = ["--endpoint", &stack.broker.publishers, "--level", "information", "--counter", "other=1"];
    let program = Process::run("once", &args);
    assert_eq!(ClientLaw::read(&program.stderr).delivered.counters, 1, "{}", program.stderr);
    publisher.send(&format!("info|Counter|mine|1|{now}|old"));

    assert!(next(&original).starts_with(b"information|Counter|other|"));
    assert!(next(&original).starts_with(b"info|Counter|mine|"));
    let frame = until("frame of level information", || {
        native.recv_bytes(zmq::DONTWAIT).ok().filter(|frame| frame.starts_with(b"\x01information\0"))
    });
    assert!(frame.windows(5).any(|bytes| bytes == b"other"));
    until("delivery", || (read(&stack.local.db).sum("mine", "old") >= 1.0).then_some(()));
    let page = stack.worker.metrics();
    assert_eq!(page.sum("zibrato_worker_messages_refused_total", &[]), 0.0, "{}", page.page);
    let (stored, _) = stack.finish();
    assert_eq!(stored.0.len(), 1, "{:?}", stored.0.keys());
}

#[test]
fn a_fast_worker_of_the_original_gets_a_burst_whole() {
    let broker = Broker::start();
    let original = original_worker(&broker, "info");
    let publisher = Publisher::connect(&broker.publishers);
    publisher.probe(&broker, &["info"]);
    let reader = std::thread::spawn(move || {
        original.set_rcvtimeo(Duration::from_secs(20).as_millis() as i32).unwrap();
        let mut numbers = Vec::new();
        while numbers.len() < BURST as usize {
            let message = String::from_utf8(original.recv_bytes(0).unwrap()).unwrap();
            let number = message.strip_prefix("info|Counter|n|").and_then(|rest| rest.split('|').next());
            numbers.extend(number.map(|number| number.parse::<u64>().unwrap()));
        }
        numbers
    });
    for number in 0..BURST {
        publisher.send(&format!("info|Counter|n|{number}|1|s"));
    }
    assert!(reader.join().unwrap().into_iter().eq(0..BURST));
    assert_eq!(broker.finish().no_subscriber, 0);
}
