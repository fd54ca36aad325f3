//! `POST /v1/metrics` and `POST /v1/measurements`.

use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::params::{content_type, unreadable};
use super::{Answer, failed, user_agent};
use crate::body::{self, ParseError, TaggedBody};
use crate::errors::{ApiError, JSON, Refusal, unix_now};
use crate::server::{App, Shared, intake};
use crate::store::{Batch, Outcome};
use crate::validate::{self, Flaw, Point, Tagged, Times};

/// The id of a batch, chosen by its sender; a batch whose id was stored in the last 24 h is not
/// stored again.
const BATCH_ID: HeaderName = HeaderName::from_static("x-zibrato-batch");
/// The longest batch id, in visible ASCII characters.
const BATCH_ID_BYTES_MAX: usize = 128;
/// The most errors that one answer lists; all of them are counted.
const ERRORS_LISTED_MAX: usize = 100;

/// `POST /v1/metrics`: 200 and an empty body once the whole batch is on disk.
pub(super) async fn sources(State(app): State<Shared>, headers: HeaderMap, body: Body) -> Answer {
    let batch_id = batch_id(&headers)?;
    let mut received = intake::read(&app, &headers, body).await?;
    let parsed = body::Body::parse(content_type(&headers), &received.bytes).map_err(unreadable)?;
    received.become_points();
    let now = unix_now();
    let ticket = app.counters.offer(parsed.measurements());
    let points = match validate::points(parsed, times(&app, now)) {
        Ok(points) => points,
        Err(error) => {
            // A retry of a stored batch may have grown too old meanwhile; it is stored all the same.
            if let Some(id) = batch_id
                && app.store.is_known(id, now).await.map_err(failed)?
            {
                ticket.refuse(Refusal::DuplicateBatch);
                app.counters.duplicate_batch();
                return Ok(stored());
            }
            ticket.refuse(error.refusal);
            return Err(error);
        }
    };
    write(&app, Batch { id: batch_id, points, user_agent: user_agent(&headers), now, ticket }).await?;
    Ok(stored())
}

/// `POST /v1/measurements`: 200 and how many were stored; each measurement is taken or refused for
/// itself. 200 also if none was taken, because what there is to say is in the body.
pub(super) async fn tags(State(app): State<Shared>, headers: HeaderMap, body: Body) -> Answer {
    let batch_id = batch_id(&headers)?;
    if !body::is_json(content_type(&headers)) {
        let (status, refusal) = (StatusCode::UNSUPPORTED_MEDIA_TYPE, Refusal::UnsupportedMediaType);
        return Err(ApiError::request(status, refusal, "Content-Type must be application/json"));
    }
    let mut received = intake::read(&app, &headers, body).await?;
    let parsed: TaggedBody =
        body::hash(content_type(&headers), &received.bytes).map_err(|error| match error {
            ParseError::TooMany => unreadable(error),
            error => unreadable(error).unprocessable(),
        })?;
    received.become_points();
    let Some(measurements) = &parsed.measurements else {
        return Err(ApiError::param(Refusal::NotParsed, "measurements", "is not present").unprocessable());
    };
    let total = measurements.0.len();
    if total == 0 {
        return Err(validate::no_measurement());
    }
    let now = unix_now();
    let mut ticket = app.counters.offer(total);
    let Tagged { points, mut flaws } = validate::tagged(parsed, times(&app, now));
    let points = without_counters(&app, points, &mut flaws).await?;
    for flaw in &flaws {
        ticket.split(1).refuse(flaw.refusal);
    }
    let accepted = points.len();
    if accepted > 0 {
        write(&app, Batch { id: batch_id, points, user_agent: user_agent(&headers), now, ticket }).await?;
    }
    Ok(summary(total, accepted, &flaws))
}

/// Stores a batch and counts it.
async fn write(app: &App, batch: Batch) -> Result<(), ApiError> {
    let now = batch.now;
    let aggregated = batch.points.iter().filter(|point| point.properties.is_aggregated()).count();
    let standard = batch.points.len() - aggregated;
    let outcome = app.store.write(batch).await;
    app.store_fails.store(outcome.is_err(), Ordering::Relaxed);
    match outcome.map_err(failed)? {
        Outcome::Stored => app.rate.take(now, aggregated as u64, standard as u64),
        Outcome::Duplicate => app.counters.duplicate_batch(),
        Outcome::Clash { name, is } => return Err(ApiError::clash(&name, is)),
    }
    Ok(())
}

/// The points whose metrics are no counters: those take no tags, and one of them would refuse the rest.
async fn without_counters(
    app: &App,
    points: Vec<Point>,
    flaws: &mut Vec<Flaw>,
) -> Result<Vec<Point>, ApiError> {
    let names = points.iter().map(|point| point.name.clone()).collect();
    let counters = app.store.counters_among(names).await.map_err(failed)?;
    let is_counter = |point: &Point| counters.contains(&point.name.to_ascii_lowercase());
    let (refused, points) = points.into_iter().partition::<Vec<_>, _>(is_counter);
    flaws.extend(refused.iter().map(|point| Flaw::clash(&point.name)));
    Ok(points)
}

fn times(app: &App, now: i64) -> Times {
    Times { now, max_age_s: app.max_age_s, max_ahead_s: app.max_ahead_s }
}

fn batch_id(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(BATCH_ID) else { return Ok(None) };
    match value.to_str() {
        Ok(id) if (1..=BATCH_ID_BYTES_MAX).contains(&id.len()) => Ok(Some(id.to_owned())),
        _ => {
            let text = format!("X-Zibrato-Batch must be 1 to {BATCH_ID_BYTES_MAX} visible ASCII characters");
            Err(ApiError::request(StatusCode::BAD_REQUEST, Refusal::BadBatchId, text))
        }
    }
}

/// Clients of Librato check for exactly 200 with nothing in it.
fn stored() -> Response {
    (StatusCode::OK, [(header::CONTENT_LENGTH, "0")]).into_response()
}

/// How the measurements fared, without a blank: a client looks for `"failed":0` in the text.
fn summary(total: usize, accepted: usize, flaws: &[Flaw]) -> Response {
    let failed = flaws.len();
    let errors: Value = flaws.iter().take(ERRORS_LISTED_MAX).map(Flaw::to_json).collect();
    let body = format!(
        "{{\"measurements\":{{\"summary\":{{\"total\":{total},\"accepted\":{accepted},\"failed\":{failed},\"filtered\":0}}}},\"errors\":{errors}}}"
    );
    ([(header::CONTENT_TYPE, JSON)], body).into_response()
}
