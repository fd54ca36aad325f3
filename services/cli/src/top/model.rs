//! What is known of each series: a minute of it, second by second, and the figures that are shown.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use zibrato_core::histogram::Histogram;
use zibrato_core::kind::Kind;
use zibrato_worker::measurement::{Measurement, SeriesKey, Value};

use crate::percentile::quantile_within;

/// Most series held. Beyond it one that was idle for [`HISTORY_S`] makes room; if there is none, the
/// new one is left out and counted.
pub(crate) const SERIES_MAX: usize = 5_000;
/// Seconds of history: sparklines, and smallest and largest value of gauges.
pub(crate) const HISTORY_S: u64 = 60;
/// Seconds over which rates and percentiles are taken.
pub(crate) const RECENT_S: u64 = 10;

/// All series.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    series: Vec<Series>,
    places: HashMap<Arc<SeriesKey>, usize>,
    /// Seconds taken in.
    second: u64,
    left_out: u64,
}

/// One series.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) key: Arc<SeriesKey>,
    /// The name, with tags as `{key=value}`.
    pub(crate) label: String,
    pub(crate) figures: Figures,
    /// The seconds in which something happened, oldest first.
    seconds: VecDeque<(u64, Second)>,
}

/// What happened in one second.
#[derive(Clone, Debug)]
enum Second {
    Counter {
        delta: f64,
    },
    Gauge {
        last: f64,
        min: f64,
        max: f64,
        points: usize,
    },
    /// The histogram only while it is recent. In seconds.
    Timer {
        count: u64,
        p99: Option<f64>,
        min: f64,
        max: f64,
        histogram: Option<Box<Histogram>>,
    },
}

/// What is shown of a series. Durations are in seconds; what does not apply is `None`.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Figures {
    /// A second: a counter's increase, a timer's records, the windows in which a gauge was set.
    pub(crate) rate: f64,
    /// A gauge's value set last, a timer's median.
    pub(crate) typical: Option<f64>,
    /// A gauge's smallest value of the last minute, a timer's 95th percentile.
    pub(crate) low: Option<f64>,
    /// A timer's 99th percentile.
    pub(crate) p99: Option<f64>,
    /// The largest: of a gauge in the last minute, of a timer in the last seconds.
    pub(crate) max: Option<f64>,
}

impl Model {
    /// Takes in what happened in one second.
    pub(crate) fn absorb(&mut self, measurements: &[Measurement]) {
        self.second += 1;
        for measurement in measurements {
            let Some(at) = self.place(&measurement.series) else {
                self.left_out += 1;
                continue;
            };
            if let Some(second) = second(&measurement.value) {
                self.series[at].push(self.second, second);
            }
        }
        let (now, observed_s) = (self.second, self.second.min(RECENT_S));
        self.series.iter_mut().for_each(|series| series.advance(now, observed_s));
    }

    /// Shows a gauge with the value it has, although nobody set it since. It takes nobody's place.
    pub(crate) fn know(&mut self, key: &Arc<SeriesKey>, value: f64) {
        if self.series.len() == SERIES_MAX || self.places.contains_key(key) {
            return;
        }
        if let Some(at) = self.place(key) {
            self.series[at].figures.typical = Some(value);
        }
    }

    /// The series, in no order.
    pub(crate) fn series(&self) -> &[Series] {
        &self.series
    }

    /// How often a series was left out because there were too many.
    pub(crate) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// The last minute of a series, one value for each second; shorter if less was seen.
    ///
    /// A value stands for its second and the one before. A publisher's windows are as long as our
    /// seconds, as a rule, and now and then one second sees two of them and the next one none.
    pub(crate) fn history(&self, series: &Series) -> Vec<Option<f64>> {
        let length = self.second.min(HISTORY_S);
        let first = self.second - length + 1;
        // What did not count did nothing; of a timer or gauge that did nothing there is no value.
        let idle = if series.key.kind == Kind::Counter { Some(0.0) } else { None };
        let mut values = vec![idle; length as usize];
        for (at, second) in &series.seconds {
            if let Some(value) = at.checked_sub(first).and_then(|at| values.get_mut(at as usize)) {
                *value = second.bar();
            }
        }
        // From the last one on, so that each still finds the one before it as it was.
        for at in (1..values.len()).rev() {
            values[at] = match (series.key.kind, values[at - 1], values[at]) {
                (Kind::Counter, Some(before), Some(value)) => Some(before.midpoint(value)),
                (Kind::Timer, Some(before), Some(value)) => Some(before.max(value)),
                (_, before, value) => value.or(before),
            };
        }
        values
    }

