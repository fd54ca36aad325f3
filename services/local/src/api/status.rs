//! How the receiver is: `/healthz`, `/metrics` and `/status`.

use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use zibrato_service::{Account, Health, LocalReport, MetricsText, Process, REPORT_PATH, Report};

use super::{Answer, failed, json};
use crate::server::{App, HEALTH_PATH, Shared};
use crate::store::StoreError;
use crate::totals::Totals;

/// The content type of the Prometheus text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route(HEALTH_PATH, get(health))
        .route("/metrics", get(metrics))
        .route(REPORT_PATH, get(report))
}

/// `GET /healthz`: 200, or 503 with the reason.
async fn health(State(app): State<Shared>) -> Response {
    match health_of(&app) {
        Health::Ok => "ok\n".into_response(),
        Health::Degraded(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

fn health_of(app: &App) -> Health {
    if app.store_fails.load(Ordering::Relaxed) {
        Health::Degraded("the last batch could not be stored".to_owned())
    } else {
        Health::Ok
    }
}

/// `GET /metrics`: the totals in the Prometheus text format.
async fn metrics(State(app): State<Shared>) -> Response {
    let totals = app.counters.snapshot();
    let mut text = MetricsText::new();
    text.counter("zibrato_local_requests_total", "Requests answered.").value(totals.requests);
    let mut refused =
        text.counter("zibrato_local_requests_refused_total", "Requests answered with an error.");
    for (reason, count) in &totals.requests_refused {
        refused.sample(&[("reason", reason)], *count);
    }
    text.counter("zibrato_local_points_offered_total", "Measurements in bodies that could be parsed.")
        .value(totals.points_offered);
    text.counter("zibrato_local_points_accepted_total", "Measurements stored.").value(totals.points_accepted);
    let mut refused = text.counter("zibrato_local_points_refused_total", "Measurements not stored.");
    for (reason, count) in &totals.points_refused {
        refused.sample(&[("reason", reason)], *count);
    }
    let dropped = app.store.dropped();
    text.counter("zibrato_local_points_dropped_total", "Points deleted after they were stored.")
        .sample(&[("reason", "expired")], dropped.expired.load(Ordering::Relaxed))
        .sample(&[("reason", "deleted")], dropped.deleted.load(Ordering::Relaxed));
    text.counter("zibrato_local_duplicate_batches_total", "Batches that had been stored before.")
        .value(totals.duplicate_batches);
    text.counter(
        "zibrato_local_kind_clash_points_total",
        "Points stored that came as another kind than their metric has.",
    )
    .value(totals.kind_clash_points);
    text.gauge("zibrato_local_bodies_bytes", "Bytes of the bodies that are being received or worked on.")
        .value(app.bodies_bytes());
    ([(header::CONTENT_TYPE, TEXT_FORMAT)], text.finish()).into_response()
}

/// `GET /status`: the same for people and their tools, with the state of the store.
async fn report(State(app): State<Shared>) -> Answer {
    let report = report_of(&app).await.map_err(failed)?;
    Ok(json(&json!(Report::Local(report))))
}

/// What the receiver says of itself.
pub(crate) async fn report_of(app: &App) -> Result<LocalReport, StoreError> {
    let facts = app.store.facts().await?;
    let totals = app.counters.snapshot();
    Ok(LocalReport {
        process: Process::this(env!("CARGO_PKG_VERSION"), app.started, &health_of(app)),
        account: account(&totals),
        metrics: facts.metrics,
        db_bytes: facts.db_bytes,
        disk_free_bytes: facts.disk_free_bytes,
        newest_s: facts.newest,
        kind_clash_points: totals.kind_clash_points,
        kind_clashes: totals.kind_clashes.into_values().collect(),
    })
}

/// The store is the last stage: what it has is delivered.
fn account(totals: &Totals) -> Account {
    let refused = totals.points_refused.iter();
    Account {
        stage: "store".to_owned(),
        unit: "points".to_owned(),
        offered: totals.points_offered as f64,
        accepted: totals.points_accepted as f64,
        refused: refused.map(|(reason, count)| ((*reason).to_owned(), *count as f64)).collect(),
        delivered: totals.points_accepted as f64,
        ..Account::default()
    }
}
