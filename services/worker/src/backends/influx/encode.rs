//! Encodes a flush as bodies of lines.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};

use super::{AHEAD_MAX, body, line};
use crate::backend::{Body, Content, Encoded, Limits};
use crate::measurement::{GaugePoint, Measurement, Value};
use crate::merge::last_of_each_instant;
use crate::numbers::{Chosen, Number};
use crate::units::{PointUnits, Units};

const CONTENT_TYPE: &str = "text/plain; charset=utf-8";

/// Why points are left out of a body. Each is a reason of the worker's totals.
pub(super) mod reason {
    pub(crate) const BAD_NAME: &str = "bad_name";
    pub(crate) const BAD_SOURCE: &str = "bad_source";
    pub(crate) const BAD_TAG: &str = "bad_tag";
    pub(crate) const NOT_FINITE: &str = "not_finite";
    /// A timer without a record, or a legacy timer one by one, which this backend does not ask for.
    pub(crate) const NO_NUMBERS: &str = "no_numbers";
    pub(crate) const TOO_OLD: &str = "too_old";
    pub(crate) const TIME_AHEAD: &str = "time_ahead";
}

/// Encodes a flush; one line is one point.
pub(super) fn encode(content: &Content<'_>, limits: &Limits, chosen: &Chosen, gzip: bool) -> Encoded {
    let mut encoder = Encoder {
        content,
        limits,
        chosen,
        gzip,
        encoded: Encoded::default(),
        text: String::new(),
        points: Vec::new(),
    };
    // 64 bits of each key instead of the key: two different ones meet less often than memory fails.
    let (hasher, mut seen) = (RandomState::new(), HashSet::with_capacity(content.measurements.len()));
    for measurement in content.measurements {
        let key = line::key(&measurement.series);
        if let Ok(key) = &key {
            encoder.encoded.clashes += u64::from(!seen.insert(hasher.hash_one(key)));
        }
        encoder.measurement(measurement, key.as_deref().map_err(|reason| *reason));
    }
    encoder.close_body();
    encoder.encoded
}

struct Encoder<'a> {
    content: &'a Content<'a>,
    limits: &'a Limits,
    chosen: &'a Chosen,
    gzip: bool,
    encoded: Encoded,
    text: String,
    points: Vec<PointUnits>,
}

impl Encoder<'_> {
    fn measurement(&mut self, measurement: &Measurement, key: Result<&str, &'static str>) {
        let flush = &self.content.flush;
        match &measurement.value {
            Value::Gauge { points } => self.gauge(points, key),
            value => {
                let numbers = self.chosen.numbers(value, flush.unix_ms, flush.interval);
                self.point(key, &numbers, value.units());
            }
        }
    }

    fn gauge(&mut self, points: &[GaugePoint], key: Result<&str, &'static str>) {
        let mut good = Vec::with_capacity(points.len());
        for point in points {
            match key.and_then(|_| self.check(point)) {
                Ok(()) => good.push(*point),
                Err(reason) => self.encoded.refused.add(reason, &Units::of(&[PointUnits::Gauge(1)])),
            }
        }
        let mut left = 0;
        for point in last_of_each_instant(&good, 1) {
            let number = Number { field: "value".to_owned(), value: point.value, time_ms: point.time_ms };
            self.point(key, &[number], PointUnits::Gauge(1));
            left += 1;
        }
        self.encoded.merged_sets += good.len() as u64 - left;
    }

    fn check(&self, point: &GaugePoint) -> Result<(), &'static str> {
        let (flush_ms, age_ms) = (self.content.flush.unix_ms, self.limits.age_max.as_millis() as u64);
        if !point.value.is_finite() {
            return Err(reason::NOT_FINITE);
        }
        if point.time_ms > flush_ms.saturating_add(AHEAD_MAX.as_millis() as u64) {
            return Err(reason::TIME_AHEAD);
        }
        if point.time_ms < flush_ms.saturating_sub(age_ms) {
            return Err(reason::TOO_OLD);
        }
        Ok(())
    }

    /// Appends a line to the present body, or counts it as refused.
    fn point(&mut self, key: Result<&str, &'static str>, numbers: &[Number], units: PointUnits) {
        let before = self.text.len();
        if let Err(reason) = key.and_then(|key| line::write(&mut self.text, key, numbers)) {
            return self.encoded.refused.add(reason, &Units::of(&[units]));
        }
        let is_full =
            self.points.len() >= self.limits.points_max || self.text.len() > self.limits.body_bytes_max;
        if is_full && before > 0 {
            let line = self.text.split_off(before);
            self.close_body();
            self.text = line;
        }
        self.points.push(units);
    }

    fn close_body(&mut self) {
        if self.points.is_empty() {
            return;
        }
        self.encoded.bodies.push(Body {
            bytes: body::pack(std::mem::take(&mut self.text), self.gzip),
            content_type: CONTENT_TYPE.to_owned(),
            points: std::mem::take(&mut self.points),
        });
    }
}
