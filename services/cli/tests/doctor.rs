//! `zibrato doctor` against real services, well and unwell.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

#[path = "support/bus.rs"]
mod bus;
#[path = "support/pty.rs"]
mod pty;

use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use zibrato_std::{Client, Counter, Level};

use bus::Bus;
use pty::{Pty, colour_sequences};

const ZIBRATO: &str = env!("CARGO_BIN_EXE_zibrato");
/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(60);
/// How long doctor may take.
const DOCTOR_MAX: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

static TICKS: Counter = Counter::new("doctor.ticks", Level::INFO);
static AUDITS: Counter = Counter::new("doctor.audits", Level::new("audit"));

/// What doctor said.
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Said {
    /// The line about `check` of the service whose heading starts with `about`, and the line after it.
    fn finding(&self, about: &str, check: &str) -> (String, String) {
        let mut lines = self.out.lines().skip_while(|line| !line.starts_with(about)).skip(1);
        let label = format!("{check}  ");
        let line = lines.find(|line| line.get(8..).is_some_and(|rest| rest.starts_with(&label)));
        let line = line.unwrap_or_else(|| panic!("no {check} of {about} in:\n{}", self.out));
        (line.trim().to_owned(), lines.next().unwrap_or_default().trim().to_owned())
    }

    /// Asserts that a check has this state and says this, and what is advised if something is.
    fn assert_finding(&self, about: &str, check: &str, state: &str, text: &str, advice: &str) {
        let (line, next) = self.finding(about, check);
        assert!(
            line.starts_with(state) && line.contains(text),
            "{line}, not {state} {text}, in:\n{}",
            self.out
        );
        assert!(
            next.contains(advice) && (advice.is_empty() || next.starts_with("->")),
            "{next}, not {advice}"
        );
    }
}

struct Doctor {
    port: u16,
    broker: Option<SocketAddr>,
    worker: Option<SocketAddr>,
    local: Option<SocketAddr>,
}

impl Doctor {
    fn args(&self) -> Vec<String> {
        let text = |addr: Option<SocketAddr>| addr.map_or_else(|| "none".to_owned(), |addr| addr.to_string());
        let port = self.port.to_string();
        let flags = ["doctor", "--port", &port].map(str::to_owned);
        let more = [("--broker-status", self.broker), ("--worker", self.worker), ("--local", self.local)];
        let more = more.into_iter().flat_map(|(flag, addr)| [flag.to_owned(), text(addr)]);
        flags.into_iter().chain(more).collect()
    }

    fn run(&self, more: &[&str]) -> Said {
        let began = Instant::now();
        let mut command = Command::new(ZIBRATO);
        let output = command.args(self.args()).args(more).env_clear().stdin(Stdio::null()).output().unwrap();
        assert!(began.elapsed() < DOCTOR_MAX, "took {:?}", began.elapsed());
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let said = Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) };
        assert!(!said.out.contains('\x1b'), "a pipe is plain: {}", said.out);
        said
    }

    /// Runs it until it says what is expected, because services need a moment.
    fn run_until(&self, expected: impl Fn(&Said) -> bool) -> Said {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let said = self.run(&[]);
            if expected(&said) {
                return said;
            }
            assert!(Instant::now() < deadline, "{}{}", said.out, said.err);
            thread::sleep(LOOK_AGAIN);
        }
    }
}

/// A real client that counts at two levels. There is one in a process, so one test has it.
fn publish(port: u16) -> Client {
    let client =
        Client::builder().port(port).source("bench").window(Duration::from_millis(100)).build().unwrap();
    TICKS.add(1);
    AUDITS.add(1);
    thread::spawn(|| {
        loop {
            TICKS.add(1);
            thread::sleep(Duration::from_millis(20));
        }
    });
    client
}

