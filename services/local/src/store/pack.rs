//! The packer: moves points from the tail to blocks and rollups.
//!
//! It goes in passes. A pass takes all points before its end, which is a block's border that lies
//! [`PACK_AFTER_S`] back, block by block, and within a block some series at a time. Each step is one
//! transaction and small, so that a POST waits a few milliseconds for it at most. Points that come
//! late wait for the next pass: packing each at once would rewrite its block for every one.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::block::{BLOCK_S, Encoder};
use super::model::RawPoint;
use super::rollup::{self, RESOLUTIONS, Steps, step_of};
use super::tail::slot_of;
use super::{packed, tail};

/// How long after its end a block is packed, in seconds. Workers send once a minute, and a batch
/// that is retried comes a little later.
pub(super) const PACK_AFTER_S: i64 = 120;
/// So many points that came late begin a pass before the next block ends.
const LATE_POINTS_MAX: usize = 1_000_000;
/// The most points of a step, but for those of one slot.
const STEP_POINTS_MAX: usize = 3_000;
/// The most steps of a pass that may fail before it is given up.
const FAILURES_MAX: u32 = 1_000;
/// What a series costs beside its points, in points: its block and its rollups are looked up and
/// written.
const SERIES_COST: usize = 100;

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
    encoder: Encoder,
}

#[derive(Clone, Copy, Debug)]
struct Pass {
    /// The next slot of the tail to look at, and the series from which on points are not packed yet
    /// in the slots of its block.
    slot: i64,
    series: i64,
    /// How many ids of series a step takes; adapts to how many points they have.
    span: i64,
    /// Steps that failed.
    failures: u32,
}

impl Default for Packer {
    fn default() -> Self {
        Self { end: i64::MIN, late_points: 0, pass: None, encoder: Encoder::default() }
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
            self.pass = Some(Pass { slot: i64::MIN, series: 0, span: 1, failures: 0 });
        }
        self.pass.is_some()
    }

    /// One step of the pass that is due.
    pub(super) fn step(&mut self, connection: &mut Connection) -> rusqlite::Result<Packed> {
        let Some(pass) = self.pass else { return Ok(Packed::default()) };
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let Some(slot) = next_slot(&transaction, pass.slot, slot_of(self.end))? else {
            self.pass = None;
            return Ok(Packed::default());
        };
        // Points of slots before this one were packed, but for late ones.
        let start = block_of(slot);
        let pass = if start > block_of(pass.slot) { Pass { slot, series: 0, ..pass } } else { pass };
        let end = slot_of(start.saturating_add(BLOCK_S));
        let taken = take(&transaction, (slot, end), (pass.series, pass.series.saturating_add(pass.span)))?;
        let mut packed = Packed::default();
        for (series, points) in &taken.series {
            let count = points.len() as u64;
            if is_known(&transaction, *series)? {
                pack(&transaction, &mut self.encoder, *series, start, points)?;
                packed.points += count;
            } else {
                packed.points_deleted += count;
            }
        }
        let next = pass.after(&transaction, &taken, start)?;
        transaction.commit()?;
        self.pass = Some(next);
        Ok(packed)
    }

    /// Goes on behind the series at which a step failed; they are tried again in the next pass. After
    /// too many of them, the pass ends.
    pub(super) fn skip(&mut self, error: &rusqlite::Error) {
        let Some(pass) = &mut self.pass else { return };
        pass.failures += 1;
        if pass.failures == 1 {
            tracing::error!(%error, series = pass.series, "some points cannot be packed; they stay as they are");
        }
        if pass.failures > FAILURES_MAX {
            self.pass = None;
        } else if pass.span > 1 {
            // Smaller steps find the one that is to blame.
            pass.span = 1;
        } else {
            pass.series = pass.series.saturating_add(1);
        }
    }
}

impl Pass {
    /// Where the next step goes on.
    fn after(self, connection: &Connection, taken: &Taken, start: i64) -> rusqlite::Result<Self> {
        let cost = taken.points + SERIES_COST * taken.series.len();
        let span = match cost {
            _ if cost > STEP_POINTS_MAX => (self.span / 2).max(1),
            _ if cost < STEP_POINTS_MAX / 2 => self.span.saturating_mul(2),
            _ => self.span,
        };
        if let Some(slot) = taken.rest_from {
            return Ok(Self { slot, span, ..self });
        }
        let series = self.series.saturating_add(self.span);
        if series > last_series(connection)? {
            return Ok(Self { slot: slot_of(start.saturating_add(BLOCK_S)), series: 0, span, ..self });
        }
        Ok(Self { slot: slot_of(start), series, span, ..self })
    }
}

/// Points that were taken out of the tail.
struct Taken {
    /// In order of time and arrival.
    series: BTreeMap<i64, Vec<RawPoint>>,
    points: usize,
    /// The slot from which on the same series have more, if the step was full before.
    rest_from: Option<i64>,
}

/// Takes the points of the series in a range of ids out of a range of slots.
fn take(connection: &Connection, slots: (i64, i64), ids: (i64, i64)) -> rusqlite::Result<Taken> {
    let (mut from, end) = slots;
    let mut delete = connection.prepare_cached(&format!(
        "DELETE FROM tail WHERE slot = ?1 AND series >= ?2 AND series < ?3 RETURNING series, n, {}",
        tail::COLUMNS
    ))?;
    let mut taken = Taken { series: BTreeMap::new(), points: 0, rest_from: None };
    while let Some(slot) = next_slot(connection, from, end)? {
        if taken.points >= STEP_POINTS_MAX {
            taken.rest_from = Some(slot);
            break;
        }
        let mut rows = delete.query(params![slot, ids.0, ids.1])?;
        let mut at_once: Vec<(i64, i64, RawPoint)> = Vec::new();
        while let Some(row) = rows.next()? {
            at_once.push((row.get(0)?, row.get(1)?, tail::point(row, 2)?));
        }
        // SQLite promises no order for what it deletes.
        at_once.sort_by_key(|(series, n, point)| (*series, point.t, *n));
        taken.points += at_once.len();
        for (series, _, point) in at_once {
            taken.series.entry(series).or_default().push(point);
        }
        from = slot.saturating_add(1);
    }
    Ok(taken)
}

/// Adds points of one block to it and to the rollups.
fn pack(
    connection: &Connection,
    encoder: &mut Encoder,
    series: i64,
    start: i64,
    points: &[RawPoint],
) -> rusqlite::Result<()> {
    let mut steps = Steps::default();
    for point in points {
        steps.add(step_of(point.t, RESOLUTIONS[0]), point.clone().into_summary());
    }
    for resolution in RESOLUTIONS {
        steps = steps.coarser(resolution);
        rollup::add(connection, resolution, series, &steps)?;
    }
    packed::add(connection, encoder, series, start, points)
}

/// The first slot from `from` on, before `end`, that has a point.
fn next_slot(connection: &Connection, from: i64, end: i64) -> rusqlite::Result<Option<i64>> {
    let slot: Option<i64> = connection
        .prepare_cached("SELECT min(slot) FROM tail WHERE slot >= ?1")?
        .query_row([from], |row| row.get(0))?;
    Ok(slot.filter(|slot| *slot < end))
}

/// The start of the block that a slot lies in.
fn block_of(slot: i64) -> i64 {
    step_of(tail::slot_start(slot), BLOCK_S)
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
