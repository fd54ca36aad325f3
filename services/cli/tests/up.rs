//! `zibrato up` as a process of its own: what it prints, where it listens, how it ends.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(60);
/// Pause between two looks at a condition.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zibrato"));
    command.args(args).env_clear().stdin(Stdio::null());
    command
}

/// The exit code and all of stderr.
fn failure(args: &[&str]) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = command(args).output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

/// A running `zibrato up`; it is killed when this is dropped.
struct Up {
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
    text: String,
    stderr: Option<JoinHandle<String>>,
}

impl Up {
    /// Starts it on free ports and reads what it prints up to the line that says how to stop it.
    fn start(data: &Path, more: &[&str]) -> Self {
        let data = data.to_str().unwrap();
        let args = ["up", "--port", "0", "--listen", "127.0.0.1:0", "--data", data];
        let mut command = command(&[&args, more].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = child.stderr.take().unwrap();
        let stderr = thread::spawn(move || {
            let mut text = String::new();
            log.read_to_string(&mut text).unwrap();
            text
        });
        let stdout = child.stdout.take().map(BufReader::new);
        let mut up = Self { child, stdout, text: String::new(), stderr: Some(stderr) };
        up.read_to("stop with Ctrl-C");
        up
    }

    /// Reads lines up to one with this text.
    fn read_to(&mut self, text: &str) {
        loop {
            let begin = self.text.len();
            if self.stdout.as_mut().unwrap().read_line(&mut self.text).unwrap() == 0 {
                let stderr = self.stderr.take().unwrap().join().unwrap();
                panic!("ended before '{text}': {}{stderr}", self.text);
            }
            if self.text[begin..].contains(text) {
                return;
            }
        }
    }

    /// What the banner says behind a label.
    fn printed(&self, label: &str) -> String {
        let (_, rest) = self.text.split_once(label).unwrap_or_else(|| panic!("{label} in {}", self.text));
        rest.lines().next().unwrap().trim().to_owned()
    }

    fn api(&self) -> String {
        let url = self.printed("metrics API");
        url.strip_prefix("http://").unwrap().strip_suffix("/v1/metrics").unwrap().to_owned()
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Closes its standard output, as `head` does; the exit code and the log.
    fn hang_up(mut self) -> (Option<i32>, String) {
        // The other end of the pipe is closed when this reader is dropped.
        self.stdout = None;
        let code = self.child.wait().unwrap().code();
        (code, self.stderr.take().unwrap().join().unwrap())
    }

    /// Sends SIGTERM; the exit code, everything printed and the log.
    fn stop(mut self) -> (Option<i32>, String, String) {
        self.signal("-TERM");
        let mut text = std::mem::take(&mut self.text);
        self.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        let code = self.child.wait().unwrap().code();
        (code, text, self.stderr.take().unwrap().join().unwrap())
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(addr: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
    body.to_owned()
}

/// Looks again until there is something.
fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "no {what} within {DEADLINE:?}");
        thread::sleep(LOOK_AGAIN);
    }
}

/// All points of a metric by source; `None` as long as there are none.
fn points(api: &str, name: &str) -> Option<Vec<(String, Vec<Value>)>> {
    let names: Value = serde_json::from_str(&get(api, &format!("/v1/metrics?name={name}"))).unwrap();
    let is_known = names["metrics"].as_array().unwrap().iter().any(|metric| metric["name"] == name);
    if !is_known {
        return None;
    }
    let answer: Value = serde_json::from_str(&get(api, &format!("/v1/metrics/{name}?count=100"))).unwrap();
    let sources = answer["measurements"].as_object().unwrap().clone();
    let sources: Vec<_> =
        sources.into_iter().map(|(source, points)| (source, points.as_array().unwrap().clone())).collect();
    (!sources.is_empty()).then_some(sources)
}

/// The number behind `key` in the first brackets behind `what` in a line.
fn amount(line: &str, what: &str, key: &str) -> f64 {
    let (_, rest) = line.split_once(&format!("{what} [")).unwrap_or_else(|| panic!("{what} in {line}"));
    let mut words = rest.split(']').next().unwrap().split(' ').skip_while(|word| *word != key);
    words.nth(1).unwrap_or_else(|| panic!("{key} in {line}")).parse().unwrap()
}

#[test]
fn the_demo_arrives_in_the_store_and_the_end_accounts_for_every_measurement() {
    let directory = tempfile::tempdir().unwrap();
    let mut up = Up::start(directory.path(), &["--demo", "--http", "127.0.0.1:0"]);
    let api = up.api();
    assert!(up.text.contains(&format!("curl 'http://{api}/v1/metrics'")), "{}", up.text);
    assert_eq!(up.printed("look at your metrics"), format!("http://{api}/"));
    assert!(up.printed("publishers connect to").starts_with("tcp://127.0.0.1:"));
    assert!(up.printed("workers connect to").starts_with("tcp://127.0.0.1:"));
    assert_eq!(up.printed("  data"), directory.path().to_str().unwrap());

    for name in ["demo.requests", "demo.request", "demo.db.query", "demo.cache.get", "demo.sent.bytes"] {
        wait_for(name, || points(&api, name));
    }
    // On demand, and on because the worker subscribes to debug.
    wait_for("demo.render", || points(&api, "demo.render"));
    // A tag becomes a part of the source.
    let responses = wait_for("responses of each route", || {
        points(&api, "demo.responses").filter(|sources| sources.len() >= 3)
    });
    assert!(responses.iter().all(|(source, _)| source.starts_with("demo:route.")), "{responses:?}");
    let (source, temperature) = wait_for("temperature", || points(&api, "demo.temperature")).remove(0);
    assert!(source == "roof" && temperature[0]["value"].as_f64().unwrap() < 21.0, "{temperature:?}");

    for (label, metric) in [
        ("broker's status", "zibrato_broker_received_total"),
        ("worker's status", "zibrato_worker_flushes_total"),
    ] {
        let status = up.printed(label);
        let addr = status.strip_prefix("http://").and_then(|url| url.strip_suffix("/metrics")).unwrap();
        assert_eq!(get(addr, "/healthz"), "ok\n", "{label}");
        assert!(get(addr, "/metrics").contains(metric), "{label}");
    }
    // Somebody has to stop somewhere: a status with a timer of the last flush.
    up.read_to("slowest demo.");
    let line = up.text.lines().last().unwrap().to_owned();
    assert!(line.starts_with("recorded ") && line.contains(" refused 0  dropped 0 "), "{line}");
    assert!(!up.text.contains('\u{1b}') && !up.text.contains('\r'), "{:?}", up.text);

    let (code, text, log) = up.stop();
    assert_eq!(code, Some(0), "{text}{log}");
    assert_eq!(log, "", "{text}");
    let account = |part: &str| {
        let line = text.lines().rfind(|line| line.starts_with(part));
        line.unwrap_or_else(|| panic!("{part} in {text}")).to_owned()
    };
    let parts = ["demo ", "broker ", "worker ", "local "].map(account);
    for line in &parts {
        assert!(line.ends_with(": law holds"), "{line}");
    }
    let [demo, _, worker, local] = parts;
    // To the unit, over all stages: what the demo's client recorded is what the store took.
    for (of_client, of_worker) in [("counters", "counter_sum"), ("timers", "timer_records")] {
        let recorded = amount(&demo, "accepted", of_client);
        assert!(recorded > 0.0, "{demo}");
        assert_eq!(amount(&demo, "delivered", of_client), recorded, "{demo}");
        assert_eq!(amount(&worker, "delivered", of_worker), recorded, "{demo}\n{worker}");
    }
    let stored = format!("= accepted {} + refused 0: law holds", amount(&worker, "delivered", "points"));
    assert!(local.ends_with(&stored), "{local}\n{worker}");
    assert!(directory.path().join("local.db").is_file() && directory.path().join("spool").is_dir());
}

#[test]
fn a_second_start_finds_the_metrics_of_the_first_one() {
    let directory = tempfile::tempdir().unwrap();
    let up = Up::start(directory.path(), &["--demo", "--no-http"]);
    assert_eq!(up.printed("broker's status"), "off");
    wait_for("demo.requests", || points(&up.api(), "demo.requests"));
    assert_eq!(up.stop().0, Some(0));
    let up = Up::start(directory.path(), &["--no-http"]);
    assert!(points(&up.api(), "demo.requests").is_some());
    let (code, text, _) = up.stop();
    assert!(code == Some(0) && !text.contains("demo "), "{text}");
}

#[test]
fn a_second_signal_ends_at_once_and_the_numbers_add_up_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let up = Up::start(directory.path(), &["--demo", "--no-http"]);
    wait_for("demo.requests", || points(&up.api(), "demo.requests"));
    up.signal("-INT");
    let (code, text, log) = up.stop();
    assert_eq!(code, Some(0), "{text}{log}");
    assert!(text.contains("law holds") && !text.contains("law does not hold"), "{text}");
}

