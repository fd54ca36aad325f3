//! Reading what is known of metrics: the list, and one of them.

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::Value;

/// What to list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ListQuery {
    /// Only names that contain this, in any case; empty for all.
    pub(crate) name_contains: String,
    pub(crate) offset: i64,
    pub(crate) length: i64,
    pub(crate) descending: bool,
}

/// A part of the list.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    /// The metrics that match.
    pub(crate) found: i64,
    /// All metrics.
    pub(crate) total: i64,
    pub(crate) rows: Vec<Row>,
}

/// A metric.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Row {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) period: Option<i64>,
    pub(crate) description: Option<String>,
    pub(crate) display_name: Option<String>,
    pub(crate) attributes: Value,
}

const COLUMNS: &str = "SELECT id, name, kind, period, description, display_name, attributes FROM metrics";

pub(super) fn list(connection: &Connection, query: &ListQuery) -> rusqlite::Result<Page> {
    let wanted = query.name_contains.to_ascii_lowercase();
    let total = connection.query_row("SELECT count(*) FROM metrics", (), |row| row.get(0))?;
    let found = "SELECT count(*) FROM metrics WHERE instr(name_key, ?1) > 0";
    let found = connection.query_row(found, [&wanted], |row| row.get(0))?;
    let order = if query.descending { "DESC" } else { "ASC" };
    let sql = format!("{COLUMNS} WHERE instr(name_key, ?1) > 0 ORDER BY name_key {order} LIMIT ?2 OFFSET ?3");
    let mut statement = connection.prepare(&sql)?;
    let rows =
        statement.query_map(params![wanted, query.length, query.offset], row)?.collect::<Result<_, _>>()?;
    Ok(Page { found, total, rows })
}

pub(super) fn metric(connection: &Connection, name: &str) -> rusqlite::Result<Option<Row>> {
    let sql = format!("{COLUMNS} WHERE name_key = ?1");
    connection.query_row(&sql, [name.to_ascii_lowercase()], row).optional()
}

fn row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    let attributes: String = row.get(6)?;
    Ok(Row {
        id: row.get(0)?,
        name: row.get(1)?,
        kind: row.get(2)?,
        period: row.get(3)?,
        description: row.get(4)?,
        display_name: row.get(5)?,
        attributes: serde_json::from_str(&attributes).unwrap_or_default(),
    })
}
