//! Programs whose stores are sockets and files.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use crate::support::*;

/// A program that does not outlive its test.
struct Program(Child);

impl Program {
    fn start(path: &str, bus: &Bus, spool: &Path, more: &[&str]) -> Self {
        let mut command = Command::new(path);
        command
            .env_clear()
            .args(["--endpoint", &bus.endpoint, "--flush", "1", "--no-http", "--spool"])
            .arg(spool)
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    fn jsonl(bus: &Bus, spool: &Path, more: &[&str]) -> Self {
        Self::start(env!("CARGO_BIN_EXE_zibrato-jsonl"), bus, spool, more)
    }

    fn stdout(&mut self) -> BufReader<ChildStdout> {
        BufReader::new(self.0.stdout.take().unwrap())
    }

    /// Reads the log until a line holds the text.
    fn wait_for_log(&mut self, text: &str) {
        let log = BufReader::new(self.0.stderr.as_mut().unwrap());
        let found = log.lines().any(|line| line.unwrap().contains(text));
        assert!(found, "the log ended before {text:?}");
    }

    fn terminate(&self) {
        assert!(Command::new("kill").arg(self.0.id().to_string()).status().unwrap().success());
    }

    fn end(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < DEADLINE, "the program did not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn line(reader: &mut impl BufRead) -> Json {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
}

fn lines(path: &Path) -> Vec<Json> {
    let text = fs::read_to_string(path).unwrap_or_default();
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn jsonl_ends_with_0_when_nobody_reads_and_writes_what_it_kept_at_the_next_start() {
    let (bus, directory) = (Bus::new(), tempfile::tempdir().unwrap());
    let mut program = Program::jsonl(&bus, directory.path(), &[]);
    let mut stdout = program.stdout();
    bus.wait_subscribed("info");
    bus.count("hits", 3);
    let hits = line(&mut stdout);
    assert_eq!(
        (&hits["name"], &hits["kind"], &hits["delta"]),
        (&"hits".into(), &"counter".into(), &3.0.into())
    );
    drop(stdout);
    bus.count("hits", 4);
    assert_eq!(program.end().code(), Some(0));

    let mut program = Program::jsonl(&bus, directory.path(), &[]);
    let hits = line(&mut program.stdout());
    assert_eq!(hits["delta"], 4.0);
}

#[test]
fn jsonl_writes_each_batch_to_its_file_once_though_it_is_killed() {
    let (bus, directory) = (Bus::new(), tempfile::tempdir().unwrap());
    let (spool, path) = (directory.path().join("spool"), directory.path().join("metrics.jsonl"));
    let more = ["--file", path.to_str().unwrap()];
    for round in 1..=4_u64 {
        let mut program = Program::jsonl(&bus, &spool, &more);
        bus.wait_subscribed("info");
        bus.count("hits", round);
        // Killed as soon as the lines are there, which is before or after they are acknowledged.
        wait_until("the line", || {
            fs::read_to_string(&path).is_ok_and(|text| text.matches("hits").count() as u64 >= round)
        });
        program.0.kill().unwrap();
        program.end();
    }
    let program = Program::jsonl(&bus, &spool, &more);
    bus.wait_subscribed("info");
    bus.count("last", 1);
    let named = |name: &str| lines(&path).into_iter().filter(|line| line["name"] == name).collect::<Vec<_>>();
    wait_until("the last line", || named("last").len() == 1);
    let deltas: Vec<_> = named("hits").iter().map(|line| line["delta"].as_f64().unwrap()).collect();
    assert_eq!(deltas, [1.0, 2.0, 3.0, 4.0]);
    program.terminate();
}

#[test]
fn statsd_sends_what_was_counted_and_keeps_it_while_the_server_is_away() {
    let (bus, directory) = (Bus::new(), tempfile::tempdir().unwrap());
    let addr = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut program = Program::start(
        env!("CARGO_BIN_EXE_zibrato-statsd"),
        &bus,
        directory.path(),
        &["--address", &format!("udp://{addr}")],
    );
    bus.wait_subscribed("info");
    bus.count("hits", 3);
    program.wait_for_log("trying again");
    let server = UdpSocket::bind(addr).unwrap();
    server.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut sum = 0;
    while sum < 3 {
        let mut packet = [0; 2_000];
        let length = server.recv(&mut packet).unwrap();
        for line in std::str::from_utf8(&packet[..length]).unwrap().lines().filter(|line| !line.is_empty()) {
            let value = line.strip_prefix("hits.source.test:").unwrap().strip_suffix("|c").unwrap();
            sum += value.parse::<u64>().unwrap();
        }
    }
    assert_eq!(sum, 3);
    program.terminate();
    assert_eq!(program.end().code(), Some(0));
}
