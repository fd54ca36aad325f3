//! From a parsed body to points.
//!
//! A batch with sources is taken as a whole or not at all; of a batch with tags each measurement
//! stands for itself (`tagged`).

mod fields;
mod flaw;
mod origin;
mod properties;
mod tagged;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::StatusCode;
use serde_json::Value;

use crate::body::{Body, Buckets, Measurement, Series};
use crate::errors::{ApiError, Refusal};
use crate::store::model::Origin;

pub(crate) use fields::{is_name, is_source};
pub(crate) use flaw::Flaw;
pub(crate) use properties::{Changes, Properties, is_for};
pub(crate) use tagged::{Tagged, tagged};

/// The source of a measurement that names none.
pub(crate) const SOURCE_UNASSIGNED: &str = "unassigned";

/// A metric's kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Gauge,
    Counter,
}

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
        }
    }
}

/// A measurement that may be stored.
///
/// A simple one has count 1 and its value as sum, min and max. `min`, `max` and `sum_squares` of a
/// complex one are known only if they were sent.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Point {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) source: Arc<str>,
    pub(crate) measure_time: i64,
    pub(crate) numbers: Numbers,
    pub(crate) buckets: Option<Buckets>,
    pub(crate) properties: Properties,
    /// Where a Zibrato worker says the metric comes from.
    pub(crate) origin: Option<Origin>,
    /// Tags, sorted by key, if it came with tags instead of a source; then `source` is their text
    /// `key=value,key=value`, which no plain source can be. Only `{source: s}` is the plain source s.
    pub(crate) tags: Arc<[(String, String)]>,
}

/// What a batch says for those of its measurements that do not say it themselves.
///
/// What may be large is read once and shared: copied into each of 10 000 points, what a small body says
/// once would fill the memory.
#[derive(Debug)]
struct Defaults<'a> {
    /// The fields that are small.
    given: &'a Measurement,
    attributes: Result<Arc<BTreeMap<String, Value>>, Flaw>,
}

impl<'a> Defaults<'a> {
    fn of(kind: Kind, given: &'a Measurement) -> Self {
        Self { given, attributes: properties::attributes(kind, given.attributes.as_ref()) }
    }
}

/// The numbers of a point; `value` is the mean.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Numbers {
    pub(crate) value: f64,
    pub(crate) count: f64,
    pub(crate) sum: f64,
    pub(crate) min: Option<f64>,
    pub(crate) max: Option<f64>,
    pub(crate) sum_squares: Option<f64>,
}

/// The accepted times, as seconds around `now`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) now: i64,
    pub(crate) max_age_s: u64,
    pub(crate) max_ahead_s: u64,
}

/// All points of `body`, gauges first.
///
/// # Errors
///
/// The first error; nothing of the batch may be stored then.
pub(crate) fn points(body: Body, times: Times) -> Result<Vec<Point>, ApiError> {
    if body.measurements() == 0 {
        return Err(no_measurement());
    }
    let mut points = Vec::with_capacity(body.measurements());
    let Body { gauges, counters, source, measure_time, period, attributes } = body;
    let given = Measurement { source, measure_time, period, attributes, ..Measurement::default() };
    for (kind, Series(series)) in [(Kind::Gauge, gauges), (Kind::Counter, counters)] {
        let defaults = Defaults::of(kind, &given);
        for (key, measurement) in series {
            points.push(point(kind, key, measurement, &defaults, times).map_err(ApiError::from)?);
        }
    }
    Ok(points)
}

/// The answer to a body without a measurement.
pub(crate) fn no_measurement() -> ApiError {
    ApiError::request(StatusCode::BAD_REQUEST, Refusal::NoMeasurement, "Must contain a measurement")
}

fn point(
    kind: Kind,
    key: Option<String>,
    measurement: Measurement,
    defaults: &Defaults<'_>,
    times: Times,
) -> Result<Point, Flaw> {
    let name = fields::name(measurement.name.as_ref(), key)?;
    let source = fields::source(measurement.source.as_ref().or(defaults.given.source.as_ref()))?;
    let time = measurement.measure_time.as_ref().or(defaults.given.measure_time.as_ref());
    let measure_time = fields::time("measure_time", time, times)?;
    let numbers = fields::numbers(kind, &measurement, &name)?;
    let buckets = fields::buckets(&measurement, &numbers, &name)?;
    let origin = origin::origin(measurement.origin.as_ref(), &name)?;
    let properties = Properties::of(kind, measurement, defaults, &name)?;
    let (source, tags) = (source.into(), Arc::default());
    Ok(Point { name, kind, source, measure_time, numbers, buckets, properties, origin, tags })
}

#[cfg(test)]
mod tests;
