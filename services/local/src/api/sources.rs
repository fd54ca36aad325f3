//! `/v1/sources`: what measures, and how it is called.

use axum::extract::State;
use axum::http::Uri;
use serde_json::{Value, json};

use super::names::Path;
use super::params::Params;
use super::query::Query;
use super::{Answer, created, failed, json, no_content, page};
use crate::body::Scalar;
use crate::errors::{ApiError, Refusal};
use crate::server::Shared;
use crate::store::catalogue::Source;
use crate::validate;

/// The longest display name, in characters.
const DISPLAY_NAME_CHARS_MAX: usize = 255;

/// `GET /v1/sources`: a page of the sources whose name or display name contains `name`. Sources that
/// stand for tags are not among them.
pub(super) async fn list(State(app): State<Shared>, uri: Uri) -> Answer {
    let list = Query::of(&uri).page()?;
    let offset = list.offset;
    let found = app.store.sources(list).await.map_err(failed)?;
    Ok(json(&page("sources", offset, found, to_json)))
}

/// `GET /v1/sources/:name`.
pub(super) async fn show(State(app): State<Shared>, path: Path) -> Answer {
    let source = app.store.source(path.part(0).to_owned()).await.map_err(failed)?;
    Ok(json(&to_json(source.ok_or_else(ApiError::not_found)?)))
}

/// `PUT /v1/sources/:name`: 204, or 201 if there was none.
pub(super) async fn put(State(app): State<Shared>, path: Path, params: Params) -> Answer {
    let name = path.part(0).to_owned();
    if !validate::is_source(&name) {
        let text = format!("{name} is not a valid source name");
        return Err(ApiError::param(Refusal::BadSource, "name", text));
    }
    let display_name = params.given("display_name").map(|given| given.as_ref().map(Scalar::text));
    if display_name.iter().flatten().any(|text| text.chars().count() > DISPLAY_NAME_CHARS_MAX) {
        let text = format!("is longer than {DISPLAY_NAME_CHARS_MAX} characters");
        return Err(ApiError::param(Refusal::BadProperty, "display_name", text));
    }
    let source = Source { name: name.clone(), display_name: display_name.clone().flatten() };
    if app.store.put_source(name, display_name).await.map_err(failed)? {
        let place = format!("/v1/sources/{}", source.name);
        return Ok(created(&place, &to_json(source)));
    }
    Ok(no_content())
}

/// `DELETE /v1/sources/:name`. Librato documented none; here it does what it does for metrics: the
/// source vanishes with its measurements, and one that is not there is deleted already.
pub(super) async fn delete(State(app): State<Shared>, path: Path) -> Answer {
    app.store.delete_source(path.part(0).to_owned()).await.map_err(failed)?;
    Ok(no_content())
}

fn to_json(source: Source) -> Value {
    json!({ "name": source.name, "display_name": source.display_name })
}
