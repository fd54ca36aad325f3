//! Writing: one batch, one transaction.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use zibrato_service::KindClash;

use super::distribution;
use super::model::{Complex, RawPoint};
use super::names::Names;
use super::tail;
use crate::errors::Refusal;
use crate::totals::Ticket;
use crate::validate::Point;

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

/// Stores a batch and settles its ticket. `changed` gets the metrics that have new points.
pub(super) fn store(
    connection: &mut Connection,
    names: &mut Names,
    batch: Batch,
    changed: &mut Vec<i64>,
) -> rusqlite::Result<Outcome> {
    let Batch { id, points, user_agent, now, ticket } = batch;
    let mut clashes = Vec::new();
    let of = (id.as_deref(), now);
    let result = transact(connection, names, of, &points, user_agent.as_deref(), changed, &mut clashes);
    if !matches!(result, Ok(Outcome::Stored | Outcome::Duplicate)) {
        // What it made was rolled back.
        names.forget();
        changed.clear();
    }
    match &result {
        Ok(Outcome::Stored) => {
            ticket.note_clashes(clashes);
            ticket.accept();
        }
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
    names: &mut Names,
    (id, now): (Option<&str>, i64),
    points: &[Point],
    user_agent: Option<&str>,
    changed: &mut Vec<i64>,
    clashes: &mut Vec<KindClash>,
) -> rusqlite::Result<Outcome> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if let Some(id) = id {
        transaction.prepare_cached("DELETE FROM batches WHERE stored < ?1")?.execute([now - BATCH_KEEP_S])?;
        let sql = "INSERT INTO batches (id, stored) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
        if transaction.prepare_cached(sql)?.execute(params![id, now])? == 0 {
            return Ok(Outcome::Duplicate);
        }
    }
    let mut insert = tail::Insert::prepare(&transaction)?;
    for point in points {
        let metric = names.metric(&transaction, point, user_agent, now)?;
        if metric.kind != point.kind {
            return Ok(Outcome::Clash { name: point.name.clone(), is: metric.kind.as_str() });
        }
        if let Some(origin) = &point.origin {
            let is = names.origin(&transaction, metric.id, origin)?;
            if is != origin.kind {
                let (is, sent) = (is.as_str().to_owned(), origin.kind.as_str().to_owned());
                clashes.push(KindClash { metric: point.name.clone(), is, sent });
            }
        }
        let source = names.source(&transaction, point)?;
        let series = names.series(&transaction, metric.id, source, point.measure_time)?;
        insert.add(series, &raw(point))?;
        changed.push(metric.id);
    }
    drop(insert);
    transaction.commit()?;
    changed.sort_unstable();
    changed.dedup();
    Ok(Outcome::Stored)
}

fn raw(point: &Point) -> RawPoint {
    let numbers = &point.numbers;
    let complex = Complex {
        count: numbers.count,
        sum: numbers.sum,
        min: numbers.min,
        max: numbers.max,
        sum_squares: numbers.sum_squares,
        histogram: point.buckets.as_ref().map(distribution::of),
    };
    RawPoint::new(point.measure_time, numbers.value, complex)
}
