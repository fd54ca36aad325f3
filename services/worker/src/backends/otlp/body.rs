//! Bodies as bytes: what stands around the metrics, compression, and what is read back of a body.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use prost::Message;

use super::BODY_BYTES_MAX;
use super::encode::SOURCE_KEY;
use super::proto::{Data, KeyValue, Metric, Request, Resource, ResourceMetrics, Scope, ScopeMetrics};

const SCOPE_NAME: &str = "zibrato";
/// First bytes of gzip. A request begins with 0x0a, the tag of its first field.
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
/// Most bytes of a body that are read back; twice what is written, since a point may exceed a body alone.
const READ_BYTES_MAX: u64 = 2 * BODY_BYTES_MAX as u64;

/// What all bodies have in common.
#[derive(Debug)]
pub(super) struct Envelope {
    resource: Resource,
    gzip: bool,
}

impl Envelope {
    pub(super) fn new(resource: &[(String, String)], gzip: bool) -> Self {
        let attributes = resource.iter().map(|(key, value)| KeyValue::new(key, value)).collect();
        Self { resource: Resource { attributes }, gzip }
    }

    /// The bytes of a body with these metrics, the same each time.
    pub(super) fn seal(&self, metrics: Vec<Metric>) -> Vec<u8> {
        pack(&self.request(metrics), self.gzip)
    }

    /// Bytes of a body without metrics.
    pub(super) fn bytes(&self) -> usize {
        self.request(Vec::new()).encoded_len()
    }

    fn request(&self, metrics: Vec<Metric>) -> Request {
        let scope = Scope { name: SCOPE_NAME.to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
        let scope_metrics = vec![ScopeMetrics { scope: Some(scope), metrics }];
        Request {
            resource_metrics: vec![ResourceMetrics { resource: Some(self.resource.clone()), scope_metrics }],
        }
    }
}

/// Whether a body is compressed.
pub(super) fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(GZIP_MAGIC)
}

/// The body with only those points whose flag is set.
pub(super) fn select(bytes: &[u8], keep: &[bool]) -> Option<Vec<u8>> {
    let mut request = read(bytes)?;
    if metrics(&request).map(points_of).sum::<usize>() != keep.len() {
        return None;
    }
    let mut flags = keep.iter().copied();
    for resource in &mut request.resource_metrics {
        for scope in &mut resource.scope_metrics {
            scope.metrics.retain_mut(|metric| {
                retain(metric, &mut flags);
                points_of(metric) > 0
            });
        }
    }
    Some(pack(&request, is_gzip(bytes)))
}

/// Name and source of a point.
pub(super) fn describe(bytes: &[u8], point: usize) -> Option<String> {
    let request = read(bytes)?;
    let mut before = 0;
    let metric = metrics(&request).find(|metric| {
        before += points_of(metric);
        before > point
    })?;
    let at = point + points_of(metric) - before;
    let attributes = match metric.data.as_ref()? {
        Data::Gauge(gauge) => &gauge.data_points.get(at)?.attributes,
        Data::Sum(sum) => &sum.data_points.get(at)?.attributes,
        Data::Distribution(distribution) => &distribution.data_points.get(at)?.attributes,
    };
    let source = attributes.iter().find(|attribute| attribute.key == SOURCE_KEY)?;
    Some(format!("{} of source {}", metric.name, source.text()?))
}

/// The name of the metric of each point, in the order of the points; empty if the bytes cannot be read.
pub(super) fn names(bytes: &[u8]) -> Vec<String> {
    let Some(request) = read(bytes) else { return Vec::new() };
    metrics(&request).flat_map(|metric| std::iter::repeat_n(metric.name.clone(), points_of(metric))).collect()
}

/// Reads a body back; `None` for bytes that are none.
pub(super) fn read(bytes: &[u8]) -> Option<Request> {
    if !is_gzip(bytes) {
        return Request::decode(bytes).ok();
    }
    let mut plain = Vec::new();
    GzDecoder::new(bytes).take(READ_BYTES_MAX).read_to_end(&mut plain).ok()?;
    Request::decode(&plain[..]).ok()
}

fn pack(request: &Request, gzip: bool) -> Vec<u8> {
    let plain = request.encode_to_vec();
    if !gzip {
        return plain;
    }
    // Names and attributes repeat so much that the quickest level takes nine tenths of what the best would.
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 8), Compression::fast());
    // Writing to memory does not fail; plain bytes are as good.
    encoder.write_all(&plain).and_then(|()| encoder.finish()).unwrap_or(plain)
}

fn metrics(request: &Request) -> impl Iterator<Item = &Metric> {
    request
        .resource_metrics
        .iter()
        .flat_map(|resource| &resource.scope_metrics)
        .flat_map(|scope| &scope.metrics)
}

fn points_of(metric: &Metric) -> usize {
    match &metric.data {
        Some(Data::Gauge(gauge)) => gauge.data_points.len(),
        Some(Data::Sum(sum)) => sum.data_points.len(),
        Some(Data::Distribution(distribution)) => distribution.data_points.len(),
        None => 0,
    }
}

fn retain(metric: &mut Metric, flags: &mut impl Iterator<Item = bool>) {
    let mut next = || flags.next().unwrap_or(false);
    match &mut metric.data {
        Some(Data::Gauge(gauge)) => gauge.data_points.retain(|_| next()),
        Some(Data::Sum(sum)) => sum.data_points.retain(|_| next()),
        Some(Data::Distribution(distribution)) => distribution.data_points.retain(|_| next()),
        None => {}
    }
}
