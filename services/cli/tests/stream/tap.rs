//! `zibrato tap`.

use std::fs::OpenOptions;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use zibrato_core::frame::{Entry, HistogramState, State};
use zibrato_std::{Client, Level};

use crate::bus::Bus;
use crate::program::{DEADLINE, Running, Said, ZIBRATO, run, wait_for, zibrato};
use crate::pty::{Pty, colour_sequences};
use crate::publisher::{Publisher, alone, frame, key};

const LEVELS: &str = "info,debug";
/// Topics of which the last one that a tap of these levels subscribes to is one.
const TOPICS: [&[u8]; 2] = [b"info|", b"debug|"];

/// Starts a tap with these flags, and a publisher that is connected once it has subscribed.
fn tap(bus: &Bus, more: &[&str]) -> (Running, Publisher) {
    let tap = Running::start(bus.port, &[&["tap", "--levels", LEVELS], more].concat());
    (tap, Publisher::wanted(bus.port, &TOPICS))
}

/// Two frames of one publisher and a heartbeat, and what the second frame changes.
fn stream() -> Vec<Vec<u8>> {
    let counter = |sum| {
        let mut entry = Entry::new("web.requests", State::Counter { sum });
        entry.unit = "calls";
        entry.tags.push(("route", "/api")).unwrap();
        entry
    };
    let gauge = |sets, last| {
        let state = State::Gauge { sets, last, last_ms: 1_700_000_000_900, min: -2.0, max: 9.0 };
        Entry { source: "own", ..Entry::new("queue.depth", state) }
    };
    let timer = |count, sum_ns| {
        let histogram =
            HistogramState { counts: &[1, 0, 3, 2], offset: -320, zero: 1, ..HistogramState::EMPTY };
        let window_ns = Some((400_000, 420_000));
        Entry::new("web.latency", State::Timer { count, sum_ns, sum_squares_ns2: 1, window_ns, histogram })
    };
    vec![
        frame(1, "info", 1, key, &[counter(300), gauge(2, 9.0), timer(4, 4_000_000)]),
        frame(
            1,
            "info",
            2,
            |header| header.age_ms = 61_000,
            &[counter(304), gauge(3, 1.5), timer(6, 4_820_000)],
        ),
        frame(1, "info", 2, |header| header.flags.heartbeat = true, &[]),
    ]
}

#[test]
fn a_pipe_gets_a_line_of_tabs_for_each_series() {
    let bus = Bus::start();
    let (mut tap, publisher) = tap(&bus, &[]);
    for message in stream() {
        publisher.send(&message);
    }
    publisher.send(b"debug|Counter|old.hits|5|1700000000|web1");
    let lines: Vec<_> = (0..8).map(|_| tap.line()).collect();
    let said = tap.stop("-INT").well();
    let columns: Vec<Vec<_>> = lines.iter().map(|line| line.split('\t').skip(1).collect()).collect();
    let who = "prog@box/01010101";
    assert_eq!(
        columns[0],
        ["info", who, "1", "key", "counter", "web.requests{route=/api} [calls]", "src", "sum 300", "-"]
    );
    assert_eq!(columns[1], ["info", who, "1", "key", "gauge", "queue.depth", "own", "last 9", "-"]);
    assert_eq!(
        columns[2],
        ["info", who, "1", "key", "timer", "web.latency", "src", "count 4 mean 1.00 ms", "-"]
    );
    assert_eq!(
        columns[3],
        ["info", who, "2", "-", "counter", "web.requests{route=/api} [calls]", "src", "sum 304", "+4"]
    );
    assert_eq!(columns[4][7..], ["last 1.50", "+1 from -2 to 9"]);
    assert_eq!(columns[5][7..], ["count 6 mean 803 µs", "+2 mean 410 µs from 400 µs to 420 µs"]);
    assert_eq!(columns[6], ["info", who, "2", "heartbeat", "-", "-", "-", "-", "-"]);
    assert_eq!(columns[7], ["debug", "legacy", "-", "-", "counter", "old.hits", "web1", "-", "+5"]);
    for line in &lines {
        assert!(!line.contains('\x1b'), "{line}");
        let time: f64 = line.split('\t').next().unwrap().parse().unwrap();
        assert!(time > 1_600_000_000.0, "{line}");
    }
    let account =
        "messages 4 = frames 3 + legacy 1 + unreadable 0; without a match 0; lines printed 8, suppressed 0\n";
    assert_eq!((said.out, said.err), (String::new(), account.to_owned()));
}

