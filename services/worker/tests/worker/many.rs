//! `zibrato-worker`: several backends from one subscription.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::process::{Program, command_of};
use crate::shutdown::get;
use crate::support::*;

/// What a program wrote to its log so far.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

impl Log {
    fn of(program: &mut Program) -> Self {
        let log = Self::default();
        let (lines, stderr) = (log.clone(), program.stderr());
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                *lines.0.lock().unwrap() += &(line + "\n");
            }
        });
        log
    }

    fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }

    fn wait(&self, what: &str, times: usize) {
        wait_until(what, || self.text().matches(what).count() >= times);
    }
}

fn write(path: &Path, bus: &Bus, http: &str, lanes: &[(&str, &str)]) {
    let mut text =
        format!("endpoint = [{:?}]\nhttp = {http:?}\nstate = {:?}\n", bus.endpoint, path.parent().unwrap());
    for (name, url) in lanes {
        text += &format!("[[backend]]\nkind = \"librato\"\nname = {name:?}\nflush = 1\nurl = {url:?}\n");
    }
    fs::write(path, text).unwrap();
}

#[test]
fn one_dead_backend_holds_up_no_other_and_a_reload_changes_only_what_differs() {
    let (bus, a, b) = (Bus::new(), Receiver::new(), Receiver::new());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("worker.toml");
    let http = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dead = format!("http://{dead}/v1/metrics");
    write(&path, &bus, &http.to_string(), &[("a", &a.url()), ("b", &dead)]);
    let mut command = command_of(env!("CARGO_BIN_EXE_zibrato-worker"));
    command.arg("--config").arg(&path);
    let mut program = Program::of(command);
    let log = Log::of(&mut program);
    bus.wait_subscribed("info");
    bus.count("hits", 3);
    wait_until("the sum at a", || a.sum("hits") == 3.0);
    log.wait("a batch was not delivered", 1);
    // What is stored is settled a moment later.
    wait_until("what a settled", || {
        get(http, "/metrics").contains("zibrato_worker_spool_batches{backend=\"a\"} 0")
    });
    let page = get(http, "/metrics");
    assert!(page.contains("zibrato_worker_spool_batches{backend=\"b\"} 1"), "{page}");
    assert_eq!(page.matches("# TYPE zibrato_worker_spool_batches ").count(), 1);
    assert!(get(http, "/status").contains("spool b"));

    write(&path, &bus, &http.to_string(), &[("a", &a.url()), ("b", &b.url()), ("c", &b.url())]);
    program.signal("-HUP");
    log.wait("kept=\"a\" ended=\"b\" begun=\"b,c\"", 1);
    wait_until("what b had spooled", || b.sum("hits") == 3.0);
    bus.count("misses", 4);
    wait_until("the sums", || a.sum("misses") == 4.0 && b.sum("misses") == 8.0);

    fs::write(&path, "levels = 7").unwrap();
    program.signal("-HUP");
    log.wait("nothing was changed", 1);
    write(&path, &bus, &http.to_string(), &[("a", &a.url())]);
    fs::write(&path, fs::read_to_string(&path).unwrap().replace("endpoint", "levels = \"debug\"\nendpoint"))
        .unwrap();
    program.signal("-HUP");
    log.wait("restart the worker; nothing was changed", 1);
    bus.count("hits", 5);
    wait_until("all go on", || a.sum("hits") == 8.0 && b.sum("hits") == 13.0);

    program.signal("-TERM");
    assert_eq!(program.end().status.code(), Some(0), "{}", log.text());
    log.wait("law=\"holds\"", 4);
    assert!(!log.text().contains("is broken"), "{}", log.text());
}

#[test]
fn a_file_is_checked_without_being_run() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("worker.toml");
    let code = |text: &str| {
        fs::write(&path, text).unwrap();
        let mut command = command_of(env!("CARGO_BIN_EXE_zibrato-worker"));
        let output = command.args(["--check-config", "--config"]).arg(&path).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(code("state = \"/nowhere\"\n[[backend]]\nkind = \"librato\"").0, 0);
    let (status, said) = code("[[backend]]\nkind = \"librato\"\nflush = 0");
    assert!(status == 2 && said.lines().count() == 1 && said.contains("--flush"), "{said}");
}

#[test]
fn a_backend_whose_reader_is_gone_ends_alone() {
    let (bus, a) = (Bus::new(), Receiver::new());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("worker.toml");
    write(&path, &bus, "127.0.0.1:0", &[("a", &a.url())]);
    let text = fs::read_to_string(&path).unwrap() + "[[backend]]\nkind = \"jsonl\"\nflush = 1\n";
    fs::write(&path, text).unwrap();
    let mut command = command_of(env!("CARGO_BIN_EXE_zibrato-worker"));
    command.arg("--config").arg(&path);
    let mut program = Program::of(command);
    let log = Log::of(&mut program);
    drop(program.stdout());
    bus.wait_subscribed("info");
    bus.count("hits", 3);
    log.wait("nobody takes batches any more", 1);
    log.wait("law=\"holds\"", 1);
    bus.count("hits", 4);
    wait_until("the other one goes on", || a.sum("hits") == 7.0);
    program.signal("-TERM");
    assert_eq!(program.end().status.code(), Some(0), "{}", log.text());
}
