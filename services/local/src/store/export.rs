//! Every point that is kept as it was posted.

use std::ops::ControlFlow;
use std::path::Path;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use zibrato_core::histogram::Histogram;

use super::errors::StoreError;
use super::model::RawPoint;
use super::rollup::Order;
use super::{packed, schema, tail};

/// A point as it was posted; one that was posted as a single value has count 1.
#[derive(Clone, PartialEq, Debug)]
pub struct StoredPoint {
    /// The metric, in the case of its first POST.
    pub metric: String,
    /// The source, likewise.
    pub source: String,
    /// Its time in seconds since 1970.
    pub time: i64,
    /// The value, or the mean of several.
    pub value: f64,
    /// How many measurements it stands for.
    pub count: f64,
    /// Their sum.
    pub sum: f64,
    /// The smallest of them, if it was posted.
    pub min: Option<f64>,
    /// The largest, likewise.
    pub max: Option<f64>,
    /// Their distribution, likewise.
    pub histogram: Option<Histogram>,
}

/// Reads the points of all series, series by series in order of time, from one state of the database.
/// A receiver may be using it; nothing is changed. Points whose raw form has expired are not there.
///
/// # Errors
///
/// [`StoreError`] if the file is not there, not ours, of another version, or damaged.
pub fn read_points(path: &Path, mut visitor: impl FnMut(StoredPoint)) -> Result<(), StoreError> {
    let opening = |error| schema::opening(path, error);
    // Reading beside a writer needs the journal's shared memory, and so the right to write.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = super::connect(path, flags)?;
    connection.pragma_update(None, "query_only", true).map_err(opening)?;
    match schema::version(&connection, path)? {
        Some(schema::VERSION) => {}
        version => return Err(StoreError::Older { path: path.to_owned(), version: version.unwrap_or(0) }),
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Deferred).map_err(opening)?;
    read(&transaction, &mut visitor).map_err(opening)
}

fn read(connection: &Connection, visitor: &mut impl FnMut(StoredPoint)) -> rusqlite::Result<()> {
    let mut series = connection.prepare(
        "SELECT r.id, m.name, s.name FROM series r JOIN metrics m ON m.id = r.metric JOIN sources s ON s.id = r.source
         WHERE r.id NOT IN (SELECT series FROM garbage) ORDER BY r.id",
    )?;
    let mut rows = series.query(())?;
    while let Some(row) = rows.next()? {
        let (id, metric, source): (i64, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let mut points = Vec::new();
        packed::visit(connection, id, (i64::MIN, i64::MAX), Order::OldestFirst, |block| {
            points.extend(block);
            ControlFlow::Continue(())
        })?;
        points.extend(tail::read(connection, &[id], i64::MIN, i64::MAX)?.remove(&id).unwrap_or_default());
        // Stable: points of one second stay in the order in which they arrived.
        points.sort_by_key(|point| point.t);
        points.into_iter().for_each(|point| visitor(stored(&metric, &source, point)));
    }
    Ok(())
}

fn stored(metric: &str, source: &str, point: RawPoint) -> StoredPoint {
    let (time, value) = (point.t, point.value);
    let summary = point.into_summary();
    StoredPoint {
        metric: metric.to_owned(),
        source: source.to_owned(),
        time,
        value,
        count: summary.count,
        sum: summary.sum,
        min: summary.min,
        max: summary.max,
        histogram: summary.histogram.map(|histogram| *histogram),
    }
}
