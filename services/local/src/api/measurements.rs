//! `GET /v1/measurements/:name`: streams of measurements, chosen and grouped by tags.

mod functions;

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::Uri;
use serde_json::{Value, json};

use super::interval::check_order;
use super::names::Path;
use super::query::Query;
use super::tag_filter::TagFilter;
use super::{Answer, failed, json};
use crate::errors::{ApiError, Refusal, unix_now};
use crate::server::Shared;
use crate::store::catalogue::TaggedSource;
use crate::store::model::Summary;
use crate::store::{Measured, MeasurementsQuery, Take};
use functions::{Function, Group};

/// The coarsest resolution, in seconds: a week.
const RESOLUTION_S_MAX: i64 = 604_800;

/// The tags of a stream, or those by which streams are grouped.
type Tags = BTreeMap<String, String>;

/// The measurements of each stream or group, by time.
type Streams = BTreeMap<Tags, Vec<(i64, Summary)>>;

pub(super) async fn show(State(app): State<Shared>, path: Path, uri: Uri) -> Answer {
    let query = Query::of(&uri);
    let metric = app.store.metric(path.part(0).to_owned()).await.map_err(failed)?;
    let metric = metric.ok_or_else(ApiError::not_found)?;
    let resolution = resolution(&query)?;
    let (start, end) = range(&query, unix_now())?;
    let filter = TagFilter::of(&query)?;
    let function = Function::of(&query, &metric)?;
    let group = Group::of(&query, function)?;

    let known = app.store.tagged_sources(metric.id).await.map_err(failed)?;
    let all = known.len();
    let chosen: Vec<TaggedSource> = known
        .into_iter()
        .filter(|source| {
            filter.accepts(&source.tags) && group.as_ref().is_none_or(|group| group.fits(&source.tags))
        })
        .collect();
    let mut answer = (Vec::new(), None);
    if !chosen.is_empty() {
        // No list of sources means all, which is the quickest to look for.
        let names = chosen.iter().map(|source| source.name.to_ascii_lowercase());
        let sources = if chosen.len() == all { Vec::new() } else { names.collect() };
        let wanted = MeasurementsQuery {
            metric: metric.id,
            start: Some(start),
            end,
            resolution,
            sources,
            take: Take::All,
        };
        let page = app.store.measurements(wanted).await.map_err(failed)?;
        if page.is_unavailable {
            return Err(ApiError::resolution_unavailable());
        }
        answer = (page.rows, page.next_time);
    }
    let (rows, next_time) = answer;
    let streams = by_tags(rows, chosen);
    let series = match &group {
        Some(group) => group.series(streams, function),
        None => streams.into_iter().map(|(tags, rows)| (tags, function.values(rows))).collect(),
    };
    let series: Vec<Value> =
        series.into_iter().map(|(tags, rows)| json!({ "tags": tags, "measurements": rows })).collect();
    let links: Vec<Value> = next_time.map(|time| next_link(&uri, time)).into_iter().collect();
    Ok(json(&json!({
        "series": series,
        "links": links,
        "resolution": resolution,
        "name": metric.name,
        "attributes": metric.attributes,
    })))
}

fn resolution(query: &Query) -> Result<i64, ApiError> {
    match query.integer("resolution", 1)? {
        None => Err(ApiError::condition("resolution")),
        Some(resolution) if resolution > RESOLUTION_S_MAX => {
            let text = format!("must be at most {RESOLUTION_S_MAX}");
            Err(ApiError::param(Refusal::BadQuery, "resolution", text))
        }
        Some(resolution) => Ok(resolution),
    }
}

/// The first and last second: two of start, end and duration, where the end is now unless it is given.
fn range(query: &Query, now: i64) -> Result<(i64, i64), ApiError> {
    let start = query.integer("start_time", 0)?;
    let end = query.integer("end_time", 0)?;
    let range = match (start, end, query.integer("duration", 1)?) {
        (Some(_), Some(_), Some(_)) => {
            let text = "must not be set with start_time and end_time";
            return Err(ApiError::param(Refusal::BadQuery, "duration", text));
        }
        (None, _, None) => return Err(ApiError::condition("duration")),
        // Without an end there is none: a point of a clock that runs ahead was accepted and is shown.
        (Some(start), end, None) => (start, end.unwrap_or(i64::MAX)),
        (Some(start), None, Some(duration)) => (start, start.saturating_add(duration)),
        (None, end, Some(duration)) => {
            let end = end.unwrap_or(now);
            (end.saturating_sub(duration), end)
        }
    };
    check_order(Some(range.0), Some(range.1))?;
    Ok(range)
}

fn by_tags(rows: Vec<Measured>, sources: Vec<TaggedSource>) -> Streams {
    let tags: BTreeMap<String, Tags> = sources.into_iter().map(|source| (source.name, source.tags)).collect();
    let mut streams = Streams::new();
    for row in rows {
        // A source that appeared between the two reads belongs to the next answer.
        if let Some(tags) = tags.get(&*row.source) {
            streams.entry(tags.clone()).or_default().push((row.measure_time, row.summary));
        }
    }
    streams
}

/// The same question from `time` on. Without scheme and host, which a proxy may have changed.
fn next_link(uri: &Uri, time: i64) -> Value {
    let mut next = form_urlencoded::Serializer::new(String::new());
    let given = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    // A duration was counted from its end, which stays.
    next.extend_pairs(given.filter(|(key, _)| key != "start_time" && key != "duration"));
    next.append_pair("start_time", &time.to_string());
    json!({ "rel": "next", "href": format!("{}?{}", uri.path(), next.finish()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_two_of_start_end_and_duration() {
        let range = |query: &str| range(&Query::of(&format!("/x?{query}").parse().unwrap()), 1_000);
        assert_eq!(range("duration=100"), Ok((900, 1_000)));
        assert_eq!(range("duration=100&end_time=500"), Ok((400, 500)));
        assert_eq!(range("duration=100&start_time=500"), Ok((500, 600)));
        assert_eq!(range("start_time=500&end_time=501"), Ok((500, 501)));
        assert_eq!(range("start_time=500"), Ok((500, i64::MAX)));
        for bad in
            ["", "end_time=5", "duration=1&start_time=1&end_time=2", "start_time=5&end_time=5", "duration=0"]
        {
            assert!(range(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_next_page_asks_the_same_from_another_time() {
        let uri = "/v1/measurements/m?start_time=5&resolution=1&tags%5Ba%5D=b+c&duration=7".parse().unwrap();
        let expected = "/v1/measurements/m?resolution=1&tags%5Ba%5D=b+c&start_time=99";
        assert_eq!(next_link(&uri, 99)["href"], expected);
    }
}
