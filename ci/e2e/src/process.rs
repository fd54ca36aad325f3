//! Programs of the workspace as processes whose output is read and that are never left behind.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::until::{DEADLINE, until, until_within};

/// A program of the workspace, without arguments and with an empty environment but for `PATH`: what the
/// user of this machine has set must not change a test.
///
/// # Panics
/// If it was not built.
pub fn command(program: &str) -> Command {
    let mut directory = std::env::current_exe().unwrap();
    directory.pop();
    if directory.ends_with("deps") {
        directory.pop();
    }
    let path: PathBuf = directory.join(program);
    assert!(path.exists(), "{} is missing: run `cargo build --workspace` first", path.display());
    let mut command = Command::new(path);
    command.env_clear();
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

/// A running program. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stderr: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
    stdout: Arc<Mutex<String>>,
    stdin: Option<ChildStdin>,
}

/// How a program ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Process {
    /// Starts a command; its standard input stays open until [`Process::close_stdin`].
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn spawn(mut command: Command) -> Self {
        let name = command.get_program().to_string_lossy().rsplit('/').next().unwrap_or_default().to_owned();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let (stdout, stderr) = (Arc::default(), Arc::default());
        let readers = vec![
            collect(child.stdout.take(), Arc::clone(&stdout)),
            collect(child.stderr.take(), Arc::clone(&stderr)),
        ];
        let stdin = child.stdin.take();
        Self { name, child, stderr, readers, stdout, stdin }
    }

    /// Starts a program of the workspace.
    ///
    /// # Panics
    /// If it was not built or cannot be started.
    pub fn start(program: &str, args: &[&str]) -> Self {
        let mut command = command(program);
        command.args(args);
        Self::spawn(command)
    }

    /// Starts a program of the workspace and waits for its end.
    ///
    /// # Panics
    /// As [`Process::start`] and [`Process::wait`].
    pub fn run(program: &str, args: &[&str]) -> Ended {
        Self::start(program, args).wait()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to standard error up to now.
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it wrote to standard output up to now.
    pub fn stdout(&self) -> String {
        self.stdout.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a line of standard error that contains `text`, and returns the first one.
    ///
    /// # Panics
    /// If none comes within [`DEADLINE`] or before the program ends, with all it wrote.
    pub fn line(&mut self, text: &str) -> String {
        let by = Instant::now() + DEADLINE;
        loop {
            let ended = self.child.try_wait().unwrap();
            if ended.is_some() {
                // What it wrote last may still be on its way.
                self.readers.drain(..).for_each(|reader| reader.join().unwrap());
            }
            let stderr = self.stderr();
            if let Some(line) = stderr.lines().find(|line| line.contains(text)) {
                return line.to_owned();
            }
            assert!(ended.is_none(), "{} ended without {text:?}: {stderr}", self.name);
            assert!(Instant::now() < by, "no {text:?} from {} within {DEADLINE:?}: {stderr}", self.name);
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether it has not ended.
    ///
    /// # Panics
    /// If the system does not say.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Bytes of memory it has resident now.
    ///
    /// # Panics
    /// If it has ended, or the system has no `/proc`; so for the two below.
    pub fn resident_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// Bytes of memory it had resident at most.
    pub fn resident_bytes_max(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    /// Time of processors that its threads have had. Threads that ended are left out.
    pub fn cpu(&self) -> Duration {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        // One that ends meanwhile is left out as well.
        let times = threads.flatten().filter_map(|thread| {
            let line = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
            line.split(' ').next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(times.sum())
    }

    fn status_bytes(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        1_024 * line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap()
    }

    /// Sends a signal by its name, such as `TERM` or `STOP`.
    ///
    /// # Panics
    /// If it cannot be sent.
    pub fn signal(&self, name: &str) {
        let sent =
            Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status().unwrap();
        assert!(sent.success(), "cannot send SIG{name} to {}", self.name);
    }

    /// Writes a line to its standard input.
    ///
    /// # Panics
    /// If that is closed.
    pub fn tell(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Writes bytes to its standard input.
    ///
    /// # Panics
    /// As [`Process::tell`].
    pub fn feed(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    /// Closes its standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Asks it to stop (SIGTERM) and waits for its end.
    ///
    /// # Panics
    /// As [`Process::wait`].
    pub fn terminate(mut self) -> Ended {
        if self.is_running() {
            self.signal("TERM");
        }
        self.wait()
    }

    /// Kills it (SIGKILL) and waits for its end.
    ///
    /// # Panics
    /// If the system refuses.
    pub fn kill(mut self) -> Ended {
        self.child.kill().unwrap();
        self.wait()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not come within [`DEADLINE`].
    pub fn wait(self) -> Ended {
        self.wait_within(DEADLINE)
    }

    /// Waits for its end, `deadline` at most.
    ///
    /// # Panics
    /// If it does not come.
    pub fn wait_within(mut self, deadline: Duration) -> Ended {
        let what = format!("end of {}", self.name);
        let status = until_within(deadline, what, || self.child.try_wait().unwrap());
        self.readers.drain(..).for_each(|reader| reader.join().unwrap());
        Ended { code: status.code(), stdout: self.stdout(), stderr: self.stderr() }
    }

    /// Waits until `text` appears in its standard output.
    ///
    /// # Panics
    /// If it does not within [`DEADLINE`].
    pub fn printed(&self, text: &str) {
        until(format!("{text:?} from {}", self.name), || self.stdout().contains(text).then_some(()));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail if it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() && !self.readers.is_empty() {
            eprintln!("--- {} wrote:\n{}{}", self.name, self.stdout(), self.stderr());
        }
    }
}

/// Reads a pipe to its end in a thread of its own.
fn collect(pipe: Option<impl Read + Send + 'static>, into: Arc<Mutex<String>>) -> JoinHandle<()> {
    thread::spawn(move || {
        let Some(pipe) = pipe else { return };
        let mut reader = BufReader::new(pipe);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
            into.lock().unwrap_or_else(PoisonError::into_inner).push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    })
}

/// The value of a field in a line of the log: `name=value` or `name="value"`.
///
/// # Panics
/// If the line has no such field.
pub fn field<'a>(line: &'a str, name: &str) -> &'a str {
    let key = format!(" {name}=");
    let Some((_, rest)) = line.split_once(&key) else { panic!("no field {name} in {line}") };
    match rest.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next().unwrap_or_default(),
        None => rest.split(' ').next().unwrap_or_default(),
    }
}
