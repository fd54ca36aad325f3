//! Encodes a flush as `ExportMetricsServiceRequest`s.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use zibrato_core::kind::Kind;

use super::CONTENT_TYPE;
use super::body::Envelope;
use super::proto::{
    Buckets, Data, Distribution, DistributionPoint, Gauge, KeyValue, Metric, NO_RECORDED_VALUE, Number,
    NumberPoint, Sum, Temporality,
};
use crate::backend::{Body, Content, Encoded, Limits};
use crate::measurement::{Measurement, SeriesKey, TimerTotal, Total, TotalValue, Value};
use crate::units::{PointUnits, Units};

/// The attribute of a point that holds its source.
pub(super) const SOURCE_KEY: &str = "source";
/// The attribute of a point that holds its level.
const LEVEL_KEY: &str = "level";
/// Stands before the keys of tags that would be taken for ours.
const TAG_PREFIX: &str = "tag.";
const TIMER_UNIT: &str = "s";
const NS_PER_S: f64 = 1e9;
const NS_PER_MS: u64 = 1_000_000;
/// 2^63, the first whole number that `as_int` cannot hold.
const INT_LIMIT: f64 = 9_223_372_036_854_775_808.0;
/// How far ahead of the flush a gauge's point may be, in milliseconds. OTLP has no bound; but there are stores that, having
/// taken a point from tomorrow, refuse all of today.
const AHEAD_MS_MAX: u64 = 600_000;
/// Most bytes of tag and length of a message within another, up to 256 MiB.
const LENGTH_BYTES: usize = 5;
/// Most bytes of a metric beside its name, its unit and its points.
const METRIC_BYTES: usize = 24;

/// Why points are left out. Each is a reason of the worker's totals.
pub(super) mod reason {
    pub(crate) const NOT_FINITE: &str = "not_finite";
    pub(crate) const TOO_OLD: &str = "too_old";
    pub(crate) const TIME_AHEAD: &str = "time_ahead";
    /// The library told no total, which it does for all.
    pub(crate) const NO_TOTAL: &str = "no_total";
}

/// Encodes a flush; `fell` are the counters that were seen to fall so far.
pub(super) fn encode(
    content: &Content<'_>,
    limits: &Limits,
    envelope: &Envelope,
    fell: &mut HashSet<Arc<SeriesKey>>,
) -> Encoded {
    let mut groups = Groups::default();
    for measurement in content.measurements {
        groups.tell(measurement, fell);
    }
    for series in content.expired {
        groups.end(series, fell);
    }
    let Groups { groups, refused, clashes, .. } = groups;
    let mut encoder = Encoder {
        flush_ms: content.flush.unix_ms,
        flush_ns: nanos(content.flush.unix_ms),
        limits,
        envelope,
        metrics: Vec::new(),
        bytes: envelope.bytes(),
        points: Vec::new(),
        encoded: Encoded { refused, clashes, ..Encoded::default() },
    };
    for (header, items) in &groups {
        encoder.group(*header, items);
    }
    encoder.close_body();
    encoder.encoded
}

/// What points of one metric share.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Header<'a> {
    name: &'a str,
    unit: &'a str,
    form: Form,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Form {
    Gauge,
    Sum { is_monotonic: bool },
    Distribution,
}

/// A series of a group.
enum Item<'a> {
    Told(&'a Measurement, &'a Total),
    Ended(&'a SeriesKey),
}

/// Name, source, level and tags.
type TimerIdentity<'a> = (&'a str, &'a str, &'a str, &'a [(String, String)]);

/// A flush by metric, in the order in which metrics first appear.
#[derive(Default)]
struct Groups<'a> {
    groups: Vec<(Header<'a>, Vec<Item<'a>>)>,
    places: HashMap<Header<'a>, usize>,
    /// Timers but for their unit, of which nothing is sent.
    timers: HashSet<TimerIdentity<'a>>,
    refused: crate::units::ByReason,
    clashes: u64,
}

impl<'a> Groups<'a> {
    fn tell(&mut self, measurement: &'a Measurement, fell: &mut HashSet<Arc<SeriesKey>>) {
        let Some(total) = &measurement.total else {
            return self.refused.add(reason::NO_TOTAL, &Units::of(&[measurement.value.units()]));
        };
        let series = &measurement.series;
        let form = match total.value {
            TotalValue::Counter(sum) => {
                if sum < 0.0 || matches!(measurement.value, Value::Counter { delta } if delta < 0.0) {
                    fell.insert(Arc::clone(series));
                }
                Form::Sum { is_monotonic: !fell.contains(series) }
            }
            TotalValue::Gauge(_) => Form::Gauge,
            TotalValue::Timer(_) => {
                let identity = (&series.name[..], &series.source[..], &series.level[..], &series.tags[..]);
                self.clashes += u64::from(!self.timers.insert(identity));
                Form::Distribution
            }
        };
        self.add(series, form, Item::Told(measurement, total));
    }

