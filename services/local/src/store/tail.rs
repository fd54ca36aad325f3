//! The tail: points that are not packed yet, a row each.

use std::collections::HashMap;

use rusqlite::{CachedStatement, Connection, Row, params};
use serde_json::Value;
use zibrato_core::histogram::Histogram;

use super::model::{Complex, RawPoint};
use super::{distribution, errors};

/// Adds points to the tail. Two points of a series at one time are two rows; `n` counts them in the
/// order in which they arrived.
pub(super) struct Insert<'a> {
    first: CachedStatement<'a>,
    further: CachedStatement<'a>,
}

impl<'a> Insert<'a> {
    pub(super) fn prepare(connection: &'a Connection) -> rusqlite::Result<Self> {
        let sql = |n: &str, end: &str| {
            format!(
                "INSERT INTO tail (slot, series, t, n, value, count, sum, min, max, sum_squares, buckets)
                 VALUES (?1, ?2, ?3, {n}, ?4, ?5, ?6, ?7, ?8, ?9, ?10) {end}"
            )
        };
        let next = "(SELECT max(n) + 1 FROM tail WHERE slot = ?1 AND series = ?2 AND t = ?3)";
        Ok(Self {
            first: connection.prepare_cached(&sql("0", "ON CONFLICT DO NOTHING"))?,
            further: connection.prepare_cached(&sql(next, ""))?,
        })
    }

    pub(super) fn add(&mut self, series: i64, point: &RawPoint) -> rusqlite::Result<()> {
        // Hardly ever is there a point at the same time, and trying is cheaper than looking first.
        if Self::run(&mut self.first, series, point)? == 0 {
            Self::run(&mut self.further, series, point)?;
        }
        Ok(())
    }

    fn run(statement: &mut CachedStatement<'_>, series: i64, point: &RawPoint) -> rusqlite::Result<usize> {
        let complex = point.complex.as_deref();
        let buckets = complex.and_then(|complex| complex.histogram.as_ref()).map(distribution::to_bytes);
        statement.execute(params![
            slot_of(point.t),
            series,
            point.t,
            point.value,
            complex.map(|complex| complex.count),
            complex.map(|complex| complex.sum),
            complex.and_then(|complex| complex.min),
            complex.and_then(|complex| complex.max),
            complex.and_then(|complex| complex.sum_squares),
            buckets,
        ])
    }
}

/// The seconds of a slot. Longer ones spread a POST over more pages, shorter ones a series over more
/// slots.
pub(crate) const SLOT_S: i64 = 10;

/// The slot that a time lies in.
pub(super) fn slot_of(t: i64) -> i64 {
    t.div_euclid(SLOT_S)
}

/// The first time of a slot.
pub(super) fn slot_start(slot: i64) -> i64 {
    slot.saturating_mul(SLOT_S)
}

/// The columns that [`point`] reads, from the one given on.
pub(super) const COLUMNS: &str = "t, value, count, sum, min, max, sum_squares, buckets";

/// The point in a row whose columns from `first` on are [`COLUMNS`].
pub(super) fn point(row: &Row<'_>, first: usize) -> rusqlite::Result<RawPoint> {
    let (t, value) = (row.get(first)?, row.get(first + 1)?);
    let count: Option<f64> = row.get(first + 2)?;
    let Some(count) = count else { return Ok(RawPoint { t, value, complex: None }) };
    let complex = Complex {
        count,
        sum: row.get(first + 3)?,
        min: row.get(first + 4)?,
        max: row.get(first + 5)?,
        sum_squares: row.get(first + 6)?,
        histogram: histogram(row, first + 7)?,
    };
    Ok(RawPoint { t, value, complex: Some(Box::new(complex)) })
}

/// The histogram in a column, if it holds one.
pub(super) fn histogram(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Histogram>> {
    let Some(bytes) = row.get_ref(column)?.as_blob_or_null()? else { return Ok(None) };
    match distribution::from_bytes(bytes) {
        Some(histogram) => Ok(Some(histogram)),
        None => Err(errors::damaged("a distribution does not decode")),
    }
}

/// The points of some series with `start <= t < end`, by series, in order of time and arrival.
///
/// The table is in order of slots, so this visits each slot that is there and looks for each series.
pub(super) fn read(
    connection: &Connection,
    series: &[i64],
    start: i64,
    end: i64,
) -> rusqlite::Result<HashMap<i64, Vec<RawPoint>>> {
    let sql = format!(
        "WITH RECURSIVE
           wanted (id) AS MATERIALIZED (SELECT value FROM json_each(?1)),
           slots (at) AS (
             SELECT min(slot) FROM tail WHERE slot >= ?2
             UNION ALL
             SELECT (SELECT min(slot) FROM tail WHERE slot > at) FROM slots WHERE at <= ?3)
         SELECT series, {COLUMNS} FROM slots CROSS JOIN wanted CROSS JOIN tail
         WHERE at <= ?3 AND slot = at AND series = id AND t >= ?4 AND t < ?5"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let slots = (slot_of(start), slot_of(end.saturating_sub(1)));
    let mut rows = statement.query(params![Value::from(series).to_string(), slots.0, slots.1, start, end])?;
    let mut points: HashMap<i64, Vec<RawPoint>> = HashMap::new();
    while let Some(row) = rows.next()? {
        points.entry(row.get(0)?).or_default().push(point(row, 1)?);
    }
    Ok(points)
}
