//! What the last flush measured, read on its way into the backend.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use zibrato_worker::backend::{
    Answer, Backend, Batch, Content, Encoded, Limits, Pending, Probe, Response, Shape, Verdict,
};
use zibrato_worker::backends::librato::Librato;
use zibrato_worker::measurement::{Measurement, SeriesKey, Value};

use crate::percentile::quantile_within;

/// The percentile by which timers are compared.
const QUANTILE: f64 = 0.99;
/// How long the extremes are shown after the last flush that had a timer: publishers whose window is
/// as long as the flush miss one now and then.
const AGE_MAX: Duration = Duration::from_secs(5);

/// The slowest and the fastest timer of the last flush that had one. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Board(Arc<Mutex<Option<Written>>>);

/// Two timers, which are the same one if there is only one.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Extremes {
    pub(crate) slowest: Timed,
    pub(crate) fastest: Timed,
}

/// A timer and its 99th percentile.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Timed {
    /// The name, and tags as `{key=value}`.
    pub(crate) name: String,
    /// The 99th percentile of the flush.
    pub(crate) p99: Duration,
}

#[derive(Clone, Debug)]
struct Written {
    extremes: Extremes,
    at: Instant,
}

impl Board {
    /// The extremes; `None` if no flush of the last seconds had a timer.
    pub(crate) fn extremes(&self) -> Option<Extremes> {
        let written = self.lock();
        let fresh = written.as_ref().filter(|written| written.at.elapsed() < AGE_MAX)?;
        Some(fresh.extremes.clone())
    }

    fn write(&self, measurements: &[Measurement]) {
        if let Some(extremes) = extremes(measurements) {
            *self.lock() = Some(Written { extremes, at: Instant::now() });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Written>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The Librato backend, with a look at what passes through.
#[derive(Debug)]
pub(crate) struct Watched {
    inner: Librato,
    board: Board,
}

impl Watched {
    pub(crate) fn new(inner: Librato, board: Board) -> Self {
        Self { inner, board }
    }
}

impl Backend for Watched {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn target(&self) -> String {
        self.inner.target()
    }

    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    fn probe(&self) -> Pending<'_, Probe> {
        self.inner.probe()
    }

    fn shape(&self) -> Shape {
        self.inner.shape()
    }

    fn encode(&self, content: &Content<'_>) -> Encoded {
        self.board.write(content.measurements);
        self.inner.encode(content)
    }

    fn send<'a>(&'a self, batch: &'a Batch) -> Pending<'a, Answer> {
        self.inner.send(batch)
    }

    fn classify(&self, response: &Response, batch: &Batch, now_ms: u64) -> Verdict {
        self.inner.classify(response, batch, now_ms)
    }

    fn select(&self, bytes: &[u8], keep: &[bool]) -> Option<Vec<u8>> {
        self.inner.select(bytes, keep)
    }

    fn describe(&self, bytes: &[u8], point: usize) -> Option<String> {
        self.inner.describe(bytes, point)
    }
}

fn extremes(measurements: &[Measurement]) -> Option<Extremes> {
    let mut timers = measurements.iter().filter_map(|measurement| match &measurement.value {
        Value::Timer(timer) => {
            let [min, max] = [timer.min_ns, timer.max_ns].map(|ns| Some(ns as f64 / 1e9));
            Some((quantile_within(&timer.histogram, QUANTILE, min, max)?, &*measurement.series))
        }
        Value::Counter { .. } | Value::Gauge { .. } | Value::RawTimer { .. } => None,
    });
    let first = timers.next()?;
    let (slowest, fastest) = timers.fold((first, first), |(slowest, fastest), timer| {
        let slowest = if timer.0 > slowest.0 { timer } else { slowest };
        (slowest, if timer.0 < fastest.0 { timer } else { fastest })
    });
    Some(Extremes { slowest: timed(slowest), fastest: timed(fastest) })
}

fn timed((seconds, series): (f64, &SeriesKey)) -> Timed {
    let mut name = series.name.clone();
    if !series.tags.is_empty() {
        let tags: Vec<_> = series.tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
        name = format!("{name}{{{}}}", tags.join(","));
    }
    // Buckets end far below the longest duration, so the default is never used.
    Timed { name, p99: Duration::try_from_secs_f64(seconds).unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use zibrato_core::histogram::Histogram;
    use zibrato_core::kind::Kind;
    use zibrato_worker::measurement::TimerDelta;

    use super::*;

    fn measurement(name: &str, kind: Kind, tags: &[(&str, &str)], value: Value) -> Measurement {
        let tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let series = SeriesKey {
            level: "info".into(),
            kind,
            name: name.to_owned(),
            source: "s".into(),
            unit: String::new(),
            tags,
        };
        Measurement { series: Arc::new(series), merged: Vec::new(), value, total: None }
    }

    fn timer(name: &str, tags: &[(&str, &str)], ns: u64) -> Measurement {
        let mut histogram = Histogram::new();
        // One of 201 is slower than the 99th percentile.
        histogram.record_ns(ns, 200);
        histogram.record_ns(1_000_000_000, 1);
        let value = TimerDelta {
            count: 201,
            sum_ns: 0,
            sum_squares_ns2: 0,
            min_ns: ns,
            max_ns: 1_000_000_000,
            histogram,
        };
        measurement(name, Kind::Timer, tags, Value::Timer(Box::new(value)))
    }

    #[test]
    fn the_board_shows_the_slowest_and_the_fastest_timer_by_their_99th_percentile() {
        let board = Board::default();
        assert_eq!(board.extremes(), None);
        let counter = measurement("c", Kind::Counter, &[], Value::Counter { delta: 1e9 });
        board.write(&[
            timer("middle", &[], 50_000),
            counter.clone(),
            timer("slow", &[("route", "/a"), ("zone", "b")], 2_000_000),
            timer("fast", &[], 700),
        ]);
        let Extremes { slowest, fastest } = board.extremes().unwrap();
        assert_eq!((slowest.name.as_str(), fastest.name.as_str()), ("slow{route=/a,zone=b}", "fast"));
        let near = |value: Duration, ns: f64| (value.as_nanos() as f64 / ns - 1.0).abs() < 0.02;
        assert!(near(slowest.p99, 2e6) && near(fastest.p99, 700.0), "{slowest:?} {fastest:?}");
        // A flush without timers does not take the last one off the board.
        board.write(&[counter]);
        assert_eq!(board.extremes().unwrap().slowest, slowest);
        board.write(&[timer("only", &[], 5)]);
        let Extremes { slowest, fastest } = board.extremes().unwrap();
        assert!(slowest == fastest && slowest.name == "only");
    }
}
