//! Encodes a flush as lines of JSON; the keys are in the documentation of [`jsonl`](super).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};

use super::time::{TIME_MS_MAX, rfc3339};
use crate::backend::{Body, Content, Encoded, FlushTime, Limits};
use crate::measurement::{Measurement, SeriesKey, TimerDelta, Value};
use crate::numbers::{Chosen, field_of};
use crate::units::{PointUnits, Units};

const CONTENT_TYPE: &str = "application/jsonl";
const NS_PER_S: f64 = 1e9;

/// Why points are left out of a body. Each is a reason of the worker's totals.
mod reason {
    pub(super) const NOT_FINITE: &str = "not_finite";
    pub(super) const TIME_AHEAD: &str = "time_ahead";
}

/// How each line of a batch begins, before the id.
const BATCH_START: &[u8] = br#"{"batch":""#;

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    level: &'a str,
    kind: &'static str,
    name: &'a str,
    source: &'a str,
    unit: &'a str,
    #[serde(serialize_with = "as_object")]
    tags: &'a [(String, String)],
    interval_s: f64,
    #[serde(flatten)]
    measured: Measured,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Measured {
    Counter {
        delta: f64,
        #[serde(skip_serializing_if = "Option::is_none")]
        rate: Option<f64>,
    },
    Value {
        value: f64,
    },
    Timer(Box<Timer>),
}

/// Seconds and square seconds.
#[derive(Serialize)]
struct Timer {
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
    mean: f64,
    sum_squares: f64,
    percentiles: BTreeMap<String, f64>,
    histogram: Buckets,
}

#[derive(Serialize)]
struct Buckets {
    scale: i8,
    zero: u64,
    offset: i32,
    counts: Vec<u64>,
}

/// Encodes a flush.
pub(super) fn encode(content: &Content<'_>, chosen: &Chosen, limits: &Limits) -> Encoded {
    let mut encoder = Encoder {
        chosen,
        limits,
        flush: content.flush,
        encoded: Encoded::default(),
        bytes: Vec::new(),
        points: Vec::new(),
    };
    content.measurements.iter().for_each(|measurement| encoder.measurement(measurement));
    encoder.close_body();
    encoder.encoded
}

/// The lines of a body with the batch that they belong to.
pub(super) fn with_batch(bytes: &[u8], id: &str) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.len() * 3 / 2);
    for (at, line) in lines(bytes).enumerate() {
        text.extend_from_slice(&batch_start(id));
        text.extend_from_slice(format!("\"line\":{at},").as_bytes());
        // A line is an object that is not empty.
        text.extend_from_slice(line.strip_prefix(b"{").unwrap_or(line));
        text.push(b'\n');
    }
    text
}

/// How each line of a batch begins.
pub(super) fn batch_start(id: &str) -> Vec<u8> {
    [BATCH_START, id.as_bytes(), b"\","].concat()
}

/// Whether a line without an end may be the start of one that [`with_batch`] made.
pub(super) fn is_torn_line(start: &[u8]) -> bool {
    let length = start.len().min(BATCH_START.len());
    start[..length] == BATCH_START[..length]
}

/// The lines of a body.
pub(super) fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

/// Name and source of a line.
pub(super) fn describe(line: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Identity<'a> {
        #[serde(borrow)]
        name: std::borrow::Cow<'a, str>,
        source: std::borrow::Cow<'a, str>,
    }
    let identity: Identity<'_> = serde_json::from_slice(line).ok()?;
    Some(format!("{} of source {}", identity.name, identity.source))
}

struct Encoder<'a> {
    chosen: &'a Chosen,
    limits: &'a Limits,
    flush: FlushTime,
    encoded: Encoded,
    bytes: Vec<u8>,
    points: Vec<PointUnits>,
}

