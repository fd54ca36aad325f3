//! `GET /page/histogram`: the distribution of a moment, in buckets.

use axum::extract::State;
use axum::http::{Uri, header};
use axum::response::IntoResponse;
use serde::Serialize;
use zibrato_core::histogram::{Histogram, lower_bound};

use super::chart::Bucket;
use super::figures::{Steps, all_steps, interval, quantile};
use super::pictures::NOT_STORED;
use super::read::{self, Read};
use super::request::{Answer, PageError, Params};
use crate::errors::{JSON, unix_now};
use crate::server::{App, Shared};
use crate::store::model::ChartQuery;

/// The longest moment that is read second by second, in seconds.
const FINE_S_MAX: i64 = 3_600;

/// Distributions added up.
#[derive(Clone, Debug, Default)]
pub(super) struct Distribution(Option<Histogram>);

impl Distribution {
    pub(super) fn add(&mut self, histogram: &Histogram) {
        match &mut self.0 {
            Some(sum) => sum.merge(histogram),
            sum @ None => *sum = Some(histogram.clone()),
        }
    }

    /// The buckets that hold something, from the shortest duration.
    pub(super) fn buckets(&self) -> Vec<Bucket> {
        let Some(histogram) = &self.0 else { return Vec::new() };
        let zero =
            (histogram.zero() > 0).then(|| Bucket { low: 0.0, high: 0.0, count: histogram.zero() as f64 });
        let scale = histogram.scale();
        let timed = histogram.counts().map(|(index, count)| Bucket {
            low: lower_bound(index, scale),
            high: lower_bound(index + 1, scale),
            count: count as f64,
        });
        zero.into_iter().chain(timed).collect()
    }

    /// The same with no more buckets than `most`, if wider ones allow that.
    pub(super) fn coarse(&self, most: usize) -> Self {
        let mut coarse = self.0.clone();
        if let Some(histogram) = &mut coarse {
            for _ in 0..=u8::MAX {
                let scale = histogram.scale();
                histogram.downscale_to(if histogram.buckets() > most { scale - 1 } else { scale });
                if histogram.scale() == scale {
                    break;
                }
            }
        }
        Self(coarse)
    }
}

/// A moment of a metric.
#[derive(Debug)]
pub(super) struct Moment {
    pub(super) read: Read,
    pub(super) distribution: Distribution,
    min: Option<f64>,
    max: Option<f64>,
    count: f64,
    sum: f64,
}

impl Moment {
    /// The quantiles that charts show, with their names.
    pub(super) fn quantiles(&self) -> [(&'static str, Option<f64>); 4] {
        let quantile = |q| quantile(self.distribution.0.as_ref()?, q, self.min, self.max);
        [("p50", quantile(0.5)), ("p95", quantile(0.95)), ("p99", quantile(0.99)), ("max", self.max)]
    }
}

/// Reads the range asked for as one moment.
pub(super) async fn read(app: &App, params: &Params) -> Result<Moment, PageError> {
    let metric = read::metric(app, params.metric()?).await?;
    let kind = metric.kind();
    let now = unix_now();
    let range = params.range(now)?;
    let length = range.seconds();
    // One step if the moment is one; else as fine as its ends are and no finer than need be.
    let divides = |step: &i64| range.start % step == 0 && range.end % step == 0;
    let step = if range.start % length == 0 {
        length
    } else {
        let fine = if length <= FINE_S_MAX { 1 } else { 60 };
        [3_600, 900, 60].into_iter().find(divides).unwrap_or(fine)
    };
    let query = ChartQuery {
        metric: metric.id,
        sources: params.sources()?,
        start: range.start,
        end: range.end,
        step,
        by_source: false,
    };
    let lines = app.store.chart(query).await?;
    let (mut distribution, mut min, mut max) =
        (Distribution::default(), Some(f64::INFINITY), Some(f64::NEG_INFINITY));
    let (mut count, mut sum) = (0.0, 0.0);
    for step in all_steps(&lines) {
        let summary = &step.summary;
        if let Some(histogram) = &summary.histogram {
            distribution.add(histogram);
        }
        min = min.zip(summary.min).map(|(one, other)| one.min(other));
        max = max.zip(summary.max).map(|(one, other)| one.max(other));
        count += summary.count;
        sum += summary.sum;
    }
    let finite = |bound: Option<f64>| bound.filter(|bound| bound.is_finite());
    let interval = interval(&lines, step);
    let steps = Steps { range: range.in_steps(step), step: range.in_steps(step).seconds(), now };
    let read = Read { metric, kind, steps, interval, lines, by_source: false };
    Ok(Moment { read, distribution, min: finite(min), max: finite(max), count, sum })
}

#[derive(Serialize)]
struct Shown {
    metric: String,
    kind: &'static str,
    unit: String,
    /// What was read: the range asked for, in whole steps of the store.
    start: i64,
    end: i64,
    /// Records, and how many of them are in the buckets.
    count: f64,
    counted: f64,
    sum: f64,
    min: Option<f64>,
    max: Option<f64>,
    p50: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
    /// Largest relative error of a quantile.
    error: f64,
    buckets: Vec<Bucket>,
}

pub(super) async fn show(State(app): State<Shared>, uri: Uri) -> Answer {
    let found = read(&app, &Params::of(&uri)).await?;
    let [p50, p95, p99, _] = found.quantiles().map(|(_, value)| value);
    let histogram = found.distribution.0.as_ref();
    let shown = Shown {
        kind: found.read.kind.as_str(),
        unit: found.read.quantity().unit,
        start: found.read.steps.range.start,
        end: found.read.steps.range.end,
        count: found.count,
        counted: histogram.map_or(0, Histogram::total) as f64,
        sum: found.sum,
        min: found.min,
        max: found.max,
        p50,
        p95,
        p99,
        error: histogram.map_or(0.0, Histogram::relative_error),
        buckets: found.distribution.buckets(),
        metric: found.read.metric.name,
    };
    // Numbers and texts always serialise.
    let body = serde_json::to_string(&shown).unwrap_or_default();
    Ok(([(header::CONTENT_TYPE, JSON), (header::CACHE_CONTROL, NOT_STORED)], body).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wider_buckets_hold_the_same_records() {
        let mut distribution = Distribution::default();
        distribution.add(&Histogram::from_parts(5, 3, -200, (0..150).map(|at| at % 7)));
        let total = |distribution: &Distribution| {
            distribution.buckets().iter().map(|bucket| bucket.count).sum::<f64>()
        };
        let coarse = distribution.coarse(20);
        assert!(coarse.buckets().len() <= 21, "{}", coarse.buckets().len());
        assert_eq!(total(&coarse), total(&distribution));
        assert_eq!(distribution.coarse(1_000).buckets(), distribution.buckets());
        assert_eq!(coarse.buckets()[0], Bucket { low: 0.0, high: 0.0, count: 3.0 });
    }
}
