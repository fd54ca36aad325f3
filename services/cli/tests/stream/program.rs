//! The command as a process: what goes in, what it prints, how it ends.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long anything may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
/// Pause between two looks at a condition.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// The command of this build.
pub(crate) const ZIBRATO: &str = env!("CARGO_BIN_EXE_zibrato");

/// The command with no environment.
pub(crate) fn zibrato(args: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new(ZIBRATO);
    command.args(args).env_clear().stdin(Stdio::null());
    command
}

/// What a program said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// Asserts code 0.
    #[track_caller]
    pub(crate) fn well(self) -> Self {
        assert_eq!(self.code, Some(0), "{}\n{}", self.out, self.err);
        self
    }

    /// Asserts this code, and one line of error that starts like this; returns the line.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, start: &str) -> String {
        assert_eq!(self.code, Some(code), "{}\n{}", self.out, self.err);
        let line = self.err.lines().find_map(|line| Some(line.split_once("error: ")?.1));
        let line = line.unwrap_or_else(|| panic!("no error in:\n{}", self.err));
        assert!(line.starts_with(start), "{line}, not {start}");
        line.to_owned()
    }
}

/// Runs the command to its end.
pub(crate) fn run(port: u16, args: &[&str]) -> Said {
    Running::start(port, args).end()
}

/// Runs the command to its end, with this as standard input.
pub(crate) fn run_with(port: u16, args: &[&str], input: &[u8]) -> Said {
    let mut running = Running::start(port, args);
    let mut stdin = running.stdin.take().unwrap();
    // A program that refuses its flags does not read.
    let _ = stdin.write_all(input);
    drop(stdin);
    running.end()
}

/// A running command; it is killed when this is dropped.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: Option<BufReader<ChildStdout>>,
    err: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Running {
    /// Starts it with pipes in place of a terminal, and `--port` behind the arguments unless it is 0.
    pub(crate) fn start(port: u16, args: &[&str]) -> Self {
        let mut command = zibrato(args);
        if port > 0 {
            command.args(["--port", &port.to_string()]);
        }
        Self::spawn(command.stdout(Stdio::piped()))
    }

    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let err = Arc::new(Mutex::new(String::new()));
        let (mut pipe, shared) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&err));
        let reader = thread::spawn(move || {
            let mut line = String::new();
            while pipe.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
                shared.lock().unwrap().push_str(&line);
                line.clear();
            }
        });
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().map(BufReader::new));
        Self { child, stdin, stdout, err, reader: Some(reader) }
    }

    /// The next line of standard output.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.as_mut().unwrap().read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "ended behind {line:?}: {}", self.err());
        line.trim_end_matches('\n').to_owned()
    }

    pub(crate) fn err(&self) -> String {
        self.err.lock().unwrap().clone()
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Waits for the end; closes standard input and reads what is left.
    pub(crate) fn end(mut self) -> Said {
        drop(self.stdin.take());
        let mut out = String::new();
        if let Some(stdout) = &mut self.stdout {
            stdout.read_to_string(&mut out).unwrap();
        }
        let status = wait_for("the end of the program", || self.child.try_wait().unwrap());
        self.reader.take().unwrap().join().unwrap();
        Said { code: status.code(), out, err: self.err() }
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn stop(self, signal: &str) -> Said {
        self.signal(signal);
        self.end()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Looks again until there is something.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "no {what} within {DEADLINE:?}");
        thread::sleep(LOOK_AGAIN);
    }
}
