//! The page that Prometheus comes for: the last total of each series, in the form that is asked for.
//!
//! What a flush changes passes through the spool like any batch, and is delivered when it stands on the page. After a
//! restart the first flush tells all series again, and until then the page answers 503: a page with some series would
//! end all others.

mod accept;
mod body;
mod page;
mod protobuf;
mod serve;
mod text;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Mutex;
use zibrato_service::Shutdown;

use super::Settings;
use crate::backend::{
    Answer, Backend, Batch, Content, Encoded, Limits, Pending, Probe, Response, Shape, Verdict,
};
use page::Page;

/// What the spool may hold is taken whatever its age: totals of the next flush take its place.
const AGE_MAX: Duration = Duration::from_secs(3_650 * 86_400);
const LIMITS: Limits = Limits {
    points_max: super::write::POINTS_MAX,
    body_bytes_max: super::write::BODY_BYTES_MAX,
    age_max: AGE_MAX,
    points_per_series_max: 1,
};

/// The backend of `zibrato-prometheus --scrape`. The page is served from the probe on until it is dropped.
#[derive(Debug)]
pub(super) struct Scrape {
    addr: SocketAddr,
    served: Arc<Served>,
    bound: Mutex<Option<SocketAddr>>,
    shutdown: Shutdown,
}

/// What the page is made from.
#[derive(Debug)]
struct Served {
    settings: Settings,
    page: RwLock<Page>,
    /// Held while a page is written.
    turn: Mutex<()>,
    /// Time of this process' first flush in Unix milliseconds; 0 before.
    first_flush_ms: AtomicU64,
    is_whole: AtomicBool,
}

impl Scrape {
    /// A page that is not served yet.
    pub(super) fn new(addr: SocketAddr, settings: Settings) -> Self {
        let served = Served {
            settings,
            page: RwLock::default(),
            turn: Mutex::default(),
            first_flush_ms: AtomicU64::new(0),
            is_whole: AtomicBool::new(false),
        };
        Self { addr, served: Arc::new(served), bound: Mutex::default(), shutdown: Shutdown::new() }
    }

    /// Serves the page if it is not served yet; the bound address.
    async fn serve(&self) -> Result<SocketAddr, String> {
        let mut bound = self.bound.lock().await;
        if let Some(bound) = *bound {
            return Ok(bound);
        }
        let addr = serve::serve(self.addr, Arc::clone(&self.served), self.shutdown.clone()).await;
        let addr = addr.map_err(|error| {
            format!("cannot listen on --scrape {}: {error}; give a free local address", self.addr)
        })?;
        tracing::info!(url = format!("http://{addr}/metrics"), "the page for Prometheus is served");
        *bound = Some(addr);
        Ok(addr)
    }
}

impl Drop for Scrape {
    fn drop(&mut self) {
        self.shutdown.request();
    }
}

impl Served {
    fn is_whole(&self) -> bool {
        self.is_whole.load(Ordering::Acquire)
    }

    /// Notes a flush; one that has nothing to tell leaves nothing to wait for.
    fn flushed(&self, flush_ms: u64, is_empty: bool) {
        let first = self.first_flush_ms.compare_exchange(0, flush_ms, Ordering::AcqRel, Ordering::Acquire);
        if first.is_ok() && is_empty {
            self.is_whole.store(true, Ordering::Release);
        }
    }

    fn apply(&self, bytes: &[u8]) -> bool {
        let Some((header, changes)) = body::read(bytes) else { return false };
        let mut page = self.page.write().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            page.apply(change, &self.settings);
        }
        drop(page);
        let first_ms = self.first_flush_ms.load(Ordering::Acquire);
        if header.is_last && first_ms > 0 && header.flush_ms >= first_ms {
            self.is_whole.store(true, Ordering::Release);
        }
        true
    }
}

impl Backend for Scrape {
    fn name(&self) -> &'static str {
        super::NAME
    }

    fn target(&self) -> String {
        format!("http://{}/metrics", self.addr)
    }

    fn limits(&self) -> Limits {
        LIMITS
    }

    fn shape(&self) -> Shape {
        super::SHAPE
    }

    fn probe(&self) -> Pending<'_, Probe> {
        Box::pin(async {
            match self.serve().await {
                Ok(_) => Probe::NotNeeded,
                Err(error) => Probe::Unanswered(error),
            }
        })
    }

    fn encode(&self, content: &Content<'_>) -> Encoded {
        let encoded = body::encode(content, &self.served.settings, &LIMITS);
        self.served.flushed(content.flush.unix_ms, encoded.bodies.is_empty());
        encoded
    }

    /// Puts the batch on the page, which has to be served by then: what nobody can see is not delivered.
    fn send<'a>(&'a self, batch: &'a Batch) -> Pending<'a, Answer> {
        Box::pin(async {
            if let Err(error) = self.serve().await {
                return Answer::NotSent(error);
            }
            let (served, bytes) = (Arc::clone(&self.served), batch.body.bytes.clone());
            // A page that is being written is waited for.
            match tokio::task::spawn_blocking(move || served.apply(&bytes)).await {
                Ok(is_read) => Answer::Response(Response {
                    status: if is_read { 200 } else { 400 },
                    ..Response::default()
                }),
                Err(error) => Answer::Lost(error.to_string()),
            }
        })
    }

    fn classify(&self, response: &Response, _: &Batch, _: u64) -> Verdict {
        match response.status {
            200 => Verdict::Delivered { odd: false },
            // Nobody else answers: these are bytes that this program cannot read.
            _ => Verdict::Drop { reason: super::reason::REFUSED },
        }
    }

    fn select(&self, bytes: &[u8], keep: &[bool]) -> Option<Vec<u8>> {
        body::select(bytes, keep)
    }

    fn describe(&self, bytes: &[u8], point: usize) -> Option<String> {
        let (_, changes) = body::read(bytes)?;
        let series = &changes.get(point)?.series;
        Some(format!("{} of source {}", series.name, series.source))
    }
}

#[cfg(test)]
mod tests;
