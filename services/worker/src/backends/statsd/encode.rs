//! Encodes a flush as lines.

use std::collections::HashMap;

use zibrato_core::histogram::{Histogram, lower_bound};

use super::body::{self, LINE_END};
use super::name::Name;
use super::{Dialect, StatsdConfig, Timers};
use crate::backend::{Body, Content, Encoded, FlushTime, Limits};
use crate::measurement::{Measurement, SeriesKey, TimerDelta, Value};
use crate::numbers::Number;
use crate::units::{PointUnits, Units};

pub(super) const CONTENT_TYPE: &str = "text/x-statsd";
/// A timer of so many records a flush has a line for each, without a rate, in `samples`.
const UNRATED_MAX: u64 = 64;
const NS_PER_S: f64 = 1e9;
const NS_PER_MS: f64 = 1e6;

/// Why points are left out of a body. Each is a reason of the worker's totals.
pub(super) mod reason {
    pub(crate) const NOT_FINITE: &str = "not_finite";
    pub(crate) const ZERO_COUNT: &str = "zero_count";
    pub(crate) const LINE_TOO_LONG: &str = "line_too_long";
}

/// Encodes a flush.
pub(super) fn encode(content: &Content<'_>, config: &StatsdConfig, limits: &Limits) -> Encoded {
    let mut encoder = Encoder {
        config,
        limits,
        flush: content.flush,
        encoded: Encoded::default(),
        bytes: Vec::new(),
        points: Vec::new(),
        seen: HashMap::new(),
    };
    content.measurements.iter().for_each(|measurement| encoder.measurement(measurement));
    encoder.close_body();
    encoder.encoded
}

struct Encoder<'a> {
    config: &'a StatsdConfig,
    limits: &'a Limits,
    flush: FlushTime,
    encoded: Encoded,
    bytes: Vec<u8>,
    points: Vec<PointUnits>,
    /// What was sent under which name and type.
    seen: HashMap<String, &'a SeriesKey>,
}

impl<'a> Encoder<'a> {
    fn measurement(&mut self, measurement: &'a Measurement) {
        let (series, config) = (&*measurement.series, self.config);
        let name = Name::of(series, config.dialect);
        let mut lines = Lines { name: &name, dialect: config.dialect, units: Vec::new(), claims: Vec::new() };
        let is_finite = match &measurement.value {
            Value::Counter { delta } => {
                let numbers =
                    config.chosen.numbers(&measurement.value, self.flush.unix_ms, self.flush.interval);
                numbers.iter().for_each(|number| lines.number_of_counter(number));
                delta.is_finite()
            }
            Value::Timer(timer) if timer.count == 0 => {
                return self.refuse(reason::ZERO_COUNT, measurement.value.units());
            }
            Value::Timer(timer) => {
                match config.timers {
                    Timers::Percentiles => {
                        let numbers = config.chosen.numbers(
                            &measurement.value,
                            self.flush.unix_ms,
                            self.flush.interval,
                        );
                        numbers.iter().for_each(|number| lines.number_of_timer(number));
                    }
                    Timers::Samples => lines.samples(timer, self.flush.unix_ms),
                }
                true
            }
            Value::Gauge { points } | Value::RawTimer { points } => {
                let units = match measurement.value {
                    Value::Gauge { .. } => PointUnits::Gauge(1),
                    _ => PointUnits::Timer(1),
                };
                for point in points {
                    match units {
                        PointUnits::Gauge(_) => lines.gauge("", point.value),
                        _ => lines.timer(point.value, 1),
                    }
                    let one = std::mem::take(&mut lines.units);
                    self.point(one, point.value.is_finite(), units);
                }
                return self.count_clash(lines.claims, series);
            }
        };
        let Lines { units, claims, .. } = lines;
        self.count_clash(claims, series);
        self.point(units, is_finite, measurement.value.units());
    }

    /// Counts a series once if a line of it cannot be told from that of another one.
    fn count_clash(&mut self, claims: Vec<String>, series: &'a SeriesKey) {
        let mut clashes = false;
        for claim in claims {
            clashes |= !is_same(self.seen.entry(claim).or_insert(series), series);
        }
        self.encoded.clashes += u64::from(clashes);
    }

    /// Appends a point to the present body, or counts it as refused.
    fn point(&mut self, units: Vec<String>, is_finite: bool, stands_for: PointUnits) {
        if !is_finite {
            return self.refuse(reason::NOT_FINITE, stands_for);
        }
        if units.iter().any(|unit| unit.len() > self.config.packet_bytes_max()) {
            return self.refuse(reason::LINE_TOO_LONG, stands_for);
        }
        let is_full = self.points.len() >= self.limits.points_max
            || self.bytes.len() + body::point_bytes(&units) > self.limits.body_bytes_max;
        if is_full {
            self.close_body();
        }
        body::append_point(&mut self.bytes, &units);
        self.points.push(stands_for);
    }

