//! Annotations: events in named streams.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::{ListQuery, Page, key};
use crate::store::Take;

/// An annotation stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Stream {
    pub(crate) name: String,
    pub(crate) display_name: Option<String>,
}

/// Where an event is explained.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Link {
    /// How it relates to the event; unique in it.
    pub(crate) rel: String,
    pub(crate) href: String,
    pub(crate) label: Option<String>,
}

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Event {
    pub(crate) id: i64,
    pub(crate) stream: String,
    pub(crate) event: NewEvent,
}

/// An event that has no id yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct NewEvent {
    pub(crate) title: String,
    pub(crate) source: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) links: Vec<Link>,
    pub(crate) start_time: i64,
    pub(crate) end_time: Option<i64>,
}

/// What to change of an event. An inner `None` takes it away.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct EventChanges {
    pub(crate) title: Option<String>,
    pub(crate) description: Option<Option<String>>,
    pub(crate) end_time: Option<Option<i64>>,
    pub(crate) links: Option<Vec<Link>>,
}

/// What became of a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum EventOutcome {
    Updated,
    NotFound,
    /// It would end before it starts.
    EndsBeforeStart,
}

/// What became of a new link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LinkOutcome {
    Added,
    NotFound,
    /// The event has one with this relation.
    Exists,
    /// The event has as many as it may.
    Full,
}

/// Which events.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct EventsQuery {
    /// Of one stream, or of all.
    pub(crate) stream: Option<String>,
    /// Sources in lower case, `*` standing for anything; empty for all.
    pub(crate) sources: Vec<String>,
    /// The first and last start, both included.
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) take: Take,
    /// The most events.
    pub(crate) limit: i64,
}

/// The most links of one event.
pub(crate) const LINKS_MAX: usize = 32;

const COLUMNS: &str =
    "annotations.id, annotation_streams.name, title, source, description, links, start_time, end_time
    FROM annotations JOIN annotation_streams ON annotation_streams.id = annotations.stream";

pub(super) fn list(connection: &Connection, query: &ListQuery) -> rusqlite::Result<Page<Stream>> {
    let wanted = key(&query.name_contains);
    let total = connection.query_row("SELECT count(*) FROM annotation_streams", (), |row| row.get(0))?;
    let matching = "FROM annotation_streams WHERE instr(name_key, ?1) > 0";
    let found = connection.query_row(&format!("SELECT count(*) {matching}"), [&wanted], |row| row.get(0))?;
    let sql = format!(
        "SELECT name, display_name {matching} ORDER BY name_key {} LIMIT ?2 OFFSET ?3",
        query.order()
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params![wanted, query.length, query.offset], stream_of)?;
    Ok(Page { found, total, rows: rows.collect::<Result<_, _>>()? })
}

pub(super) fn stream(connection: &Connection, name: &str) -> rusqlite::Result<Option<Stream>> {
    let sql = "SELECT name, display_name FROM annotation_streams WHERE name_key = ?1";
    connection.prepare_cached(sql)?.query_row([key(name)], stream_of).optional()
}

pub(super) fn update_stream(
    connection: &Connection,
    name: &str,
    display_name: Option<&str>,
) -> rusqlite::Result<bool> {
    let sql = "UPDATE annotation_streams SET display_name = ?2 WHERE name_key = ?1";
    Ok(connection.execute(sql, params![key(name), display_name])? > 0)
}

pub(super) fn delete_stream(connection: &Connection, name: &str) -> rusqlite::Result<bool> {
    // The events go with it, by their reference.
    Ok(connection.execute("DELETE FROM annotation_streams WHERE name_key = ?1", [key(name)])? > 0)
}

pub(super) fn events(connection: &Connection, query: &EventsQuery) -> rusqlite::Result<Vec<Event>> {
    let (order, most) = match query.take {
        Take::All => ("ASC", query.limit),
        Take::First(count) => ("ASC", count.min(query.limit)),
        Take::Last(count) => ("DESC", count.min(query.limit)),
    };
    let sql = format!(
        "SELECT {COLUMNS}
         WHERE (?1 IS NULL OR annotation_streams.name_key = ?1) AND start_time BETWEEN ?2 AND ?3
           AND (?4 IS NULL OR EXISTS (SELECT 1 FROM json_each(?4) AS wanted
                                      WHERE lower(coalesce(source, 'unassigned')) GLOB wanted.value))
         ORDER BY start_time {order}, annotations.id {order} LIMIT ?5"
    );
    let stream = query.stream.as_deref().map(key);
    let sources = (!query.sources.is_empty()).then(|| super::keys(&query.sources));
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params![stream, query.start, query.end, sources, most], event_of)?;
    let mut events: Vec<_> = rows.collect::<Result<_, _>>()?;
    if order == "DESC" {
        events.reverse();
    }
    Ok(events)
}

