//! Builders of measurements for the tests of this crate.

use std::sync::Arc;

use zibrato_core::histogram::Histogram;
use zibrato_core::kind::Kind;

use crate::measurement::{GaugePoint, Measurement, SeriesKey, TimerDelta, Value};

pub(crate) fn counter(level: &str, name: &str, source: &str, delta: f64) -> Measurement {
    measurement(key(level, Kind::Counter, name, source), Value::Counter { delta })
}

pub(crate) fn gauge(level: &str, name: &str, source: &str, points: &[(u64, f64)]) -> Measurement {
    measurement(key(level, Kind::Gauge, name, source), Value::Gauge { points: list(points) })
}

pub(crate) fn raw_timer(level: &str, name: &str, source: &str, points: &[(u64, f64)]) -> Measurement {
    measurement(key(level, Kind::Timer, name, source), Value::RawTimer { points: list(points) })
}

pub(crate) fn timer(level: &str, name: &str, source: &str, records_ns: &[u64]) -> Measurement {
    let mut histogram = Histogram::new();
    records_ns.iter().for_each(|ns| histogram.record_ns(*ns, 1));
    let delta = TimerDelta {
        count: records_ns.len() as u64,
        sum_ns: records_ns.iter().map(|ns| u128::from(*ns)).sum(),
        sum_squares_ns2: records_ns.iter().map(|ns| u128::from(*ns).pow(2)).sum(),
        min_ns: records_ns.iter().copied().min().unwrap_or(0),
        max_ns: records_ns.iter().copied().max().unwrap_or(0),
        histogram,
    };
    measurement(key(level, Kind::Timer, name, source), Value::Timer(Box::new(delta)))
}

fn measurement(series: Arc<SeriesKey>, value: Value) -> Measurement {
    Measurement { series, merged: Vec::new(), value, total: None }
}

fn list(points: &[(u64, f64)]) -> Vec<GaugePoint> {
    points.iter().map(|&(time_ms, value)| GaugePoint { time_ms, value }).collect()
}

fn key(level: &str, kind: Kind, name: &str, source: &str) -> Arc<SeriesKey> {
    Arc::new(SeriesKey {
        level: level.into(),
        kind,
        name: name.to_owned(),
        source: source.into(),
        unit: String::new(),
        tags: Vec::new(),
    })
}
