//! Runs the program without a broker.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// A running server; it is killed when this is dropped.
struct Server {
    child: Child,
    addr: String,
    // A closed pipe would look to the server like a user who went away.
    _stdout: BufReader<ChildStdout>,
}

fn command(name: &str) -> Command {
    let nowhere =
        format!("ipc://{}/zibrato-web-server-{}-{name}", std::env::temp_dir().display(), std::process::id());
    let mut command = Command::new(env!("CARGO_BIN_EXE_web-server"));
    command.args(["--endpoint", &nowhere]).stdin(Stdio::null());
    command
}

impl Server {
    fn start(name: &str) -> Self {
        let mut command = command(name);
        command.args(["--listen", "127.0.0.1:0"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let addr = line.trim().strip_prefix("listening on http://").unwrap().to_owned();
        Self { child, addr, _stdout: stdout }
    }

    /// Status line and body of an answer.
    fn call(&self, method: &str, path: &str, body: &str) -> (String, String) {
        let mut stream = TcpStream::connect(&self.addr).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let length = body.len();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    }

    /// Sends SIGTERM and returns the exit code and what was written to stderr.
    fn stop(mut self) -> (Option<i32>, String) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let mut stderr = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        (self.child.wait().unwrap().code(), stderr)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn each_request_is_measured_and_a_stop_accounts_for_all_of_them() {
    let server = Server::start("requests");
    let ok = "HTTP/1.1 200 OK";
    assert_eq!(server.call("GET", "/hello/you", ""), (ok.to_owned(), "hello you\n".to_owned()));
    assert_eq!(server.call("GET", "/work/1", ""), (ok.to_owned(), "worked 1 ms\n".to_owned()));
    let (status, body) = server.call("GET", "/work/10001", "");
    assert!(status.contains("400") && body.contains("give 0 to 10000"), "{status} {body}");
    assert_eq!(server.call("POST", "/upload", "0123456789").1, "took 10 bytes\n");
    assert!(server.call("GET", "/", "").0.contains("200"));
    assert!(server.call("GET", "/other", "").0.contains("404"));

    let (code, stderr) = server.stop();
    assert_eq!(code, Some(0), "{stderr}");
    // Counters: 4 requests, 10 bytes, 6 responses. Timers: the 5 handlers, without the one on demand.
    // Gauges: up and down for each of 6 requests.
    assert!(stderr.starts_with("offered [counters 20 timers 5 gauges 12] = "), "{stderr}");
    assert!(stderr.contains("held [counters 20 timers 5 gauges 12]"), "{stderr}");
}

#[test]
fn a_taken_address_is_exit_code_1_and_a_bad_source_exit_code_2() {
    let server = Server::start("taken");
    let failure = |args: &[&str]| {
        let Output { status, stderr, .. } = command("failure").args(args).output().unwrap();
        (status.code(), String::from_utf8(stderr).unwrap())
    };
    let (code, stderr) = failure(&["--listen", &server.addr]);
    let expected = format!(
        "web-server: error: cannot listen on --listen {}; give a free address: Address already in use",
        server.addr
    );
    assert!(code == Some(1) && stderr.starts_with(&expected), "{code:?} {stderr}");
    let (code, stderr) = failure(&["--source", "a b", "--listen", "127.0.0.1:0"]);
    assert!(code == Some(2) && stderr.contains("source 'a b' is not accepted"), "{code:?} {stderr}");
}
