//! What a program cannot start with is said in one line that names the setting, what was given and what is
//! accepted, with exit code 2 for bad usage and 1 for a failure; what it can live with it says and lives with.
#![allow(clippy::unwrap_used, reason = "what fails here fails a test")]

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use zibrato_e2e::{
    Broker, ClientLaw, Ended, Local, PortPair, Process, Worker, directory, field, get, read, until,
};

/// Runs a program that must refuse its arguments, and checks the line that says so.
fn refused(program: &str, args: &[&str], code: i32, parts: &[&str]) {
    let Ended { code: found, stderr, stdout } = Process::run(program, args);
    let what = format!("{program} {args:?}: {stderr}");
    assert_eq!(found, Some(code), "{what}");
    assert_eq!(stdout, "", "{what}");
    // A program may have logged before it failed; of the error there is one line.
    let errors: Vec<&str> = stderr.lines().filter(|line| line.contains("error: ")).collect();
    assert_eq!(errors.len(), 1, "{what}");
    assert!(!stderr.contains("panicked") && !stderr.contains("Error {"), "{what}");
    for part in parts {
        assert!(errors[0].contains(part), "{part:?} in {what}");
    }
}

#[test]
fn each_bad_flag_is_exit_code_2_and_a_line_with_flag_value_and_what_is_accepted() {
    let home = directory();
    let empty = home.path().join("empty");
    fs::write(&empty, "\n").unwrap();
    let (empty, missing) = (empty.to_str().unwrap().to_owned(), home.path().join("missing"));
    let missing = missing.to_str().unwrap().to_owned();
    let table: &[(&str, &[&str], &[&str])] = &[
        ("zibrato-broker", &["--port", "65536"], &["--port", "65536", "from 0 to 65535"]),
        ("zibrato-broker", &["--port", "65535"], &["--port", "65535", "1 to 65534"]),
        ("zibrato-broker", &["--host", "example.org"], &["--host", "example.org", "IP address"]),
        ("zibrato-broker", &["--host", "0.0.0.0"], &["--host", "0.0.0.0", "loopback", "--insecure-bind"]),
        ("zibrato-broker", &["--http", "0.0.0.0:0"], &["--http", "0.0.0.0:0", "loopback"]),
        ("zibrato-broker", &["--http", "5552"], &["--http", "5552", "address"]),
        ("zibrato-broker", &["--keep-mib", "0"], &["--keep-mib", "'0'", "from 1 to 65536"]),
        ("zibrato-broker", &["--keep-age", "2592001"], &["--keep-age", "2592001", "from 1 to 2592000"]),
        ("zibrato-librato", &["--http", "0.0.0.0:0"], &["--http", "0.0.0.0:0", "loopback"]),
        ("zibrato-librato", &["--port", "0"], &["--port", "'0'", "from 1 to 65535"]),
        ("zibrato-librato", &["--flush", "0"], &["--flush", "'0'", "from 1 to 3600"]),
        ("zibrato-librato", &["--flush", "3601"], &["--flush", "3601", "from 1 to 3600"]),
        ("zibrato-librato", &["--flush", "often"], &["--flush", "often", "from 1 to 3600"]),
        ("zibrato-librato", &["--levels", " , "], &["--levels", "' , '", "such as info,debug"]),
        ("zibrato-librato", &["--levels", "a|b"], &["--levels", "a|b", "1 to 32 bytes"]),
        ("zibrato-librato", &["--endpoint", "here"], &["--endpoint", "here", "tcp://HOST:PORT"]),
        ("zibrato-librato", &["--endpoint", "tcp://h:0"], &["--endpoint", "tcp://h:0", "tcp://HOST:PORT"]),
        ("zibrato-librato", &["--url", "ftp://x/"], &["--url", "ftp://x/", "https://"]),
        ("zibrato-librato", &["--spool-mib", "0"], &["--spool-mib", "'0'", "from 1 to 1048576"]),
        ("zibrato-librato", &["--max-age", "59"], &["--max-age", "59", "from 60 to 315360000"]),
        ("zibrato-librato", &["--timers", "some"], &["--timers", "some"]),
        ("zibrato-librato", &["--username", "me"], &["--username", "token", "--apitoken-file"]),
        ("zibrato-librato", &["--apitoken-file", &missing], &["--apitoken-file", &missing]),
        ("zibrato-local", &["--listen", "localhost"], &["--listen", "localhost", "IP:PORT"]),
        (
            "zibrato-local",
            &["--listen", "0.0.0.0:0", "--db", &missing],
            &["--listen", "0.0.0.0:0", "--token-file"],
        ),
        ("zibrato-local", &["--token-file", &missing, "--db", "x"], &["--token-file", &missing]),
        ("zibrato-local", &["--token-file", &empty, "--db", "x"], &["--token-file", "1 to 1024 bytes"]),
        ("zibrato-local", &["--max-age", "0"], &["--max-age", "'0'", "from 1 to 315360000"]),
        ("zibrato-local", &["--max-ahead=-1"], &["--max-ahead", "-1", "from 0 to 315360000"]),
        ("zibrato", &["up", "--data", &missing, "--port", "65535"], &["--port", "65535", "1 to 65534"]),
        ("zibrato", &["up", "--data", &missing, "--host", "0.0.0.0"], &["--host", "0.0.0.0", "loopback"]),
        ("zibrato", &["up", "--listen", "0.0.0.0:0"], &["--listen", "0.0.0.0:0", "loopback"]),
        ("zibrato", &["up", "--levels", "a|b"], &["--levels", "a|b", "1 to 32 bytes"]),
        ("zibrato", &["down"], &["down"]),
        ("latency-loop", &["--threads", "0"], &["--threads", "'0'", "1..=256"]),
        ("latency-loop", &["--source", "my source"], &["source", "my source", "1 to 255"]),
        ("latency-loop", &["--seconds", "0"], &["--seconds", "'0'", "1..=86400"]),
        ("latency-loop", &["--endpoint", "nowhere"], &["endpoint", "nowhere", "tcp://HOST:PORT"]),
    ];
    for (program, args, parts) in table {
        refused(program, args, 2, parts);
    }
    for program in ["zibrato", "zibrato-broker", "zibrato-librato", "zibrato-local", "latency-loop"] {
        refused(program, &["--no-such-flag"], 2, &["--no-such-flag"]);
    }
}

