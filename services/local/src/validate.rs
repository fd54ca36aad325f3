//! From a parsed body to points: the whole batch or the first error.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::body::{Attributes, Body, Buckets, Measurement, Scalar, Series};
use crate::errors::{ApiError, Refusal};
use crate::store::model::Origin;

/// The longest metric name and source, in characters of `A-Za-z0-9.:_-`.
pub(crate) const NAME_BYTES_MAX: usize = 255;
/// The source of a measurement that names none.
pub(crate) const SOURCE_UNASSIGNED: &str = "unassigned";
/// The source that Librato keeps for itself.
const SOURCE_RESERVED: &str = "all";
/// The longest description and display name, in bytes.
const DESCRIPTION_BYTES_MAX: usize = 1_024;
/// The largest number, by magnitude.
const NUMBER_MAX: f64 = 1e126;
/// Smaller numbers, by magnitude, become 0.
const NUMBER_MIN: f64 = 1e-130;
/// The most buckets of one histogram.
const BUCKETS_MAX: usize = 640;
/// The finest and coarsest scale of a histogram, as OpenTelemetry has them.
const SCALES: std::ops::RangeInclusive<i32> = -10..=20;

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
    pub(crate) source: String,
    pub(crate) measure_time: i64,
    pub(crate) numbers: Numbers,
    pub(crate) buckets: Option<Buckets>,
    pub(crate) properties: Properties,
    /// Where a Zibrato worker says the metric comes from.
    pub(crate) origin: Option<Origin>,
    /// Tags, sorted by key, if it came with tags instead of a source; then `source` is their text
    /// `key=value,key=value`, which no plain source can be. Only `{source: s}` is the plain source s.
    pub(crate) tags: Vec<(String, String)>,
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

/// What a metric gets when this point creates it; without effect on a metric that exists.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Properties {
    pub(crate) period: Option<i64>,
    pub(crate) description: Option<String>,
    pub(crate) display_name: Option<String>,
    pub(crate) attributes: BTreeMap<String, Value>,
}

impl Properties {
    /// Whether service-side aggregation was asked for.
    pub(crate) fn is_aggregated(&self) -> bool {
        self.attributes.get("aggregate") == Some(&Value::Bool(true))
    }
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
        let text = "Must contain a measurement";
        return Err(ApiError::request(axum::http::StatusCode::BAD_REQUEST, Refusal::NoMeasurement, text));
    }
    let mut points = Vec::with_capacity(body.measurements());
    let Body { gauges, counters, source, measure_time, period, attributes } = body;
    let defaults = Measurement { source, measure_time, period, attributes, ..Measurement::default() };
    for (kind, Series(series)) in [(Kind::Gauge, gauges), (Kind::Counter, counters)] {
        for (key, measurement) in series {
            points.push(point(kind, key, measurement, &defaults, times)?);
        }
    }
    Ok(points)
}

fn point(
    kind: Kind,
    key: Option<String>,
    measurement: Measurement,
    defaults: &Measurement,
    times: Times,
) -> Result<Point, ApiError> {
    let name = name(measurement.name.as_ref(), key)?;
    let source = source(measurement.source.as_ref().or(defaults.source.as_ref()))?;
    let measure_time =
        measure_time(measurement.measure_time.as_ref().or(defaults.measure_time.as_ref()), times)?;
    let is_complex = kind == Kind::Gauge && (measurement.count.is_some() || measurement.sum.is_some());
    let numbers = if is_complex { complex(&measurement, &name)? } else { simple(kind, &measurement, &name)? };
    let buckets = match measurement.buckets.as_ref().map(|object| &object.0) {
        Some(_) if !is_complex => {
            return Err(ApiError::field(
                Refusal::BadValue,
                "buckets",
                "must be set with count and sum",
                &name,
            ));
        }
        Some(buckets) if buckets.counts.len() > BUCKETS_MAX || !SCALES.contains(&buckets.scale) => {
            let text = "must have at most 640 counts and a scale of -10 to 20";
            return Err(ApiError::field(Refusal::BadValue, "buckets", text, &name));
        }
        buckets => buckets.cloned(),
    };
    let properties = properties(measurement, defaults, &name)?;
    Ok(Point {
        name,
        kind,
        source,
        measure_time,
        numbers,
        buckets,
        properties,
        origin: None,
        tags: Vec::new(),
    })
}

fn name(inner: Option<&Scalar>, key: Option<String>) -> Result<String, ApiError> {
    let Some(name) = inner.map(text).or(key) else {
        return Err(ApiError::param(Refusal::BadName, "name", "is not present"));
    };
    if is_name(&name) {
        return Ok(name);
    }
    Err(ApiError::param(Refusal::BadName, "name", format!("{name} is not a valid metric name")))
}

