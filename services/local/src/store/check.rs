//! `--check-db`: whether the file is whole and says the same at each resolution.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, OpenFlags, TransactionBehavior, params};

use super::block::{self, BLOCK_S};
use super::errors::StoreError;
use super::model::Summary;
use super::rollup::{self, Order, RESOLUTIONS, Steps, expired_until, step_of};
use super::schema;

/// The most findings of one check; further ones are counted only.
const FINDINGS_MAX: usize = 100;
/// How far sums may differ, relative to the sum of magnitudes: they are added in another order.
const SUM_ERROR_MAX: f64 = 1e-9;
/// After how many steps of SQLite's machine progress is told.
const STEPS_PER_TICK: i32 = 100_000;

/// What a check of the database found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CheckReport {
    /// What is wrong, a line each; at most 100.
    pub findings: Vec<String>,
    /// All findings.
    pub findings_total: usize,
    /// Metrics.
    pub metrics: u64,
    /// Series.
    pub series: u64,
    /// Points that are kept as they were posted.
    pub points: u64,
    /// Rows of rollups.
    pub rollups: u64,
}

/// A database that is not as it should be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the database {} is damaged: {findings} findings; restore a copy of it, or move it away and start anew", db.display())]
pub struct CheckError {
    /// The file.
    pub db: PathBuf,
    /// How many.
    pub findings: usize,
}

/// Reads the whole database without changing it, also while a receiver uses it. `tick` is called
/// now and then with what is being checked.
///
/// # Errors
///
/// [`StoreError`] if the file is not there, not ours, or of another version.
pub fn check_db(path: &Path, tick: impl FnMut(&str) + Send + 'static) -> Result<CheckReport, StoreError> {
    let opening = |error| schema::opening(path, error);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = super::connect(path, flags)?;
    match schema::version(&connection, path)? {
        Some(schema::VERSION) => {}
        version => return Err(StoreError::Older { path: path.to_owned(), version: version.unwrap_or(0) }),
    }
    let phase = Phase::default();
    phase.report_to(&mut connection, tick).map_err(opening)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Deferred).map_err(opening)?;
    let mut check = Check { connection: &transaction, phase, report: CheckReport::default() };
    check.pages().map_err(opening)?;
    // A damaged page ends the reading of its table, not of the others.
    check.part("counts", Check::counts);
    check.part("references", Check::references);
    check.part("tail", Check::tail);
    check.part("blocks and rollups", Check::series);
    Ok(check.report)
}

/// What is being checked, shared with SQLite's progress handler.
#[derive(Clone, Default)]
struct Phase(Arc<Mutex<&'static str>>);

impl Phase {
    fn set(&self, what: &'static str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = what;
    }

    fn report_to(
        &self,
        connection: &mut Connection,
        mut tick: impl FnMut(&str) + Send + 'static,
    ) -> rusqlite::Result<()> {
        let phase = self.clone();
        let handler = move || {
            tick(&phase.0.lock().unwrap_or_else(PoisonError::into_inner));
            false
        };
        connection.progress_handler(STEPS_PER_TICK, Some(handler))
    }
}

struct Check<'a> {
    connection: &'a Connection,
    phase: Phase,
    report: CheckReport,
}

