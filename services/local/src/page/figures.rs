//! From what the store adds up to what people look at: rates, means, quantiles.

use std::collections::BTreeMap;

use serde::Serialize;
use zibrato_core::histogram::Histogram;

use super::request::Range;
use crate::store::model::{Line, OriginKind, Step, Summary};
use crate::validate::Kind as Posted;

/// How a metric is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Its points are increments: a rate is their sum in a second.
    Counter,
    /// Its points are absolute values that grow, as Librato's counters are: a rate is their growth.
    Absolute,
    Gauge,
    Timer,
}

impl Kind {
    /// By where it was recorded if a worker said so, else by what it was posted as.
    pub(super) fn of(origin: Option<OriginKind>, posted: Posted) -> Self {
        match (origin, posted) {
            (Some(OriginKind::Counter), Posted::Gauge) => Self::Counter,
            (Some(OriginKind::Timer), Posted::Gauge) => Self::Timer,
            (_, Posted::Counter) => Self::Absolute,
            (_, Posted::Gauge) => Self::Gauge,
        }
    }

    /// The name of the kind, in which both sorts of counters are one.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Counter | Self::Absolute => "counter",
            Self::Gauge => "gauge",
            Self::Timer => "timer",
        }
    }
}

/// One line of a chart in numbers.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(super) struct Track {
    /// None if all sources are merged.
    pub(super) source: Option<String>,
    pub(super) steps: Vec<Figures>,
}

/// What was measured in one step. What the points do not tell is none.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub(super) struct Figures {
    /// Where the step begins, in seconds since 1970.
    pub(super) time: i64,
    /// Records of a timer, else points.
    pub(super) count: f64,
    pub(super) sum: f64,
    /// In a second: of a counter what it counted, of a timer its records.
    pub(super) rate: Option<f64>,
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
    pub(super) mean: f64,
    /// The newest point.
    pub(super) last: f64,
    pub(super) p50: Option<f64>,
    pub(super) p95: Option<f64>,
    pub(super) p99: Option<f64>,
}

/// A line's statistic that can be drawn of each source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Statistic {
    Rate,
    Mean,
    P50,
    P95,
    P99,
    Max,
}

impl Figures {
    pub(super) fn statistic(&self, statistic: Statistic) -> Option<f64> {
        match statistic {
            Statistic::Rate => self.rate,
            Statistic::Mean => Some(self.mean),
            Statistic::P50 => self.p50,
            Statistic::P95 => self.p95,
            Statistic::P99 => self.p99,
            Statistic::Max => self.max,
        }
    }

    fn of(time: i64, summary: &Summary) -> Self {
        let quantile = |q| quantile(summary.histogram.as_ref()?, q, summary.min, summary.max);
        Self {
            time,
            count: summary.count,
            sum: summary.sum,
            rate: None,
            min: summary.min,
            max: summary.max,
            mean: summary.mean(),
            last: summary.last,
            p50: quantile(0.5),
            p95: quantile(0.95),
            p99: quantile(0.99),
        }
    }
}

/// A quantile. A bucket's value may lie outside of what was measured, by its error, and is held to it.
pub(super) fn quantile(histogram: &Histogram, q: f64, min: Option<f64>, max: Option<f64>) -> Option<f64> {
    let value = histogram.quantile(q)?;
    let value = min.map_or(value, |min| value.max(min));
    Some(max.map_or(value, |max| value.min(max)))
}

/// The steps of a chart: their length, and which of them are over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Steps {
    pub(super) range: Range,
    pub(super) step: i64,
    pub(super) now: i64,
}

/// A line of a chart ends, and a counter is no longer taken to count nothing, where more than so many
/// times the usual distance of its points lies between two of them.
pub(super) const INTERVALS_APART_MAX: i64 = 3;

/// The numbers of lines. Those of [`Kind::Absolute`] must have come by source, and are merged here if
/// `by_source` is not set.
pub(super) fn tracks(kind: Kind, lines: &[Line], steps: Steps, by_source: bool) -> Vec<Track> {
    let apart_s_max = INTERVALS_APART_MAX * interval(lines, steps.step).max(steps.step);
    let tracks = lines.iter().map(|line| {
        let mut figures: Vec<_> =
            line.steps.iter().map(|step| Figures::of(step.time, &step.summary)).collect();
        match kind {
            Kind::Gauge => {}
            Kind::Absolute => grow(&mut figures),
            Kind::Timer => records(&mut figures, steps),
            Kind::Counter => {
                spread(&mut figures, steps);
                figures = filled(figures, steps.step, apart_s_max);
            }
        }
        Track { source: line.source.clone(), steps: figures }
    });
    let tracks: Vec<_> = tracks.collect();
    if kind == Kind::Absolute && !by_source { merged(&tracks) } else { tracks }
}

