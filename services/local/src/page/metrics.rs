//! `GET /page/metrics`: the list of metrics, with search and filters.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::{Uri, header};
use axum::response::IntoResponse;
use serde_json::{Value, json};
use zibrato_service::KindClash;

use super::browse::{self, BrowseQuery, BrowsedMetric};
use super::pictures::NOT_STORED;
use super::request::{Answer, Params};
use crate::errors::JSON;
use crate::server::Shared;

/// The longest and the default part of the list.
const LENGTH_MAX: i64 = 200;
const LENGTH_DEFAULT: i64 = 100;

pub(super) async fn show(State(app): State<Shared>, uri: Uri) -> Answer {
    let params = Params::of(&uri);
    let text = |key| params.text(key).map(|text| text.unwrap_or_default().to_owned());
    let kinds = [("", ""), ("counter", "counter"), ("gauge", "gauge"), ("timer", "timer")];
    let query = BrowseQuery {
        name: text("metric")?,
        name_contains: text("q")?,
        level: text("level")?,
        kind: params.word("kind", &kinds)?.to_owned(),
        source: text("source")?,
        offset: params.number("offset", 0, i64::from(u32::MAX))?.unwrap_or(0),
        length: params.number("length", 1, LENGTH_MAX)?.unwrap_or(LENGTH_DEFAULT),
    };
    let clashes = app.counters.snapshot().kind_clashes;
    let offset = query.offset;
    let found = browse::list(&app.store, query).await?;
    let metrics: Vec<_> = found.metrics.iter().map(|one| metric(one, &clashes)).collect();
    let body = json!({
        "found": found.found,
        "total": found.total,
        "offset": offset,
        "metrics": metrics,
        "levels": found.levels,
        "sources": found.sources,
    });
    let headers = [(header::CONTENT_TYPE, JSON), (header::CACHE_CONTROL, NOT_STORED)];
    Ok((headers, body.to_string()).into_response())
}

fn metric(metric: &BrowsedMetric, clashes: &BTreeMap<String, KindClash>) -> Value {
    let kind = metric.kind();
    json!({
        "id": metric.id,
        "name": metric.name,
        "display_name": metric.display_name,
        "description": metric.description,
        "kind": kind.as_str(),
        "levels": metric.levels,
        "unit": metric.unit(),
        "sources": metric.sources,
        "newest": metric.newest,
        "latest": metric.latest,
        "also_sent_as": clashes.get(&metric.name.to_ascii_lowercase()).map(|clash| clash.sent.as_str()),
    })
}
