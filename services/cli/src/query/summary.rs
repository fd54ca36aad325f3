//! The figures of a source over all of the time looked at.

use serde::Serialize;
use zibrato_core::histogram::Histogram;

use super::catalogue::Kind;
use super::series::{Point, Source};
use super::window::Window;
use crate::percentile::quantile_within;

/// What a source did. Durations are in seconds; what is not known is `None`.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub(super) struct Summary {
    /// Points of a gauge, records of a timer, flushes of a counter.
    pub(super) count: f64,
    /// Of a counter: its increase.
    pub(super) sum: f64,
    /// A second: a counter's increase, a timer's records.
    pub(super) rate: Option<f64>,
    /// The highest rate of a step.
    pub(super) rate_max: Option<f64>,
    pub(super) mean: Option<f64>,
    pub(super) last: Option<f64>,
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
    pub(super) p50: Option<f64>,
    pub(super) p95: Option<f64>,
    pub(super) p99: Option<f64>,
}

impl Summary {
    /// The figures of all points together.
    pub(super) fn of(source: &Source, kind: Kind, window: &Window) -> Self {
        let points = &source.points;
        let sum_of = |amount: fn(&Point) -> f64| points.iter().map(amount).sum::<f64>();
        let (count, sum) = (sum_of(|point| point.count), sum_of(|point| point.sum));
        let all = merged(points);
        let min = extreme(points, |point| point.min, f64::min);
        let max = extreme(points, |point| point.max, f64::max);
        let [p50, p95, p99] = [0.5, 0.95, 0.99].map(|q| quantile_within(all.as_ref()?, q, min, max));
        let rates = bars(source, kind, window, Shown::Rate);
        let has_rate = kind != Kind::Gauge;
        let amount = if kind == Kind::Counter { sum } else { count };
        Self {
            count,
            sum,
            rate: has_rate.then(|| amount / window.span_s()),
            rate_max: rates.into_iter().flatten().reduce(f64::max).filter(|_| has_rate),
            mean: (count > 0.0).then(|| sum / count),
            last: points.last().map(|point| point.value),
            min,
            max,
            p50,
            p95,
            p99,
        }
    }
}

/// What a sparkline shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shown {
    /// The amount a second; a step without points has none of it.
    Rate,
    /// A timer's 99th percentile if it is known, else the mean.
    Value,
}

/// One value a step.
pub(super) fn bars(source: &Source, kind: Kind, window: &Window, shown: Shown) -> Vec<Option<f64>> {
    let mut steps: Vec<Vec<&Point>> = vec![Vec::new(); window.steps()];
    for point in &source.points {
        if let Some(step) = window.step_of(point.time_s).and_then(|step| steps.get_mut(step)) {
            step.push(point);
        }
    }
    let bar = |(step, points): (usize, &Vec<&Point>)| -> Option<f64> {
        match shown {
            Shown::Rate => {
                let amount = |point: &&Point| if kind == Kind::Counter { point.sum } else { point.count };
                Some(points.iter().map(amount).sum::<f64>() / window.step_s(step).max(1.0))
            }
            Shown::Value => p99(points).or_else(|| {
                let count: f64 = points.iter().map(|point| point.count).sum();
                let sum: f64 = points.iter().map(|point| point.sum).sum();
                (count > 0.0).then(|| sum / count)
            }),
        }
    };
    steps.iter().enumerate().map(bar).collect()
}

/// The 99th percentile of all points.
fn p99(points: &[&Point]) -> Option<f64> {
    let all = merged(points.iter().copied())?;
    let min = extreme(points.iter().copied(), |point| point.min, f64::min);
    let max = extreme(points.iter().copied(), |point| point.max, f64::max);
    quantile_within(&all, 0.99, min, max)
}

