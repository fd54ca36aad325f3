//! What the page lists: metrics with what is known of them, levels, sources, annotations.

use rusqlite::{Connection, Row, params};
use serde_json::Value;

use super::figures::Kind;
use crate::store::model::OriginKind;
use crate::store::{SLOT_S, Store, StoreError};
use crate::validate::Kind as Posted;

/// The most levels and sources in one answer, each.
const NAMES_MAX: i64 = 100;
/// The most annotations in one answer.
const ANNOTATIONS_MAX: usize = 100;

/// Which metrics to list. Empty texts are no filters; `source` is a pattern in which `*` stands for
/// anything.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct BrowseQuery {
    pub(super) name: String,
    pub(super) name_contains: String,
    pub(super) level: String,
    pub(super) kind: String,
    pub(super) source: String,
    pub(super) offset: i64,
    pub(super) length: i64,
}

/// A part of the list, in order of names.
#[derive(Clone, Debug)]
pub(super) struct Browsed {
    /// The metrics that match.
    pub(super) found: i64,
    /// All metrics.
    pub(super) total: i64,
    pub(super) metrics: Vec<BrowsedMetric>,
    /// The first levels and sources that there are, whatever matches.
    pub(super) levels: Vec<String>,
    pub(super) sources: Vec<String>,
}

/// A metric as it is listed.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct BrowsedMetric {
    pub(super) id: i64,
    pub(super) name: String,
    pub(super) display_name: Option<String>,
    pub(super) description: Option<String>,
    pub(super) posted: Posted,
    pub(super) origin: Option<OriginKind>,
    pub(super) unit: Option<String>,
    pub(super) levels: Vec<String>,
    /// How many sources it has.
    pub(super) sources: i64,
    /// The time and the value (mean) of its newest point.
    pub(super) newest: Option<i64>,
    pub(super) latest: Option<f64>,
}

impl BrowsedMetric {
    /// How it is read.
    pub(super) fn kind(&self) -> Kind {
        Kind::of(self.origin, self.posted)
    }

    /// What it is measured in. Timers measure seconds, whether they say so or not.
    pub(super) fn unit(&self) -> &str {
        let unit = self.unit.as_deref().filter(|unit| !unit.is_empty());
        unit.unwrap_or(if self.kind() == Kind::Timer { "s" } else { "" })
    }
}

/// Something that happened, of any stream.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Happened {
    pub(super) stream: String,
    pub(super) title: String,
    pub(super) source: Option<String>,
    pub(super) description: Option<String>,
    pub(super) links: Value,
    pub(super) start: i64,
    pub(super) end: Option<i64>,
}

const MATCHING: &str = "
FROM metrics m
WHERE (?1 = '' OR m.name_key = ?1)
  AND (?2 = '' OR instr(m.name_key, ?2) > 0)
  AND (?3 = '' OR EXISTS (SELECT 1 FROM metric_levels l WHERE l.metric = m.id AND l.level = ?3))
  AND (?4 = '' OR coalesce(m.origin, m.kind) = ?4)
  AND (?5 = '' OR EXISTS (SELECT 1 FROM series JOIN sources ON sources.id = series.source
                          WHERE series.metric = m.id AND sources.name_key GLOB ?5))";

/// The newest point is in the tail or, if it is packed, the last one of its rollup.
fn columns() -> String {
    format!(
        "
SELECT m.id, m.name, m.display_name, m.description, m.kind, m.origin, m.unit,
       (SELECT json_group_array(level) FROM (SELECT level FROM metric_levels WHERE metric = m.id ORDER BY level)),
       (SELECT count(*) FROM series WHERE metric = m.id),
       newest.newest,
       coalesce((SELECT value FROM tail WHERE slot = newest.newest / {SLOT_S} AND series = newest.id AND t = newest.newest ORDER BY n DESC LIMIT 1),
                (SELECT last FROM rollups WHERE resolution = 60 AND series = newest.id AND t = newest.newest / 60 * 60),
                (SELECT last FROM rollups WHERE resolution = 900 AND series = newest.id AND t = newest.newest / 900 * 900),
                (SELECT last FROM rollups WHERE resolution = 3600 AND series = newest.id AND t = newest.newest / 3600 * 3600))
FROM (SELECT m.* "
    )
}

const NEWEST: &str = "
      ORDER BY m.name_key LIMIT ?6 OFFSET ?7) m
