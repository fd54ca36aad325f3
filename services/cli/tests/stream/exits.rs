//! How commands end: each exit code that a command's help names, and each error text that can be provoked
//! and that no test of the command itself has.
//!
//! Errors that cannot be provoked from outside: no random numbers, no threads and no TLS (the system's), a
//! terminal that cannot be drawn on, a part of `up` or a feed that ends by itself and books that do not
//! balance (faults in Zibrato), and refusals of one measurement that its flags were checked for.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::bus::Bus;
use crate::capture::{Place, write_capture};
use crate::fake::{FakeBroker, Fault};
use crate::program::{Running, Said, run, wait_for, zibrato};

/// The commands, the hidden one as well.
const COMMANDS: [&str; 10] =
    ["up", "send", "tap", "record", "replay", "top", "doctor", "query", "completions", "man"];

/// What standard input and output are.
#[derive(Clone, Copy)]
enum Streams {
    Pipes,
    /// The output takes nothing.
    Full,
    /// Nobody reads the output.
    Unread,
    /// The input cannot be read.
    Directory,
}

use Streams::{Directory, Full, Pipes, Unread};

/// Runs the command in this way.
fn end(args: &[&str], streams: Streams) -> Said {
    let mut command = zibrato(args);
    command.stdout(match streams {
        Full => Stdio::from(OpenOptions::new().write(true).open("/dev/full").unwrap()),
        _ => Stdio::piped(),
    });
    match streams {
        Directory => {
            let output = command.stdin(File::open("/").unwrap()).stderr(Stdio::piped()).output().unwrap();
            let text = |bytes| String::from_utf8(bytes).unwrap();
            Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
        }
        _ => {
            let mut running = Running::spawn(&mut command);
            if let Unread = streams {
                drop(running.stdout.take());
            }
            running.end()
        }
    }
}

/// A doctor that looks at a broker's ports and at zibrato-local.
fn doctor<'a>(port: &'a str, local: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let args = ["doctor", "--port", port, "--broker-status", "none", "--worker", "none", "--local", local];
    [&args[..], more].concat()
}

