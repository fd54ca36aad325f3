//! What is asked of the page's own addresses: parameters, their limits, and errors of one line.

use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use super::chart::{DARK, DrawError, LIGHT, Theme};
use super::zone::Zone;
use crate::api::query::Query;
use crate::errors::Refusal;
use crate::store::StoreError;

/// The shortest and longest range of a chart, in seconds.
const RANGE_S_MIN: i64 = 1;
const RANGE_S_MAX: i64 = 400 * 86_400;
/// The range when none is asked for, in seconds.
const RANGE_S_DEFAULT: i64 = 3_600;
/// How far ahead a range may end, in seconds: clocks differ.
const AHEAD_S_MAX: i64 = 86_400;
/// The longest name or pattern, in bytes.
const TEXT_BYTES_MAX: usize = 255;
/// The most patterns of sources.
const SOURCES_MAX: usize = 20;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain;charset=utf-8");

/// What the page asks for cannot be had. The text is one line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct PageError {
    status: StatusCode,
    refusal: Refusal,
    text: String,
}

/// What a handler of the page answers.
pub(super) type Answer = Result<Response, PageError>;

impl PageError {
    /// A parameter is wrong.
    pub(super) fn parameter(text: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, refusal: Refusal::BadQuery, text: text.into() }
    }

    /// There is no such thing.
    pub(super) fn not_found(text: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, refusal: Refusal::NotFound, text: text.into() }
    }

    /// There are as many of these as there may be; later there may be fewer.
    pub(super) fn busy(text: impl Into<String>) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, refusal: Refusal::Busy, text: text.into() }
    }
}

impl From<StoreError> for PageError {
    fn from(error: StoreError) -> Self {
        if matches!(error, StoreError::Unavailable { .. } | StoreError::TooManySteps) {
            return Self::parameter(error.to_string());
        }
        let text = zibrato_service::chain(&error).to_string();
        tracing::error!(error = %text, "the store failed");
        Self { status: StatusCode::SERVICE_UNAVAILABLE, refusal: Refusal::StoreFailed, text }
    }
}

impl From<DrawError> for PageError {
    fn from(error: DrawError) -> Self {
        tracing::error!(%error, "a chart failed");
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            refusal: Refusal::StoreFailed,
            text: error.to_string(),
        }
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let text = self.text.replace(['\r', '\n'], " ");
        let mut response = (self.status, [(header::CONTENT_TYPE, TEXT)], text).into_response();
        // The server's outermost layer counts what it finds here.
        response.extensions_mut().insert(self.refusal);
        response
    }
}

/// The seconds from `start` up to, but without, `end`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Range {
    pub(super) start: i64,
    pub(super) end: i64,
}

impl Range {
    pub(super) fn seconds(self) -> i64 {
        self.end - self.start
    }

    /// The same, from and to whole steps.
    pub(super) fn in_steps(self, step: i64) -> Self {
        let start = self.start.div_euclid(step) * step;
        let end = (self.end + step - 1).div_euclid(step) * step;
        Self { start, end: end.max(start + step) }
    }
}

/// The decoded parameters of a request.
#[derive(Clone, Debug)]
pub(super) struct Params(Query);

impl Params {
    pub(super) fn of(uri: &Uri) -> Self {
        Self(Query::of(uri))
    }

    /// The text of a parameter, if it is not empty.
    pub(super) fn text(&self, key: &str) -> Result<Option<&str>, PageError> {
        match self.0.text(key).filter(|text| !text.is_empty()) {
            Some(text) if text.len() > TEXT_BYTES_MAX => Err(PageError::parameter(format!(
                "{key} of {} bytes exceeds the limit of {TEXT_BYTES_MAX}",
                text.len()
            ))),
            text => Ok(text),
        }
    }

    /// The metric's name.
    pub(super) fn metric(&self) -> Result<&str, PageError> {
        self.text("metric")?.ok_or_else(|| PageError::parameter("metric is missing; give the name of one"))
    }

    /// Patterns of sources in lower case; empty for all.
    pub(super) fn sources(&self) -> Result<Vec<String>, PageError> {
        let given = self.0.all("source").filter(|source| !source.is_empty() && *source != "*");
        let sources: Vec<_> = given.map(str::to_ascii_lowercase).collect();
        if sources.len() > SOURCES_MAX || sources.iter().any(|source| source.len() > TEXT_BYTES_MAX) {
            return Err(PageError::parameter(format!(
                "source is given too often or too long; give {SOURCES_MAX} of {TEXT_BYTES_MAX} bytes at most"
            )));
        }
        Ok(sources)
    }

