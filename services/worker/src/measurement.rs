//! What the ledger hands to a backend at a flush: per series, what happened since the last one.

use std::sync::Arc;

use zibrato_core::histogram::Histogram;
use zibrato_core::kind::Kind;

use crate::units::PointUnits;

/// What identifies a series for a backend; publishers are merged already, levels are not.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesKey {
    /// Level label. Series share the text, as that of the source: there are few of both.
    pub level: Arc<str>,
    /// Counter, gauge or timer.
    pub kind: Kind,
    /// Metric name, 1 to 255 of `A-Za-z0-9.:_-`.
    pub name: String,
    /// Source, 1 to 255 of `A-Za-z0-9.:_-`.
    pub source: Arc<str>,
    /// Unit, may be empty.
    pub unit: String,
    /// Tags in the order of their keys.
    pub tags: Vec<(String, String)>,
}

/// One series with its change since the last committed flush.
#[derive(Clone, Debug)]
pub struct Measurement {
    /// Which series.
    pub series: Arc<SeriesKey>,
    /// The series that were merged into it, equal but for their level; none before
    /// [`merge_series`](crate::merge::merge_series).
    pub merged: Vec<Arc<SeriesKey>>,
    /// What it measured.
    pub value: Value,
    /// What it has come to in all, for a backend whose [`Shape`](crate::backend::Shape) asks for it.
    pub total: Option<Total>,
}

impl Measurement {
    /// The levels at which it was measured, each once.
    pub fn levels(&self) -> impl Iterator<Item = &str> {
        [&self.series].into_iter().chain(&self.merged).map(|series| &*series.level)
    }
}

/// The change of a series over one flush.
#[derive(Clone, Debug)]
pub enum Value {
    /// Sum of the increments. From native frames whole and not negative; legacy text may bring
    /// fractions and negatives.
    Counter {
        /// The sum.
        delta: f64,
    },
    /// One point for each window in which the gauge was set.
    Gauge {
        /// Points in the order of their times.
        points: Vec<GaugePoint>,
    },
    /// A distribution of durations.
    Timer(Box<TimerDelta>),
    /// Legacy timer messages one by one, when `--timers raw` asks for it: time and seconds.
    RawTimer {
        /// Points in the order of arrival; `value` in seconds.
        points: Vec<GaugePoint>,
    },
}

/// What a series has come to since this worker knows it. It survives a restart of the worker.
#[derive(Clone, Debug, PartialEq)]
pub struct Total {
    /// From when on it counts, in Unix milliseconds: one flush before the series was first seen.
    pub since_ms: u64,
    /// The sum.
    pub value: TotalValue,
}

/// The sum of a series' changes.
#[derive(Clone, Debug, PartialEq)]
pub enum TotalValue {
    /// Of a counter.
    Counter(f64),
    /// The last value of a gauge.
    Gauge(f64),
    /// Of a timer.
    Timer(Arc<TimerTotal>),
}

/// All that a timer has recorded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TimerTotal {
    /// Records.
    pub count: u64,
    /// Sum, in nanoseconds.
    pub sum_ns: u128,
    /// Distribution, in seconds; its counts sum to `count` unless a key frame was lost for good.
    pub histogram: Histogram,
}

impl Value {
    /// What it stands for in the units of the law.
    #[must_use]
    pub fn units(&self) -> PointUnits {
        match self {
            Self::Counter { delta } => PointUnits::Counter(*delta),
            Self::Gauge { points } => PointUnits::Gauge(points.len() as u64),
            Self::Timer(timer) => PointUnits::Timer(timer.count),
            Self::RawTimer { points } => PointUnits::Timer(points.len() as u64),
        }
    }
}

/// One value of a gauge.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GaugePoint {
    /// Unix milliseconds on the publisher's clock.
    pub time_ms: u64,
    /// The value set last in its window.
    pub value: f64,
}

/// Durations since the last committed flush.
#[derive(Clone, Debug, Default)]
pub struct TimerDelta {
    /// Records; 0 only of a series that did not change and is told again.
    pub count: u64,
    /// Sum, in nanoseconds.
    pub sum_ns: u128,
    /// Sum of squares, in square nanoseconds.
    pub sum_squares_ns2: u128,
    /// Smallest, in nanoseconds; after a gap the bound of the lowest bucket that grew.
    pub min_ns: u64,
    /// Largest, in nanoseconds; after a gap the bound of the highest bucket that grew.
    pub max_ns: u64,
    /// Distribution, in seconds; its counts sum to `count` unless a key frame is still missing.
    pub histogram: Histogram,
}
