//! What was offered, accepted, delivered, held and dropped, and the law between them.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::ledger::Counts;
use crate::report::View;
use crate::spool::Held;
use crate::subscription;
use crate::units::{ByReason, Units};

/// What a worker did so far, in the units of the law.
///
/// `offered = accepted + merged + refused(reason)` and `accepted + restored = delivered + held +
/// dropped(reason)`; merged are sets of a gauge that a later one took the place of. Offered is what committed flushes took from the ledger, whose own law is in
/// [`Counts::law_holds`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// The ledger's counts at the last flush.
    pub ledger: Counts,
    /// The subscription's counters a second ago at most.
    pub subscription: subscription::Totals,
    /// Messages taken from the subscription.
    pub received: u64,
    /// Series in the ledger at the last flush.
    pub series: u64,
    /// Committed flushes, those without a point included.
    pub flushes: u64,
    /// Flushes that the spool did not take. What they carried stayed in the ledger for the next one.
    pub flushes_aborted: u64,
    /// Those of them for which there was no room, by the quota or on the disk.
    pub spool_full: u64,
    /// Flushes whose time was moved because the clock had gone back.
    pub clock_backwards: u64,
    /// What committed flushes took from the ledger.
    pub offered: Units,
    /// Gauge points given up because the backend takes few a request.
    pub merged_sets: u64,
    /// What the encoder left out, by reason.
    pub refused: ByReason,
    /// Different series that the backend cannot tell apart.
    pub clashes: u64,
    /// How often a series beyond the limit was folded into an overflow series, once a flush.
    pub overflowed: u64,
    /// Of the last minute that had such series, the metric with most of them, and how many.
    pub offender: Option<(String, u64)>,
    /// Series that were forgotten because they did not change.
    pub expired: u64,
    /// What committed bodies carry.
    pub accepted: Units,
    /// What the spool held at the start.
    pub restored: Units,
    /// What the backend acknowledged.
    pub delivered: Units,
    /// Batches that the backend acknowledged.
    pub batches_delivered: u64,
    /// What was given up, by reason.
    pub dropped: ByReason,
    /// What the spool holds.
    pub held: Held,
    /// Time of the flush of the oldest batch held, in Unix milliseconds.
    pub oldest_ms: Option<u64>,
    /// Attempts to send.
    pub attempts: u64,
    /// Attempts after which the same bytes are sent again.
    pub retries: u64,
    /// Attempts whose outcome is unknown: the batch may have been stored, and is sent again.
    pub ambiguous: u64,
    /// Answers that blame credentials or address.
    pub rejections: u64,
    /// Spool files put away because they were damaged.
    pub quarantined: u64,
    /// Time of the last delivery, in Unix milliseconds.
    pub last_success_ms: Option<u64>,
    /// Time of the last committed flush, in Unix milliseconds.
    pub last_flush_ms: Option<u64>,
    /// Since when no broker has been connected; none if one is.
    pub no_broker_since: Option<Instant>,
    /// What the backend refused last, or why it cannot be reached, in one line; none after a delivery.
    pub backend_error: Option<String>,
    /// Whether the backend answered the probe.
    pub probed: bool,
    /// Whether the last flush was aborted.
    pub is_aborting: bool,
    /// Whether the last answer blamed credentials or address.
    pub is_rejected: bool,
}

impl Totals {
    /// Whether everything offered is accounted for. It holds whenever no flush is being committed,
    /// and always at the end.
    pub fn law_holds(&self) -> bool {
        let mut offered = self.accepted;
        offered.add(&self.refused.sum());
        offered.gauge_sets += self.merged_sets;
        let mut taken = self.accepted;
        taken.add(&self.restored);
        let mut settled = self.delivered;
        settled.add(&self.held.units);
        settled.add(&self.dropped.sum());
        offered.same(&self.offered)
            && settled.same(&taken)
            && settled.points == taken.points
            && self.ledger.law_holds()
    }
}

impl fmt::Display for Totals {
    /// The totals of the law as one line. What was offered and accepted is told in units alone, since
    /// levels and publishers of one series are merged into one point; the points are told from the
    /// spool on.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offered, refused, accepted, merged_sets, restored, delivered, held, dropped, .. } = self;
        let (offered, taken) = (offered.without_points(), accepted.without_points());
        write!(
            f,
            "offered [{offered}] = accepted [{taken}] + merged [gauge_sets {merged_sets}] + refused [{refused}]; \
             accepted [{accepted}] + restored [{restored}] = \
             delivered [{delivered}] + held [{}] + dropped [{dropped}]",
            held.units
        )
    }
}

/// What the threads of a worker show of themselves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shared {
    totals: Arc<Mutex<Totals>>,
    /// Apart from the totals, and replaced whole: nobody waits while a thousand publishers are copied.
    view: Arc<Mutex<Arc<View>>>,
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Totals> {
        // Each change is a few additions, so a panic elsewhere leaves nothing half done.
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_view(&self, view: View) {
        *self.view.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
    }

    pub(crate) fn snapshot(&self) -> Totals {
        self.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::PointUnits;

    #[test]
    fn the_law_holds_only_if_nothing_is_missing() {
        let units = |count| Units::of(&[PointUnits::Timer(count)]);
        let mut totals = Totals { offered: units(10), accepted: units(9), ..Totals::default() };
        totals.refused.add("bad_name", &units(1));
        assert!(!totals.law_holds());
        totals.delivered = units(5);
        totals.dropped.add("too_old", &units(3));
        totals.restored = Units::of(&[PointUnits::Timer(1), PointUnits::Timer(1)]);
        totals.held.units = units(3);
        assert!(totals.law_holds(), "{totals}");
        let line = totals.to_string();
        assert!(line.contains("dropped [too_old: points 1") && !line.contains('\n'), "{line}");
        totals.delivered = units(6);
        assert!(!totals.law_holds());
    }

    #[test]
    fn gauge_points_given_up_for_a_backend_are_accounted_for() {
        let sets = |count| Units::of(&[PointUnits::Gauge(count)]);
        let mut totals =
            Totals { offered: sets(4), accepted: sets(1), delivered: sets(1), ..Totals::default() };
        assert!(!totals.law_holds());
        totals.merged_sets = 3;
        assert!(totals.law_holds());
        let line = totals.to_string();
        assert!(line.contains("] + merged [gauge_sets 3] + refused ["), "{line}");
    }
}
