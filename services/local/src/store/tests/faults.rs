//! Full disks, damaged files and slow queries.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use zibrato_core::histogram::Histogram;

use super::tried::{BEGIN, KEEP_ALL, Tried};
use super::{batch_of, open};
use crate::errors::unix_now;
use crate::store::check::check_db;
use crate::store::errors::StoreError;
use crate::store::measure::{Measurements, MeasurementsQuery, Take};
use crate::store::model::{Complex, RawPoint};
use crate::store::readers::Readers;
use crate::store::{Store, chart, model};
use crate::totals::Counters;

async fn limit_pages(store: &Store, pages: i64) {
    let limit = move |connection: &Connection| connection.pragma_update(None, "max_page_count", pages);
    store.change(limit).await.unwrap();
}

fn points_of(name: &str, count: i64) -> String {
    let gauge = |i: i64| format!(r#"{{"name":"{name}.{i}","value":{i},"measure_time":{i}}}"#);
    format!(r#"{{"gauges":[{}]}}"#, (1..=count).map(gauge).collect::<Vec<_>>().join(","))
}

#[tokio::test]
async fn a_batch_that_finds_no_room_leaves_nothing_and_the_next_one_works_when_there_is_some() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("local.db");
    let store = open(&path).unwrap();
    let counters = Arc::new(Counters::default());
    store.write(batch_of(&counters, &points_of("first", 10), 10)).await.unwrap();
    limit_pages(&store, 60).await;
    let large = points_of("large", 5_000);
    let error = store.write(batch_of(&counters, &large, 10)).await.unwrap_err();
    assert!(matches!(error, StoreError::Full(_)) && error.to_string().contains("free some space"), "{error}");
    let metrics = async || store.facts().await.unwrap().metrics;
    assert_eq!(metrics().await, 10);
    // Something small still fits, and what is there can be read.
    store.write(batch_of(&counters, &points_of("small", 1), 10)).await.unwrap();
    assert_eq!(metrics().await, 11);
    limit_pages(&store, 1 << 30).await;
    store.write(batch_of(&counters, &large, 10)).await.unwrap();
    assert_eq!(metrics().await, 5_011);
    let totals = counters.snapshot();
    assert!(totals.adds_up());
    assert_eq!((totals.points_accepted, totals.points_refused.get("store_failed")), (5_011, Some(&5_000)));
    store.close(false).await;
    assert_eq!(check_db(&path, |_| ()).unwrap().findings, [""; 0]);
}

#[test]
fn packing_without_room_loses_nothing_and_goes_on_when_there_is_some() {
    let mut tried = Tried::new();
    for hour in 0..20 {
        for source in 0..3 {
            // A distribution of many buckets, which takes much more room in a block and three rollups.
            let counts = (0..600_u64).map(|bucket| 1 + bucket * bucket % 97);
            let histogram = Some(Histogram::from_parts(5, 0, -300, counts));
            let complex =
                Complex { count: 1e6, sum: 1.0, min: None, max: None, sum_squares: None, histogram };
            tried.arrive(source, RawPoint::new(BEGIN + hour * 3_600, 1e-6, complex));
        }
    }
    tried.now += 20 * 3_600;
    let read = |tried: &Tried| {
        let query = model::ChartQuery {
            metric: 1,
            sources: Vec::new(),
            start: BEGIN,
            end: BEGIN + 20 * 3_600,
            step: 60,
            by_source: true,
        };
        chart::read(&tried.connection, &query).unwrap()
    };
    let before = read(&tried);
    let pages = tried.count("SELECT page_count FROM pragma_page_count");
    tried.connection.pragma_update(None, "max_page_count", pages).unwrap();
    tried.maintain();
    let left = tried.count("SELECT count(*) FROM tail");
    assert!(left > 0 && read(&tried) == before, "{left}");
    // It does not try again at once.
    tried.connection.pragma_update(None, "max_page_count", 1 << 30).unwrap();
    tried.maintain();
    assert_eq!(tried.count("SELECT count(*) FROM tail"), left);
    tried.maintenance.resume();
    tried.maintain();
    assert_eq!(tried.count("SELECT count(*) FROM tail"), 0);
    assert_eq!(read(&tried), before);
}

#[test]
fn a_point_that_cannot_be_packed_does_not_hold_up_the_others() {
    let mut tried = Tried::new();
    for source in 0..3 {
        tried.arrive(source, RawPoint { t: BEGIN, value: 1.0, complex: None });
    }
    let bad = "INSERT INTO tail (slot, series, t, n, value, count, sum, buckets) VALUES (?1 / 10, 2, ?1, 9, 1, 1, 1, x'ff')";
    tried.connection.execute(bad, [BEGIN]).unwrap();
    tried.pack_all();
    assert_eq!(tried.count("SELECT count(*) FROM blocks WHERE series IN (1, 3)"), 2);
    assert_eq!(tried.count("SELECT count(*) FROM tail WHERE series = 2"), 2);
    assert_eq!(tried.count("SELECT count(*) FROM tail"), 2);
    // Once it is gone, the next pass takes the rest.
    tried.connection.execute("DELETE FROM tail WHERE n = 9", ()).unwrap();
    tried.pack_all();
    assert_eq!(tried.count("SELECT count(*) FROM tail"), 0);
    let synchronous: i64 =
        tried.connection.pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap();
    assert_eq!(synchronous, 2);
}

/// Fills a store with two metrics of a point a second over two hours, packs it and closes it.
fn packed_file(path: &Path) -> i64 {
    let mut tried = Tried::with(path, KEEP_ALL);
    let mut noise = 1_u64;
    tried.connection.execute_batch("BEGIN").unwrap();
    for t in BEGIN..BEGIN + 7_200 {
        for source in 0..2 {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            tried.arrive(source, RawPoint { t, value: (noise >> 11) as f64, complex: None });
        }
    }
    tried.connection.execute_batch("COMMIT").unwrap();
    tried.now += 7_200;
    tried.pack_all();
    tried.count("SELECT count(*) FROM blocks")
}

/// Overwrites `length` bytes of the file from the place of a block's data on.
fn damage(path: &Path, series: i64, length: usize) {
    let connection = Connection::open(path).unwrap();
    let sql = "SELECT data FROM blocks WHERE series = ?1 ORDER BY start LIMIT 1";
    let data: Vec<u8> = connection.query_row(sql, [series], |row| row.get(0)).unwrap();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(())).unwrap();
    drop(connection);
    let bytes = std::fs::read(path).unwrap();
    let place = bytes.windows(64).position(|window| window == &data[data.len() - 64..]).unwrap();
    // In its place: a store that has the file open must not meet a shorter one.
    let mut file = std::fs::File::options().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(place as u64)).unwrap();
    file.write_all(&vec![0xa5; length]).unwrap();
}

