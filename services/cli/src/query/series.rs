//! Reads the measurements of a metric, page by page.

use std::collections::BTreeMap;

use serde::Deserialize;
use zibrato_core::histogram::Histogram;
use zibrato_core::limits::{HISTOGRAM_SCALE, HISTOGRAM_SCALE_MIN};

use super::catalogue::{Kind, Metric};
use super::client::{Client, ClientError};
use super::window::Window;
use crate::progress::Progress;

/// Most pages of one query; what is beyond is left out, which is said.
const PAGES_MAX: usize = 100;

/// What was found of a metric.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Found {
    pub(super) metric: Metric,
    /// As the worker said, else by what the points look like.
    pub(super) kind: Kind,
    /// In the order of their names.
    pub(super) sources: Vec<Source>,
    /// Whether there was more than [`PAGES_MAX`] pages.
    pub(super) is_cut: bool,
}

/// What one source measured.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Source {
    pub(super) name: String,
    /// In order of time.
    pub(super) points: Vec<Point>,
}

/// What was measured in one step.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(from = "Measurement")]
pub(super) struct Point {
    pub(super) time_s: u64,
    /// The mean.
    pub(super) value: f64,
    pub(super) count: f64,
    pub(super) sum: f64,
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
    /// Of durations, in seconds.
    pub(super) histogram: Option<Box<Histogram>>,
}

/// A measurement as it is answered.
#[derive(Clone, PartialEq, Debug, Deserialize)]
struct Measurement {
    measure_time: u64,
    value: f64,
    #[serde(default = "one")]
    count: f64,
    sum: Option<f64>,
    min: Option<f64>,
    max: Option<f64>,
    buckets: Option<Buckets>,
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
struct Buckets {
    scale: i8,
    #[serde(default)]
    zero: u64,
    offset: i32,
    counts: Vec<u64>,
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
struct Page {
    #[serde(flatten)]
    metric: Metric,
    #[serde(default)]
    query: Next,
    #[serde(default)]
    measurements: BTreeMap<String, Vec<Point>>,
}

#[derive(Clone, Copy, PartialEq, Default, Debug, Deserialize)]
struct Next {
    next_time: Option<u64>,
}

fn one() -> f64 {
    1.0
}

impl From<Measurement> for Point {
    fn from(measurement: Measurement) -> Self {
        let Measurement { measure_time, value, count, sum, min, max, buckets } = measurement;
        let histogram = buckets.and_then(Buckets::histogram).map(Box::new);
        Self { time_s: measure_time, value, count, sum: sum.unwrap_or(value * count), min, max, histogram }
    }
}

impl Buckets {
    /// `None` for a scale that no Zibrato writes.
    fn histogram(self) -> Option<Histogram> {
        let Self { scale, zero, offset, counts } = self;
        let is_ours = (HISTOGRAM_SCALE_MIN..=HISTOGRAM_SCALE).contains(&scale);
        is_ours.then(|| Histogram::from_parts(scale, zero, offset, counts))
    }
}

/// Reads all of a window; `None` if there is no such metric.
pub(super) async fn read(
    client: &Client,
    name: &str,
    source: Option<&str>,
    window: &Window,
    progress: &Progress,
) -> Result<Option<Found>, ClientError> {
    let mut start_s = window.start_s;
    let mut found: Option<Found> = None;
    let mut sources: BTreeMap<String, Vec<Point>> = BTreeMap::new();
    for page in 0..PAGES_MAX {
        let mut parameters = vec![
            ("start_time", start_s.to_string()),
            ("end_time", window.end_s.to_string()),
            ("resolution", window.resolution_s.to_string()),
            ("buckets", "true".to_owned()),
        ];
        parameters.extend(source.map(|source| ("source", source.to_owned())));
        let Some(answer) = client.read::<Page>(&["v1", "metrics", name], &parameters).await? else {
            return Ok(None);
        };
        progress.at(page as u64, || format!("page {}", page + 1));
        for (source, points) in answer.measurements {
            sources.entry(source).or_default().extend(points);
        }
        let metric = answer.metric;
        let next = answer.query.next_time.filter(|next| *next > start_s);
        found = Some(Found { kind: Kind::Gauge, metric, sources: Vec::new(), is_cut: next.is_some() });
        match next {
            Some(next) => start_s = next,
            None => break,
        }
    }
    Ok(found.map(|found| {
        let is_timed = sources.values().flatten().any(|point| point.histogram.is_some());
        let guess = if is_timed { Kind::Timer } else { Kind::Gauge };
        let kind = found.metric.kind().unwrap_or(guess);
        let sources = sources.into_iter().map(|(name, points)| Source { name, points }).collect();
        Found { kind, sources, ..found }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(json: &str) -> Point {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_point_may_leave_out_all_but_time_and_value() {
        let bare = point(r#"{"measure_time":7,"value":2.5}"#);
        assert_eq!((bare.time_s, bare.count, bare.sum, bare.min), (7, 1.0, 2.5, None));
        let full = point(
            r#"{"measure_time":7,"value":2.0,"count":3,"sum":6.0,"min":null,"max":4.0,"sum_squares":14.0,
                "buckets":{"scale":5,"zero":1,"offset":-3,"counts":[1,0,1]}}"#,
        );
        assert_eq!((full.count, full.max, full.histogram.unwrap().total()), (3.0, Some(4.0), 3));
    }

    #[test]
    fn buckets_of_a_scale_that_nobody_writes_are_left_out() {
        let point = point(r#"{"measure_time":7,"value":2,"buckets":{"scale":20,"offset":0,"counts":[1]}}"#);
        assert_eq!(point.histogram, None);
    }
}
