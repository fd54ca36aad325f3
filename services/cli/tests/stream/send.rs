//! `zibrato send`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{Duration, Instant};

use zibrato_core::histogram::Histogram;
use zibrato_service::Shutdown;

use crate::books::Books;
use crate::bus::Bus;
use crate::fake::{FakeBroker, Fault};
use crate::program::{Running, ZIBRATO, run, run_with, wait_for};
use crate::pty::Pty;
use crate::publisher::Publisher;

#[test]
fn one_of_each_kind_is_counted_by_a_worker_when_the_command_has_ended() {
    let bus = Bus::start();
    let mut books = Books::open(bus.port, &["info", "debug", "audit"]);
    for args in [
        &["send", "counter", "hits", "3", "--tag", "route=/api", "--tag", "verb=GET", "--unit", "calls"][..],
        &["send", "gauge", "depth", "-1.5", "--source", "web1"],
        &["send", "timer", "took", "1.5ms", "--level", "debug"],
        &["send", "timer", "took", "0.25", "--level", "debug"],
        &["send", "counter", "logins", "1", "--level", "audit"],
    ] {
        let said = run(bus.port, args).well();
        assert_eq!((said.out, said.err), (String::new(), String::new()));
    }
    let counted = books.read();
    assert_eq!(counted["info counter hits not_specified calls route=/api,verb=GET"], "sum 3");
    assert_eq!(counted["info gauge depth web1"], "values -1.5");
    assert!(counted["debug timer took not_specified"].starts_with("count 2 sum_ns 251500000 "));
    assert_eq!(counted["audit counter logins not_specified"], "sum 1");
    assert_eq!(counted.len(), 4);
}

#[test]
fn a_level_that_no_worker_listens_to_is_said_and_is_no_failure() {
    let bus = Bus::start();
    let mut books = Books::open(bus.port, &["info"]);
    let lines = b"counter hits 1 audit\ncounter hits 2 info\ncounter hits 3 other\n";
    for wire in [&["send"][..], &["send", "--legacy"]] {
        let said = run_with(bus.port, wire, lines).well();
        let hint =
            "\nno worker subscribes to audit, other: what was sent there is forwarded and not stored (";
        assert!(said.err.contains(hint), "{}", said.err);
        assert_eq!(books.read().get("info counter hits not_specified").map(String::as_str), Some("sum 2"));
        // A level whose name is longer is another one.
        let said = run(bus.port, &[wire, &["counter", "hits", "1", "--level", "inf"]].concat()).well();
        assert!(said.err.starts_with("no worker subscribes to inf: "), "{}", said.err);
    }
}

#[test]
fn a_name_that_is_refused_or_means_nothing_is_told_why() {
    let said = run(0, &["send", "counter", "größe", "1"]);
    let line = said.fails(2, "invalid value 'größe' for '[NAME]'");
    assert!(line.contains("A-Z a-z 0-9 . : _ -; it has 'ö'"), "{line}");
    let said = run(5_550, &["send", "counter", "n", "1", "--host", "nosuch.invalid", "--timeout", "1"]);
    let line = said.fails(1, "no broker: the name in tcp://nosuch.invalid:5551 cannot be resolved");
    assert!(line.contains("; check --host: "), "{line}");
}