async fn read(store: &Store, source: &str, start: i64, resolution: i64) -> Result<Measurements, StoreError> {
    let sources = vec![source.to_owned()];
    let query = MeasurementsQuery {
        metric: 1,
        start: Some(start),
        end: start + 3_599,
        resolution,
        sources,
        take: Take::All,
    };
    store.measurements(query).await
}

#[tokio::test]
async fn damaged_bytes_of_a_block_are_noticed_and_everything_else_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("local.db");
    packed_file(&path);
    damage(&path, 1, 8);
    // SQLite has no checksums, so the start does not see it; the block's own does.
    let store = Store::open(&path, KEEP_ALL, unix_now).unwrap();
    let error = read(&store, "a", BEGIN, 1).await.unwrap_err();
    assert!(
        matches!(error, StoreError::DamagedPart(_)) && error.to_string().contains("--check-db"),
        "{error}"
    );
    assert_eq!(read(&store, "a", BEGIN, 60).await.unwrap().rows.len(), 60);
    assert_eq!(read(&store, "a", BEGIN + 3_600, 1).await.unwrap().rows.len(), 3_600);
    assert_eq!(read(&store, "b", BEGIN, 1).await.unwrap().rows.len(), 3_600);
    let counters = Arc::new(Counters::default());
    store.write(batch_of(&counters, &points_of("more", 10), 10)).await.unwrap();
    store.close(false).await;
    let report = check_db(&path, |_| ()).unwrap();
    let expected = [
        format!("blocks: part 0 of series 1 at {BEGIN} does not decode"),
        format!("rollups: series 1 at 60 s differs from what is finer in 10 steps, first at {BEGIN}"),
    ];
    assert_eq!((report.findings.as_slice(), report.findings_total), (&expected[..], 2));
}

