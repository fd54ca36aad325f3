//! The store through its own interface.

mod exact;
mod faults;
mod migration;
mod retention;
mod tried;

use std::sync::atomic::{AtomicI64, Ordering};

use super::*;
use crate::body::Body;
use crate::config::KEEP_DEFAULT;
use crate::errors::unix_now;
use crate::totals::Counters;
use crate::validate::{self, Times};

fn open(path: &Path) -> Result<Store, StoreError> {
    Store::open(path, KEEP_DEFAULT, unix_now)
}

fn batch(counters: &Arc<Counters>, id: &str, now: i64) -> Batch {
    Batch { id: Some(id.to_owned()), ..batch_of(counters, r#"{"gauges":{"a":{"value":1}}}"#, now) }
}

/// The batch of a body whose points may have any time.
fn batch_of(counters: &Arc<Counters>, body: &str, now: i64) -> Batch {
    let body = Body::parse(None, body.as_bytes()).unwrap();
    let ticket = counters.offer(body.measurements());
    let points = validate::points(body, Times { now, max_age_s: u64::MAX, max_ahead_s: u64::MAX }).unwrap();
    Batch { id: None, points, user_agent: None, now, ticket }
}

#[tokio::test]
async fn a_batch_id_is_remembered_for_24_hours_and_no_longer() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("local.db")).unwrap();
    let counters = Arc::new(Counters::default());
    let first = 1_700_000_000;
    let day = 24 * 60 * 60;
    for (now, expected) in [
        (first, Outcome::Stored),
        (first + day, Outcome::Duplicate),
        (first + day + 1, Outcome::Stored),
        (first + day + 2, Outcome::Duplicate),
    ] {
        assert_eq!(store.write(batch(&counters, "id", now)).await.unwrap(), expected, "{now}");
    }
    assert!(store.is_known("id".to_owned(), first + 2 * day).await.unwrap());
    assert!(!store.is_known("id".to_owned(), first + 2 * day + 2).await.unwrap());
    assert!(!store.is_known("other".to_owned(), first).await.unwrap());
    let totals = counters.snapshot();
    assert!(totals.adds_up() && totals.points_accepted == 2, "{totals:?}");
}

#[tokio::test]
async fn a_closed_store_refuses_and_counts_what_comes_late() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("local.db")).unwrap();
    let counters = Arc::new(Counters::default());
    store.close(false).await;
    assert!(matches!(store.write(batch(&counters, "id", 5)).await, Err(StoreError::Closed)));
    assert!(matches!(store.metric("a".to_owned()).await, Err(StoreError::Closed)));
    let totals = counters.snapshot();
    assert!(totals.adds_up(), "{totals:?}");
    assert_eq!(totals.points_refused.get("abandoned"), Some(&1));
}

#[test]
fn the_journal_is_a_wal_and_commits_are_synced_in_full() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("local.db");
    let mut connection =
        connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE).unwrap();
    schema::prepare(&mut connection, &path).unwrap();
    let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    let synchronous: i64 = connection.pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap();
    assert_eq!((mode.as_str(), synchronous), ("wal", 2));
}

#[tokio::test]
async fn whoever_watches_hears_which_metrics_got_points() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("local.db")).unwrap();
    let counters = Arc::new(Counters::default());
    let mut changes = store.changes();
    let body =
        r#"{"gauges":[{"name":"a","value":1},{"name":"b","value":1},{"name":"A","value":2,"source":"s"}]}"#;
    store.write(batch_of(&counters, body, 5)).await.unwrap();
    // A batch that is not stored changes nothing.
    let clash = r#"{"gauges":[{"name":"c","value":1}],"counters":[{"name":"a","value":1}]}"#;
    assert!(matches!(store.write(batch_of(&counters, clash, 5)).await, Ok(Outcome::Clash { .. })));
    store.write(batch_of(&counters, r#"{"gauges":[{"name":"c","value":1}]}"#, 5)).await.unwrap();
    assert_eq!(changes.recv().await.unwrap()[..], [1, 2]);
    assert_eq!(changes.recv().await.unwrap()[..], [3]);
    assert!(changes.is_empty());
}

#[tokio::test]
async fn a_second_store_on_the_file_is_refused_until_the_first_is_closed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("local.db");
    let store = open(&path).unwrap();
    let refused = open(&path).unwrap_err();
    assert!(matches!(refused, StoreError::InUse { .. }) && refused.to_string().contains("--db"), "{refused}");
    store.close(false).await;
    open(&path).unwrap().close(false).await;
}

