//! `zibrato tap --samples`.

use std::time::Duration;

use serde_json::{Value, json};
use zibrato_core::frame::{PublisherId, SampleMetric, SampleValue, SamplesEncoder, SamplesHeader};
use zibrato_core::kind::Kind;
use zibrato_std::{Client, Gauge, Level, LossReason, Timer, Wire};

use crate::bus::Bus;
use crate::program::{DEADLINE, Running, run};
use crate::publisher::{Publisher, alone};

const TIME_NS: u64 = 1_700_000_000_123_456_789;
const TOPICS: [&[u8]; 2] = [b"\x04info\0", b"\x04debug\0"];

/// A frame of level `info` with a sample of each kind.
fn frame(first: u64, lost: u64) -> Vec<u8> {
    let header = SamplesHeader::new(PublisherId([1; 16]), first, lost);
    let mut encoder = SamplesEncoder::new(vec![0; 1_024], "info", &header, TIME_NS, "src").unwrap();
    let mut latency = SampleMetric::new(Kind::Timer, "web.latency");
    latency.tags.push(("route", "/api")).unwrap();
    let depth = SampleMetric { source: "own", unit: "jobs", ..SampleMetric::new(Kind::Gauge, "queue.depth") };
    for (metric, value) in [
        (latency, SampleValue::Timer { ns: 41_300 }),
        (depth, SampleValue::Gauge { value: -0.25 }),
        (SampleMetric::new(Kind::Counter, "web.requests"), SampleValue::Counter { increment: 5 }),
    ] {
        let metric = encoder.add_metric(&metric).unwrap();
        encoder.push(metric, TIME_NS + u64::from(metric) * 1_000, value).unwrap();
    }
    encoder.finish().to_vec()
}

fn tap(bus: &Bus, more: &[&str]) -> (Running, Publisher) {
    let tap = Running::start(bus.port, &[&["tap", "--samples", "--levels", "info,debug"], more].concat());
    (tap, Publisher::wanted(bus.port, &TOPICS))
}

#[test]
fn each_sample_is_a_line_and_what_is_missing_is_told_at_the_end() {
    let bus = Bus::start();
    let (mut tap, publisher) = tap(&bus, &[]);
    // Nobody asked for state or text, so the publisher's socket drops these.
    publisher.send(b"info|Counter|old.hits|5|1700000000|web1");
    publisher.send(&crate::publisher::frame(1, "info", 1, crate::publisher::key, &[]));
    publisher.send(&frame(7, 100));
    // Four are missing, and the source lost two more.
    publisher.send(&frame(14, 102));
    // A bad one in between: the frame says that it has more than it has.
    publisher.send(&frame(17, 102)[..40]);
    let lines: Vec<_> = (0..6).map(|_| tap.line()).collect();
    let said = tap.stop("-INT").well();
    assert_eq!(
        lines[0],
        "1700000000.123456\tinfo\t01010101\t7\t-\ttimer\tweb.latency{route=/api}\tsrc\t-\t+1 of 41300 ns"
    );
    assert_eq!(
        lines[1],
        "1700000000.123457\tinfo\t01010101\t8\t-\tgauge\tqueue.depth [jobs]\town\tlast -0.25\t-"
    );
    assert_eq!(lines[2], "1700000000.123458\tinfo\t01010101\t9\t-\tcounter\tweb.requests\tsrc\t-\t+5");
    let numbers: Vec<_> = lines.iter().map(|line| line.split('\t').nth(3).unwrap()).collect();
    assert_eq!(numbers, ["7", "8", "9", "14", "15", "16"]);
    let account = "samples 6 in 2 frames, missed 4, lost at the source 2; unreadable 0; without a match 0; \
                   lines printed 6, suppressed 0\n";
    assert_eq!((said.out, said.err), (String::new(), account.to_owned()), "the broker refused the bad one");
}

