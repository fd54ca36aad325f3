//! `/v1/annotations`: events in named streams.

mod events;
mod fields;

use axum::extract::State;
use axum::http::Uri;
use serde_json::{Map, Value, json};

use super::interval::{self, Interval};
use super::names::Path;
use super::params::Params;
use super::query::Query;
use super::{Answer, failed, json, no_content, page};
use crate::body::Scalar;
use crate::errors::{ApiError, Refusal};
use crate::server::Shared;
use crate::store::catalogue::{Event, EventsQuery, Stream};
use crate::validate::SOURCE_UNASSIGNED;

pub(super) use events::{add, add_link, delete_event, delete_link, show_event, update_event};

/// The most events in one answer; more are announced with the time to go on from.
const EVENTS_PER_ANSWER_MAX: i64 = 1_000;

/// `GET /v1/annotations`: a page of the streams.
pub(super) async fn list(State(app): State<Shared>, uri: Uri) -> Answer {
    let list = Query::of(&uri).page()?;
    let offset = list.offset;
    let found = app.store.streams(list).await.map_err(failed)?;
    Ok(json(&page("annotations", offset, found, |stream| Value::Object(to_json(&stream)))))
}

/// `GET /v1/annotations/:name`: the stream, and with a time interval its events by source. Librato's
/// text shows them in an array around the hash, but its clients read the hash.
pub(super) async fn show(State(app): State<Shared>, path: Path, uri: Uri) -> Answer {
    let query = Query::of(&uri);
    let interval = Interval::of(&query)?;
    let stream = app.store.stream(path.part(0).to_owned()).await.map_err(failed)?;
    let stream = stream.ok_or_else(ApiError::not_found)?;
    let mut body = to_json(&stream);
    if let Some(Interval { start, end, take }) = interval {
        let sources = interval::sources(&query)?;
        // One more than is shown tells whether there are more.
        let limit = EVENTS_PER_ANSWER_MAX + 1;
        let events =
            EventsQuery { stream: Some(stream.name), sources, start: start.unwrap_or(0), end, take, limit };
        let (events, next_time) = cut(app.store.events(events).await.map_err(failed)?)?;
        if let Some(next_time) = next_time {
            body.insert("query".to_owned(), json!({ "next_time": next_time }));
        }
        body.insert("events".to_owned(), by_source(events));
    }
    Ok(json(&Value::Object(body)))
}

/// `PUT /v1/annotations/:name`.
pub(super) async fn update(State(app): State<Shared>, path: Path, params: Params) -> Answer {
    let name = path.part(0).to_owned();
    let is_there = match params.given("display_name") {
        Some(display_name) => {
            let display_name = display_name.as_ref().map(Scalar::text);
            fields::check_length("display_name", display_name.as_deref())?;
            app.store.update_stream(name, display_name).await.map_err(failed)?
        }
        None => app.store.stream(name).await.map_err(failed)?.is_some(),
    };
    if is_there { Ok(no_content()) } else { Err(ApiError::not_found()) }
}

/// `DELETE /v1/annotations/:name`: 204, even if there is no such stream, as with metrics.
pub(super) async fn delete(State(app): State<Shared>, path: Path) -> Answer {
    app.store.delete_stream(path.part(0).to_owned()).await.map_err(failed)?;
    Ok(no_content())
}

/// Ends an answer that is too long before the time of its last event, so that the next one repeats and
/// misses nothing.
fn cut(mut events: Vec<Event>) -> Result<(Vec<Event>, Option<i64>), ApiError> {
    if events.len() as i64 <= EVENTS_PER_ANSWER_MAX {
        return Ok((events, None));
    }
    let next_time = events.last().map(|event| event.event.start_time);
    events.retain(|event| Some(event.event.start_time) != next_time);
    if events.is_empty() {
        let text =
            format!("more than {EVENTS_PER_ANSWER_MAX} events start at one time; ask for fewer sources");
        return Err(ApiError::param(Refusal::BadQuery, "start_time", text));
    }
    Ok((events, next_time))
}

fn by_source(events: Vec<Event>) -> Value {
    let mut sources = Map::new();
    for event in events {
        let source = event.event.source.as_deref().unwrap_or(SOURCE_UNASSIGNED);
        let list = sources.entry(source).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(list) = list {
            list.push(events::to_json(&event));
        }
    }
    Value::Object(sources)
}

fn to_json(stream: &Stream) -> Map<String, Value> {
    let fields = [
        ("name", Value::from(stream.name.as_str())),
        ("display_name", Value::from(stream.display_name.clone())),
    ];
    fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}
