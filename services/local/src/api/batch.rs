//! `PUT` and `DELETE /v1/metrics`: many metrics at once, by names or patterns.

use axum::extract::State;

use super::jobs::{self, Work};
use super::params::Params;
use super::{Answer, failed, names};
use crate::server::Shared;
use crate::validate::Changes;

/// `PUT /v1/metrics`: the same change to each metric. Names that are none are passed over; Librato's
/// answer to them is not on record.
pub(super) async fn update(State(app): State<Shared>, params: Params) -> Answer {
    let changes = Changes::of(params.map())?;
    change(app, &params, Work::Update(changes)).await
}

/// `DELETE /v1/metrics`.
pub(super) async fn delete(State(app): State<Shared>, params: Params) -> Answer {
    change(app, &params, Work::Delete).await
}

async fn change(app: Shared, params: &Params, work: Work) -> Answer {
    let names = app.store.metrics_named(names::of(params)?).await.map_err(failed)?;
    jobs::change(app, names, work).await
}
