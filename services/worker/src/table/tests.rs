use super::*;
use crate::measurement::{TotalValue, Value};
use crate::merge::units_of;
use crate::test_support::{counter, gauge, raw_timer, timer};

const INTERVAL: Duration = Duration::from_secs(10);
const TOTALS: Shape = Shape { keeps_levels: false, totals: true, raw_timers: false };

fn at(unix_ms: u64) -> FlushTime {
    FlushTime { unix_ms, interval: INTERVAL }
}

fn table(limits: SeriesLimits, shape: Shape) -> SeriesTable {
    SeriesTable::restore(limits, shape, [])
}

/// Name, source, change and total of the counters that a flush brought.
fn counters(prepared: &Prepared) -> Vec<(String, String, f64, Option<f64>)> {
    prepared
        .measurements
        .iter()
        .filter_map(|measurement| {
            let Value::Counter { delta } = measurement.value else { return None };
            let total = measurement.total.as_ref().map(|total| match total.value {
                TotalValue::Counter(sum) => sum,
                _ => panic!(),
            });
            Some((measurement.series.name.clone(), measurement.series.source.to_string(), delta, total))
        })
        .collect()
}

fn row(
    name: &str,
    source: &str,
    delta: f64,
    total: impl Into<Option<f64>>,
) -> (String, String, f64, Option<f64>) {
    (name.to_owned(), source.to_owned(), delta, total.into())
}

#[test]
fn changes_add_up_only_when_they_are_committed_and_survive_a_restart() {
    let mut table = table(SeriesLimits::default(), TOTALS);
    let mut rows: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
    let mut flush = |table: &mut SeriesTable, ms, delta, is_kept: bool| {
        let prepared = table.prepare(
            vec![
                counter("info", "hits", "web", delta),
                gauge("info", "depth", "web", &[(1, 1.0), (2, delta)]),
                timer("info", "lat", "web", &[1_000, delta as u64]),
                raw_timer("info", "old", "web", &[(1, 0.5)]),
            ],
            at(ms),
            |_| None,
        );
        let kept = Vec::from_iter(table.rows());
        if is_kept {
            table.commit();
            rows.extend(kept.iter().flat_map(Rows::iter).map(|(key, value)| (key.to_vec(), value.to_vec())));
        } else {
            table.abort();
        }
        (prepared.measurements.iter().map(|m| m.total.clone().unwrap()).collect::<Vec<_>>(), rows.clone())
    };
    flush(&mut table, 20_000, 2.0, true);
    flush(&mut table, 30_000, 100.0, false);
    let (totals, rows_kept) = flush(&mut table, 40_000, 3.0, true);
    assert!(totals.iter().all(|total| total.since_ms == 10_000), "the flush before the first one");
    assert_eq!((&totals[0].value, &totals[1].value), (&TotalValue::Counter(5.0), &TotalValue::Gauge(3.0)));
    let TotalValue::Timer(lat) = &totals[2].value else { panic!() };
    assert_eq!((lat.count, lat.sum_ns, lat.histogram.total()), (4, 2_005, 4));
    let TotalValue::Timer(old) = &totals[3].value else { panic!() };
    assert_eq!((old.count, old.sum_ns), (2, 1_000_000_000));

    let mut restored = SeriesTable::restore(SeriesLimits::default(), TOTALS, rows_kept.clone());
    assert_eq!((restored.len(), restored.rows_damaged()), (4, 0));
    let (again, _) = flush(&mut restored, 50_000, 4.0, true);
    assert_eq!((&again[0].value, again[0].since_ms), (&TotalValue::Counter(9.0), 10_000));
    let TotalValue::Timer(lat) = &again[2].value else { panic!() };
    assert_eq!((lat.count, lat.sum_ns, lat.histogram.total()), (6, 3_009, 6));

    let damaged = rows_kept.into_iter().map(|(key, mut value)| {
        value[1] ^= 1;
        (key, value)
    });
    let restored = SeriesTable::restore(SeriesLimits::default(), TOTALS, damaged);
    assert_eq!((restored.len(), restored.rows_damaged()), (0, 4));
}

#[test]
fn a_series_that_does_not_change_is_told_again_and_forgotten_at_last() {
    let limits = SeriesLimits { idle: Duration::from_secs(100), ..SeriesLimits::default() };
    let mut table = table(limits, TOTALS);
    let mut flush = |ms, measurements: Vec<Measurement>| {
        let changed = measurements.len();
        let prepared = table.prepare(measurements, at(ms), |_| None);
        assert_eq!(
            table.rows().map(|rows| rows.len()).sum::<usize>(),
            changed,
            "what is told again is in its row already"
        );
        table.commit();
        prepared
    };
    flush(10_000, vec![counter("info", "hits", "web", 2.0), gauge("info", "depth", "web", &[(1, 7.0)])]);
    assert!(flush(69_999, vec![]).measurements.is_empty());
    let told = flush(70_000, vec![]);
    assert_eq!(counters(&told), [row("hits", "web", 0.0, 2.0)]);
    assert_eq!(units_of(&told.measurements).points, 2, "the gauge too");
    assert_eq!(units_of(&told.measurements).gauge_sets, 0);
    assert!(flush(71_000, vec![]).measurements.is_empty());
    let gone = flush(110_000, vec![counter("info", "hits", "web", 1.0)]);
    assert_eq!(gone.expired.iter().map(|series| &series.name[..]).collect::<Vec<_>>(), ["depth"]);
    assert_eq!((gone.removed.len(), counters(&gone)), (1, vec![row("hits", "web", 1.0, 3.0)]));
    assert!(flush(120_000, vec![]).expired.is_empty());
}