    fn end(&mut self, series: &'a SeriesKey, fell: &mut HashSet<Arc<SeriesKey>>) {
        let form = match series.kind {
            Kind::Counter => Form::Sum { is_monotonic: !fell.remove(series) },
            Kind::Gauge => Form::Gauge,
            Kind::Timer => Form::Distribution,
        };
        self.add(series, form, Item::Ended(series));
    }

    fn add(&mut self, series: &'a SeriesKey, form: Form, item: Item<'a>) {
        let unit = if form == Form::Distribution { TIMER_UNIT } else { &series.unit };
        let header = Header { name: &series.name, unit, form };
        let place = *self.places.entry(header).or_insert_with(|| {
            self.groups.push((header, Vec::new()));
            self.groups.len() - 1
        });
        if let Some((_, items)) = self.groups.get_mut(place) {
            items.push(item);
        }
    }
}

/// A point of any form.
enum Point {
    Number(NumberPoint),
    Distribution(DistributionPoint),
}

struct Encoder<'a> {
    flush_ms: u64,
    flush_ns: u64,
    limits: &'a Limits,
    envelope: &'a Envelope,
    /// The present body, its size before compression at most, and what its points stand for.
    metrics: Vec<Metric>,
    bytes: usize,
    points: Vec<PointUnits>,
    encoded: Encoded,
}

impl Encoder<'_> {
    fn group(&mut self, header: Header<'_>, items: &[Item<'_>]) {
        let mut is_open = false;
        for item in items {
            match item {
                Item::Ended(series) => {
                    let (point, units) = ended(series, self.flush_ns);
                    self.push(header, &mut is_open, point, units);
                }
                Item::Told(measurement, total) => self.told(header, &mut is_open, measurement, total),
            }
        }
    }

    fn told(&mut self, header: Header<'_>, is_open: &mut bool, measurement: &Measurement, total: &Total) {
        let series = &*measurement.series;
        let units = measurement.value.units();
        let start_ns = nanos(total.since_ms).min(self.flush_ns);
        match (&total.value, &measurement.value) {
            (TotalValue::Counter(sum), _) => {
                let point = NumberPoint {
                    attributes: attributes(series),
                    start_time_unix_nano: start_ns,
                    time_unix_nano: self.flush_ns,
                    value: Some(number(*sum)),
                    flags: 0,
                };
                self.checked(header, is_open, check_value(*sum), Point::Number(point), units);
            }
            (TotalValue::Timer(timer), _) => {
                let point = distribution(timer, attributes(series), start_ns, self.flush_ns);
                self.push(header, is_open, Point::Distribution(point), units);
            }
            (TotalValue::Gauge(_), Value::Gauge { points }) if !points.is_empty() => {
                for point in points {
                    let in_time = check_time(point.time_ms, self.flush_ms, self.limits.age_max);
                    let checked = check_value(point.value).and(in_time);
                    let point = gauge(series, nanos(point.time_ms), point.value);
                    self.checked(header, is_open, checked, point, PointUnits::Gauge(1));
                }
            }
            (TotalValue::Gauge(last), _) => {
                let point = gauge(series, self.flush_ns, *last);
                self.checked(header, is_open, check_value(*last), point, units);
            }
        }
    }

    fn checked(
        &mut self,
        header: Header<'_>,
        is_open: &mut bool,
        checked: Result<(), &'static str>,
        point: Point,
        units: PointUnits,
    ) {
        match checked {
            Ok(()) => self.push(header, is_open, point, units),
            Err(reason) => self.encoded.refused.add(reason, &Units::of(&[units])),
        }
    }

    /// Appends a point to the present body. `is_open` says whether its last metric is the point's.
    fn push(&mut self, header: Header<'_>, is_open: &mut bool, point: Point, units: PointUnits) {
        let point_bytes = LENGTH_BYTES
            + match &point {
                Point::Number(point) => point.encoded_len(),
                Point::Distribution(point) => point.encoded_len(),
            };
        let metric_bytes = METRIC_BYTES + header.name.len() + header.unit.len();
        let more = point_bytes + if *is_open { 0 } else { metric_bytes };
        let is_full =
            self.points.len() >= self.limits.points_max || self.bytes + more > self.limits.body_bytes_max;
        if is_full && !self.points.is_empty() {
            self.close_body();
            *is_open = false;
        }
        if !*is_open {
            self.metrics.push(metric(header));
            self.bytes += metric_bytes;
            *is_open = true;
        }
        let data = self.metrics.last_mut().and_then(|metric| metric.data.as_mut());
        match (data, point) {
            (Some(Data::Gauge(gauge)), Point::Number(point)) => gauge.data_points.push(point),
            (Some(Data::Sum(sum)), Point::Number(point)) => sum.data_points.push(point),
            (Some(Data::Distribution(all)), Point::Distribution(point)) => all.data_points.push(point),
            // The form of a group is that of its points.
            _ => return,
        }
        self.bytes += point_bytes;
        self.points.push(units);
    }

    fn close_body(&mut self) {
        if self.points.is_empty() {
            return;
        }
        self.bytes = self.envelope.bytes();
        self.encoded.bodies.push(Body {
            bytes: self.envelope.seal(std::mem::take(&mut self.metrics)),
            content_type: CONTENT_TYPE.to_owned(),
            points: std::mem::take(&mut self.points),
        });
    }
}

