//! Which part of time is asked for, and of which sources.

use super::query::Query;
use crate::errors::{ApiError, Refusal};
use crate::store::Take;
use crate::validate;

/// The largest `count`: so much is held for each source before a page is cut from all of them. More is
/// had in pages, with a start time and `next_time`.
const COUNT_MAX: i64 = 100_000;

/// An interval of time, as measurements and annotations are asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Interval {
    /// The first second; none for the oldest that is known.
    pub(super) start: Option<i64>,
    /// The last second.
    pub(super) end: i64,
    pub(super) take: Take,
}

impl Interval {
    /// The interval given by `count`, `start_time` and `end_time`; none if none of them is given.
    ///
    /// Without an end there is none: a point of a clock that runs ahead was accepted and is shown. A
    /// `count` takes the first N after a start time, else the last N before the end, as documented.
    pub(super) fn of(query: &Query) -> Result<Option<Self>, ApiError> {
        let count = query.integer("count", 1)?;
        let start = query.integer("start_time", 0)?;
        let end = query.integer("end_time", 0)?;
        if count.is_none() && start.is_none() && end.is_none() {
            return Ok(None);
        }
        check_order(start, end)?;
        if count.is_some_and(|count| count > COUNT_MAX) {
            let text = format!("must be at most {COUNT_MAX}");
            return Err(ApiError::param(Refusal::BadQuery, "count", text));
        }
        let take = match (count, start) {
            (None, _) => Take::All,
            (Some(count), Some(_)) => Take::First(count),
            (Some(count), None) => Take::Last(count),
        };
        Ok(Some(Self { start, end: end.unwrap_or(i64::MAX), take }))
    }
}

/// Refuses an interval that ends before it begins, and one without any length.
pub(super) fn check_order(start: Option<i64>, end: Option<i64>) -> Result<(), ApiError> {
    match (start, end) {
        (Some(start), Some(end)) if start >= end => {
            Err(ApiError::param(Refusal::BadQuery, "start_time", "must be before end_time"))
        }
        _ => Ok(()),
    }
}

/// The sources given by `source` and `sources[]`, in lower case, with `*` for anything; empty for all.
pub(super) fn sources(query: &Query) -> Result<Vec<String>, ApiError> {
    let mut sources = Vec::new();
    for source in query.all("source").chain(query.all("sources")).filter(|source| *source != "*") {
        if !validate::is_name(&source.replace('*', "x")) {
            let text = format!("{source} is not a valid source name");
            return Err(ApiError::param(Refusal::BadQuery, "source", text));
        }
        sources.push(source.to_ascii_lowercase());
    }
    Ok(sources)
}
