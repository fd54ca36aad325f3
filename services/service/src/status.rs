//! `/healthz`, `/metrics` and `/status` over HTTP.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::{Hosts, HttpLimits, REPORT_PATH, Report, Shutdown, serve_http};

/// The content type of the Prometheus text format.
const METRICS_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A few tools ask now and then.
const LIMITS: HttpLimits = HttpLimits {
    connections_max: 64,
    head_timeout: Duration::from_secs(30),
    write_timeout: Duration::from_secs(30),
};

/// Where the status endpoint listens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StatusEndpoint {
    /// The address; `None` turns the endpoint off. Port 0 takes a free one.
    pub addr: Option<SocketAddr>,
    /// Whether the user gave the address. A default one that is taken is only worth a warning.
    pub explicit: bool,
}

/// How a service is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Health {
    /// All is well: 200.
    Ok,
    /// It runs, but something needs care: 503 with this reason.
    Degraded(String),
}

/// Why the status endpoint cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StatusError {
    /// The given address cannot be bound.
    #[error("cannot listen on --http {addr}; give a free local address with --http")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// The operating system's error.
        source: io::Error,
    },
}

/// Serves `/healthz` (200 `ok`, or 503 with the reason), `/metrics` (Prometheus text) and `/status`
/// (the report as JSON) in a task of its own until `shutdown` is requested.
///
/// The address is bound when this returns: the bound address, or `None` if the endpoint is off or
/// its default address is taken, which is logged as a warning. The closures run on the runtime and
/// must not block.
///
/// On a loopback address a request has to name such an address or `localhost` as its host: a page in
/// this machine's browser whose name was made to lead here (DNS rebinding) gets 421.
///
/// # Errors
///
/// [`StatusError::Bind`] if an explicit address cannot be bound.
pub async fn serve_status(
    endpoint: StatusEndpoint,
    health: impl Fn() -> Health + Send + Sync + 'static,
    metrics: impl Fn() -> String + Send + Sync + 'static,
    report: impl Fn() -> Report + Send + Sync + 'static,
    shutdown: Shutdown,
) -> Result<Option<SocketAddr>, StatusError> {
    let Some(addr) = endpoint.addr else { return Ok(None) };
    let bound = match TcpListener::bind(addr).await {
        Ok(listener) => listener.local_addr().map(|bound| (listener, bound)),
        Err(error) => Err(error),
    };
    let (listener, bound) = match bound {
        Ok(bound) => bound,
        Err(source) if endpoint.explicit => return Err(StatusError::Bind { addr, source }),
        Err(error) => {
            tracing::warn!(%addr, %error, "status endpoint is off: its default address cannot be bound; --http sets another");
            return Ok(None);
        }
    };
    let (health, metrics, report) = (Arc::new(health), Arc::new(metrics), Arc::new(report));
    let mut router = Router::new()
        .route("/healthz", get(move || async move { health_response(health()) }))
        .route(
            "/metrics",
            get(move || async move { ([(header::CONTENT_TYPE, METRICS_CONTENT_TYPE)], metrics()) }),
        )
        .route(REPORT_PATH, get(move || async move { report_response(&report()) }));
    if bound.ip().is_loopback() {
        router = router.layer(from_fn_with_state(Hosts::new(bound, &[]), refuse_names));
    }
    tokio::spawn(async move { serve_http(listener, router, LIMITS, &shutdown).await });
    Ok(Some(bound))
}