#[test]
fn json_is_an_object_a_message_with_the_documented_fields() {
    let bus = Bus::start();
    let (tap, publisher) = tap(&bus, &["--json", "--count", "4"]);
    let stream = stream();
    for message in [&stream[0][..], &stream[1], b"info|Gauge|old\x1b.depth|7.5|1700000000|", b"info|Gauge|n"]
    {
        publisher.send(message);
    }
    let said = tap.end().well();
    let lines: Vec<Value> = said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let buckets = json!({"scale": 5, "zero": 1, "base": 0, "offset": -320, "counts": [1, 0, 0, 0, 2]});
    assert_eq!(
        lines[0],
        json!({
            "type": "frame", "level": "info", "publisher": "01".repeat(16),
            "program": "prog", "host": "box", "pid": 7, "library": "1.0.0",
            "seq": 1, "part": 0, "of": 1, "key": true, "end": false, "heartbeat": false,
            "age_ms": 0, "window_end_ms": 1_700_000_001_000u64, "window_ms": 1_000, "bytes": stream[0].len(),
            "losses": {}, "unreadable": 0,
            "series": [
                {"kind": "counter", "name": "web.requests", "source": "src", "unit": "calls", "tags": {"route": "/api"}, "sum": 300},
                {"kind": "gauge", "name": "queue.depth", "source": "own", "sets": 2, "last": 9.0,
                 "last_ms": 1_700_000_000_900u64, "min": -2.0, "max": 9.0},
                {"kind": "timer", "name": "web.latency", "source": "src", "count": 4, "sum_ns": 4_000_000,
                 "window_ns": [400_000, 420_000], "buckets": buckets},
            ],
        })
    );
    let deltas: Vec<_> =
        lines[1]["series"].as_array().unwrap().iter().map(|series| &series["delta"]).collect();
    assert_eq!(deltas, [&json!({"sum": 4}), &json!({"sets": 1}), &json!({"count": 2, "sum_ns": 820_000})]);
    // Who publishes is known from the key frame on.
    assert_eq!((&lines[1]["program"], &lines[1]["age_ms"]), (&json!("prog"), &json!(61_000)));
    assert_eq!(
        lines[2],
        json!({
            "type": "legacy", "level": "info", "kind": "gauge", "name": "old\x1b.depth", "source": "", "value": 7.5,
            "timestamp_s": 1_700_000_000,
        })
    );
    let reason = "legacy message has not the six fields level|mtype|name|value|timestamp|source";
    assert_eq!(
        lines[3],
        json!({"type": "unreadable", "reason": "field_count", "error": reason, "bytes": 12})
    );
}

#[test]
fn without_levels_everything_comes() {
    let bus = Bus::start();
    let tap = Running::start(bus.port, &["tap", "--json", "--name", "mine.*", "--count", "2"]);
    let publisher = Publisher::wanted(bus.port, &[b""]);
    let entry = [Entry::new("mine.too", State::Counter { sum: 1 })];
    publisher.send(b"some level|Counter|mine.one|1|1700000000|s");
    publisher.send(&frame(1, "another", 1, key, &entry));
    let said = tap.end().well();
    assert!(
        said.out.contains("\"level\":\"some level\"") && said.out.contains("\"level\":\"another\""),
        "{}",
        said.out
    );
}