/// Something for `query` to find.
fn store_a_metric(local: &str) {
    let body = r#"{"gauges":[{"name":"stored","value":1}]}"#;
    let mut stream = TcpStream::connect(local).unwrap();
    let head = "POST /v1/metrics HTTP/1.1\r\nContent-Type: application/json\r\nConnection: close";
    write!(stream, "{head}\r\nHost: {local}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn every_exit_code_of_every_command_has_a_case_with_its_text() {
    let (bus, place, data) = (Bus::start(), Place::new(), tempfile::tempdir().unwrap());
    let local = bus.start_local(&data.path().join("local.db"));
    let (port, local) = (&*bus.port.to_string(), local.to_string());
    store_a_metric(&local);
    let (url, original) = (format!("http://{local}"), FakeBroker::start(Fault::Original));
    let original = &*original.port.to_string();
    let path = |name: &str| data.path().join(name).to_str().unwrap().to_owned();
    let (fresh, directory) = (path("fresh.zcap"), path(""));
    // A recording that is good, and what is wrong with others.
    let good = place.file();
    write_capture(&good, &[(0, b"info|Counter|n|1|1700000000|s".to_vec())]);
    let bytes = fs::read(&good).unwrap();
    let good = good.to_str().unwrap();
    let mut later = bytes.clone();
    later[8] = 0x20;
    let (later_file, short) = (path("later.zcap"), path("short.zcap"));
    let (empty, token) = (path("empty"), path("token"));
    fs::write(&later_file, later).unwrap();
    fs::write(&short, &bytes[..20]).unwrap();
    fs::write(&empty, "").unwrap();
    fs::write(&token, "opensesame").unwrap();
    let fifo = path("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    // Data directories that are none.
    let (below_a_file, no_store, no_spool) = (path("empty/x"), path("no-store"), path("no-spool"));
    fs::create_dir_all(format!("{no_store}/local.db")).unwrap();
    fs::create_dir(&no_spool).unwrap();
    fs::write(format!("{no_spool}/spool"), "").unwrap();
    let up = |data| ["up", "--port", "0", "--listen", "127.0.0.1:0", "--no-http", "--data", data];
    let no_space = "cannot write to standard output: No space left on device";
    let bad_host = "cannot connect to tcp://_x:5551; check --host and --port: Invalid argument";
    let data_refused = |path: &str, why: &str| {
        format!("cannot use {path} for the data; give a directory that can be written with --data: {why}")
    };
    let (store, spool) = (format!("{no_store}/local.db"), format!("{no_spool}/spool"));
    let played = |path: &str, why: &str| format!("cannot play {path}: {why}");
    let not_a_file = "it is no regular file; write what comes out of a pipe into one";
    let readable = "--token-file with http://192.0.2.1:5580/ sends the token readable over the network: give an address of this machine or one of https, or --insecure-http";
    let nowhere = "cannot read the token file /nowhere: No such file or directory";
    let cases: Vec<(Vec<&str>, Streams, i32, String)> = vec![
        ([&up(&fresh)[..], &["--check-config"]].concat(), Pipes, 0, String::new()),
        (up(&below_a_file).to_vec(), Pipes, 1, data_refused(&below_a_file, "Not a directory")),
        (up(&no_store).to_vec(), Pipes, 1, data_refused(&store, "unable to open database file")),
        (up(&no_spool).to_vec(), Pipes, 1, data_refused(&spool, "File exists")),
        (vec!["up", "--levels", "a|b"], Pipes, 2, "invalid value 'a|b' for '--levels <LEVELS>'".to_owned()),
        (vec!["send", "counter", "n", "1", "--port", port], Full, 0, String::new()),
        (vec!["send", "counter", "n", "1", "--host", "_x"], Pipes, 1, bad_host.to_owned()),
        (vec!["send", "counter", "n", "1", "--legacy", "--host", "_x"], Pipes, 1, bad_host.to_owned()),
        (vec!["send", "--port", port], Directory, 1, "1 bad line not sent, as said above".to_owned()),
        (
            vec!["send", "counter", "x"],
            Pipes,
            2,
            "a measurement is KIND NAME VALUE; give all three, or none to read lines of them from standard input".to_owned(),
        ),
        (vec!["tap", "--port", port], Unread, 0, String::new()),
        (vec!["tap", "--host", "_x"], Pipes, 1, bad_host.to_owned()),
        (
            vec!["tap", "--port", original, "--timeout", "1"],
            Pipes,
            1,
            "connected to tcp://127.0.0.1:".to_owned(),
        ),
        (vec!["tap", "--rate", "0"], Pipes, 2, "invalid value '0' for '--rate <LINES>'".to_owned()),
        (vec!["record", &fresh, "--port", port, "--duration", "0.01"], Pipes, 0, String::new()),
        (vec!["record", "x", "--host", "_x"], Pipes, 1, bad_host.to_owned()),
        (
            vec!["record", "x", "--port", original, "--timeout", "1"],
            Pipes,
            1,
            "connected to tcp://127.0.0.1:".to_owned(),
        ),
        (vec!["record"], Pipes, 2, "the following required arguments".to_owned()),
        (vec!["replay", good, "--port", port], Unread, 0, String::new()),
        (vec!["replay", good, "--host", "_x"], Pipes, 1, bad_host.to_owned()),
        (vec!["replay", &directory], Pipes, 1, played(&directory, not_a_file)),
        (vec!["replay", &fifo], Pipes, 1, played(&fifo, not_a_file)),
        (vec!["replay", &short], Pipes, 1, played(&short, "the recording was cut at byte 0")),
        (vec!["replay", &empty], Pipes, 1, played(&empty, "not a recording of zibrato record")),
        (
            vec!["replay", &later_file],
            Pipes,
            1,
            played(&later_file, "recording of version 2.0 cannot be read: accepted is major 1"),
        ),
        (
            vec!["replay", good, "--port", original, "--timeout", "1"],
            Pipes,
            1,
            "connected to tcp://127.0.0.1:".to_owned(),
        ),
        (vec!["replay"], Pipes, 2, "the following required arguments".to_owned()),
        (vec!["top", "--once", "--seconds", "1", "--port", port], Unread, 0, String::new()),
        (vec!["top", "--once", "--seconds", "1", "--port", port], Full, 1, no_space.to_owned()),
        (
            vec!["top", "--once", "--host", "_x"],
            Pipes,
            1,
            "cannot connect to broker endpoint \"tcp://_x:5551\": accepted is transport://address".to_owned(),
        ),
        (vec!["top"], Pipes, 2, "top draws on a terminal and standard input is none".to_owned()),
        (doctor(port, "none", &[]), Unread, 0, String::new()),
        (doctor(port, "none", &[]), Full, 1, no_space.to_owned()),
        (doctor(port, &local, &["--token-file", "/nowhere"]), Pipes, 2, nowhere.to_owned()),
        (doctor(port, &local, &["--token-file", &empty]), Pipes, 2, "the token is not usable".to_owned()),
        (vec!["query", "*", "--url", &url], Unread, 0, String::new()),
        (vec!["query", "*", "--url", &url], Full, 1, no_space.to_owned()),
        (vec!["query", "x", "--token-file", "/nowhere"], Pipes, 2, nowhere.to_owned()),
        (
            vec!["query", "x", "--token-file", &empty],
            Pipes,
            2,
            "the token is not usable; give one line of 1 to 1024 bytes without control characters".to_owned(),
        ),
        (
            vec!["query", "x", "--url", "http://192.0.2.1:5580", "--token-file", &token],
            Pipes,
            2,
            readable.to_owned(),
        ),
        (doctor(port, "192.0.2.1:5580", &["--token-file", &token]), Pipes, 2, readable.to_owned()),
        (vec!["completions", "bash"], Unread, 0, String::new()),
        (vec!["completions", "bash"], Full, 1, no_space.to_owned()),
        (vec!["completions", "cmd"], Pipes, 2, "invalid value 'cmd' for '<SHELL>'".to_owned()),
        (vec!["man", &fresh[..fresh.len() - 5]], Pipes, 0, String::new()),
        (
            vec!["man", &below_a_file],
            Pipes,
            1,
            format!("cannot write manual pages into {below_a_file}: Not a directory"),
        ),
        (vec!["man"], Pipes, 2, "the following required arguments".to_owned()),
    ];
    let mut covered = BTreeSet::new();
    for (args, streams, code, start) in cases {
        let said = end(&args, streams);
        println!("{args:?}: {:?} {}", said.code, said.err);
        if code == 0 {
            assert!(said.code == Some(0) && !said.err.contains("error: "), "{args:?}: {said:?}");
        } else {
            let line = said.fails(code, &start);
            assert!(code == 2 || said.err.ends_with(&format!("{line}\n")), "{said:?}");
        }
        covered.insert((args[0].to_owned(), code.to_string()));
    }
    for command in COMMANDS {
        let help = run(0, &[command, "--help"]).well().out;
        let (_, codes) = help.split_once("Exit codes: ").unwrap_or_else(|| panic!("{help}"));
        let (codes, _) = codes.split_once("\n\n").unwrap();
        for word in codes.split([' ', '\n', ',', '.']).filter(|word| word.parse::<u8>().is_ok()) {
            assert!(
                covered.contains(&(command.to_owned(), word.to_owned())),
                "{command} with {word}: {codes}"
            );
        }
    }
}

#[test]
fn ctrl_c_while_nobody_answers_is_no_success_unless_the_tool_only_watches() {
    let place = Place::new();
    let good = place.file();
    write_capture(&good, &[(0, b"info|Counter|n|1|1700000000|s".to_vec())]);
    let (good, fresh) = (good.to_str().unwrap().to_owned(), format!("{}.new", good.display()));
    let broker = "stopped before the broker at tcp://127.0.0.1:";
    for (args, code, start) in [
        (&["send", "counter", "n", "1"][..], 1, broker),
        (&["send", "counter", "n", "1", "--legacy"], 1, broker),
        (&["tap"], 0, ""),
        (&["record", &fresh], 1, broker),
        (&["replay", &good], 1, broker),
        (
            &["doctor", "--broker-status", "none", "--worker", "none"],
            1,
            "stopped before everybody had answered",
        ),
        (&["query", "x"], 1, "stopped before zibrato-local answered"),
    ] {
        // It takes the connection and says nothing.
        let (port, silent) = wait_for("two free ports", || {
            let port = Bus::free_pair();
            Some((port, TcpListener::bind(("127.0.0.1", port + 1)).ok()?))
        });
        let (url, workers) = (format!("http://127.0.0.1:{}", port + 1), format!("127.0.0.1:{}", port + 1));
        let port = port.to_string();
        let more = match args[0] {
            "query" => vec!["--url", &url],
            "doctor" => vec!["--port", &port, "--local", &workers],
            _ => vec!["--port", &port, "--timeout", "60"],
        };
        let running = Running::start(0, &[args, &more].concat());
        // Once it has connected it attends to signals.
        let connection = silent.accept().unwrap();
        let said = running.stop("-INT");
        if code == 0 {
            said.well();
        } else {
            said.fails(code, start);
        }
        drop(connection);
    }
}

#[test]
fn a_second_ctrl_c_gives_up_the_proof_and_says_so() {
    let deaf = FakeBroker::start(Fault::Swallows);
    for (wire, start) in [
        (&["send", "--legacy"][..], "stopped before 1 message came back"),
        (&["send"], "stopped before level info came back"),
    ] {
        let mut sending = Running::start(deaf.port, &[wire, &["--timeout", "4"]].concat());
        // The last line is bad, so that it is known when the one before was taken.
        std::io::Write::write_all(sending.stdin.as_mut().unwrap(), b"counter n 1\nbad\n").unwrap();
        wait_for("the bad line", || sending.err().contains("line 2: ").then_some(()));
        // The first ends the input; when the second comes the broker has answered all but the proof.
        sending.signal("-INT");
        let begun = Instant::now();
        wait_for("a pause", || (begun.elapsed() > Duration::from_secs(2)).then_some(()));
        wait_for("the end", || {
            sending.signal("-INT");
            sending.child.try_wait().unwrap()
        });
        sending.end().fails(1, start);
    }
}
