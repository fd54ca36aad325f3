//! What the worker says of itself at `/status`.

use std::collections::BTreeMap;
use std::time::Instant;

use zibrato_service::{
    Account, Connection, PUBLISHER_LEVELS_MAX, PUBLISHERS_MAX, Process, PublisherReport, SpoolReport,
    WorkerReport,
};

use crate::backend::Backend;
use crate::clock::WallClock;
use crate::ledger::{Amounts, Ledger};
use crate::status::health;
use crate::subscription::Subscription;
use crate::totals::Totals;
use crate::units::{ByReason, Units};
use crate::worker::{LaneConfig, Source};

/// What stays the same while a worker runs.
#[derive(Debug)]
pub(crate) struct About {
    /// Name of the lane, which is that of its backend if there is one alone.
    backend: String,
    target: String,
    levels: Vec<String>,
    flush_s: f64,
    spool_bytes_max: u64,
    clock: WallClock,
    started: Instant,
}

/// Who was there at a moment; the ledger's thread makes one a second, and one before each flush.
#[derive(Debug)]
pub(crate) struct View {
    brokers: Vec<Connection>,
    publishers: Vec<PublisherReport>,
    publishers_total: usize,
    taken: Instant,
}

impl View {
    pub(crate) fn of(subscription: &Subscription, ledger: &Ledger) -> Self {
        let connection =
            |(endpoint, connected): (&str, bool)| Connection { endpoint: endpoint.to_owned(), connected };
        Self {
            brokers: subscription.brokers().map(connection).collect(),
            publishers: ledger.latest_publishers(PUBLISHERS_MAX, PUBLISHER_LEVELS_MAX),
            publishers_total: ledger.publishers_distinct(),
            taken: Instant::now(),
        }
    }

    /// The publishers as they are by now.
    fn publishers(&self) -> Vec<PublisherReport> {
        let mut publishers = self.publishers.clone();
        let age_ms = u64::try_from(self.taken.elapsed().as_millis()).unwrap_or(u64::MAX);
        for publisher in &mut publishers {
            publisher.silent_ms = publisher.silent_ms.saturating_add(age_ms);
            publisher.age_ms = publisher.age_ms.saturating_add(age_ms);
        }
        publishers
    }
}

impl Default for View {
    fn default() -> Self {
        Self { brokers: Vec::new(), publishers: Vec::new(), publishers_total: 0, taken: Instant::now() }
    }
}

impl About {
    pub(crate) fn of(lane: &str, source: &Source, config: &LaneConfig, backend: &dyn Backend) -> Self {
        Self {
            backend: lane.to_owned(),
            target: backend.target(),
            levels: source.levels.clone(),
            flush_s: config.flush.as_secs_f64(),
            spool_bytes_max: config.spool_bytes_max,
            clock: source.clock.clone(),
            started: Instant::now(),
        }
    }

    pub(crate) fn target(&self) -> &str {
        &self.target
    }

    pub(crate) fn name(&self) -> &str {
        &self.backend
    }

    pub(crate) fn report(&self, totals: &Totals, view: &View) -> WorkerReport {
        let now_ms = self.clock.now_ms();
        let health = health(totals, now_ms);
        let age_ms = |since_ms: u64| now_ms.saturating_sub(since_ms);
        WorkerReport {
            process: Process {
                unix_ms: now_ms,
                ..Process::this(env!("CARGO_PKG_VERSION"), self.started, &health)
            },
            backend: self.backend.clone(),
            target: self.target.clone(),
            levels: self.levels.clone(),
            brokers: view.brokers.clone(),
            accounts: ledger_accounts(totals).into_iter().chain(spool_accounts(totals)).collect(),
            lost: lost(totals),
            vanished: totals.ledger.vanished,
            refused: totals
                .ledger
                .refused
                .iter()
                .map(|(reason, count)| ((*reason).to_owned(), *count))
                .collect(),
            series: totals.series,
            flush_s: self.flush_s,
            flushed_ms: totals.last_flush_ms.map(age_ms),
            delivered_ms: totals.last_success_ms.map(age_ms),
            backend_error: totals.backend_error.clone(),
            spool: SpoolReport {
                batches: totals.held.batches,
                bytes: totals.held.bytes,
                bytes_max: self.spool_bytes_max,
                oldest_ms: totals.oldest_ms.map(age_ms),
            },
            publishers: view.publishers(),
            publishers_total: view.publishers_total as u64,
        }
    }
}

