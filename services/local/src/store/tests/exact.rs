//! What is read is exact, whatever was packed when: random points, late ones among them, packing at
//! random moments, against a list of all points that ever arrived.

use proptest::prelude::*;
use zibrato_core::histogram::Histogram;

use super::tried::{BEGIN, SOURCES, Tried};
use crate::store::chart;
use crate::store::measure::{self, Measured, MeasurementsQuery, Take};
use crate::store::model::{ChartQuery, Complex, Line, RawPoint, Step, Summary};
use crate::store::rollup::{Steps, step_of};

impl Tried {
    fn apply(&mut self, act: Act) {
        match act {
            Act::Arrive(points) => {
                for (source, age_s, point) in points {
                    self.arrive(source, RawPoint { t: self.now - age_s, ..point });
                }
            }
            Act::Pass(seconds) => self.now += seconds,
            Act::Pack(steps) => {
                for _ in 0..steps {
                    self.maintenance.step(&mut self.connection, self.now);
                }
            }
        }
    }

    fn check_chart(&self, start: i64, end: i64, step: i64, by_source: bool) {
        let query = ChartQuery { metric: 1, sources: Vec::new(), start, end, step, by_source };
        let read = chart::read(&self.connection, &query).unwrap();
        let (start, end) = (step_of(start, step), step_of(end - 1, step) + step);
        let mut merged = Steps::default();
        let mut expected = Vec::new();
        for (place, source) in SOURCES.iter().enumerate() {
            let own = self.steps(place, start, end, step);
            if by_source {
                expected.push((Some((*source).to_owned()), own));
            } else {
                own.into_iter().for_each(|(t, summary)| merged.add(t, summary));
            }
        }
        expected.push((None, merged.0));
        let expected: Vec<Line> = expected
            .into_iter()
            .filter(|(_, steps)| !steps.is_empty())
            .map(|(source, steps)| Line {
                source,
                steps: steps.into_iter().map(|(time, summary)| Step { time, summary }).collect(),
            })
            .collect();
        assert_eq!(read, expected, "{query:?}");
    }

    fn check_measurements(&self, start: Option<i64>, end: i64, resolution: i64, take: Take) {
        let query = MeasurementsQuery { metric: 1, start, end, resolution, sources: Vec::new(), take };
        let read = measure::read(&self.connection, &query).unwrap();
        let from = step_of(start.unwrap_or(0), resolution);
        let to = step_of(end, resolution).saturating_add(resolution);
        let mut expected = Vec::new();
        for (place, source) in SOURCES.iter().enumerate() {
            let mut rows: Vec<(i64, Summary)> = if resolution == 1 {
                let points = self.points(place, from, to);
                points.into_iter().map(|point| (point.t, point.into_summary())).collect()
            } else {
                self.steps(place, from, to, resolution).into_iter().collect()
            };
            match take {
                Take::All => {}
                Take::First(count) => rows.truncate(count as usize),
                Take::Last(count) => drop(rows.drain(..rows.len().saturating_sub(count as usize))),
            }
            let row = |(measure_time, summary)| Measured { source: (*source).into(), measure_time, summary };
            expected.extend(rows.into_iter().map(row));
        }
        expected.sort_by_key(|row| row.measure_time);
        assert_eq!(read.rows, expected, "{query:?}");
        assert!(!read.is_unavailable && read.next_time.is_none());
    }

    fn check_some(&self, seed: i64) {
        let (start, end) = (self.now - 4_000 + seed * 7, self.now + 60 - seed);
        for step in [1, 7, 60, 90, 300, 900, 3_600, 7_200] {
            self.check_chart(start, end, step, seed % 2 == 0);
            let count = 1 + seed % 9;
            for take in [Take::All, Take::First(count), Take::Last(count)] {
                self.check_measurements(Some(start), end, step, take);
            }
        }
        self.check_measurements(None, i64::MAX, 1, Take::Last(5));
        self.check_measurements(None, i64::MAX, 60, Take::Last(5));
    }
}

