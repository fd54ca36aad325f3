//! The HTTP server: start, limits, counting, the ordered end.

use std::future::{IntoFuture, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use zibrato_service::Shutdown;

use crate::config::{Config, ConfigError, Token};
use crate::errors::{ApiError, Refusal, unix_now};
use crate::rate::RateWindow;
use crate::store::{Store, StoreError};
use crate::totals::{Counters, Totals};
use crate::{api, auth};

/// The largest body of a request, in bytes.
const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How much of a body that is too large is read and thrown away, in bytes, so that the client gets
/// to read its answer; then the connection is closed on it.
const BODY_DISCARDED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long requests under way may hold up the end.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the receiver cannot start or ended badly.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The settings contradict each other.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address cannot be bound.
    #[error("cannot listen on --listen {listen}; give a free local address")]
    Bind {
        /// The address.
        listen: SocketAddr,
        /// The operating system's error.
        source: io::Error,
    },
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A task of the server panicked.
    #[error("the server's task failed")]
    Task(#[from] tokio::task::JoinError),
}

/// A receiver that has started.
#[derive(Debug)]
pub struct Running {
    /// The bound address.
    pub addr: SocketAddr,
    /// Ends with the totals after the shutdown that was given to [`start`].
    pub handle: JoinHandle<Result<Totals, Error>>,
    counters: Arc<Counters>,
}

impl Running {
    /// The totals so far.
    pub fn totals(&self) -> Totals {
        self.counters.snapshot()
    }

    /// Waits for the end.
    ///
    /// # Errors
    ///
    /// Those of [`run`] after its start.
    pub async fn join(self) -> Result<Totals, Error> {
        self.handle.await?
    }
}

/// Runs a receiver until `shutdown` is requested, and logs the totals last.
///
/// An ordered shutdown stops accepting, finishes the requests under way (5 s at most), stores what
/// is queued and closes the file. An immediate one drops what is not stored yet; its senders got no
/// 200 for it.
///
/// # Errors
///
/// Those of [`start`], or [`Error::Task`] if a task panicked.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<Totals, Error> {
    start(config, shutdown).await?.join().await
}

/// Opens the store, binds the address and serves in a task of its own. The address accepts
/// connections when this returns.
///
/// # Errors
///
/// [`Error::Config`] for contradicting settings, [`Error::Store`] if the file cannot be used,
/// [`Error::Bind`] if the address cannot be bound.
pub async fn start(config: Config, shutdown: Shutdown) -> Result<Running, Error> {
    config.check()?;
    let Config { listen, db, token, max_age_s, max_ahead_s, keep, clock } = config;
    let listener = TcpListener::bind(listen).await.map_err(|source| Error::Bind { listen, source })?;
    let addr = listener.local_addr().map_err(|source| Error::Bind { listen, source })?;
    let path = db.clone();
    let store = tokio::task::spawn_blocking(move || Store::open(&path, keep, clock)).await??;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        %addr,
        db = %db.display(),
        authentication = token.is_some(),
        max_age_s,
        max_ahead_s,
        "zibrato-local listens"
    );
    let counters = Arc::new(Counters::default());
    let app = App {
        token,
        max_age_s,
        max_ahead_s,
        store,
        counters: Arc::clone(&counters),
        rate: RateWindow::default(),
    };
    let handle = tokio::spawn(serve(listener, Arc::new(app), shutdown));
    Ok(Running { addr, handle, counters })
}

/// What all requests share.
#[derive(Debug)]
pub(crate) struct App {
    token: Option<Token>,
    pub(crate) max_age_s: u64,
    pub(crate) max_ahead_s: u64,
    pub(crate) store: Store,
    pub(crate) counters: Arc<Counters>,
    pub(crate) rate: RateWindow,
}

/// A handle to [`App`].
pub(crate) type Shared = Arc<App>;

