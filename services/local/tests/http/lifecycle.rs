//! Restart, concurrency, the ordered end and unusable files.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use zibrato_local::{Config, Error, StoreError, start};
use zibrato_service::{Shutdown, chain};

use crate::client::{DEADLINE, Receiver, database, now};

const ONE: &str = r#"{"gauges":[{"name":"a","value":1}]}"#;

async fn count(receiver: &Receiver, name: &str) -> usize {
    let measurements = receiver.measurements(name, "count=10000").await;
    measurements.as_object().unwrap().values().map(|series| series.as_array().unwrap().len()).sum()
}

#[tokio::test]
async fn points_and_batch_ids_outlive_a_restart() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    assert_eq!(receiver.post_batch("batch-1", ONE).await.status, 200);
    assert_eq!(receiver.post_batch("batch-2", ONE).await.status, 200);
    let totals = receiver.stop().await;
    assert_eq!((totals.points_accepted, totals.duplicate_batches), (2, 0));
    // The file was closed, not only left: all of it is in one place.
    assert!(!db.with_extension("db-wal").exists());

    let receiver = Receiver::on(&db).await;
    let again = receiver.post_batch("batch-1", ONE).await;
    assert_eq!((again.status, again.body.as_str()), (200, ""));
    assert_eq!(again.header("Content-Length"), Some("0"));
    assert_eq!(receiver.post_batch("batch-3", ONE).await.status, 200);
    assert_eq!(count(&receiver, "a").await, 3);
    let totals = receiver.stop().await;
    assert_eq!((totals.points_offered, totals.points_accepted, totals.duplicate_batches), (2, 1, 1));
    assert_eq!(totals.points_refused.get("duplicate_batch"), Some(&1));
}