impl Check<'_> {
    fn part(&mut self, what: &'static str, part: impl FnOnce(&mut Self) -> rusqlite::Result<()>) {
        self.phase.set(what);
        if let Err(error) = part(self) {
            self.find(format!("{what} cannot be read: {error}"));
        }
    }

    fn find(&mut self, finding: String) {
        self.report.findings_total += 1;
        if self.report.findings.len() < FINDINGS_MAX {
            self.report.findings.push(finding.split_whitespace().collect::<Vec<_>>().join(" "));
        }
    }

    fn pages(&mut self) -> rusqlite::Result<()> {
        self.phase.set("pages");
        let mut statement = self.connection.prepare(&format!("PRAGMA integrity_check({FINDINGS_MAX})"))?;
        let rows = statement.query_map((), |row| row.get::<_, String>(0));
        let found: Result<Vec<String>, _> = rows.and_then(Iterator::collect);
        match found {
            Ok(found) => found.into_iter().filter(|line| line != "ok").for_each(|line| self.find(line)),
            Err(error) => self.find(format!("pages cannot be read: {error}")),
        }
        Ok(())
    }

    fn counts(&mut self) -> rusqlite::Result<()> {
        let count =
            |sql| self.connection.query_row(sql, (), |row| row.get::<_, i64>(0)).map(i64::unsigned_abs);
        self.report.metrics = count("SELECT count(*) FROM metrics")?;
        self.report.series = count("SELECT count(*) FROM series")?;
        self.report.rollups = count("SELECT count(*) FROM rollups")?;
        self.report.points =
            count("SELECT (SELECT count(*) FROM tail) + (SELECT coalesce(sum(points), 0) FROM blocks)")?;
        Ok(())
    }

    fn references(&mut self) -> rusqlite::Result<()> {
        let mut statement =
            self.connection.prepare("SELECT \"table\", count(*) FROM pragma_foreign_key_check GROUP BY 1")?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            let (table, missing): (String, i64) = (row.get(0)?, row.get(1)?);
            self.find(format!("{table} names {missing} rows that are not there"));
        }
        for table in ["blocks", "rollups"] {
            let unknown: i64 = self.connection.query_row(
                &format!(
                    "SELECT count(*) FROM (SELECT DISTINCT series FROM {table})
                     WHERE series NOT IN (SELECT id FROM series) AND series NOT IN garbage"
                ),
                (),
                |row| row.get(0),
            )?;
            if unknown > 0 {
                self.find(format!("{table} names {unknown} series that are neither there nor deleted"));
            }
        }
        Ok(())
    }

    fn tail(&mut self) -> rusqlite::Result<()> {
        let sql = format!("SELECT series, {} FROM tail WHERE buckets IS NOT NULL", super::tail::COLUMNS);
        let mut statement = self.connection.prepare(&sql)?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            if super::tail::point(row, 1).is_err() {
                let (series, t): (i64, i64) = (row.get(0)?, row.get(1)?);
                self.find(format!("tail: the distribution of series {series} at {t} does not decode"));
            }
        }
        Ok(())
    }

    /// Each resolution against the next finer one, as far as that is kept.
    fn series(&mut self) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare("SELECT id FROM series ORDER BY id")?;
        let all: Vec<i64> = statement.query_map((), |row| row.get(0))?.collect::<Result<_, _>>()?;
        for series in all {
            if let Err(error) = self.one_series(series) {
                self.find(format!("series {series} cannot be read: {error}"));
            }
        }
        Ok(())
    }

    fn one_series(&mut self, series: i64) -> rusqlite::Result<()> {
        let mut finer = self.blocks(series)?;
        let mut kept_from = expired_until(self.connection, 1)?;
        for resolution in RESOLUTIONS {
            let mut steps = Steps::default();
            let all = (i64::MIN, i64::MAX);
            rollup::visit(self.connection, resolution, series, all, Order::OldestFirst, |t, summary| {
                steps.add(t, summary);
                ControlFlow::Continue(())
            })?;
            let expected = finer.coarser(resolution);
            let compared_from = kept_from.max(expired_until(self.connection, resolution)?);
            self.compare(series, resolution, &expected, &steps, compared_from);
            kept_from = expired_until(self.connection, resolution)?;
            finer = steps;
        }
        Ok(())
    }

    /// What the blocks of a series add up to by minute; each block is checked on the way.
    fn blocks(&mut self, series: i64) -> rusqlite::Result<Steps> {
        let mut steps = Steps::default();
        let mut statement = self.connection.prepare_cached(
            "SELECT start, part, points, data FROM blocks WHERE series = ?1 ORDER BY start, part",
        )?;
        let mut rows = statement.query(params![series])?;
        while let Some(row) = rows.next()? {
            let (start, part, points): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let name = format!("blocks: part {part} of series {series} at {start}");
            match block::decode(start, row.get_ref(3)?.as_blob()?) {
                Err(_) => self.find(format!("{name} does not decode")),
                Ok(decoded) => {
                    if decoded.len() as i64 != points || step_of(start, BLOCK_S) != start {
                        self.find(format!("{name} has {} points where {points} are noted", decoded.len()));
                    }
                    for point in decoded {
                        steps.add(step_of(point.t, RESOLUTIONS[0]), point.into_summary());
                    }
                }
            }
        }
        Ok(steps)
    }

    fn compare(&mut self, series: i64, resolution: i64, expected: &Steps, steps: &Steps, from: i64) {
        let mut all: HashMap<i64, (Option<&Summary>, Option<&Summary>)> = HashMap::new();
        for (t, summary) in expected.0.range(from..) {
            all.entry(*t).or_default().0 = Some(summary);
        }
        for (t, summary) in steps.0.range(from..) {
            all.entry(*t).or_default().1 = Some(summary);
        }
        let mut wrong: Vec<i64> = all
            .into_iter()
            .filter(|(_, pair)| !matches!(pair, (Some(expected), Some(found)) if is_same(expected, found)))
            .map(|(t, _)| t)
            .collect();
        wrong.sort_unstable();
        if let Some(first) = wrong.first() {
            let steps = wrong.len();
            self.find(format!(
                "rollups: series {series} at {resolution} s differs from what is finer in {steps} steps, first at {first}"
            ));
        }
    }
}

fn is_same(expected: &Summary, found: &Summary) -> bool {
    let magnitude =
        expected.sum_squares.map_or(expected.sum.abs(), |squares| (squares * expected.count).sqrt());
    let is_near = |a: f64, b: f64, magnitude: f64| (a - b).abs() <= SUM_ERROR_MAX * magnitude.max(b.abs());
    let squares = match (expected.sum_squares, found.sum_squares) {
        (Some(a), Some(b)) => is_near(a, b, a.abs()),
        (a, b) => a == b,
    };
    is_near(expected.count, found.count, expected.count)
        && is_near(expected.sum, found.sum, magnitude)
        && squares
        && (expected.min, expected.max) == (found.min, found.max)
        && (expected.last, expected.last_time) == (found.last, found.last_time)
        && expected.histogram == found.histogram
}
