//! What every request passes: whose it is before, counting and headers after.

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::sites::is_cross_site;
use super::{App, Shared, intake};
use crate::auth;
use crate::errors::{ApiError, Refusal, unix_now};

/// The longest query part of an address, in bytes.
const QUERY_BYTES_MAX: usize = 16 * 1024;
/// Where a supervisor asks, who has no token.
pub(crate) const HEALTH_PATH: &str = "/healthz";

/// The page runs its own script and style and nothing else, talks to its own host and is in no frame;
/// everything else is no page at all.
const HEADERS: [(HeaderName, HeaderValue); 4] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
    ),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

/// Lets a request through to its route, or answers why not.
pub(super) async fn guard(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let mut response = match check(&app, &request) {
        Ok(()) => next.run(request).await,
        Err(error) => {
            // A client that still sends would see its connection reset instead of the answer. One that
            // waits to be asked for its body is not asked.
            if !request.headers().contains_key(header::EXPECT) {
                intake::discard(request.into_body(), app.limits.body_timeout).await;
            }
            error.into_response()
        }
    };
    app.counters.request(response.extensions().get::<Refusal>().copied());
    let headers = response.headers_mut();
    app.rate.write(unix_now(), headers);
    headers.extend(HEADERS);
    response
}

fn check(app: &App, request: &Request) -> Result<(), ApiError> {
    let (method, uri, headers) = (request.method(), request.uri(), request.headers());
    if !app.hosts.allow(request.version(), uri, headers) {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let text = format!("{host} is not a host of this server; start it with --allow-host if it is");
        return Err(ApiError::request(StatusCode::MISDIRECTED_REQUEST, Refusal::ForeignHost, text));
    }
    if is_cross_site(method, headers) {
        let text = "requests that other sites cause are refused";
        return Err(ApiError::request(StatusCode::FORBIDDEN, Refusal::ForeignOrigin, text));
    }
    if uri.path() != HEALTH_PATH && !auth::is_allowed(app.token.as_ref(), headers) {
        return Err(ApiError::unauthorized(matches!(*method, Method::GET | Method::HEAD)));
    }
    if uri.query().is_some_and(|query| query.len() > QUERY_BYTES_MAX) {
        let text = format!("the query exceeds the limit of {QUERY_BYTES_MAX} bytes; ask for less at once");
        return Err(ApiError::request(StatusCode::URI_TOO_LONG, Refusal::QueryTooLong, text));
    }
    Ok(())
}