    /// The place of a series, a new one if it is new; `None` if there is no room.
    fn place(&mut self, key: &Arc<SeriesKey>) -> Option<usize> {
        if let Some(&at) = self.places.get(key) {
            return Some(at);
        }
        let at = if self.series.len() < SERIES_MAX {
            self.series.push(Series::new(key));
            self.series.len() - 1
        } else {
            let at = self.series.iter().position(|series| series.seconds.is_empty())?;
            let old = std::mem::replace(&mut self.series[at], Series::new(key));
            self.places.remove(&old.key);
            at
        };
        self.places.insert(Arc::clone(key), at);
        Some(at)
    }
}

impl Series {
    fn new(key: &Arc<SeriesKey>) -> Self {
        let mut label = key.name.clone();
        if !key.tags.is_empty() {
            let tags: Vec<_> = key.tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
            label = format!("{label}{{{}}}", tags.join(","));
        }
        Self { key: Arc::clone(key), label, figures: Figures::default(), seconds: VecDeque::new() }
    }

    fn push(&mut self, now: u64, second: Second) {
        match self.seconds.back_mut() {
            // A series may come with two values: a gauge that was a legacy timer as well.
            Some((at, same)) if *at == now => *same = second,
            _ => self.seconds.push_back((now, second)),
        }
    }

    /// Drops what is too old and computes the figures anew.
    fn advance(&mut self, now: u64, observed_s: u64) {
        while self.seconds.front().is_some_and(|(at, _)| at + HISTORY_S <= now) {
            self.seconds.pop_front();
        }
        for (at, second) in &mut self.seconds {
            if let Second::Timer { histogram, .. } = second
                && *at + RECENT_S <= now
            {
                *histogram = None;
            }
        }
        let typical = if self.key.kind == Kind::Gauge { self.figures.typical } else { None };
        self.figures = Figures { typical, ..Figures::default() };
        let mut events = 0.0;
        let mut merged: Option<Histogram> = None;
        let mut timer_min: Option<f64> = None;
        for (at, second) in &self.seconds {
            let is_recent = at + RECENT_S > now;
            let figures = &mut self.figures;
            match second {
                Second::Counter { delta } if is_recent => events += delta,
                Second::Timer { count, min, max, histogram, .. } if is_recent => {
                    events += *count as f64;
                    timer_min = Some(timer_min.map_or(*min, |old| old.min(*min)));
                    figures.max = Some(figures.max.map_or(*max, |old: f64| old.max(*max)));
                    if let Some(histogram) = histogram {
                        merged.get_or_insert_with(Histogram::new).merge(histogram);
                    }
                }
                Second::Gauge { last, min, max, points } => {
                    events += if is_recent { *points as f64 } else { 0.0 };
                    figures.typical = Some(*last);
                    figures.low = Some(figures.low.map_or(*min, |old: f64| old.min(*min)));
                    figures.max = Some(figures.max.map_or(*max, |old: f64| old.max(*max)));
                }
                Second::Counter { .. } | Second::Timer { .. } => {}
            }
        }
        self.figures.rate = events / observed_s.max(1) as f64;
        if let Some(histogram) = merged {
            let at = |q| quantile_within(&histogram, q, timer_min, self.figures.max);
            (self.figures.typical, self.figures.low, self.figures.p99) = (at(0.5), at(0.95), at(0.99));
        }
    }
}

impl Second {
    /// What a sparkline shows of it.
    fn bar(&self) -> Option<f64> {
        match self {
            Self::Counter { delta } => Some(*delta),
            Self::Gauge { last, .. } => Some(*last),
            Self::Timer { p99, .. } => *p99,
        }
    }
}