#[tokio::test]
async fn a_page_of_garbage_is_noticed_and_other_pages_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("local.db");
    packed_file(&path);
    // It is opened while it is whole: a small file that is damaged is refused at the start.
    let store = Store::open(&path, KEEP_ALL, unix_now).unwrap();
    damage(&path, 1, 4_096);
    let error = read(&store, "a", BEGIN, 1).await.unwrap_err();
    assert!(matches!(error, StoreError::DamagedPart(_)), "{error}");
    assert_eq!(read(&store, "a", BEGIN, 60).await.unwrap().rows.len(), 60);
    assert_eq!(read(&store, "b", BEGIN + 3_600, 1).await.unwrap().rows.len(), 3_600);
    let counters = Arc::new(Counters::default());
    store.write(batch_of(&counters, &points_of("more", 10), 10)).await.unwrap();
    assert_eq!(store.facts().await.unwrap().metrics, 11);
    store.close(false).await;
    assert!(check_db(&path, |_| ()).unwrap().findings_total > 0);
}

#[test]
fn a_rollup_that_says_something_else_than_its_points_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("local.db");
    let blocks = packed_file(&path);
    let report = check_db(&path, |_| ()).unwrap();
    assert_eq!((report.findings.len(), report.metrics, report.series), (0, 1, 3));
    assert_eq!((report.points, report.rollups), (14_400, 2 * (120 + 8 + 2)));
    let connection = Connection::open(&path).unwrap();
    for (change, undo, expected) in [
        (
            "UPDATE rollups SET count = count + 1 WHERE resolution = 900 AND series = 2",
            "UPDATE rollups SET count = count - 1 WHERE resolution = 900 AND series = 2",
            &[
                "rollups: series 2 at 900 s differs from what is finer in 8 steps",
                "rollups: series 2 at 3600 s",
            ][..],
        ),
        (
            "UPDATE blocks SET points = points + 1 WHERE series = 1",
            "UPDATE blocks SET points = points - 1 WHERE series = 1",
            &["blocks: part 0 of series 1"; 12][..],
        ),
        (
            "INSERT INTO rollups SELECT resolution, 77, t, count, sum, min, max, sum_squares, last, last_time, buckets FROM rollups WHERE series = 1",
            "DELETE FROM rollups WHERE series = 77",
            &["rollups names 1 series that are neither there nor deleted"][..],
        ),
        (
            "UPDATE series SET source = 99 WHERE id = 3",
            "UPDATE series SET source = 3 WHERE id = 3",
            &["series names 1 rows that are not there"][..],
        ),
    ] {
        connection.pragma_update(None, "foreign_keys", false).unwrap();
        connection.execute(change, ()).unwrap();
        let found = check_db(&path, |_| ()).unwrap().findings;
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found}");
        }
        connection.execute(undo, ()).unwrap();
    }
    assert_eq!(check_db(&path, |_| ()).unwrap().findings.len(), 0);
    assert_eq!(blocks, 24);
}