#[test]
fn a_port_in_use_is_exit_code_1_and_names_the_flag_that_gives_another() {
    let home = directory();
    let ports = PortPair::reserve();
    let holder = TcpListener::bind(("127.0.0.1", ports.port)).unwrap();
    let (port, addr) = (ports.port.to_string(), format!("127.0.0.1:{}", ports.port));
    let spool = home.path().join("spool");
    let (spool, db) = (spool.to_str().unwrap(), home.path().join("local.db"));
    refused(
        "zibrato-broker",
        &["--port", &port, "--no-http"],
        1,
        &["--port", &port, "ddress already in use"],
    );
    refused(
        "zibrato-broker",
        &["--port", "0", "--http", &addr],
        1,
        &["--http", &addr, "ddress already in use"],
    );
    refused(
        "zibrato-librato",
        &["--spool", spool, "--http", &addr],
        1,
        &["--http", &addr, "ddress already in use"],
    );
    let args = ["--listen", &addr, "--db", db.to_str().unwrap()];
    refused("zibrato-local", &args, 1, &["--listen", &addr, "ddress already in use"]);
    let data = home.path().join("up");
    let up =
        ["up", "--no-http", "--listen", "127.0.0.1:0", "--data", data.to_str().unwrap(), "--port", &port];
    refused("zibrato", &up, 1, &["--port", &port, "ddress already in use"]);
    drop(holder);
    // The next one is taken as well by a broker.
    let neighbour = TcpListener::bind(("127.0.0.1", ports.port + 1)).unwrap();
    let next = (ports.port + 1).to_string();
    refused(
        "zibrato-broker",
        &["--port", &port, "--no-http"],
        1,
        &["--port", &port, &next, "two free ports"],
    );
    drop(neighbour);
    Broker::on(&ports).finish();
}

#[test]
fn a_spool_that_cannot_be_used_is_exit_code_1_and_names_it() {
    let home = directory();
    let file = home.path().join("file");
    fs::write(&file, "x").unwrap();
    let beneath = file.join("spool");
    let beneath = beneath.to_str().unwrap();
    refused(
        "zibrato-librato",
        &["--spool", beneath, "--no-http"],
        1,
        &["--spool", beneath, "ot a directory"],
    );
    // A directory has one worker.
    let spool = home.path().join("spool");
    let nowhere = format!("ipc://{}", home.path().join("nowhere").display());
    let worker = Worker::start(&nowhere, "info", "http://127.0.0.1:9/", &spool);
    let spool = spool.to_str().unwrap();
    refused("zibrato-librato", &["--spool", spool, "--no-http"], 1, &["--spool", spool, "another worker"]);
    worker.finish();
}

#[test]
fn a_damaged_spool_is_put_away_and_the_worker_starts() {
    let home = directory();
    let spool = home.path().join("spool");
    fs::create_dir(&spool).unwrap();
    fs::write(spool.join("spool.db"), [0x5a; 40_000]).unwrap();
    let (broker, local) = (Broker::start(), Local::start(home.path()));
    let worker = Worker::start(&broker.workers, "info", &local.url(), &spool);
    worker.counted("zibrato_worker_spool_quarantined_total", &[], 1.0);
    let put_away =
        fs::read_dir(&spool).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let put_away: Vec<_> = put_away.filter(|name| name.starts_with("spool.db.damaged-")).collect();
    assert_eq!(put_away.len(), 1, "{put_away:?}");
    assert_eq!(fs::read(spool.join(&put_away[0])).unwrap(), [0x5a; 40_000]);
    let told = worker.process.stderr();
    assert!(told.lines().any(|line| line.contains("ERROR") && line.contains(&put_away[0])), "{told}");
    deliver(&broker);
    until("delivery", || (read(&local.db).sum("hits", "once") >= 3.0).then_some(()));
    worker.finish();
}