fn health_response(health: Health) -> Response {
    match health {
        Health::Ok => "ok\n".into_response(),
        Health::Degraded(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

fn report_response(report: &Report) -> Response {
    match serde_json::to_string(report) {
        Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn refuse_names(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    if hosts.allow(request.version(), request.uri(), request.headers()) {
        return next.run(request).await;
    }
    let text = "the Host of a request to this address has to be a loopback address or localhost\n";
    (StatusCode::MISDIRECTED_REQUEST, text).into_response()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::{BrokerReport, fetch_report};

    const FREE: &str = "127.0.0.1:0";

    fn endpoint(addr: &str, explicit: bool) -> StatusEndpoint {
        StatusEndpoint { addr: Some(addr.parse().unwrap()), explicit }
    }

    fn no_report() -> Report {
        Report::Broker(BrokerReport::default())
    }

    async fn fetch(addr: SocketAddr, path: &str) -> String {
        ask(addr, &format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\n")).await
    }

    async fn ask(addr: SocketAddr, head: &str) -> String {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let request = format!("{head}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(Duration::from_secs(10), stream.read_to_string(&mut answer))
            .await
            .unwrap()
            .unwrap();
        answer
    }

    async fn serve(endpoint: StatusEndpoint, shutdown: Shutdown) -> Result<Option<SocketAddr>, StatusError> {
        serve_status(endpoint, || Health::Ok, || "a 1\n".to_owned(), no_report, shutdown).await
    }

    #[tokio::test]
    async fn health_is_200_ok_or_503_with_the_reason() {
        let health = Arc::new(Mutex::new(Health::Ok));
        let seen = Arc::clone(&health);
        let health_now = move || seen.lock().unwrap().clone();
        let addr = serve_status(endpoint(FREE, true), health_now, String::new, no_report, Shutdown::new())
            .await
            .unwrap()
            .unwrap();
        let answer = fetch(addr, "/healthz").await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\nok\n"), "{answer}");
        *health.lock().unwrap() = Health::Degraded("spool is full".to_owned());
        let answer = fetch(addr, "/healthz").await;
        assert!(
            answer.starts_with("HTTP/1.1 503") && answer.ends_with("\r\n\r\nspool is full\n"),
            "{answer}"
        );
        assert!(fetch(addr, "/other").await.starts_with("HTTP/1.1 404"));
    }

    #[tokio::test]
    async fn metrics_carry_the_content_type_of_the_text_format() {
        let addr = serve(endpoint(FREE, true), Shutdown::new()).await.unwrap().unwrap();
        let answer = fetch(addr, "/metrics").await;
        assert!(answer.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\na 1\n"), "{answer}");
    }

    #[tokio::test]
    async fn the_report_is_what_fetch_report_reads() {
        let report = || Report::Broker(BrokerReport { kept_bytes: 7, ..BrokerReport::default() });
        let addr =
            serve_status(endpoint(FREE, true), || Health::Ok, String::new, report, Shutdown::new()).await;
        let addr = addr.unwrap().unwrap();
        assert_eq!(fetch_report(addr, Duration::from_secs(10)).await.unwrap(), report());
        assert!(fetch(addr, "/status").await.contains("content-type: application/json\r\n"));
    }

    #[tokio::test]
    async fn only_get_and_head_are_answered_and_only_to_who_names_an_address() {
        let addr = serve(endpoint(FREE, true), Shutdown::new()).await.unwrap().unwrap();
        for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
            let answer = ask(addr, &format!("{method} /status HTTP/1.1\r\nHost: {addr}\r\n")).await;
            assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
        }
        let answer = ask(addr, &format!("HEAD /status HTTP/1.1\r\nHost: {addr}\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n"), "{answer}");
        for host in ["localhost", "LOCALHOST:5553", "127.0.0.1", "[::1]:1", "[::1]", "127.0.0.1:65535"] {
            let answer = ask(addr, &format!("GET /status HTTP/1.1\r\nHost: {host}\r\n")).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{host}: {answer}");
        }
        for host in ["evil.example", "evil.example:5553", "127.0.0.1.evil.example", "", "192.0.2.1"] {
            for path in ["/status", "/metrics", "/healthz"] {
                let answer = ask(addr, &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n")).await;
                assert!(answer.starts_with("HTTP/1.1 421"), "{host}: {answer}");
            }
        }
        assert!(ask(addr, "GET /status HTTP/1.0\r\n").await.starts_with("HTTP/1.0 200"));
    }

    #[tokio::test]
    async fn a_taken_default_address_is_skipped_and_a_taken_explicit_one_is_an_error() {
        let holder = TcpListener::bind(FREE).await.unwrap();
        let addr = holder.local_addr().unwrap().to_string();
        let start = |explicit| serve(endpoint(&addr, explicit), Shutdown::new());
        assert_eq!(start(false).await.unwrap(), None);
        let error = start(true).await.unwrap_err().to_string();
        assert_eq!(error, format!("cannot listen on --http {addr}; give a free local address with --http"));
    }

    #[tokio::test]
    async fn an_endpoint_without_an_address_is_off() {
        let off = StatusEndpoint { addr: None, explicit: true };
        assert_eq!(serve(off, Shutdown::new()).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_requested_shutdown_closes_the_port() {
        let shutdown = Shutdown::new();
        let addr = serve(endpoint(FREE, true), shutdown.clone()).await.unwrap().unwrap();
        shutdown.request();
        let closed = async {
            while TcpStream::connect(addr).await.is_ok() {
                tokio::task::yield_now().await
            }
        };
        tokio::time::timeout(Duration::from_secs(10), closed).await.unwrap();
    }
}