const ENDLESS: &str =
    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_query_ends_in_time_and_holds_up_no_other() {
    let connections = (0..2).map(|_| Connection::open_in_memory().unwrap()).collect();
    let readers = Readers::new(connections, Duration::from_millis(300));
    let run = async |readers: Arc<Readers>, sql: &'static str| {
        readers.read(move |connection| Ok(connection.query_row(sql, (), |row| row.get::<_, i64>(0))?)).await
    };
    let slow = tokio::spawn(run(Arc::clone(&readers), ENDLESS));
    assert_eq!(run(Arc::clone(&readers), "SELECT 7").await.unwrap(), 7);
    assert!(!slow.is_finished());
    // With all connections taken, one more waits for its time and no longer.
    let other = tokio::spawn(run(Arc::clone(&readers), ENDLESS));
    for slow in [slow, other] {
        assert!(matches!(slow.await.unwrap(), Err(StoreError::TimedOut)));
    }
    assert_eq!(run(Arc::clone(&readers), "SELECT 7").await.unwrap(), 7);
    let panicking = readers.read(|_| -> Result<(), StoreError> { panic!("on purpose") }).await;
    assert!(matches!(panicking, Err(StoreError::Closed)));
    assert_eq!(run(Arc::clone(&readers), "SELECT 7").await.unwrap(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_ends_a_query_under_way() {
    let readers = Readers::new(
        (0..4).map(|_| Connection::open_in_memory().unwrap()).collect(),
        Duration::from_secs(60),
    );
    let (started, is_running) = tokio::sync::oneshot::channel();
    let slow = tokio::spawn({
        let readers = Arc::clone(&readers);
        async move {
            let query = move |connection: &Connection| {
                let _ = started.send(());
                Ok(connection.query_row(ENDLESS, (), |row| row.get::<_, i64>(0))?)
            };
            readers.read(query).await
        }
    });
    is_running.await.unwrap();
    let close = tokio::time::timeout(Duration::from_secs(20), readers.close());
    close.await.unwrap();
    assert!(matches!(slow.await.unwrap(), Err(StoreError::Closed)));
    assert!(matches!(readers.read(|_| Ok(())).await, Err(StoreError::Closed)));
}

#[test]
fn the_journal_stays_small_while_there_is_always_a_query() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("local.db");
    let mut tried = Tried::with(&path, KEEP_ALL);
    let journal = path.with_extension("db-wal");
    let (written, next) = mpsc::sync_channel::<()>(0);
    std::thread::scope(|scope| {
        let path = &path;
        scope.spawn(move || {
            // After each write a query begins, and then the one before it ends: there always is one
            // that reads from the journal. If there are no writes, it ends after a while.
            let readers = [Connection::open(path).unwrap(), Connection::open(path).unwrap()];
            let mut running = None;
            for place in (0..2).cycle() {
                match next.recv_timeout(Duration::from_millis(50)) {
                    Ok(()) => readers[place].execute_batch("BEGIN; SELECT count(*) FROM metrics;").unwrap(),
                    Err(mpsc::RecvTimeoutError::Timeout) => {}
                    Err(mpsc::RecvTimeoutError::Disconnected) => break,
                }
                let begun = (!readers[place].is_autocommit()).then_some(place);
                if let Some(ended) = std::mem::replace(&mut running, begun) {
                    readers[ended].execute_batch("COMMIT").unwrap();
                }
            }
        });
        let blob = "INSERT INTO blocks (series, start, part, points, data) VALUES (1, ?1 * 600, 0, 1, randomblob(1000000))";
        for start in 0..120 {
            tried.connection.execute(blob, [start]).unwrap();
            written.send(()).unwrap();
            tried.maintain();
            let bytes = std::fs::metadata(&journal).unwrap().len();
            assert!(bytes < 80 * 1024 * 1024, "{bytes} after {start}");
        }
        drop(written);
    });
}

#[test]
fn a_query_that_goes_on_holds_up_the_writer_for_a_moment_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("local.db");
    let mut tried = Tried::with(&path, KEEP_ALL);
    let reader = Connection::open(&path).unwrap();
    tried.connection.execute_batch("INSERT INTO garbage VALUES (77)").unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM garbage;").unwrap();
    let blob = "INSERT INTO blocks (series, start, part, points, data) VALUES (1, ?1 * 600, 0, 1, randomblob(1000000))";
    // More than the journal may have before the writer waits for queries.
    for start in 0..70 {
        tried.connection.execute(blob, [start]).unwrap();
    }
    let begun = Instant::now();
    tried.maintain();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(tried.count("PRAGMA busy_timeout"), 5_000, "statements wait as long as before");
    assert_eq!(tried.count("SELECT count(*) FROM garbage"), 0, "and the rest of the work goes on");
    reader.execute_batch("COMMIT").unwrap();
}
