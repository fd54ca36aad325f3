//! Points of gauges, and of raw timers, that wait for the next flush.

use std::collections::VecDeque;
use std::sync::Arc;

use zibrato_core::kind::Kind;

use super::identity;
use super::{Amounts, Counts, drop_reason};
use crate::measurement::GaugePoint;

/// One point with its series' identity.
#[derive(Clone, Debug)]
pub(super) struct HeldPoint {
    pub(super) series: Arc<[u8]>,
    pub(super) point: GaugePoint,
}

impl HeldPoint {
    /// One set, or one record of a timer.
    fn amounts(&self) -> Amounts {
        match identity::kind(&self.series) {
            Some(Kind::Timer) => Amounts { timers: 1, ..Amounts::default() },
            _ => Amounts { gauges: 1, ..Amounts::default() },
        }
    }
}

/// Points in the order of their arrival, at most so many; the oldest go first.
#[derive(Debug)]
pub(super) struct Points {
    queue: VecDeque<HeldPoint>,
    amounts: Amounts,
    max: usize,
}

impl Points {
    pub(super) fn new(max: usize) -> Self {
        Self { queue: VecDeque::new(), amounts: Amounts::default(), max }
    }

    /// What the points stand for.
    pub(super) const fn amounts(&self) -> Amounts {
        self.amounts
    }

    pub(super) fn push(&mut self, point: HeldPoint, counts: &mut Counts) {
        self.amounts += point.amounts();
        self.queue.push_back(point);
        self.shed(counts);
    }

    /// Takes all points and what they stand for.
    pub(super) fn take(&mut self) -> (VecDeque<HeldPoint>, Amounts) {
        (std::mem::take(&mut self.queue), std::mem::take(&mut self.amounts))
    }

    /// Puts points back that were taken before.
    pub(super) fn put_back(&mut self, mut older: VecDeque<HeldPoint>, amounts: Amounts, counts: &mut Counts) {
        older.append(&mut self.queue);
        self.queue = older;
        self.amounts += amounts;
        self.shed(counts);
    }

    fn shed(&mut self, counts: &mut Counts) {
        while self.queue.len() > self.max {
            let Some(oldest) = self.queue.pop_front() else { return };
            self.amounts -= oldest.amounts();
            counts.drop_amounts(drop_reason::POINTS_LIMIT, oldest.amounts());
        }
    }
}