async fn serve(listener: TcpListener, app: Shared, shutdown: Shutdown) -> Result<Totals, Error> {
    let router = router(Arc::clone(&app));
    let stop = shutdown.clone();
    let server = axum::serve(listener, router).with_graceful_shutdown(async move { stop.requested().await });
    let server = tokio::spawn(server.into_future());
    let abort = server.abort_handle();
    tokio::pin!(server);
    let ended = tokio::select! {
        ended = &mut server => Some(ended),
        () = shutdown.requested() => tokio::select! {
            ended = &mut server => Some(ended),
            () = tokio::time::sleep(STOP_TIMEOUT) => None,
            () = shutdown.immediate() => None,
        },
    };
    abort.abort();
    app.store.close(shutdown.is_immediate()).await;
    let totals = app.counters.snapshot();
    report(&totals);
    match ended {
        Some(Err(panicked)) => Err(panicked.into()),
        // Serving itself has no way to fail.
        Some(Ok(_)) | None => Ok(totals),
    }
}

fn report(totals: &Totals) {
    if !totals.adds_up() {
        tracing::error!(?totals, "points do not add up: offered is not accepted plus refused");
    }
    tracing::info!(
        requests = totals.requests,
        requests_refused = ?totals.requests_refused,
        duplicate_batches = totals.duplicate_batches,
        points_offered = totals.points_offered,
        points_accepted = totals.points_accepted,
        points_refused = ?totals.points_refused,
        "totals"
    );
}

fn router(app: Shared) -> Router {
    api::routes()
        .fallback(async || ApiError::not_found())
        .method_not_allowed_fallback(async || {
            ApiError::request(StatusCode::METHOD_NOT_ALLOWED, Refusal::WrongMethod, "Method Not Allowed")
        })
        .layer(from_fn_with_state(Arc::clone(&app), guard))
        .with_state(app)
}

/// What every request passes: authentication before, counting and the rate headers after.
async fn guard(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let response = if auth::is_allowed(app.token.as_ref(), request.headers()) {
        next.run(request).await
    } else {
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        ApiError::unauthorized(is_read).into_response()
    };
    finish(&app, response)
}

fn finish(app: &App, mut response: Response) -> Response {
    app.counters.request(response.extensions().get::<Refusal>().copied());
    app.rate.write(unix_now(), response.headers_mut());
    response
}

/// The body of a request, within the limits of size and time.
pub(crate) async fn read_body(headers: &HeaderMap, body: Body) -> Result<Vec<u8>, ApiError> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    match tokio::time::timeout(BODY_TIMEOUT, collect(announced.unwrap_or(0), body)).await {
        Ok(result) => result,
        Err(_) => {
            let text = format!("the body did not arrive within {} s", BODY_TIMEOUT.as_secs());
            Err(ApiError::request(StatusCode::REQUEST_TIMEOUT, Refusal::BodyTooSlow, text))
        }
    }
}

async fn collect(announced: usize, mut body: Body) -> Result<Vec<u8>, ApiError> {
    let mut bytes = Vec::with_capacity(announced.min(BODY_BYTES_MAX));
    let mut length = 0;
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let frame = frame.map_err(|_| {
            let text = "the body ended before its length";
            ApiError::request(StatusCode::BAD_REQUEST, Refusal::Abandoned, text)
        })?;
        let Ok(data) = frame.into_data() else { continue };
        length += data.len();
        if length <= BODY_BYTES_MAX {
            bytes.extend_from_slice(&data);
        } else {
            bytes = Vec::new();
        }
        if length > BODY_DISCARDED_BYTES_MAX {
            break;
        }
    }
    if length > BODY_BYTES_MAX {
        let text =
            format!("body exceeds the limit of {BODY_BYTES_MAX} bytes; send fewer measurements at once");
        return Err(ApiError::request(StatusCode::PAYLOAD_TOO_LARGE, Refusal::BodyTooLarge, text));
    }
    Ok(bytes)
}
