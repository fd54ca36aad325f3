//! Reads a metric in steps that fit: as fine as the chart is wide, and as the store still has them.

use super::browse::{self, BrowseQuery, BrowsedMetric};
use super::figures::{self, Kind, Steps, Track};
use super::quantity::Quantity;
use super::request::{PageError, Params, Range};
use crate::errors::unix_now;
use crate::server::App;
use crate::store::StoreError;
use crate::store::model::{ChartQuery, Line};

/// Lengths of steps that are chosen, in seconds.
const STEPS_S: [i64; 20] = [
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400,
    172_800, 604_800,
];
/// The most steps in a range, and over all sources together.
const STEPS_MAX: i64 = 4_000;
const ALL_STEPS_MAX: i64 = 50_000;
/// However many sources there are, a range is not made of fewer steps because of them.
const STEPS_MIN: i64 = 10;

/// A metric with what was measured in a range.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) metric: BrowsedMetric,
    pub(super) kind: Kind,
    pub(super) steps: Steps,
    /// How often it is reported, if less often than once a step.
    pub(super) interval: i64,
    pub(super) lines: Vec<Line>,
    pub(super) by_source: bool,
}

impl Read {
    /// What the metric's values stand for.
    pub(super) fn quantity(&self) -> Quantity {
        Quantity::new(self.metric.unit())
    }

    /// The lines in numbers.
    pub(super) fn tracks(&self) -> Vec<Track> {
        figures::tracks(self.kind, &self.lines, self.steps, self.by_source)
    }
}

/// The metric of that name.
pub(super) async fn metric(app: &App, name: &str) -> Result<BrowsedMetric, PageError> {
    let query = BrowseQuery { name: name.to_owned(), length: 1, ..BrowseQuery::default() };
    let found = browse::list(&app.store, query).await?.metrics.into_iter().next();
    found.ok_or_else(|| PageError::not_found(format!("there is no metric {name:?}")))
}

/// Reads what is asked for by `metric`, the range, `step`, `source` and `by`. Without `step` there are
/// about `points` steps.
pub(super) async fn read(app: &App, params: &Params, points: i64) -> Result<Read, PageError> {
    let metric = metric(app, params.metric()?).await?;
    let kind = metric.kind();
    let now = unix_now();
    let range = params.range(now)?;
    let given = params.number("step", 1, STEPS_S[STEPS_S.len() - 1])?;
    if let Some(step) = given
        && range.seconds() / step > STEPS_MAX
    {
        return Err(PageError::parameter(format!(
            "step {step} makes more than {STEPS_MAX} steps; give {} at least",
            range.seconds() / STEPS_MAX + 1
        )));
    }
    let by_source = params.word("by", &[("all", false), ("source", true)])?;
    // The growth of an absolute counter is known for each source alone.
    let is_read_by_source = by_source || kind == Kind::Absolute;
    let sources = if is_read_by_source { metric.sources.max(1) } else { 1 };
    let points = points.min(ALL_STEPS_MAX / sources).max(STEPS_MIN);
    let mut query = ChartQuery {
        metric: metric.id,
        sources: params.sources()?,
        start: range.start,
        end: range.end,
        step: given.unwrap_or_else(|| step_for(range, points)),
        by_source: is_read_by_source,
    };
    let mut lines = as_fine_as_kept(app, &mut query).await?;
    let mut interval = figures::interval(&lines, query.step);
    if given.is_none() && interval > query.step {
        // Steps in between would be empty, and rates of the others too high.
        query.step = round_up(interval);
        lines = as_fine_as_kept(app, &mut query).await?;
        interval = figures::interval(&lines, query.step);
    }
    let steps = Steps { range: range.in_steps(query.step), step: query.step, now };
    Ok(Read { metric, kind, steps, interval: interval.max(query.step), lines, by_source })
}

/// Reads with coarser steps where finer ones have expired, and where even the coarsest have, what is
/// left.
async fn as_fine_as_kept(app: &App, query: &mut ChartQuery) -> Result<Vec<Line>, StoreError> {
    let wanted = query.step;
    for resolution in [1, 60, 900, 3_600] {
        // Steps begin at multiples of themselves, so they must be of the resolution to be read from it.
        query.step = (wanted + resolution - 1) / resolution * resolution;
        let read = app.store.chart(query.clone()).await;
        match read {
            Err(StoreError::Unavailable { until, .. }) if resolution == 3_600 => {
                if until >= query.end {
                    return Ok(Vec::new());
                }
                query.start = query.start.max(until);
                return app.store.chart(query.clone()).await;
            }
            Err(StoreError::Unavailable { .. }) => {}
            read => return read,
        }
    }
    Ok(Vec::new())
}

/// The shortest step of which no more than `points` make up the range.
pub(super) fn step_for(range: Range, points: i64) -> i64 {
    round_up((range.seconds() + points - 1) / points.max(1))
}

fn round_up(step: i64) -> i64 {
    STEPS_S.into_iter().find(|known| *known >= step).unwrap_or(STEPS_S[STEPS_S.len() - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round_and_no_more_than_there_is_room_for() {
        for (seconds, points, expected) in
            [(300, 300, 1), (300, 299, 2), (3_600, 300, 15), (86_400, 300, 300), (30 * 86_400, 300, 10_800)]
        {
            let range = Range { start: 0, end: seconds };
            assert_eq!(step_for(range, points), expected, "{seconds} {points}");
        }
    }
}
