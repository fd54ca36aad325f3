//! What a flush changes on the page, as bytes of the spool.
//!
//! `version 1, flush in Unix ms, whether it is the flush's last body, points`, all in postcard's encoding; a point is
//! the identity of its series and what it has come to, or nothing if it is forgotten.

use serde::{Deserialize, Serialize};
use zibrato_core::histogram::Histogram;
use zibrato_core::kind::Kind;

use super::super::clash::{Seen, encode_in_order};
use super::super::names::Family;
use super::super::{Settings, reason, value};
use crate::backend::{Body, Content, Encoded, Limits};
use crate::ledger::identity;
use crate::measurement::{SeriesKey, TimerTotal, TotalValue};
use crate::units::{PointUnits, Units};

const VERSION: u8 = 1;
const CONTENT_TYPE: &str = "application/octet-stream";
/// Most bytes of a header.
const HEADER_BYTES_MAX: usize = 12;

/// What stands before the points.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Header {
    version: u8,
    pub(super) flush_ms: u64,
    pub(super) is_last: bool,
}

#[derive(Serialize, Deserialize)]
struct Point {
    identity: Vec<u8>,
    total: Option<PointTotal>,
}

#[derive(Serialize, Deserialize)]
enum PointTotal {
    Counter(f64),
    Gauge(f64),
    Timer { count: u64, sum_ns: u128, scale: i8, zero: u64, offset: i32, counts: Vec<u64> },
}

impl From<&TotalValue> for PointTotal {
    fn from(total: &TotalValue) -> Self {
        match total {
            TotalValue::Counter(sum) => Self::Counter(*sum),
            TotalValue::Gauge(last) => Self::Gauge(*last),
            TotalValue::Timer(timer) => Self::Timer {
                count: timer.count,
                sum_ns: timer.sum_ns,
                scale: timer.histogram.scale(),
                zero: timer.histogram.zero(),
                offset: timer.histogram.offset(),
                counts: timer.histogram.cells_from_offset().map(|(_, count)| count).collect(),
            },
        }
    }
}

impl From<PointTotal> for TotalValue {
    fn from(total: PointTotal) -> Self {
        match total {
            PointTotal::Counter(sum) => Self::Counter(sum),
            PointTotal::Gauge(last) => Self::Gauge(last),
            PointTotal::Timer { count, sum_ns, scale, zero, offset, counts } => {
                let histogram = Histogram::from_parts(scale, zero, offset, counts);
                Self::Timer(TimerTotal { count, sum_ns, histogram }.into())
            }
        }
    }
}

/// A point, read.
#[derive(Debug, PartialEq)]
pub(super) struct Change {
    pub(super) identity: Vec<u8>,
    pub(super) series: SeriesKey,
    /// `None` if the series is forgotten.
    pub(super) total: Option<TotalValue>,
}

/// Encodes a flush.
pub(super) fn encode(content: &Content<'_>, settings: &Settings, limits: &Limits) -> Encoded {
    encode_in_order(content.measurements, |order, is_final| {
        let mut encoder = Encoder { limits, bodies: Vec::new(), bytes: Vec::new(), points: Vec::new() };
        let (mut encoded, mut seen) = (Encoded::default(), Seen::with_capacity(order.len()));
        for measurement in order {
            let (series, units) = (&*measurement.series, measurement.value.units());
            match value::check(measurement.total.as_ref(), series) {
                Ok(total) => {
                    let (family, labels) = (Family::of(series), settings.fixed.of(series));
                    if seen.add(&settings.samples(&family), &labels) {
                        encoder.point(series, Some((&total.value).into()), units);
                        continue;
                    }
                    if !is_final {
                        return None;
                    }
                    encoded.clashes += 1;
                    encoded.refused.add(reason::SAME_SERIES, &Units::of(&[units]));
                }
                Err(reason) => encoded.refused.add(reason, &Units::of(&[units])),
            }
        }
        for series in content.expired {
            let units = match series.kind {
                Kind::Counter => PointUnits::Counter(0.0),
                Kind::Gauge => PointUnits::Gauge(0),
                Kind::Timer => PointUnits::Timer(0),
            };
            encoder.point(series, None, units);
        }
        encoded.bodies = encoder.bodies(content.flush.unix_ms);
        Some(encoded)
    })
}