fn metric(header: Header<'_>) -> Metric {
    let temporality = Temporality::Cumulative.into();
    let data = match header.form {
        Form::Gauge => Data::Gauge(Gauge::default()),
        Form::Sum { is_monotonic } => Data::Sum(Sum { data_points: Vec::new(), temporality, is_monotonic }),
        Form::Distribution => Data::Distribution(Distribution { data_points: Vec::new(), temporality }),
    };
    Metric { name: header.name.to_owned(), unit: header.unit.to_owned(), data: Some(data) }
}

fn gauge(series: &SeriesKey, time_unix_nano: u64, value: f64) -> Point {
    let value = Some(Number::AsDouble(value));
    Point::Number(NumberPoint {
        attributes: attributes(series),
        time_unix_nano,
        value,
        ..NumberPoint::default()
    })
}

fn distribution(
    timer: &TimerTotal,
    attributes: Vec<KeyValue>,
    start_time_unix_nano: u64,
    time_unix_nano: u64,
) -> DistributionPoint {
    let histogram = &timer.histogram;
    let known = histogram.total();
    let used = || histogram.counts().map(|(index, _)| index);
    let positive = used().min().zip(used().max()).map(|(first, last)| Buckets {
        offset: first,
        bucket_counts: histogram
            .cells_from_offset()
            .filter(|(index, _)| (first..=last).contains(index))
            .map(|(_, count)| count)
            .collect(),
    });
    DistributionPoint {
        attributes,
        start_time_unix_nano,
        time_unix_nano,
        // It must be what the buckets sum to. More buckets than records have never been seen.
        count: timer.count.max(known),
        sum: Some(timer.sum_ns as f64 / NS_PER_S),
        scale: histogram.scale().into(),
        zero_count: histogram.zero().saturating_add(timer.count.saturating_sub(known)),
        positive,
        flags: 0,
    }
}

/// The point that ends a series, which stands for nothing.
fn ended(series: &SeriesKey, time_unix_nano: u64) -> (Point, PointUnits) {
    let (attributes, flags) = (attributes(series), NO_RECORDED_VALUE);
    match series.kind {
        Kind::Timer => {
            let point =
                DistributionPoint { attributes, time_unix_nano, flags, ..DistributionPoint::default() };
            (Point::Distribution(point), PointUnits::Timer(0))
        }
        kind => {
            let point = NumberPoint { attributes, time_unix_nano, flags, ..NumberPoint::default() };
            let units = if kind == Kind::Counter { PointUnits::Counter(0.0) } else { PointUnits::Gauge(0) };
            (Point::Number(point), units)
        }
    }
}

fn attributes(series: &SeriesKey) -> Vec<KeyValue> {
    let own = [(SOURCE_KEY, &series.source), (LEVEL_KEY, &series.level)];
    let own = own.into_iter().map(|(key, value)| KeyValue::new(key, value));
    own.chain(series.tags.iter().map(|(key, value)| KeyValue::new(&attribute_key(key), value))).collect()
}

/// The attribute key of a tag. Different tags have different ones, and none has one of ours.
fn attribute_key(tag: &str) -> Cow<'_, str> {
    let bare = tag.trim_start_matches(TAG_PREFIX);
    if bare == SOURCE_KEY || bare == LEVEL_KEY {
        return Cow::Owned(format!("{TAG_PREFIX}{tag}"));
    }
    Cow::Borrowed(tag)
}

/// A whole number as one, if it fits; floats lose nothing by it.
fn number(value: f64) -> Number {
    if value.fract() == 0.0 && value.abs() < INT_LIMIT {
        return Number::AsInt(value as i64);
    }
    Number::AsDouble(value)
}

/// Milliseconds as the nanoseconds of OTLP.
const fn nanos(ms: u64) -> u64 {
    ms.saturating_mul(NS_PER_MS)
}

fn check_value(value: f64) -> Result<(), &'static str> {
    if value.is_finite() { Ok(()) } else { Err(reason::NOT_FINITE) }
}

/// Checks the time of a gauge's point against the flush. Zero, which means "unknown" to OTLP, is too old.
fn check_time(time_ms: u64, flush_ms: u64, age_max: Duration) -> Result<(), &'static str> {
    if time_ms > flush_ms.saturating_add(AHEAD_MS_MAX) {
        return Err(reason::TIME_AHEAD);
    }
    let age_ms = u64::try_from(age_max.as_millis()).unwrap_or(u64::MAX);
    if time_ms == 0 || time_ms < flush_ms.saturating_sub(age_ms) {
        return Err(reason::TOO_OLD);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
