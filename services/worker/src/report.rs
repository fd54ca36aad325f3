//! What the worker says of itself at `/status`.

use std::collections::BTreeMap;
use std::time::Instant;

use zibrato_service::{Account, Health, Process, SpoolReport, WorkerReport};

use crate::backend::Backend;
use crate::clock::WallClock;
use crate::ledger::Amounts;
use crate::status::health;
use crate::totals::Totals;
use crate::units::Units;
use crate::worker::Config;

/// What stays the same while a worker runs.
#[derive(Debug)]
pub(crate) struct About {
    backend: &'static str,
    target: String,
    levels: Vec<String>,
    flush_s: f64,
    spool_bytes_max: u64,
    clock: WallClock,
    started: Instant,
}

impl About {
    pub(crate) fn of(config: &Config, backend: &dyn Backend) -> Self {
        Self {
            backend: backend.name(),
            target: backend.target(),
            levels: config.levels.clone(),
            flush_s: config.flush.as_secs_f64(),
            spool_bytes_max: config.spool_bytes_max,
            clock: config.clock.clone(),
            started: Instant::now(),
        }
    }

    pub(crate) fn report(&self, totals: &Totals) -> WorkerReport {
        let now_ms = self.clock.now_ms();
        let health: Health = health(totals, now_ms);
        let age_ms = |since_ms: u64| now_ms.saturating_sub(since_ms);
        WorkerReport {
            process: Process {
                unix_ms: now_ms,
                ..Process::this(env!("CARGO_PKG_VERSION"), self.started, &health)
            },
            backend: self.backend.to_owned(),
            target: self.target.clone(),
            levels: self.levels.clone(),
            accounts: ledger_accounts(totals).into_iter().chain(spool_accounts(totals)).collect(),
            lost: lost(totals),
            refused: totals
                .ledger
                .refused
                .iter()
                .map(|(reason, count)| ((*reason).to_owned(), *count))
                .collect(),
            series: totals.series,
            flush_s: self.flush_s,
            delivered_ms: totals.last_success_ms.map(age_ms),
            spool: SpoolReport {
                batches: totals.held.batches,
                bytes: totals.held.bytes,
                bytes_max: self.spool_bytes_max,
                oldest_ms: totals.oldest_ms.map(age_ms),
            },
            ..WorkerReport::default()
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
        let by_reason = |tally: &crate::units::ByReason| {
            positive(tally.iter().map(|(reason, units)| (reason, amount(units))))
        };
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
        ("vanished", ledger.vanished),
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
