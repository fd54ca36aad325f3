//! The page at `/`: every metric as a live chart, without an account and without a network.
//!
//! The browser gets plain files ([`asset`]) and then asks for pictures and numbers of what can be seen:
//! `pictures` draws charts as SVG, `data` and `histogram` give the numbers behind them, `metrics` lists,
//! `marks` tells what happened, `overview` how the way from the programs to here is, and `events` says
//! when to ask again. Every answer has a limit that stands at its constant.

mod asset;
mod browse;
mod chart;
mod data;
mod events;
mod figures;
mod histogram;
mod marks;
mod metrics;
mod overview;
mod pictures;
mod quantity;
mod read;
mod request;
mod zone;

use axum::Router;
use axum::routing::get;

use crate::server::Shared;

/// All routes of the page.
pub(crate) fn routes() -> Router<Shared> {
    let listeners = events::Listeners::default();
    asset::routes()
        .route("/page/chart.svg", get(pictures::show))
        .route("/page/data", get(data::show))
        .route("/page/histogram", get(histogram::show))
        .route("/page/metrics", get(metrics::show))
        .route("/page/annotations", get(marks::show))
        .route("/page/overview", get(overview::show))
        .route("/page/events", get(async move |state| listeners.show(state).await))
}