#[test]
fn lines_of_text_and_json_are_sent_and_bad_ones_are_named_by_their_number() {
    let bus = Bus::start();
    let mut books = Books::open(bus.port, &["info", "debug"]);
    let lines = concat!(
        "# kind name value level source\n",
        "counter hits 3\n",
        "counter hits -1\n",
        "\n",
        "counter hits 4 info\n",
        "{\"kind\":\"gauge\",\"name\":\"depth\",\"value\":7,\"level\":\"debug\",\"tags\":{\"q\":\"a\"}}\n",
        "gauge hits 1\n",
        "timer took 2us info web1\n",
        "{\"\u{1b}[31m\":1}",
    );
    let said = run_with(bus.port, &["send", "--source", "shell"], lines.as_bytes());
    said.fails(1, "3 bad lines not sent, as said above");
    let lines: Vec<_> = said.err.lines().collect();
    assert!(lines[0].starts_with("line 3: value \"-1\" of a counter is not accepted: give a whole"));
    assert_eq!(lines[1], "line 7: hits is a counter already, at the same level and source");
    // What a line holds cannot drive the terminal.
    assert!(lines[2].starts_with("line 9: not accepted as JSON: "), "{}", lines[2]);
    assert!(!said.err.contains('\x1b'), "{}", said.err);
    assert!(lines[3].starts_with("4 measurements sent and seen back in "), "{}", lines[3]);
    let counted = books.read();
    assert_eq!(counted["info counter hits shell"], "sum 7");
    assert_eq!(counted["debug gauge depth shell  q=a"], "values 7");
    assert!(counted["info timer took web1"].starts_with("count 1 sum_ns 2000 "));
    assert_eq!(counted.len(), 3);
}

#[test]
fn only_the_first_bad_lines_are_shown() {
    let bus = Bus::start();
    let said = run_with(bus.port, &["send"], "bad\n".repeat(30).as_bytes());
    said.fails(1, "30 bad lines not sent");
    assert_eq!(said.err.matches("accepted is KIND NAME VALUE").count(), 20);
    assert_eq!(said.err.matches("further bad lines are only counted").count(), 1);
}

#[test]
fn a_hundred_thousand_lines_take_seconds_and_every_one_counts() {
    let bus = Bus::start();
    let mut books = Books::open(bus.port, &["info"]);
    let mut lines = String::new();
    let mut histogram: Histogram = Histogram::new();
    let (mut sum, mut sum_ns) = (0, 0);
    for at in 0..100_000u64 {
        // Mostly timers: more of them than a ring holds come before it is emptied for the first time.
        if at % 10 == 0 {
            sum += at % 7;
            writeln!(lines, "counter hits{} {}", at % 100, at % 7).unwrap();
        } else {
            let us = 1 + at % 1_000;
            histogram.record_ns(1_000 * us, 1);
            sum_ns += 1_000 * us;
            writeln!(lines, "timer took {us}us").unwrap();
        }
    }
    let buckets: Vec<_> = histogram.counts().collect();
    for wire in [&["send"][..], &["send", "--legacy"]] {
        let begun = Instant::now();
        let said = run_with(bus.port, wire, lines.as_bytes()).well();
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
        assert!(said.err.starts_with("100000 measurements sent and seen back in "), "{}", said.err);
        let counted = books.read();
        assert_eq!(counted.len(), 11);
        let sums = counted.values().filter_map(|units| units.strip_prefix("sum "));
        assert_eq!(sums.map(|sum| sum.parse::<f64>().unwrap()).sum::<f64>(), sum as f64);
        // Each record is in its own bucket: none was placed at the mean of others.
        let took = format!("count 90000 sum_ns {sum_ns} buckets {buckets:?}");
        assert_eq!(counted["info timer took not_specified"], took);
    }
}

#[test]
fn what_is_beyond_a_limit_is_refused_line_by_line_and_the_rest_is_sent() {
    let bus = Bus::start();
    let mut lines = String::new();
    (0..1_001).for_each(|at| writeln!(lines, "counter n 1 level{at}").unwrap());
    (0..100_000 - 1_000).for_each(|at| writeln!(lines, "counter n{at} 1 level0").unwrap());
    lines.push_str("counter one.more 1\ncounter n 1 level0\n");
    let said = run_with(bus.port, &["send", "--timeout", "30"], lines.as_bytes());
    said.fails(1, "2 bad lines not sent");
    let lines: Vec<_> = said.err.lines().collect();
    assert_eq!(lines[0], "line 1001: more than 1000 levels; send the rest in another run");
    assert_eq!(lines[1], "line 100002: more than 100000 series; send the rest in another run");
    assert!(lines[2].starts_with("100001 measurements sent and seen back in "), "{}", lines[2]);
}

