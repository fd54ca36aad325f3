//! What was offered, accepted and refused, and the law between them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zibrato_service::KindClash;

use crate::errors::Refusal;

/// The most metrics of which [`Totals::kind_clashes`] tells; the points of all are counted.
const KIND_CLASHES_MAX: usize = 100;

/// What a receiver did so far.
///
/// `points_offered = points_accepted + points_refused(reason)` holds whenever no POST is being
/// stored, and always at the end.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// Requests answered.
    pub requests: u64,
    /// Requests answered with an error, by reason.
    pub requests_refused: BTreeMap<&'static str, u64>,
    /// Measurements in bodies that could be parsed.
    pub points_offered: u64,
    /// Measurements stored.
    pub points_accepted: u64,
    /// Measurements not stored, by the reason of the first error of their batch: a batch is stored
    /// as a whole or not at all. Those of a batch that came again count as `duplicate_batch`.
    pub points_refused: BTreeMap<&'static str, u64>,
    /// POSTs whose batch id was stored before.
    pub duplicate_batches: u64,
    /// Stored points that came as another kind than their metric has.
    pub kind_clash_points: u64,
    /// The metrics of such points, by name in lower case: the first 100.
    pub kind_clashes: BTreeMap<String, KindClash>,
}

impl Totals {
    /// The points refused for any reason.
    pub fn points_refused_sum(&self) -> u64 {
        self.points_refused.values().sum()
    }

    /// Whether every offered point was accepted or refused.
    pub fn adds_up(&self) -> bool {
        self.points_offered == self.points_accepted + self.points_refused_sum()
    }
}

/// The running totals, shared by all requests.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    totals: Mutex<Totals>,
}

impl Counters {
    pub(crate) fn snapshot(&self) -> Totals {
        self.lock().clone()
    }

    pub(crate) fn request(&self, refusal: Option<Refusal>) {
        let mut totals = self.lock();
        totals.requests += 1;
        if let Some(refusal) = refusal {
            *totals.requests_refused.entry(refusal.as_str()).or_default() += 1;
        }
    }

    pub(crate) fn duplicate_batch(&self) {
        self.lock().duplicate_batches += 1;
    }

    /// Counts the points of a POST as offered. The ticket says later what became of them.
    pub(crate) fn offer(self: &Arc<Self>, points: usize) -> Ticket {
        let points = points as u64;
        self.lock().points_offered += points;
        Ticket { counters: Arc::clone(self), points }
    }

    fn lock(&self) -> MutexGuard<'_, Totals> {
        // Each change is one addition, so a panic elsewhere leaves nothing half done.
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Offered points that are neither accepted nor refused yet. It travels with them, so that a
/// client that hangs up half-way cannot make a point vanish; a dropped ticket refuses them.
#[derive(Debug)]
pub(crate) struct Ticket {
    counters: Arc<Counters>,
    points: u64,
}

impl Ticket {
    pub(crate) fn accept(mut self) {
        self.counters.lock().points_accepted += std::mem::take(&mut self.points);
    }

    /// Counts points that are stored though they came as another kind than their metric has. The log says
    /// so once for each metric.
    pub(crate) fn note_clashes(&self, clashes: Vec<KindClash>) {
        if clashes.is_empty() {
            return;
        }
        let mut totals = self.counters.lock();
        totals.kind_clash_points += clashes.len() as u64;
        for clash in clashes {
            let key = clash.metric.to_ascii_lowercase();
            if totals.kind_clashes.len() < KIND_CLASHES_MAX && !totals.kind_clashes.contains_key(&key) {
                let KindClash { metric, is, sent } = &clash;
                tracing::warn!(
                    metric,
                    is,
                    sent,
                    "two kinds of metric have one name and are stored as one; rename one of them"
                );
                totals.kind_clashes.insert(key, clash);
            }
        }
    }

    /// Takes `points` of them off, to settle them apart.
    pub(crate) fn split(&mut self, points: usize) -> Self {
        let points = self.points.min(points as u64);
        self.points -= points;
        Self { counters: Arc::clone(&self.counters), points }
    }

    pub(crate) fn refuse(mut self, reason: Refusal) {
        self.settle(reason);
    }

    fn settle(&mut self, reason: Refusal) {
        let points = std::mem::take(&mut self.points);
        if points > 0 {
            *self.counters.lock().points_refused.entry(reason.as_str()).or_default() += points;
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.settle(Refusal::Abandoned);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_offered_point_is_accepted_or_refused_even_if_its_ticket_is_dropped() {
        let counters = Arc::new(Counters::default());
        counters.offer(3).accept();
        counters.offer(2).refuse(Refusal::TooOld);
        let mut pending = counters.offer(5);
        pending.split(1).refuse(Refusal::BadTag);
        assert!(!counters.snapshot().adds_up());
        drop(pending);
        let totals = counters.snapshot();
        assert!(totals.adds_up(), "{totals:?}");
        assert_eq!((totals.points_offered, totals.points_accepted, totals.points_refused_sum()), (10, 3, 7));
        assert_eq!(totals.points_refused.get("too_old"), Some(&2));
        assert_eq!(totals.points_refused.get("abandoned"), Some(&4));
        assert_eq!(totals.points_refused.get("bad_tag"), Some(&1));
    }
}