/// The ledger takes what it can read; what it cannot is counted in messages, frames or states.
fn ledger_accounts(totals: &Totals) -> [Account; 4] {
    let ledger = &totals.ledger;
    let account = |unit: &str, amount: fn(&Amounts) -> u128| Account {
        stage: "ledger".to_owned(),
        unit: unit.to_owned(),
        offered: amount(&ledger.accepted) as f64,
        accepted: amount(&ledger.accepted).saturating_sub(amount(&ledger.merged)) as f64,
        merged: amount(&ledger.merged) as f64,
        refused: BTreeMap::new(),
        delivered: amount(&ledger.flushed) as f64,
        held: amount(&ledger.held) as f64,
        dropped: positive(ledger.dropped.iter().map(|(reason, amounts)| (*reason, amount(amounts) as f64))),
    };
    [
        account("counter units", |amounts| amounts.counters),
        account("timer records", |amounts| amounts.timers),
        account("gauge sets", |amounts| amounts.gauges),
        account("legacy counters", |amounts| amounts.legacy_counters),
    ]
}

fn spool_accounts(totals: &Totals) -> [Account; 4] {
    let merged_sets = Units { gauge_sets: totals.merged_sets, ..Units::default() };
    let account = |unit: &str, amount: fn(&Units) -> f64| {
        let restored = amount(&totals.restored);
        let by_reason =
            |tally: &ByReason| positive(tally.iter().map(|(reason, units)| (reason, amount(units))));
        Account {
            stage: "spool".to_owned(),
            unit: unit.to_owned(),
            offered: amount(&totals.offered) + restored,
            accepted: amount(&totals.accepted) + restored,
            merged: amount(&merged_sets),
            refused: by_reason(&totals.refused),
            delivered: amount(&totals.delivered),
            held: amount(&totals.held.units),
            dropped: by_reason(&totals.dropped),
        }
    };
    let mut points = account("points", |units| units.points as f64);
    // Levels and publishers of one series become one point, so only what was encoded can be offered.
    points.offered = points.accepted + points.refused.values().sum::<f64>();
    [
        account("counter units", |units| units.counter_sum),
        account("timer records", |units| units.timer_records as f64),
        account("gauge sets", |units| units.gauge_sets as f64),
        points,
    ]
}

fn lost(totals: &Totals) -> BTreeMap<String, u64> {
    let (ledger, seen) = (&totals.ledger, &totals.subscription);
    let counts = [
        ("gaps_lost", u64::try_from(ledger.gaps_lost).unwrap_or(u64::MAX)),
        ("legacy_lost", ledger.legacy_lost),
        ("buckets_unknown", ledger.buckets_unknown),
        ("joined_late", ledger.joined_late_series),
        ("multipart", seen.multipart),
        ("abandoned", seen.abandoned),
    ];
    counts
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(reason, count)| (reason.to_owned(), count))
        .collect()
}