#[test]
fn an_on_demand_level_is_switched_on_by_its_name_only() {
    let _alone = alone();
    let bus = Bus::start();
    let client = Client::builder().port(bus.port).build().unwrap();
    let port = bus.port.to_string();
    let _everything = Running::start(0, &["tap", "--port", &port]);
    drop(Publisher::wanted(bus.port, &[b""]));
    assert!(!client.wait_subscribed(Level::DEBUG, Duration::from_millis(200)));
    let _debug = Running::start(0, &["tap", "--port", &port, "--levels", "debug"]);
    assert!(client.wait_subscribed(Level::DEBUG, DEADLINE));
}

#[test]
fn globs_choose_series_by_name_and_source() {
    let bus = Bus::start();
    let (tap, publisher) =
        tap(&bus, &["--name", "web.*", "--name", "old.?", "--source", "src", "--count", "3"]);
    for message in stream() {
        publisher.send(&message);
    }
    publisher.send(b"info|Counter|old.one|1|1700000000|src");
    publisher.send(b"info|Counter|old.1|1|1700000000|other");
    let said = tap.end().well();
    let names: Vec<_> = said.out.lines().map(|line| line.split('\t').nth(6).unwrap()).collect();
    assert_eq!(
        names,
        ["web.requests{route=/api} [calls]", "web.latency", "web.requests{route=/api} [calls]"]
    );
}

