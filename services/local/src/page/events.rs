//! `GET /page/events`: says which metrics changed and whether a broker or worker said something new, so
//! that the page asks again, and that the server is there.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use serde_json::json;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};
use zibrato_service::Shutdown;

use super::request::{Answer, PageError};
use crate::server::{App, Shared};

/// The most pages that listen at one time.
const CLIENTS_MAX: usize = 64;
/// The shortest time between two messages about changes.
const CHANGES_EVERY: Duration = Duration::from_millis(200);
/// The longest silence: the page takes a longer one for a lost connection.
const BEAT_EVERY: Duration = Duration::from_secs(5);
/// The most metrics that are named in one message; more are "all".
const NAMED_MAX: usize = 1_000;

/// The places of those who listen.
#[derive(Clone, Debug)]
pub(super) struct Listeners(Arc<Semaphore>);

impl Default for Listeners {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(CLIENTS_MAX)))
    }
}

impl Listeners {
    /// Answers with a stream that ends when the server does.
    pub(super) async fn show(self, State(app): State<Shared>) -> Answer {
        let Ok(place) = self.0.try_acquire_owned() else {
            return Err(PageError::busy(format!(
                "{CLIENTS_MAX} pages listen already; close one, or try again later"
            )));
        };
        let told = unfold(Told::new(&app, place), async |mut told| {
            let event = told.next().await?;
            Some((Ok::<_, Infallible>(event), told))
        });
        let mut response: Response = Sse::new(told).into_response();
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(response)
    }
}

/// What one listener has been told and is to be told.
struct Told {
    changes: broadcast::Receiver<Arc<[i64]>>,
    /// What brokers and workers say.
    reports: watch::Receiver<u64>,
    changed: BTreeSet<i64>,
    is_all: bool,
    is_overview: bool,
    /// When the next message about changes may go out.
    due: Instant,
    beats: Interval,
    shutdown: Shutdown,
    _place: OwnedSemaphorePermit,
}

impl Told {
    fn new(app: &App, place: OwnedSemaphorePermit) -> Self {
        let mut beats = interval(BEAT_EVERY);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            changes: app.store.changes(),
            reports: app.watch.changes(),
            changed: BTreeSet::new(),
            is_all: false,
            is_overview: false,
            due: Instant::now(),
            beats,
            shutdown: app.shutdown.clone(),
            _place: place,
        }
    }

    /// The next message; none if the server ends.
    async fn next(&mut self) -> Option<Event> {
        loop {
            let is_pending = self.is_all || self.is_overview || !self.changed.is_empty();
            tokio::select! {
                () = self.shutdown.requested() => return None,
                _ = self.beats.tick() => return Some(beat()),
                () = tokio::time::sleep_until(self.due), if is_pending => {
                    self.due = Instant::now() + CHANGES_EVERY;
                    return Some(self.take());
                }
                Ok(()) = self.reports.changed() => self.is_overview = true,
                changed = self.changes.recv() => match changed {
                    Ok(metrics) => {
                        self.changed.extend(metrics.iter().copied());
                        self.is_all |= self.changed.len() > NAMED_MAX;
                    }
                    Err(RecvError::Lagged(_)) => self.is_all = true,
                    Err(RecvError::Closed) => return None,
                },
            }
            if self.is_all {
                self.changed.clear();
            }
        }
    }

    fn take(&mut self) -> Event {
        let metrics = std::mem::take(&mut self.changed);
        let all = std::mem::take(&mut self.is_all);
        let overview = std::mem::take(&mut self.is_overview);
        let data = json!({ "all": all, "metrics": metrics, "overview": overview });
        Event::default().event("changed").data(data.to_string())
    }
}

/// A sign of life with the server's clock: charts end at its present.
fn beat() -> Event {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Event::default().event("beat").data(json!({ "now_ms": now.as_millis() as u64 }).to_string())
}