    fn refuse(&mut self, reason: &'static str, stands_for: PointUnits) {
        self.encoded.refused.add(reason, &Units::of(&[stands_for]));
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

/// The units of one measurement as they grow.
struct Lines<'a> {
    name: &'a Name,
    dialect: Dialect,
    units: Vec<String>,
    /// Type and name of each line, as the server tells them apart.
    claims: Vec<String>,
}

impl Lines<'_> {
    fn number_of_counter(&mut self, number: &Number) {
        match &number.field[..] {
            "count" => self.counter("", number.value),
            field => self.gauge(field, number.value),
        }
    }

    fn number_of_timer(&mut self, number: &Number) {
        match &number.field[..] {
            // These two add up from flush to flush, and so does what the server makes of them.
            field @ ("count" | "sum") => self.counter(field, number.value),
            field => self.gauge(field, number.value),
        }
    }

    fn counter(&mut self, field: &str, delta: f64) {
        self.claim("c", field);
        let unit = format!("{}:{}|c{}", self.name.head(field), Plain(delta), self.name.tail());
        self.units.push(unit);
    }

    /// A value with a sign would be a change of the gauge, so a negative one is a change of 0.
    fn gauge(&mut self, field: &str, value: f64) {
        self.claim("g", field);
        let (head, tail) = (self.name.head(field), self.name.tail());
        let line = |value| format!("{head}:{}|g{tail}", Plain(value));
        let unit = if value < 0.0 { format!("{}{LINE_END}{}", line(0.0), line(value)) } else { line(value) };
        self.units.push(unit);
    }

    /// One line that counts as `weight` records, a power of two.
    fn timer(&mut self, seconds: f64, weight: u64) {
        self.claim("ms", "");
        // In whole nanoseconds: more digits would be noise.
        let ms = (seconds * NS_PER_S).round() / NS_PER_MS;
        let (head, tail) = (self.name.head(""), self.name.tail());
        let unit = if weight == 1 {
            format!("{head}:{}|ms{tail}", Plain(ms))
        } else {
            // Exact, in decimal as well as in binary, and so is what a server makes of 1 / rate.
            format!("{head}:{}|ms|@{}{tail}", Plain(ms), 1.0 / weight as f64)
        };
        self.units.push(unit);
    }

    /// Lines that count as exactly the timer's records.
    fn samples(&mut self, timer: &TimerDelta, turn: u64) {
        let histogram = complete(timer, turn);
        let [min, max] = [timer.min_ns, timer.max_ns].map(|ns| ns as f64 / NS_PER_S);
        let zero = [(0.0, histogram.zero())];
        let buckets = histogram.counts().map(|(index, count)| (middle(index, histogram.scale()), count));
        for (value, count) in zero.into_iter().chain(buckets) {
            let value = value.max(min).min(max);
            if timer.count <= UNRATED_MAX {
                (0..count).for_each(|_| self.timer(value, 1));
            } else {
                let powers = (0..u64::BITS).rev().map(|shift| 1 << shift);
                powers.filter(|power| count & power != 0).for_each(|power| self.timer(value, power));
            }
        }
    }

    fn claim(&mut self, kind: &str, field: &str) {
        let tail = match self.dialect {
            Dialect::Plain => "",
            Dialect::Dogstatsd => self.name.tail(),
        };
        // Datadog's tags have no case.
        let claim = format!("{kind} {}{}", self.name.head(field), tail.to_lowercase());
        if self.claims.last() != Some(&claim) {
            self.claims.push(claim);
        }
    }
}

/// A finite number in decimal without an exponent, which servers read as the end of a sample rate or not at all.
/// Zero has no sign, since that would make a gauge of it a change.
struct Plain(f64);

impl std::fmt::Display for Plain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0 + 0.0)
    }
}

/// The distribution with exactly the timer's count: while a key frame is missing its buckets are too few.
fn complete(timer: &TimerDelta, turn: u64) -> Histogram {
    if timer.histogram.total() == timer.count {
        return timer.histogram.clone();
    }
    let mut histogram = Histogram::new();
    histogram.add_like(&timer.histogram, timer.count, turn);
    if histogram.total() != timer.count {
        histogram = Histogram::new();
        let mean_ns = timer.sum_ns / u128::from(timer.count.max(1));
        histogram.record_ns(u64::try_from(mean_ns).unwrap_or(u64::MAX), timer.count);
    }
    histogram
}

/// The value that is reported for a bucket, in seconds.
fn middle(index: i32, scale: i8) -> f64 {
    let (low, high) = (lower_bound(index, scale), lower_bound(index + 1, scale));
    2.0 * low * (high / (low + high))
}

fn is_same(left: &SeriesKey, right: &SeriesKey) -> bool {
    std::ptr::eq(left, right)
        || (&left.name, &left.source, &left.unit, &left.tags, left.kind)
            == (&right.name, &right.source, &right.unit, &right.tags, right.kind)
}

#[cfg(test)]
mod tests;