#[test]
fn a_broker_that_forwards_nothing_is_given_only_so_much() {
    let deaf = FakeBroker::start(Fault::Swallows);
    let args = ["send", "--legacy", "--timeout", "1"];
    let said = run_with(deaf.port, &args, "counter n 1\n".repeat(10_100).as_bytes());
    said.fails(1, "10000 of 10000 messages did not come back within 1 s");
}

#[test]
fn patience_begins_with_the_wait_and_not_with_the_line_before() {
    let timeout = Duration::from_secs(3);
    let bus = Bus::start();
    let port = bus.port;
    let mut sending = Running::start(port, &["send", "--legacy", "--timeout", "3"]);
    // Bad lines tell that the ones before were taken.
    let mut say = |line: &str| sending.stdin.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
    say("counter n 1\nbad\n");
    wait_for("the first line", || sending.err().contains("line 2: ").then_some(()));
    drop(bus);
    // A pause in which the broker goes and is longer than what the broker may take.
    let begun = Instant::now();
    wait_for("the pause", || (begun.elapsed() > timeout).then_some(()));
    sending.stdin.as_mut().unwrap().write_all(b"counter n 2\n").unwrap();
    let _again = Bus::start_on(port);
    sending.end().fails(1, "1 bad line not sent");
}

#[test]
fn legacy_text_is_what_the_original_sends() {
    let bus = Bus::start();
    let tap = Running::start(bus.port, &["tap", "--json", "--levels", "info,debug", "--count", "2"]);
    drop(Publisher::wanted(bus.port, &[b"info|", b"debug|"]));
    run(bus.port, &["send", "--legacy", "counter", "hits", "-2.5", "--level", "debug"]).well();
    run(bus.port, &["send", "--legacy", "timer", "took", "1.5ms", "--source", "web1"]).well();
    let said = tap.end().well();
    let shape = |line: &str| line.split(",\"timestamp_s\"").next().unwrap().to_owned();
    let lines: Vec<_> = said.out.lines().map(shape).collect();
    let hits = r#"{"type":"legacy","level":"debug","kind":"counter","name":"hits","source":"not_specified","value":-2.5"#;
    let took =
        r#"{"type":"legacy","level":"info","kind":"timer","name":"took","source":"web1","value":0.0015"#;
    assert_eq!(lines, [hits, took]);
}

#[test]
fn a_broker_with_an_ipv6_address_is_reached() {
    let shutdown = Shutdown::new();
    let start = |port| {
        let config = zibrato_broker::Config { host: "::1".parse().unwrap(), port, ..Default::default() };
        zibrato_broker::start(config, None, shutdown.clone()).ok().map(|running| (port, running))
    };
    let (port, running) = wait_for("two free ports", || start(Bus::free_pair()));
    run(port, &["send", "counter", "n", "1", "--host", "::1"]).well();
    run(port, &["send", "counter", "n", "1", "--host", "[::1]", "--legacy"]).well();
    shutdown.request();
    let totals = running.join();
    assert!(totals.adds_up() && totals.acknowledged == 1, "{totals}");
}

#[test]
fn what_can_never_be_sent_is_bad_usage() {
    for (args, start) in [
        (
            &["send", "count", "n", "1"][..],
            "invalid value 'count' for '[KIND]': kind \"count\" is not accepted",
        ),
        (&["send", "counter", "a|b", "1"], "invalid value 'a|b' for '[NAME]': name of 3 bytes refused"),
        (
            &["send", "counter", "n"],
            "a measurement is KIND NAME VALUE; give all three, or none to read lines",
        ),
        (&["send", "counter", "n", "1.5"], "value \"1.5\" of a counter is not accepted: give a whole number"),
        (&["send", "gauge", "n", "nan"], "value \"nan\" of a gauge is not accepted: give a finite number"),
        (
            &["send", "timer", "n", "1 day"],
            "value \"1 day\" of a timer is not accepted: give a number with ns, us,",
        ),
        (&["send", "gauge", "n", "1", "--level", "a,b"], "invalid value 'a,b' for '--level <LEVEL>'"),
        (&["send", "gauge", "n", "1", "--tag", "x"], "invalid value 'x' for '--tag <KEY=VALUE>'"),
        (&["send", "gauge", "n", "1", "--timeout", "0"], "invalid value '0' for '--timeout <SECONDS>'"),
        (&["send", "gauge", "n", "1", "--legacy", "--unit", "m"], "a legacy message has no unit and no tags"),
    ] {
        run(5_550, args).fails(2, start);
    }
}

