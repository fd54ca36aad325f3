//! A measurement as plain numbers, for stores that have no distributions.

use std::time::Duration;

use crate::measurement::{TimerDelta, Value};

const NS_PER_S: f64 = 1e9;

/// Which numbers a store of plain numbers gets, beside those that all get.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chosen {
    /// Percentiles of timers, each above 0 and below 100, ascending.
    pub percentiles: Vec<f64>,
    /// Whether counters come with their rate, per second.
    pub rates: bool,
}

/// One number of a measurement.
#[derive(Clone, Debug, PartialEq)]
pub struct Number {
    /// Which one: `count`, `rate`, `value`, `sum`, `min`, `max`, `mean`, or a percentile as `p99` or `p99_9`.
    pub field: String,
    /// Of durations in seconds.
    pub value: f64,
    /// When, in Unix milliseconds.
    pub time_ms: u64,
}

impl Chosen {
    /// The numbers of a change: of a counter `count`, and `rate` if asked for; of a gauge one `value` for each point; of
    /// a timer `count`, `sum`, `min`, `max`, `mean` and the percentiles. All but those of gauges have the flush's time.
    #[must_use]
    pub fn numbers(&self, value: &Value, flush_ms: u64, interval: Duration) -> Vec<Number> {
        let number = |field: &str, value| Number { field: field.to_owned(), value, time_ms: flush_ms };
        match value {
            Value::Counter { delta } => {
                let rate = self.rates.then(|| number("rate", delta / interval.as_secs_f64()));
                [number("count", *delta)].into_iter().chain(rate).collect()
            }
            Value::Gauge { points } => points
                .iter()
                .map(|point| Number { field: "value".to_owned(), value: point.value, time_ms: point.time_ms })
                .collect(),
            Value::Timer(timer) if timer.count > 0 => {
                let sum = timer.sum_ns as f64 / NS_PER_S;
                let mut numbers = vec![
                    number("count", timer.count as f64),
                    number("sum", sum),
                    number("min", timer.min_ns as f64 / NS_PER_S),
                    number("max", timer.max_ns as f64 / NS_PER_S),
                    number("mean", sum / timer.count as f64),
                ];
                for &percentile in &self.percentiles {
                    numbers.extend(
                        timer.percentile(percentile).map(|value| number(&field_of(percentile), value)),
                    );
                }
                numbers
            }
            // Only a backend that asks for them gets legacy timers one by one.
            Value::Timer(_) | Value::RawTimer { .. } => Vec::new(),
        }
    }
}

impl TimerDelta {
    /// A percentile, 0 to 100, in seconds, within [`Histogram::relative_error`](zibrato_core::histogram::Histogram) and
    /// between smallest and largest; `None` if no bucket is known.
    #[must_use]
    pub fn percentile(&self, percentile: f64) -> Option<f64> {
        let [min, max] = [self.min_ns, self.max_ns].map(|ns| ns as f64 / NS_PER_S);
        Some(self.histogram.quantile(percentile / 100.0)?.max(min).min(max))
    }
}

/// The name of a percentile: `p99`, `p99_9`.
#[must_use]
pub fn field_of(percentile: f64) -> String {
    format!("p{percentile}").replace('.', "_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{counter, gauge, raw_timer, timer};

    const INTERVAL: Duration = Duration::from_secs(10);

    fn numbers(chosen: &Chosen, value: &Value) -> Vec<(String, f64, u64)> {
        let numbers = chosen.numbers(value, 7_000, INTERVAL);
        numbers.into_iter().map(|number| (number.field, number.value, number.time_ms)).collect()
    }

    #[test]
    fn each_kind_has_its_numbers() {
        let all = Chosen { percentiles: vec![50.0, 99.9], rates: true };
        let hits = counter("info", "hits", "web", -5.0).value;
        assert_eq!(numbers(&Chosen::default(), &hits), [("count".into(), -5.0, 7_000)]);
        assert_eq!(numbers(&all, &hits), [("count".into(), -5.0, 7_000), ("rate".into(), -0.5, 7_000)]);
        let depth = gauge("info", "depth", "web", &[(1, 2.0), (3, -4.0)]).value;
        assert_eq!(numbers(&all, &depth), [("value".into(), 2.0, 1), ("value".into(), -4.0, 3)]);
        let lat = timer("info", "lat", "web", &[1_000_000_000, 3_000_000_000]).value;
        let got = numbers(&all, &lat);
        let fields: Vec<_> = got.iter().map(|(field, ..)| &field[..]).collect();
        assert_eq!(fields, ["count", "sum", "min", "max", "mean", "p50", "p99_9"]);
        let values: Vec<_> = got.iter().map(|(_, value, _)| *value).collect();
        assert_eq!(values[..5], [2.0, 4.0, 1.0, 3.0, 2.0]);
        assert!((1.0..1.012).contains(&values[5]) && (2.966..=3.0).contains(&values[6]), "{values:?}");
        assert!(numbers(&all, &Value::Timer(Box::default())).is_empty());
        assert!(numbers(&all, &raw_timer("info", "old", "web", &[(1, 0.5)]).value).is_empty());
    }
}
