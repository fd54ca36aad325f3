//! `GET /page/annotations`: what happened in a range, of all streams.

use axum::extract::State;
use axum::http::{Uri, header};
use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::browse;
use super::pictures::NOT_STORED;
use super::request::{Answer, PageError, Params};
use crate::errors::{JSON, unix_now};
use crate::server::{App, Shared};

pub(super) async fn show(State(app): State<Shared>, uri: Uri) -> Answer {
    let range = Params::of(&uri).range(unix_now())?;
    let (found, is_cut) = browse::happened(&app.store, range.start, range.end).await?;
    let annotations: Vec<Value> = found
        .into_iter()
        .map(|each| {
            json!({
                "stream": each.stream,
                "title": each.title,
                "source": each.source,
                "description": each.description,
                "links": each.links,
                "start": each.start,
                "end": each.end,
            })
        })
        .collect();
    let body = json!({ "annotations": annotations, "is_cut": is_cut }).to_string();
    Ok(([(header::CONTENT_TYPE, JSON), (header::CACHE_CONTROL, NOT_STORED)], body).into_response())
}

/// The times at which annotations stand on a chart, in the order in which they are listed.
pub(super) async fn times(app: &App, start: i64, end: i64) -> Result<Vec<i64>, PageError> {
    let (found, _) = browse::happened(&app.store, start, end).await?;
    // What began before the range stands at its edge.
    Ok(found.into_iter().map(|each| each.start.max(start)).collect())
}
