//! The API's resources, one module each, and what they share.

mod metrics;
pub(crate) mod query;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::errors::{ApiError, JSON};
use crate::server::Shared;

/// All routes of the API.
pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/v1/metrics", get(metrics::list).post(metrics::post))
        .route("/v1/metrics/{name}", get(metrics::show))
}

/// A JSON answer with status 200.
fn json(body: &serde_json::Value) -> Response {
    ([(axum::http::header::CONTENT_TYPE, JSON)], body.to_string()).into_response()
}

type Answer = Result<Response, ApiError>;
