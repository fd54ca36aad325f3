//! The measure: one row a point with an index by metric and time, as one would begin.

use std::path::Path;
use std::time::Instant;

use rusqlite::{Connection, params};

const BATCHES: i64 = 1_000;
const DAY_S: i64 = 86_400;

pub(crate) struct Plain {
    /// Sorted.
    pub(crate) insert_ms: Vec<f64>,
    pub(crate) chart_ms: f64,
    pub(crate) bytes_per_point: f64,
}

/// Inserts batches of 300 points, each in a synced transaction, then a day of a metric with 10
/// sources, and reads that day in steps of five minutes.
pub(crate) fn measure(path: &Path, noise: &mut dyn FnMut() -> f64, end: i64) -> Plain {
    let mut connection = Connection::open(path).unwrap();
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             CREATE TABLE points (id INTEGER PRIMARY KEY, metric INTEGER NOT NULL, source INTEGER NOT NULL,
               t INTEGER NOT NULL, value REAL NOT NULL, count REAL NOT NULL, sum REAL NOT NULL, min REAL, max REAL,
               sum_squares REAL, buckets TEXT) STRICT;
             CREATE INDEX by_time ON points (metric, t);",
        )
        .unwrap();
    let mut insert = |points: &mut dyn Iterator<Item = (i64, i64, i64)>| {
        let transaction = connection.transaction().unwrap();
        let mut statement = transaction
            .prepare_cached(
                "INSERT INTO points (metric, source, t, value, count, sum, min, max, sum_squares)
                 VALUES (?1, ?2, ?3, ?4, 1, ?4, ?4, ?4, ?4 * ?4)",
            )
            .unwrap();
        for (metric, source, t) in points {
            statement.execute(params![metric, source, t, 50.0 + noise()]).unwrap();
        }
        drop(statement);
        transaction.commit().unwrap();
    };
    let mut insert_ms = Vec::new();
    for batch in 0..BATCHES {
        let begun = Instant::now();
        let place = batch * 300;
        insert(&mut (place..place + 300).map(|i| (i % 10_000 / 10, i % 10, end + i / 10_000)));
        insert_ms.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    insert_ms.sort_by(f64::total_cmp);
    insert(&mut (end - DAY_S..end).flat_map(|t| (0..10).map(move |source| (-1, source, t))));
    let bytes: i64 = connection
        .query_row("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size", (), |row| {
            row.get(0)
        })
        .unwrap();
    let begun = Instant::now();
    let mut chart = connection
        .prepare(
            "SELECT source, t / 300, count(*), sum(sum), min(min), max(max), sum(sum_squares) FROM points
             WHERE metric = -1 AND t >= ?1 GROUP BY 1, 2",
        )
        .unwrap();
    let rows = chart.query_map([end - DAY_S], |_| Ok(())).unwrap().count();
    assert_eq!(rows as i64, DAY_S / 300 * 10);
    let chart_ms = begun.elapsed().as_secs_f64() * 1e3;
    Plain { insert_ms, chart_ms, bytes_per_point: bytes as f64 / (BATCHES * 300 + DAY_S * 10) as f64 }
}