#[test]
fn with_everything_well_it_says_so_and_then_what_goes_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let bus = Bus::start();
    let local = bus.start_local(&directory.path().join("local.db"));
    let worker = bus.start_worker(local, &["info", "audit"], &directory.path().join("well"));
    let client = publish(bus.port);
    let doctor =
        Doctor { port: bus.port, broker: Some(bus.status), worker: Some(worker), local: Some(local) };

    let signs = ["0 failed, 0 warnings", "took a batch", "1 of 1 known run", "levels audit, info"];
    let said = doctor.run_until(|said| signs.iter().all(|sign| said.out.contains(sign)));
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    said.assert_finding("broker", "forwarding", "ok", "a message comes back in", "");
    said.assert_finding("broker", "law", "ok", "the numbers of 1 account add up", "");
    said.assert_finding("broker", "publishers", "ok", "1 publisher", "");
    said.assert_finding("broker", "subscriptions", "ok", "levels audit, info", "");
    said.assert_finding("worker", "broker", "ok", "connected to tcp://127.0.0.1:", "");
    said.assert_finding("worker", "backend", "ok", "took a batch", "");
    said.assert_finding("worker", "publishers", "ok", "1 of 1 known run", "");
    said.assert_finding("local", "status", "ok", "version", "");
    said.assert_finding("local", "database", "ok", "metrics in", "");
    said.assert_finding("local", "disk", "ok", "free for the database", "");
    let headings: Vec<_> = said.out.lines().filter(|line| !line.starts_with(' ')).collect();
    assert_eq!(headings[..headings.len() - 1], ["broker", &format!("worker {worker}"), "local"]);

    // The same as JSON.
    let json: Value = serde_json::from_str(&doctor.run(&["--json"]).out).unwrap();
    assert_eq!((json["ok"].as_bool(), json["failed"].as_u64()), (Some(true), Some(0)));
    assert!(json["findings"].as_array().unwrap().len() > 15 && json["took_ms"].as_u64().unwrap() < 10_000);

    // On a terminal it is coloured unless NO_COLOR says otherwise.
    let args = doctor.args();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    for (env, expected) in [(&[][..], true), (&[("NO_COLOR", "1")], false)] {
        let (status, ended) = Pty::start(ZIBRATO, &args, (120, 50), env).end();
        assert!(status.success() && ended.screen.contains("0 failed"), "{}", ended.screen);
        assert_eq!(!colour_sequences(&ended.bytes).is_empty(), expected, "{env:?}");
    }

    // A second worker whose backend is dead: its spool grows.
    let dead = bus.start_worker(Bus::closed(), &["info"], &directory.path().join("dead"));
    let unwell = Doctor { worker: Some(dead), ..doctor };
    let said = unwell
        .run_until(|said| said.out.contains("does not take batches") && !said.out.contains(" 0 batches"));
    assert_eq!(said.code, Some(1));
    said.assert_finding("worker", "backend", "FAIL", "does not take batches", "batches wait on disk");
    said.assert_finding("worker", "spool", "ok", "the oldest", "");
    // Nobody posts to local now, as far as the worker that was asked says.
    assert!(
        said.err.starts_with("zibrato doctor: error: 1 of ") && said.err.lines().count() == 1,
        "{}",
        said.err
    );
    let batches = |said: &Said| -> u64 {
        let (line, _) = said.finding("worker", "spool");
        line.split_whitespace().nth(2).unwrap().parse().unwrap()
    };
    let before = batches(&said);
    unwell.run_until(|said| batches(said) > before);

    // A program that ended is no fault, and its last word is there.
    assert!(client.shutdown(Duration::from_secs(10)).is_some());
    let well = Doctor { worker: Some(worker), ..unwell };
    let said = well.run_until(|said| said.out.contains("none runs (1 publisher ended)"));
    assert_eq!(said.code, Some(0), "a warning alone is no failure: {}", said.out);
    said.assert_finding("broker", "publishers", "warn", "none runs", "start an instrumented program");
}

#[test]
fn a_level_that_is_published_and_nobody_listens_to_is_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    let (port, data) = (Bus::free_pair().to_string(), directory.path().to_str().unwrap());
    let args = [
        "up",
        "--demo",
        "--port",
        &port,
        "--listen",
        "127.0.0.1:0",
        "--http",
        "127.0.0.1:0",
        "--levels",
        "error",
        "--data",
        data,
    ];
    let mut up = Pty::start(ZIBRATO, &args, (120, 40), &[]);
    up.wait_for_text("stop with Ctrl-C");
    let printed = |label: &str| -> Option<SocketAddr> {
        let line = up.line(label)?;
        line.split_once("http://")?.1.split('/').next()?.parse().ok()
    };
    let doctor = Doctor {
        port: port.parse().unwrap(),
        broker: printed("broker's status"),
        worker: printed("worker's status"),
        local: None,
    };
    assert!(doctor.broker.is_some() && doctor.worker.is_some(), "{}", up.screen());
    let said = doctor.run_until(|said| said.out.contains("unheard levels"));
    assert_eq!(said.code, Some(0), "{}", said.out);
    said.assert_finding("broker", "unheard levels", "warn", "nobody listens: info", "--levels of a worker");
    said.assert_finding("broker", "subscriptions", "ok", "levels error", "");
    up.press("\x03");
    up.end();
}

