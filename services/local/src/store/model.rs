//! What the store takes and gives besides points: where a metric came from, and charts.

use zibrato_core::histogram::Histogram;

/// What a Zibrato worker says of a metric beyond what Librato's API has: its own kind, levels and
/// unit. Without it a metric is what it was posted as.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Origin {
    pub(crate) kind: OriginKind,
    pub(crate) levels: Vec<String>,
    pub(crate) unit: Option<String>,
}

/// The kind of a metric where it was recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OriginKind {
    /// Its points are increments, which add up.
    Counter,
    /// Its points are values of a moment.
    Gauge,
    /// Its points are distributions of durations in seconds.
    Timer,
}

/// What to draw of one metric.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ChartQuery {
    pub(crate) metric: i64,
    /// Sources in lower case, `*` standing for anything; empty for all.
    pub(crate) sources: Vec<String>,
    /// The first second, and the one after the last.
    pub(crate) start: i64,
    pub(crate) end: i64,
    /// Seconds of a step; steps begin at multiples of it.
    pub(crate) step: i64,
    /// One line for each source, or one for all of them together.
    pub(crate) by_source: bool,
}

/// One line of a chart: its steps in order of time, without those in which nothing was measured.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Line {
    /// `None` if all sources are merged.
    pub(crate) source: Option<String>,
    pub(crate) steps: Vec<Step>,
}

/// What was measured in one step.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Step {
    pub(crate) time: i64,
    pub(crate) summary: Summary,
}

/// What some points of a metric add up to. Exact whatever the order and grouping in which they are
/// merged, sums to the last bits of a double.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Summary {
    pub(crate) count: f64,
    pub(crate) sum: f64,
    /// `None` if one of the points does not tell; likewise the next two.
    pub(crate) min: Option<f64>,
    pub(crate) max: Option<f64>,
    pub(crate) sum_squares: Option<f64>,
    /// The value (mean) of the newest point, and its time.
    pub(crate) last: f64,
    pub(crate) last_time: i64,
    /// The distribution of those points that brought one; it may hold less than `count`.
    pub(crate) histogram: Option<Box<Histogram>>,
}