#[tokio::test]
async fn a_stored_batch_that_has_grown_too_old_meanwhile_is_still_a_duplicate() {
    let (_directory, db) = database();
    let body = format!(r#"{{"gauges":[{{"name":"a","value":1,"measure_time":{}}}]}}"#, now() - 100);
    let receiver = Receiver::on(&db).await;
    assert_eq!(receiver.post_batch("b", &body).await.status, 200);
    receiver.stop().await;
    let receiver = Receiver::with(&db, |config| config.max_age_s = 50).await;
    assert_eq!(receiver.post_batch("b", &body).await.status, 200);
    assert_eq!(receiver.post_batch("c", &body).await.status, 400);
    let totals = receiver.stop().await;
    assert_eq!((totals.duplicate_batches, totals.points_refused.get("too_old")), (1, Some(&1)));
}

#[tokio::test]
async fn a_refused_batch_does_not_use_up_its_id() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    assert_eq!(receiver.post(r#"{"counters":{"c":{"value":1}}}"#).await.status, 200);
    assert_eq!(receiver.post_batch("b", r#"{"gauges":{"a":{"value":1},"c":{"value":1}}}"#).await.status, 400);
    assert_eq!(receiver.post_batch("b", ONE).await.status, 200);
    assert_eq!(count(&receiver, "a").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn sums_are_exact_under_concurrent_posters_that_repeat_batches() {
    const POSTERS: u64 = 2;
    const BATCHES: u64 = 40;
    const POINTS: u64 = 25;
    let (_directory, db) = database();
    let receiver = Arc::new(Receiver::on(&db).await);
    let time = now();
    let posters = (0..POSTERS).map(|poster| {
        let receiver = Arc::clone(&receiver);
        tokio::spawn(async move {
            for batch in 0..BATCHES {
                let values = (0..POINTS).map(|point| poster * 1_000_000 + batch * 1_000 + point);
                let gauges: Vec<String> = values
                    .map(|v| format!(r#"{{"name":"m","source":"s","value":{v},"measure_time":{time}}}"#))
                    .collect();
                let body = format!(r#"{{"gauges":[{}]}}"#, gauges.join(","));
                // Each batch is sent twice, as after an answer that was lost.
                for _ in 0..2 {
                    assert_eq!(receiver.post_batch(&format!("{poster}-{batch}"), &body).await.status, 200);
                }
            }
        })
    });
    for poster in posters.collect::<Vec<_>>() {
        poster.await.unwrap();
    }
    let points = POSTERS * BATCHES * POINTS;
    let each: u64 = (0..BATCHES).map(|batch| POINTS * batch * 1_000 + (0..POINTS).sum::<u64>()).sum();
    let sum: u64 = (0..POSTERS).map(|poster| poster * 1_000_000 * BATCHES * POINTS + each).sum();
    let merged = receiver.measurements("m", "count=1&resolution=3600").await;
    assert_eq!(merged["s"][0]["count"], json!(points));
    assert_eq!(merged["s"][0]["sum"], json!(sum as f64));
    assert_eq!(count(&receiver, "m").await as u64, points);
    let totals = Arc::into_inner(receiver).unwrap().stop().await;
    assert_eq!((totals.points_accepted, totals.duplicate_batches), (points, POSTERS * BATCHES));
    assert_eq!(totals.points_offered, 2 * points);
}

#[tokio::test]
async fn a_request_under_way_is_finished_by_an_ordered_stop() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let mut stream = TcpStream::connect(receiver.running.addr).await.unwrap();
    let (first, rest) = ONE.split_at(10);
    let head = format!(
        "POST /v1/metrics HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        ONE.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // The interim answer proves that the request is being read.
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.unwrap();
    assert!(interim.starts_with(b"HTTP/1.1 100 Continue"));
    stream.write_all(first.as_bytes()).await.unwrap();
    receiver.shutdown.request();
    let addr = receiver.running.addr;
    let refused = async {
        while TcpStream::connect(addr).await.is_ok() {
            tokio::task::yield_now().await
        }
    };
    tokio::time::timeout(DEADLINE, refused).await.unwrap();
    stream.write_all(rest.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(DEADLINE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    let totals = tokio::time::timeout(DEADLINE, receiver.running.join()).await.unwrap().unwrap();
    assert_eq!(totals.points_accepted, 1);
}

#[tokio::test]
async fn a_second_stop_does_not_wait_for_a_client_that_stalls() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let mut stream = TcpStream::connect(receiver.running.addr).await.unwrap();
    let head =
        "POST /v1/metrics HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 100\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.unwrap();
    let begun = std::time::Instant::now();
    receiver.shutdown.request();
    receiver.shutdown.request();
    let totals = tokio::time::timeout(DEADLINE, receiver.running.join()).await.unwrap().unwrap();
    assert!(totals.adds_up());
    // An ordered stop would wait 5 s for this client.
    assert!(begun.elapsed().as_secs() < 4, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_store_that_fails_is_503_and_counted() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    assert_eq!(receiver.post_batch("before", ONE).await.status, 200);
    rusqlite::Connection::open(&db).unwrap().execute_batch("DROP TABLE tail").unwrap();
    let expected = r#"{"errors":{"system":["The store cannot be used at the moment. Please resubmit the request later."]},"request_time":T}"#;
    let answer = receiver.post_batch("b", ONE).await;
    assert_eq!((answer.status, answer.body_at_t()), (503, expected.to_owned()));
    assert_eq!(receiver.get("/v1/metrics/a?count=1").await.status, 503);
    let totals = receiver.stop().await;
    assert_eq!((totals.points_accepted, totals.points_refused.get("store_failed")), (1, Some(&1)));
    assert_eq!(totals.requests_refused.get("store_failed"), Some(&2));
}

async fn refused(db: &Path) -> StoreError {
    let config = Config::new("127.0.0.1:0".parse().unwrap(), db);
    match start(config, Shutdown::new()).await.unwrap_err() {
        Error::Store(error) => {
            let text = chain(&error);
            assert!(!text.contains('\n') && text.contains("--db"), "{text}");
            error
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn unusable_database_files_are_named_and_left_as_they_are() {
    let (directory, db) = database();

    std::fs::write(&db, "this is no database at all, but long enough to be looked at\n".repeat(50)).unwrap();
    let before = std::fs::read(&db).unwrap();
    assert!(matches!(refused(&db).await, StoreError::Damaged { .. }));
    assert_eq!(std::fs::read(&db).unwrap(), before);

    let foreign = directory.path().join("foreign.db");
    let other = rusqlite::Connection::open(&foreign).unwrap();
    other.execute_batch("CREATE TABLE theirs (x)").unwrap();
    drop(other);
    let before = std::fs::read(&foreign).unwrap();
    assert!(matches!(refused(&foreign).await, StoreError::Foreign { .. }));
    assert_eq!(std::fs::read(&foreign).unwrap(), before);

    let newer = directory.path().join("newer.db");
    Receiver::on(&newer).await.stop().await;
    rusqlite::Connection::open(&newer).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(refused(&newer).await, StoreError::Newer { version: 99, .. }));

    assert!(matches!(refused(directory.path()).await, StoreError::Open { .. }));
    assert!(matches!(refused(&db.join("below/a/file.db")).await, StoreError::Directory { .. }));
}

#[tokio::test]
async fn a_damaged_page_in_the_middle_is_noticed_at_the_start() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let gauges: Vec<String> = (0..5_000).map(|i| format!(r#"{{"name":"m{i}","value":{i}}}"#)).collect();
    assert_eq!(receiver.post(&format!(r#"{{"gauges":[{}]}}"#, gauges.join(","))).await.status, 200);
    receiver.stop().await;
    let mut bytes = std::fs::read(&db).unwrap();
    let middle = bytes.len() / 2 / 4_096 * 4_096;
    bytes[middle..middle + 4_096].fill(0xa5);
    std::fs::write(&db, &bytes).unwrap();
    assert!(matches!(refused(&db).await, StoreError::Damaged { .. }));
    std::fs::write(&db, &bytes[..8_192]).unwrap();
    assert!(matches!(refused(&db).await, StoreError::Damaged { .. }));
}

#[tokio::test]
async fn the_file_is_created_with_its_directories() {
    let directory = tempfile::tempdir().unwrap();
    let db = directory.path().join("a/b/c.db");
    let receiver = Receiver::on(&db).await;
    assert_eq!(receiver.post(ONE).await.status, 200);
    receiver.stop().await;
    assert!(db.is_file());
}
