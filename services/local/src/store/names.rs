//! The ids of metrics, sources and series by their names, as the writer knows them.

use std::collections::{BTreeMap, HashMap, HashSet};

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::{Map, Value};

use super::model::{Origin, OriginKind};
use crate::validate::{Kind, Point};

/// The most entries that are remembered, of metrics, sources and series together; then all are
/// forgotten and looked up again.
const ENTRIES_MAX: usize = 500_000;

/// A metric as the writer knows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Metric {
    pub(super) id: i64,
    pub(super) kind: Kind,
}

/// A memory of what the tables say. Only the writer changes the tables, and it makes this forget
/// whenever they change otherwise than through it, or a transaction is rolled back.
#[derive(Debug, Default)]
pub(super) struct Names {
    metrics: HashMap<String, Metric>,
    sources: HashMap<String, i64>,
    series: HashMap<(i64, i64), Series>,
    /// The origins that the tables hold already.
    origins: HashMap<i64, Known>,
}

#[derive(Clone, Copy, Debug)]
struct Series {
    id: i64,
    newest: i64,
}

#[derive(Debug)]
struct Known {
    kind: OriginKind,
    levels: HashSet<String>,
}

impl Names {
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// The metric of a point; it is created if there is none.
    pub(super) fn metric(
        &mut self,
        connection: &Connection,
        point: &Point,
        user_agent: Option<&str>,
        now: i64,
    ) -> rusqlite::Result<Metric> {
        let key = point.name.to_ascii_lowercase();
        let metric = match self.metrics.get(&key) {
            Some(known) => *known,
            None => {
                let metric = match find_metric(connection, &key)? {
                    Some(metric) => metric,
                    None => create_metric(connection, point, &key, user_agent, now)?,
                };
                self.make_room();
                self.metrics.insert(key, metric);
                metric
            }
        };
        Ok(metric)
    }

    /// The source of a point; it is created if there is none.
    pub(super) fn source(&mut self, connection: &Connection, point: &Point) -> rusqlite::Result<i64> {
        let key = point.source.to_ascii_lowercase();
        if let Some(id) = self.sources.get(&key) {
            return Ok(*id);
        }
        let tags = (!point.tags.is_empty()).then(|| {
            let tags = point.tags.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str())));
            Value::Object(tags.collect::<Map<_, _>>()).to_string()
        });
        connection
            .prepare_cached(
                "INSERT INTO sources (name, name_key, tags) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
            )?
            .execute(params![point.source, key, tags])?;
        let id = connection
            .prepare_cached("SELECT id FROM sources WHERE name_key = ?1")?
            .query_row([&key], |row| row.get(0))?;
        self.make_room();
        self.sources.insert(key, id);
        Ok(id)
    }

    /// The series of a metric and a source, which has a point at `t` now; it is created if there is
    /// none.
    pub(super) fn series(
        &mut self,
        connection: &Connection,
        metric: i64,
        source: i64,
        t: i64,
    ) -> rusqlite::Result<i64> {
        if let Some(series) = self.series.get_mut(&(metric, source)) {
            if series.newest < t {
                series.newest = t;
                connection
                    .prepare_cached("UPDATE series SET newest = ?2 WHERE id = ?1")?
                    .execute(params![series.id, t])?;
            }
            return Ok(series.id);
        }
        let (id, newest) = connection
            .prepare_cached(
                "INSERT INTO series (metric, source, newest) VALUES (?1, ?2, ?3)
                 ON CONFLICT (metric, source) DO UPDATE SET newest = max(newest, excluded.newest)
                 RETURNING id, newest",
            )?
            .query_row(params![metric, source, t], |row| Ok((row.get(0)?, row.get(1)?)))?;
        self.make_room();
        self.series.insert((metric, source), Series { id, newest });
        Ok(id)
    }

    /// Keeps the kind and unit that came first, and all levels. Returns the kind that the metric has.
    pub(super) fn origin(
        &mut self,
        connection: &Connection,
        metric: i64,
        origin: &Origin,
    ) -> rusqlite::Result<OriginKind> {
        if !self.origins.contains_key(&metric) {
            let kind: String = connection
                .prepare_cached(
                    "UPDATE metrics SET origin = coalesce(origin, ?2), unit = iif(origin IS NULL, ?3, unit)
                     WHERE id = ?1 RETURNING origin",
                )?
                .query_row(params![metric, origin.kind.as_str(), origin.unit], |row| row.get(0))?;
            self.make_room();
            let kind = OriginKind::of(&kind).unwrap_or(origin.kind);
            self.origins.insert(metric, Known { kind, levels: HashSet::new() });
        }
        let Some(known) = self.origins.get_mut(&metric) else { return Ok(origin.kind) };
        for level in &origin.levels {
            if !known.levels.contains(level) {
                connection
                    .prepare_cached(
                        "INSERT INTO metric_levels (metric, level) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
                    )?
                    .execute(params![metric, level])?;
                known.levels.insert(level.clone());
            }
        }
        Ok(known.kind)
    }

    fn make_room(&mut self) {
        let entries = self.metrics.len() + self.sources.len() + self.series.len() + self.origins.len();
        if entries >= ENTRIES_MAX {
            self.forget();
        }
    }
}

fn find_metric(connection: &Connection, key: &str) -> rusqlite::Result<Option<Metric>> {
    connection
        .prepare_cached("SELECT id, kind = 'counter' FROM metrics WHERE name_key = ?1")?
        .query_row([key], |row| {
            let kind = if row.get(1)? { Kind::Counter } else { Kind::Gauge };
            Ok(Metric { id: row.get(0)?, kind })
        })
        .optional()
}

fn create_metric(
    connection: &Connection,
    point: &Point,
    key: &str,
    user_agent: Option<&str>,
    now: i64,
) -> rusqlite::Result<Metric> {
    let properties = &point.properties;
    let mut attributes = BTreeMap::clone(&properties.attributes);
    if let Some(user_agent) = user_agent {
        attributes.insert("created_by_ua".to_owned(), Value::from(user_agent));
    }
    let attributes = Value::from_iter(attributes).to_string();
    connection
        .prepare_cached(
            "INSERT INTO metrics (name, name_key, kind, period, description, display_name, attributes, created)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            point.name,
            key,
            point.kind.as_str(),
            properties.period,
            properties.description,
            properties.display_name,
            attributes,
            now,
        ])?;
    Ok(Metric { id: connection.last_insert_rowid(), kind: point.kind })
}
