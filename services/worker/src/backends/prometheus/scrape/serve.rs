//! The page over HTTP.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::net::TcpListener;
use zibrato_service::{Hosts, HttpLimits, Shutdown, serve_http};

use super::accept::{Format, takes_gzip};
use super::{Served, protobuf, text};

/// A few scrapers at most ask a few times a minute.
const LIMITS: HttpLimits = HttpLimits {
    connections_max: 16,
    head_timeout: std::time::Duration::from_secs(120),
    write_timeout: std::time::Duration::from_secs(30),
};

const NOT_YET: &str = "not all series are known yet: they come with the worker's first flush\n";

/// Serves `/metrics` until the shutdown; the bound address.
pub(super) async fn serve(
    addr: SocketAddr,
    served: Arc<Served>,
    shutdown: Shutdown,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(addr).await?;
    let bound = listener.local_addr()?;
    let mut router = Router::new().route("/metrics", get(metrics)).with_state(served);
    if bound.ip().is_loopback() {
        router = router.layer(from_fn_with_state(Hosts::new(bound, &[]), refuse_names));
    }
    tokio::spawn(async move { serve_http(listener, router, LIMITS, &shutdown).await });
    Ok(bound)
}

async fn metrics(State(served): State<Arc<Served>>, headers: HeaderMap) -> Response {
    if !served.is_whole() {
        return (StatusCode::SERVICE_UNAVAILABLE, NOT_YET).into_response();
    }
    let all = |name: HeaderName| {
        let values = headers.get_all(name);
        let texts: Vec<_> = values.iter().filter_map(|value| value.to_str().ok()).collect();
        texts.join(",")
    };
    let format = Format::asked(&all(header::ACCEPT));
    let is_packed = takes_gzip(&all(header::ACCEPT_ENCODING));
    // One at a time: a page of a million series is a hundred megabytes.
    let _turn = served.turn.lock().await;
    let writing = Arc::clone(&served);
    let written = tokio::task::spawn_blocking(move || {
        let bytes = write(&writing, format);
        if is_packed { pack(&bytes) } else { Ok(bytes) }
    });
    let bytes = match written.await.map_err(io::Error::other).and_then(|bytes| bytes) {
        Ok(bytes) => bytes,
        Err(error) => return (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    };
    let mut response = ([(header::CONTENT_TYPE, format.content_type())], bytes).into_response();
    let headers = response.headers_mut();
    headers.insert(header::VARY, header::HeaderValue::from_static("accept, accept-encoding"));
    if is_packed {
        headers.insert(header::CONTENT_ENCODING, header::HeaderValue::from_static("gzip"));
    }
    response
}

fn write(served: &Served, format: Format) -> Vec<u8> {
    let page = served.page.read().unwrap_or_else(PoisonError::into_inner);
    match format {
        Format::Text(kind) => text::write(&page, &served.settings, kind).into_bytes(),
        Format::Protobuf => protobuf::write(&page, &served.settings),
    }
}

fn pack(bytes: &[u8]) -> io::Result<Vec<u8>> {
    // The fastest level: such text shrinks to a tenth at any.
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish()
}

async fn refuse_names(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    if hosts.allow(request.version(), request.uri(), request.headers()) {
        return next.run(request).await;
    }
    let text = "the Host of a request to this address has to be a loopback address or localhost\n";
    (StatusCode::MISDIRECTED_REQUEST, text).into_response()
}
