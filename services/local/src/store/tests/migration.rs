//! A file of schema version 1, made by the statements that made it.

use std::path::Path;

use rusqlite::Connection;

use crate::config::KEEP_DEFAULT;
use crate::errors::unix_now;
use crate::store::measure::{MeasurementsQuery, Take};
use crate::store::model::ChartQuery;
use crate::store::{Store, check};

const VERSION_1: &str = "
PRAGMA journal_mode = WAL;
BEGIN;
CREATE TABLE metrics (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL CHECK (kind IN ('gauge', 'counter')),
    period INTEGER,
    description TEXT,
    display_name TEXT,
    attributes TEXT NOT NULL,
    created INTEGER NOT NULL
) STRICT;
CREATE TABLE sources (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL UNIQUE
) STRICT;
CREATE TABLE points (
    id INTEGER PRIMARY KEY,
    metric INTEGER NOT NULL REFERENCES metrics (id),
    source INTEGER NOT NULL REFERENCES sources (id),
    measure_time INTEGER NOT NULL,
    value REAL NOT NULL,
    count REAL NOT NULL,
    sum REAL NOT NULL,
    min REAL,
    max REAL,
    sum_squares REAL,
    buckets TEXT
) STRICT;
CREATE INDEX points_by_metric_and_time ON points (metric, measure_time);
CREATE TABLE batches (
    id TEXT PRIMARY KEY,
    stored INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX batches_by_time ON batches (stored);
PRAGMA application_id = 1516855884;
PRAGMA user_version = 1;
INSERT INTO metrics VALUES (7, 'Web.Time', 'web.time', 'gauge', 60, 'd', 'n', '{\"color\":\"red\"}', 5);
INSERT INTO metrics VALUES (8, 'hits', 'hits', 'counter', NULL, NULL, NULL, '{}', 6);
INSERT INTO sources VALUES (3, 'Host', 'host'), (4, 'other', 'other');
INSERT INTO batches VALUES ('batch-1', NOW - 100);
COMMIT;
";

/// Points as version 1 wrote them: 300 a series over an hour, two of them at one time, one complex.
fn fill(path: &Path, now: i64) -> i64 {
    let begin = now / 3_600 * 3_600 - 3_600;
    let connection = Connection::open(path).unwrap();
    connection.execute_batch(&VERSION_1.replace("NOW", &now.to_string())).unwrap();
    connection
        .execute_batch(&format!(
            "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 299)
             INSERT INTO points (metric, source, measure_time, value, count, sum, min, max, sum_squares)
             SELECT m.id, s.id, {begin} + i * 12, i, 1, i, i, i, i * i FROM n, metrics m, sources s;
             INSERT INTO points VALUES (NULL, 8, 3, {begin}, 7, 1, 7, 7, 7, 49, NULL);
             INSERT INTO points VALUES (NULL, 7, 3, {begin} + 1, 0.5, 4, 2.0, 0.25, NULL, 1.5,
               '{{\"scale\":7,\"offset\":-8,\"counts\":[1,0,3],\"zero\":2}}');"
        ))
        .unwrap();
    begin
}

#[tokio::test]
async fn a_file_of_version_1_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("local.db");
    let now = unix_now();
    let begin = fill(&path, now);
    assert!(matches!(
        check::check_db(&path, |_| ()),
        Err(crate::store::StoreError::Older { version: 1, .. })
    ));
    // Twice, so that a file that was brought up once opens as it is.
    for round in 0..2 {
        let store = Store::open(&path, KEEP_DEFAULT, unix_now).unwrap();
        let query = |metric, resolution| MeasurementsQuery {
            metric,
            start: Some(begin),
            end: now,
            resolution,
            sources: Vec::new(),
            take: Take::All,
        };
        let rows = store.measurements(query(8, 1)).await.unwrap().rows;
        assert_eq!(rows.len(), 601, "{round}");
        let first: Vec<f64> =
            rows.iter().filter(|row| row.measure_time == begin).map(|row| row.summary.sum).collect();
        assert_eq!(first, [0.0, 7.0, 0.0], "{round}");
        assert_eq!(rows.iter().map(|row| row.summary.sum).sum::<f64>(), 2.0 * 44_850.0 + 7.0);

        let rows = store.measurements(query(7, 1)).await.unwrap().rows;
        assert_eq!(rows.len(), 601);
        let complex = &rows.iter().find(|row| row.measure_time == begin + 1).unwrap().summary;
        assert_eq!((complex.count, complex.sum, complex.min), (4.0, 2.0, Some(0.25)));
        assert_eq!((complex.max, complex.sum_squares, complex.last), (None, Some(1.5), 0.5));
        let histogram = complex.histogram.as_ref().unwrap();
        assert_eq!((histogram.scale(), histogram.zero(), histogram.total()), (5, 2, 6));

        let chart = ChartQuery {
            metric: 7,
            sources: Vec::new(),
            start: begin,
            end: now,
            step: 3_600,
            by_source: false,
        };
        let lines = store.chart(chart).await.unwrap();
        assert_eq!(lines[0].steps[0].summary.sum, 2.0 * 44_850.0 + 2.0, "{round}");

        let row = store.read(|connection| {
            let sql = "SELECT name, period, description, display_name, attributes, origin, unit FROM metrics WHERE id = 7";
            connection.query_row(sql, (), |row| {
                let text = |at| row.get::<_, Option<String>>(at);
                Ok((text(0)?, row.get::<_, i64>(1)?, text(2)?, text(3)?, text(4)?, text(5)?, text(6)?))
            })
        });
        let some = |text: &str| Some(text.to_owned());
        let expected = (some("Web.Time"), 60, some("d"), some("n"), some("{\"color\":\"red\"}"), None, None);
        assert_eq!(row.await.unwrap(), expected);
        let newest = store.read(|connection| {
            connection.query_row("SELECT min(newest), max(newest), count(*) FROM series", (), |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
            })
        });
        assert_eq!(newest.await.unwrap(), (begin + 299 * 12, begin + 299 * 12, 4));
        assert!(store.is_known("batch-1".to_owned(), now).await.unwrap());
        store.close(false).await;
    }
    let report = check::check_db(&path, |_| ()).unwrap();
    assert_eq!((report.findings.as_slice(), report.points, report.series), (&[][..], 1_202, 4));
    let connection = Connection::open(&path).unwrap();
    let vacuum: i64 = connection.pragma_query_value(None, "auto_vacuum", |row| row.get(0)).unwrap();
    assert_eq!(vacuum, 2);
}
