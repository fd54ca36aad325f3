//! The packer: moves points from the tail to blocks and rollups.
//!
//! It goes in passes. A pass takes all points before its end, which is a block's border that lies
//! [`PACK_AFTER_S`] back, block by block, and within a block some series at a time. Each step is one
//! transaction and small, so that a POST waits a few milliseconds for it at most. Points that come
//! late wait for the next pass: packing each at once would rewrite its block for every one.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::block::BLOCK_S;
use super::model::RawPoint;
use super::rollup::{self, RESOLUTIONS, Steps, step_of};
use super::{packed, tail};

/// How long after its end a block is packed, in seconds. Workers send once a minute, and a batch
/// that is retried comes a little later.
pub(super) const PACK_AFTER_S: i64 = 120;
/// So many points that came late begin a pass before the next block ends.
const LATE_POINTS_MAX: usize = 1_000_000;
/// The most points of a step, but for those of one instant.
const STEP_POINTS_MAX: usize = 5_000;
/// What a series costs beside its points, in points: its block and its rollups are looked up and
/// written.
const SERIES_COST: usize = 40;

/// What one step did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Packed {
    pub(super) points: u64,
    /// Points of series that were deleted while these waited.
    pub(super) points_deleted: u64,
}

/// Where the packer is.
#[derive(Debug)]
pub(super) struct Packer {
    /// The end of the last pass; points before it are late.
    end: i64,
    late_points: usize,
    pass: Option<Pass>,
}

#[derive(Clone, Copy, Debug)]
struct Pass {
    /// The next time to look for points at, and the series from which on they are not packed yet at
    /// the times of its block.
    t: i64,
    series: i64,
    /// How many ids of series a step takes; adapts to how many points they have.
    span: i64,
}

impl Default for Packer {
    fn default() -> Self {
        Self { end: i64::MIN, late_points: 0, pass: None }
    }
}

impl Packer {
    /// Tells of points that were stored.
    pub(super) fn note(&mut self, times: impl Iterator<Item = i64>) {
        self.late_points += times.filter(|t| *t < self.end).count();
    }

    /// Whether there is something to pack at the time `now`.
    pub(super) fn is_due(&mut self, now: i64) -> bool {
        let end = step_of(now.saturating_sub(PACK_AFTER_S), BLOCK_S);
        if self.pass.is_none() && (end > self.end || self.late_points >= LATE_POINTS_MAX) {
            self.end = self.end.max(end);
            self.late_points = 0;
            self.pass = Some(Pass { t: i64::MIN, series: 0, span: 1 });
        }
        self.pass.is_some()
    }

    /// One step of the pass that is due.
    pub(super) fn step(&mut self, connection: &mut Connection) -> rusqlite::Result<Packed> {
        let Some(pass) = self.pass else { return Ok(Packed::default()) };
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let Some(t) = next_time(&transaction, pass.t, self.end)? else {
            self.pass = None;
            return Ok(Packed::default());
        };
        // Points before this were packed, but for late ones.
        let start = step_of(t, BLOCK_S);
        let pass = if start > step_of(pass.t, BLOCK_S) { Pass { t, series: 0, ..pass } } else { pass };
        let block_end = start.saturating_add(BLOCK_S).min(self.end);
        let taken = take(&transaction, (t, block_end), (pass.series, pass.series.saturating_add(pass.span)))?;
        let mut packed = Packed::default();
        for (series, points) in &taken.series {
            let count = points.len() as u64;
            if is_known(&transaction, *series)? {
                pack(&transaction, *series, start, points)?;
                packed.points += count;
            } else {
                packed.points_deleted += count;
            }
        }
        let next = pass.after(&transaction, &taken, start, block_end)?;
        transaction.commit()?;
        self.pass = Some(next);
        Ok(packed)
    }

    /// Gives up the series at which a step failed, for this pass. Returns the id of the first one.
    pub(super) fn skip(&mut self) -> i64 {
        let Some(pass) = &mut self.pass else { return 0 };
        let failed = pass.series;
        if pass.span > 1 {
            // Smaller steps find the one that is to blame.
            pass.span = 1;
        } else {
            pass.series = pass.series.saturating_add(1);
        }
        failed
    }
}

