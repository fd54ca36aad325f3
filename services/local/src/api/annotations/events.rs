//! Single events and their links.

use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::fields;
use crate::api::names::Path;
use crate::api::params::Params;
use crate::api::{Answer, created, failed, json, no_content};
use crate::errors::{ApiError, Refusal, unix_now};
use crate::server::Shared;
use crate::store::catalogue::{Event, EventOutcome, LINKS_MAX, Link, LinkOutcome};

/// `POST /v1/annotations/:name`: 201, and the stream is created with its first event.
pub(in crate::api) async fn add(State(app): State<Shared>, path: Path, params: Params) -> Answer {
    let stream = fields::stream(path.part(0))?;
    let event = fields::new_event(&params, unix_now())?;
    let event = app.store.add_event(stream, event).await.map_err(failed)?;
    Ok(created(&place(&event), &to_json(&event)))
}

/// `GET /v1/annotations/:name/:id`. The vendor's Python client reads the stream's name here too.
pub(in crate::api) async fn show_event(State(app): State<Shared>, path: Path) -> Answer {
    let event = app.store.event(path.part(0).to_owned(), path.id(1)?).await.map_err(failed)?;
    let event = event.ok_or_else(ApiError::not_found)?;
    let mut body = to_json(&event);
    body["name"] = event.stream.into();
    Ok(json(&body))
}

/// `PUT /v1/annotations/:name/:id`.
pub(in crate::api) async fn update_event(State(app): State<Shared>, path: Path, params: Params) -> Answer {
    let (stream, id) = (path.part(0).to_owned(), path.id(1)?);
    let changes = fields::changes(&params)?;
    match app.store.update_event(stream, id, changes).await.map_err(failed)? {
        EventOutcome::Updated => Ok(no_content()),
        EventOutcome::NotFound => Err(ApiError::not_found()),
        EventOutcome::EndsBeforeStart => Err(fields::ends_before_start()),
    }
}

/// `DELETE /v1/annotations/:name/:id`: 204, even if there is no such event, as with metrics.
pub(in crate::api) async fn delete_event(State(app): State<Shared>, path: Path) -> Answer {
    app.store.delete_event(path.part(0).to_owned(), path.id(1)?).await.map_err(failed)?;
    Ok(no_content())
}

/// `POST /v1/annotations/:name/:id/links`: 201, or 422 if the event has a link of this relation.
pub(in crate::api) async fn add_link(State(app): State<Shared>, path: Path, params: Params) -> Answer {
    let (stream, id) = (path.part(0).to_owned(), path.id(1)?);
    let link = fields::link(params.map())?;
    let refuse = |text: &str| ApiError::request(StatusCode::UNPROCESSABLE_ENTITY, Refusal::Exists, text);
    match app.store.add_link(stream.clone(), id, link.clone()).await.map_err(failed)? {
        LinkOutcome::Added => {
            let place = format!("/v1/annotations/{stream}/{id}/links/{}", link.rel);
            Ok(created(&place, &link_to_json(&link)))
        }
        LinkOutcome::NotFound => Err(ApiError::not_found()),
        LinkOutcome::Exists => Err(refuse("the event has a link of this rel; delete it first")),
        LinkOutcome::Full => Err(refuse(&format!("the event has {LINKS_MAX} links; delete one first"))),
    }
}

/// `DELETE /v1/annotations/:name/:id/links/:rel`: 204, even if there is no such link.
pub(in crate::api) async fn delete_link(State(app): State<Shared>, path: Path) -> Answer {
    let (stream, rel) = (path.part(0).to_owned(), path.part(2).to_owned());
    app.store.delete_link(stream, path.id(1)?, rel).await.map_err(failed)?;
    Ok(no_content())
}

fn place(event: &Event) -> String {
    format!("/v1/annotations/{}/{}", event.stream, event.id)
}

pub(super) fn to_json(event: &Event) -> Value {
    let Event { id, event, .. } = event;
    json!({
        "id": id,
        "title": event.title,
        "description": event.description,
        "source": event.source,
        "start_time": event.start_time,
        "end_time": event.end_time,
        "links": event.links.iter().map(link_to_json).collect::<Vec<_>>(),
    })
}

fn link_to_json(link: &Link) -> Value {
    json!({ "rel": link.rel, "href": link.href, "label": link.label })
}
