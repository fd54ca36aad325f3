//! The HTTP server: start, limits, counting, the ordered end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use axum::Router;
use axum::middleware::from_fn_with_state;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};
use zibrato_service::{Hosts, Shutdown, serve_http};

use crate::api::{self, Jobs};
use crate::config::{Config, ConfigError, Token};
use crate::errors::ApiError;
use crate::page;
use crate::rate::RateWindow;
use crate::store::{Store, StoreError};
use crate::totals::{Counters, Totals};
use crate::watch::Watch;

mod guard;
pub(crate) mod intake;
mod limits;
mod sites;

pub(crate) use guard::HEALTH_PATH;
pub use limits::Limits;

use intake::Occupied;

/// The smallest answer that is sent with gzip to a client that takes it, in bytes.
const COMPRESSED_BYTES_MIN: u64 = 1_024;

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
    watch: Watch,
}

impl Running {
    /// What brokers and workers say of themselves.
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

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
    let Config { listen, db, token, max_age_s, max_ahead_s, allow_hosts, limits, watch, keep, clock } =
        config;
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
    let watch = Watch::start(&watch, shutdown.clone());
    let app = App {
        token,
        hosts: Hosts::new(addr, &allow_hosts),
        bodies: Occupied::new(limits.bodies_bytes_max),
        limits,
        max_age_s,
        max_ahead_s,
        store,
        counters: Arc::clone(&counters),
        rate: RateWindow::default(),
        jobs: Jobs::default(),
        store_fails: AtomicBool::new(false),
        started: Instant::now(),
        shutdown: shutdown.clone(),
        watch: watch.clone(),
    };
    let handle = tokio::spawn(serve(listener, Arc::new(app), shutdown));
    Ok(Running { addr, handle, counters, watch })
}

/// What all requests share.
#[derive(Debug)]
pub(crate) struct App {
    token: Option<Token>,
    hosts: Hosts,
    limits: Limits,
    pub(crate) max_age_s: u64,
    pub(crate) max_ahead_s: u64,
    pub(crate) store: Store,
    pub(crate) counters: Arc<Counters>,
    pub(crate) rate: RateWindow,
    bodies: Occupied,
    pub(crate) jobs: Jobs,
    /// Whether the last batch could not be stored.
    pub(crate) store_fails: AtomicBool,
    pub(crate) started: Instant,
    /// Ends answers that would go on for ever, so that they do not hold up the end.
    pub(crate) shutdown: Shutdown,
    pub(crate) watch: Watch,
}

impl App {
    /// The bytes that bodies of requests occupy at present.
    pub(crate) fn bodies_bytes(&self) -> usize {
        self.bodies.bytes()
    }
}

/// A handle to [`App`].
pub(crate) type Shared = Arc<App>;

async fn serve(listener: TcpListener, app: Shared, shutdown: Shutdown) -> Result<Totals, Error> {
    serve_http(listener, router(Arc::clone(&app)), app.limits.http(), &shutdown).await;
    app.store.close(shutdown.is_immediate()).await;
    let totals = app.counters.snapshot();
    report(&totals);
    Ok(totals)
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
        .merge(page::routes())
        .fallback(async || ApiError::not_found())
        .method_not_allowed_fallback(async || ApiError::wrong_method())
        .layer(CompressionLayer::new().compress_when(is_compressed()))
        .layer(from_fn_with_state(Arc::clone(&app), guard::guard))
        .with_state(app)
}

/// Events must not wait in a compressor, and small answers gain nothing.
fn is_compressed() -> impl Predicate {
    SizeAbove::new(COMPRESSED_BYTES_MIN).and(NotForContentType::IMAGES).and(NotForContentType::SSE)
}
