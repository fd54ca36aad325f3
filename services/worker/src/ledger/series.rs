//! The last known cumulative state of one series of one publisher, and what of it was not flushed.

use std::sync::Arc;

use zibrato_core::frame::State;
use zibrato_core::histogram::Histogram;

use super::counts::Amounts;
use super::timer::{Timer, TimerUndo};
use crate::measurement::{GaugePoint, TimerDelta};

/// How a state arrived.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    /// Number of the frame part.
    pub(super) seq: u64,
    /// Name of the key frame it is in, if it is in one.
    pub(super) key: Option<u64>,
    /// Whether no window between the state known before and this one is missing.
    pub(super) follows: bool,
    /// The ledger's awake time, in milliseconds.
    pub(super) awake_ms: u64,
}

/// What a newer state brought.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Change {
    /// Change since the state before.
    pub(super) amounts: Amounts,
    /// What of that does not fit beside what is pending.
    pub(super) overflow: Amounts,
    /// The gauge's point, if it was set.
    pub(super) point: Option<GaugePoint>,
    /// A timer's buckets have to wait for a key frame.
    pub(super) waits: bool,
    /// Records whose buckets will never be known.
    pub(super) buckets_unknown: u64,
}

/// One series of one publisher.
#[derive(Debug)]
pub(super) struct Series {
    /// Number of the frame part that brought the state.
    pub(super) seq: u64,
    /// Where the series is that came behind it last; see [`Stream::find`](super::stream::Stream::find).
    pub(super) next: u32,
    /// Whether it is in the list of series that the next flush looks at.
    pub(super) dirty: bool,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Counter { sum: u64, flushed: u64 },
    Gauge { sets: u64 },
    Timer(Box<Timer>),
}

/// What a flush takes from a series.
#[derive(Debug)]
pub(super) enum Taken {
    /// Nothing changed, but the row is to be written.
    Nothing,
    /// The increase of a counter.
    Counter(u64),
    /// The change of a timer, and how to take the flush back.
    Timer(Box<TimerDelta>, TimerUndo),
    /// A timer that waits for its buckets; it stays pending.
    Deferred,
}

/// How to take back what a flush took from a series.
#[derive(Debug)]
pub(super) enum Undo {
    /// Only the row was written.
    Nothing,
    /// A counter's increase.
    Counter(u64),
    /// A timer's change.
    Timer(Box<TimerUndo>),
}

/// What a row keeps of a series: its state at the last flush.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kept {
    Counter { seq: u64, sum: u64 },
    Gauge { seq: u64, sets: u64 },
    Timer(KeptTimer),
}

/// As [`Kept`], for a timer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct KeptTimer {
    pub(super) seq: u64,
    pub(super) count: u64,
    pub(super) sum_ns: u64,
    pub(super) sum_squares_ns2: u128,
    /// `None` while the buckets of the state are not known.
    pub(super) histogram: Option<Arc<Histogram>>,
    /// Whether windows were seen that this state does not show.
    pub(super) behind: bool,
}

impl Series {
    /// A series before its first record, of the kind of `state`.
    pub(super) fn zero(state: &State<'_>) -> Self {
        let body = match state {
            State::Counter { .. } => Body::Counter { sum: 0, flushed: 0 },
            State::Gauge { .. } => Body::Gauge { sets: 0 },
            State::Timer { .. } => Body::Timer(Box::default()),
        };
        Self { seq: 0, next: 0, dirty: false, body }
    }

    /// Takes in a state that is newer than the one known; all differences wrap.
    pub(super) fn apply(&mut self, state: &State<'_>, arrival: Arrival) -> Change {
        let mut change = Change::default();
        let before = self.pending();
        match (&mut self.body, state) {
            (Body::Counter { sum, .. }, State::Counter { sum: new }) => {
                change.amounts.counters = new.wrapping_sub(*sum).into();
                *sum = *new;
            }
            (Body::Gauge { sets }, State::Gauge { sets: new, last, last_ms, .. }) => {
                let times = times_set(*new, *sets);
                *sets = *new;
                if times > 0 {
                    change.amounts.gauges = times.into();
                    change.point = Some(GaugePoint { time_ms: *last_ms, value: *last });
                }
            }
            (Body::Timer(timer), State::Timer { .. }) => timer.apply(state, arrival, &mut change),
            // The kind is part of the identity by which the series was found.
            _ => return change,
        }
        self.seq = arrival.seq;
        change.overflow.counters = overflow(before.counters, change.amounts.counters);
        change.overflow.timers = overflow(before.timers, change.amounts.timers);
        change
    }

    /// Makes the present state the baseline: nothing up to here will be flushed.
    pub(super) fn settle(&mut self) {
        match &mut self.body {
            Body::Counter { sum, flushed } => *flushed = *sum,
            Body::Gauge { .. } => {}
            Body::Timer(timer) => timer.settle(self.seq),
        }
    }

