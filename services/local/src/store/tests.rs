//! The store through its own interface.

mod exact;
mod migration;
mod retention;
mod tried;

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
    let body = Body::parse(None, br#"{"gauges":{"a":{"value":1}}}"#).unwrap();
    let ticket = counters.offer(body.measurements());
    let points = validate::points(body, Times { now, max_age_s: 1, max_ahead_s: 0 }).unwrap();
    Batch { id: Some(id.to_owned()), points, user_agent: None, now, ticket }
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