LEFT JOIN series newest ON newest.id =
    (SELECT id FROM series WHERE metric = m.id ORDER BY newest DESC LIMIT 1)
ORDER BY m.name_key";

/// A part of the list of metrics.
pub(super) async fn list(store: &Store, query: BrowseQuery) -> Result<Browsed, StoreError> {
    store.read(move |connection| select(connection, &query)).await
}

/// What happened in a range of seconds, the first of it in order of time, and whether there is more.
pub(super) async fn happened(
    store: &Store,
    start: i64,
    end: i64,
) -> Result<(Vec<Happened>, bool), StoreError> {
    let mut found = store.read(move |connection| select_happened(connection, start, end)).await?;
    let is_cut = found.len() > ANNOTATIONS_MAX;
    found.truncate(ANNOTATIONS_MAX);
    Ok((found, is_cut))
}

fn select(connection: &Connection, query: &BrowseQuery) -> rusqlite::Result<Browsed> {
    let name = query.name.to_ascii_lowercase();
    let contains = query.name_contains.to_ascii_lowercase();
    let pattern = glob(&query.source);
    let total = connection.query_row("SELECT count(*) FROM metrics", (), |row| row.get(0))?;
    let found = connection
        .prepare_cached(&format!("SELECT count(*) {MATCHING}"))?
        .query_row(params![name, contains, query.level, query.kind, pattern], |row| row.get(0))?;
    // Only text of this file goes into the statement.
    let mut statement = connection.prepare_cached(&format!("{} {MATCHING} {NEWEST}", columns()))?;
    let metrics = statement
        .query_map(
            params![name, contains, query.level, query.kind, pattern, query.length, query.offset],
            metric,
        )?
        .collect::<Result<_, _>>()?;
    let names = |sql: &str| -> rusqlite::Result<Vec<String>> {
        connection.prepare_cached(sql)?.query_map([NAMES_MAX], |row| row.get(0))?.collect()
    };
    let levels = names("SELECT DISTINCT level FROM metric_levels ORDER BY level LIMIT ?1")?;
    let sources = names("SELECT name FROM sources ORDER BY name_key LIMIT ?1")?;
    Ok(Browsed { found, total, metrics, levels, sources })
}

fn select_happened(connection: &Connection, start: i64, end: i64) -> rusqlite::Result<Vec<Happened>> {
    let mut statement = connection.prepare_cached(
        "SELECT s.name, a.title, a.source, a.description, a.links, a.start_time, a.end_time
         FROM annotations a JOIN annotation_streams s ON s.id = a.stream
         WHERE a.start_time < ?2 AND coalesce(a.end_time, a.start_time) >= ?1
         ORDER BY a.start_time, a.id LIMIT ?3",
    )?;
    let rows = statement.query_map(params![start, end, ANNOTATIONS_MAX as i64 + 1], |row| {
        let links: String = row.get(4)?;
        Ok(Happened {
            stream: row.get(0)?,
            title: row.get(1)?,
            source: row.get(2)?,
            description: row.get(3)?,
            links: serde_json::from_str(&links).unwrap_or_default(),
            start: row.get(5)?,
            end: row.get(6)?,
        })
    })?;
    rows.collect()
}

fn metric(row: &Row<'_>) -> rusqlite::Result<BrowsedMetric> {
    let (kind, origin): (String, Option<String>) = (row.get(4)?, row.get(5)?);
    let levels: String = row.get(7)?;
    Ok(BrowsedMetric {
        id: row.get(0)?,
        name: row.get(1)?,
        display_name: row.get(2)?,
        description: row.get(3)?,
        posted: if kind == "counter" { Posted::Counter } else { Posted::Gauge },
        origin: match origin.as_deref() {
            Some("counter") => Some(OriginKind::Counter),
            Some("gauge") => Some(OriginKind::Gauge),
            Some("timer") => Some(OriginKind::Timer),
            _ => None,
        },
        unit: row.get(6)?,
        levels: serde_json::from_str(&levels).unwrap_or_default(),
        sources: row.get(8)?,
        newest: row.get(9)?,
        latest: row.get(10)?,
    })
}

/// A pattern of ours as SQLite's: only `*` stands for something else, in any case of letters.
fn glob(pattern: &str) -> String {
    let mut glob = String::with_capacity(pattern.len());
    for char in pattern.to_ascii_lowercase().chars() {
        match char {
            '?' | '[' => glob.extend(['[', char, ']']),
            _ => glob.push(char),
        }
    }
    glob
}