struct Encoder<'a> {
    limits: &'a Limits,
    bodies: Vec<(Vec<u8>, Vec<PointUnits>)>,
    bytes: Vec<u8>,
    points: Vec<PointUnits>,
}

impl Encoder<'_> {
    fn point(&mut self, series: &SeriesKey, total: Option<PointTotal>, units: PointUnits) {
        let bytes = write(&Point { identity: identity::of(series), total });
        let is_full = self.points.len() >= self.limits.points_max
            || self.bytes.len() + bytes.len() + HEADER_BYTES_MAX > self.limits.body_bytes_max;
        if is_full {
            self.close();
        }
        self.bytes.extend(bytes);
        self.points.push(units);
    }

    fn close(&mut self) {
        if !self.points.is_empty() {
            self.bodies.push((std::mem::take(&mut self.bytes), std::mem::take(&mut self.points)));
        }
    }

    fn bodies(mut self, flush_ms: u64) -> Vec<Body> {
        self.close();
        let last = self.bodies.len();
        let bodies = (1..).zip(self.bodies);
        bodies
            .map(|(place, (bytes, points))| {
                let header = write(&Header { version: VERSION, flush_ms, is_last: place == last });
                Body { bytes: [header, bytes].concat(), content_type: CONTENT_TYPE.to_owned(), points }
            })
            .collect()
    }
}

/// Reads a body; `None` if it is none.
pub(super) fn read(bytes: &[u8]) -> Option<(Header, Vec<Change>)> {
    let (header, points) = split(bytes)?;
    let changes = points.iter().map(|bytes| {
        let Point { identity, total } = postcard::from_bytes(bytes).ok()?;
        let series = identity::read(&identity)?;
        if let Some(PointTotal::Timer { offset, counts, .. }) = &total {
            // A bucket beyond all indexes could not be added.
            i32::try_from(counts.len()).ok()?.checked_add(1)?.checked_add(*offset)?;
        }
        let total: Option<TotalValue> = total.map(Into::into);
        let fits = match (&total, series.kind) {
            (Some(TotalValue::Counter(_)), kind) => kind == Kind::Counter,
            (Some(TotalValue::Gauge(_)), kind) => kind == Kind::Gauge,
            (Some(TotalValue::Timer(_)), kind) => kind == Kind::Timer,
            (None, _) => true,
        };
        fits.then_some(Change { identity, series, total })
    });
    Some((header, changes.collect::<Option<_>>()?))
}

/// The body with some of its points alone.
pub(super) fn select(bytes: &[u8], keep: &[bool]) -> Option<Vec<u8>> {
    let (header, points) = split(bytes)?;
    if points.len() != keep.len() {
        return None;
    }
    let kept =
        points.iter().zip(keep).filter(|(_, keep)| **keep).flat_map(|(bytes, _)| bytes.iter().copied());
    Some(write(&header).into_iter().chain(kept).collect())
}

fn split(bytes: &[u8]) -> Option<(Header, Vec<&[u8]>)> {
    let (header, mut rest): (Header, _) = postcard::take_from_bytes(bytes).ok()?;
    if header.version != VERSION {
        return None;
    }
    let mut points = Vec::new();
    while !rest.is_empty() {
        let (_, behind) = postcard::take_from_bytes::<Point>(rest).ok()?;
        let (point, _) = rest.split_at(rest.len() - behind.len());
        points.push(point);
        rest = behind;
    }
    Some((header, points))
}

fn write(value: &impl Serialize) -> Vec<u8> {
    // A vector takes everything, and these types are all that postcard can write.
    postcard::to_extend(value, Vec::new()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
