//! What expires, what stays, and what can be read then.

use super::tried::{BEGIN, KEEP_ALL, SOURCES, Tried};
use crate::config::Keep;
use crate::store::chart;
use crate::store::errors::StoreError;
use crate::store::measure::{self, MeasurementsQuery, Take};
use crate::store::model::{ChartQuery, RawPoint};

const HOUR_S: i64 = 3_600;
const DAY_S: i64 = 24 * HOUR_S;
const KEEP: Keep = Keep {
    raw_s: 2 * HOUR_S as u64,
    minute_s: 6 * HOUR_S as u64,
    quarter_s: 12 * HOUR_S as u64,
    hour_s: DAY_S as u64,
};

fn chart_of(tried: &Tried, start: i64, step: i64) -> Result<f64, StoreError> {
    let query = ChartQuery { metric: 1, sources: Vec::new(), start, end: tried.now, step, by_source: false };
    let lines = chart::read(&tried.connection, &query)?;
    Ok(lines.iter().flat_map(|line| &line.steps).map(|step| step.summary.count).sum())
}

fn measured(tried: &Tried, start: Option<i64>, resolution: i64, take: Take) -> Option<usize> {
    let query = MeasurementsQuery {
        metric: 1,
        start,
        end: i64::MAX,
        resolution,
        sources: vec!["a".to_owned()],
        take,
    };
    let read = measure::read(&tried.connection, &query).unwrap();
    (!read.is_unavailable).then_some(read.rows.len())
}

/// A point a minute of each source over the two days from the beginning on.
fn two_days(keep: Keep) -> Tried {
    let mut tried = Tried::with(std::path::Path::new(":memory:"), keep);
    while tried.now < BEGIN + 2 * DAY_S {
        for source in 0..SOURCES.len() {
            tried.arrive(source, RawPoint { t: tried.now, value: 1.0, complex: None });
        }
        tried.now += 60;
        tried.maintenance.step(&mut tried.connection, tried.now);
    }
    tried.maintain();
    tried
}

#[test]
fn each_resolution_goes_at_its_time_and_what_is_kept_reads_in_full() {
    let tried = two_days(KEEP);
    let rows = |resolution: i64| {
        tried.count(&format!("SELECT count(*) FROM rollups WHERE resolution = {resolution}"))
    };
    let sources = SOURCES.len() as i64;
    // Packed up to ten minutes before the end, which is the end of an hour.
    assert_eq!(tried.count("SELECT sum(points) FROM blocks"), sources * (120 - 10));
    assert_eq!(tried.count("SELECT count(*) FROM tail"), sources * 10);
    assert_eq!((rows(60), rows(900), rows(3_600)), (sources * (360 - 10), sources * 48, sources * 24));
    let end = tried.now;
    for (hours, step) in
        [(2, 1), (2, 30), (6, 60), (6, 120), (12, 900), (12, 1_800), (24, 3_600), (24, 7_200)]
    {
        let kept_from = end - hours * HOUR_S;
        assert_eq!(chart_of(&tried, kept_from, step).unwrap(), (hours * 60 * sources) as f64, "{step}");
        let before = chart_of(&tried, kept_from - step, step).unwrap_err();
        assert!(
            matches!(before, StoreError::Unavailable { until, .. } if until == kept_from),
            "{step} {before} {kept_from}"
        );
        let points = if step < 60 { hours * 60 } else { hours * HOUR_S / step };
        assert_eq!(measured(&tried, Some(kept_from), step, Take::All), Some(points as usize), "{step}");
        assert_eq!(measured(&tried, Some(kept_from - step), step, Take::All), None, "{step}");
        // Without a start, what is kept.
        assert_eq!(measured(&tried, None, step, Take::All), Some(points as usize), "{step}");
        assert_eq!(measured(&tried, None, step, Take::Last(10_000)), Some(points as usize), "{step}");
        assert_eq!(measured(&tried, None, step, Take::Last(3)), Some(3), "{step}");
    }
}

#[test]
fn a_first_step_that_is_half_expired_is_left_out() {
    let tried = two_days(KEEP);
    let kept_from = tried.now - 2 * HOUR_S;
    // The step that holds the first point that is kept begins before it.
    let step = 7 * 60 + 1;
    assert_ne!(kept_from % step, 0);
    let whole_from = (kept_from / step + 1) * step;
    let expected = (whole_from..tried.now).filter(|t| t % 60 == 0).count() * SOURCES.len();
    assert_eq!(chart_of(&tried, kept_from, step).unwrap(), expected as f64);
    assert_eq!(chart_of(&tried, whole_from, step).unwrap(), expected as f64);
}

