//! Names in addresses and in lists of names.

use std::convert::Infallible;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use serde_json::Value;

use super::params::Params;
use crate::body::Scalar;
use crate::errors::{ApiError, Refusal};
use crate::store::catalogue::Names;
use crate::validate;

/// The most names in one list.
const NAMES_MAX: usize = 10_000;
/// The most patterns in one list; each is held against each metric.
const PATTERNS_MAX: usize = 100;

/// The parts of the address that stand for names, decoded. What is no UTF-8 is no name and found nowhere.
pub(super) struct Path(Vec<String>);

impl Path {
    /// The part at `index`; empty if the route has none.
    pub(super) fn part(&self, index: usize) -> &str {
        self.0.get(index).map(String::as_str).unwrap_or_default()
    }

    /// The part at `index` as an id. One that is no number belongs to nothing.
    pub(super) fn id(&self, index: usize) -> Result<i64, ApiError> {
        self.part(index).parse().map_err(|_| ApiError::not_found())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Path {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        let parameters = RawPathParams::from_request_parts(parts, state).await;
        let parts = parameters.iter().flatten().map(|(_, value)| value.to_owned()).collect();
        Ok(Self(parts))
    }
}

/// The metrics that `names` and `exclude` select: names, or patterns with `*`.
pub(super) fn of(params: &Params) -> Result<Names, ApiError> {
    let (names, patterns) = sorted_out("names", params.list("names"))?;
    if names.is_empty() && patterns.is_empty() {
        return Err(ApiError::param(Refusal::BadName, "names", "is not present"));
    }
    let (mut excluded, patterns_excluded) = sorted_out("exclude", params.list("exclude"))?;
    excluded.extend(patterns_excluded);
    if excluded.len() > PATTERNS_MAX {
        return Err(too_many("exclude", PATTERNS_MAX));
    }
    Ok(Names { names, patterns, excluded })
}

fn sorted_out(param: &str, given: Vec<Value>) -> Result<(Vec<String>, Vec<String>), ApiError> {
    if given.len() > NAMES_MAX {
        return Err(too_many(param, NAMES_MAX));
    }
    let (mut names, mut patterns) = (Vec::new(), Vec::new());
    for value in given {
        let name = Scalar::from(value).text();
        let pattern = name.contains('*');
        if !validate::is_name(&name.replace('*', "x")) {
            return Err(ApiError::param(
                Refusal::BadName,
                param,
                format!("{name} is not a valid metric name"),
            ));
        }
        if pattern { patterns.push(name) } else { names.push(name) }
    }
    if patterns.len() > PATTERNS_MAX {
        return Err(too_many(param, PATTERNS_MAX));
    }
    Ok((names, patterns))
}

fn too_many(param: &str, most: usize) -> ApiError {
    ApiError::param(Refusal::BadName, param, format!("must be at most {most} at once"))
}
