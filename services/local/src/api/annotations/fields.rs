//! The fields of an event, checked. They are shown to people, in a browser too.

use serde_json::{Map, Value};

use crate::api::params::Params;
use crate::body::Scalar;
use crate::errors::{ApiError, Refusal};
use crate::store::catalogue::{EventChanges, LINKS_MAX, Link, NewEvent};
use crate::validate;

/// The longest title, label and display name, in bytes.
const TITLE_BYTES_MAX: usize = 1_024;
/// The longest description, in bytes.
const DESCRIPTION_BYTES_MAX: usize = 16 * 1_024;
/// The longest address of a link, in bytes.
const HREF_BYTES_MAX: usize = 2_048;
/// The last second of the year 9999.
const TIME_MAX: i64 = 253_402_300_799;

/// The name of a stream, which is of the characters of a metric's name. Librato's rule is not on record.
pub(super) fn stream(name: &str) -> Result<String, ApiError> {
    if validate::is_name(name) {
        return Ok(name.to_owned());
    }
    Err(refuse("name", &format!("{name} is not a valid annotation stream name")))
}

/// A new event, which starts now unless it says otherwise.
pub(super) fn new_event(params: &Params, now: i64) -> Result<NewEvent, ApiError> {
    let title = title(params)?.ok_or_else(|| refuse("title", "is not present"))?;
    let source = params.given("source").flatten().as_ref().map(Scalar::text);
    if let Some(source) = source.as_ref().filter(|source| !validate::is_source(source)) {
        let text = format!("{source} is not a valid source name");
        return Err(ApiError::param(Refusal::BadSource, "source", text));
    }
    let start_time = time(params, "start_time")?.flatten().unwrap_or(now);
    let end_time = time(params, "end_time")?.flatten();
    if end_time.is_some_and(|end| end <= start_time) {
        return Err(ends_before_start());
    }
    let description = description(params)?.flatten();
    let links = links(params)?.unwrap_or_default();
    Ok(NewEvent { title, source, description, links, start_time, end_time })
}

/// What a PUT changes of an event.
pub(super) fn changes(params: &Params) -> Result<EventChanges, ApiError> {
    if params.given("title") == Some(None) {
        return Err(refuse("title", "is not present"));
    }
    Ok(EventChanges {
        title: title(params)?,
        description: description(params)?,
        end_time: time(params, "end_time")?,
        links: links(params)?,
    })
}

/// One link. Only addresses of the web, because a browser runs what others say.
pub(super) fn link(fields: &Map<String, Value>) -> Result<Link, ApiError> {
    let text = |key| match fields.get(key) {
        None | Some(Value::Null) => None,
        Some(value) => Some(Scalar::from(value.clone()).text()).filter(|text| !text.is_empty()),
    };
    let rel = text("rel").ok_or_else(|| refuse("rel", "is not present"))?;
    if !validate::is_name(&rel) {
        return Err(refuse("rel", "must be 1 to 255 of A-Z a-z 0-9 . : _ -"));
    }
    let href = text("href").ok_or_else(|| refuse("href", "is not present"))?;
    let is_web = ["http://", "https://"]
        .iter()
        .any(|scheme| href.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme)));
    if !is_web || href.len() > HREF_BYTES_MAX || href.chars().any(char::is_control) {
        let text = format!("must be an http or https address of at most {HREF_BYTES_MAX} bytes");
        return Err(refuse("href", &text));
    }
    let label = text("label");
    check_length("label", label.as_deref())?;
    Ok(Link { rel, href, label })
}

/// Refuses a text that is too long for a title.
pub(super) fn check_length(param: &str, text: Option<&str>) -> Result<(), ApiError> {
    if text.is_some_and(|text| text.len() > TITLE_BYTES_MAX) {
        return Err(refuse(param, &format!("is longer than {TITLE_BYTES_MAX} bytes")));
    }
    Ok(())
}

pub(super) fn ends_before_start() -> ApiError {
    refuse("start_time", "must be before end_time")
}

fn title(params: &Params) -> Result<Option<String>, ApiError> {
    let title = params.given("title").flatten().as_ref().map(Scalar::text).filter(|title| !title.is_empty());
    check_length("title", title.as_deref())?;
    Ok(title)
}

fn description(params: &Params) -> Result<Option<Option<String>>, ApiError> {
    let description = params.given("description").map(|given| given.as_ref().map(Scalar::text));
    if description.iter().flatten().any(|text| text.len() > DESCRIPTION_BYTES_MAX) {
        return Err(refuse("description", &format!("is longer than {DESCRIPTION_BYTES_MAX} bytes")));
    }
    Ok(description)
}

fn time(params: &Params, key: &str) -> Result<Option<Option<i64>>, ApiError> {
    let Some(given) = params.given(key) else { return Ok(None) };
    let Some(given) = given else { return Ok(Some(None)) };
    match given.number().map(|seconds| seconds.floor() as i64) {
        Some(time @ 0..=TIME_MAX) => Ok(Some(Some(time))),
        Some(_) => Err(refuse(key, &format!("must be from 0 to {TIME_MAX}"))),
        None => Err(refuse(key, "is not a number")),
    }
}

fn links(params: &Params) -> Result<Option<Vec<Link>>, ApiError> {
    if params.given("links").is_none() {
        return Ok(None);
    }
    let mut links: Vec<Link> = Vec::new();
    for value in params.list("links") {
        let Value::Object(fields) = value else { return Err(refuse("links", "is not an array of links")) };
        let link = link(&fields)?;
        if links.iter().any(|known| known.rel == link.rel) {
            return Err(refuse("links", "must have different rels"));
        }
        if links.len() == LINKS_MAX {
            return Err(refuse("links", &format!("must be at most {LINKS_MAX}")));
        }
        links.push(link);
    }
    Ok(Some(links))
}

fn refuse(param: &str, text: &str) -> ApiError {
    ApiError::param(Refusal::BadProperty, param, text)
}
