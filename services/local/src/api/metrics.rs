//! `GET /v1/metrics`, and one metric.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use axum::response::IntoResponse;
use serde_json::{Map, Value, json};

use super::interval::{self, Interval};
use super::names::Path;
use super::params::Params;
use super::query::Query;
use super::summarize::{Series, Summaries, by_source};
use super::{Answer, created, failed, json, no_content, page, user_agent};
use crate::body::Scalar;
use crate::errors::{ApiError, Refusal, unix_now};
use crate::server::{App, Shared};
use crate::store::catalogue::{Metric, MetricPut, PutOutcome};
use crate::store::{MeasurementsQuery, Take};
use crate::validate::{self, Changes, Kind};

/// Tells a worker which extensions this receiver understands.
const ACCEPTS: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-zibrato-accepts"), HeaderValue::from_static("histogram/1, origin/1"));
/// The resolution in seconds when none is given: points as they were posted.
const RESOLUTION_DEFAULT: i64 = 1;
/// The most answers' worth of measurements that are summarized into one.
const PAGES_SUMMARIZED_MAX: usize = 100;

/// `GET /v1/metrics`: a page of metrics, ordered by name.
pub(super) async fn list(State(app): State<Shared>, uri: Uri) -> Answer {
    let query = Query::of(&uri);
    if query.text("compose").is_some() {
        return Err(ApiError::param(Refusal::BadQuery, "compose", "is not supported"));
    }
    let list = query.page()?;
    let offset = list.offset;
    let found = app.store.metrics(list).await.map_err(failed)?;
    let body = page("metrics", offset, found, |metric| Value::Object(to_json(&metric)));
    Ok(([ACCEPTS], json(&body)).into_response())
}

/// `GET /v1/metrics/:name`: what is known of the metric, and with a time interval (`count`,
/// `start_time` or `end_time`) its measurements by source; with `buckets=true` those of a timer have their
/// distributions.
pub(super) async fn show(State(app): State<Shared>, path: Path, uri: Uri) -> Answer {
    let query = Query::of(&uri);
    let metric = app.store.metric(path.part(0).to_owned()).await.map_err(failed)?;
    let metric = metric.ok_or_else(ApiError::not_found)?;
    let mut body = to_json(&metric);
    if let Some(Interval { start, end, take }) = Interval::of(&query)? {
        let resolution = query.integer("resolution", 1)?.unwrap_or(RESOLUTION_DEFAULT);
        let sources = interval::sources(&query)?;
        let summaries = Summaries::of(&query)?;
        let wanted = MeasurementsQuery { metric: metric.id, start, end, resolution, sources, take };
        let (mut series, next_time) = read(&app, wanted, summaries.any()).await?;
        if let Some(next_time) = next_time {
            body.insert("query".to_owned(), json!({ "next_time": next_time }));
        }
        if summaries.any() && metric.kind == Kind::Counter {
            series.values_mut().for_each(Series::make_deltas);
        }
        body.insert("resolution".to_owned(), resolution.into());
        body.insert("measurements".to_owned(), summaries.into_json(series));
    }
    Ok(json(&Value::Object(body)))
}

/// `PUT /v1/metrics/:name`: 204, or 201 if there was none.
pub(super) async fn put(State(app): State<Shared>, path: Path, headers: HeaderMap, params: Params) -> Answer {
    let name = path.part(0).to_owned();
    if !validate::is_name(&name) {
        return Err(ApiError::param(Refusal::BadName, "name", format!("{name} is not a valid metric name")));
    }
    let kind = match params.given("type").flatten().as_ref().map(Scalar::text).as_deref() {
        None => None,
        Some("gauge") => Some(Kind::Gauge),
        Some("counter") => Some(Kind::Counter),
        // Librato had composite metrics as well.
        Some(_) => return Err(ApiError::param(Refusal::BadProperty, "type", "must be gauge or counter")),
    };
    let changes = Changes::of(params.map())?;
    let put = MetricPut { name, kind, changes, user_agent: user_agent(&headers), now: unix_now() };
    match app.store.put_metric(put).await.map_err(failed)? {
        PutOutcome::Updated => Ok(no_content()),
        PutOutcome::Created(metric) => {
            let place = format!("/v1/metrics/{}", metric.name);
            Ok(created(&place, &Value::Object(to_json(&metric))))
        }
        PutOutcome::KindMissing => Err(ApiError::param(Refusal::BadProperty, "type", "is required")),
        PutOutcome::Clash { name, is } => Err(ApiError::clash(&name, is.as_str())),
    }
}

/// `DELETE /v1/metrics/:name`: 204, even if there is no such metric, as Librato did.
pub(super) async fn delete(State(app): State<Shared>, path: Path) -> Answer {
    app.store.delete_metrics(vec![path.part(0).to_owned()]).await.map_err(failed)?;
    Ok(no_content())
}

/// The measurements of a page, or of as many pages as there are if they are summarized; and where to
/// go on.
async fn read(
    app: &App,
    mut query: MeasurementsQuery,
    is_summarized: bool,
) -> Result<(super::summarize::BySource, Option<i64>), ApiError> {
    let mut series = Default::default();
    for _ in 0..PAGES_SUMMARIZED_MAX {
        let page = app.store.measurements(query.clone()).await.map_err(failed)?;
        if page.is_unavailable {
            return Err(ApiError::resolution_unavailable());
        }
        by_source(&mut series, page.rows);
        match page.next_time {
            // A count has its own end, which the next page would not know.
            Some(next_time) if is_summarized && query.take == Take::All => query.start = Some(next_time),
            next_time => return Ok((series, next_time)),
        }
    }
    Err(ApiError::resolution_unavailable())
}

fn to_json(metric: &Metric) -> Map<String, Value> {
    let mut fields = Map::new();
    let mut set = |key: &str, value: Value| fields.insert(key.to_owned(), value);
    set("name", metric.name.as_str().into());
    set("display_name", metric.display_name.clone().into());
    set("description", metric.description.clone().into());
    set("period", metric.period.into());
    set("type", metric.kind.as_str().into());
    set("attributes", metric.attributes.clone().into());
    // Only metrics of Zibrato have one.
    if let Some(origin) = &metric.origin {
        let (kind, levels, unit) = (origin.kind.as_str(), &origin.levels, &origin.unit);
        set("origin", json!({ "kind": kind, "levels": levels, "unit": unit }));
    }
    fields
}
