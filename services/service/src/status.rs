//! `/healthz` and `/metrics` over HTTP.

use std::future::IntoFuture;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::Shutdown;

/// The content type of the Prometheus text format.
const METRICS_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

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

/// Serves `/healthz` (200 `ok`, or 503 with the reason) and `/metrics` (Prometheus text) in a
/// task of its own until `shutdown` is requested.
///
/// The address is bound when this returns: the bound address, or `None` if the endpoint is off or
/// its default address is taken, which is logged as a warning. Both closures run on the runtime and
/// must not block.
///
/// # Errors
///
/// [`StatusError::Bind`] if an explicit address cannot be bound.
pub async fn serve_status(
    endpoint: StatusEndpoint,
    health: impl Fn() -> Health + Send + Sync + 'static,
    metrics: impl Fn() -> String + Send + Sync + 'static,
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
    let (health, metrics) = (Arc::new(health), Arc::new(metrics));
    let router =
        Router::new().route("/healthz", get(move || async move { health_response(health()) })).route(
            "/metrics",
            get(move || async move { ([(header::CONTENT_TYPE, METRICS_CONTENT_TYPE)], metrics()) }),
        );
    let server =
        axum::serve(listener, router).with_graceful_shutdown(async move { shutdown.requested().await });
    tokio::spawn(server.into_future());
    Ok(Some(bound))
}

fn health_response(health: Health) -> Response {
    match health {
        Health::Ok => "ok\n".into_response(),
        Health::Degraded(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    const FREE: &str = "127.0.0.1:0";

    fn endpoint(addr: &str, explicit: bool) -> StatusEndpoint {
        StatusEndpoint { addr: Some(addr.parse().unwrap()), explicit }
    }

    async fn fetch(addr: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(Duration::from_secs(10), stream.read_to_string(&mut answer))
            .await
            .unwrap()
            .unwrap();
        answer
    }

    #[tokio::test]
    async fn health_is_200_ok_or_503_with_the_reason() {
        let health = Arc::new(Mutex::new(Health::Ok));
        let seen = Arc::clone(&health);
        let addr = serve_status(
            endpoint(FREE, true),
            move || seen.lock().unwrap().clone(),
            String::new,
            Shutdown::new(),
        )
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
        let page = || "a 1\n".to_owned();
        let addr =
            serve_status(endpoint(FREE, true), || Health::Ok, page, Shutdown::new()).await.unwrap().unwrap();
        let answer = fetch(addr, "/metrics").await;
        assert!(answer.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\na 1\n"), "{answer}");
    }

    #[tokio::test]
    async fn a_taken_default_address_is_skipped_and_a_taken_explicit_one_is_an_error() {
        let holder = TcpListener::bind(FREE).await.unwrap();
        let addr = holder.local_addr().unwrap().to_string();
        let start =
            |explicit| serve_status(endpoint(&addr, explicit), || Health::Ok, String::new, Shutdown::new());
        assert_eq!(start(false).await.unwrap(), None);
        let error = start(true).await.unwrap_err().to_string();
        assert_eq!(error, format!("cannot listen on --http {addr}; give a free local address with --http"));
    }

    #[tokio::test]
    async fn an_endpoint_without_an_address_is_off() {
        let off = StatusEndpoint { addr: None, explicit: true };
        assert_eq!(serve_status(off, || Health::Ok, String::new, Shutdown::new()).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_requested_shutdown_closes_the_port() {
        let shutdown = Shutdown::new();
        let addr = serve_status(endpoint(FREE, true), || Health::Ok, String::new, shutdown.clone())
            .await
            .unwrap()
            .unwrap();
        shutdown.request();
        let closed = async {
            while TcpStream::connect(addr).await.is_ok() {
                tokio::task::yield_now().await
            }
        };
        tokio::time::timeout(Duration::from_secs(10), closed).await.unwrap();
    }
}
