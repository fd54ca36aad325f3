//! Measurements as Librato's API gives them: points, or steps of some seconds, by source.

use std::ops::ControlFlow;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};
use serde_json::Value;

use super::errors::StoreError;
use super::model::{RawPoint, Summary};
use super::rollup::{self, Order, Steps, step_of};
use super::series::{self, Packed, Series};
use super::{packed, tail};

/// The most measurements in one answer; more are announced with the time to go on from.
pub(super) const MEASUREMENTS_PER_ANSWER_MAX: usize = 10_000;
/// The steps of service-side aggregation unless the metric has a period, and the accepted periods.
const AGGREGATION_S_DEFAULT: i64 = 60;
const AGGREGATION_S: (i64, i64) = (10, 600);

/// Which measurements to read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct MeasurementsQuery {
    pub(crate) metric: i64,
    /// The first time; `None` for the oldest that is kept at this resolution.
    pub(crate) start: Option<i64>,
    /// The last time.
    pub(crate) end: i64,
    /// 1 gives each point as it was posted, unless the metric is aggregated; more merges the points
    /// of each source in steps of so many seconds that begin at a multiple of it. A step is whole,
    /// also the first and the last one.
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
    /// Whether the range is not kept at this resolution, or more than one answer holds has one and
    /// the same time, so that no page can end.
    pub(crate) is_unavailable: bool,
}

/// One measurement of a source, or several merged.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Measured {
    pub(crate) source: Arc<str>,
    pub(crate) measure_time: i64,
    pub(crate) summary: Summary,
}

pub(super) fn read(connection: &Connection, query: &MeasurementsQuery) -> Result<Measurements, StoreError> {
    let resolution = match query.resolution {
        1 => aggregation_s(connection, query.metric)?,
        resolution => resolution,
    };
    let end = step_of(query.end, resolution).saturating_add(resolution);
    let (packed, start) = match Packed::serving(connection, resolution, query.start) {
        Ok(served) => served,
        Err(StoreError::Unavailable { .. }) => {
            return Ok(Measurements { is_unavailable: true, ..Measurements::default() });
        }
        Err(error) => return Err(error),
    };
    let all = series::matching(connection, query.metric, &query.sources)?;
    let ids: Vec<i64> = all.iter().map(|series| series.id).collect();
    let mut tail = tail::read(connection, &ids, start, end)?;
    let mut reader =
        Reader { connection, packed, resolution, take: query.take, start, end, rows: Vec::new() };
    for series in all {
        let tail = tail.remove(&series.id).unwrap_or_default();
        reader.add(&series, tail)?;
    }
    Ok(cut(reader.rows))
}

/// The steps in which points of a metric are given at the finest: 1, unless its attributes ask for
/// service-side aggregation.
fn aggregation_s(connection: &Connection, metric: i64) -> rusqlite::Result<i64> {
    let sql = "SELECT attributes, period FROM metrics WHERE id = ?1";
    let found = connection.query_row(sql, [metric], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let (attributes, period): (String, Option<i64>) = found.unwrap_or_default();
    let attributes: Value = serde_json::from_str(&attributes).unwrap_or_default();
    if attributes["aggregate"] != Value::Bool(true) {
        return Ok(1);
    }
    Ok(period.unwrap_or(AGGREGATION_S_DEFAULT).clamp(AGGREGATION_S.0, AGGREGATION_S.1))
}

/// Collects the rows of one series after the other.
struct Reader<'a> {
    connection: &'a Connection,
    packed: Packed,
    resolution: i64,
    take: Take,
    start: i64,
    end: i64,
    rows: Vec<Measured>,
}

