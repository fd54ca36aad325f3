//! Rollups: what the packed points of a series add up to in steps of a minute, 15 minutes, an hour.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::model::Summary;
use super::{distribution, tail};

/// The steps in seconds. Each divides the next one.
pub(super) const RESOLUTIONS: [i64; 3] = [60, 900, 3_600];

/// The order in which rows are visited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Order {
    OldestFirst,
    NewestFirst,
}

impl Order {
    pub(super) fn as_sql(self) -> &'static str {
        match self {
            Self::OldestFirst => "ASC",
            Self::NewestFirst => "DESC",
        }
    }
}

/// The `count` of a row that covers one plain point; no other count is 0. What such a row adds up to follows
/// from `last`, and its other columns are empty: at a point a minute each row would repeat its value five
/// times.
const ONE_PLAIN_POINT: f64 = 0.0;

const COLUMNS: &str = "t, count, sum, min, max, sum_squares, last, last_time, buckets";

/// The first second of the step that `t` lies in.
pub(super) fn step_of(t: i64, step: i64) -> i64 {
    t.div_euclid(step).saturating_mul(step)
}

/// What several points of a series add up to, by step. Points are in order of arrival.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Steps(pub(super) BTreeMap<i64, Summary>);

impl Steps {
    pub(super) fn add(&mut self, step: i64, summary: Summary) {
        match self.0.entry(step) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(summary);
            }
            std::collections::btree_map::Entry::Occupied(mut entry) => entry.get_mut().merge(summary),
        }
    }

    /// The same in longer steps.
    pub(super) fn coarser(&self, step: i64) -> Self {
        let mut steps = Self::default();
        for (t, summary) in &self.0 {
            steps.add(step_of(*t, step), summary.clone());
        }
        steps
    }
}

/// Visits the rollups of a series with `start <= t < end` until told to stop.
pub(super) fn visit(
    connection: &Connection,
    resolution: i64,
    series: i64,
    (start, end): (i64, i64),
    order: Order,
    mut visitor: impl FnMut(i64, Summary) -> ControlFlow<()>,
) -> rusqlite::Result<()> {
    let sql = format!(
        "SELECT {COLUMNS} FROM rollups WHERE resolution = ?1 AND series = ?2 AND t >= ?3 AND t < ?4 ORDER BY t {}",
        order.as_sql()
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![resolution, series, start, end])?;
    while let Some(row) = rows.next()? {
        if visitor(row.get(0)?, summary(row)?).is_break() {
            break;
        }
    }
    Ok(())
}

/// Adds to the rollups of a series at one resolution.
pub(super) fn add(
    connection: &Connection,
    resolution: i64,
    series: i64,
    steps: &Steps,
) -> rusqlite::Result<()> {
    let mut present = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM rollups WHERE resolution = ?1 AND series = ?2 AND t = ?3"
    ))?;
    let mut replace = connection.prepare_cached(&format!(
        "INSERT OR REPLACE INTO rollups (resolution, series, {COLUMNS})
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)"
    ))?;
    for (t, added) in &steps.0 {
        let mut merged = present.query_row(params![resolution, series, t], summary).optional()?;
        match &mut merged {
            Some(merged) => merged.merge(added.clone()),
            None => merged = Some(added.clone()),
        }
        let Some(merged) = merged else { continue };
        let is_plain = merged == Summary::of(merged.last, merged.last_time);
        let unless_plain = |number: Option<f64>| number.filter(|_| !is_plain);
        replace.execute(params![
            resolution,
            series,
            t,
            unless_plain(Some(merged.count)).unwrap_or(ONE_PLAIN_POINT),
            unless_plain(Some(merged.sum)).unwrap_or_default(),
            unless_plain(merged.min),
            unless_plain(merged.max),
            unless_plain(merged.sum_squares),
            merged.last,
            merged.last_time,
            merged.histogram.as_deref().map(distribution::to_bytes),
        ])?;
    }
    Ok(())
}

/// The summary in a row of [`COLUMNS`].
fn summary(row: &Row<'_>) -> rusqlite::Result<Summary> {
    let (count, last, last_time) = (row.get(1)?, row.get(6)?, row.get(7)?);
    if count == ONE_PLAIN_POINT {
        return Ok(Summary::of(last, last_time));
    }
    Ok(Summary {
        count,
        sum: row.get(2)?,
        min: row.get(3)?,
        max: row.get(4)?,
        sum_squares: row.get(5)?,
        last,
        last_time,
        histogram: tail::histogram(row, 8)?.map(Box::new),
    })
}

/// The time before which rows of a resolution (1: packed points) were deleted.
pub(super) fn expired_until(connection: &Connection, resolution: i64) -> rusqlite::Result<i64> {
    let sql = "SELECT until FROM expiry WHERE resolution = ?1";
    let until = connection.prepare_cached(sql)?.query_row([resolution], |row| row.get(0)).optional()?;
    Ok(until.unwrap_or(i64::MIN))
}