/// The distribution of all points; `None` if one of them brought none.
fn merged<'a>(points: impl IntoIterator<Item = &'a Point>) -> Option<Histogram> {
    let mut all: Option<Histogram> = None;
    for point in points {
        all.get_or_insert_with(Histogram::new).merge(point.histogram.as_deref()?);
    }
    all
}

fn extreme<'a>(
    points: impl IntoIterator<Item = &'a Point>,
    of: fn(&Point) -> Option<f64>,
    choose: fn(f64, f64) -> f64,
) -> Option<f64> {
    points.into_iter().map(|point| of(point).unwrap_or(point.value)).reduce(choose)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window = Window { start_s: 1_000, end_s: 1_030, resolution_s: 10 };

    fn plain(time_s: u64, value: f64) -> Point {
        Point { time_s, value, count: 1.0, sum: value, min: Some(value), max: Some(value), histogram: None }
    }

    fn timed(time_s: u64, ns: u64, count: u64) -> Point {
        let mut histogram = Histogram::new();
        histogram.record_ns(ns, count);
        let seconds = ns as f64 / 1e9;
        Point {
            count: count as f64,
            sum: seconds * count as f64,
            histogram: Some(Box::new(histogram)),
            ..plain(time_s, seconds)
        }
    }

    fn source(points: &[Point]) -> Source {
        Source { name: "s".to_owned(), points: points.to_vec() }
    }

    #[test]
    fn a_counter_has_a_total_and_rates() {
        let source = source(&[plain(1_000, 10.0), plain(1_005, 30.0), plain(1_020, 20.0)]);
        let summary = Summary::of(&source, Kind::Counter, &WINDOW);
        assert_eq!((summary.sum, summary.rate, summary.rate_max), (60.0, Some(2.0), Some(4.0)));
        let bars = bars(&source, Kind::Counter, &WINDOW, Shown::Rate);
        assert_eq!(bars, [Some(4.0), Some(0.0), Some(2.0)]);
    }

    #[test]
    fn a_gauge_has_its_extremes_mean_and_last_and_gaps() {
        let source = source(&[plain(1_000, 4.0), plain(1_005, -2.0), plain(1_020, 1.0)]);
        let summary = Summary::of(&source, Kind::Gauge, &WINDOW);
        assert_eq!((summary.min, summary.max, summary.mean), (Some(-2.0), Some(4.0), Some(1.0)));
        assert_eq!(
            (summary.last, summary.rate, summary.rate_max, summary.p99),
            (Some(1.0), None, None, None)
        );
        assert_eq!(bars(&source, Kind::Gauge, &WINDOW, Shown::Value), [Some(1.0), None, Some(1.0)]);
    }

    #[test]
    fn a_timer_has_percentiles_of_all_points_together() {
        let source = source(&[timed(1_000, 1_000_000, 98), timed(1_015, 5_000_000, 2)]);
        let summary = Summary::of(&source, Kind::Timer, &WINDOW);
        let near = |value: Option<f64>, expected: f64| (value.unwrap() / expected - 1.0).abs() < 0.02;
        assert!(near(summary.p50, 0.001) && near(summary.p95, 0.001) && near(summary.p99, 0.005));
        assert_eq!((summary.count, summary.max), (100.0, Some(0.005)));
        assert!((summary.rate.unwrap() - 100.0 / 30.0).abs() < 1e-9);
        let bars = bars(&source, Kind::Timer, &WINDOW, Shown::Value);
        assert!(near(bars[0], 0.001) && near(bars[1], 0.005) && bars[2].is_none());
    }

    #[test]
    fn without_the_buckets_of_every_point_there_are_no_percentiles() {
        let source = source(&[timed(1_000, 1_000_000, 98), plain(1_015, 0.005)]);
        assert_eq!(Summary::of(&source, Kind::Timer, &WINDOW).p50, None);
    }

    #[test]
    fn a_source_without_points_has_nothing() {
        let summary = Summary::of(&source(&[]), Kind::Gauge, &WINDOW);
        assert_eq!(summary, Summary::default());
    }
}