#[test]
fn a_reader_that_went_away_ends_it_in_order_and_quietly() {
    let directory = tempfile::tempdir().unwrap();
    let up = Up::start(directory.path(), &["--demo", "--no-http"]);
    wait_for("demo.requests", || points(&up.api(), "demo.requests"));
    let (code, log) = up.hang_up();
    assert_eq!((code, log.as_str()), (Some(0), ""));
    // What was on its way was stored: the spool holds nothing that the next start would have to send.
    let up = Up::start(directory.path(), &[]);
    let (code, text, _) = up.stop();
    let worker = text.lines().rfind(|line| line.starts_with("worker")).unwrap();
    assert!(code == Some(0) && worker.contains("restored [points 0"), "{text}");
}

#[test]
fn a_busy_port_is_one_line_that_names_the_flag_and_exit_code_1() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let (listen, port) = (addr.to_string(), addr.port().to_string());
    let expect = |args: &[&str], expected: &str| {
        let (code, stderr) = failure(&[&["up", "--data", data], args].concat());
        assert_eq!((code, stderr.lines().count()), (Some(1), 1), "{stderr}");
        assert!(stderr.starts_with(expected), "{stderr}");
    };
    let lock = directory.path().join("up.lock");
    expect(
        &["--port", "0", "--listen", &listen, "--no-http"],
        &format!("zibrato up: error: cannot listen on --listen {listen}; give a free local address: "),
    );
    expect(
        &["--port", &port, "--listen", "127.0.0.1:0", "--no-http"],
        &format!("zibrato up: error: cannot listen on tcp://{listen}, as --host and --port {port} ask for"),
    );
    expect(
        &["--port", "0", "--listen", "127.0.0.1:0", "--http", &listen],
        &format!(
            "zibrato up: error: cannot listen on --http {listen}; give a free local address with --http"
        ),
    );
    assert!(!lock.exists(), "nothing was begun, so nothing is left");
    let _up = Up::start(directory.path(), &["--no-http"]);
    expect(
        &["--port", "0", "--listen", "127.0.0.1:0", "--no-http"],
        &format!(
            "zibrato up: error: the data directory {data} is in use by another zibrato up; give another one with --data"
        ),
    );
    assert!(lock.exists(), "it is that of the other one");
}