pub(super) fn event(connection: &Connection, stream: &str, id: i64) -> rusqlite::Result<Option<Event>> {
    let sql = format!("SELECT {COLUMNS} WHERE annotation_streams.name_key = ?1 AND annotations.id = ?2");
    connection.prepare_cached(&sql)?.query_row(params![key(stream), id], event_of).optional()
}

pub(super) fn add(connection: &Connection, stream: &str, event: &NewEvent) -> rusqlite::Result<Event> {
    let insert = "INSERT INTO annotation_streams (name, name_key) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
    connection.execute(insert, params![stream, key(stream)])?;
    let sql = "SELECT id, name FROM annotation_streams WHERE name_key = ?1";
    let (stream_id, name): (i64, String) =
        connection.query_row(sql, [key(stream)], |row| Ok((row.get(0)?, row.get(1)?)))?;
    connection.execute(
        "INSERT INTO annotations (stream, title, source, description, links, start_time, end_time, created)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, unixepoch())",
        params![
            stream_id,
            event.title,
            event.source,
            event.description,
            to_json(&event.links),
            event.start_time,
            event.end_time,
        ],
    )?;
    let id = connection.last_insert_rowid();
    Ok(Event { id, stream: name, event: event.clone() })
}

pub(super) fn update(
    connection: &Connection,
    stream: &str,
    id: i64,
    changes: &EventChanges,
) -> rusqlite::Result<EventOutcome> {
    let Some(Event { mut event, .. }) = event(connection, stream, id)? else {
        return Ok(EventOutcome::NotFound);
    };
    let changes = changes.clone();
    event.title = changes.title.unwrap_or(event.title);
    event.description = changes.description.unwrap_or(event.description);
    event.end_time = changes.end_time.unwrap_or(event.end_time);
    event.links = changes.links.unwrap_or(event.links);
    if event.end_time.is_some_and(|end| end <= event.start_time) {
        return Ok(EventOutcome::EndsBeforeStart);
    }
    let sql = "UPDATE annotations SET title = ?2, description = ?3, end_time = ?4, links = ?5 WHERE id = ?1";
    let links = to_json(&event.links);
    connection.execute(sql, params![id, event.title, event.description, event.end_time, links])?;
    Ok(EventOutcome::Updated)
}

pub(super) fn delete(connection: &Connection, stream: &str, id: i64) -> rusqlite::Result<bool> {
    let sql = "DELETE FROM annotations
               WHERE id = ?2 AND stream = (SELECT id FROM annotation_streams WHERE name_key = ?1)";
    Ok(connection.execute(sql, params![key(stream), id])? > 0)
}

pub(super) fn add_link(
    connection: &Connection,
    stream: &str,
    id: i64,
    link: &Link,
) -> rusqlite::Result<LinkOutcome> {
    let Some(Event { mut event, .. }) = event(connection, stream, id)? else {
        return Ok(LinkOutcome::NotFound);
    };
    if event.links.iter().any(|known| known.rel == link.rel) {
        return Ok(LinkOutcome::Exists);
    }
    if event.links.len() >= LINKS_MAX {
        return Ok(LinkOutcome::Full);
    }
    event.links.push(link.clone());
    save_links(connection, id, &event.links)?;
    Ok(LinkOutcome::Added)
}

pub(super) fn delete_link(
    connection: &Connection,
    stream: &str,
    id: i64,
    rel: &str,
) -> rusqlite::Result<bool> {
    let Some(Event { mut event, .. }) = event(connection, stream, id)? else { return Ok(false) };
    let before = event.links.len();
    event.links.retain(|link| link.rel != rel);
    save_links(connection, id, &event.links)?;
    Ok(event.links.len() < before)
}

fn save_links(connection: &Connection, id: i64, links: &[Link]) -> rusqlite::Result<()> {
    connection.execute("UPDATE annotations SET links = ?2 WHERE id = ?1", params![id, to_json(links)])?;
    Ok(())
}

/// Links are text all through, which always serialises.
fn to_json(links: &[Link]) -> String {
    serde_json::to_string(links).unwrap_or_else(|_| "[]".to_owned())
}

fn stream_of(row: &Row<'_>) -> rusqlite::Result<Stream> {
    Ok(Stream { name: row.get(0)?, display_name: row.get(1)? })
}

fn event_of(row: &Row<'_>) -> rusqlite::Result<Event> {
    let links: String = row.get(5)?;
    let event = NewEvent {
        title: row.get(2)?,
        source: row.get(3)?,
        description: row.get(4)?,
        links: serde_json::from_str(&links).unwrap_or_default(),
        start_time: row.get(6)?,
        end_time: row.get(7)?,
    };
    Ok(Event { id: row.get(0)?, stream: row.get(1)?, event })
}
