//! The errors of the API, in the shapes that Librato's clients parse.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

/// The content type of every JSON answer.
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json;charset=utf-8");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain;charset=utf-8");
const BASIC_CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"zibrato-local\"");

/// Why a request or a point was refused; the closed set of reasons in the totals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    Abandoned,
    BadBatchId,
    BadCount,
    BadName,
    BadProperty,
    BadQuery,
    BadSource,
    BadTime,
    BadValue,
    BodyTooLarge,
    BodyTooSlow,
    DuplicateBatch,
    NoMeasurement,
    NotFound,
    NotJson,
    StoreFailed,
    TooFarAhead,
    TooManyMeasurements,
    TooOld,
    TypeClash,
    Unauthorized,
    UnsupportedEncoding,
    WrongMethod,
}

impl Refusal {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Abandoned => "abandoned",
            Self::BadBatchId => "bad_batch_id",
            Self::BadCount => "bad_count",
            Self::BadName => "bad_name",
            Self::BadProperty => "bad_property",
            Self::BadQuery => "bad_query",
            Self::BadSource => "bad_source",
            Self::BadTime => "bad_time",
            Self::BadValue => "bad_value",
            Self::BodyTooLarge => "body_too_large",
            Self::BodyTooSlow => "body_too_slow",
            Self::DuplicateBatch => "duplicate_batch",
            Self::NoMeasurement => "no_measurement",
            Self::NotFound => "not_found",
            Self::NotJson => "not_json",
            Self::StoreFailed => "store_failed",
            Self::TooFarAhead => "too_far_ahead",
            Self::TooManyMeasurements => "too_many_measurements",
            Self::TooOld => "too_old",
            Self::TypeClash => "type_clash",
            Self::Unauthorized => "unauthorized",
            Self::UnsupportedEncoding => "unsupported_encoding",
            Self::WrongMethod => "wrong_method",
        }
    }
}

