//! Charts: what a metric's points add up to, in steps.

use std::ops::ControlFlow;

use rusqlite::Connection;

use super::errors::StoreError;
use super::model::{ChartQuery, Line, Step};
use super::rollup::{self, Order, Steps, step_of};
use super::series::{self, Packed, Series};
use super::{packed, tail};

/// The most steps of one chart, over all its lines.
pub(super) const STEPS_MAX: usize = 200_000;

/// The lines of a chart; without one for a source that has nothing in the range.
///
/// A step is whole, also the first and the last one; a first one that is no longer kept as a whole is
/// left out. Steps of a multiple of 60 s are read from the
/// coarsest rollup that divides them, others from the points.
///
/// # Errors
///
/// [`StoreError::Unavailable`] if the points of the range are not kept as fine as the steps,
/// [`StoreError::TooManySteps`] beyond [`STEPS_MAX`].
pub(super) fn read(connection: &Connection, query: &ChartQuery) -> Result<Vec<Line>, StoreError> {
    let step = query.step.max(1);
    let end = step_of(query.end.saturating_sub(1), step).saturating_add(step);
    if end.saturating_sub(query.start) / step > STEPS_MAX as i64 {
        return Err(StoreError::TooManySteps);
    }
    let (packed, start) = Packed::serving(connection, step, Some(query.start))?;
    let all = series::matching(connection, query.metric, &query.sources)?;
    let ids: Vec<i64> = all.iter().map(|series| series.id).collect();
    let mut tail = tail::read(connection, &ids, start, end)?;
    let mut lines = Vec::new();
    let mut merged = Steps::default();
    let mut steps_read = 0;
    for Series { id, source } in all {
        let mut own = Steps::default();
        let steps = if query.by_source { &mut own } else { &mut merged };
        read_packed(connection, packed, id, (start, end), |t, summary| steps.add(step_of(t, step), summary))?;
        for point in tail.remove(&id).unwrap_or_default() {
            steps.add(step_of(point.t, step), point.into_summary());
        }
        if query.by_source {
            steps_read += own.0.len();
            if steps_read > STEPS_MAX {
                return Err(StoreError::TooManySteps);
            }
            lines.extend(line(Some(source.to_string()), own));
        }
    }
    lines.extend(line(None, merged));
    Ok(lines)
}

fn read_packed(
    connection: &Connection,
    packed: Packed,
    series: i64,
    range: (i64, i64),
    mut add: impl FnMut(i64, super::model::Summary),
) -> rusqlite::Result<()> {
    match packed {
        Packed::Rollups { resolution } => {
            rollup::visit(connection, resolution, series, range, Order::OldestFirst, |t, summary| {
                add(t, summary);
                ControlFlow::Continue(())
            })
        }
        Packed::Blocks => packed::visit(connection, series, range, Order::OldestFirst, |points| {
            points.into_iter().for_each(|point| add(point.t, point.into_summary()));
            ControlFlow::Continue(())
        }),
    }
}

fn line(source: Option<String>, steps: Steps) -> Option<Line> {
    let steps: Vec<Step> = steps.0.into_iter().map(|(time, summary)| Step { time, summary }).collect();
    (!steps.is_empty()).then_some(Line { source, steps })
}
