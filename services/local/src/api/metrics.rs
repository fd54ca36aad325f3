//! `/v1/metrics` and `/v1/metrics/:name`.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::query::Query;
use super::{Answer, json};
use crate::body::{self, MEASUREMENTS_PER_POST_MAX, ParseError};
use crate::errors::{ApiError, Refusal, unix_now};
use crate::server::{Shared, intake};
use crate::store::{Batch, ListQuery, Measurements, MeasurementsQuery, Outcome, Row, StoreError, Take};
use crate::validate::{self, Times};

/// The id of a batch, chosen by its sender; a batch whose id was stored in the last 24 h is not
/// stored again.
const BATCH_ID: HeaderName = HeaderName::from_static("x-zibrato-batch");
/// The longest batch id, in visible ASCII characters.
const BATCH_ID_BYTES_MAX: usize = 128;
/// Tells a worker which extensions this receiver understands.
const ACCEPTS: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-zibrato-accepts"), HeaderValue::from_static("histogram/1, origin/1"));
/// The longest and the default page of the list.
const PAGE_LENGTH_MAX: i64 = 100;
/// The longest User-Agent kept as the attribute `created_by_ua`, in characters.
const USER_AGENT_CHARS_MAX: usize = 255;
/// The resolution in seconds when none is given: rows as they were stored.
const RESOLUTION_DEFAULT: i64 = 1;

/// `POST /v1/metrics`: 200 and an empty body once the whole batch is on disk.
pub(super) async fn post(State(app): State<Shared>, headers: HeaderMap, body: Body) -> Answer {
    let batch_id = batch_id(&headers)?;
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let received = intake::read(&app, &headers, body).await?;
    let parsed = body::Body::parse(content_type, &received.bytes).map_err(unreadable)?;
    drop(received);
    let now = unix_now();
    let ticket = app.counters.offer(parsed.measurements());
    let times = Times { now, max_age_s: app.max_age_s, max_ahead_s: app.max_ahead_s };
    let points = match validate::points(parsed, times) {
        Ok(points) => points,
        Err(error) => {
            // A retry of a stored batch may have grown too old meanwhile; it is stored all the same.
            if let Some(id) = batch_id
                && app.store.is_known(id, now).await.map_err(|error| failed(&error))?
            {
                ticket.refuse(Refusal::DuplicateBatch);
                app.counters.duplicate_batch();
                return Ok(stored());
            }
            ticket.refuse(error.refusal);
            return Err(error);
        }
    };
    let aggregated = points.iter().filter(|point| point.properties.is_aggregated()).count();
    let standard = points.len() - aggregated;
    let batch = Batch { id: batch_id, points, user_agent: user_agent(&headers), now, ticket };
    match app.store.write(batch).await.map_err(|error| failed(&error))? {
        Outcome::Stored => app.rate.take(now, aggregated as u64, standard as u64),
        Outcome::Duplicate => app.counters.duplicate_batch(),
        Outcome::Clash { name, is } => {
            let text = format!("'{name}' is a {is}, but was submitted as different type");
            return Err(ApiError::param(Refusal::TypeClash, "type", text));
        }
    }
    Ok(stored())
}

/// `GET /v1/metrics`: a page of metrics, ordered by name.
pub(super) async fn list(State(app): State<Shared>, uri: Uri) -> Answer {
    let query = Query::of(&uri);
    let length = query.integer("length", 1)?.unwrap_or(PAGE_LENGTH_MAX);
    if length > PAGE_LENGTH_MAX {
        return Err(ApiError::param(
            Refusal::BadQuery,
            "length",
            format!("must be at most {PAGE_LENGTH_MAX}"),
        ));
    }
    let offset = query.integer("offset", 0)?.unwrap_or(0);
    let list = ListQuery {
        name_contains: query.text("name").unwrap_or_default().to_owned(),
        offset,
        length,
        descending: query.text("sort") == Some("desc"),
    };
    let page = app.store.list(list).await.map_err(|error| failed(&error))?;
    let rows: Vec<Value> = page.rows.iter().map(|row| Value::Object(metadata(row))).collect();
    let body = json!({
        "query": { "found": page.found, "length": rows.len(), "offset": offset, "total": page.total },
        "metrics": rows,
    });
    Ok(([ACCEPTS], json(&body)).into_response())
}

