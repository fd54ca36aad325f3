//! What the store takes, keeps and gives besides batches: where a metric came from, points, charts.

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

impl OriginKind {
    /// The kind as it is stored and told.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Timer => "timer",
        }
    }

    /// The kind that [`OriginKind::as_str`] wrote.
    pub(crate) fn of(text: &str) -> Option<Self> {
        [Self::Counter, Self::Gauge, Self::Timer].into_iter().find(|kind| kind.as_str() == text)
    }
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

impl Summary {
    /// One value.
    pub(crate) fn of(value: f64, time: i64) -> Self {
        Self {
            count: 1.0,
            sum: value,
            min: Some(value),
            max: Some(value),
            sum_squares: Some(value * value),
            last: value,
            last_time: time,
            histogram: None,
        }
    }

    /// Adds what `other` stands for. Of two newest points at one time the one of `other` counts as
    /// the newer, so summaries are merged in the order in which their points arrived.
    pub(crate) fn merge(&mut self, other: Self) {
        let both = |a: Option<f64>, b: Option<f64>, merge: fn(f64, f64) -> f64| Some(merge(a?, b?));
        self.count += other.count;
        self.sum += other.sum;
        self.min = both(self.min, other.min, f64::min);
        self.max = both(self.max, other.max, f64::max);
        self.sum_squares = both(self.sum_squares, other.sum_squares, |a, b| a + b);
        if other.last_time >= self.last_time {
            (self.last, self.last_time) = (other.last, other.last_time);
        }
        match (&mut self.histogram, other.histogram) {
            (Some(histogram), Some(other)) => histogram.merge(&other),
            (histogram @ None, other) => *histogram = other,
            (Some(_), None) => {}
        }
    }

    /// The mean of the points.
    pub(crate) fn mean(&self) -> f64 {
        self.sum / self.count
    }
}

/// A point of a series. A simple one has count 1 and its value as sum, min and max.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct RawPoint {
    pub(super) t: i64,
    /// The mean, if it is complex.
    pub(super) value: f64,
    pub(super) complex: Option<Box<Complex>>,
}

/// What a point that stands for several measurements has.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Complex {
    pub(super) count: f64,
    pub(super) sum: f64,
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
    pub(super) sum_squares: Option<f64>,
    pub(super) histogram: Option<Histogram>,
}

impl RawPoint {
    /// A point of these numbers; a simple one if they say no more than that.
    pub(super) fn new(t: i64, value: f64, complex: Complex) -> Self {
        let is_simple = complex.count == 1.0
            && complex.histogram.is_none()
            && complex.sum == value
            && [complex.min, complex.max] == [Some(value); 2]
            && complex.sum_squares == Some(value * value);
        Self { t, value, complex: (!is_simple).then(|| Box::new(complex)) }
    }

    pub(super) fn into_summary(self) -> Summary {
        let Self { t, value, complex } = self;
        match complex.map(|complex| *complex) {
            Some(Complex { count, sum, min, max, sum_squares, histogram }) => Summary {
                count,
                sum,
                min,
                max,
                sum_squares,
                last: value,
                last_time: t,
                histogram: histogram.map(Box::new),
            },
            None => Summary::of(value, t),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(t: i64, value: f64) -> Summary {
        RawPoint { t, value, complex: None }.into_summary()
    }

    #[test]
    fn of_two_points_at_one_time_the_one_that_is_merged_last_is_the_newest() {
        let merged = |a: Summary, b: Summary| {
            let mut merged = a;
            merged.merge(b);
            (merged.last, merged.last_time)
        };
        assert_eq!(merged(point(5, 1.0), point(5, 2.0)), (2.0, 5));
        assert_eq!(merged(point(6, 1.0), point(5, 2.0)), (1.0, 6));
        assert_eq!(merged(point(5, 1.0), point(6, 2.0)), (2.0, 6));
    }

    #[test]
    fn what_one_part_does_not_tell_is_not_known_of_the_whole() {
        let mut merged = point(1, 3.0);
        merged.merge(Summary { min: None, ..point(2, -4.0) });
        assert_eq!((merged.count, merged.sum, merged.min), (2.0, -1.0, None));
        assert_eq!((merged.max, merged.sum_squares, merged.mean()), (Some(3.0), Some(25.0), -0.5));
        merged.merge(point(3, 9.0));
        assert_eq!((merged.min, merged.max), (None, Some(9.0)));
    }

    #[test]
    fn a_point_that_says_no_more_than_its_value_is_simple() {
        let complex = |count, sum_squares| Complex {
            count,
            sum: 2.0,
            min: Some(2.0),
            max: Some(2.0),
            sum_squares,
            histogram: None,
        };
        assert!(RawPoint::new(1, 2.0, complex(1.0, Some(4.0))).complex.is_none());
        assert!(RawPoint::new(1, 2.0, complex(1.0, None)).complex.is_some());
        assert!(RawPoint::new(1, 1.0, complex(2.0, Some(4.0))).complex.is_some());
    }
}