#[test]
fn a_damaged_database_and_one_of_another_program_are_exit_code_1_and_left_alone() {
    let home = directory();
    let write = |name: &str, bytes: &[u8]| {
        let path = home.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let garbage = write("garbage.db", &[0x5a; 40_000]);
    let sound = directory();
    let local = Local::start(sound.path());
    let db = local.db.clone();
    local.finish();
    let torn = write("torn.db", &fs::read(&db).unwrap()[..8_192 + 100]);
    let foreign = home.path().join("foreign.db");
    let connection = rusqlite::Connection::open(&foreign).unwrap();
    connection.execute_batch("CREATE TABLE theirs (x)").unwrap();
    drop(connection);
    let rows: &[(&Path, &str)] =
        &[(&garbage, "damaged"), (&torn, "damaged"), (&foreign, "belongs to another program")];
    for (path, word) in rows {
        let before = fs::read(path).unwrap();
        let path_text = path.to_str().unwrap();
        let args = ["--listen", "127.0.0.1:0", "--db", path_text];
        refused("zibrato-local", &args, 1, &["--db", path_text, word]);
        assert_eq!(fs::read(path).unwrap(), before);
    }
    let beneath = garbage.join("local.db");
    let args = ["--listen", "127.0.0.1:0", "--db", beneath.to_str().unwrap()];
    refused("zibrato-local", &args, 1, &["--db", garbage.to_str().unwrap()]);
}

#[test]
fn a_worker_without_a_broker_says_so_keeps_running_and_finds_it_when_it_comes() {
    let (home, ports) = (directory(), PortPair::reserve());
    let local = Local::start(home.path());
    let endpoint = ports.workers();
    let mut worker = Worker::start(&endpoint, "info", &local.url(), &home.path().join("spool"));
    let line = worker.process.line("no connection to the broker");
    assert_eq!(field(&line, "endpoint"), endpoint);
    assert!(line.contains("WARN"), "{line}");
    assert!(worker.process.is_running());
    let broker = Broker::on(&ports);
    broker.subscribed(1);
    deliver(&broker);
    until("delivery", || (read(&local.db).sum("hits", "once") >= 3.0).then_some(()));
    worker.process.line("connected to the broker");
    broker.finish();
    worker.finish();
}

#[test]
fn a_wrong_token_keeps_the_worker_running_and_loud_and_the_right_one_delivers() {
    let home = directory();
    let token = home.path().join("token");
    fs::write(&token, "right-canary-71\n").unwrap();
    let token = token.to_str().unwrap();
    let broker = Broker::start();
    let local = Local::with(home.path(), &["--listen", "127.0.0.1:0", "--token-file", token]);
    let (url, spool) = (local.url(), home.path().join("spool"));
    let fixed = [
        "--endpoint",
        &broker.workers,
        "--url",
        &url,
        "--spool",
        spool.to_str().unwrap(),
        "--username",
        "me",
    ];
    let mut worker = Worker::with(&[&fixed[..], &["--apitoken", "wrong-canary-72"]].concat());
    let line = worker.process.line("the backend answers, but not as it should");
    assert!(line.contains("401"), "{line}");
    broker.subscribed(1);
    deliver(&broker);
    let line = worker.process.line("the backend refuses credentials or address");
    assert!(line.contains("ERROR") && line.contains("401"), "{line}");
    let (status, health) = get(&worker.http, "/healthz");
    assert_eq!(status, 503, "{health}");
    assert!(health.contains("credentials"), "{health}");
    assert!(worker.process.is_running());
    let delivery = worker.finish();
    assert_eq!((delivery.held, delivery.points), (1, 0), "{}", delivery.line);
    assert!(!delivery.stderr.contains("canary"), "{}", delivery.stderr);

    let worker = Worker::with(&[&fixed[..], &["--apitoken-file", token]].concat());
    until("delivery", || (read(&local.db).sum("hits", "once") >= 3.0).then_some(()));
    broker.finish();
    let delivery = worker.finish();
    assert!(!delivery.stderr.contains("canary"), "{}", delivery.stderr);
    assert_eq!(read(&local.db).sum("hits", "once"), 3.0);
    assert!(!local.finish().stderr.contains("canary"));
}

/// Runs a program that records a counter of 3.
fn deliver(broker: &Broker) {
    let program = Process::run("once", &["--endpoint", &broker.publishers, "--counter", "hits=3"]);
    assert_eq!(ClientLaw::read(&program.stderr).delivered.counters, 3, "{}", program.stderr);
}