#[test]
fn json_is_an_object_a_sample_and_globs_choose_among_them() {
    let bus = Bus::start();
    let (tap, publisher) = tap(&bus, &["--json", "--count", "3"]);
    publisher.send(&frame(7, 0));
    let said = tap.end().well();
    let lines: Vec<Value> = said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let publisher_id = "01".repeat(16);
    assert_eq!(
        lines,
        [
            json!({"type": "sample", "level": "info", "publisher": publisher_id, "number": 7, "time_ns": TIME_NS,
                   "kind": "timer", "name": "web.latency", "source": "src", "tags": {"route": "/api"}, "ns": 41_300}),
            json!({"type": "sample", "level": "info", "publisher": publisher_id, "number": 8,
                   "time_ns": TIME_NS + 1_000, "kind": "gauge", "name": "queue.depth", "source": "own",
                   "unit": "jobs", "value": -0.25}),
            json!({"type": "sample", "level": "info", "publisher": publisher_id, "number": 9,
                   "time_ns": TIME_NS + 2_000, "kind": "counter", "name": "web.requests", "source": "src",
                   "increment": 5}),
        ]
    );
    let (tap, publisher) = self::tap(&bus, &["--name", "web.*", "--count", "2"]);
    publisher.send(&frame(0, 0));
    let said = tap.end().well();
    assert!(said.out.contains("web.latency") && said.out.contains("web.requests"), "{}", said.out);
    assert!(said.err.contains("without a match 1; lines printed 2"), "{}", said.err);
}

#[test]
fn each_record_of_a_client_is_a_line_while_its_state_is_exact() {
    static TOOK: Timer = Timer::new("tap.took", Level::DEBUG);
    static DEPTH: Gauge = Gauge::new("tap.depth", Level::DEBUG);
    const RECORDS: u64 = 1_000;
    let _alone = alone();
    let bus = Bus::start();
    let client = Client::builder().port(bus.port).wire(Wire::Samples).build().unwrap();
    // Samples of all levels open no gate, and those of a level by name do.
    let everything = Running::start(bus.port, &["tap", "--samples"]);
    drop(Publisher::wanted(bus.port, &[b"\x04"]));
    assert!(!client.wait_subscribed(Level::DEBUG, Duration::from_millis(100)));
    let lines = (RECORDS + 1).to_string();
    let tap = Running::start(bus.port, &["tap", "--samples", "--levels", "debug", "--count", &lines]);
    assert!(client.wait_subscribed(Level::DEBUG, DEADLINE));
    for at in 0..RECORDS {
        TOOK.record(Duration::from_nanos(at * 7));
    }
    DEPTH.set(17.5);
    let said = tap.end().well();
    let change = |line: &str| line.split('\t').nth(9).unwrap().to_owned();
    let took: Vec<_> = said.out.lines().filter(|line| line.contains("tap.took")).map(change).collect();
    assert_eq!(took, Vec::from_iter((0..RECORDS).map(|at| format!("+1 of {} ns", at * 7))));
    assert!(said.out.lines().last().unwrap().ends_with("gauge\ttap.depth\tnot_specified\tlast 17.5\t-"));
    assert!(said.err.contains(", missed 0, lost at the source 0; unreadable 0"), "{}", said.err);
    let stats = client.shutdown(DEADLINE).unwrap();
    assert!(stats.law_holds() && stats.unacknowledged == 0, "{stats}");
    assert_eq!((stats.delivered.timers, stats.losses.count(LossReason::Samples)), (RECORDS, 0));
    drop(everything);
}

#[test]
fn who_asks_for_everything_or_for_state_is_shown_no_samples() {
    let bus = Bus::start();
    let mut everything = Running::start(bus.port, &["tap"]);
    let publisher = Publisher::wanted(bus.port, &[b""]);
    publisher.send(&frame(0, 0));
    publisher.send(b"info|Counter|old.hits|5|1700000000|web1");
    assert!(everything.line().contains("old.hits"));
    let said = everything.stop("-INT").well();
    assert!(said.err.starts_with("messages 1 = frames 0 + legacy 1 + unreadable 0"), "{}", said.err);
    run(0, &["tap", "--samples", "--count", "0"]).fails(2, "invalid value '0' for '--count <");
}
