//! Progress of what takes longer than a second: seen on a terminal, never in a pipe.

use std::net::TcpListener;

use crate::bus::Bus;
use crate::capture::{Place, write_capture};
use crate::fake::{FakeBroker, Fault};
use crate::program::{Running, ZIBRATO, wait_for};
use crate::pty::Pty;

#[test]
fn lines_that_come_for_long_are_seen_to_be_sent() {
    let bus = Bus::start();
    let lines = format!("(echo counter n 1; exec cat) | {ZIBRATO} send --port {}", bus.port);
    let mut pty = Pty::start("/bin/sh", &["-c", &lines], (200, 24), &[("PATH", "/usr/bin:/bin")]);
    pty.wait_for_text("sending");
    pty.wait_for_text("1 measurement");
    pty.press("\x04");
    let (status, ended) = pty.end();
    assert!(
        status.success() && ended.screen.contains("1 measurement sent and seen back"),
        "{}",
        ended.screen
    );
    assert!(!ended.screen.contains("sending"), "{}", ended.screen);
}

#[test]
fn every_wait_is_seen_on_a_terminal_and_leaves_nothing_in_a_pipe() {
    let (deaf, place) = (FakeBroker::start(Fault::Swallows), Place::new());
    write_capture(&place.file(), &[(0, b"info|Counter|n|1|1700000000|s".to_vec())]);
    let (port, file) = (deaf.port.to_string(), place.file());
    let (pair, silent) = wait_for("two free ports", || {
        let port = Bus::free_pair();
        Some((port, TcpListener::bind(("127.0.0.1", port)).ok()?))
    });
    let silent = silent.local_addr().unwrap();
    let (pair, url) = (pair.to_string(), format!("http://{silent}"));
    let silent = silent.to_string();
    let wait = ["--port", &port, "--timeout", "3"];
    let send = [&["send", "counter", "n", "1"][..], &wait].concat();
    let legacy = [&["send", "counter", "n", "1", "--legacy"][..], &wait].concat();
    let replay = [&["replay", file.to_str().unwrap()][..], &wait].concat();
    let services = ["--broker-status", &silent, "--worker", &silent, "--local", &silent];
    let doctor = [&["doctor", "--port", &pair][..], &services].concat();
    let query = vec!["query", "x", "--url", &url];
    for (args, text) in [
        (send, "sending"),
        (legacy, "sending"),
        (replay, "replaying ["),
        (doctor, "asking broker, workers and local"),
        (query, "asking zibrato-local"),
    ] {
        let pty = Pty::start(ZIBRATO, &args, (200, 24), &[]);
        pty.wait_for_text(text);
        if args[0] == "query" {
            pty.signal("-INT");
        }
        let (status, ended) = pty.end();
        assert_eq!(status.exit_code(), 1, "{args:?}: {}", ended.screen);
        assert!(!ended.screen.contains(text), "{args:?} leaves it there: {}", ended.screen);

        if args[0] != "query" {
            let said = Running::start(0, &args).end();
            let is_plain = |text: &str| !text.contains(['\x1b', '\r']);
            assert!(is_plain(&said.out) && is_plain(&said.err) && !said.err.contains(text), "{said:?}");
        }
    }
}