fn positive(amounts: impl Iterator<Item = (&'static str, f64)>) -> BTreeMap<String, f64> {
    amounts.filter(|(_, amount)| *amount != 0.0).map(|(reason, amount)| (reason.to_owned(), amount)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Counts;
    use crate::spool::Held;
    use crate::units::PointUnits;

    fn about() -> About {
        About {
            backend: "librato".to_owned(),
            target: "http://127.0.0.1/v1/metrics".to_owned(),
            levels: vec!["info".to_owned()],
            flush_s: 60.0,
            spool_bytes_max: 1 << 20,
            clock: WallClock::from_fn(|| 10_000),
            started: Instant::now(),
        }
    }

    fn totals() -> Totals {
        let units = |points: &[PointUnits]| Units::of(points);
        let mut totals = Totals {
            ledger: Counts {
                accepted: Amounts { counters: 10, gauges: 5, legacy_counters: 2, ..Amounts::default() },
                merged: Amounts { gauges: 3, ..Amounts::default() },
                held: Amounts { counters: 4, legacy_counters: 1, ..Amounts::default() },
                flushed: Amounts { counters: 6, gauges: 2, ..Amounts::default() },
                dropped: [("too_old", Amounts { legacy_counters: 1, ..Amounts::default() })].into(),
                refused: [("level", 7)].into(),
                gaps_seen: 2,
                gaps_lost: 2,
                vanished: 3,
                ..Counts::default()
            },
            offered: units(&[PointUnits::Counter(6.0), PointUnits::Gauge(2)]),
            merged_sets: 1,
            accepted: units(&[PointUnits::Counter(5.0), PointUnits::Gauge(1)]),
            restored: units(&[PointUnits::Timer(3)]),
            delivered: units(&[PointUnits::Timer(3), PointUnits::Gauge(1)]),
            held: Held { batches: 1, bytes: 90, units: units(&[PointUnits::Counter(5.0)]) },
            oldest_ms: Some(9_000),
            last_flush_ms: Some(9_500),
            ..Totals::default()
        };
        totals.refused.add("bad_name", &units(&[PointUnits::Counter(1.0)]));
        assert!(totals.law_holds());
        totals
    }

    #[test]
    fn each_account_adds_up_and_none_does_when_something_is_missing() {
        let report = about().report(&totals(), &View::default());
        assert_eq!(report.accounts.len(), 8);
        for account in &report.accounts {
            assert!(account.adds_up(), "{account:?}");
        }
        let of = |stage: &str, unit: &str| {
            report.accounts.iter().find(|account| account.stage == stage && account.unit == unit).unwrap()
        };
        assert_eq!(of("ledger", "gauge sets").merged, 3.0);
        assert_eq!(of("ledger", "legacy counters").dropped, [("too_old".to_owned(), 1.0)].into());
        assert_eq!(of("spool", "points").offered, 4.0);
        assert_eq!(
            (of("spool", "timer records").offered, of("spool", "timer records").delivered),
            (3.0, 3.0)
        );
        assert_eq!(of("spool", "counter units").refused, [("bad_name".to_owned(), 1.0)].into());

        let mut broken = totals();
        broken.ledger.flushed = Amounts::default();
        broken.delivered = Units::default();
        let report = about().report(&broken, &View::default());
        let broken: Vec<_> = report.accounts.iter().filter(|account| !account.adds_up()).collect();
        assert_eq!(broken.len(), 5, "{broken:?}");
    }

    #[test]
    fn ages_count_from_now_and_a_view_grows_old() {
        let publisher = PublisherReport { silent_ms: 5, age_ms: 70, ..PublisherReport::default() };
        let taken = Instant::now().checked_sub(std::time::Duration::from_secs(2)).unwrap();
        let view = View { publishers: vec![publisher], publishers_total: 1, taken, ..View::default() };
        let report = about().report(&totals(), &view);
        assert_eq!(
            (report.spool.oldest_ms, report.flushed_ms, report.delivered_ms),
            (Some(1_000), Some(500), None)
        );
        assert!(report.publishers[0].silent_ms >= 2_005 && report.publishers[0].age_ms >= 2_070);
        assert_eq!((report.lost, report.vanished), ([("gaps_lost".to_owned(), 2)].into(), 3));
        assert_eq!(report.refused, [("level".to_owned(), 7)].into());
        assert_eq!((report.process.unix_ms, report.process.degraded), (10_000, None));
    }
}
