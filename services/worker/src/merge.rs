//! Merges what a store cannot tell apart: series that are equal but for their level.

use std::hash::BuildHasher as _;
use std::mem::{Discriminant, discriminant};
use std::sync::Arc;

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};

use crate::measurement::{GaugePoint, Measurement, TimerDelta, Value};
use crate::units::Units;

type Identity<'a> = (&'a str, &'a str, &'a str, &'a str, &'a [(String, String)], u8, Discriminant<Value>);

/// Merges series that are equal, or equal but for their level unless levels are kept, in the order of their first
/// appearance.
///
/// Counters are added, distributions are merged, gauge points are put in the order of their times.
/// Records of a timer that came as distribution and one by one stay apart. A merged series is its
/// first part, which remembers the others.
pub fn merge_series(mut measurements: Vec<Measurement>, keeps_levels: bool) -> Vec<Measurement> {
    let hasher = DefaultHashBuilder::default();
    let of = |measurement: &Measurement| hasher.hash_one(identity(measurement, keeps_levels));
    let mut places: HashTable<usize> = HashTable::with_capacity(measurements.len());
    // What was merged stays where it is until the end, behind the first part of its series.
    let mut is_merged = vec![false; measurements.len()];
    for (at, is_merged) in is_merged.iter_mut().enumerate() {
        let (before, rest) = measurements.split_at_mut(at);
        let Some(measurement) = rest.first() else { continue };
        let same = |&place: &usize| {
            before
                .get(place)
                .is_some_and(|first| identity(first, keeps_levels) == identity(measurement, keeps_levels))
        };
        match places.entry(of(measurement), same, |&place| before.get(place).map_or(0, of)) {
            Entry::Vacant(place) => _ = place.insert(at),
            Entry::Occupied(place) => {
                let Some(first) = before.get_mut(*place.get()) else { continue };
                join(&mut first.value, &measurement.value);
                if !first.levels().any(|level| *level == *measurement.series.level) {
                    first.merged.push(Arc::clone(&measurement.series));
                }
                *is_merged = true;
            }
        }
    }
    let mut is_merged = is_merged.into_iter();
    measurements.retain(|_| !is_merged.next().unwrap_or(false));
    measurements
}

/// Keeps the last `max` points of each gauge; returns how many sets were given up.
pub fn keep_last_points(measurements: &mut [Measurement], max: usize) -> u64 {
    let mut removed = 0;
    for measurement in measurements {
        if let Value::Gauge { points } = &mut measurement.value {
            let excess = points.len().saturating_sub(max);
            points.drain(..excess);
            removed += excess as u64;
        }
    }
    removed
}

/// The last of the points of each instant of a store, which is `instant_ms` long: the store would keep only that one.
/// The points are in the order of their times.
pub fn last_of_each_instant(points: &[GaugePoint], instant_ms: u64) -> impl Iterator<Item = GaugePoint> {
    let instant = move |point: &GaugePoint| point.time_ms / instant_ms.max(1);
    points
        .chunk_by(move |left, right| instant(left) == instant(right))
        .filter_map(|same| same.last().copied())
}

/// What measurements stand for in the units of the law; a series is one point here.
pub fn units_of(measurements: &[Measurement]) -> Units {
    let mut units = Units::default();
    for measurement in measurements {
        units.add_point(measurement.value.units());
    }
    units
}

fn identity(measurement: &Measurement, keeps_levels: bool) -> Identity<'_> {
    let (series, value) = (&*measurement.series, &measurement.value);
    let level = if keeps_levels { &series.level } else { "" };
    (level, &series.name, &series.source, &series.unit, &series.tags, series.kind.code(), discriminant(value))
}

pub(crate) fn join(present: &mut Value, other: &Value) {
    match (present, other) {
        (Value::Counter { delta }, Value::Counter { delta: more }) => *delta += more,
        (Value::Gauge { points }, Value::Gauge { points: more })
        | (Value::RawTimer { points }, Value::RawTimer { points: more }) => {
            points.extend_from_slice(more);
            // Stable, so points of one instant stay in the order of their levels.
            points.sort_by_key(|point| point.time_ms);
        }
        (Value::Timer(timer), Value::Timer(more)) => join_timers(timer, more),
        // The identity contains the variant.
        _ => {}
    }
}

