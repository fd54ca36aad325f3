//! Encodes a flush as bodies of remote write.

use hashbrown::HashSet;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len, message};
use zibrato_core::kind::Kind;

use super::super::Settings;
use super::super::buckets::{INFINITE, bound_text};
use super::super::clash::{Seen, encode_in_order};
use super::super::labels::{BOUND, Label};
use super::super::names::{Family, help};
use super::super::native::{Native, ZERO_THRESHOLD};
use super::super::proto::{self, BucketSpan, Histogram, Metadata, STALE, Sample};
use super::super::{reason, value};
use super::CONTENT_TYPE;
use crate::backend::{Body, Content, Encoded, FlushTime, Limits};
use crate::measurement::{Measurement, SeriesKey, TimerTotal, Total, TotalValue};
use crate::units::{PointUnits, Units};

/// The name of the label that holds a sample's name.
pub(super) const NAME: &str = "__name__";
// The numbers of fields; prost would want each label in two strings of its own.
const TIMESERIES_TAG: u32 = 1;
const METADATA_TAG: u32 = 3;
const LABELS_TAG: u32 = 1;
const SAMPLES_TAG: u32 = 2;
const HISTOGRAMS_TAG: u32 = 4;
const LABEL_NAME_TAG: u32 = 1;
const LABEL_VALUE_TAG: u32 = 2;
/// How often the metadata of a series are told, beside its first flush: they are a third of what a counter costs.
const METADATA_MS: u64 = 600_000;
const NS_PER_S: f64 = 1e9;

