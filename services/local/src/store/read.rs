//! Reading: the list of metrics, one metric, and its measurements.

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::Value;

/// The most measurements in one answer; more are announced with the time to go on from.
pub(super) const MEASUREMENTS_PER_ANSWER_MAX: usize = 10_000;

/// What to list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ListQuery {
    /// Only names that contain this, in any case; empty for all.
    pub(crate) name_contains: String,
    pub(crate) offset: i64,
    pub(crate) length: i64,
    pub(crate) descending: bool,
}

/// A part of the list.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    /// The metrics that match.
    pub(crate) found: i64,
    /// All metrics.
    pub(crate) total: i64,
    pub(crate) rows: Vec<Row>,
}

/// A metric.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Row {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) period: Option<i64>,
    pub(crate) description: Option<String>,
    pub(crate) display_name: Option<String>,
    pub(crate) attributes: Value,
}

/// Which measurements to read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct MeasurementsQuery {
    pub(crate) metric: i64,
    /// The first and last time, both included.
    pub(crate) start: i64,
    pub(crate) end: i64,
    /// 1 gives each row as it was stored; more merges the rows of each source in steps of so many
    /// seconds that begin at a multiple of it.
    pub(crate) resolution: i64,
    /// Names in lower case, `*` standing for anything; empty for all.
    pub(crate) sources: Vec<String>,
    pub(crate) take: Take,
}

/// How many measurements of each source to take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Take {
    All,
    First(i64),
    Last(i64),
}

/// What was read, in order of time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measurements {
    pub(crate) rows: Vec<Measured>,
    /// Where to go on, if there was more than one answer holds.
    pub(crate) next_time: Option<i64>,
    /// Whether more than one answer holds has one and the same time, so that no page can end.
    pub(crate) is_unpageable: bool,
}

/// One measurement of a source, or several merged.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Measured {
    pub(crate) source: String,
    pub(crate) measure_time: i64,
    pub(crate) value: f64,
    pub(crate) count: f64,
    pub(crate) sum: f64,
    pub(crate) min: Option<f64>,
    pub(crate) max: Option<f64>,
    pub(crate) sum_squares: Option<f64>,
    /// The histogram as stored; never of merged rows.
    pub(crate) buckets: Option<String>,
}

const COLUMNS: &str = "SELECT id, name, kind, period, description, display_name, attributes FROM metrics";

/// The rows of one metric in a time range. ?5 is unused here; both forms take the same parameters.
const RAW: &str = "
SELECT p.id AS id, p.source AS source, p.measure_time AS t, p.value AS value, p.count AS count, p.sum AS sum,
       p.min AS min, p.max AS max, p.sum_squares AS sum_squares, p.buckets AS buckets
FROM points p JOIN sources s ON s.id = p.source
WHERE p.metric = ?1 AND p.measure_time BETWEEN ?2 AND ?3 AND ?5 > 0
  AND (?4 IS NULL OR EXISTS (SELECT 1 FROM json_each(?4) AS wanted WHERE s.name_key GLOB wanted.value))";

/// The same merged. A minimum, maximum or sum of squares that one row lacks is not known of the
/// merged row either.
const MERGED: &str = "
SELECT min(p.id) AS id, p.source AS source, p.measure_time / ?5 * ?5 AS t, sum(p.sum) / sum(p.count) AS value,
       sum(p.count) AS count, sum(p.sum) AS sum,
       CASE WHEN count(p.min) = count(*) THEN min(p.min) END AS min,
       CASE WHEN count(p.max) = count(*) THEN max(p.max) END AS max,
       CASE WHEN count(p.sum_squares) = count(*) THEN sum(p.sum_squares) END AS sum_squares,
       NULL AS buckets
FROM points p JOIN sources s ON s.id = p.source
WHERE p.metric = ?1 AND p.measure_time BETWEEN ?2 AND ?3
  AND (?4 IS NULL OR EXISTS (SELECT 1 FROM json_each(?4) AS wanted WHERE s.name_key GLOB wanted.value))
