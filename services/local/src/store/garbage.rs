//! Rows of deleted series. Who deletes a metric or a source moves its series to the table `garbage`,
//! which makes them disappear at once; their rows are deleted here, some at a time.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

/// The most rows that one step deletes.
const STEP_ROWS_MAX: usize = 1_000;

/// Deletes some rows of discarded series; returns how many points went with them, or `None` if
/// nothing was left. Rows in the tail go when their block is packed.
pub(super) fn step(connection: &mut Connection) -> rusqlite::Result<Option<u64>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let series: Option<i64> = transaction
        .prepare_cached("SELECT series FROM garbage LIMIT 1")?
        .query_row((), |row| row.get(0))
        .optional()?;
    let Some(series) = series else { return Ok(None) };
    let room = STEP_ROWS_MAX as i64;
    let blocks: Vec<u32> = transaction
        .prepare_cached(
            "DELETE FROM blocks WHERE id IN (SELECT id FROM blocks WHERE series = ?1 LIMIT ?2) RETURNING points",
        )?
        .query_map(params![series, room], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut deleted = blocks.len();
    for resolution in super::rollup::RESOLUTIONS {
        deleted += transaction
            .prepare_cached(
                "DELETE FROM rollups WHERE resolution = ?1 AND series = ?2 AND t <= coalesce(
                   (SELECT t FROM rollups WHERE resolution = ?1 AND series = ?2 ORDER BY t LIMIT 1 OFFSET ?3),
                   9223372036854775807)",
            )?
            .execute(params![resolution, series, room])?;
    }
    if deleted == 0 {
        transaction.prepare_cached("DELETE FROM garbage WHERE series = ?1")?.execute([series])?;
    }
    transaction.commit()?;
    Ok(Some(blocks.into_iter().map(u64::from).sum()))
}