#[test]
fn beyond_the_limit_of_its_metric_a_series_goes_to_the_metrics_overflow() {
    let limits = SeriesLimits { metric_series_max: 2, ..SeriesLimits::default() };
    let mut table = table(limits, Shape::default());
    let all = ["a", "b", "c", "d"].map(|source| counter("info", "hits", source, 1.0));
    let expected =
        [row("hits", "a", 1.0, None), row("hits", "b", 1.0, None), row("hits", "overflow", 2.0, None)];
    for ms in [10_000, 20_000] {
        let prepared = table.prepare(all.to_vec(), at(ms), |_| None);
        assert_eq!(counters(&prepared), expected);
        assert_eq!(prepared.overflowed, [("hits".to_owned(), 2)].into());
        assert!(units_of(&prepared.measurements).same(&units_of(&all)));
        table.commit();
        assert_eq!(table.len(), 3);
    }
    let other = table.prepare(vec![counter("info", "misses", "z", 1.0)], at(30_000), |_| None);
    assert_eq!(counters(&other), [row("misses", "z", 1.0, None)], "other metrics notice nothing");
}

#[test]
fn beyond_the_limit_in_total_unknown_metrics_share_one_series() {
    let limits = SeriesLimits { series_max: 2, idle: Duration::from_secs(60), ..SeriesLimits::default() };
    let mut table = table(limits, Shape::default());
    let all = ["m1", "m2", "m3", "m4"].map(|name| counter("info", name, "web", 1.0));
    let prepared =
        table.prepare([&all[..], &[counter("info", "m1", "api", 5.0)]].concat(), at(10_000), |_| None);
    table.commit();
    let expected = [
        row("m1", "web", 1.0, None),
        row("m2", "web", 1.0, None),
        row("m1", "overflow", 5.0, None),
        row("zibrato.overflow.counter", "overflow", 2.0, None),
    ];
    assert_eq!(counters(&prepared), expected);
    // There is room again once the known ones are forgotten.
    let gone = table.prepare(vec![], at(80_000), |_| None);
    table.commit();
    assert!(table.is_empty());
    assert_eq!((gone.forgotten, gone.expired.len()), (4, 0), "only who wants totals is told");
    let prepared = table.prepare(vec![counter("info", "m3", "web", 1.0)], at(90_000), |_| None);
    assert_eq!(counters(&prepared), [row("m3", "web", 1.0, None)]);
}

#[test]
fn levels_stay_apart_only_where_the_backend_keeps_them() {
    for (keeps_levels, known) in [(true, 2), (false, 1)] {
        let mut table = table(SeriesLimits::default(), Shape { keeps_levels, ..TOTALS });
        for (ms, level) in [(10_000, "info"), (20_000, "debug")] {
            let _ = table.prepare(vec![counter(level, "hits", "web", 1.0)], at(ms), |_| None);
            table.commit();
        }
        assert_eq!(table.len(), known);
    }
}

#[test]
fn offenders_without_number_are_counted_together() {
    let limits = SeriesLimits { series_max: 0, ..SeriesLimits::default() };
    let mut table = table(limits, Shape::default());
    let all = (0..OFFENDERS_MAX + 5).map(|at| counter("info", &format!("m{at}"), "s", 1.0)).collect();
    let prepared = table.prepare(all, at(10_000), |_| None);
    assert_eq!((prepared.overflowed.len(), prepared.overflowed["others"]), (OFFENDERS_MAX + 1, 5));
    assert_eq!(counters(&prepared).len(), 1);
}

#[test]
fn a_series_that_looks_like_one_of_the_overflow_is_added_up_with_it() {
    let limits = SeriesLimits { metric_series_max: 1, ..SeriesLimits::default() };
    let mut table = table(limits, TOTALS);
    let mut flush = |ms, others: f64| {
        let series = [("web", 1.0), (OVERFLOW_SOURCE, 2.0), ("api", others)];
        let all = series.map(|(source, delta)| counter("info", "hits", source, delta)).to_vec();
        let prepared = table.prepare(all, at(ms), |_| None);
        table.commit();
        counters(&prepared)
    };
    let first = flush(10_000, 4.0);
    assert_eq!(first, [row("hits", "web", 1.0, 1.0), row("hits", OVERFLOW_SOURCE, 6.0, 6.0)]);
    let second = flush(20_000, 8.0);
    assert_eq!(second, [row("hits", "web", 1.0, 2.0), row("hits", OVERFLOW_SOURCE, 10.0, 16.0)]);
}
