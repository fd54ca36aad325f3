//! The API's resources, one module each, and what they share.

mod annotations;
mod batch;
mod interval;
mod jobs;
mod measurements;
mod metrics;
mod names;
mod params;
pub(crate) mod query;
mod sources;
pub(crate) mod status;
mod submit;
mod summarize;
mod tag_filter;

use axum::Router;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use serde_json::Value;

use crate::errors::{ApiError, JSON, Refusal};
use crate::server::Shared;
use crate::store::StoreError;
use crate::store::catalogue::Page;

pub(crate) use jobs::Jobs;

/// The longest User-Agent kept as the attribute `created_by_ua`, in characters.
const USER_AGENT_CHARS_MAX: usize = 255;

/// All routes of the API.
pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route(
            "/v1/metrics",
            get(metrics::list).post(submit::sources).put(batch::update).delete(batch::delete),
        )
        .route("/v1/metrics/{name}", get(metrics::show).put(metrics::put).delete(metrics::delete))
        .route("/v1/measurements", post(submit::tags))
        .route("/v1/measurements/{name}", get(measurements::show))
        .route("/v1/sources", get(sources::list))
        .route("/v1/sources/{name}", get(sources::show).put(sources::put).delete(sources::delete))
        .route("/v1/annotations", get(annotations::list))
        .route(
            "/v1/annotations/{name}",
            get(annotations::show)
                .post(annotations::add)
                .put(annotations::update)
                .delete(annotations::delete),
        )
        .route(
            "/v1/annotations/{name}/{id}",
            get(annotations::show_event).put(annotations::update_event).delete(annotations::delete_event),
        )
        .route("/v1/annotations/{name}/{id}/links", post(annotations::add_link))
        .route("/v1/annotations/{name}/{id}/links/{rel}", delete(annotations::delete_link))
        .route("/v1/jobs/{id}", get(jobs::show))
        .merge(status::routes())
}

type Answer = Result<Response, ApiError>;

/// A JSON answer with status 200.
fn json(body: &Value) -> Response {
    ([(header::CONTENT_TYPE, JSON)], body.to_string()).into_response()
}

/// 201, with the place of what was created.
fn created(location: &str, body: &Value) -> Response {
    (StatusCode::CREATED, at(location), json(body)).into_response()
}

/// 204: done, and nothing to say.
fn no_content() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// The header `Location`. Names in it are of characters that a header can hold.
fn at(location: &str) -> HeaderMap {
    HeaderValue::from_str(location).map(|value| (header::LOCATION, value)).into_iter().collect()
}

/// A page of a list, whose rows go under `key`.
fn page<T>(key: &str, offset: i64, page: Page<T>, row: impl FnMut(T) -> Value) -> Value {
    let rows: Vec<Value> = page.rows.into_iter().map(row).collect();
    serde_json::json!({
        "query": { "found": page.found, "length": rows.len(), "offset": offset, "total": page.total },
        key: rows,
    })
}

/// The client, as it names itself.
fn user_agent(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::USER_AGENT)?.to_str().ok()?;
    Some(value.chars().take(USER_AGENT_CHARS_MAX).collect())
}

/// The answer to an error of the store.
pub(crate) fn failed(error: StoreError) -> ApiError {
    match error {
        StoreError::Unavailable { .. } => return ApiError::resolution_unavailable(),
        StoreError::TooManySteps => {
            return ApiError::request(StatusCode::BAD_REQUEST, Refusal::BadQuery, error.to_string());
        }
        _ => tracing::error!(error = %zibrato_service::chain(&error), "the store failed"),
    }
    match error {
        StoreError::TimedOut => ApiError::busy("The query took too long. Please ask for less at once."),
        _ => ApiError::store_failed(),
    }
}