impl Reader<'_> {
    fn add(&mut self, series: &Series, tail: Vec<RawPoint>) -> rusqlite::Result<()> {
        let (order, most) = match self.take {
            Take::All => (Order::OldestFirst, usize::MAX),
            Take::First(count) => (Order::OldestFirst, usize::try_from(count).unwrap_or(0)),
            Take::Last(count) => (Order::NewestFirst, usize::try_from(count).unwrap_or(0)),
        };
        let most = match order {
            // No answer holds more, and one more says that there are more.
            Order::OldestFirst => most.min(MEASUREMENTS_PER_ANSWER_MAX + 1),
            Order::NewestFirst => most,
        };
        let mut rows = match self.resolution {
            1 => self.points(series.id, order, most)?,
            _ => self.steps(series.id, order, most)?,
        };
        rows.extend(tail.into_iter().map(|point| (point.t, point.into_summary())));
        rows = self.merged(rows);
        match order {
            Order::OldestFirst => rows.truncate(most),
            Order::NewestFirst => drop(rows.drain(..rows.len().saturating_sub(most))),
        }
        let measured =
            |(measure_time, summary)| Measured { source: Arc::clone(&series.source), measure_time, summary };
        self.rows.extend(rows.into_iter().map(measured));
        self.prune(order);
        Ok(())
    }

    /// At least the first or last `most` packed points, if there are so many.
    fn points(&self, series: i64, order: Order, most: usize) -> rusqlite::Result<Vec<(i64, Summary)>> {
        let mut blocks = Vec::new();
        let mut length = 0;
        packed::visit(self.connection, series, (self.start, self.end), order, |points| {
            length += points.len();
            blocks.push(points);
            if length >= most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if order == Order::NewestFirst {
            blocks.reverse();
        }
        Ok(blocks.into_iter().flatten().map(|point| (point.t, point.into_summary())).collect())
    }

    /// At least the first or last `most` steps of packed points, if there are so many.
    fn steps(&self, series: i64, order: Order, most: usize) -> rusqlite::Result<Vec<(i64, Summary)>> {
        let (connection, range) = (self.connection, (self.start, self.end));
        let mut steps = Steps::default();
        let mut add = |t, summary| {
            let step = step_of(t, self.resolution);
            if steps.0.len() >= most && !steps.0.contains_key(&step) {
                return ControlFlow::Break(());
            }
            steps.add(step, summary);
            ControlFlow::Continue(())
        };
        match self.packed {
            Packed::Rollups { resolution } => {
                rollup::visit(connection, resolution, series, range, order, add)?
            }
            Packed::Blocks => packed::visit(connection, series, range, order, |points| {
                let points = points.into_iter().map(|point| (point.t, point.into_summary())).collect();
                let mut steps = self.merged(points);
                if order == Order::NewestFirst {
                    steps.reverse();
                }
                steps.into_iter().try_for_each(|(t, summary)| add(t, summary))
            })?,
        }
        Ok(steps.0.into_iter().collect())
    }

    /// Points in order of time; those of one step merged.
    fn merged(&self, mut rows: Vec<(i64, Summary)>) -> Vec<(i64, Summary)> {
        if self.resolution == 1 {
            // Points of one time stay in order of arrival: packed ones came before those of the tail.
            rows.sort_by_key(|(t, _)| *t);
            return rows;
        }
        let mut steps = Steps::default();
        for (t, summary) in rows {
            steps.add(step_of(t, self.resolution), summary);
        }
        steps.0.into_iter().collect()
    }

    /// Drops rows that cannot be in the answer, so that many sources do not fill the memory.
    fn prune(&mut self, order: Order) {
        if self.rows.len() < 4 * MEASUREMENTS_PER_ANSWER_MAX {
            return;
        }
        self.rows.sort_by_key(|row| row.measure_time);
        self.rows.truncate(MEASUREMENTS_PER_ANSWER_MAX + 1);
        if let (Order::OldestFirst, Some(last)) = (order, self.rows.last()) {
            self.end = self.end.min(last.measure_time.saturating_add(self.resolution));
        }
    }
}

/// Ends a page that is too long before the time of its last row, so that the next page repeats and
/// misses nothing.
fn cut(mut rows: Vec<Measured>) -> Measurements {
    rows.sort_by_key(|row| row.measure_time);
    if rows.len() <= MEASUREMENTS_PER_ANSWER_MAX {
        return Measurements { rows, ..Measurements::default() };
    }
    rows.truncate(MEASUREMENTS_PER_ANSWER_MAX + 1);
    let next_time = rows.last().map(|row| row.measure_time);
    rows.retain(|row| Some(row.measure_time) != next_time);
    let is_unavailable = rows.is_empty();
    Measurements { rows, next_time, is_unavailable }
}