fn second(value: &Value) -> Option<Second> {
    Some(match value {
        Value::Counter { delta } => Second::Counter { delta: *delta },
        Value::Gauge { points } => {
            let values = || points.iter().map(|point| point.value);
            Second::Gauge {
                last: values().next_back()?,
                min: values().fold(f64::INFINITY, f64::min),
                max: values().fold(f64::NEG_INFINITY, f64::max),
                points: points.len(),
            }
        }
        Value::Timer(timer) => {
            let [min, max] = [timer.min_ns, timer.max_ns].map(|ns| ns as f64 / 1e9);
            Second::Timer {
                count: timer.count,
                p99: quantile_within(&timer.histogram, 0.99, Some(min), Some(max)),
                min,
                max,
                histogram: Some(Box::new(timer.histogram.clone())),
            }
        }
        // The feed's ledger folds every timer.
        Value::RawTimer { .. } => return None,
    })
}

#[cfg(test)]
mod tests {
    use zibrato_worker::measurement::{GaugePoint, TimerDelta};

    use super::*;

    fn key(name: &str, kind: Kind) -> Arc<SeriesKey> {
        Arc::new(SeriesKey {
            level: "info".into(),
            kind,
            name: name.to_owned(),
            source: "s".into(),
            unit: String::new(),
            tags: Vec::new(),
        })
    }

    fn measurement(key: &Arc<SeriesKey>, value: Value) -> Measurement {
        Measurement { series: Arc::clone(key), merged: Vec::new(), value, total: None }
    }

    fn counter(key: &Arc<SeriesKey>, delta: f64) -> Measurement {
        measurement(key, Value::Counter { delta })
    }

    fn timer(key: &Arc<SeriesKey>, ns: u64, count: u64) -> Measurement {
        let mut histogram = Histogram::new();
        histogram.record_ns(ns, count);
        let value = Value::Timer(Box::new(TimerDelta {
            count,
            sum_ns: u128::from(ns * count),
            sum_squares_ns2: 0,
            min_ns: ns,
            max_ns: ns,
            histogram,
        }));
        measurement(key, value)
    }

    fn gauge(key: &Arc<SeriesKey>, values: &[f64]) -> Measurement {
        let points = values.iter().map(|&value| GaugePoint { time_ms: 0, value }).collect();
        measurement(key, Value::Gauge { points })
    }

    fn idle(model: &mut Model, seconds: u64) {
        (0..seconds).for_each(|_| model.absorb(&[]));
    }

    #[test]
    fn a_rate_is_taken_over_what_was_seen_and_over_ten_seconds_at_most() {
        let (mut model, key) = (Model::default(), key("c", Kind::Counter));
        model.absorb(&[counter(&key, 30.0)]);
        assert_eq!(model.series()[0].figures.rate, 30.0);
        model.absorb(&[counter(&key, 10.0)]);
        assert_eq!(model.series()[0].figures.rate, 20.0);
        idle(&mut model, 8);
        assert_eq!(model.series()[0].figures.rate, 4.0);
        idle(&mut model, 1);
        assert_eq!(model.series()[0].figures.rate, 1.0, "the first second is too old");
        assert_eq!(model.history(&model.series()[0])[..4], [Some(30.0), Some(20.0), Some(5.0), Some(0.0)]);
        assert_eq!(model.history(&model.series()[0]).len(), 11);
    }

    #[test]
    fn percentiles_come_from_merged_buckets_of_the_last_seconds() {
        let (mut model, key) = (Model::default(), key("t", Kind::Timer));
        model.absorb(&[timer(&key, 1_000_000, 98)]);
        model.absorb(&[timer(&key, 5_000_000, 2)]);
        let near = |value: Option<f64>, expected: f64| (value.unwrap() / expected - 1.0).abs() < 0.02;
        let figures = model.series()[0].figures.clone();
        assert!(near(figures.typical, 0.001) && near(figures.low, 0.001), "{figures:?}");
        assert!(near(figures.p99, 0.005) && figures.max == Some(0.005), "{figures:?}");
        assert_eq!(figures.rate, 50.0);
        let history = model.history(&model.series()[0]);
        assert!(near(history[0], 0.001) && near(history[1], 0.005));
        let (mut one, key) = (Model::default(), self::key("one", Kind::Timer));
        one.absorb(&[timer(&key, 2_500_000_000, 1)]);
        let figures = &one.series()[0].figures;
        assert_eq!([figures.typical, figures.low, figures.p99, figures.max], [Some(2.5); 4]);
        assert_eq!(one.history(&one.series()[0])[0], Some(2.5));
        idle(&mut model, RECENT_S);
        assert_eq!(model.series()[0].figures, Figures::default());
        assert!(near(model.history(&model.series()[0])[0], 0.001), "the sparkline goes back further");
    }