    /// A whole number within limits.
    pub(super) fn number(&self, key: &str, least: i64, most: i64) -> Result<Option<i64>, PageError> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        match text.parse::<i64>() {
            Ok(number) if (least..=most).contains(&number) => Ok(Some(number)),
            _ => Err(PageError::parameter(format!(
                "{key} is {text:?}; give a whole number from {least} to {most}"
            ))),
        }
    }

    /// One of some words; the first one without any.
    pub(super) fn word<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Result<T, PageError> {
        let given = self.text(key)?;
        let found = match given {
            None => words.first(),
            Some(text) => words.iter().find(|(word, _)| *word == text),
        };
        found.map(|(_, value)| *value).ok_or_else(|| {
            let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            let given = given.unwrap_or_default();
            PageError::parameter(format!("{key} is {given:?}; give one of: {}", known.join(", ")))
        })
    }

    /// The range: `start` and `end` in seconds since 1970, or `last` seconds, minutes (`5m`), hours or
    /// days up to now, the present second included.
    pub(super) fn range(&self, now: i64) -> Result<Range, PageError> {
        let newest = now + AHEAD_S_MAX;
        let (start, end) = (self.number("start", 0, newest)?, self.number("end", 0, newest)?);
        if start.is_some() && self.text("last")?.is_some() {
            return Err(PageError::parameter("start and last exclude each other; give one of them"));
        }
        let end = end.unwrap_or(now + 1);
        let start = match (start, self.text("last")?) {
            (Some(start), _) => start,
            (None, None) => end - RANGE_S_DEFAULT,
            (None, Some(last)) => {
                let seconds =
                    duration_s(last).filter(|seconds| (RANGE_S_MIN..=RANGE_S_MAX).contains(seconds));
                end - seconds.ok_or_else(|| {
                    PageError::parameter(format!(
                        "last is {last:?}; give seconds or a time such as 5m, 6h or 30d, 400d at most"
                    ))
                })?
            }
        };
        if !(RANGE_S_MIN..=RANGE_S_MAX).contains(&(end - start)) {
            return Err(PageError::parameter(format!(
                "start {start} and end {end} are {} s apart; give {RANGE_S_MIN} to {RANGE_S_MAX}",
                end - start
            )));
        }
        Ok(Range { start, end })
    }

    /// The colours.
    pub(super) fn theme(&self) -> Result<&'static Theme, PageError> {
        self.word("theme", &[("light", &LIGHT), ("dark", &DARK)])
    }

    /// The viewer's time zone.
    pub(super) fn zone(&self) -> Result<Zone, PageError> {
        let Some(text) = self.text("zone")? else { return Ok(Zone::default()) };
        Zone::parse(text).ok_or_else(|| {
            PageError::parameter("zone is none; give minutes east of UTC, such as 60 or 60,1743296400:120")
        })
    }
}

/// Seconds of a text such as `300`, `90s`, `5m`, `6h` or `30d`.
fn duration_s(text: &str) -> Option<i64> {
    let (number, unit) = text.split_at(text.find(|char: char| !char.is_ascii_digit()).unwrap_or(text.len()));
    let factor = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    number.parse::<i64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000;

    fn params(query: &str) -> Params {
        Params::of(&format!("/x?{query}").parse().unwrap())
    }

    #[test]
    fn a_range_is_two_times_or_the_last_seconds() {
        for (query, start, end) in [
            ("", NOW - 3_599, NOW + 1),
            ("last=300", NOW - 299, NOW + 1),
            ("last=5m", NOW - 299, NOW + 1),
            ("last=2h&end=1699999999", NOW - 7_201, NOW - 1),
            ("last=30d", NOW + 1 - 30 * 86_400, NOW + 1),
            ("start=5&end=6", 5, 6),
        ] {
            assert_eq!(params(query).range(NOW), Ok(Range { start, end }), "{query}");
        }
    }

    #[test]
    fn what_is_out_of_limits_is_refused_in_one_line() {
        let long = format!("metric={}", "x".repeat(256));
        for query in [
            "last=0",
            "last=401d",
            "last=5w",
            "last=m",
            "last=9223372036854775807d",
            "start=6&end=5",
            "start=5&end=5",
        ]
        .into_iter()
        .chain(["start=0", "end=x", "start=1&last=5m", "end=9999999999", "start=-1"])
        {
            let error = params(query).range(NOW).unwrap_err();
            assert!(error.status == 400 && !error.text.contains('\n'), "{query}: {error:?}");
        }
        assert!(params(&long).metric().is_err());
        assert!(params("").metric().is_err());
        assert!(params(&"source=a&".repeat(21)).sources().is_err());
        assert!(params("zone=x").zone().is_err());
        assert!(params("theme=pink").theme().is_err());
        let text = params("width=99").number("width", 100, 4_000).unwrap_err().text;
        assert_eq!(text, "width is \"99\"; give a whole number from 100 to 4000");
    }

    #[test]
    fn a_star_alone_is_every_source() {
        assert_eq!(params("source=*").sources(), Ok(vec![]));
        assert_eq!(
            params("source=Web*&source=&source[]=b").sources(),
            Ok(vec!["web*".to_owned(), "b".to_owned()])
        );
    }

    #[test]
    fn a_range_grows_to_whole_steps() {
        let range = Range { start: 61, end: 120 };
        assert_eq!(range.in_steps(60), Range { start: 60, end: 120 });
        assert_eq!(Range { start: 0, end: 1 }.in_steps(60), Range { start: 0, end: 60 });
    }
}
