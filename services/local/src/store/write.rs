//! Writing: one batch, one transaction.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use serde_json::Value;

use crate::errors::Refusal;
use crate::totals::Ticket;
use crate::validate::{Kind, Point};

/// How long the id of a stored batch is remembered, in seconds.
pub(super) const BATCH_KEEP_S: i64 = 24 * 60 * 60;

/// The points of one POST.
#[derive(Debug)]
pub(crate) struct Batch {
    /// The sender's id of the batch, by which a repetition is known.
    pub(crate) id: Option<String>,
    pub(crate) points: Vec<Point>,
    /// Who sends; becomes an attribute of the metrics this batch creates.
    pub(crate) user_agent: Option<String>,
    pub(crate) now: i64,
    pub(crate) ticket: Ticket,
}

/// What became of a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// All of it is stored.
    Stored,
    /// A batch with its id was stored before; nothing was stored.
    Duplicate,
    /// The metric exists with another kind; nothing was stored.
    Clash { name: String, is: &'static str },
}

/// Stores a batch and settles its ticket.
pub(super) fn store(connection: &mut Connection, batch: Batch) -> rusqlite::Result<Outcome> {
    let Batch { id, points, user_agent, now, ticket } = batch;
    let result = transact(connection, id.as_deref(), &points, user_agent.as_deref(), now);
    match &result {
        Ok(Outcome::Stored) => ticket.accept(),
        Ok(Outcome::Duplicate) => ticket.refuse(Refusal::DuplicateBatch),
        Ok(Outcome::Clash { .. }) => ticket.refuse(Refusal::TypeClash),
        Err(_) => ticket.refuse(Refusal::StoreFailed),
    }
    result
}

/// Whether a batch with this id was stored within the keep time before `now`.
pub(super) fn is_known(connection: &Connection, batch_id: &str, now: i64) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM batches WHERE id = ?1 AND stored >= ?2";
    Ok(connection.query_row(sql, params![batch_id, now - BATCH_KEEP_S], |_| Ok(())).optional()?.is_some())
}

fn transact(
    connection: &mut Connection,
    id: Option<&str>,
    points: &[Point],
    user_agent: Option<&str>,
    now: i64,
) -> rusqlite::Result<Outcome> {
    // Dropping the transaction on any way out but the last rolls it back.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if let Some(id) = id {
        transaction.execute("DELETE FROM batches WHERE stored < ?1", [now - BATCH_KEEP_S])?;
        let sql = "INSERT INTO batches (id, stored) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
        if transaction.execute(sql, params![id, now])? == 0 {
            return Ok(Outcome::Duplicate);
        }
    }
    let mut names = Names { connection: &transaction, metrics: HashMap::new(), sources: HashMap::new() };
    let mut insert = transaction.prepare(
        "INSERT INTO points (metric, source, measure_time, value, count, sum, min, max, sum_squares, buckets)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?;
    for point in points {
        let (metric, kind) = names.metric(point, user_agent, now)?;
        if kind != point.kind {
            return Ok(Outcome::Clash { name: point.name.clone(), is: kind.as_str() });
        }
        let numbers = &point.numbers;
        let buckets = point.buckets.as_ref().and_then(|buckets| serde_json::to_string(buckets).ok());
        insert.execute(params![
            metric,
            names.source(&point.source)?,
            point.measure_time,
            numbers.value,
            numbers.count,
            numbers.sum,
            numbers.min,
            numbers.max,
            numbers.sum_squares,
            buckets,
        ])?;
    }
    drop((insert, names));
    transaction.commit()?;
    Ok(Outcome::Stored)
}

/// The ids of a batch's metrics and sources, each looked up once.
struct Names<'a> {
    connection: &'a Connection,
    metrics: HashMap<String, (i64, Kind)>,
    sources: HashMap<String, i64>,
}

impl Names<'_> {
    fn metric(&mut self, point: &Point, user_agent: Option<&str>, now: i64) -> rusqlite::Result<(i64, Kind)> {
        let key = point.name.to_ascii_lowercase();
        if let Some(known) = self.metrics.get(&key) {
            return Ok(*known);
        }
        let found = self
            .connection
            .query_row("SELECT id, kind = 'counter' FROM metrics WHERE name_key = ?1", [&key], |row| {
                Ok((row.get(0)?, if row.get(1)? { Kind::Counter } else { Kind::Gauge }))
            })
            .optional()?;
        let metric = match found {
            Some(metric) => metric,
            None => (self.create(point, &key, user_agent, now)?, point.kind),
        };
        self.metrics.insert(key, metric);
        Ok(metric)
    }

    fn create(&self, point: &Point, key: &str, user_agent: Option<&str>, now: i64) -> rusqlite::Result<i64> {
        let properties = &point.properties;
        let mut attributes = properties.attributes.clone();
        if let Some(user_agent) = user_agent {
            attributes.insert("created_by_ua".to_owned(), Value::from(user_agent));
        }
        let attributes = Value::from_iter(attributes).to_string();
        self.connection.execute(
            "INSERT INTO metrics (name, name_key, kind, period, description, display_name, attributes, created)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                point.name,
                key,
                point.kind.as_str(),
                properties.period,
                properties.description,
                properties.display_name,
                attributes,
                now,
            ],
        )?;
        Ok(self.connection.last_insert_rowid())
    }

    fn source(&mut self, name: &str) -> rusqlite::Result<i64> {
        let key = name.to_ascii_lowercase();
        if let Some(id) = self.sources.get(&key) {
            return Ok(*id);
        }
        let sql = "INSERT INTO sources (name, name_key) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
        self.connection.execute(sql, params![name, key])?;
        let id = self
            .connection
            .query_row("SELECT id FROM sources WHERE name_key = ?1", [&key], |row| row.get(0))?;
        self.sources.insert(key, id);
        Ok(id)
    }
}