#[tokio::test]
async fn points_are_packed_by_the_writer_when_their_time_has_come() {
    static NOW: AtomicI64 = AtomicI64::new(1_700_000_000);
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("local.db"), KEEP_DEFAULT, || NOW.load(Ordering::Relaxed))
        .unwrap();
    let counters = Arc::new(Counters::default());
    let now = NOW.load(Ordering::Relaxed);
    store.write(batch(&counters, "id", now)).await.unwrap();
    let points = async |table: &'static str| {
        let sql = format!("SELECT count(*) FROM {table}");
        store
            .read(move |connection| connection.query_row(&sql, (), |row| row.get::<_, i64>(0)))
            .await
            .unwrap()
    };
    assert_eq!((points("tail").await, points("blocks").await), (1, 0));
    NOW.store(now + 1_000, Ordering::Relaxed);
    let packed = async {
        while points("tail").await > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), packed).await.unwrap();
    assert_eq!((points("blocks").await, points("rollups").await), (1, 3));
    store.close(false).await;
}

#[tokio::test]
async fn names_that_a_failed_batch_made_are_not_remembered() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("local.db")).unwrap();
    let counters = Arc::new(Counters::default());
    let one = |name: &str| format!(r#"{{"gauges":[{{"name":"{name}","value":1,"source":"{name}"}}]}}"#);
    store.write(batch_of(&counters, &one("first"), 5)).await.unwrap();
    let clash =
        r#"{"gauges":[{"name":"third","value":1,"source":"third"}],"counters":[{"name":"first","value":1}]}"#;
    assert!(matches!(store.write(batch_of(&counters, clash, 5)).await, Ok(Outcome::Clash { .. })));
    // This one takes the ids that the failed batch had.
    for name in ["second", "third"] {
        store.write(batch_of(&counters, &one(name), 5)).await.unwrap();
    }
    let stored = store.read(|connection| {
        let sql = "SELECT metrics.name, sources.name FROM series JOIN metrics ON metrics.id = metric
                   JOIN sources ON sources.id = source ORDER BY series.id";
        connection
            .prepare(sql)?
            .query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<Vec<_>, _>>()
    });
    let twice = |name: &str| (name.to_owned(), name.to_owned());
    assert_eq!(stored.await.unwrap(), ["first", "second", "third"].map(twice));
}

#[tokio::test]
async fn points_of_a_metric_that_is_aggregated_come_merged_by_its_period() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("local.db"), tried::KEEP_ALL, unix_now).unwrap();
    let counters = Arc::new(Counters::default());
    let begin = 1_700_000_040;
    let gauge = |name: &str, period: &str, i: i64| {
        format!(
            r#"{{"name":"{name}","value":{i},"measure_time":{},"attributes":{{"aggregate":true}}{period}}}"#,
            begin + i
        )
    };
    // The period 5 is shorter than any that is accepted.
    let all = [("minute", ""), ("ten", r#","period":10"#), ("five", r#","period":5"#)]
        .iter()
        .flat_map(|(name, period)| (0..120).map(move |i| gauge(name, period, i)));
    let body = format!(r#"{{"gauges":[{}]}}"#, all.collect::<Vec<_>>().join(","));
    store.write(batch_of(&counters, &body, begin)).await.unwrap();
    for (metric, resolution, rows) in [(1, 1, 2), (2, 1, 12), (3, 1, 12), (2, 60, 2), (1, 2, 60)] {
        let take = Take::All;
        let query = MeasurementsQuery {
            metric,
            start: Some(begin),
            end: i64::MAX,
            resolution,
            sources: Vec::new(),
            take,
        };
        let read = store.measurements(query).await.unwrap().rows;
        assert_eq!(read.len(), rows, "{metric} {resolution}");
        assert_eq!(read.iter().map(|row| row.summary.count).sum::<f64>(), 120.0);
    }
    store.close(false).await;
}
