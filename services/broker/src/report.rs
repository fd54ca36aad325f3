//! What the broker says of itself at `/status`.

use std::collections::BTreeMap;
use std::time::Instant;

use zibrato_service::{
    Account, BrokerReport, Health, KeptPublisher, PUBLISHER_LEVELS_MAX, PUBLISHERS_MAX, Process,
};

use crate::counts::Totals;
use crate::keep::{Keep, Kept};
use crate::subscriptions::Subscriptions;

/// What stays the same while a broker runs.
#[derive(Debug)]
pub(crate) struct About {
    pub(crate) publishers_endpoint: String,
    pub(crate) workers_endpoint: String,
    pub(crate) kept_bytes_max: u64,
    pub(crate) started: Instant,
}

/// Who was there at a moment; the broker's thread makes one a second.
#[derive(Debug, Default)]
pub(crate) struct View {
    subscribed_levels: Vec<String>,
    publishers: Vec<Kept>,
    publishers_total: usize,
}

impl View {
    pub(crate) fn of(subscriptions: &Subscriptions, keep: &Keep) -> Self {
        Self {
            subscribed_levels: subscriptions.levels().into_iter().map(str::to_owned).collect(),
            publishers: keep.latest(PUBLISHERS_MAX, PUBLISHER_LEVELS_MAX),
            publishers_total: keep.publishers_distinct(),
        }
    }
}

impl About {
    #[cfg(test)]
    pub(crate) fn nothing() -> Self {
        let endpoint = String::new;
        Self {
            publishers_endpoint: endpoint(),
            workers_endpoint: endpoint(),
            kept_bytes_max: 0,
            started: Instant::now(),
        }
    }

    pub(crate) fn report(&self, totals: &Totals, view: &View, health: &Health) -> BrokerReport {
        BrokerReport {
            process: Process::this(env!("CARGO_PKG_VERSION"), self.started, health),
            publishers_endpoint: self.publishers_endpoint.clone(),
            workers_endpoint: self.workers_endpoint.clone(),
            accounts: vec![account(totals)],
            subscribed_levels: view.subscribed_levels.clone(),
            kept_bytes: totals.kept_bytes as u64,
            kept_bytes_max: self.kept_bytes_max,
            publishers: view.publishers.iter().map(publisher).collect(),
            publishers_total: view.publishers_total as u64,
            evicted: totals.evicted.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect(),
        }
    }
}

fn account(totals: &Totals) -> Account {
    let no_subscriber = totals.no_subscriber();
    let dropped = (no_subscriber > 0).then(|| ("no_subscriber".to_owned(), no_subscriber as f64));
    Account {
        stage: "forward".to_owned(),
        unit: "messages".to_owned(),
        offered: totals.received as f64,
        accepted: totals.received.saturating_sub(totals.refused()) as f64,
        merged: 0.0,
        refused: totals.refused.iter().map(|(reason, count)| ((*reason).to_owned(), *count as f64)).collect(),
        delivered: totals.forwarded() as f64,
        held: 0.0,
        dropped: BTreeMap::from_iter(dropped),
    }
}

fn publisher(kept: &Kept) -> KeptPublisher {
    KeptPublisher {
        id: kept.id.to_string(),
        levels: kept.levels.iter().map(|level| (**level).to_owned()).collect(),
        silent_ms: u64::try_from(kept.seen.elapsed().as_millis()).unwrap_or(u64::MAX),
        ended: kept.is_ended,
    }
}
