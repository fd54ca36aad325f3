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
    BadEncoding,
    BadName,
    BadProperty,
    BadQuery,
    BadSource,
    BadTag,
    BadTime,
    BadValue,
    BodyTooLarge,
    BodyTooSlow,
    Busy,
    DuplicateBatch,
    Exists,
    ForeignHost,
    ForeignOrigin,
    NoMeasurement,
    NotFound,
    NotParsed,
    QueryTooLong,
    StoreFailed,
    TooFarAhead,
    TooManyMeasurements,
    TooOld,
    TypeClash,
    Unauthorized,
    UnsupportedEncoding,
    UnsupportedMediaType,
    WrongMethod,
}

impl Refusal {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Abandoned => "abandoned",
            Self::BadBatchId => "bad_batch_id",
            Self::BadCount => "bad_count",
            Self::BadEncoding => "bad_encoding",
            Self::BadName => "bad_name",
            Self::BadProperty => "bad_property",
            Self::BadQuery => "bad_query",
            Self::BadSource => "bad_source",
            Self::BadTag => "bad_tag",
            Self::BadTime => "bad_time",
            Self::BadValue => "bad_value",
            Self::BodyTooLarge => "body_too_large",
            Self::BodyTooSlow => "body_too_slow",
            Self::Busy => "busy",
            Self::DuplicateBatch => "duplicate_batch",
            Self::Exists => "exists",
            Self::ForeignHost => "foreign_host",
            Self::ForeignOrigin => "foreign_origin",
            Self::NoMeasurement => "no_measurement",
            Self::NotFound => "not_found",
            Self::NotParsed => "not_parsed",
            Self::QueryTooLong => "query_too_long",
            Self::StoreFailed => "store_failed",
            Self::TooFarAhead => "too_far_ahead",
            Self::TooManyMeasurements => "too_many_measurements",
            Self::TooOld => "too_old",
            Self::TypeClash => "type_clash",
            Self::Unauthorized => "unauthorized",
            Self::UnsupportedEncoding => "unsupported_encoding",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::WrongMethod => "wrong_method",
        }
    }
}

/// An answer that is an error.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    pub(crate) refusal: Refusal,
    content: Content,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Content {
    /// What `errors` is in the JSON body.
    Errors(String),
    /// Plain text, as Librato's front end answered a POST without credentials.
    Text(&'static str),
}

impl ApiError {
    /// A parameter of a request is wrong: 400 and `{"errors":{"params":{PARAM:[TEXT]}}}`.
    pub(crate) fn param(refusal: Refusal, param: &str, text: impl AsRef<str>) -> Self {
        let errors = format!("{{\"params\":{{{}:[{}]}}}}", quoted(param), quoted(text.as_ref()));
        Self::new(StatusCode::BAD_REQUEST, refusal, errors)
    }

    /// A parameter that the question cannot do without is missing: 400, nested one deeper.
    pub(crate) fn condition(param: &str) -> Self {
        let errors = format!("{{\"params\":{{\"conditions\":{{{}:[\"must be set\"]}}}}}}", quoted(param));
        Self::new(StatusCode::BAD_REQUEST, Refusal::BadQuery, errors)
    }

    /// A field of the metric `name` is wrong: 400 with the name as a string.
    pub(crate) fn field(refusal: Refusal, param: &str, text: &str, name: &str) -> Self {
        Self::of(refusal, param, text, quoted(name))
    }

    /// A value of the metric `name` is wrong: 400 with the name in an array. Librato sent it as a string
    /// for `count` and `sum` and in an array for `value`; clients have met both.
    pub(crate) fn value(refusal: Refusal, param: &str, text: &str, name: &str) -> Self {
        Self::of(refusal, param, text, format!("[{}]", quoted(name)))
    }

    /// A metric is of another kind: 400.
    pub(crate) fn clash(name: &str, is: &str) -> Self {
        let text = format!("'{name}' is a {is}, but was submitted as different type");
        Self::param(Refusal::TypeClash, "type", text)
    }

    /// The request as a whole is wrong: `{"errors":{"request":[TEXT]}}`.
    pub(crate) fn request(status: StatusCode, refusal: Refusal, text: impl AsRef<str>) -> Self {
        Self::new(status, refusal, format!("{{\"request\":[{}]}}", quoted(text.as_ref())))
    }

    /// There is no data at this resolution, or more at one instant than an answer holds: 400. This one
    /// error of Librato's is no array.
    pub(crate) fn resolution_unavailable() -> Self {
        let text = "The requested data resolution is unavailable for the given time range. Please try a different resolution.";
        Self::new(StatusCode::BAD_REQUEST, Refusal::BadQuery, format!("{{\"request\":{}}}", quoted(text)))
    }

    /// Credentials are missing or wrong: 401.
    pub(crate) fn unauthorized(is_read: bool) -> Self {
        let (status, refusal) = (StatusCode::UNAUTHORIZED, Refusal::Unauthorized);
        if is_read {
            return Self::request(status, refusal, "Authorization Required");
        }
        let content = Content::Text("Credentials are required to access this resource.");
        Self { status, refusal, content }
    }

    /// There is no such metric or resource: 404.
    pub(crate) fn not_found() -> Self {
        Self::request(StatusCode::NOT_FOUND, Refusal::NotFound, "Not Found")
    }

    /// The resource does not know this method: 405.
    pub(crate) fn wrong_method() -> Self {
        Self::request(StatusCode::METHOD_NOT_ALLOWED, Refusal::WrongMethod, "Method Not Allowed")
    }

    /// The store cannot take or give data now: 503, which clients retry.
    pub(crate) fn store_failed() -> Self {
        let text = "The store cannot be used at the moment. Please resubmit the request later.";
        Self::system(Refusal::StoreFailed, text)
    }

    /// A limit of what is done at once is reached: 503, which clients retry.
    pub(crate) fn busy(text: &str) -> Self {
        Self::system(Refusal::Busy, text)
    }

    /// The same with status 422, for what has not even the form it should have.
    pub(crate) fn unprocessable(self) -> Self {
        Self { status: StatusCode::UNPROCESSABLE_ENTITY, ..self }
    }

    fn system(refusal: Refusal, text: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, refusal, format!("{{\"system\":[{}]}}", quoted(text)))
    }

    fn of(refusal: Refusal, param: &str, text: &str, name: String) -> Self {
        let errors = format!("{{\"params\":{{{}:[{}],\"name\":{name}}}}}", quoted(param), quoted(text));
        Self::new(StatusCode::BAD_REQUEST, refusal, errors)
    }

    fn new(status: StatusCode, refusal: Refusal, errors: String) -> Self {
        Self { status, refusal, content: Content::Errors(errors) }
    }

    /// The body, byte for byte, without a line feed at its end.
    fn body(&self, request_time: i64) -> String {
        match &self.content {
            Content::Errors(errors) => format!("{{\"errors\":{errors},\"request_time\":{request_time}}}"),
            Content::Text(text) => (*text).to_owned(),
        }
    }
}

/// The text as JSON.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
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
                ApiError::value(Refusal::BadValue, "value", "must be positive", "a\"b"),
                r#"{"errors":{"params":{"value":["must be positive"],"name":["a\"b"]}},"request_time":7}"#,
            ),
            (
                ApiError::unauthorized(true),
                r#"{"errors":{"request":["Authorization Required"]},"request_time":7}"#,
            ),
            (
                ApiError::condition("duration"),
                r#"{"errors":{"params":{"conditions":{"duration":["must be set"]}}},"request_time":7}"#,
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