/// The median distance between steps in which something was measured, over all lines: how often the
/// metric is reported, if that is less often than once a step.
pub(super) fn interval(lines: &[Line], step: i64) -> i64 {
    let gaps = lines.iter().flat_map(|line| line.steps.windows(2)).filter_map(|pair| match pair {
        [one, next] => Some(next.time - one.time),
        _ => None,
    });
    let mut gaps: Vec<_> = gaps.collect();
    if gaps.is_empty() {
        return step;
    }
    let middle = gaps.len() / 2;
    *gaps.select_nth_unstable(middle).1
}

/// Rates of a timer's records. In a step that is not over nobody knows for how much of it they stand.
fn records(figures: &mut [Figures], steps: Steps) {
    for figures in figures {
        let is_over = figures.time + steps.step <= steps.now;
        figures.rate = is_over.then(|| figures.count / steps.step as f64);
    }
}

/// Rates of what was counted in each step. The newest one may not be over: it is rated by the time that
/// its points stand for, judged by how many there are in other steps.
fn spread(figures: &mut [Figures], steps: Steps) {
    let mut counts: Vec<_> = figures.iter().rev().skip(1).map(|figures| figures.count).collect();
    let middle = counts.len() / 2;
    let usual = (!counts.is_empty()).then(|| *counts.select_nth_unstable_by(middle, f64::total_cmp).1);
    for figures in figures {
        let is_over = figures.time + steps.step <= steps.now;
        let part = match usual {
            Some(usual) if !is_over && usual > figures.count => figures.count / usual,
            _ => 1.0,
        };
        figures.rate = Some(figures.sum / (steps.step as f64 * part));
    }
}

/// A worker says nothing of a counter that counted nothing, so a few steps without a point between two
/// with one are ones with a rate of 0. More of them may be an outage as well as idleness, and nobody
/// knows: they are left out, as are those after the newest point.
fn filled(figures: Vec<Figures>, step: i64, apart_s_max: i64) -> Vec<Figures> {
    let mut filled: Vec<Figures> = Vec::with_capacity(figures.len());
    for figures in figures {
        if let Some(last) = filled.last().map(|last| last.time)
            && figures.time - last <= apart_s_max
        {
            let times = (1..).map(|at| last + at * step).take_while(|time| *time < figures.time);
            filled.extend(times.map(|time| Figures { time, rate: Some(0.0), ..Figures::default() }));
        }
        filled.push(figures);
    }
    filled
}

/// Rates of an absolute counter: its growth since the step before. A counter that fell began anew, and
/// nobody knows by how much it grew.
fn grow(figures: &mut [Figures]) {
    let mut before: Option<(i64, f64)> = None;
    for figures in figures {
        figures.rate = before
            .filter(|(_, last)| figures.last >= *last)
            .map(|(time, last)| (figures.last - last) / (figures.time - time) as f64);
        before = Some((figures.time, figures.last));
    }
}

/// One track of several, in which rates and absolute values add up.
fn merged(tracks: &[Track]) -> Vec<Track> {
    let mut steps: BTreeMap<i64, Figures> = BTreeMap::new();
    for figures in tracks.iter().flat_map(|track| &track.steps) {
        let total =
            steps.entry(figures.time).or_insert_with(|| Figures { time: figures.time, ..Figures::default() });
        total.count += figures.count;
        total.sum += figures.sum;
        total.last += figures.last;
        total.mean = total.sum / total.count;
        total.rate = match (total.rate, figures.rate) {
            (Some(one), Some(other)) => Some(one + other),
            (one, other) => one.or(other),
        };
    }
    let steps: Vec<_> = steps.into_values().collect();
    if steps.is_empty() { Vec::new() } else { vec![Track { source: None, steps }] }
}

