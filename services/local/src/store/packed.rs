//! Blocks in the database: reading and adding to them.

use std::ops::ControlFlow;

use rusqlite::{Connection, OptionalExtension, params};

use super::block::{self, BLOCK_S, Encoder};
use super::errors;
use super::model::RawPoint;
use super::rollup::{Order, step_of};

/// Visits the packed points of a series with `start <= t < end`, block by block, until told to stop.
/// Within a block they are in order of time and arrival, whatever the order of the blocks.
pub(super) fn visit(
    connection: &Connection,
    series: i64,
    (start, end): (i64, i64),
    order: Order,
    mut visitor: impl FnMut(Vec<RawPoint>) -> ControlFlow<()>,
) -> rusqlite::Result<()> {
    let sql = format!(
        "SELECT start, data FROM blocks WHERE series = ?1 AND start >= ?2 AND start < ?3 ORDER BY start {}, part",
        order.as_sql()
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![series, step_of(start, BLOCK_S), end])?;
    let mut block: Option<(i64, Vec<RawPoint>)> = None;
    while let Some(row) = rows.next()? {
        let block_start = row.get(0)?;
        let mut points = decode(block_start, row.get_ref(1)?.as_blob()?)?;
        points.retain(|point| (start..end).contains(&point.t));
        match &mut block {
            Some((start, block)) if *start == block_start => block.append(&mut points),
            _ => {
                if let Some((_, mut points)) = block.replace((block_start, points)) {
                    points.sort_by_key(|point| point.t);
                    if visitor(points).is_break() {
                        return Ok(());
                    }
                }
            }
        }
    }
    if let Some((_, mut points)) = block {
        points.sort_by_key(|point| point.t);
        // It was the last one either way.
        let _ = visitor(points);
    }
    Ok(())
}

/// Adds points, in order of time, to the block of a series that begins at `start`: to its last part
/// if they fit, else as further parts.
pub(super) fn add(
    connection: &Connection,
    encoder: &mut Encoder,
    series: i64,
    start: i64,
    points: &[RawPoint],
) -> rusqlite::Result<()> {
    let last = connection
        .prepare_cached(
            "SELECT id, part, points, data FROM blocks WHERE series = ?1 AND start = ?2 ORDER BY part DESC LIMIT 1",
        )?
        .query_row(params![series, start], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, u32>(2)?, row.get::<_, Vec<u8>>(3)?))
        })
        .optional()?;
    let mut part = 0;
    if let Some((id, last_part, present, data)) = last {
        part = last_part + 1;
        // A part that is damaged stays as it is, for whoever looks into it.
        if present as usize + points.len() <= block::POINTS_MAX
            && let Ok(mut merged) = block::decode(start, &data)
        {
            merged.extend_from_slice(points);
            merged.sort_by_key(|point| point.t);
            connection
                .prepare_cached("UPDATE blocks SET points = ?2, data = ?3 WHERE id = ?1")?
                .execute(params![id, merged.len() as u32, encoder.encode(start, &merged)])?;
            return Ok(());
        }
    }
    let mut insert = connection.prepare_cached(
        "INSERT INTO blocks (series, start, part, points, data) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for points in points.chunks(block::POINTS_MAX) {
        insert.execute(params![series, start, part, points.len() as u32, encoder.encode(start, points)])?;
        part += 1;
    }
    Ok(())
}

/// The points in the bytes of a part.
pub(super) fn decode(start: i64, bytes: &[u8]) -> rusqlite::Result<Vec<RawPoint>> {
    block::decode(start, bytes).map_err(|_| errors::damaged("a block does not decode"))
}
