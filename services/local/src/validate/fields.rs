//! The fields of a measurement.

use super::{Flaw, Kind, Numbers, SOURCE_UNASSIGNED, Times};
use crate::body::{Buckets, Measurement, Scalar};
use crate::errors::Refusal;

/// The longest metric name and source, in characters of `A-Za-z0-9.:_-`.
const NAME_BYTES_MAX: usize = 255;
/// The source that Librato keeps for itself.
const SOURCE_RESERVED: &str = "all";
/// The largest number, by magnitude.
const NUMBER_MAX: f64 = 1e126;
/// Smaller numbers, by magnitude, become 0.
const NUMBER_MIN: f64 = 1e-130;
/// The most buckets of one histogram.
const BUCKETS_MAX: usize = 640;
/// The finest and coarsest scale of a histogram, as OpenTelemetry has them.
const SCALES: std::ops::RangeInclusive<i32> = -10..=20;

/// Whether `text` may be a metric's name.
pub(crate) fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".:_-".contains(&byte))
}

/// Whether `text` may be a source.
pub(crate) fn is_source(text: &str) -> bool {
    is_name(text) && !text.eq_ignore_ascii_case(SOURCE_RESERVED)
}

pub(super) fn name(inner: Option<&Scalar>, key: Option<String>) -> Result<String, Flaw> {
    let Some(name) = inner.map(Scalar::text).or(key) else {
        return Err(Flaw::new(Refusal::BadName, "name", "", "is not present"));
    };
    if is_name(&name) {
        return Ok(name);
    }
    Err(Flaw::bad_name(Refusal::BadName, "name", name, "is not a valid metric name"))
}

pub(super) fn source(given: Option<&Scalar>) -> Result<String, Flaw> {
    let Some(source) = given.map(Scalar::text) else { return Ok(SOURCE_UNASSIGNED.to_owned()) };
    if is_source(&source) {
        return Ok(source);
    }
    Err(Flaw::bad_name(Refusal::BadSource, "source", source, "is not a valid source name"))
}

pub(super) fn time(param: &str, given: Option<&Scalar>, times: Times) -> Result<i64, Flaw> {
    let Some(given) = given else { return Ok(times.now) };
    let refuse = |refusal, reason| Err(Flaw::new(refusal, param, given.text(), reason));
    let Some(seconds) = given.number() else { return refuse(Refusal::BadTime, "is not a number") };
    // The conversion saturates, and both ends are far outside of any window.
    let time = seconds.floor() as i64;
    if time < times.now.saturating_sub_unsigned(times.max_age_s) {
        return refuse(Refusal::TooOld, "is too far in the past");
    }
    if time > times.now.saturating_add_unsigned(times.max_ahead_s) {
        return refuse(Refusal::TooFarAhead, "is too far in the future");
    }
    Ok(time)
}

/// The numbers of a measurement, complex if it has a count or a sum.
pub(super) fn numbers(kind: Kind, measurement: &Measurement, name: &str) -> Result<Numbers, Flaw> {
    if is_complex(kind, measurement) { complex(measurement, name) } else { simple(kind, measurement, name) }
}

fn is_complex(kind: Kind, measurement: &Measurement) -> bool {
    kind == Kind::Gauge && (measurement.count.is_some() || measurement.sum.is_some())
}

fn simple(kind: Kind, measurement: &Measurement, name: &str) -> Result<Numbers, Flaw> {
    let refuse = |reason, value: f64| Err(Flaw::of_value("value", value.to_string(), reason, name));
    let Some(value) = number("value", measurement.value.as_ref(), name)? else {
        return Err(Flaw::of_value("value", "", "is required", name));
    };
    // Librato's text says positive; a counter that has not counted yet is still one, so 0 passes.
    if kind == Kind::Counter && value < 0.0 {
        return refuse("must be positive", value);
    }
    let (min, max, sum_squares) = (Some(value), Some(value), Some(value * value));
    Ok(Numbers { value, count: 1.0, sum: value, min, max, sum_squares })
}

fn complex(measurement: &Measurement, name: &str) -> Result<Numbers, Flaw> {
    let get = |param, value: &Option<Scalar>| number(param, value.as_ref(), name);
    let refuse = |param, value: Option<&Scalar>, reason| {
        let value = value.map(Scalar::text).unwrap_or_default();
        Err(Flaw::of(Refusal::BadCount, param, value, reason, name))
    };
    let Some(count) = get("count", &measurement.count)? else { return refuse("count", None, "is required") };
    if measurement.value.is_some() {
        return refuse("value", measurement.value.as_ref(), "must not be set with count");
    }
    if count <= 0.0 {
        return refuse("count", measurement.count.as_ref(), "must be positive");
    }
    let Some(sum) = get("sum", &measurement.sum)? else { return refuse("sum", None, "is required") };
    let (min, max) = (get("min", &measurement.min)?, get("max", &measurement.max)?);
    // Librato's answer is not on record; quantiles are held between the two, so they must be in order.
    if min.zip(max).is_some_and(|(min, max)| min > max) {
        return refuse("min", measurement.min.as_ref(), "must not be greater than max");
    }
    let mean = sum / count;
    // Three ways to say the same: the last two come with tags only, as the deviation from the mean, per
    // sample and in all.
    let squares = get("sum_squares", &measurement.sum_squares)?;
    let deviation = get("stddev", &measurement.stddev)?.map(|deviation| count * deviation * deviation);
    let deviation = deviation.or(get("stddev_m2", &measurement.stddev_m2)?);
    let sum_squares = squares.or(deviation.map(|deviation| deviation + mean * sum));
    // What no double holds is not known; JSON could not tell it either.
    let sum_squares = sum_squares.filter(|squares| squares.is_finite());
    Ok(Numbers { value: mean, count, sum, min, max, sum_squares })
}

/// The number in a field, brought into the accepted range at its small end.
pub(super) fn number(param: &str, given: Option<&Scalar>, name: &str) -> Result<Option<f64>, Flaw> {
    let Some(given) = given else { return Ok(None) };
    match given.number() {
        None => Err(Flaw::of_value(param, given.text(), "is not a number", name)),
        Some(number) if number.abs() > NUMBER_MAX => {
            Err(Flaw::of_value(param, given.text(), "is too large", name))
        }
        Some(number) if number.abs() < NUMBER_MIN => Ok(Some(0.0)),
        Some(number) => Ok(Some(number)),
    }
}

/// The histogram of a complex gauge, which may hold less than its count but not more.
pub(super) fn buckets(
    measurement: &Measurement,
    numbers: &Numbers,
    name: &str,
) -> Result<Option<Buckets>, Flaw> {
    let Some(buckets) = measurement.buckets.as_ref().map(|object| &object.0) else { return Ok(None) };
    let refuse = |reason| Err(Flaw::of(Refusal::BadValue, "buckets", "", reason, name));
    if !is_complex(Kind::Gauge, measurement) {
        return refuse("must be set with count and sum");
    }
    if buckets.counts.len() > BUCKETS_MAX || !SCALES.contains(&buckets.scale) {
        return refuse("must have at most 640 counts and a scale of -10 to 20");
    }
    let total = buckets.counts.iter().fold(buckets.zero, |sum, count| sum.saturating_add(*count));
    if total as f64 > numbers.count {
        return refuse("must not hold more than count");
    }
    Ok(Some(buckets.clone()))
}
