//! The page as protobuf: families behind their lengths.

use prost::Message as _;
use zibrato_core::kind::Kind;

use super::super::Settings;
use super::super::client_proto::{
    self as proto, Bucket, BucketSpan, Histogram, LabelPair, Metric, MetricFamily, Value,
};
use super::super::labels::Label;
use super::super::native::{Native, ZERO_THRESHOLD};
use super::page::{Group, Number, Page, Shown};
use crate::measurement::TimerTotal;

const NS_PER_S: f64 = 1e9;

/// Writes the page.
pub(super) fn write(page: &Page, settings: &Settings) -> Vec<u8> {
    let mut out = Vec::new();
    for group in page.groups() {
        // A vector takes everything.
        let _ = family(group, settings).encode_length_delimited(&mut out);
    }
    out
}

fn family(group: &Group, settings: &Settings) -> MetricFamily {
    let kind = match group.family.kind {
        Kind::Counter if group.is_counter() => proto::COUNTER,
        Kind::Counter => proto::UNTYPED,
        Kind::Gauge => proto::GAUGE,
        Kind::Timer => proto::HISTOGRAM,
    };
    MetricFamily {
        name: Some(group.family.sample()),
        help: Some(group.help.clone()),
        kind: Some(kind),
        metric: group.series.values().map(|shown| metric(shown, kind, settings)).collect(),
        unit: group.unit.clone(),
    }
}

fn metric(shown: &Shown, kind: i32, settings: &Settings) -> Metric {
    let pair = |(name, value): Label<'_>| LabelPair {
        name: Some(name.into_owned()),
        value: Some(value.into_owned()),
    };
    let series = shown.series();
    let labels = series.iter().flat_map(|series| settings.fixed.of(series));
    let mut metric = Metric { label: labels.map(pair).collect(), ..Metric::default() };
    match &shown.value {
        Number::Plain(value) => {
            let value = Some(Value { value: Some(*value) });
            match kind {
                proto::COUNTER => metric.counter = value,
                proto::GAUGE => metric.gauge = value,
                _ => metric.untyped = value,
            }
        }
        Number::Timer(timer) => metric.histogram = Some(histogram(timer, settings)),
    }
    metric
}

fn histogram(timer: &TimerTotal, settings: &Settings) -> Histogram {
    let sample_sum = Some(timer.sum_ns as f64 / NS_PER_S);
    if settings.is_native {
        let native = Native::of(timer);
        let span = |&(offset, length)| BucketSpan { offset: Some(offset), length: Some(length) };
        return Histogram {
            sample_count: Some(native.count),
            sample_sum,
            bucket: Vec::new(),
            schema: Some(native.schema),
            zero_threshold: Some(ZERO_THRESHOLD),
            zero_count: Some(native.zero_count),
            positive_span: native.spans.iter().map(span).collect(),
            positive_delta: native.deltas,
        };
    }
    let bucket = |(bound, count)| Bucket { cumulative_count: Some(count), upper_bound: Some(bound) };
    Histogram {
        sample_count: Some(timer.count),
        sample_sum,
        bucket: settings.bounds.cumulative(timer).map(bucket).collect(),
        ..Histogram::default()
    }
}