/// Encodes a flush.
pub(super) fn encode(content: &Content<'_>, settings: &Settings, limits: &Limits) -> Encoded {
    encode_in_order(content.measurements, |order, is_final| {
        let mut encoder = Encoder::new(content, settings, limits);
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
    /// The request being built, not compressed, and the metadata that go behind it.
    request: Vec<u8>,
    metadata: Vec<u8>,
    /// The families that they are of.
    told: HashSet<String>,
    points: Vec<PointUnits>,
    /// The samples of one series.
    samples: Vec<u8>,
}

impl<'a> Encoder<'a> {
    fn new(content: &Content<'_>, settings: &'a Settings, limits: &'a Limits) -> Self {
        Self {
            flush: content.flush,
            settings,
            limits,
            seen: Seen::with_capacity(content.measurements.len()),
            encoded: Encoded::default(),
            request: Vec::new(),
            metadata: Vec::new(),
            told: HashSet::new(),
            points: Vec::new(),
            samples: Vec::new(),
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
        let mut samples = std::mem::take(&mut self.samples);
        self.writer(&family, labels, &mut samples).total(&family, &total.value);
        let due = self.is_metadata_due(total).then_some((&family, series));
        self.point(&samples, due, units);
        self.samples = samples;
        true
    }

    /// Says that a series has ended, unless another one has its name and labels.
    fn expired(&mut self, series: &SeriesKey) {
        let (family, labels) = (Family::of(series), self.settings.fixed.of(series));
        if !self.seen.add(&self.settings.samples(&family), &labels) {
            return;
        }
        let mut samples = std::mem::take(&mut self.samples);
        self.writer(&family, labels, &mut samples).stale(&family);
        let units = match series.kind {
            Kind::Counter => PointUnits::Counter(0.0),
            Kind::Gauge => PointUnits::Gauge(0),
            Kind::Timer => PointUnits::Timer(0),
        };
        self.point(&samples, None, units);
        self.samples = samples;
    }

    fn writer<'b>(&'b self, family: &Family, labels: Vec<Label<'b>>, out: &'b mut Vec<u8>) -> Writer<'b> {
        out.clear();
        let time_ms = i64::try_from(self.flush.unix_ms).unwrap_or(i64::MAX);
        Writer::new(self.settings, labels, family.sample(), time_ms, out)
    }

    /// With the first flush of a series, and with one flush in ten minutes.
    fn is_metadata_due(&self, total: &Total) -> bool {
        let interval_ms = self.flush.interval.as_millis() as u64;
        let before_ms = self.flush.unix_ms.saturating_sub(interval_ms);
        total.since_ms >= before_ms || self.flush.unix_ms / METADATA_MS != before_ms / METADATA_MS
    }

    /// Adds the samples of a series, and what there is to say of its family if that is due.
    fn point(&mut self, samples: &[u8], due: Option<(&Family, &SeriesKey)>, units: PointUnits) {
        let mut metadata = self.untold(due);
        let bytes = self.request.len() + self.metadata.len() + samples.len() + metadata.len();
        if self.points.len() >= self.limits.points_max || bytes > self.limits.body_bytes_max {
            self.close_body();
            metadata = self.untold(due);
        }
        self.request.extend_from_slice(samples);
        if let Some((family, _)) = due.filter(|_| !metadata.is_empty()) {
            self.metadata.extend_from_slice(&metadata);
            self.told.insert(family.sample());
        }
        self.points.push(units);
    }

    /// What there is to say of a family, unless this body says it.
    fn untold(&self, due: Option<(&Family, &SeriesKey)>) -> Vec<u8> {
        let mut bytes = Vec::new();
        let named = due.map(|(family, series)| (family, series, family.sample()));
        if let Some((family, series, name)) = named.filter(|(_, _, name)| !self.told.contains(name)) {
            message::encode(METADATA_TAG, &metadata_of(family, series, name), &mut bytes);
        }
        bytes
    }

    fn close_body(&mut self) {
        if self.points.is_empty() {
            return;
        }
        let mut request = std::mem::take(&mut self.request);
        request.append(&mut self.metadata);
        self.told.clear();
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

fn metadata_of(family: &Family, series: &SeriesKey, metric_family_name: String) -> Metadata {
    Metadata {
        kind: match family.kind {
            Kind::Counter => proto::COUNTER,
            Kind::Gauge => proto::GAUGE,
            Kind::Timer => proto::HISTOGRAM,
        },
        metric_family_name,
        help: help(series),
        unit: family.known_unit().unwrap_or_default().to_owned(),
    }
}

/// Writes the samples of one series, which differ in name and bound alone.
struct Writer<'a> {
    settings: &'a Settings,
    /// In the order of their names.
    labels: Vec<Label<'a>>,
    name_at: usize,
    time_ms: i64,
    out: &'a mut Vec<u8>,
}

impl<'a> Writer<'a> {
    fn new(
        settings: &'a Settings,
        mut labels: Vec<Label<'a>>,
        name: String,
        time_ms: i64,
        out: &'a mut Vec<u8>,
    ) -> Self {
        let name_at = labels.partition_point(|(label, _)| **label < *NAME);
        labels.insert(name_at, (NAME.into(), name.into()));
        Self { settings, labels, name_at, time_ms, out }
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
        let bound_at = self.labels.partition_point(|(label, _)| **label < *BOUND);
        self.rename(family, "_bucket");
        self.labels.insert(bound_at, (BOUND.into(), "".into()));
        for (bound, up_to) in counts {
            self.labels[bound_at].1 = bound_text(bound).into();
            self.sample(up_to);
        }
        self.labels[bound_at].1 = INFINITE.into();
        self.sample(count);
        self.labels.remove(bound_at);
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
        self.labels[self.name_at].1 = format!("{}{ending}", family.name).into();
    }

    fn sample(&mut self, value: f64) {
        self.time_series(SAMPLES_TAG, &Sample { value, timestamp: self.time_ms });
    }

    fn histogram(&mut self, histogram: Histogram) {
        self.time_series(HISTOGRAMS_TAG, &Histogram { timestamp: self.time_ms, ..histogram });
    }

    /// Adds a [`TimeSeries`](proto::TimeSeries) of one sample.
    fn time_series(&mut self, tag: u32, sample: &impl Message) {
        let label_bytes = |(name, value): &Label<'_>| {
            nested_bytes(LABEL_NAME_TAG, name.len()) + nested_bytes(LABEL_VALUE_TAG, value.len())
        };
        let labels_bytes = self.labels.iter().map(|label| nested_bytes(LABELS_TAG, label_bytes(label)));
        let bytes = labels_bytes.sum::<usize>() + nested_bytes(tag, sample.encoded_len());
        begin(self.out, TIMESERIES_TAG, bytes);
        for label in &self.labels {
            begin(self.out, LABELS_TAG, label_bytes(label));
            for (tag, text) in [(LABEL_NAME_TAG, &label.0), (LABEL_VALUE_TAG, &label.1)] {
                begin(self.out, tag, text.len());
                self.out.extend_from_slice(text.as_bytes());
            }
        }
        message::encode(tag, sample, self.out);
    }
}

/// Begins a field of so many bytes.
fn begin(out: &mut Vec<u8>, tag: u32, bytes: usize) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(bytes as u64, out);
}

/// How long a field of so many bytes is.
const fn nested_bytes(tag: u32, bytes: usize) -> usize {
    key_len(tag) + encoded_len_varint(bytes as u64) + bytes
}