    #[test]
    fn windows_that_beat_with_the_seconds_leave_no_holes_in_the_history() {
        let mut model = Model::default();
        let keys = [Kind::Counter, Kind::Timer, Kind::Gauge].map(|kind| key("x", kind));
        for second in 0..20 {
            let two = [counter(&keys[0], 20.0), timer(&keys[1], 1_000_000, 2), gauge(&keys[2], &[3.0, 3.0])];
            model.absorb(if second % 2 == 0 { &two } else { &[] });
        }
        for series in model.series() {
            let history = model.history(series);
            assert!(history[1..].iter().all(|value| value.is_some() && *value == history[1]), "{history:?}");
        }
    }

    #[test]
    fn a_gauge_keeps_its_last_value_and_the_extremes_of_a_minute() {
        let (mut model, key) = (Model::default(), key("g", Kind::Gauge));
        model.absorb(&[gauge(&key, &[5.0, -2.0])]);
        model.absorb(&[gauge(&key, &[3.0])]);
        let expected = Figures { rate: 1.5, typical: Some(3.0), low: Some(-2.0), p99: None, max: Some(5.0) };
        assert_eq!(model.series()[0].figures, expected);
        idle(&mut model, HISTORY_S);
        let expected = Figures { typical: Some(3.0), ..Figures::default() };
        assert_eq!(model.series()[0].figures, expected, "nothing but the value set last is left");
    }

    #[test]
    fn a_gauge_is_known_until_it_is_set_and_takes_nobodys_place() {
        let (mut model, depth) = (Model::default(), key("g", Kind::Gauge));
        model.know(&depth, 7.0);
        idle(&mut model, HISTORY_S + 1);
        assert_eq!(model.series()[0].figures, Figures { typical: Some(7.0), ..Figures::default() });
        model.absorb(&[gauge(&depth, &[3.0])]);
        model.know(&depth, 7.0);
        assert_eq!(model.series()[0].figures.typical, Some(3.0), "what is set is newer");
        (0..SERIES_MAX).for_each(|i| model.know(&key(&format!("g{i}"), Kind::Gauge), 0.0));
        assert_eq!((model.series().len(), model.left_out()), (SERIES_MAX, 0));
        model.absorb(&[counter(&key("c", Kind::Counter), 1.0)]);
        assert!(model.series().iter().any(|series| series.label == "c"), "what happens comes first");
    }

    #[test]
    fn a_new_series_takes_the_place_of_an_idle_one_or_is_left_out() {
        let mut model = Model::default();
        let keys: Vec<_> = (0..SERIES_MAX).map(|i| key(&format!("c{i}"), Kind::Counter)).collect();
        let all: Vec<_> = keys.iter().map(|key| counter(key, 1.0)).collect();
        model.absorb(&all);
        let one_more = counter(&key("more", Kind::Counter), 1.0);
        model.absorb(std::slice::from_ref(&one_more));
        assert_eq!((model.series().len(), model.left_out()), (SERIES_MAX, 1));
        idle(&mut model, HISTORY_S - 2);
        model.absorb(&all[1..]);
        model.absorb(std::slice::from_ref(&one_more));
        assert_eq!((model.series().len(), model.left_out()), (SERIES_MAX, 1));
        let names: Vec<_> = model.series().iter().map(|series| series.label.as_str()).collect();
        assert!(names.contains(&"more") && !names.contains(&"c0"));
        assert_eq!(model.places.len(), SERIES_MAX);
    }

    #[test]
    fn tags_are_part_of_the_label() {
        let mut with_tags = SeriesKey::clone(&key("c", Kind::Counter));
        with_tags.tags = vec![("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())];
        let mut model = Model::default();
        model.absorb(&[counter(&Arc::new(with_tags), 1.0)]);
        assert_eq!(model.series()[0].label, "c{a=1,b=2}");
    }
}
