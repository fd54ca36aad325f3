//! From version 1 of the schema, which kept each point as a row for good.

use rusqlite::{Connection, TransactionBehavior, params};

use super::distribution;
use super::model::{Complex, RawPoint};
use super::schema::{POINTS, VERSION};
use super::tail;
use crate::body::Buckets;

/// Moves all points to the tail, from where the packer takes them, in one transaction; then gives
/// the space that the old table took back to the file system.
pub(super) fn from_1(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(
        "ALTER TABLE metrics ADD COLUMN origin TEXT CHECK (origin IN ('counter', 'gauge', 'timer'));
         ALTER TABLE metrics ADD COLUMN unit TEXT;
         ALTER TABLE sources ADD COLUMN display_name TEXT;
         ALTER TABLE sources ADD COLUMN tags TEXT;",
    )?;
    transaction.execute_batch(POINTS)?;
    transaction.execute_batch(
        "INSERT INTO series (metric, source, newest) SELECT metric, source, max(measure_time) FROM points GROUP BY 1, 2;",
    )?;
    let moved = move_points(&transaction)?;
    transaction.execute_batch("DROP TABLE points")?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()?;
    tracing::info!(points = moved, version = VERSION, "the database was brought to a new schema version");
    // The file is whole without this; it takes as much disk again while it runs.
    let vacuum = "PRAGMA auto_vacuum = INCREMENTAL; VACUUM";
    if let Err(error) = connection.execute_batch(vacuum) {
        tracing::warn!(%error, "the space of the old tables stays in the file");
    }
    Ok(())
}

fn move_points(connection: &Connection) -> rusqlite::Result<u64> {
    let mut insert = tail::Insert::prepare(connection)?;
    let mut points = connection.prepare(
        "SELECT series.id, measure_time, value, count, sum, min, max, sum_squares, buckets
         FROM points JOIN series USING (metric, source) ORDER BY points.id",
    )?;
    let mut rows = points.query(params![])?;
    let mut moved = 0;
    while let Some(row) = rows.next()? {
        let buckets: Option<String> = row.get(8)?;
        let buckets = buckets.and_then(|text| serde_json::from_str::<Buckets>(&text).ok());
        let complex = Complex {
            count: row.get(3)?,
            sum: row.get(4)?,
            min: row.get(5)?,
            max: row.get(6)?,
            sum_squares: row.get(7)?,
            histogram: buckets.as_ref().map(distribution::of),
        };
        insert.add(row.get(0)?, &RawPoint::new(row.get(1)?, row.get(2)?, complex))?;
        moved += 1;
    }
    Ok(moved)
}
