//! The properties of metrics.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::{Map, Value};

use super::{ListQuery, Page, discard_series, key, keys};
use crate::store::model::{Origin, OriginKind};
use crate::validate::{Changes, Kind, is_for};

const COLUMNS: &str = "id, name, kind, period, description, display_name, attributes, origin, unit,
    (SELECT json_group_array(level ORDER BY level) FROM metric_levels WHERE metric = metrics.id)";

/// A metric.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Metric {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) period: Option<i64>,
    pub(crate) description: Option<String>,
    pub(crate) display_name: Option<String>,
    pub(crate) attributes: Map<String, Value>,
    /// Where a Zibrato worker said it comes from.
    pub(crate) origin: Option<Origin>,
}

/// Which metrics: exact names, patterns in which `*` stands for anything, and exceptions of both kinds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Names {
    pub(crate) names: Vec<String>,
    pub(crate) patterns: Vec<String>,
    pub(crate) excluded: Vec<String>,
}

/// What to make of a metric.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct MetricPut {
    pub(crate) name: String,
    /// Required to create it.
    pub(crate) kind: Option<Kind>,
    pub(crate) changes: Changes,
    pub(crate) user_agent: Option<String>,
    pub(crate) now: i64,
}

/// What became of it.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum PutOutcome {
    Updated,
    Created(Box<Metric>),
    /// There is none, and its kind was not given.
    KindMissing,
    /// It is of another kind.
    Clash {
        name: String,
        is: Kind,
    },
}

pub(super) fn list(connection: &Connection, query: &ListQuery) -> rusqlite::Result<Page<Metric>> {
    let wanted = key(&query.name_contains);
    let total = connection.query_row("SELECT count(*) FROM metrics", (), |row| row.get(0))?;
    let found = "SELECT count(*) FROM metrics WHERE instr(name_key, ?1) > 0";
    let found = connection.query_row(found, [&wanted], |row| row.get(0))?;
    let sql = format!(
        "SELECT {COLUMNS} FROM metrics WHERE instr(name_key, ?1) > 0 ORDER BY name_key {} LIMIT ?2 OFFSET ?3",
        query.order()
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params![wanted, query.length, query.offset], metric)?;
    Ok(Page { found, total, rows: rows.collect::<Result<_, _>>()? })
}

pub(super) fn one(connection: &Connection, name: &str) -> rusqlite::Result<Option<Metric>> {
    let sql = format!("SELECT {COLUMNS} FROM metrics WHERE name_key = ?1");
    connection.prepare_cached(&sql)?.query_row([key(name)], metric).optional()
}

pub(super) fn named(connection: &Connection, names: &Names) -> rusqlite::Result<Vec<String>> {
    // Exact names use the index; only patterns look at every metric.
    let sql = "
        SELECT name_key FROM metrics
        WHERE (name_key IN (SELECT value FROM json_each(?1))
               OR EXISTS (SELECT 1 FROM json_each(?2) AS wanted WHERE name_key GLOB wanted.value))
          AND NOT EXISTS (SELECT 1 FROM json_each(?3) AS excluded WHERE name_key GLOB excluded.value)
        ORDER BY name_key";
    let lists = [&names.names, &names.patterns, &names.excluded].map(|names| keys(names));
    let mut statement = connection.prepare(sql)?;
    statement.query_map(lists, |row| row.get(0))?.collect()
}

pub(super) fn counters_among(connection: &Connection, names: &[String]) -> rusqlite::Result<HashSet<String>> {
    let sql = "SELECT name_key FROM metrics
               WHERE kind = 'counter' AND name_key IN (SELECT value FROM json_each(?1))";
    connection.prepare_cached(sql)?.query_map([keys(names)], |row| row.get(0))?.collect()
}