fn join_timers(timer: &mut TimerDelta, more: &TimerDelta) {
    timer.count = timer.count.saturating_add(more.count);
    timer.sum_ns = timer.sum_ns.saturating_add(more.sum_ns);
    timer.sum_squares_ns2 = timer.sum_squares_ns2.saturating_add(more.sum_squares_ns2);
    timer.min_ns = timer.min_ns.min(more.min_ns);
    timer.max_ns = timer.max_ns.max(more.max_ns);
    timer.histogram.merge(&more.histogram);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{counter, gauge, raw_timer, timer};

    #[test]
    fn series_equal_but_for_their_level_become_one() {
        let merged = merge_series(
            vec![
                counter("info", "hits", "web", 2.0),
                gauge("info", "depth", "web", &[(3_000, 1.0)]),
                counter("debug", "hits", "web", 3.5),
                gauge("debug", "depth", "web", &[(2_000, 0.0)]),
                timer("info", "lat", "web", &[10, 30]),
                timer("debug", "lat", "web", &[20]),
            ],
            false,
        );
        assert_eq!(merged.len(), 3);
        assert!(matches!(merged[0].value, Value::Counter { delta } if delta == 5.5));
        let Value::Gauge { points } = &merged[1].value else { panic!() };
        assert_eq!(points.iter().map(|point| point.time_ms).collect::<Vec<_>>(), [2_000, 3_000]);
        let Value::Timer(lat) = &merged[2].value else { panic!() };
        assert_eq!((lat.count, lat.sum_ns, lat.sum_squares_ns2), (3, 60, 1_400));
        assert_eq!((lat.min_ns, lat.max_ns, lat.histogram.total()), (10, 30, 3));
        for measurement in &merged {
            assert_eq!(Vec::from_iter(measurement.levels()), ["info", "debug"]);
        }
    }

    #[test]
    fn series_that_differ_in_anything_else_stay_apart() {
        let mut tagged = counter("info", "hits", "web", 1.0);
        Arc::make_mut(&mut tagged.series).tags = vec![("route".to_owned(), "a".to_owned())];
        let all = [
            counter("info", "hits", "web", 1.0),
            counter("info", "hits", "api", 1.0),
            counter("info", "misses", "web", 1.0),
            gauge("info", "hits", "web", &[(1, 1.0)]),
            timer("info", "lat", "web", &[1]),
            raw_timer("info", "lat", "web", &[(1, 0.5)]),
            tagged,
        ];
        let merged = merge_series(all.to_vec(), false);
        assert_eq!(merged.len(), all.len());
        assert!(units_of(&merged).same(&units_of(&all)));
        assert_eq!(units_of(&merged).timer_records, 2);
    }

    #[test]
    fn where_levels_are_kept_only_equal_series_become_one() {
        let all =
            [("info", 1.0), ("debug", 2.0), ("info", 4.0)].map(|(level, n)| counter(level, "hits", "web", n));
        let deltas = |keeps_levels| {
            let merged = merge_series(all.to_vec(), keeps_levels);
            merged
                .iter()
                .map(|m| (units_of(std::slice::from_ref(m)).counter_sum, m.levels().count()))
                .collect::<Vec<_>>()
        };
        assert_eq!(deltas(true), [(5.0, 1), (2.0, 1)]);
        assert_eq!(deltas(false), [(7.0, 2)]);
    }

    #[test]
    fn a_store_of_few_points_gets_the_last_ones() {
        let mut one = [gauge("info", "depth", "web", &[(1, 1.0), (2, 2.0), (3, 3.0)])];
        assert_eq!(keep_last_points(&mut one, 1), 2);
        assert!(
            matches!(&one[0].value, Value::Gauge { points } if points.len() == 1 && points[0].value == 3.0)
        );
        assert_eq!(keep_last_points(&mut one, 1), 0);
    }

    #[test]
    fn of_points_of_one_instant_the_last_is_left() {
        let point = |time_ms, value| GaugePoint { time_ms, value };
        let points =
            [point(999, 1.0), point(1_000, 2.0), point(1_000, 3.0), point(1_999, 4.0), point(3_000, 5.0)];
        let left = |instant_ms| Vec::from_iter(last_of_each_instant(&points, instant_ms));
        assert_eq!(left(1_000), [points[0], points[3], points[4]]);
        assert_eq!(left(1), [points[0], points[2], points[3], points[4]]);
        assert_eq!(left(0), left(1));
        assert_eq!(last_of_each_instant(&[], 1).count(), 0);
    }
}