impl Pass {
    /// Where the next step goes on.
    fn after(
        self,
        connection: &Connection,
        taken: &Taken,
        start: i64,
        block_end: i64,
    ) -> rusqlite::Result<Self> {
        let cost = taken.points + SERIES_COST * taken.series.len();
        let span = match cost {
            _ if cost > STEP_POINTS_MAX => (self.span / 2).max(1),
            _ if cost < STEP_POINTS_MAX / 2 => self.span.saturating_mul(2),
            _ => self.span,
        };
        if let Some(t) = taken.rest_from {
            return Ok(Self { t, series: self.series, span });
        }
        let series = self.series.saturating_add(self.span);
        if series > last_series(connection)? {
            return Ok(Self { t: block_end, series: 0, span });
        }
        Ok(Self { t: start, series, span })
    }
}

/// Points that were taken out of the tail.
struct Taken {
    /// In order of time and arrival.
    series: BTreeMap<i64, Vec<RawPoint>>,
    points: usize,
    /// The time from which on the same series have more, if the step was full before.
    rest_from: Option<i64>,
}

/// Takes the points of the series in a range of ids out of the tail, time by time.
fn take(connection: &Connection, times: (i64, i64), ids: (i64, i64)) -> rusqlite::Result<Taken> {
    let (mut from, end) = times;
    let mut delete = connection.prepare_cached(&format!(
        "DELETE FROM tail WHERE t = ?1 AND series >= ?2 AND series < ?3 RETURNING series, n, {}",
        tail::COLUMNS
    ))?;
    let mut taken = Taken { series: BTreeMap::new(), points: 0, rest_from: None };
    while let Some(t) = next_time(connection, from, end)? {
        if taken.points >= STEP_POINTS_MAX {
            taken.rest_from = Some(t);
            break;
        }
        let mut rows = delete.query(params![t, ids.0, ids.1])?;
        let mut at_once: Vec<(i64, i64, RawPoint)> = Vec::new();
        while let Some(row) = rows.next()? {
            at_once.push((row.get(0)?, row.get(1)?, tail::point(row, 2)?));
        }
        // SQLite promises no order for what it deletes.
        at_once.sort_by_key(|(series, n, _)| (*series, *n));
        taken.points += at_once.len();
        for (series, _, point) in at_once {
            taken.series.entry(series).or_default().push(point);
        }
        from = t.saturating_add(1);
    }
    Ok(taken)
}

/// Adds points of one block to it and to the rollups.
fn pack(connection: &Connection, series: i64, start: i64, points: &[RawPoint]) -> rusqlite::Result<()> {
    let mut steps = Steps::default();
    for point in points {
        steps.add(step_of(point.t, RESOLUTIONS[0]), point.clone().into_summary());
    }
    for resolution in RESOLUTIONS {
        steps = steps.coarser(resolution);
        rollup::add(connection, resolution, series, &steps)?;
    }
    packed::add(connection, series, start, points)
}

/// The first time from `from` on, before `end`, at which the tail has a point.
fn next_time(connection: &Connection, from: i64, end: i64) -> rusqlite::Result<Option<i64>> {
    let t: Option<i64> = connection
        .prepare_cached("SELECT min(t) FROM tail WHERE t >= ?1")?
        .query_row([from], |row| row.get(0))?;
    Ok(t.filter(|t| *t < end))
}

fn is_known(connection: &Connection, series: i64) -> rusqlite::Result<bool> {
    let mut known = connection.prepare_cached("SELECT 1 FROM series WHERE id = ?1")?;
    Ok(known.query_row([series], |_| Ok(())).optional()?.is_some())
}

/// The highest id that a series ever had.
fn last_series(connection: &Connection) -> rusqlite::Result<i64> {
    let mut last = connection.prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'series'")?;
    Ok(last.query_row((), |row| row.get(0)).optional()?.unwrap_or(0))
}
