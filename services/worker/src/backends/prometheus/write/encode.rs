//! Encodes a flush as bodies of remote write.

use std::collections::BTreeMap;

use prost::encoding::message;
use zibrato_core::kind::Kind;

use super::super::Settings;
use super::super::buckets::{INFINITE, bound_text};
use super::super::clash::{Seen, encode_in_order};
use super::super::labels::{BOUND, Label};
use super::super::names::{Family, help};
use super::super::native::{Native, ZERO_THRESHOLD};
use super::super::proto::{self, BucketSpan, Histogram, Metadata, STALE, Sample, TimeSeries};
use super::super::{reason, value};
use super::CONTENT_TYPE;
use crate::backend::{Body, Content, Encoded, FlushTime, Limits};
use crate::measurement::{Measurement, SeriesKey, TimerTotal, Total, TotalValue};
use crate::units::{PointUnits, Units};

/// The name of the label that holds a sample's name.
pub(super) const NAME: &str = "__name__";
const TIMESERIES_TAG: u32 = 1;
const METADATA_TAG: u32 = 3;
/// How often the metadata of a series are told, beside its first flush: they are a third of what a counter costs.
const METADATA_MS: u64 = 600_000;
const NS_PER_S: f64 = 1e9;

/// Encodes a flush.
pub(super) fn encode(content: &Content<'_>, settings: &Settings, limits: &Limits) -> Encoded {
    encode_in_order(content.measurements, |order, is_final| {
        let mut encoder = Encoder::new(content.flush, settings, limits);
        for measurement in order {
            if !encoder.measurement(measurement) && !is_final {
                return None;
            }
        }
        for series in content.expired {
            encoder.expired(series);
        }
        encoder.close_body();
        Some(encoder.encoded)
    })
}

struct Encoder<'a> {
    flush: FlushTime,
    settings: &'a Settings,
    limits: &'a Limits,
    seen: Seen,
    encoded: Encoded,
    /// The request being built, not compressed.
    request: Vec<u8>,
    metadata: BTreeMap<String, Vec<u8>>,
    metadata_bytes: usize,
    points: Vec<PointUnits>,
}

impl<'a> Encoder<'a> {
    fn new(flush: FlushTime, settings: &'a Settings, limits: &'a Limits) -> Self {
        Self {
            flush,
            settings,
            limits,
            seen: Seen::default(),
            encoded: Encoded::default(),
            request: Vec::new(),
            metadata: BTreeMap::new(),
            metadata_bytes: 0,
            points: Vec::new(),
        }
    }

    /// Encodes a measurement; false if its series clashes with one before.
    fn measurement(&mut self, measurement: &Measurement) -> bool {
        let (series, units) = (&*measurement.series, measurement.value.units());
        let checked = value::check(measurement.total.as_ref(), series);
        let total = match checked {
            Ok(total) => total,
            Err(reason) => {
                self.encoded.refused.add(reason, &Units::of(&[units]));
                return true;
            }
        };
        let (family, labels) = (Family::of(series), self.settings.fixed.of(series));
        if !self.seen.add(&self.settings.samples(&family), &labels) {
            self.encoded.clashes += 1;
            self.encoded.refused.add(reason::SAME_SERIES, &Units::of(&[units]));
            return false;
        }
        let mut bytes = Vec::new();
        self.writer(&family, labels, &mut bytes).total(&family, &total.value);
        let metadata = self.is_metadata_due(total).then(|| metadata_of(&family, series));
        self.point(&bytes, metadata, units);
        true
    }

    /// Says that a series has ended, unless another one has its name and labels.
    fn expired(&mut self, series: &SeriesKey) {
        let (family, labels) = (Family::of(series), self.settings.fixed.of(series));
        if !self.seen.add(&self.settings.samples(&family), &labels) {
            return;
        }
        let mut bytes = Vec::new();
        self.writer(&family, labels, &mut bytes).stale(&family);
        let units = match series.kind {
            Kind::Counter => PointUnits::Counter(0.0),
            Kind::Gauge => PointUnits::Gauge(0),
            Kind::Timer => PointUnits::Timer(0),
        };
        self.point(&bytes, None, units);
    }

    fn writer<'b>(&'b self, family: &Family, labels: Vec<Label>, out: &'b mut Vec<u8>) -> Writer<'b> {
        let time_ms = i64::try_from(self.flush.unix_ms).unwrap_or(i64::MAX);
        Writer::new(self.settings, labels, family.sample(), time_ms, out)
    }

    /// With the first flush of a series, and with one flush in ten minutes.
    fn is_metadata_due(&self, total: &Total) -> bool {
        let interval_ms = self.flush.interval.as_millis() as u64;
        let before_ms = self.flush.unix_ms.saturating_sub(interval_ms);
        total.since_ms >= before_ms || self.flush.unix_ms / METADATA_MS != before_ms / METADATA_MS
    }

    fn point(&mut self, bytes: &[u8], metadata: Option<Metadata>, units: PointUnits) {
        let metadata = metadata.map(|metadata| {
            let mut bytes = Vec::new();
            message::encode(METADATA_TAG, &metadata, &mut bytes);
            (metadata.metric_family_name, bytes)
        });
        let more = bytes.len() + metadata.as_ref().map_or(0, |(_, bytes)| bytes.len());
        if self.points.len() >= self.limits.points_max
            || self.request.len() + self.metadata_bytes + more > self.limits.body_bytes_max
        {
            self.close_body();
        }
        self.request.extend_from_slice(bytes);
        self.points.push(units);
        if let Some((family, bytes)) = metadata
            && !self.metadata.contains_key(&family)
        {
            self.metadata_bytes += bytes.len();
            self.metadata.insert(family, bytes);
        }
    }