#[test]
fn expired_points_are_counted_and_metrics_without_points_stay() {
    let mut tried = two_days(KEEP);
    let dropped = tried.maintenance.dropped();
    let sources = SOURCES.len() as u64;
    let expired = || dropped.expired.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(expired(), sources * (2 * 1_440 - 120));
    tried.now += 10 * DAY_S;
    tried.maintain();
    assert_eq!(expired(), sources * 2 * 1_440);
    for table in ["tail", "blocks", "rollups"] {
        assert_eq!(tried.count(&format!("SELECT count(*) FROM {table}")), 0, "{table}");
    }
    assert_eq!(tried.count("SELECT count(*) FROM metrics"), 1);
    assert_eq!(tried.count("SELECT count(*) FROM series"), 3);
}

#[test]
fn a_point_that_comes_when_its_like_has_expired_is_added_where_something_is_kept() {
    let mut tried = two_days(KEEP);
    let late = tried.now - 8 * HOUR_S;
    tried.arrive(0, RawPoint { t: late, value: 5.0, complex: None });
    let from = late / 900 * 900;
    let before = chart_of(&tried, from, 900).unwrap();
    tried.now += HOUR_S;
    tried.maintain();
    assert_eq!(chart_of(&tried, from, 900).unwrap(), before);
    assert_eq!(tried.count("SELECT count(*) FROM tail"), 0);
    assert_eq!(tried.count(&format!("SELECT count(*) FROM blocks WHERE start <= {late}")), 0);
}

#[test]
fn a_sweep_over_more_than_one_step_deletes_everything() {
    let mut tried = two_days(KEEP_ALL);
    assert_eq!(
        tried.count("SELECT sum(points) FROM blocks") + tried.count("SELECT count(*) FROM tail"),
        3 * 2_880
    );
    tried.maintenance = crate::store::maintain::Maintenance::new(&mut tried.connection, KEEP).unwrap();
    tried.maintain();
    let same = two_days(KEEP);
    for table in ["blocks", "rollups", "tail"] {
        let sql = format!("SELECT count(*) FROM {table}");
        assert_eq!(tried.count(&sql), same.count(&sql), "{table}");
    }
}

#[test]
fn rows_of_deleted_series_go_in_the_background_and_the_others_stay() {
    let mut tried = two_days(KEEP_ALL);
    let of_a = measured(&tried, None, 1, Take::Last(10_000)).unwrap();
    // As a client's deletion does it.
    tried
        .connection
        .execute_batch(
            "INSERT INTO garbage SELECT id FROM series WHERE id > 1; DELETE FROM series WHERE id > 1;",
        )
        .unwrap();
    assert_eq!(chart_of(&tried, BEGIN, 3_600).unwrap(), 2_880.0);
    tried.maintenance.look_for_garbage();
    tried.now += HOUR_S;
    tried.maintain();
    for table in ["tail", "blocks", "rollups"] {
        assert_eq!(tried.count(&format!("SELECT count(*) FROM {table} WHERE series > 1")), 0, "{table}");
    }
    assert_eq!(tried.count("SELECT count(*) FROM garbage"), 0);
    assert_eq!(measured(&tried, None, 1, Take::Last(10_000)), Some(of_a));
    let deleted = tried.maintenance.dropped().deleted.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(deleted, 2 * 2_880);
}

#[test]
fn much_free_space_is_given_back_to_the_file_system() {
    let directory = tempfile::tempdir().unwrap();
    let mut tried = Tried::with(&directory.path().join("local.db"), KEEP);
    let pages = |tried: &Tried| tried.count("SELECT page_count FROM pragma_page_count");
    tried
        .connection
        .execute_batch(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)
             INSERT INTO blocks (series, start, part, points, data) SELECT 99, i * 600, 0, 1, randomblob(4000) FROM n;
             INSERT INTO garbage VALUES (99);",
        )
        .unwrap();
    assert!(pages(&tried) > 10_000);
    tried.maintain();
    // Half of what was free stays for what comes next.
    assert!((4_000..6_000).contains(&pages(&tried)), "{}", pages(&tried));
    assert_eq!(tried.count("SELECT count(*) FROM blocks"), 0);
}
