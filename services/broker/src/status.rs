//! What the broker says of itself over HTTP.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use zibrato_service::{Health, MetricsText, Report, Shutdown, StatusEndpoint, StatusError, serve_status};

use crate::counts::Totals;
use crate::report::{About, View};

/// How long the broker's thread may go without a turn before it is called unwell. A turn lasts
/// 50 ms when nothing happens.
const TURN_AGE_MAX: Duration = Duration::from_secs(5);

/// The last snapshot of a broker's counts, shared with whoever asks.
///
/// Counts are at most 0.2 s old while the broker is well, subscriptions and publishers 1 s.
#[derive(Clone, Debug)]
pub struct Status {
    about: Arc<About>,
    shared: Arc<Mutex<Snapshot>>,
}

#[derive(Debug)]
struct Snapshot {
    totals: Totals,
    view: Arc<View>,
    taken: Instant,
}

impl Status {
    pub(crate) fn new(about: About) -> Self {
        let snapshot = Snapshot { totals: Totals::default(), view: Arc::default(), taken: Instant::now() };
        Self { about: Arc::new(about), shared: Arc::new(Mutex::new(snapshot)) }
    }

    pub(crate) fn set(&self, totals: Totals) {
        let mut snapshot = self.lock();
        (snapshot.totals, snapshot.taken) = (totals, Instant::now());
    }

    pub(crate) fn set_view(&self, view: View) {
        self.lock().view = Arc::new(view);
    }

    /// Serves all of this over HTTP until `shutdown` is requested; the bound address, if there is one.
    ///
    /// # Errors
    /// As [`serve_status`].
    pub async fn serve(
        self,
        http: StatusEndpoint,
        shutdown: Shutdown,
    ) -> Result<Option<SocketAddr>, StatusError> {
        let (health, metrics) = (self.clone(), self.clone());
        let report = move || self.report();
        serve_status(http, move || health.health(), move || metrics.metrics(), report, shutdown).await
    }

    /// The counts of the last snapshot.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.lock().totals.clone()
    }

    /// Unwell if the broker failed or its thread hangs.
    #[must_use]
    pub fn health(&self) -> Health {
        let snapshot = self.lock();
        if let Some(error) = snapshot.totals.failed {
            return Health::Degraded(format!("the broker ended: {error}"));
        }
        let age = snapshot.taken.elapsed();
        if age > TURN_AGE_MAX {
            return Health::Degraded(format!("the broker's thread made no turn for {} s", age.as_secs()));
        }
        Health::Ok
    }

    /// All that is known, for a person.
    #[must_use]
    pub fn report(&self) -> Report {
        let (totals, view) = {
            let snapshot = self.lock();
            (snapshot.totals.clone(), Arc::clone(&snapshot.view))
        };
        Report::Broker(self.about.report(&totals, &view, &self.health()))
    }

    /// The counts as a page of the Prometheus text format.
    #[must_use]
    pub fn metrics(&self) -> String {
        let totals = self.totals();
        let mut text = MetricsText::new();
        text.counter("zibrato_broker_received_total", "Messages received from publishers.")
            .value(totals.received);
        let mut family =
            text.counter("zibrato_broker_forwarded_total", "Messages handed to at least one subscriber.");
        for (level, counts) in &totals.levels {
            family.sample(&[("level", level)], counts.forwarded);
        }
        let mut family =
            text.counter("zibrato_broker_no_subscriber_total", "Messages nobody was subscribed to.");
        for (level, counts) in &totals.levels {
            family.sample(&[("level", level)], counts.no_subscriber);
        }
        for (name, help, counts) in [
            ("zibrato_broker_refused_total", "Messages refused.", &totals.refused),
            (
                "zibrato_broker_ignored_total",
                "Messages and subscriptions of workers ignored.",
                &totals.ignored,
            ),
            ("zibrato_broker_evicted_publishers_total", "Publishers of a level forgotten.", &totals.evicted),
        ] {
            let mut family = text.counter(name, help);
            for (reason, count) in counts {
                family.sample(&[("reason", reason)], *count);
            }
        }
        for (name, help, count) in [
            ("zibrato_broker_acknowledged_total", "End frames acknowledged.", totals.acknowledged),
            ("zibrato_broker_replay_pages_total", "Pages of kept frames sent.", totals.replay_pages),
            ("zibrato_broker_replayed_frames_total", "Kept frames sent in pages.", totals.replayed),
        ] {
            text.counter(name, help).value(count);
        }
        for (name, help, value) in [
            ("zibrato_broker_kept_frames", "Frames kept.", totals.kept_frames),
            ("zibrato_broker_kept_bytes", "Bytes of kept frames.", totals.kept_bytes),
            ("zibrato_broker_kept_publishers", "Publishers of a level kept.", totals.kept_publishers),
            ("zibrato_broker_topics", "Distinct topics subscribed to.", totals.topics),
        ] {
            text.gauge(name, help).value(value);
        }
        text.finish()
    }

    fn lock(&self) -> MutexGuard<'_, Snapshot> {
        // A snapshot is replaced whole, so one left by a panic is whole too.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_broker_and_one_that_hangs_are_unwell() {
        let status = Status::new(About::nothing());
        assert_eq!(status.health(), Health::Ok);
        status.lock().taken -= TURN_AGE_MAX + Duration::from_secs(1);
        assert_eq!(status.health(), Health::Degraded("the broker's thread made no turn for 6 s".to_owned()));
        status.set(Totals { failed: Some(zmq::Error::ETERM), ..Totals::default() });
        assert!(matches!(status.health(), Health::Degraded(text) if text.starts_with("the broker ended: ")));
    }

    #[test]
    fn the_page_has_every_disposition_of_the_sum() {
        let status = Status::new(About::nothing());
        let levels =
            [("info".to_owned(), crate::LevelTotals { forwarded: 2, no_subscriber: 3, legacy_forwarded: 0 })];
        let refused = [("topic", 4)].into();
        status.set(Totals { received: 9, levels: levels.into(), refused, ..Totals::default() });
        let page = status.metrics();
        for line in [
            "zibrato_broker_received_total 9\n",
            "zibrato_broker_forwarded_total{level=\"info\"} 2\n",
            "zibrato_broker_no_subscriber_total{level=\"info\"} 3\n",
            "zibrato_broker_refused_total{reason=\"topic\"} 4\n",
        ] {
            assert!(page.contains(line), "{line} in {page}");
        }
    }
}
