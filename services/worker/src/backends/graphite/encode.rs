//! Encodes a flush as bodies of numbers.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};

use super::AHEAD_MAX;
use super::path::Path;
use super::wire::{self, Number, Protocol};
use crate::backend::{Body, Content, Encoded, Limits};
use crate::measurement::{GaugePoint, Measurement, Value};
use crate::merge::last_of_each_instant;
use crate::numbers::Chosen;
use crate::units::{PointUnits, Units};

const SECOND_MS: u64 = 1_000;

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

/// Encodes a flush; all numbers of a counter or timer are one point.
pub(super) fn encode(
    content: &Content<'_>,
    limits: &Limits,
    chosen: &Chosen,
    protocol: Protocol,
    tagged: bool,
) -> Encoded {
    let mut encoder = Encoder {
        content,
        limits,
        protocol,
        encoded: Encoded::default(),
        seen: HashSet::new(),
        hasher: RandomState::new(),
        bytes: Vec::new(),
        numbers_of: Vec::new(),
        points: Vec::new(),
    };
    for measurement in content.measurements {
        match Path::of(&measurement.series, tagged) {
            Ok(path) => encoder.measurement(measurement, &path, chosen),
            Err(reason) => encoder.encoded.refused.add(reason, &Units::of(&[measurement.value.units()])),
        }
    }
    encoder.close_body();
    encoder.encoded
}

struct Encoder<'a> {
    content: &'a Content<'a>,
    limits: &'a Limits,
    protocol: Protocol,
    encoded: Encoded,
    /// 64 bits of each path instead of the path: two different ones meet less often than memory fails.
    seen: HashSet<u64>,
    hasher: RandomState,
    /// Of the present body.
    bytes: Vec<u8>,
    numbers_of: Vec<usize>,
    points: Vec<PointUnits>,
}

impl Encoder<'_> {
    fn measurement(&mut self, measurement: &Measurement, path: &Path, chosen: &Chosen) {
        let flush = &self.content.flush;
        match &measurement.value {
            Value::Gauge { points } => self.gauge(points, path.of_number(None)),
            value => {
                let numbers =
                    chosen.numbers(value, flush.unix_ms, flush.interval).into_iter().map(|number| Number {
                        path: path.of_number(Some(&number.field)),
                        time_s: number.time_ms / SECOND_MS,
                        value: number.value,
                    });
                let numbers: Vec<_> = numbers.collect();
                self.note_clash(&numbers);
                self.point(&numbers, value.units());
            }
        }
    }

    fn gauge(&mut self, points: &[GaugePoint], path: String) {
        let mut good = Vec::with_capacity(points.len());
        for point in points {
            match self.check(point) {
                Ok(()) => good.push(*point),
                Err(reason) => self.encoded.refused.add(reason, &Units::of(&[PointUnits::Gauge(1)])),
            }
        }
        let mut number = [Number { path, time_s: 0, value: 0.0 }];
        self.note_clash(&number);
        let mut left = 0;
        for point in last_of_each_instant(&good, SECOND_MS) {
            (number[0].time_s, number[0].value) = (point.time_ms / SECOND_MS, point.value);
            self.point(&number, PointUnits::Gauge(1));
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

    /// Counts a series of which a number has the path of another series' number.
    fn note_clash(&mut self, numbers: &[Number]) {
        let mut is_new = true;
        for number in numbers {
            is_new &= self.seen.insert(self.hasher.hash_one(&number.path));
        }
        self.encoded.clashes += u64::from(!is_new);
    }

    /// Appends a point to the present body, or counts it as refused.
    fn point(&mut self, numbers: &[Number], units: PointUnits) {
        let checked = if numbers.is_empty() {
            Err(reason::NO_NUMBERS)
        } else if numbers.iter().all(|number| number.value.is_finite()) {
            Ok(())
        } else {
            Err(reason::NOT_FINITE)
        };
        if let Err(reason) = checked {
            return self.encoded.refused.add(reason, &Units::of(&[units]));
        }
        let before = self.bytes.len();
        numbers.iter().for_each(|number| wire::append(&mut self.bytes, self.protocol, number));
        let is_full =
            self.points.len() >= self.limits.points_max || self.bytes.len() > self.limits.body_bytes_max;
        if is_full && before > 0 {
            let bytes = self.bytes.split_off(before);
            self.close_body();
            self.bytes = bytes;
        }
        self.numbers_of.push(numbers.len());
        self.points.push(units);
    }

    fn close_body(&mut self) {
        if self.points.is_empty() {
            return;
        }
        self.encoded.bodies.push(Body {
            bytes: wire::seal(self.protocol, &self.numbers_of, &self.bytes),
            content_type: self.protocol.as_str().to_owned(),
            points: std::mem::take(&mut self.points),
        });
        self.bytes.clear();
        self.numbers_of.clear();
    }
}