/// The steps of lines in one, in order of time.
pub(super) fn all_steps(lines: &[Line]) -> impl Iterator<Item = &Step> {
    lines.iter().flat_map(|line| &line.steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(count: f64, sum: f64, last: f64) -> Summary {
        Summary { count, sum, min: None, max: None, sum_squares: None, last, last_time: 0, histogram: None }
    }

    fn line(steps: &[(i64, f64, f64)]) -> Line {
        let steps =
            steps.iter().map(|&(time, count, sum)| Step { time, summary: summary(count, sum, sum / count) });
        Line { source: None, steps: steps.collect() }
    }

    fn steps(step: i64, now: i64) -> Steps {
        Steps { range: Range { start: 0, end: 1_000 }, step, now }
    }

    fn rates(kind: Kind, lines: &[Line], steps: Steps) -> Vec<(i64, Option<f64>)> {
        let tracks = tracks(kind, lines, steps, false);
        tracks.into_iter().flat_map(|track| track.steps).map(|figures| (figures.time, figures.rate)).collect()
    }

    #[test]
    fn a_counters_rate_is_its_sum_in_a_second_and_0_where_nothing_was_counted() {
        let lines = [line(&[(10, 1.0, 5.0), (15, 1.0, 10.0), (25, 1.0, 20.0)])];
        let expected = [(10, 1.0), (15, 2.0), (20, 0.0), (25, 4.0)].map(|(time, rate)| (time, Some(rate)));
        assert_eq!(rates(Kind::Counter, &lines, steps(5, 30)), expected);
        assert_eq!(rates(Kind::Counter, &lines, steps(5, 1_000)), expected, "nothing is known after it");
    }

    #[test]
    fn a_counter_of_which_nothing_came_for_long_has_no_rate_then() {
        let lines = [line(&[(0, 1.0, 5.0), (5, 1.0, 5.0), (10, 1.0, 5.0), (25, 1.0, 5.0), (265, 1.0, 5.0)])];
        let found = rates(Kind::Counter, &lines, steps(5, 300));
        let times: Vec<_> = found.iter().map(|(time, _)| *time).collect();
        assert_eq!(times, [0, 5, 10, 15, 20, 25, 265]);
        let zeros: Vec<_> =
            found.iter().filter(|(_, rate)| *rate == Some(0.0)).map(|(time, _)| *time).collect();
        assert_eq!(zeros, [15, 20]);
    }

    #[test]
    fn a_step_that_is_not_over_is_rated_by_the_time_that_its_points_stand_for() {
        let lines = [line(&[(0, 10.0, 100.0), (10, 10.0, 100.0), (20, 2.0, 30.0)])];
        assert_eq!(rates(Kind::Counter, &lines, steps(10, 22))[2], (20, Some(15.0)));
        assert_eq!(rates(Kind::Counter, &lines, steps(10, 30))[2], (20, Some(3.0)));
    }

    #[test]
    fn an_absolute_counter_grows_by_source_and_a_restart_is_no_growth() {
        let one = line(&[(0, 1.0, 100.0), (10, 1.0, 150.0), (20, 1.0, 10.0)]);
        let other = line(&[(10, 1.0, 7.0), (20, 1.0, 27.0)]);
        let rates = rates(Kind::Absolute, &[one, other], steps(10, 100));
        assert_eq!(rates, [(0, None), (10, Some(5.0)), (20, Some(2.0))]);
    }

    #[test]
    fn a_timers_rate_counts_its_records() {
        let lines = [line(&[(0, 50.0, 0.5)])];
        assert_eq!(rates(Kind::Timer, &lines, steps(10, 100)), [(0, Some(5.0))]);
        // Fewer records than before are not taken for a part of a step.
        let lines = [line(&[(0, 50.0, 0.5), (10, 50.0, 0.5), (20, 5.0, 0.1)])];
        assert_eq!(rates(Kind::Timer, &lines, steps(10, 25))[2], (20, None));
        assert_eq!(rates(Kind::Timer, &lines, steps(10, 30))[2], (20, Some(0.5)));
    }

    #[test]
    fn the_interval_is_the_usual_distance_of_points() {
        let lines = [line(&[(0, 1.0, 1.0), (60, 1.0, 1.0), (120, 1.0, 1.0), (600, 1.0, 1.0)])];
        assert_eq!(interval(&lines, 1), 60);
        assert_eq!(interval(&[], 5), 5);
    }

    #[test]
    fn a_kind_is_that_of_its_origin_but_for_librato_counters() {
        assert_eq!(Kind::of(Some(OriginKind::Timer), Posted::Gauge), Kind::Timer);
        assert_eq!(Kind::of(None, Posted::Gauge), Kind::Gauge);
        assert_eq!(Kind::of(None, Posted::Counter), Kind::Absolute);
    }
}