/// An answer that is an error.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) refusal: Refusal,
    content: Content,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Content {
    /// `{"errors":{"params":{PARAM:[TEXT]}}}`.
    Param { param: &'static str, text: String },
    /// The same with the metric's name beside it. Librato sent the name as a string for `count`
    /// and `sum`, and in an array for `value`; clients have met both.
    ParamOf { param: &'static str, text: &'static str, name: String, in_array: bool },
    /// `{"errors":{"request":[TEXT]}}`.
    Request(String),
    /// `{"errors":{"request":TEXT}}`, which one error of Librato's is.
    RequestScalar(&'static str),
    /// `{"errors":{"system":[TEXT]}}`.
    System(&'static str),
    /// Plain text, as Librato's front end answered a POST without credentials.
    Text(&'static str),
}

impl ApiError {
    /// A parameter of a request is wrong: 400.
    pub(crate) fn param(refusal: Refusal, param: &'static str, text: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            refusal,
            content: Content::Param { param, text: text.into() },
        }
    }

    /// A field of the metric `name` is wrong: 400 with the name as a string.
    pub(crate) fn field(refusal: Refusal, param: &'static str, text: &'static str, name: &str) -> Self {
        let content = Content::ParamOf { param, text, name: name.to_owned(), in_array: false };
        Self { status: StatusCode::BAD_REQUEST, refusal, content }
    }

    /// A value of the metric `name` is wrong: 400 with the name in an array.
    pub(crate) fn value(param: &'static str, text: &'static str, name: &str) -> Self {
        let content = Content::ParamOf { param, text, name: name.to_owned(), in_array: true };
        Self { status: StatusCode::BAD_REQUEST, refusal: Refusal::BadValue, content }
    }

    /// The request as a whole is wrong.
    pub(crate) fn request(status: StatusCode, refusal: Refusal, text: impl Into<String>) -> Self {
        Self { status, refusal, content: Content::Request(text.into()) }
    }

    /// More measurements match than one answer holds, at one instant: 400.
    pub(crate) fn resolution_unavailable() -> Self {
        let text = "The requested data resolution is unavailable for the given time range. Please try a different resolution.";
        let content = Content::RequestScalar(text);
        Self { status: StatusCode::BAD_REQUEST, refusal: Refusal::BadQuery, content }
    }

    /// Credentials are missing or wrong: 401.
    pub(crate) fn unauthorized(is_read: bool) -> Self {
        let content = if is_read {
            Content::Request("Authorization Required".to_owned())
        } else {
            Content::Text("Credentials are required to access this resource.")
        };
        Self { status: StatusCode::UNAUTHORIZED, refusal: Refusal::Unauthorized, content }
    }

    /// There is no such metric or resource: 404.
    pub(crate) fn not_found() -> Self {
        Self::request(StatusCode::NOT_FOUND, Refusal::NotFound, "Not Found")
    }

    /// The store cannot take or give data now: 503, which clients retry.
    pub(crate) fn store_failed() -> Self {
        let content =
            Content::System("The store cannot be used at the moment. Please resubmit the request later.");
        Self { status: StatusCode::SERVICE_UNAVAILABLE, refusal: Refusal::StoreFailed, content }
    }

    /// The body, byte for byte, without a line feed at its end.
    fn body(&self, request_time: i64) -> String {
        let text = |text: &str| Value::from(text).to_string();
        let errors = match &self.content {
            Content::Param { param, text: message } => {
                format!("{{\"params\":{{\"{param}\":[{}]}}}}", text(message))
            }
            Content::ParamOf { param, text: message, name, in_array } => {
                let (open, close) = if *in_array { ("[", "]") } else { ("", "") };
                let name = text(name);
                format!("{{\"params\":{{\"{param}\":[{}],\"name\":{open}{name}{close}}}}}", text(message))
            }
            Content::Request(message) => format!("{{\"request\":[{}]}}", text(message)),
            Content::RequestScalar(message) => format!("{{\"request\":{}}}", text(message)),
            Content::System(message) => format!("{{\"system\":[{}]}}", text(message)),
            Content::Text(message) => return (*message).to_owned(),
        };
        format!("{{\"errors\":{errors},\"request_time\":{request_time}}}")
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let content_type = if matches!(self.content, Content::Text(_)) { TEXT } else { JSON };
        let body = self.body(unix_now());
        let mut response = (self.status, [(header::CONTENT_TYPE, content_type)], body).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, BASIC_CHALLENGE);
        }
        // The server's outermost layer counts what it finds here.
        response.extensions_mut().insert(self.refusal);
        response
    }
}

/// The wall clock in whole seconds since 1970; 0 if it stands before.
pub(crate) fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_read_byte_for_byte_as_librato_sent_them() {
        let name = "buffer.SizeHistory.hist";
        let rows = [
            (
                ApiError::param(Refusal::TooOld, "measure_time", "is too far in the past"),
                r#"{"errors":{"params":{"measure_time":["is too far in the past"]}},"request_time":7}"#,
            ),
            (
                ApiError::field(Refusal::BadCount, "sum", "is required", name),
                r#"{"errors":{"params":{"sum":["is required"],"name":"buffer.SizeHistory.hist"}},"request_time":7}"#,
            ),
            (
                ApiError::value("value", "must be positive", "a\"b"),
                r#"{"errors":{"params":{"value":["must be positive"],"name":["a\"b"]}},"request_time":7}"#,
            ),
            (
                ApiError::unauthorized(true),
                r#"{"errors":{"request":["Authorization Required"]},"request_time":7}"#,
            ),
            (ApiError::unauthorized(false), "Credentials are required to access this resource."),
        ];
        for (error, body) in rows {
            assert_eq!(error.body(7), body);
        }
        assert!(
            ApiError::resolution_unavailable().body(7).starts_with(r#"{"errors":{"request":"The requested"#)
        );
        assert!(ApiError::store_failed().body(7).starts_with(r#"{"errors":{"system":["The store"#));
    }
}