impl Encoder<'_> {
    fn measurement(&mut self, measurement: &Measurement) {
        let (series, units, at_ms) = (&*measurement.series, measurement.value.units(), self.flush.unix_ms);
        match &measurement.value {
            &Value::Counter { delta } => {
                let rate = self.chosen.rates.then(|| delta / self.flush.interval.as_secs_f64());
                let is_finite = delta.is_finite() && rate.is_none_or(f64::is_finite);
                self.point(series, at_ms, Measured::Counter { delta, rate }, is_finite, units);
            }
            Value::Timer(timer) => {
                let timer = Box::new(self.timer(timer));
                self.point(series, at_ms, Measured::Timer(timer), true, units);
            }
            Value::Gauge { points } | Value::RawTimer { points } => {
                let units = match units {
                    PointUnits::Gauge(_) => PointUnits::Gauge(1),
                    _ => PointUnits::Timer(1),
                };
                for point in points {
                    let value = point.value;
                    self.point(series, point.time_ms, Measured::Value { value }, value.is_finite(), units);
                }
            }
        }
    }

    fn timer(&self, timer: &TimerDelta) -> Timer {
        let sum = timer.sum_ns as f64 / NS_PER_S;
        let percentiles = self.chosen.percentiles.iter();
        let percentiles = percentiles
            .filter_map(|percentile| Some((field_of(*percentile), timer.percentile(*percentile)?)));
        let histogram = &timer.histogram;
        Timer {
            count: timer.count,
            sum,
            min: timer.min_ns as f64 / NS_PER_S,
            max: timer.max_ns as f64 / NS_PER_S,
            // Without records there is no mean; 0 is a number that every reader takes.
            mean: if timer.count == 0 { 0.0 } else { sum / timer.count as f64 },
            sum_squares: timer.sum_squares_ns2 as f64 / (NS_PER_S * NS_PER_S),
            percentiles: percentiles.collect(),
            histogram: Buckets {
                scale: histogram.scale(),
                zero: histogram.zero(),
                offset: histogram.offset(),
                counts: histogram.cells_from_offset().map(|(_, count)| count).collect(),
            },
        }
    }

    /// Appends a line to the present body, or counts it as refused.
    fn point(
        &mut self,
        series: &SeriesKey,
        time_ms: u64,
        measured: Measured,
        is_finite: bool,
        units: PointUnits,
    ) {
        if !is_finite {
            return self.refuse(reason::NOT_FINITE, units);
        }
        if time_ms > TIME_MS_MAX {
            return self.refuse(reason::TIME_AHEAD, units);
        }
        let line = Line {
            time: rfc3339(time_ms),
            level: &series.level,
            kind: series.kind.as_str(),
            name: &series.name,
            source: &series.source,
            unit: &series.unit,
            tags: &series.tags,
            interval_s: self.flush.interval.as_secs_f64(),
            measured,
        };
        // Finite numbers and texts always serialise; the reason is there so that nothing is lost unseen.
        let Ok(json) = serde_json::to_vec(&line) else { return self.refuse(reason::NOT_FINITE, units) };
        let is_full = self.points.len() >= self.limits.points_max
            || self.bytes.len() + json.len() + 1 > self.limits.body_bytes_max;
        if is_full {
            self.close_body();
        }
        self.bytes.extend_from_slice(&json);
        self.bytes.push(b'\n');
        self.points.push(units);
    }

    fn refuse(&mut self, reason: &'static str, units: PointUnits) {
        self.encoded.refused.add(reason, &Units::of(&[units]));
    }

    fn close_body(&mut self) {
        if self.points.is_empty() {
            return;
        }
        self.encoded.bodies.push(Body {
            bytes: std::mem::take(&mut self.bytes),
            content_type: CONTENT_TYPE.to_owned(),
            points: std::mem::take(&mut self.points),
        });
    }
}

fn as_object<S: Serializer>(tags: &[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(tags.iter().map(|(key, value)| (key, value)))
}

#[cfg(test)]
mod tests;