fn source(given: Option<&Scalar>) -> Result<String, ApiError> {
    let Some(source) = given.map(text) else { return Ok(SOURCE_UNASSIGNED.to_owned()) };
    if is_name(&source) && !source.eq_ignore_ascii_case(SOURCE_RESERVED) {
        return Ok(source);
    }
    Err(ApiError::param(Refusal::BadSource, "source", format!("{source} is not a valid source name")))
}

/// Whether `text` may be a metric name or a source.
pub(crate) fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".:_-".contains(&byte))
}

fn measure_time(given: Option<&Scalar>, times: Times) -> Result<i64, ApiError> {
    let Some(given) = given else { return Ok(times.now) };
    let Some(seconds) = number(given) else {
        return Err(ApiError::param(Refusal::BadTime, "measure_time", "is not a number"));
    };
    // The conversion saturates, and both ends are far outside of any window.
    let time = seconds.floor() as i64;
    if time < times.now.saturating_sub_unsigned(times.max_age_s) {
        return Err(ApiError::param(Refusal::TooOld, "measure_time", "is too far in the past"));
    }
    if time > times.now.saturating_add_unsigned(times.max_ahead_s) {
        return Err(ApiError::param(Refusal::TooFarAhead, "measure_time", "is too far in the future"));
    }
    Ok(time)
}

fn simple(kind: Kind, measurement: &Measurement, name: &str) -> Result<Numbers, ApiError> {
    let Some(value) = field("value", measurement.value.as_ref(), name)? else {
        return Err(ApiError::value("value", "is required", name));
    };
    // Librato's text says positive; a counter that has not counted yet is still one, so 0 passes.
    if kind == Kind::Counter && value < 0.0 {
        return Err(ApiError::value("value", "must be positive", name));
    }
    let (min, max, sum_squares) = (Some(value), Some(value), Some(value * value));
    Ok(Numbers { value, count: 1.0, sum: value, min, max, sum_squares })
}

fn complex(measurement: &Measurement, name: &str) -> Result<Numbers, ApiError> {
    let get = |param, value: &Option<Scalar>| field(param, value.as_ref(), name);
    let refuse = |param, text| Err(ApiError::field(Refusal::BadCount, param, text, name));
    let Some(count) = get("count", &measurement.count)? else { return refuse("count", "is required") };
    if measurement.value.is_some() {
        return refuse("value", "must not be set with count");
    }
    if count <= 0.0 {
        return refuse("count", "must be positive");
    }
    let Some(sum) = get("sum", &measurement.sum)? else { return refuse("sum", "is required") };
    let (min, max) = (get("min", &measurement.min)?, get("max", &measurement.max)?);
    let sum_squares = get("sum_squares", &measurement.sum_squares)?;
    Ok(Numbers { value: sum / count, count, sum, min, max, sum_squares })
}

/// The number in a field, brought into the accepted range at its small end.
fn field(param: &'static str, given: Option<&Scalar>, name: &str) -> Result<Option<f64>, ApiError> {
    let Some(given) = given else { return Ok(None) };
    match number(given) {
        None => Err(ApiError::value(param, "is not a number", name)),
        Some(number) if number.abs() > NUMBER_MAX => Err(ApiError::value(param, "is too large", name)),
        Some(number) if number.abs() < NUMBER_MIN => Ok(Some(0.0)),
        Some(number) => Ok(Some(number)),
    }
}

fn properties(measurement: Measurement, defaults: &Measurement, name: &str) -> Result<Properties, ApiError> {
    let short = |param, given: Option<&Scalar>| match given.map(text) {
        Some(text) if text.len() > DESCRIPTION_BYTES_MAX => {
            Err(ApiError::field(Refusal::BadProperty, param, "is longer than 1024 bytes", name))
        }
        text => Ok(text),
    };
    let period = match measurement.period.as_ref().or(defaults.period.as_ref()) {
        None => None,
        Some(given) => match number(given) {
            Some(seconds) if seconds >= 0.0 => Some(seconds as i64),
            _ => return Err(ApiError::field(Refusal::BadProperty, "period", "is not a number", name)),
        },
    };
    let Attributes(attributes) =
        measurement.attributes.or_else(|| defaults.attributes.clone()).unwrap_or_default();
    Ok(Properties {
        period,
        description: short("description", measurement.description.as_ref())?,
        display_name: short("display_name", measurement.display_name.as_ref())?,
        attributes,
    })
}

/// A finite number, or a string that is one: the original zibrato sends `measure_time` in quotes.
fn number(given: &Scalar) -> Option<f64> {
    match given {
        Scalar::Number(number) => Some(*number),
        Scalar::Text(text) => text.trim().parse().ok().filter(|number: &f64| number.is_finite()),
        Scalar::Bool(_) | Scalar::Other => None,
    }
}

fn text(given: &Scalar) -> String {
    match given {
        Scalar::Text(text) => text.clone(),
        Scalar::Number(number) => number.to_string(),
        Scalar::Bool(bool) => bool.to_string(),
        Scalar::Other => String::new(),
    }
}

#[cfg(test)]
mod tests;
