//! Retention: what is older than its resolution is kept is deleted, some rows at a time.

use rusqlite::{Connection, TransactionBehavior, params};

use super::rollup::{RESOLUTIONS, expired_until, step_of};
use crate::config::Keep;

/// Rows expire in hours, so that a step of each resolution is there as a whole or not at all.
const HOUR_S: i64 = 3_600;
/// The most rows that one step deletes.
const STEP_ROWS_MAX: usize = 1_000;
/// The most series that one step looks at.
const STEP_SERIES_MAX: usize = 200;

/// Where the deletion is.
#[derive(Debug)]
pub(super) struct Expirer {
    keep: Keep,
    /// By resolution, the time before which the last sweep deleted.
    until: [i64; 4],
    /// The series after which the present sweep goes on; none if there is no sweep.
    after: Option<i64>,
}

impl Expirer {
    pub(super) fn new(keep: Keep) -> Self {
        Self { keep, until: [i64::MIN; 4], after: None }
    }

    /// Whether there is something to delete at the time `now`.
    pub(super) fn is_due(&mut self, now: i64) -> bool {
        let cut = |keep_s: u64| step_of(now.saturating_sub_unsigned(keep_s), HOUR_S);
        let Keep { raw_s, minute_s, quarter_s, hour_s } = self.keep;
        let until = [cut(raw_s), cut(minute_s), cut(quarter_s), cut(hour_s)];
        if self.after.is_none() && until.iter().zip(self.until).any(|(new, old)| *new > old) {
            self.until = until;
            self.after = Some(i64::MIN);
        }
        self.after.is_some()
    }

    /// One step of the sweep that is due; returns how many points went with their blocks.
    pub(super) fn step(&mut self, connection: &mut Connection) -> rusqlite::Result<u64> {
        let Some(after) = self.after else { return Ok(0) };
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if after == i64::MIN {
            self.announce(&transaction)?;
        }
        let all: Vec<i64> = transaction
            .prepare_cached("SELECT id FROM series WHERE id > ?1 ORDER BY id LIMIT ?2")?
            .query_map(params![after, STEP_SERIES_MAX as i64], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        let mut room = STEP_ROWS_MAX;
        let mut points = 0;
        let mut next = all.last().copied().filter(|_| all.len() == STEP_SERIES_MAX);
        for series in all {
            points += self.expire(&transaction, series, &mut room)?;
            if room == 0 {
                // There may be more of this one.
                next = Some(series - 1);
                break;
            }
        }
        transaction.commit()?;
        self.after = next;
        Ok(points)
    }

    /// Says what can no longer be read, before it is gone.
    fn announce(&self, connection: &Connection) -> rusqlite::Result<()> {
        let sql = "INSERT INTO expiry (resolution, until) VALUES (?1, ?2)
                   ON CONFLICT DO UPDATE SET until = max(until, excluded.until)";
        for (resolution, until) in [1].into_iter().chain(RESOLUTIONS).zip(self.until) {
            connection.prepare_cached(sql)?.execute(params![resolution, until])?;
        }
        Ok(())
    }

    /// Deletes what has expired of a series, as far as there is room for rows.
    fn expire(&self, connection: &Connection, series: i64, room: &mut usize) -> rusqlite::Result<u64> {
        let mut blocks = connection.prepare_cached(
            "DELETE FROM blocks WHERE id IN
               (SELECT id FROM blocks WHERE series = ?1 AND start < ?2 ORDER BY start LIMIT ?3)
             RETURNING points",
        )?;
        let mut rollups = connection.prepare_cached(
            "DELETE FROM rollups WHERE resolution = ?1 AND series = ?2 AND t < ?3 AND t <
               coalesce((SELECT t FROM rollups WHERE resolution = ?1 AND series = ?2 ORDER BY t LIMIT 1 OFFSET ?4), ?3)",
        )?;
        let deleted: Vec<u32> = blocks
            .query_map(params![series, expired_until(connection, 1)?, *room as i64], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        *room -= deleted.len();
        for resolution in RESOLUTIONS {
            let until = expired_until(connection, resolution)?;
            *room -= rollups.execute(params![resolution, series, until, *room as i64])?;
        }
        Ok(deleted.into_iter().map(u64::from).sum())
    }
}
