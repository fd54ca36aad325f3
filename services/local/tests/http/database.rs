//! The database under the program: killed in the middle, opened twice, checked, on a full disk.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{DEADLINE, call, database, now};
use crate::program::{Started, output, program};

/// The points of one batch, so that half of one would show.
const POINTS_PER_BATCH: i64 = 50;

/// The answer's status; none if the connection broke.
async fn try_post(addr: SocketAddr, id: &str, body: &str) -> Option<u16> {
    let head = format!(
        "POST /v1/metrics HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\nContent-Type: application/json\r\nX-Zibrato-Batch: {id}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(addr).await.ok()?;
    stream.write_all(head.as_bytes()).await.ok()?;
    stream.write_all(body.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok()?;
    std::str::from_utf8(answer.get(9..12)?).ok()?.parse().ok()
}

/// A batch whose points all have its number as their value, over two hours that end now: the older
/// ones are packed as soon as a program starts.
fn batch(number: i64, end: i64) -> String {
    let gauge = |i: i64| {
        let time = end - 7_000 + (i * 139 + number * 7) % 6_900;
        format!(r#"{{"name":"m","source":"s{}","value":{number},"measure_time":{time}}}"#, i % 3)
    };
    format!(r#"{{"gauges":[{}]}}"#, (0..POINTS_PER_BATCH).map(gauge).collect::<Vec<_>>().join(","))
}

/// How many points have each value, from all pages of an answer.
async fn points_by_value(addr: SocketAddr, start: i64) -> BTreeMap<i64, i64> {
    let (mut points, mut start) = (BTreeMap::new(), start);
    loop {
        let answer = call(addr, "GET", &format!("/v1/metrics/m?start_time={start}"), &[], b"").await.json();
        for measurement in
            answer["measurements"].as_object().unwrap().values().flat_map(|all| all.as_array().unwrap())
        {
            *points.entry(measurement["value"].as_f64().unwrap() as i64).or_insert(0) += 1;
        }
        match answer["query"]["next_time"].as_i64() {
            Some(next) => start = next,
            None => return points,
        }
    }
}

/// The points that are packed.
fn packed(db: &Path) -> i64 {
    let connection = rusqlite::Connection::open(db).unwrap();
    connection.query_row("SELECT coalesce(sum(points), 0) FROM blocks", (), |row| row.get(0)).unwrap()
}

/// Posts batch after batch until the program is gone; returns the first that was not acknowledged.
async fn post_until_killed(addr: SocketAddr, mut number: i64, end: i64, acknowledged: &AtomicUsize) -> i64 {
    while let Some(status) = try_post(addr, &number.to_string(), &batch(number, end)).await {
        assert_eq!(status, 200);
        number += 1;
        acknowledged.fetch_add(1, Ordering::SeqCst);
    }
    number
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_stores_and_packs_it_has_what_it_acknowledged_and_no_half_batch() {
    let (_directory, db) = database();
    let args = ["--listen", "127.0.0.1:0", "--db", db.to_str().unwrap()];
    let end = now();
    let (mut number, mut packed_at_kills) = (1, Vec::new());
    for life in 1..=8 {
        // The first batch of a life is the one that the life before did not acknowledge.
        let mut started = Started::new(program(&args));
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let poster = tokio::spawn({
            let (acknowledged, addr) = (Arc::clone(&acknowledged), started.addr);
            async move { post_until_killed(addr, number, end, &acknowledged).await }
        });
        let enough = async {
            while acknowledged.load(Ordering::SeqCst) < 10 * life {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, enough).await.unwrap();
        started.child.kill().unwrap();
        packed_at_kills.push(packed(&db));
        number = tokio::time::timeout(DEADLINE, poster).await.unwrap().unwrap();
    }
    // Each life packs what the one before left, so kills came in the middle of that too.
    assert!(packed_at_kills.is_sorted() && packed_at_kills[7] > 0, "{packed_at_kills:?}");
    let started = Started::new(program(&args));
    let acknowledged = number - 1;
    assert!(acknowledged >= 10 * 36, "{acknowledged}");
    let stored = points_by_value(started.addr, end - 7_200).await;
    let mut expected: BTreeMap<i64, i64> = (1..number).map(|number| (number, POINTS_PER_BATCH)).collect();
    if stored.contains_key(&number) {
        // It was stored, and the kill came before its answer.
        expected.insert(number, POINTS_PER_BATCH);
    }
    assert_eq!(stored, expected);
    // The rollups say the same, and so does the check.
    let query = format!("/v1/metrics/m?start_time={}&resolution=3600", end - 7_200);
    let hours = call(started.addr, "GET", &query, &[], b"").await.json();
    let counts = hours["measurements"].as_object().unwrap().values().flat_map(|all| all.as_array().unwrap());
    let count: i64 = counts.map(|hour| hour["count"].as_i64().unwrap()).sum();
    assert_eq!(count, stored.values().sum::<i64>());
    drop(started);
    let (code, out, _) = checked(&db);
    assert!(code == 0 && out.contains(&format!(" {count} points")), "{out}");
}

/// The exit code, stdout and the last line of stderr of `--check-db`.
fn checked(db: &Path) -> (i32, String, String) {
    let Output { status, stdout, stderr } = output(&["--check-db", "--db", db.to_str().unwrap()]);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr).lines().last().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn one_process_at_a_time_has_the_database_and_a_check_may_run_beside_it() {
    let (_directory, db) = database();
    let args = ["--listen", "127.0.0.1:0", "--db", db.to_str().unwrap()];
    let first = Started::new(program(&args));
    assert_eq!(try_post(first.addr, "1", &batch(1, now())).await, Some(200));
    let second = output(&args);
    let stderr = String::from_utf8(second.stderr).unwrap();
    let expected = format!(
        "zibrato-local: error: the database {} is in use by another process; stop that one or give another file with --db",
        db.display()
    );
    assert_eq!((second.status.code(), stderr.lines().last()), (Some(1), Some(expected.as_str())));
    let (code, out, _) = checked(&db);
    assert!(code == 0 && out.starts_with("OK: 1 metrics, 3 series, 50 points, "), "{out}");
    // A process that was killed does not keep it.
    drop(first);
    drop(Started::new(program(&args)));
}

#[tokio::test]
async fn a_check_says_what_is_wrong_and_changes_nothing() {
    let (directory, db) = database();
    let (code, _, line) = checked(&db);
    assert!(code == 1 && line.contains("cannot open the database"), "{line}");
    assert!(!db.exists());

    std::fs::write(&db, "no database at all, but long enough to be looked at\n".repeat(50)).unwrap();
    let (code, _, line) = checked(&db);
    assert!(code == 1 && line.contains("is damaged or not an SQLite file"), "{line}");

    let db = directory.path().join("good.db");
    let args = ["--listen", "127.0.0.1:0", "--db", db.to_str().unwrap()];
    let started = Started::new(program(&args));
    assert_eq!(try_post(started.addr, "1", &batch(1, now())).await, Some(200));
    drop(started);
    let connection = rusqlite::Connection::open(&db).unwrap();
    connection
        .execute_batch("INSERT INTO rollups VALUES (60, 77, 0, 1, 1, 1, 1, 1, 1, 0, NULL); PRAGMA wal_checkpoint(TRUNCATE);")
        .unwrap();
    drop(connection);
    let before = std::fs::read(&db).unwrap();
    let (code, out, line) = checked(&db);
    assert_eq!((code, out.as_str()), (1, "rollups names 1 series that are neither there nor deleted\n"));
    let expected = format!(
        "zibrato-local: error: the database {} is damaged: 1 findings; restore a copy of it, or move it away and start anew",
        db.display()
    );
    assert_eq!(line, expected);
    assert_eq!(std::fs::read(&db).unwrap(), before);
}

/// Needs the right to mount, so it runs on demand: `cargo test -p zibrato-local --test http -- --ignored full_disk`.
#[tokio::test]
#[ignore = "needs root, to mount a small tmpfs"]
async fn on_a_full_disk_it_refuses_what_has_no_room_and_goes_on_when_there_is_some() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Mounted::new(directory.path());
    let db = directory.path().join("local.db");
    let started = Started::new(program(&["--listen", "127.0.0.1:0", "--db", db.to_str().unwrap()]));
    let end = now();
    assert_eq!(try_post(started.addr, "1", &batch(1, end)).await, Some(200));
    let filler = directory.path().join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    while file.write_all(&[0; 4_096]).is_ok() {}
    drop(file);
    // What is free inside the journal's file may take some more batches.
    let mut number = 2;
    while try_post(started.addr, &number.to_string(), &batch(number, end)).await == Some(200) {
        number += 1;
        assert!(number < 10_000);
    }
    assert_eq!(try_post(started.addr, &number.to_string(), &batch(number, end)).await, Some(503));
    let stored = points_by_value(started.addr, end - 7_200).await;
    assert_eq!(stored, (1..number).map(|number| (number, POINTS_PER_BATCH)).collect());
    std::fs::remove_file(&filler).unwrap();
    assert_eq!(try_post(started.addr, &number.to_string(), &batch(number, end)).await, Some(200));
    let stored = points_by_value(started.addr, end - 7_200).await;
    assert_eq!(stored, (1..=number).map(|number| (number, POINTS_PER_BATCH)).collect());
    drop(started);
    assert_eq!(checked(&db).0, 0);
    drop(disk);
}

/// A disk of 4 MiB, which is gone when this is dropped.
struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    fn new(at: &'a Path) -> Self {
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "zibrato-test"]).arg(at).status();
        assert!(mounted.unwrap().success(), "this test needs the right to mount");
        Self(at)
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}