#[test]
fn without_proof_the_exit_code_is_1_and_one_line_says_why() {
    let free = Bus::free_pair();
    let one = |port, more: &[&str]| {
        // Of two flags clap would refuse the second.
        let timeout: &[&str] = if more.contains(&"--timeout") { &[] } else { &["--timeout", "1"] };
        run(port, &[&["send", "counter", "n", "1"], more, timeout].concat())
    };
    let line = one(free, &[]).fails(1, "no broker at tcp://127.0.0.1:");
    assert!(line.contains("within 1 s; start one with `zibrato up`"), "{line}");

    let original = FakeBroker::start(Fault::Original);
    let line = one(original.port, &[]).fails(1, "connected to tcp://127.0.0.1:");
    assert!(line.contains("but no broker answered within 1 s"), "{line}");

    let half = FakeBroker::start(Fault::NoPublishers);
    let said = one(half.port, &["--timeout", "4"]);
    said.fails(1, "no broker takes publishers at tcp://127.0.0.1:");
    // The client's own warning about the same is not shown as well.
    assert_eq!(said.err.lines().count(), 1, "{}", said.err);
    one(half.port, &["--legacy"]).fails(1, "no broker asks for the message at tcp://127.0.0.1:");

    let deaf = FakeBroker::start(Fault::Swallows);
    one(deaf.port, &[]).fails(1, "level info did not come back from the broker within 1 s");
    one(deaf.port, &["--legacy"]).fails(1, "1 of 1 messages did not come back within 1 s");
}

#[test]
fn control_c_ends_the_input_and_what_was_read_is_sent() {
    let bus = Bus::start();
    let mut books = Books::open(bus.port, &["info"]);
    let mut sending = Running::start(bus.port, &["send"]);
    // The last line is bad, so that it is known when the others were read.
    sending.stdin.as_mut().unwrap().write_all(b"counter hits 3\ncounter hits 4\nbad\n").unwrap();
    wait_for("the bad line", || sending.err().contains("line 3: ").then_some(()));
    sending.stop("-INT").fails(1, "1 bad line not sent");
    assert_eq!(books.read()["info counter hits not_specified"], "sum 7");
}

#[test]
fn a_terminal_is_asked_for_lines_and_no_progress_stands_in_what_is_typed() {
    let bus = Bus::start();
    let port = bus.port.to_string();
    let mut pty = Pty::start(ZIBRATO, &["send", "--port", &port], (100, 24), &[]);
    pty.wait_for_text("reading lines of KIND NAME VALUE [LEVEL] [SOURCE]; Ctrl-D ends them");
    // Progress would be shown after the first second.
    let begun = Instant::now();
    pty.press("counter hits 1\n");
    let deadline = Duration::from_millis(1_500);
    wait_for("a second", || (begun.elapsed() > deadline).then_some(()));
    pty.press("counter hits 1\n\x04");
    let (status, ended) = pty.end();
    assert!(status.success(), "{}", ended.screen);
    let lines: Vec<_> = ended.screen.lines().collect();
    assert_eq!(lines[1..3], ["counter hits 1"; 2], "{}", ended.screen);
    assert!(lines[3].starts_with("2 measurements sent and seen back in "), "{}", ended.screen);
}

#[test]
fn progress_is_shown_while_the_broker_is_waited_for() {
    let port = Bus::free_pair().to_string();
    let pty = Pty::start(
        ZIBRATO,
        &["send", "counter", "n", "1", "--port", &port, "--timeout", "3"],
        (200, 24),
        &[],
    );
    pty.wait_for_text("sending");
    let (status, ended) = pty.end();
    assert_eq!(status.exit_code(), 1);
    assert!(ended.screen.contains("error: no broker at tcp://127.0.0.1:"), "{}", ended.screen);
}
