//! Encodes a flush as the JSON bodies of `POST /v1/metrics`.

use std::collections::HashMap;

use serde::Serialize;
use zibrato_core::histogram::Histogram;

use super::CONTENT_TYPE;
use super::accepts::Accepts;
use super::source::tagged_source;
use super::validate::{check_identity, check_time, check_value, reason};
use crate::backend::{Body, Content, Encoded, Limits};
use crate::measurement::{GaugePoint, Measurement, SeriesKey, TimerDelta, Value};
use crate::units::{PointUnits, Units};

const BODY_START: &[u8] = b"{\"gauges\":[";
const BODY_END: &[u8] = b"]}";
const NS_PER_S: f64 = 1e9;

/// One element of `gauges`: simple with `value`, complex with `count` and what belongs to it.
#[derive(Default, Serialize)]
struct Gauge<'a> {
    name: &'a str,
    source: &'a str,
    measure_time: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<f64>,
    #[serde(flatten)]
    distribution: Option<Distribution>,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<Origin<'a>>,
}

/// What the metric was where it was recorded, which Librato has no place for.
#[derive(Clone, Serialize)]
struct Origin<'a> {
    kind: &'static str,
    levels: Vec<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    unit: &'a str,
}

impl<'a> Origin<'a> {
    fn of(measurement: &'a Measurement) -> Self {
        let series = &*measurement.series;
        Self { kind: series.kind.as_str(), levels: measurement.levels().collect(), unit: &series.unit }
    }
}

/// Seconds and square seconds.
#[derive(Serialize)]
struct Distribution {
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
    sum_squares: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    buckets: Option<Buckets>,
}

/// An exponential histogram of seconds; `counts` begins at the bucket with the index `offset`.
#[derive(Serialize)]
struct Buckets {
    scale: i8,
    zero: u64,
    offset: i32,
    counts: Vec<u64>,
}

/// Encodes a flush; histograms and origins only where the receiver takes them.
pub(super) fn encode(content: &Content<'_>, limits: &Limits, accepts: Accepts) -> Encoded {
    let mut encoder = Encoder {
        flush_s: content.flush.unix_ms / 1_000,
        limits,
        accepts,
        encoded: Encoded::default(),
        bytes: Vec::new(),
        points: Vec::new(),
    };
    let mut seen = HashMap::new();
    for measurement in content.measurements {
        let series = &*measurement.series;
        let source = tagged_source(&series.source, &series.tags);
        encoder.count_clash(&mut seen, series, &source);
        encoder.measurement(measurement, &source);
    }
    encoder.close_body();
    encoder.encoded
}

/// Name and source as Librato tells them apart, with the series that has them.
type Seen<'a> = HashMap<(String, String), (&'a str, &'a [(String, String)])>;

struct Encoder<'a> {
    flush_s: u64,
    limits: &'a Limits,
    accepts: Accepts,
    encoded: Encoded,
    bytes: Vec<u8>,
    points: Vec<PointUnits>,
}

impl Encoder<'_> {
    fn count_clash<'a>(&mut self, seen: &mut Seen<'a>, series: &'a SeriesKey, source: &str) {
        let identity = (&*series.source, series.tags.as_slice());
        let key = (series.name.to_ascii_lowercase(), source.to_ascii_lowercase());
        if *seen.entry(key).or_insert(identity) != identity {
            self.encoded.clashes += 1;
        }
    }

    fn measurement(&mut self, measurement: &Measurement, source: &str) {
        let name = &measurement.series.name;
        let identity = check_identity(name, source);
        let origin = self.accepts.origin.then(|| Origin::of(measurement));
        let base = Gauge { name, source, measure_time: self.flush_s, origin, ..Gauge::default() };
        match &measurement.value {
            Value::Counter { delta } => {
                let checked = identity.and(check_value(*delta));
                self.point(checked, Gauge { value: Some(*delta), ..base }, PointUnits::Counter(*delta));
            }
            Value::Gauge { points } => self.points(identity, &base, points, PointUnits::Gauge(1)),
            Value::RawTimer { points } => self.points(identity, &base, points, PointUnits::Timer(1)),
            Value::Timer(timer) => {
                let checked = if timer.count == 0 { Err(reason::ZERO_COUNT) } else { identity };
                let distribution = Some(self.distribution(timer));
                self.point(checked, Gauge { distribution, ..base }, PointUnits::Timer(timer.count));
            }
        }
    }

    fn points(
        &mut self,
        identity: Result<(), &'static str>,
        base: &Gauge<'_>,
        points: &[GaugePoint],
        units: PointUnits,
    ) {
        for point in points {
            let measure_time = point.time_ms / 1_000;
            let in_time = check_time(measure_time, self.flush_s, self.limits.age_max.as_secs());
            let checked = identity.and(check_value(point.value)).and(in_time);
            let origin = base.origin.clone();
            let gauge = Gauge { measure_time, value: Some(point.value), origin, distribution: None, ..*base };
            self.point(checked, gauge, units);
        }
    }

    fn distribution(&self, timer: &TimerDelta) -> Distribution {
        Distribution {
            count: timer.count,
            sum: timer.sum_ns as f64 / NS_PER_S,
            min: timer.min_ns as f64 / NS_PER_S,
            max: timer.max_ns as f64 / NS_PER_S,
            sum_squares: timer.sum_squares_ns2 as f64 / (NS_PER_S * NS_PER_S),
            buckets: self.accepts.histogram.then(|| buckets(&timer.histogram, timer.count)).flatten(),
        }
    }

    /// Appends a point to the present body, or counts it as refused.
    fn point(&mut self, checked: Result<(), &'static str>, gauge: Gauge<'_>, units: PointUnits) {
        // Finite numbers and texts always serialise; the reason is there so that nothing is lost unseen.
        let encoded = checked.and_then(|()| serde_json::to_vec(&gauge).map_err(|_| reason::NOT_FINITE));
        let json = match encoded {
            Ok(json) => json,
            Err(reason) => return self.encoded.refused.add(reason, &Units::of(&[units])),
        };
        let is_full = self.points.len() >= self.limits.points_max
            || self.bytes.len() + json.len() + 1 + BODY_END.len() > self.limits.body_bytes_max;
        if is_full {
            self.close_body();
        }
        self.bytes.extend_from_slice(if self.points.is_empty() { BODY_START } else { b"," });
        self.bytes.extend_from_slice(&json);
        self.points.push(units);
    }

    fn close_body(&mut self) {
        if self.points.is_empty() {
            return;
        }
        self.bytes.extend_from_slice(BODY_END);
        self.encoded.bodies.push(Body {
            bytes: std::mem::take(&mut self.bytes),
            content_type: CONTENT_TYPE.to_owned(),
            points: std::mem::take(&mut self.points),
        });
    }
}

/// The buckets, unless a lost frame left them short of the count: a distribution that does not add up
/// would be refused.
fn buckets(histogram: &Histogram, count: u64) -> Option<Buckets> {
    if histogram.total() != count {
        return None;
    }
    let counts = histogram.cells_from_offset().map(|(_, count)| count).collect();
    Some(Buckets { scale: histogram.scale(), zero: histogram.zero(), offset: histogram.offset(), counts })
}

#[cfg(test)]
mod tests;
