//! HTTP/1.1 on a listener, within limits and with an ordered end.
//!
//! axum's own loop knows no limits, so this is one on hyper.

mod hosts;
mod stream;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};

use crate::Shutdown;
pub use hosts::Hosts;
use stream::ImpatientStream;

/// The most bytes of a request's head; more is answered with 431, or 414 if it is the address.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// How long requests under way may hold up the end.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait when no connection can be accepted, as without free file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);

/// What a server bears of its clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HttpLimits {
    /// Connections at once; further ones wait in the operating system's queue until one ends.
    pub connections_max: usize,
    /// How long the head of a request may take, from the end of the answer before it (or from the
    /// start of the connection) to its last line. So it is also how long a connection may idle. The
    /// connection is closed.
    pub head_timeout: Duration,
    /// How long a client may take nothing of an answer that waits for it. The connection is cut.
    pub write_timeout: Duration,
}

/// Serves `router` until `shutdown` is requested. Requests under way are then finished, within 5 s or
/// until the shutdown is immediate.
pub async fn serve_http(listener: TcpListener, router: Router, limits: HttpLimits, shutdown: &Shutdown) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.head_timeout);
    http.max_header_size(HEAD_BYTES_MAX).max_buf_size(HEAD_BYTES_MAX);
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            Some(ended) = connections.join_next() => {
                report_panic(ended);
                continue;
            }
            () = shutdown.requested() => break,
        };
        let (stream, place) = accepted;
        let stream = TokioIo::new(ImpatientStream::new(stream, limits.write_timeout));
        let connection = http.serve_connection(stream, TowerToHyperService::new(router.clone()));
        let connection = graceful.watch(connection);
        connections.spawn(async move {
            // A client that goes away or talks nonsense concerns nobody else.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection failed");
            }
            drop(place);
        });
    }
    drop(listener);
    tokio::select! {
        () = graceful.shutdown() => {}
        () = tokio::time::sleep(STOP_TIMEOUT) => {}
        () = shutdown.immediate() => {}
    }
    // Those that are left are cut off.
    connections.shutdown().await;
}

/// The next connection with its place among the most at once.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    let place = loop {
        // The semaphore is never closed, so the loop ends at once.
        if let Ok(place) = Arc::clone(places).acquire_owned().await {
            break place;
        }
    };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Answers are written whole and events must not wait for more of them.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "cannot set TCP_NODELAY");
                }
                return (stream, place);
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Whether the next connection can be accepted at once.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// A handler that panics takes its own connection with it and nothing else.
fn report_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a request panicked");
    }
}