#[test]
fn without_a_broker_the_ports_and_the_worker_fail_with_what_to_do() {
    let doctor = Doctor {
        port: Bus::free_pair(),
        broker: Some(Bus::closed()),
        worker: Some(Bus::closed()),
        local: Some(Bus::closed()),
    };
    let said = doctor.run(&[]);
    assert_eq!(said.code, Some(1));
    said.assert_finding("broker", "publishers' port", "FAIL", "Connection refused", "start zibrato up");
    said.assert_finding("broker", "workers' port", "FAIL", "Connection refused", "start zibrato up");
    // Addresses that are given have to answer.
    said.assert_finding("broker", "status", "FAIL", "cannot connect to", "--broker-status");
    said.assert_finding("worker", "status", "FAIL", "cannot connect to", "start a worker");
    said.assert_finding("local", "status", "FAIL", "cannot connect to", "start zibrato-local");
    assert!(!said.out.contains("forwarding"), "{}", said.out);
    let expected = "zibrato doctor: error: 5 of 5 checks failed; the lines marked FAIL say what to do\n";
    assert_eq!(said.err, expected);
    let json = doctor.run(&["--json"]);
    let value: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((json.code, value["ok"].as_bool(), value["failed"].as_u64()), (Some(1), Some(false), Some(5)));
    assert_eq!(value["findings"][0]["state"], "fail");
}

#[test]
fn a_broker_without_a_worker_forwards_but_nothing_is_stored() {
    let bus = Bus::start();
    let doctor =
        Doctor { port: bus.port, broker: Some(bus.status), worker: Some(Bus::closed()), local: None };
    let said = doctor.run(&[]);
    assert_eq!(said.code, Some(1));
    said.assert_finding("broker", "forwarding", "ok", "a message comes back in", "");
    said.assert_finding("broker", "subscriptions", "FAIL", "no worker is subscribed", "start a worker");
    said.assert_finding("broker", "publishers", "warn", "none runs", "start an instrumented program");
    said.assert_finding("worker", "status", "FAIL", "Connection refused", "without one nothing is stored");
}

#[test]
fn another_service_on_a_port_is_told_apart() {
    let bus = Bus::start();
    // The workers' port in place of the publishers': the next one is closed, as a rule.
    let swapped = Doctor { port: bus.port + 1, broker: Some(bus.status), worker: None, local: None };
    let said = swapped.run(&[]);
    assert_eq!(said.code, Some(1));
    said.assert_finding(
        "broker",
        "publishers' port",
        "FAIL",
        "is the other port of a broker (XPUB)",
        "give the port for publishers",
    );
    said.assert_finding("broker", "identity", "warn", "another broker", "two brokers run");

    // Programs that speak something else, or another ZeroMQ.
    let port = Bus::free_pair();
    let _silent = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let context = zmq::Context::new();
    let router = context.socket(zmq::ROUTER).unwrap();
    router.bind(&format!("tcp://127.0.0.1:{}", port + 1)).unwrap();
    // A broker's status in place of a worker's and of local's.
    let doctor = Doctor { port, broker: None, worker: Some(bus.status), local: Some(bus.status) };
    let said = doctor.run(&[]);
    assert_eq!(said.code, Some(1));
    said.assert_finding("broker", "publishers' port", "FAIL", "does not speak ZeroMQ", "stop that program");
    said.assert_finding(
        "broker",
        "workers' port",
        "FAIL",
        "is a ZeroMQ ROUTER socket",
        "another program uses this port",
    );
    said.assert_finding("broker", "status", "ok", "not asked", "");
    said.assert_finding("worker", "status", "FAIL", "is another service, not a worker", "--worker");
    said.assert_finding("local", "status", "FAIL", "is another service, not zibrato-local", "--local");
}