#[derive(Clone, Debug)]
enum Act {
    /// Points of a source with their age in seconds.
    Arrive(Vec<(usize, i64, RawPoint)>),
    Pass(i64),
    Pack(usize),
}

/// Whole numbers, so that sums do not depend on the order.
fn point() -> impl Strategy<Value = RawPoint> {
    let complex = (1..9_i32, -99..99_i32, any::<[bool; 3]>(), proptest::collection::vec(1..99_u64, 0..3))
        .prop_map(|(count, sum, known, values)| {
            let sum = f64::from(sum);
            let mut histogram = Histogram::new();
            values.iter().for_each(|value| histogram.record_ns(value * 1_000_003, 1));
            let some = |known: bool, value: f64| known.then_some(value);
            Box::new(Complex {
                count: f64::from(count),
                sum,
                min: some(known[0], sum - 1.0),
                max: some(known[1], sum + 1.0),
                sum_squares: some(known[2], sum * sum),
                histogram: (!values.is_empty()).then_some(histogram),
            })
        });
    (-99..99_i32, proptest::option::of(complex)).prop_map(|(value, complex)| RawPoint {
        t: 0,
        value: complex.as_ref().map_or(f64::from(value), |complex| complex.sum / complex.count),
        complex,
    })
}

fn act() -> impl Strategy<Value = Act> {
    // Mostly of now, some late by up to an hour, many at one second.
    let age_s = prop_oneof![4 => 0..30_i64, 1 => 0..3_600_i64, 1 => Just(5)];
    let points = proptest::collection::vec((0..SOURCES.len(), age_s, point()), 1..40);
    prop_oneof![
        3 => points.prop_map(Act::Arrive),
        2 => (1..900_i64).prop_map(Act::Pass),
        2 => (1..30_usize).prop_map(Act::Pack),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn reads_are_exact_at_any_moment(acts in proptest::collection::vec(act(), 1..24), seed in 0..60_i64) {
        let mut tried = Tried::new();
        for (place, act) in acts.into_iter().enumerate() {
            tried.apply(act);
            if place % 4 == 3 {
                tried.check_some(seed);
            }
        }
        tried.check_some(seed);
        tried.pack_all();
        prop_assert_eq!(tried.count("SELECT count(*) FROM tail"), 0);
        tried.check_some(seed);
    }
}

#[test]
fn a_rollup_of_one_plain_point_holds_its_value_once() {
    let mut tried = Tried::new();
    let t = BEGIN + 7;
    // The second says more of itself than a plain point would, and the third less.
    let complex = |count, min| Complex { count, sum: 2.5, min, max: min, sum_squares: None, histogram: None };
    tried.arrive(0, RawPoint { t, value: 2.5, complex: None });
    tried.arrive(1, RawPoint { t, value: 1.25, complex: Some(Box::new(complex(2.0, Some(1.0)))) });
    tried.arrive(2, RawPoint { t, value: 2.5, complex: Some(Box::new(complex(1.0, None))) });
    tried.pack_all();
    let rows = |tried: &Tried, series: i64, condition: &str| {
        tried.count(&format!("SELECT count(*) FROM rollups WHERE series = {series} AND {condition}"))
    };
    assert_eq!(rows(&tried, 1, "count = 0 AND sum = 0 AND last = 2.5"), 3);
    assert_eq!(rows(&tried, 1, "coalesce(min, max, sum_squares, buckets) IS NULL"), 3);
    assert_eq!((rows(&tried, 2, "count = 2"), rows(&tried, 3, "count = 1")), (3, 3));
    tried.now += 3_600;
    tried.check_some(3);
    // With a second point it is a row like any other.
    tried.arrive(0, RawPoint { t: t + 1, value: -4.0, complex: None });
    tried.pack_all();
    assert_eq!(rows(&tried, 1, "count = 2 AND sum = -1.5 AND min = -4 AND max = 2.5"), 3);
    tried.check_some(3);
}