#[test]
fn bad_usage_is_exit_code_2_and_names_the_flag() {
    for args in [
        ["--port", "65536"],
        ["--port", "65535"],
        ["--host", "example.org"],
        ["--host", "10.0.0.1"],
        ["--listen", "0.0.0.0:1"],
        ["--http", "127.0.0.1:65535"],
        ["--levels", "a|b"],
        ["--window", "1"],
    ] {
        let (code, stderr) = failure(&[&["up", "--data", "/nonexistent/x"][..], &args].concat());
        assert!(code == Some(2) && stderr.contains(args[0]), "{args:?}: {code:?} {stderr}");
    }
    let (code, stderr) = failure(&["up"]);
    let expected =
        "zibrato up: error: no place for the data: XDG_STATE_HOME and HOME are unset; give --data DIR\n";
    assert_eq!((code, stderr.as_str()), (Some(2), expected));
    assert_eq!(failure(&["up", "--data", "/nonexistent/x", "--check-config"]), (Some(0), String::new()));
    assert_eq!(failure(&[]).0, Some(2));
}

#[test]
fn the_help_names_every_flag_with_its_default_and_unit() {
    let Output { status, stdout, .. } = command(&["up", "--help"]).output().unwrap();
    let help = String::from_utf8(stdout).unwrap();
    assert!(status.success());
    for text in [
        "--demo",
        "--host",
        "[default: 127.0.0.1]",
        "--port",
        "[default: 5550]",
        "--listen",
        "[default: 127.0.0.1:5580]",
        "--http",
        "127.0.0.1:5552",
        "--no-http",
        "--insecure-bind",
        "--levels",
        "[default: critical,error,warning,info,debug,trace]",
        "--data",
        "~/.local/state/zibrato/up",
        "--check-config",
        "500 ms",
        "Exit codes",
        "a second one ends at once",
    ] {
        assert!(help.contains(text), "{text} in {help}");
    }
}
