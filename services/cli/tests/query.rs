//! `zibrato query` against a real zibrato-local.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

#[path = "support/bus.rs"]
mod bus;
#[path = "support/pty.rs"]
mod pty;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tempfile::TempDir;

use bus::Bus;
use pty::{Pty, colour_sequences};

const ZIBRATO: &str = env!("CARGO_BIN_EXE_zibrato");

/// A receiver with an hour of three metrics, one point a minute and source.
struct Stored {
    local: SocketAddr,
    /// The beginning of the oldest minute.
    start_s: u64,
    _bus: Bus,
    _directory: TempDir,
}

const MINUTES: u64 = 50;

fn stored() -> Stored {
    let (bus, directory) = (Bus::start(), tempfile::tempdir().unwrap());
    let local = bus.start_local(&directory.path().join("local.db"));
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let start_s = now_s / 60 * 60 - MINUTES * 60;
    for minute in 0..MINUTES {
        let time = start_s + minute * 60;
        let counter = |source: &str, value: u64| {
            json!({ "name": "web.Requests", "source": source, "measure_time": time, "value": value,
                    "origin": { "kind": "counter", "levels": ["info"] } })
        };
        // 99 durations of about 1 ms and one of about 8 ms: buckets of scale 0 begin at powers of 2.
        let timer = json!({
            "name": "web.latency", "source": "web1", "measure_time": time, "count": 100, "sum": 0.107,
            "min": 0.001, "max": 0.008, "sum_squares": 0.000_163,
            "buckets": { "scale": 0, "zero": 0, "offset": -10, "counts": [99, 0, 0, 1] },
            "origin": { "kind": "timer", "levels": ["debug"], "unit": "s" },
        });
        let gauge = json!({ "name": "queue.depth", "source": "web1", "measure_time": time, "value": minute as f64 - 10.0 });
        post(local, &json!({ "gauges": [counter("web1", 60), counter("web2", minute), timer, gauge] }));
    }
    Stored { local, start_s, _bus: bus, _directory: directory }
}

fn post(local: SocketAddr, body: &Value) {
    let body = body.to_string();
    let mut stream = TcpStream::connect(local).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    write!(
        stream,
        "POST /v1/metrics HTTP/1.1\r\nHost: {local}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// Exit code, standard output and standard error.
type Said = (Option<i32>, String, String);

fn run(args: &[&str]) -> Said {
    let mut command = Command::new(ZIBRATO);
    let output = command.arg("query").args(args).env_clear().stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn query(local: SocketAddr, args: &[&str]) -> Said {
    let url = format!("http://{local}");
    run(&[args, &["--url", &url]].concat())
}

/// As [`query`], for what has to succeed.
fn answer(local: SocketAddr, args: &[&str]) -> String {
    let (code, out, err) = query(local, args);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert!(!out.contains('\x1b'), "a pipe is plain: {out}");
    out
}

fn words<'a>(text: &'a str, start: &str) -> Vec<&'a str> {
    let line =
        text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("no {start} in {text}"));
    line.split_whitespace().collect()
}

