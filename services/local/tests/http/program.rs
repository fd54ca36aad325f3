//! The program: exit codes, error lines, signals.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use crate::client::{call, database};

pub(crate) fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zibrato-local"));
    command.args(args).env_clear().env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

pub(crate) fn output(args: &[&str]) -> Output {
    program(args).output().unwrap()
}

/// The exit code and the last line of stderr.
fn failure(args: &[&str]) -> (i32, String) {
    let output = output(args);
    let stderr = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), stderr.lines().last().unwrap_or_default().to_owned())
}

#[test]
fn failures_are_one_clear_line_and_exit_code_1() {
    let (directory, db) = database();
    let db_text = db.to_str().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let (code, line) = failure(&["--listen", &addr, "--db", db_text]);
    let expected = format!(
        "zibrato-local: error: cannot listen on --listen {addr}; give a free local address: Address already in use"
    );
    assert!(code == 1 && line.starts_with(&expected), "{code} {line}");

    std::fs::write(&db, vec![b'x'; 5_000]).unwrap();
    let (code, line) = failure(&["--listen", "127.0.0.1:0", "--db", db_text]);
    let expected = format!("zibrato-local: error: the database {db_text} is damaged or not an SQLite file");
    assert!(code == 1 && line.starts_with(&expected), "{code} {line}");

    let below = db.join("x.db");
    let (code, line) = failure(&["--listen", "127.0.0.1:0", "--db", below.to_str().unwrap()]);
    let expected = format!("zibrato-local: error: cannot create the directory {db_text} for the database");
    assert!(code == 1 && line.starts_with(&expected), "{code} {line}");

    let (code, line) = failure(&["--listen", "127.0.0.1:0", "--db", directory.path().to_str().unwrap()]);
    assert!(code == 1 && line.starts_with("zibrato-local: error: cannot open the database"), "{code} {line}");
}

#[test]
fn bad_usage_is_exit_code_2() {
    let (directory, db) = database();
    let db = db.to_str().unwrap();
    let (code, line) = failure(&["--listen", "0.0.0.0:0", "--db", db]);
    let expected = "zibrato-local: error: --listen 0.0.0.0:0 can be reached from other machines; give --token-file, or a loopback address such as 127.0.0.1:5580";
    assert_eq!((code, line.as_str()), (2, expected));
    let missing = directory.path().join("missing");
    let (code, line) = failure(&["--token-file", missing.to_str().unwrap(), "--db", db]);
    assert!(code == 2 && line.contains("cannot read --token-file"), "{code} {line}");
    assert_eq!(failure(&[]), (2, "zibrato-local: error: no place for the database: STATE_DIRECTORY, XDG_STATE_HOME and HOME are unset; give --db FILE".to_owned()));
    for args in [["--listen", "nowhere"], ["--max-age", "0"], ["--unknown", "x"]] {
        assert_eq!(failure(&args).0, 2, "{args:?}");
    }
    assert_eq!(output(&["--check-config", "--db", db]).status.code(), Some(0));
    assert!(!std::path::Path::new(db).exists());
}

/// A running program; it is killed when this is dropped.
pub(crate) struct Started {
    pub(crate) child: Child,
    pub(crate) addr: SocketAddr,
    log: BufReader<ChildStderr>,
    text: String,
}

impl Started {
    /// Starts the program and reads its log until it says where it listens.
    pub(crate) fn new(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut started = Self { child, addr: ([127, 0, 0, 1], 0).into(), log, text: String::new() };
        while started.addr.port() == 0 {
            let begin = started.text.len();
            assert_ne!(started.log.read_line(&mut started.text).unwrap(), 0, "{}", started.text);
            if let Some((_, rest)) = started.text[begin..].split_once("zibrato-local listens") {
                let addr = rest.split_whitespace().find_map(|field| field.strip_prefix("addr="));
                started.addr = addr.unwrap().parse().unwrap();
            }
        }
        started
    }

    fn rest_of_log(&mut self) -> String {
        self.log.read_to_string(&mut self.text).unwrap();
        self.text.clone()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn what_was_answered_with_200_outlives_sigkill_and_is_not_stored_twice() {
    let (_directory, db) = database();
    let args = ["--listen", "127.0.0.1:0", "--db", db.to_str().unwrap()];
    for life in 0..4 {
        let started = Started::new(program(&args));
        // Each life repeats the batch of the one before, as a worker does that got no answer.
        for batch in [life, life + 1] {
            let (id, body) = (batch.to_string(), format!(r#"{{"gauges":[{{"name":"a","value":{batch}}}]}}"#));
            let headers = [("X-Zibrato-Batch", id.as_str())];
            let answer = call(started.addr, "POST", "/v1/metrics", &headers, body.as_bytes()).await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        // Dropping kills it.
    }
    let started = Started::new(program(&args));
    let answer = call(started.addr, "GET", "/v1/metrics/a?count=100", &[], b"").await.json();
    let measurements = answer["measurements"]["unassigned"].as_array().unwrap();
    let values: Vec<_> =
        measurements.iter().map(|measurement| measurement["value"].as_f64().unwrap()).collect();
    assert_eq!(values, [0.0, 1.0, 2.0, 3.0, 4.0]);
}

#[tokio::test]
async fn the_program_serves_until_sigterm_and_logs_its_totals_last() {
    let (directory, _) = database();
    let token_file = directory.path().join("token");
    std::fs::write(&token_file, "canary-71\n").unwrap();
    let mut command = program(&["--listen", "127.0.0.1:0", "--token-file", token_file.to_str().unwrap()]);
    command.env("STATE_DIRECTORY", directory.path()).env("RUST_LOG", "trace");
    let mut started = Started::new(command);
    let addr = started.addr;
    // me:canary-71
    let authorization = [("Authorization", "Basic bWU6Y2FuYXJ5LTcx")];
    let body = br#"{"gauges":[{"name":"a","value":1}]}"#;
    assert_eq!(call(addr, "POST", "/v1/metrics", &authorization, body).await.status, 200);
    assert_eq!(call(addr, "POST", "/v1/metrics", &[], body).await.status, 401);
    assert!(
        Command::new("kill").args(["-TERM", &started.child.id().to_string()]).status().unwrap().success()
    );
    let text = started.rest_of_log();
    assert_eq!(started.child.wait().unwrap().code(), Some(0), "{text}");
    let last = text.lines().last().unwrap();
    for part in ["totals", "requests=2", "points_offered=1", "points_accepted=1", "duplicate_batches=0"] {
        assert!(last.contains(part), "{part} in {last}");
    }
    assert!(!text.contains("canary-71"), "the token is in the log");
    assert!(directory.path().join("local.db").is_file());
}
