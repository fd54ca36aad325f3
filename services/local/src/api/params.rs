//! The parameters of a request that changes something: its query, and its body as JSON or form.

use axum::extract::{FromRequest, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value};

use crate::body::{self, ParseError, Scalar};
use crate::errors::{ApiError, Refusal};
use crate::server::{Shared, intake};

/// The largest body with parameters, in bytes; only measurements need more.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// The parameters; those of the body stand above those of the query.
#[derive(Clone, Debug)]
pub(super) struct Params(Map<String, Value>);

impl FromRequest<Shared> for Params {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Shared) -> Result<Self, ApiError> {
        let (Parts { uri, headers, .. }, body) = request.into_parts();
        let received = intake::read(app, &headers, body).await?;
        if received.bytes.len() > BODY_BYTES_MAX {
            let text = format!("body exceeds the limit of {BODY_BYTES_MAX} bytes; send fewer names at once");
            return Err(ApiError::request(StatusCode::PAYLOAD_TOO_LARGE, Refusal::BodyTooLarge, text));
        }
        let query = uri.query().unwrap_or_default().as_bytes();
        let mut params: Map<String, Value> = body::hash(None, query).map_err(unreadable)?;
        // Clients send DELETE and PUT without a body, but with the content type of one.
        if !received.bytes.is_empty() {
            let sent: Map<String, Value> =
                body::hash(content_type(&headers), &received.bytes).map_err(unreadable)?;
            params.extend(sent);
        }
        Ok(Self(params))
    }
}

impl Params {
    pub(super) fn map(&self) -> &Map<String, Value> {
        &self.0
    }

    /// What is given for `key`: `Some(None)` if it is null or empty, as a form says null.
    pub(super) fn given(&self, key: &str) -> Option<Option<Scalar>> {
        let value = self.0.get(key)?;
        let is_empty = value.is_null() || value.as_str() == Some("");
        Some((!is_empty).then(|| Scalar::from(value.clone())))
    }

    /// The values of an array or of a single value; none if there is none.
    pub(super) fn list(&self, key: &str) -> Vec<Value> {
        match self.0.get(key) {
            Some(Value::Array(values)) => values.clone(),
            // What a form has as `links[0]`, `links[1]`.
            Some(Value::Object(values)) => values.values().cloned().collect(),
            Some(Value::Null) | None => Vec::new(),
            Some(value) => vec![value.clone()],
        }
    }
}

/// What a request says its body is.
pub(super) fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::CONTENT_TYPE)?.to_str().ok()
}

/// The answer to a body that cannot be parsed.
pub(super) fn unreadable(error: ParseError) -> ApiError {
    match error {
        ParseError::TooMany => {
            let text = format!(
                "body holds more than {} measurements; send fewer at once",
                body::MEASUREMENTS_PER_POST_MAX
            );
            ApiError::request(StatusCode::PAYLOAD_TOO_LARGE, Refusal::TooManyMeasurements, text)
        }
        ParseError::Json(detail) => not_parsed("JSON", &detail),
        ParseError::Form(detail) => not_parsed("form", &detail),
    }
}

fn not_parsed(language: &str, detail: &str) -> ApiError {
    let text = format!("The {language} of the request could not be parsed: {detail}");
    ApiError::request(StatusCode::BAD_REQUEST, Refusal::NotParsed, text)
}