/// `GET /v1/metrics/:name`: what is known of the metric, and with a time interval (`count`,
/// `start_time` or `end_time`) its measurements by source.
pub(super) async fn show(State(app): State<Shared>, Path(name): Path<String>, uri: Uri) -> Answer {
    let query = Query::of(&uri);
    let row = app.store.metric(name).await.map_err(|error| failed(&error))?;
    let Some(row) = row else { return Err(ApiError::not_found()) };
    let mut body = metadata(&row);
    if let Some(interval) = interval(&query, row.id)? {
        let resolution = interval.resolution;
        let measurements = app.store.measurements(interval).await.map_err(|error| failed(&error))?;
        if measurements.is_unpageable {
            return Err(ApiError::resolution_unavailable());
        }
        if let Some(next_time) = measurements.next_time {
            body.insert("query".to_owned(), json!({ "next_time": next_time }));
        }
        body.insert("resolution".to_owned(), resolution.into());
        body.insert("measurements".to_owned(), by_source(measurements));
    }
    Ok(json(&Value::Object(body)))
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

fn user_agent(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::USER_AGENT)?.to_str().ok()?;
    Some(value.chars().take(USER_AGENT_CHARS_MAX).collect())
}

fn unreadable(error: ParseError) -> ApiError {
    match error {
        ParseError::TooMany => {
            let text =
                format!("body holds more than {MEASUREMENTS_PER_POST_MAX} measurements; send fewer at once");
            ApiError::request(StatusCode::PAYLOAD_TOO_LARGE, Refusal::TooManyMeasurements, text)
        }
        ParseError::Form(detail) => {
            let text = format!("The form of the request could not be parsed: {detail}");
            ApiError::request(StatusCode::BAD_REQUEST, Refusal::NotJson, text)
        }
        ParseError::Json(detail) => {
            let text = format!("The JSON of the request could not be parsed: {detail}");
            ApiError::request(StatusCode::BAD_REQUEST, Refusal::NotJson, text)
        }
    }
}

/// Clients of Librato check for exactly 200 with nothing in it.
fn stored() -> Response {
    (StatusCode::OK, [(header::CONTENT_LENGTH, "0")]).into_response()
}

fn failed(error: &StoreError) -> ApiError {
    tracing::error!(error = %zibrato_service::chain(error), "the store failed");
    ApiError::store_failed()
}

fn metadata(row: &Row) -> Map<String, Value> {
    let fields = [
        ("name", Value::from(row.name.as_str())),
        ("display_name", Value::from(row.display_name.clone())),
        ("description", Value::from(row.description.clone())),
        ("period", Value::from(row.period)),
        ("type", Value::from(row.kind.as_str())),
        ("attributes", row.attributes.clone()),
    ];
    fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// The measurements asked for, if any are.
fn interval(query: &Query, metric: i64) -> Result<Option<MeasurementsQuery>, ApiError> {
    let count = query.integer("count", 1)?;
    let start = query.integer("start_time", 0)?;
    let end = query.integer("end_time", 0)?;
    let resolution = query.integer("resolution", 1)?.unwrap_or(RESOLUTION_DEFAULT);
    if count.is_none() && start.is_none() && end.is_none() {
        return Ok(None);
    }
    if let (Some(start), Some(end)) = (start, end)
        && start >= end
    {
        return Err(ApiError::param(Refusal::BadQuery, "start_time", "must be before end_time"));
    }
    // As documented: the first N after a start time, else the last N before the end.
    let take = match (count, start) {
        (None, _) => Take::All,
        (Some(count), Some(_)) => Take::First(count),
        (Some(count), None) => Take::Last(count),
    };
    let mut sources = Vec::new();
    for source in query.all("source").chain(query.all("sources")).filter(|source| *source != "*") {
        if !validate::is_name(&source.replace('*', "x")) {
            return Err(ApiError::param(
                Refusal::BadQuery,
                "source",
                format!("{source} is not a valid source name"),
            ));
        }
        sources.push(source.to_ascii_lowercase());
    }
    // Without an end there is none: a point of a clock that runs ahead was accepted and is shown.
    let (start, end) = (start.unwrap_or(0), end.unwrap_or(i64::MAX));
    Ok(Some(MeasurementsQuery { metric, start, end, resolution, sources, take }))
}

fn by_source(measurements: Measurements) -> Value {
    let mut sources = Map::new();
    for row in measurements.rows {
        let mut measurement = json!({
            "measure_time": row.measure_time,
            "value": row.value,
            "count": whole(row.count),
            "sum": row.sum,
            "min": row.min,
            "max": row.max,
            "sum_squares": row.sum_squares,
        });
        if let Some(buckets) = row.buckets.and_then(|text| serde_json::from_str::<Value>(&text).ok()) {
            measurement["buckets"] = buckets;
        }
        let series = sources.entry(row.source).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(series) = series {
            series.push(measurement);
        }
    }
    Value::Object(sources)
}

/// A count as clients know it: without a fraction unless it has one.
fn whole(count: f64) -> Value {
    let integer = count as u64;
    if integer as f64 == count { Value::from(integer) } else { Value::from(count) }
}
