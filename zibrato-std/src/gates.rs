//! Which on-demand levels are on: those that a worker subscribes to, and for the hold after that.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use zibrato_core::frame::{TOPIC_SAMPLES, TOPIC_STATE};
use zibrato_core::registry;

use crate::builder::Wire;
use crate::links::Links;

/// Most on-demand levels that are on at a time; further subscriptions switch nothing on.
const LEVELS_MAX: usize = 1_024;

/// The gate of each on-demand level.
pub(crate) struct Gates {
    hold: Duration,
    wire: Wire,
    /// Labels that are on, and since when nobody subscribes; `None` while somebody does.
    on: BTreeMap<String, Option<Instant>>,
    /// On-demand levels that metrics have.
    declared: BTreeSet<&'static str>,
    metrics_seen: usize,
}

impl Gates {
    pub(crate) fn new(hold: Duration, wire: Wire) -> Self {
        Self { hold, wire, on: BTreeMap::new(), declared: BTreeSet::new(), metrics_seen: 0 }
    }

    /// Switches metrics by who subscribes now. Cheap when nothing changed.
    pub(crate) fn update(&mut self, links: &Links, changed: bool, now: Instant) {
        // The newest first: only those are looked at, since a program may have many.
        let (metrics, new) = registry::newer_than(self.metrics_seen);
        let expired = self.on.values().flatten().any(|left| now.duration_since(*left) >= self.hold);
        if !changed && !expired && metrics == self.metrics_seen {
            return;
        }
        self.metrics_seen = metrics;
        let new: Vec<_> = new.map(|metric| metric.level()).filter(|level| level.is_on_demand()).collect();
        self.declared.extend(new.iter().map(|level| level.label()));
        let before: Vec<String> = self.on.keys().cloned().collect();
        for (label, left) in &mut self.on {
            *left = if wanted(self.wire, links, label) { None } else { left.or(Some(now)) };
        }
        self.on.retain(|_, left| left.is_none_or(|left| now.duration_since(left) < self.hold));
        // Exact subscriptions come on before the level has a metric; prefixes once it has one.
        let state = links.exact_levels(TOPIC_STATE).filter(|_| self.wire != Wire::Legacy);
        let samples = links.exact_levels(TOPIC_SAMPLES).filter(|_| self.wire == Wire::Samples);
        let exact = state.chain(samples).map(str::to_owned);
        let by_prefix = self.declared.iter().filter(|label| wanted(self.wire, links, label));
        for label in exact.chain(by_prefix.map(|&label| label.to_owned())) {
            if self.on.len() < LEVELS_MAX && !self.on.contains_key(&label) {
                self.on.insert(label, None);
            }
        }
        let switched = self.on.keys().ne(before.iter());
        if switched {
            tracing::debug!(levels = ?self.on.keys(), "on-demand levels switched");
            registry::switch(true, self.on.keys().map(|label| label.as_str().into()).collect());
        }
        #[cfg(feature = "tracing")]
        if switched || !new.is_empty() {
            crate::tracing_layer::levels_switched();
        }
    }
}

/// Whether anybody who opens gates subscribes to a level.
pub(crate) fn wanted(wire: Wire, links: &Links, label: &str) -> bool {
    match wire {
        Wire::State => links.has_worker(label),
        Wire::Samples => links.has_worker(label) || links.has_sampler(label),
        Wire::Legacy => links.wants_legacy(label),
    }
}