#[test]
fn services_that_hang_do_not_hang_doctor() {
    let port = Bus::free_pair();
    // They take connections and say nothing.
    let silent: Vec<_> =
        [port, port + 1, 0, 0].map(|port| TcpListener::bind(("127.0.0.1", port)).unwrap()).into();
    let [broker, worker] = [2, 3].map(|at: usize| silent[at].local_addr().ok());
    let said = Doctor { port, broker, worker, local: worker }.run(&[]);
    assert_eq!(said.code, Some(1));
    said.assert_finding("broker", "publishers' port", "FAIL", "does not speak ZeroMQ", "stop that program");
    said.assert_finding("broker", "status", "FAIL", "no answer from", "--broker-status");
    said.assert_finding("worker", "status", "FAIL", "no answer from", "start a worker");
    said.assert_finding("local", "status", "FAIL", "no answer from", "start zibrato-local");
}

#[test]
fn a_local_that_wants_a_token_is_there_all_the_same() {
    let (bus, directory) = (Bus::start(), tempfile::tempdir().unwrap());
    let listen = "127.0.0.1:0".parse().unwrap();
    let mut config = zibrato_local::Config::new(listen, directory.path().join("local.db"));
    config.token = Some(zibrato_local::Token::new("opensesame").unwrap());
    let local = bus.start_local_with(config);
    let worker = bus.start_worker(local, &["info"], &directory.path().join("spool"));
    let said = Doctor { port: bus.port, broker: None, worker: Some(worker), local: Some(local) }.run(&[]);
    said.assert_finding("local", "status", "warn", "wants a token", "with --token-file");

    let doctor = Doctor { port: bus.port, broker: None, worker: Some(worker), local: Some(local) };
    let token = directory.path().join("token");
    std::fs::write(&token, "another\n").unwrap();
    let flags = ["--token-file", token.to_str().unwrap()];
    doctor.run(&flags).assert_finding("local", "status", "warn", "or another one", "with --token-file");
    std::fs::write(&token, "opensesame\n").unwrap();
    let said = doctor.run(&flags);
    said.assert_finding("local", "status", "ok", "version", "");
    said.assert_finding("local", "database", "ok", "metrics in", "");
    // From the environment as well, as query takes it.
    let mut command = Command::new(ZIBRATO);
    command.args(doctor.args()).env_clear().env("ZIBRATO_TOKEN_FILE", &token).stdin(Stdio::null());
    let out = String::from_utf8(command.output().unwrap().stdout).unwrap();
    assert!(out.contains("metrics in") && !out.contains("opensesame"), "{out}");
}

#[test]
fn a_second_program_on_a_port_is_a_warning() {
    let bus = Bus::start();
    let _other = TcpListener::bind(("127.0.0.2", bus.port)).unwrap();
    let doctor = Doctor { port: bus.port, broker: Some(bus.status), worker: None, local: None };
    let text = format!("2 programs listen on port {}", bus.port);
    doctor.run(&[]).assert_finding("broker", "listeners", "warn", &text, "stop one");
}

#[test]
fn a_broker_is_looked_at_by_its_name() {
    let bus = Bus::start();
    let doctor = Doctor { port: bus.port, broker: None, worker: None, local: None };
    let said = doctor.run(&["--host", "localhost"]);
    assert_eq!(said.code, Some(0), "{}", said.out);
    said.assert_finding("broker", "forwarding", "ok", "a message comes back in", "");
}

#[test]
fn bad_usage_ends_with_2() {
    for args in [&["doctor", "--port", "0"][..], &["doctor", "--worker", "here"], &["doctor", "--jason"]] {
        let output = Command::new(ZIBRATO).args(args).env_clear().output().unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{args:?}");
    }
}

#[test]
fn a_reader_that_went_away_changes_no_exit_code() {
    let bus = Bus::start();
    let failed = "zibrato doctor: error: 1 of ";
    for (worker, code, error) in [(None, 0, ""), (Some(Bus::closed()), 1, failed)] {
        let doctor = Doctor { port: bus.port, broker: None, worker, local: None };
        let mut child = Command::new(ZIBRATO)
            .args(doctor.args())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.starts_with(error) && said.is_empty() == error.is_empty(), "{said}");
    }
}
