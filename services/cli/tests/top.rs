//! `zibrato top` on a pseudo-terminal, with a real broker and a real publisher.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

#[path = "support/bus.rs"]
mod bus;
#[path = "support/pty.rs"]
mod pty;

use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use zibrato_std::{Client, Counter, Gauge, Level, Timer};

use bus::Bus;
use pty::{Pty, colour_sequences};

const ZIBRATO: &str = env!("CARGO_BIN_EXE_zibrato");
/// What the publisher does every [`STEP`]: so 1000 hits and 500 bytes a second.
const STEP: Duration = Duration::from_millis(50);
const HITS: u64 = 50;
const BYTES: u64 = 25;

static HIT: Counter = Counter::new("test.hits", Level::INFO);
static SENT: Counter = Counter::new("test.bytes", Level::ERROR).source("elsewhere");
static WORK: Timer = Timer::new("test.work", Level::INFO);
static DEPTH: Gauge = Gauge::new("test.depth", Level::INFO).tags(&[("queue", "a")]);
static IDLE: Gauge = Gauge::new("test.idle", Level::INFO);
static DETAIL: Counter = Counter::new("test.detail", Level::DEBUG);

/// One broker and one publisher for all tests: a process has one client.
fn bus() -> &'static Bus {
    static BUS: OnceLock<Bus> = OnceLock::new();
    BUS.get_or_init(|| {
        let bus = Bus::start();
        let client = Client::builder()
            .port(bus.port)
            .source("bench")
            .window(Duration::from_millis(200))
            .build()
            .unwrap();
        // What a young publisher did before top began is nothing that happens now.
        HIT.add(100_000_000);
        // And a gauge that was set before has its value all the same.
        IDLE.set(42.0);
        bus.wait_for_a_frame();
        thread::spawn(move || {
            let _client = client;
            loop {
                HIT.add(HITS);
                SENT.add(BYTES);
                DETAIL.add(1);
                DEPTH.set(17.0);
                WORK.measure(|| thread::sleep(STEP));
            }
        });
        bus
    })
}

fn start(size: (u16, u16), more: &[&str], env: &[(&str, &str)]) -> Pty {
    let port = bus().port.to_string();
    let args = ["top", "--port", &port, "--worker", "none", "--broker-status", "none"];
    Pty::start(ZIBRATO, &[&args, more].concat(), size, env)
}