GROUP BY p.source, p.measure_time / ?5";

pub(super) fn list(connection: &Connection, query: &ListQuery) -> rusqlite::Result<Page> {
    let wanted = query.name_contains.to_ascii_lowercase();
    let total = connection.query_row("SELECT count(*) FROM metrics", (), |row| row.get(0))?;
    let found = "SELECT count(*) FROM metrics WHERE instr(name_key, ?1) > 0";
    let found = connection.query_row(found, [&wanted], |row| row.get(0))?;
    let order = if query.descending { "DESC" } else { "ASC" };
    let sql = format!("{COLUMNS} WHERE instr(name_key, ?1) > 0 ORDER BY name_key {order} LIMIT ?2 OFFSET ?3");
    let mut statement = connection.prepare(&sql)?;
    let rows =
        statement.query_map(params![wanted, query.length, query.offset], row)?.collect::<Result<_, _>>()?;
    Ok(Page { found, total, rows })
}

pub(super) fn metric(connection: &Connection, name: &str) -> rusqlite::Result<Option<Row>> {
    let sql = format!("{COLUMNS} WHERE name_key = ?1");
    connection.query_row(&sql, [name.to_ascii_lowercase()], row).optional()
}

pub(super) fn measurements(
    connection: &Connection,
    query: &MeasurementsQuery,
) -> rusqlite::Result<Measurements> {
    let rows = if query.resolution == 1 { RAW } else { MERGED };
    let (order, most) = match query.take {
        Take::All => ("ASC", i64::MAX),
        Take::First(count) => ("ASC", count),
        Take::Last(count) => ("DESC", count),
    };
    // Only text of this file goes into the statement.
    let sql = format!(
        "SELECT s.name, r.t, r.value, r.count, r.sum, r.min, r.max, r.sum_squares, r.buckets
         FROM (SELECT *, row_number() OVER (PARTITION BY source ORDER BY t {order}, id {order}) AS place FROM ({rows})) r
         JOIN sources s ON s.id = r.source
         WHERE r.place <= ?6 ORDER BY r.t, r.id LIMIT ?7"
    );
    let sources = (!query.sources.is_empty()).then(|| Value::from(query.sources.clone()).to_string());
    let limit = MEASUREMENTS_PER_ANSWER_MAX as i64 + 1;
    let mut statement = connection.prepare(&sql)?;
    let rows = statement
        .query_map(
            params![query.metric, query.start, query.end, sources, query.resolution, most, limit],
            measured,
        )?
        .collect::<Result<_, _>>()?;
    Ok(cut(rows))
}

/// Ends a page that is too long before the time of its last row, so that the next page repeats and
/// misses nothing.
fn cut(mut rows: Vec<Measured>) -> Measurements {
    if rows.len() <= MEASUREMENTS_PER_ANSWER_MAX {
        return Measurements { rows, ..Measurements::default() };
    }
    let next_time = rows.last().map(|row| row.measure_time);
    rows.retain(|row| Some(row.measure_time) != next_time);
    let is_unpageable = rows.is_empty();
    Measurements { rows, next_time, is_unpageable }
}

fn row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    let attributes: String = row.get(6)?;
    Ok(Row {
        id: row.get(0)?,
        name: row.get(1)?,
        kind: row.get(2)?,
        period: row.get(3)?,
        description: row.get(4)?,
        display_name: row.get(5)?,
        attributes: serde_json::from_str(&attributes).unwrap_or_default(),
    })
}

fn measured(row: &rusqlite::Row<'_>) -> rusqlite::Result<Measured> {
    Ok(Measured {
        source: row.get(0)?,
        measure_time: row.get(1)?,
        value: row.get(2)?,
        count: row.get(3)?,
        sum: row.get(4)?,
        min: row.get(5)?,
        max: row.get(6)?,
        sum_squares: row.get(7)?,
        buckets: row.get(8)?,
    })
}
