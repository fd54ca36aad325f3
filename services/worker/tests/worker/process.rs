//! The program itself: exit codes, SIGKILL, and where the token may not be.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio};
use std::time::Instant;

use crate::shutdown::get;
use crate::support::*;

const CANARY: &str = "canary-4711-token";

/// A program that does not outlive its test.
pub(crate) struct Program(Option<Child>);

impl Program {
    fn start(bus: &Bus, url: &str, spool: &Path, more: &[&str]) -> Self {
        let mut command = command();
        command
            .args(["--endpoint", &bus.endpoint, "--url", url, "--flush", "1", "--spool"])
            .arg(spool)
            .args(more);
        Self(Some(command.spawn().unwrap()))
    }

    pub(crate) fn of(mut command: Command) -> Self {
        Self(Some(command.spawn().unwrap()))
    }

    /// The end of its output, once.
    pub(crate) fn stdout(&mut self) -> ChildStdout {
        self.0.as_mut().unwrap().stdout.take().unwrap()
    }

    /// The end of its log, once.
    pub(crate) fn stderr(&mut self) -> ChildStderr {
        self.0.as_mut().unwrap().stderr.take().unwrap()
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.0.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Waits for the end.
    pub(crate) fn end(mut self) -> Output {
        let mut child = self.0.take().unwrap();
        let begun = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if begun.elapsed() > DEADLINE {
                child.kill().unwrap();
                panic!("the program did not end");
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        child.wait_with_output().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn command() -> Command {
    command_of(env!("CARGO_BIN_EXE_zibrato-librato"))
}

pub(crate) fn command_of(program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn usage_errors_end_with_2_and_failures_with_1_on_one_line() {
    let code = |output: &Output| output.status.code().unwrap();
    let bad = command().args(["--flush", "0"]).output().unwrap();
    assert_eq!(code(&bad), 2);
    let no_home = command().args(["--no-http"]).output().unwrap();
    assert!(code(&no_home) == 2 && text(&no_home).contains("--spool"), "{}", text(&no_home));
    let good = command().args(["--check-config", "--spool", "/nonexistent/x"]).output().unwrap();
    assert_eq!(code(&good), 0, "{}", text(&good));
    let file = tempfile::NamedTempFile::new().unwrap();
    let unwritable = command()
        .args(["--no-http", "--url", "http://127.0.0.1:1/", "--spool"])
        .arg(file.path())
        .output()
        .unwrap();
    assert_eq!((code(&unwritable), text(&unwritable).lines().count()), (1, 1), "{}", text(&unwritable));
}

#[test]
fn a_batch_whose_acknowledgement_a_kill_took_comes_again_with_the_same_id() {
    let (bus, receiver, directory) = (Bus::new(), Receiver::new(), tempfile::tempdir().unwrap());
    receiver.always(Some(Reply::StoreAndHang));
    let program = Program::start(&bus, &receiver.url(), directory.path(), &["--no-http"]);
    bus.wait_subscribed("info");
    bus.count("hits", 3);
    wait_until("the post", || receiver.posts().len() == 1);
    program.signal("-KILL");
    program.end();

    receiver.always(None);
    let program = Program::start(&bus, &receiver.url(), directory.path(), &["--no-http"]);
    wait_until("the second post", || receiver.posts().len() == 2);
    let posts = receiver.posts();
    assert_eq!(posts[0], posts[1]);
    program.signal("-TERM");
    let output = program.end();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(receiver.sum("hits"), 3.0, "stored once, because the id is the same");
}

#[test]
fn the_first_line_says_where_the_last_gives_the_totals_and_the_token_is_nowhere() {
    let (bus, receiver, directory) = (Bus::new(), Receiver::new(), tempfile::tempdir().unwrap());
    // Credentials refused, a server error, an echo of the request in the answer, then success.
    receiver.script([status(401), status(500), Reply::Status(503, "", "busy".to_owned())]);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let spool = directory.path().join("spool");
    let mut command = command();
    command
        .args([
            "--endpoint",
            &bus.endpoint,
            "--url",
            &receiver.url(),
            "--flush",
            "1",
            "--http",
            &port.to_string(),
        ])
        .args(["--username", "user", "--spool"])
        .arg(&spool)
        .env("ZIBRATO_LIBRATO_TOKEN", CANARY)
        .env("RUST_LOG", "trace");
    let program = Program(Some(command.spawn().unwrap()));
    let child_id = program.0.as_ref().unwrap().id();
    // The pipe must not fill up at this log level.
    let mut program = program;
    let mut stderr = program.stderr();
    let log = std::thread::spawn(move || {
        let mut log = String::new();
        stderr.read_to_string(&mut log).unwrap();
        log
    });
    bus.wait_subscribed("info");
    bus.count("hits", 3);
    wait_until("the post", || !receiver.posts().is_empty());
    let argv = fs::read_to_string(format!("/proc/{child_id}/cmdline")).unwrap();
    let page = get(port, "/metrics") + &get(port, "/healthz");
    program.signal("-TERM");
    assert_eq!(program.end().status.code(), Some(0));
    let log = log.join().unwrap();

    let encoded = "dXNlcjpjYW5hcnktNDcxMS10b2tlbg";
    let mut places = vec![("log", log.clone()), ("status", page), ("argv", argv)];
    for entry in fs::read_dir(&spool).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        places.push(("spool", String::from_utf8_lossy(&bytes).into_owned()));
    }
    for (place, text) in places {
        assert!(!text.contains(CANARY) && !text.contains(encoded), "the token is in the {place}");
    }
    let first = log.lines().find(|line| line.contains("INFO")).unwrap();
    assert!(first.contains("worker started") && first.contains(&receiver.url()), "{first}");
    let last = log.lines().rfind(|line| line.contains("INFO")).unwrap();
    assert!(last.contains("worker stopped") && last.contains("law=\"holds\""), "{last}");
}