/// The numbers on the line of a series.
fn figures(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn a_counter_a_gauge_and_a_timer_appear_with_their_figures() {
    let mut pty = start((80, 24), &[], &[]);
    pty.wait_for("rates near those of the publisher", |pty| {
        let rate = |name| {
            let line = pty.line(name)?;
            let cell = figures(&line).get(2)?.replace('k', "");
            cell.parse::<f64>().ok()
        };
        // A sleeping publisher is late now and then, never early.
        rate("test.hits").is_some_and(|rate| (0.8..=1.01).contains(&rate) || (800.0..=999.0).contains(&rate))
            && rate("test.work").is_some_and(|rate| (15.0..=21.0).contains(&rate))
    });
    let screen = pty.screen();
    let line = pty.line("test.work").unwrap();
    // Median, 95th and 99th percentile of a sleep of 50 ms, in its order of magnitude.
    let words = figures(&line);
    assert_eq!(words[1], "t", "{screen}");
    for at in [3, 5, 7, 9] {
        let ms: f64 = words[at].parse().unwrap();
        assert!((49.0..500.0).contains(&ms) && words[at + 1] == "ms", "{line}");
    }
    assert!(line.contains(['▇', '█']), "{line}");
    let depth = figures(&pty.line("test.depth{queue=a}").unwrap());
    assert_eq!((depth[1].as_str(), depth[3].as_str(), depth[4].as_str()), ("g", "17", "17"), "{screen}");
    assert!(pty.lines()[0].contains("connected  127.0.0.1:"), "{screen}");
    assert!(screen.contains("lost 0") && screen.contains("law holds"), "{screen}");
    assert!(!screen.contains("test.detail"), "a level on demand that nobody asked for is off");
    assert!(screen.contains("no room for SOURCE, LEVEL"), "{screen}");
    pty.press("q");
    assert!(pty.end().0.success());
}

#[test]
fn the_publisher_is_shown_with_program_and_pid() {
    let mut pty = start((80, 24), &[], &[]);
    let pid = std::process::id().to_string();
    pty.wait_for_text("PROGRAM");
    pty.wait_for("the publisher", |pty| pty.line(&pid).is_some_and(|line| line.contains("top")));
    pty.press("p");
    pty.wait_for("the page of publishers", |pty| {
        !pty.screen().contains("RATE/s") && pty.line(&pid).is_some() && pty.screen().contains("▲PROGRAM")
    });
    pty.press(">");
    pty.wait_for_text("▲PID");
    pty.press("r");
    pty.wait_for_text("▼PID");
    pty.press("p");
    pty.wait_for_text("RATE/s");
}

#[test]
fn a_gauge_that_nobody_sets_any_more_is_shown_with_its_value() {
    let pty = start((80, 24), &[], &[]);
    pty.wait_for("the gauge", |pty| {
        pty.line("test.idle").is_some_and(|line| figures(&line)[1..4] == ["g", "0", "42"])
    });
}

#[test]
fn a_level_on_demand_is_switched_on_by_listening_to_it() {
    let pty = start((100, 24), &["--levels", "debug"], &[]);
    pty.wait_for_text("test.detail");
    assert!(!pty.screen().contains("test.hits"));
}

#[test]
fn sorting_filtering_pausing_and_help_follow_the_keys() {
    let mut pty = start((80, 24), &[], &[]);
    let order = |pty: &Pty| {
        let place = |name| pty.lines().iter().position(|line| line.starts_with(name));
        Some((place("test.hits")?, place("test.bytes")?, place("test.work")?))
    };
    pty.wait_for("rates, the largest first", |pty| {
        order(pty).is_some_and(|(hits, bytes, work)| hits < bytes && bytes < work)
    });
    assert!(pty.screen().contains("▼RATE/s"));
    pty.press("r");
    pty.wait_for("the reverse", |pty| {
        order(pty).is_some_and(|(hits, bytes, work)| hits > bytes && bytes > work)
    });
    pty.press("1");
    pty.wait_for("the order of names", |pty| {
        pty.screen().contains("▲NAME")
            && order(pty).is_some_and(|(hits, bytes, work)| bytes < hits && hits < work)
    });
    pty.press("/HITS");
    pty.wait_for("only what passes", |pty| {
        pty.screen().contains("filter: HITS_")
            && pty.line("test.hits").is_some()
            && pty.line("test.work").is_none()
    });
    pty.press("\x7f\x7f\x7f\x7f*work");
    pty.wait_for("only what the glob matches", |pty| {
        pty.line("test.work").is_some() && pty.line("test.hits").is_none()
    });
    pty.press("\x7f\x7f\x7f\x7f\x7fHITS");
    pty.wait_for("the part again", |pty| pty.line("test.hits").is_some());
    pty.press("\r");
    pty.wait_for("the filter kept", |pty| pty.screen().contains("filter: HITS  (Esc clears)"));
    pty.press("\x1b");
    pty.wait_for("everything again", |pty| pty.line("test.work").is_some());
    pty.press("?");
    pty.wait_for_text("any key goes back");
    pty.press("x");
    pty.wait_for_text("test.work");
    pty.press(" ");
    pty.wait_for_text("PAUSED");
    let frozen = pty.screen();
    pty.press("k");
    pty.wait_for("another key", |pty| pty.screen() == frozen);
    pty.press(" ");
    pty.wait_for("going on", |pty| !pty.screen().contains("PAUSED"));
}

#[test]
fn every_size_is_filled_and_what_has_no_room_is_named() {
    let mut pty = start((80, 24), &[], &[]);
    pty.wait_for_text("test.work");
    pty.resize(60, 15);
    pty.wait_for("the small size", |pty| {
        let lines = pty.lines();
        lines.len() == 15
            && lines[14].starts_with("q quit")
            && lines[13].contains("no room for K, MIN/p95, MINUTE")
    });
    assert!(pty.line("test.work").is_some_and(|line| line.contains("ms")), "{}", pty.screen());
    pty.resize(200, 50);
    pty.wait_for("the large size", |pty| {
        let lines = pty.lines();
        let heading = pty.line("RATE/s").unwrap_or_default();
        lines.len() == 50
            && lines[49].contains("arrows scroll")
            && heading.contains("SOURCE")
            && heading.contains("LEVEL")
    });
    pty.wait_for("source and level", |pty| {
        pty.line("test.bytes").is_some_and(|line| line.contains("elsewhere") && line.contains("error"))
    });
    assert!(!pty.screen().contains("no room for"), "{}", pty.screen());
    pty.resize(30, 6);
    pty.wait_for("the tiny size", |pty| {
        pty.lines()[5].starts_with("q quit") && pty.lines()[1].starts_with("NAME")
    });
    pty.resize(10, 3);
    pty.wait_for_text("needs 20x5");
    pty.resize(80, 24);
    pty.wait_for("the first size", |pty| {
        pty.lines()[23].starts_with("q quit") && pty.line("test.work").is_some()
    });
}

#[test]
fn however_it_ends_the_terminal_is_as_it_was() {
    type End = fn(&mut Pty);
    let ends: [(&str, End); 5] = [
        ("q", |pty| pty.press("q")),
        ("Ctrl-C", |pty| pty.press("\x03")),
        ("SIGTERM", |pty| pty.signal("-TERM")),
        ("SIGINT", |pty| pty.signal("-INT")),
        ("SIGHUP", |pty| pty.signal("-HUP")),
    ];
    for (name, end) in ends {
        let mut pty = start((80, 24), &[], &[]);
        pty.wait_for_text("zibrato top");
        assert!(String::from_utf8_lossy(&pty.bytes()).contains("\x1b[?1049h"), "the alternate screen");
        end(&mut pty);
        let (status, ended) = pty.end();
        assert!(status.success(), "{name}: {status:?}");
        assert!(!ended.is_alternate && !ended.is_cursor_hidden, "{name}");
        assert_eq!(ended.screen.trim(), "", "{name}");
    }
}

#[test]
fn colours_are_used_unless_no_color_is_set() {
    for (env, expected) in [(&[][..], true), (&[("NO_COLOR", "1")], false), (&[("NO_COLOR", "")], true)] {
        let pty = start((80, 24), &[], env);
        pty.wait_for_text("test.work");
        assert_eq!(!colour_sequences(&pty.bytes()).is_empty(), expected, "{env:?}");
    }
}

#[test]
fn a_worker_that_did_not_answer_yet_is_not_one_that_is_not_asked() {
    // It takes the connection and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, worker) = (Bus::free_pair().to_string(), silent.local_addr().unwrap().to_string());
    let args = ["top", "--port", &port, "--worker", &worker, "--broker-status", "none"];
    let mut pty = Pty::start(ZIBRATO, &args, (100, 24), &[]);
    pty.wait_for_text("worker: ");
    assert!(!pty.screen().contains("not asked"), "{}", pty.screen());
    pty.press("q");
    assert!(pty.end().0.success());
}

#[test]
fn without_a_broker_it_says_so_and_goes_on_trying() {
    let port = Bus::free_pair().to_string();
    let args = ["top", "--port", &port, "--worker", "127.0.0.1:1", "--broker-status", "none"];
    let mut pty = Pty::start(ZIBRATO, &args, (100, 24), &[]);
    pty.wait_for_text("NOT CONNECTED");
    pty.wait_for_text("start one with zibrato up");
    pty.wait_for_text("worker: cannot connect to 127.0.0.1:1");
    pty.press("q");
    assert!(pty.end().0.success());
}

#[test]
fn a_broker_that_goes_away_is_missed_and_found_again() {
    let broker = Bus::start();
    let port = broker.port;
    let args = ["top", "--port", &port.to_string(), "--worker", "none", "--broker-status", "none"];
    let pty = Pty::start(ZIBRATO, &args, (100, 24), &[]);
    pty.wait_for("the connection", |pty| pty.lines()[0].contains("top  connected"));
    drop(broker);
    pty.wait_for_text("NOT CONNECTED");
    let _again = Bus::start_on(port);
    pty.wait_for("the connection again", |pty| pty.lines()[0].contains("top  connected"));
}

/// Exit code, standard output and standard error, without a terminal.
fn plain(args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zibrato"));
    let output = command.args(args).env_clear().stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn without_a_terminal_it_names_what_to_use_and_ends_with_2() {
    let (code, out, err) = plain(&["top"]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    let expected = "zibrato top: error: top draws on a terminal and standard input is none: use zibrato top --once, or zibrato tap\n";
    assert_eq!(err, expected);
    // A terminal that knows no control sequences is none.
    let (status, ended) = Pty::start(ZIBRATO, &["top"], (80, 24), &[("TERM", "dumb")]).end();
    assert_eq!(status.exit_code(), 2);
    assert!(ended.screen.contains("standard output is none"), "{}", ended.screen);
}

#[test]
fn once_prints_one_plain_table_into_a_pipe() {
    let port = bus().port.to_string();
    let (code, out, err) = plain(&["top", "--port", &port, "--once", "--seconds", "3"]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert!(!out.contains('\x1b') && out.starts_with("NAME "), "{out}");
    let line = |name| out.lines().find(|line| line.starts_with(name)).map(figures).unwrap_or_default();
    assert_eq!(line("test.hits").last().map(String::as_str), Some("info"), "{out}");
    assert!(!line("test.hits")[2].ends_with('M'), "not what was counted before: {out}");
    assert_eq!(line("test.depth{queue=a}")[3], "17", "{out}");
    assert!(line("test.work").contains(&"ms".to_owned()), "{out}");
    assert!(out.lines().last().unwrap().ends_with("lost 0  law holds"), "{out}");
}

#[test]
fn once_without_a_broker_fails_with_what_to_do() {
    let port = Bus::free_pair();
    let (code, out, err) = plain(&["top", "--port", &port.to_string(), "--once", "--seconds", "1"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    let workers = port + 1;
    let expected = format!(
        "zibrato top: error: no broker at tcp://127.0.0.1:{workers} within 1 s; start one with `zibrato up`, or check --host and --port (the publishers' port; workers connect to the next one)\n"
    );
    assert_eq!(err, expected);
}

#[test]
fn a_reader_that_went_away_is_no_error() {
    let port = bus().port.to_string();
    let mut child = Command::new(env!("CARGO_BIN_EXE_zibrato"))
        .args(["top", "--port", &port, "--once", "--seconds", "1"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap()), (Some(0), String::new()));
}