pub(super) fn put(connection: &Connection, put: &MetricPut) -> rusqlite::Result<PutOutcome> {
    let outcome = match (one(connection, &put.name)?, put.kind) {
        (Some(metric), Some(kind)) if metric.kind != kind => {
            return Ok(PutOutcome::Clash { name: metric.name, is: metric.kind });
        }
        (Some(metric), _) => {
            save(connection, &changed(metric, &put.changes))?;
            PutOutcome::Updated
        }
        (None, None) => return Ok(PutOutcome::KindMissing),
        (None, Some(kind)) => {
            let sql = "INSERT INTO metrics (name, name_key, kind, attributes, created) VALUES (?1, ?2, ?3, '{}', ?4)";
            connection.execute(sql, params![put.name, key(&put.name), kind.as_str(), put.now])?;
            let id = connection.last_insert_rowid();
            let mut attributes = Map::new();
            if let Some(user_agent) = &put.user_agent {
                attributes.insert("created_by_ua".to_owned(), user_agent.as_str().into());
            }
            let metric = Metric {
                id,
                name: put.name.clone(),
                kind,
                period: None,
                description: None,
                display_name: None,
                attributes,
                origin: None,
            };
            let metric = changed(metric, &put.changes);
            save(connection, &metric)?;
            PutOutcome::Created(Box::new(metric))
        }
    };
    Ok(outcome)
}

pub(super) fn update(connection: &Connection, names: &[String], changes: &Changes) -> rusqlite::Result<()> {
    for name in names {
        if let Some(metric) = one(connection, name)? {
            save(connection, &changed(metric, changes))?;
        }
    }
    Ok(())
}

pub(super) fn delete(connection: &Connection, names: &[String]) -> rusqlite::Result<()> {
    for name in names {
        if let Some(metric) = one(connection, name)? {
            discard_series(connection, "metric = ?1", metric.id)?;
            connection.execute("DELETE FROM metric_levels WHERE metric = ?1", [metric.id])?;
            connection.execute("DELETE FROM metrics WHERE id = ?1", [metric.id])?;
        }
    }
    Ok(())
}

fn changed(mut metric: Metric, changes: &Changes) -> Metric {
    if let Some(period) = changes.period {
        metric.period = period;
    }
    if let Some(description) = &changes.description {
        metric.description.clone_from(description);
    }
    if let Some(display_name) = &changes.display_name {
        metric.display_name.clone_from(display_name);
    }
    for (key, value) in &changes.attributes {
        if !is_for(metric.kind, key) {
            continue;
        }
        if value.is_null() {
            metric.attributes.remove(key);
        } else {
            metric.attributes.insert(key.clone(), value.clone());
        }
    }
    metric
}

fn save(connection: &Connection, metric: &Metric) -> rusqlite::Result<()> {
    let sql =
        "UPDATE metrics SET period = ?2, description = ?3, display_name = ?4, attributes = ?5 WHERE id = ?1";
    let attributes = serde_json::to_string(&metric.attributes).unwrap_or_default();
    let parameters = params![metric.id, metric.period, metric.description, metric.display_name, attributes];
    connection.prepare_cached(sql)?.execute(parameters)?;
    Ok(())
}

fn metric(row: &Row<'_>) -> rusqlite::Result<Metric> {
    let json = |column| row.get::<_, String>(column);
    let kind = if json(2)? == Kind::Counter.as_str() { Kind::Counter } else { Kind::Gauge };
    let origin: Option<String> = row.get(7)?;
    let origin = origin.as_deref().and_then(OriginKind::of);
    let levels = serde_json::from_str(&json(9)?).unwrap_or_default();
    let unit = row.get(8)?;
    Ok(Metric {
        id: row.get(0)?,
        name: row.get(1)?,
        kind,
        period: row.get(3)?,
        description: row.get(4)?,
        display_name: row.get(5)?,
        attributes: serde_json::from_str(&json(6)?).unwrap_or_default(),
        origin: origin.map(|kind| Origin { kind, levels, unit }),
    })
}
