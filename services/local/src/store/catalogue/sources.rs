//! Sources, plain ones and those that stand for tags.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{ListQuery, Page, discard_series, key};

/// A plain source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) display_name: Option<String>,
}

/// A source that measured some metric, and its tags; a plain source is the tag `source`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct TaggedSource {
    pub(crate) name: String,
    pub(crate) tags: BTreeMap<String, String>,
}

/// Plain sources are those without tags.
const MATCHING: &str = "FROM sources WHERE tags IS NULL
    AND (instr(name_key, ?1) > 0 OR instr(lower(coalesce(display_name, '')), ?1) > 0)";

pub(super) fn list(connection: &Connection, query: &ListQuery) -> rusqlite::Result<Page<Source>> {
    let wanted = key(&query.name_contains);
    let total = "SELECT count(*) FROM sources WHERE tags IS NULL";
    let total = connection.query_row(total, (), |row| row.get(0))?;
    let found = connection.query_row(&format!("SELECT count(*) {MATCHING}"), [&wanted], |row| row.get(0))?;
    let sql = format!(
        "SELECT name, display_name {MATCHING} ORDER BY name_key {} LIMIT ?2 OFFSET ?3",
        query.order()
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params![wanted, query.length, query.offset], source)?;
    Ok(Page { found, total, rows: rows.collect::<Result<_, _>>()? })
}

pub(super) fn one(connection: &Connection, name: &str) -> rusqlite::Result<Option<Source>> {
    let sql = "SELECT name, display_name FROM sources WHERE name_key = ?1 AND tags IS NULL";
    connection.prepare_cached(sql)?.query_row([key(name)], source).optional()
}

pub(super) fn put(
    connection: &Connection,
    name: &str,
    display_name: Option<&Option<String>>,
) -> rusqlite::Result<bool> {
    let insert = "INSERT INTO sources (name, name_key) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
    let is_new = connection.execute(insert, params![name, key(name)])? > 0;
    if let Some(display_name) = display_name {
        let update = "UPDATE sources SET display_name = ?2 WHERE name_key = ?1 AND tags IS NULL";
        connection.execute(update, params![key(name), display_name])?;
    }
    Ok(is_new)
}

pub(super) fn delete(connection: &Connection, name: &str) -> rusqlite::Result<()> {
    let id = "SELECT id FROM sources WHERE name_key = ?1 AND tags IS NULL";
    let id: Option<i64> = connection.query_row(id, [key(name)], |row| row.get(0)).optional()?;
    if let Some(id) = id {
        discard_series(connection, "source = ?1", id)?;
        connection.execute("DELETE FROM sources WHERE id = ?1", [id])?;
    }
    Ok(())
}

pub(super) fn of_metric(connection: &Connection, metric: i64) -> rusqlite::Result<Vec<TaggedSource>> {
    let sql = "SELECT sources.name, sources.tags FROM series JOIN sources ON sources.id = series.source
               WHERE series.metric = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([metric], |row| {
        let name: String = row.get(0)?;
        let tags: Option<String> = row.get(1)?;
        let tags = match tags {
            Some(tags) => serde_json::from_str(&tags).unwrap_or_default(),
            None => BTreeMap::from([("source".to_owned(), name.clone())]),
        };
        Ok(TaggedSource { name, tags })
    })?;
    rows.collect()
}

fn source(row: &Row<'_>) -> rusqlite::Result<Source> {
    Ok(Source { name: row.get(0)?, display_name: row.get(1)? })
}