#[test]
fn lines_beyond_the_rate_are_counted_and_said() {
    let bus = Bus::start();
    let (tap, publisher) = tap(&bus, &["--rate", "5"]);
    for at in 0..200 {
        publisher.send(format!("info|Counter|n|{at}|1700000000|s").as_bytes());
    }
    wait_for("what is suppressed", || {
        tap.err().contains("lines of the last second are not shown (--rate)").then_some(())
    });
    let said = tap.stop("-INT").well();
    let number = |behind: &str| {
        let (_, rest) = said.err.split_once(behind).unwrap_or_else(|| panic!("{behind} in {}", said.err));
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<usize>().unwrap()
    };
    let (printed, suppressed) = (number("lines printed "), number("suppressed "));
    assert_eq!(printed, said.out.lines().count());
    // All came within two seconds.
    assert!(printed + suppressed == 200 && (5..=10).contains(&printed), "{}", said.err);
    let reported: usize = said
        .err
        .lines()
        .filter(|line| line.ends_with("(--rate)"))
        .map(|line| line.split(' ').next().unwrap().parse::<usize>().unwrap())
        .sum();
    assert_eq!(reported, suppressed);
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly_also_when_nothing_comes() {
    let bus = Bus::start();
    let (mut tap, publisher) = tap(&bus, &[]);
    publisher.send(b"info|Counter|n|1|1700000000|s");
    tap.line();
    drop(tap.stdout.take());
    let Said { code, err, .. } = tap.end();
    assert_eq!((code, err), (Some(0), String::new()));
}

#[test]
fn a_reader_that_goes_away_in_a_flood_ends_it_quietly_too() {
    let bus = Bus::start();
    let (mut tap, publisher) = tap(&bus, &["--json"]);
    publisher.send(b"info|Counter|n|1|1700000000|s");
    tap.line();
    drop(tap.stdout.take());
    for _ in 0..50_000 {
        publisher.send(b"info|Counter|n|1|1700000000|s");
    }
    let Said { code, err, .. } = tap.end();
    assert_eq!((code, err), (Some(0), String::new()));
}

#[test]
fn an_output_that_cannot_be_written_is_an_error() {
    let bus = Bus::start();
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = zibrato(&["tap", "--levels", LEVELS, "--port", &bus.port.to_string()]);
    let tap = Running::spawn(command.stdout(Stdio::from(full)));
    Publisher::wanted(bus.port, &TOPICS).send(b"info|Counter|n|1|1700000000|s");
    tap.end().fails(1, "cannot write to standard output: No space left on device");
}

#[test]
fn without_a_broker_it_says_so_and_bad_flags_are_bad_usage() {
    let said = run(Bus::free_pair(), &["tap", "--timeout", "1"]);
    said.fails(1, "no broker at tcp://127.0.0.1:");
    for (flag, value) in
        [("--levels", "a|b"), ("--rate", "0"), ("--count", "0"), ("--name", ""), ("--port", "65535")]
    {
        run(0, &["tap", flag, value]).fails(2, &format!("invalid value '{value}' for '{flag} <"));
    }
}

#[test]
fn a_connection_that_is_lost_is_said_and_comes_back() {
    let bus = Bus::start();
    let port = bus.port;
    let (mut tap, publisher) = tap(&bus, &[]);
    publisher.send(b"info|Counter|before|1|1700000000|s");
    assert!(tap.line().contains("before"));
    drop((publisher, bus));
    wait_for("the loss", || {
        tap.err().contains("the connection to the broker is lost; trying again").then_some(())
    });
    // On the same ports, which may be a moment in use.
    let config = || zibrato_broker::Config { port, ..zibrato_broker::Config::default() };
    let shutdown = zibrato_service::Shutdown::new();
    let running =
        wait_for("the broker's ports", || zibrato_broker::start(config(), None, shutdown.clone()).ok());
    Publisher::wanted(port, &TOPICS).send(b"info|Counter|behind|1|1700000000|s");
    assert!(tap.line().contains("behind"));
    assert!(tap.err().ends_with("connected to the broker again\n"), "{}", tap.err());
    tap.stop("-TERM").well();
    shutdown.request();
    assert!(running.join().adds_up());
}

#[test]
fn a_terminal_gets_columns_in_colours_and_no_sequences_from_the_network() {
    let bus = Bus::start();
    let port = bus.port.to_string();
    let args = ["tap", "--levels", LEVELS, "--port", &port, "--count", "8"];
    for (env, has_colours) in [(&[][..], true), (&[("NO_COLOR", "1")], false)] {
        let pty = Pty::start(ZIBRATO, &args, (160, 24), env);
        let publisher = Publisher::wanted(bus.port, &TOPICS);
        for message in stream() {
            publisher.send(&message);
        }
        publisher.send("debug|Counter|ev\x1b[2Jil\u{9b}31m|5|1700000000|web1".as_bytes());
        let (status, ended) = pty.end();
        assert!(status.success());
        let lines: Vec<_> = ended.screen.lines().collect();
        let columns = |line: &str| ["sum ", "counter"].map(|text| line.find(text));
        // Once a column has its width, what follows stands below each other.
        assert_eq!(columns(lines[3]), [lines[4].find("last "), lines[4].find("gauge")], "{}", ended.screen);
        assert!(ended.screen.contains("ev?[2Jil?31m"), "{}", ended.screen);
        assert_eq!(
            !colour_sequences(&ended.bytes).is_empty(),
            has_colours,
            "{:?}",
            String::from_utf8_lossy(&ended.bytes)
        );
        assert!(lines[8].starts_with("messages 4 = frames 3 + legacy 1"), "{}", ended.screen);
    }
    // With --json nothing drives the terminal either.
    let pty = Pty::start(ZIBRATO, &[&args[..5], &["--json", "--count", "1"]].concat(), (160, 24), &[]);
    Publisher::wanted(bus.port, &TOPICS).send("info|Counter|e\u{9b}31m|5|1700000000|web1".as_bytes());
    let (status, ended) = pty.end();
    assert!(status.success() && ended.screen.contains("\"name\":\"e?31m\""), "{}", ended.screen);
}

#[test]
fn the_wait_for_a_broker_is_seen_on_a_terminal() {
    let port = Bus::free_pair().to_string();
    let pty = Pty::start(ZIBRATO, &["tap", "--port", &port], (160, 24), &[]);
    pty.wait_for_text("waiting for the broker");
    pty.signal("-INT");
    let (status, ended) = pty.end();
    assert!(status.success() && !ended.screen.contains("waiting"), "{}", ended.screen);
}