    fn close_body(&mut self) {
        if self.points.is_empty() {
            return;
        }
        let mut request = std::mem::take(&mut self.request);
        self.metadata_bytes = 0;
        std::mem::take(&mut self.metadata).values().for_each(|bytes| request.extend_from_slice(bytes));
        let points = std::mem::take(&mut self.points);
        match super::compress(&request) {
            Some(bytes) => {
                self.encoded.bodies.push(Body { bytes, content_type: CONTENT_TYPE.to_owned(), points });
            }
            // Beyond 4 GiB, which no limit lets through; it is there so that nothing is lost unseen.
            None => self.encoded.refused.add(reason::TOO_LARGE, &Units::of(&points)),
        }
    }
}

fn metadata_of(family: &Family, series: &SeriesKey) -> Metadata {
    Metadata {
        kind: match family.kind {
            Kind::Counter => proto::COUNTER,
            Kind::Gauge => proto::GAUGE,
            Kind::Timer => proto::HISTOGRAM,
        },
        metric_family_name: family.sample(),
        help: help(series),
        unit: family.known_unit().unwrap_or_default().to_owned(),
    }
}

/// Writes the samples of one series, which differ in name and bound alone.
struct Writer<'a> {
    settings: &'a Settings,
    series: TimeSeries,
    name_at: usize,
    time_ms: i64,
    out: &'a mut Vec<u8>,
}

impl<'a> Writer<'a> {
    fn new(
        settings: &'a Settings,
        labels: Vec<Label>,
        name: String,
        time_ms: i64,
        out: &'a mut Vec<u8>,
    ) -> Self {
        let mut labels: Vec<_> =
            labels.into_iter().map(|(name, value)| proto::Label { name, value }).collect();
        let name_at = labels.partition_point(|label| *label.name < *NAME);
        labels.insert(name_at, proto::Label { name: NAME.to_owned(), value: name });
        let series = TimeSeries { labels, ..TimeSeries::default() };
        Self { settings, series, name_at, time_ms, out }
    }

    fn total(mut self, family: &Family, total: &TotalValue) {
        match total {
            TotalValue::Counter(sum) => self.sample(family.unit.scale(*sum)),
            TotalValue::Gauge(last) => self.sample(value::not_stale(family.unit.scale(*last))),
            TotalValue::Timer(timer) if self.settings.is_native => self.native(timer),
            TotalValue::Timer(timer) => {
                let settings = self.settings;
                let counts = settings.bounds.cumulative(timer).map(|(bound, count)| (bound, count as f64));
                self.classic(family, counts, timer.sum_ns as f64 / NS_PER_S, timer.count as f64);
            }
        }
    }

    fn stale(mut self, family: &Family) {
        let settings = self.settings;
        match family.kind {
            Kind::Timer if settings.is_native => {
                self.histogram(Histogram {
                    count_int: Some(0),
                    zero_count_int: Some(0),
                    sum: STALE,
                    ..Histogram::default()
                });
            }
            Kind::Timer => {
                let counts = settings.bounds.values().iter().map(|bound| (*bound, STALE));
                self.classic(family, counts, STALE, STALE);
            }
            Kind::Counter | Kind::Gauge => self.sample(STALE),
        }
    }

    /// Buckets, the last of them infinite, then sum and count: in this order [`super::points`] finds them again.
    fn classic(&mut self, family: &Family, counts: impl Iterator<Item = (f64, f64)>, sum: f64, count: f64) {
        let bound_at = self.series.labels.partition_point(|label| *label.name < *BOUND);
        self.rename(family, "_bucket");
        self.series.labels.insert(bound_at, proto::Label { name: BOUND.to_owned(), value: String::new() });
        for (bound, up_to) in counts {
            self.series.labels[bound_at].value = bound_text(bound);
            self.sample(up_to);
        }
        INFINITE.clone_into(&mut self.series.labels[bound_at].value);
        self.sample(count);
        self.series.labels.remove(bound_at);
        self.rename(family, "_sum");
        self.sample(sum);
        self.rename(family, "_count");
        self.sample(count);
    }

    fn native(&mut self, timer: &TimerTotal) {
        let native = Native::of(timer);
        let span = |&(offset, length)| BucketSpan { offset, length };
        self.histogram(Histogram {
            count_int: Some(native.count),
            sum: timer.sum_ns as f64 / NS_PER_S,
            schema: native.schema,
            zero_threshold: ZERO_THRESHOLD,
            zero_count_int: Some(native.zero_count),
            positive_spans: native.spans.iter().map(span).collect(),
            positive_deltas: native.deltas,
            timestamp: 0,
        });
    }

    fn rename(&mut self, family: &Family, ending: &str) {
        self.series.labels[self.name_at].value = format!("{}{ending}", family.name);
    }

    fn sample(&mut self, value: f64) {
        self.series.samples = vec![Sample { value, timestamp: self.time_ms }];
        message::encode(TIMESERIES_TAG, &self.series, self.out);
    }

    fn histogram(&mut self, histogram: Histogram) {
        self.series.histograms = vec![Histogram { timestamp: self.time_ms, ..histogram }];
        message::encode(TIMESERIES_TAG, &self.series, self.out);
    }
}
