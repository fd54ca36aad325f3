//! Builders for the tests of this backend.

use std::sync::Arc;
use std::time::Duration;

use super::Settings;
use super::buckets::Bounds;
use super::labels::Fixed;
use crate::backend::{Batch, Body, FlushTime};
use crate::measurement::{Measurement, TimerTotal, Total, TotalValue, Value};
use crate::test_support::{counter, gauge, timer};

/// Not at a multiple of ten minutes.
pub(super) const FLUSH: FlushTime =
    FlushTime { unix_ms: 1_700_000_460_000, interval: Duration::from_secs(60) };

pub(super) fn settings(is_native: bool) -> Settings {
    let fixed = Fixed::new(vec![("instance".to_owned(), "host-1".to_owned())]);
    Settings { fixed, bounds: Bounds::parse("0.001,1").unwrap(), is_native }
}

/// A counter of the source `web` that has come to `total`.
pub(super) fn counted(name: &str, delta: f64, total: f64) -> Measurement {
    with_total(counter("info", name, "web", delta), TotalValue::Counter(total))
}

/// A gauge of the source `web` that was set once.
pub(super) fn set(name: &str, value: f64) -> Measurement {
    with_total(gauge("info", name, "web", &[(FLUSH.unix_ms - 7, value)]), TotalValue::Gauge(value))
}

/// A timer of the source `web` that recorded nothing before.
pub(super) fn timed(name: &str, records_ns: &[u64]) -> Measurement {
    let measurement = timer("info", name, "web", records_ns);
    let Value::Timer(delta) = &measurement.value else { panic!() };
    let histogram = delta.histogram.clone();
    let total = TimerTotal { count: delta.count, sum_ns: delta.sum_ns, histogram };
    with_total(measurement, TotalValue::Timer(Arc::new(total)))
}

/// The measurement with unit and tags.
pub(super) fn declared(mut measurement: Measurement, unit: &str, tags: &[(&str, &str)]) -> Measurement {
    let series = Arc::make_mut(&mut measurement.series);
    unit.clone_into(&mut series.unit);
    series.tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    measurement
}

/// The measurement of a series that was known before this flush.
pub(super) fn known(mut measurement: Measurement) -> Measurement {
    measurement.total.as_mut().unwrap().since_ms = 1_600_000_000_000;
    measurement
}

pub(super) fn batch(body: Body, attempts_unknown: u32) -> Batch {
    Batch { row: 1, id: "00".to_owned(), flushed_ms: FLUSH.unix_ms, attempts_unknown, body }
}

fn with_total(measurement: Measurement, value: TotalValue) -> Measurement {
    let since_ms = FLUSH.unix_ms - FLUSH.interval.as_millis() as u64;
    Measurement { total: Some(Total { since_ms, value }), ..measurement }
}