#[test]
fn what_is_stored_comes_as_table_csv_and_json() {
    let stored = stored();
    let local = stored.local;

    // A counter: totals and rates, by source, whatever the case of the name.
    let table = answer(local, &["WEB.requests", "--last", "1h"]);
    assert!(table.starts_with("web.Requests  counter  levels info  60 steps of 60 s\n"), "{table}");
    assert_eq!(words(&table, "SOURCE"), ["SOURCE", "TOTAL", "MEAN/s", "MAX/s", "RATE"]);
    // 50 minutes of 60, and the sum of 0 to 49; of an hour, so that the mean is lower than 1.
    let first = words(&table, "web1");
    assert_eq!((first[1], words(&table, "web2")[1]), ("3.00k", "1.23k"), "{table}");
    assert_eq!(first[3], "1", "{table}");
    assert!(first[4].contains('█'), "{table}");
    assert!(!answer(local, &["web.requests", "--source", "*2"]).contains("web1"));

    // A gauge of somebody who says no more about it.
    let table = answer(local, &["queue.depth"]);
    assert!(table.starts_with("queue.depth  gauge  60 steps"), "{table}");
    assert_eq!(words(&table, "web1")[..6], ["web1", "39", "-10", "14.5", "39", "50"], "{table}");

    // A timer: percentiles out of buckets.
    let table = answer(local, &["web.latency"]);
    let line = words(&table, "web1");
    assert_eq!(line[1], "5.00k", "{table}");
    assert_eq!(words(&table, "SOURCE")[3..], ["p50", "p95", "p99", "MAX", "p99"]);
    // The bucket from 1/1024 to 1/512 s is told by its middle.
    assert_eq!(line[3..11], ["1.30", "ms", "1.30", "ms", "1.30", "ms", "8.00", "ms"], "{table}");

    let csv = answer(local, &["web.latency", "--format", "csv", "--resolution", "60"]);
    let lines: Vec<_> = csv.lines().collect();
    assert_eq!((lines[0], lines.len()), ("time,source,value,count,sum,min,max,p50,p95,p99", 51));
    let row: Vec<_> = lines[1].split(',').collect();
    assert_eq!(
        (row[0].parse(), row[1], row[3], row[5], row[6]),
        (Ok(stored.start_s), "web1", "100", "0.001", "0.008")
    );

    let json: Value =
        serde_json::from_str(&answer(local, &["web.requests", "--format", "json", "--resolution", "300"]))
            .unwrap();
    let source = &json["sources"][1];
    assert_eq!((json["kind"].as_str(), json["resolution"].as_u64()), (Some("counter"), Some(300)));
    assert_eq!((source["source"].as_str(), source["sum"].as_f64()), (Some("web2"), Some(1_225.0)));
    let points: f64 =
        source["points"].as_array().unwrap().iter().map(|point| point["sum"].as_f64().unwrap()).sum();
    assert_eq!(points, 1_225.0);

    // A list of names, without the rest of the pattern and in any case.
    let list = answer(local, &["WEB.*"]);
    assert_eq!(words(&list, "web.Requests"), ["web.Requests", "counter", "info"]);
    assert_eq!(words(&list, "web.latency"), ["web.latency", "timer", "debug", "s"]);
    assert!(list.ends_with("\n2 metrics\n"), "{list}");
    // A pattern that nothing matches is as wrong as a name that nothing has, in every format.
    for format in ["table", "csv", "json"] {
        let (code, out, err) = query(local, &["*nothing*", "--format", format]);
        let expected = format!("zibrato query: error: no metric matches *nothing* at http://{local}/\n");
        assert_eq!((code, out.as_str(), err), (Some(1), "", expected));
    }

    // Nothing in the time asked for.
    let table = answer(local, &["queue.depth", "--last", "1s"]);
    assert!(table.ends_with("\nno points in this time\n"), "{table}");

    // A slip.
    let (code, out, err) = query(local, &["web.reqests"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    let expected = format!(
        "zibrato query: error: no metric \"web.reqests\" at http://{local}/; did you mean web.Requests?\n"
    );
    assert_eq!(err, expected);
    let (code, _, err) = query(local, &["zzz"]);
    assert!(code == Some(1) && err.ends_with("; list all with zibrato query '*'\n"), "{err}");

    // On a terminal it is coloured unless NO_COLOR says otherwise, and as wide as the terminal.
    let url = format!("http://{local}");
    let args = ["query", "web.requests", "--url", &url];
    for (env, expected) in [(&[][..], true), (&[("NO_COLOR", "1")], false)] {
        let (status, ended) = Pty::start(ZIBRATO, &args, (70, 24), env).end();
        assert!(status.success(), "{}", ended.screen);
        assert_eq!(!colour_sequences(&ended.bytes).is_empty(), expected, "{env:?}");
        let lines: Vec<_> = ended.screen.lines().collect();
        assert!(lines.iter().any(|line| line.starts_with("web1") && line.chars().count() <= 70), "{lines:?}");
    }

    // A reader that went away.
    let mut child =
        Command::new(ZIBRATO).args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
}

#[test]
fn more_than_a_page_is_read_to_its_end() {
    let (bus, directory) = (Bus::start(), tempfile::tempdir().unwrap());
    let local = bus.start_local(&directory.path().join("local.db"));
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    // A page has 10 000 measurements at most.
    for part in 0..25 {
        let points: Vec<_> = (0..1_000)
            .map(|i| {
                let (source, time) = (format!("s{:02}", i % 10), now_s - 1 - part * 100 - i / 10);
                json!({ "name": "big", "source": source, "measure_time": time, "value": 1 })
            })
            .collect();
        post(local, &json!({ "gauges": points }));
    }
    let json: Value = serde_json::from_str(&answer(
        local,
        &["big", "--last", "1h", "--resolution", "1", "--format", "json"],
    ))
    .unwrap();
    let sources = json["sources"].as_array().unwrap();
    let count: usize = sources.iter().map(|source| source["points"].as_array().unwrap().len()).sum();
    assert_eq!((sources.len(), count, json["is_cut"].as_bool()), (10, 25_000, Some(false)));
    for source in sources {
        let times: Vec<_> =
            source["points"].as_array().unwrap().iter().map(|point| point["time"].as_u64()).collect();
        assert!(times.is_sorted_by(|a, b| a < b), "each once and in order");
    }
}

#[test]
fn without_a_server_it_says_how_to_start_one() {
    let closed = Bus::closed();
    let (code, out, err) = query(closed, &["x"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    let expected = format!(
        "zibrato query: error: no zibrato-local at http://{closed}/: start one with zibrato up or zibrato-local, or give --url ("
    );
    assert!(err.starts_with(&expected) && err.lines().count() == 1, "{err}");
}

/// A server that gives every request the same answer.
fn scripted(answer: &str) -> SocketAddr {
    let answer = answer.to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 65_536]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    addr
}

#[test]
fn what_another_server_says_is_told_in_one_line() {
    let cases = [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "does not answer as zibrato-local does"),
        (
            "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 9\r\n\r\n<b>no</b>",
            "answers 502 Bad Gateway: <b>no</b>",
        ),
        (
            "HTTP/1.1 400 Bad Request\r\nContent-Length: 43\r\n\r\n{\"errors\":{\"params\":{\"source\":[\"is bad\"]}}}",
            "answers 400 Bad Request: source is bad",
        ),
        ("HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", "answers 301"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{", "did not answer"),
        ("SSH-2.0-OpenSSH\r\n", "did not answer"),
    ];
    for (answer, expected) in cases {
        let (code, out, err) = query(scripted(answer), &["x"]);
        assert_eq!((code, out.as_str(), err.lines().count()), (Some(1), "", 1), "{err}");
        assert!(err.contains(expected), "{err}");
    }
}

#[test]
fn an_answer_that_is_too_long_is_refused_with_how_to_get_a_shorter_one() {
    let most = 64 * 1024 * 1024;
    let local = scripted(&format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}", " ".repeat(most + 1)));
    let (code, out, err) = query(local, &["x"]);
    let expected = format!(
        "zibrato query: error: the answer of http://{local}/ exceeds the limit of {most} bytes: give a shorter --last, a longer --resolution or a --source\n"
    );
    assert_eq!((code, out.as_str(), err), (Some(1), "", expected));
}

#[test]
fn a_token_is_read_from_a_file_and_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, "opensesame\n").unwrap();
    let (bus, listen) = (Bus::start(), "127.0.0.1:0".parse().unwrap());
    let mut config = zibrato_local::Config::new(listen, directory.path().join("local.db"));
    config.token = Some(zibrato_local::Token::new("opensesame").unwrap());
    let local = bus.start_local_with(config);
    let (code, _, err) = query(local, &["*"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("wants a token: give the file that holds it with --token-file"), "{err}");
    let other = directory.path().join("other");
    std::fs::write(&other, "abracadabra\n").unwrap();
    let (code, _, err) = query(local, &["*", "--token-file", other.to_str().unwrap()]);
    let expected = format!(
        "zibrato query: error: http://{local}/ does not accept the token of --token-file: give that of this zibrato-local\n"
    );
    assert_eq!((code, err), (Some(1), expected));
    let token = token.to_str().unwrap();
    let (_, _, err) = query(local, &["*", "--token-file", token]);
    assert!(err.contains("no metric matches * at "), "{err}");

    // It is not sent where others can read it.
    let (code, out, err) = run(&["x", "--url", "http://192.0.2.1:5580", "--token-file", token]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(err.contains("sends the token readable over the network"), "{err}");
    let (code, _, err) = run(&["x", "--token-file", "/nowhere"]);
    assert!(code == Some(2) && err.contains("cannot read the token file /nowhere"), "{err}");
    assert!(!err.contains("opensesame"));
}

#[test]
fn bad_usage_ends_with_2_and_says_what_is_accepted() {
    for (args, expected) in [
        (&["a b"][..], "1 to 255 of A-Z"),
        (&["x", "--last", "soon"], "1 s to 366 d"),
        (&["x", "--resolution", "0"], "1 to 604800"),
        (&["x", "--url", "localhost"], "http://127.0.0.1:5580"),
        (&["x", "--format", "xml"], "table, csv, json"),
        (&[], "<NAME>"),
    ] {
        let (code, out, err) = run(args);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{args:?}");
        assert!(err.contains(expected), "{err}");
    }
}