    /// An older state of a key frame: a timer may still need its buckets.
    pub(super) fn offer_key(&mut self, state: &State<'_>, key: u64) -> Change {
        let mut change = Change::default();
        if let (Body::Timer(timer), State::Timer { histogram, .. }) = (&mut self.body, state) {
            timer.offer_key(histogram, key, &mut change);
        }
        change
    }

    /// What is not flushed. Points of gauges are held elsewhere.
    pub(super) fn pending(&self) -> Amounts {
        let mut amounts = Amounts::default();
        match &self.body {
            Body::Counter { sum, flushed } => amounts.counters = sum.wrapping_sub(*flushed).into(),
            Body::Gauge { .. } => {}
            Body::Timer(timer) => amounts.timers = timer.pending().into(),
        }
        amounts
    }

    /// Takes what is not flushed. A timer whose buckets have waited for less than `patience_ms` is
    /// left for a later flush.
    pub(super) fn take(&mut self, awake_ms: u64, patience_ms: u64) -> Taken {
        match &mut self.body {
            Body::Counter { sum, flushed } => {
                let delta = sum.wrapping_sub(*flushed);
                *flushed = *sum;
                if delta == 0 { Taken::Nothing } else { Taken::Counter(delta) }
            }
            Body::Gauge { .. } => Taken::Nothing,
            Body::Timer(timer) if timer.is_waiting(awake_ms, patience_ms) => Taken::Deferred,
            Body::Timer(timer) => match timer.take(self.seq) {
                Some((delta, undo)) => Taken::Timer(Box::new(delta), undo),
                None => Taken::Nothing,
            },
        }
    }

    /// Takes back a flush that was not committed.
    pub(super) fn undo(&mut self, undo: Undo) {
        match (&mut self.body, undo) {
            (Body::Counter { flushed, .. }, Undo::Counter(delta)) => *flushed = flushed.wrapping_sub(delta),
            (Body::Timer(timer), Undo::Timer(undo)) => timer.undo(*undo),
            _ => {}
        }
    }

    /// The state at the last [`Series::take`], for a row.
    pub(super) fn kept(&self) -> Kept {
        match &self.body {
            Body::Counter { flushed, .. } => Kept::Counter { seq: self.seq, sum: *flushed },
            Body::Gauge { sets } => Kept::Gauge { seq: self.seq, sets: *sets },
            Body::Timer(timer) => Kept::Timer(timer.kept(self.seq)),
        }
    }

    /// Rebuilds a series from its row.
    pub(super) fn restored(kept: Kept) -> Self {
        let (seq, body) = match kept {
            Kept::Counter { seq, sum } => (seq, Body::Counter { sum, flushed: sum }),
            Kept::Gauge { seq, sets } => (seq, Body::Gauge { sets }),
            Kept::Timer(kept) => (kept.seq, Body::Timer(Box::new(Timer::restored(kept)))),
        };
        Self { seq, next: 0, dirty: false, body }
    }

    /// Timer records whose buckets are known but whose count was flushed before; lost if the
    /// series is forgotten now.
    pub(super) fn buckets_left(&self) -> u64 {
        match &self.body {
            Body::Timer(timer) => timer.buckets_left(),
            _ => 0,
        }
    }
}

/// How often a gauge was set since. Sets that fell, by less than half of their range, are of a gateway that was restarted and
/// cannot know how often the device's own number had wrapped: the gauge was set, and once is what is sure of it.
const fn times_set(newer: u64, older: u64) -> u64 {
    let times = newer.wrapping_sub(older);
    if times.cast_signed() < 0 { 1 } else { times }
}

/// What is lost when `pending` of 64 bits grows by `more`.
const fn overflow(pending: u128, more: u128) -> u128 {
    const WRAP: u128 = 1 << u64::BITS;
    if pending + more < WRAP { 0 } else { WRAP }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_that_fell_are_one_set_and_those_that_wrapped_are_as_many_as_they_are() {
        let state = |sets| State::Gauge { sets, last: 1.5, last_ms: 7, min: 1.5, max: 1.5 };
        let mut series = Series::zero(&state(0));
        let mut gauges = |sets, seq| {
            let arrival = Arrival { seq, key: None, follows: true, awake_ms: 0 };
            let change = series.apply(&state(sets), arrival);
            (change.amounts.gauges, change.point.is_some())
        };
        assert_eq!(gauges((1 << 32) + 5, 1), ((1 << 32) + 5, true));
        assert_eq!(gauges(9, 2), (1, true), "a gateway was restarted");
        assert_eq!(gauges(9, 3), (0, false));
        assert_eq!(gauges(11, 4), (2, true));
        assert_eq!(gauges(u64::MAX, 5).0, 1, "which is a fall by twelve");
        assert_eq!(gauges(1, 6), (2, true), "and this a wrap");
    }
}
