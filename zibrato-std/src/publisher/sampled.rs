//! Sampled timers: all calls are counted in cells, as counters are, and some are timed, through the rings.
//!
//! The calls since the last look at the cells are entered into the series with the durations of those
//! that were timed since, each standing for as many calls as it has to: for calls by timed ones, which
//! is about the timer's `n`, and exactly what makes the buckets add up to the calls.
//!
//! Rings and cells are read one after the other while threads go on, and a thread's record and the call
//! that it belongs to may be seen in either order. Neither is lost by that. A record without its call
//! stays in the sample until calls come. Calls without a record of theirs are entered all the same, by
//! the sample before: by its place among the calls a timed one stands as well for those behind it as for
//! those in front of it, and so counts are those of the calls in every frame and need not wait until
//! some thread has come to its next timed call. Only where nothing was ever timed calls wait, which
//! count as accepted and held: after a client was started anew between two timed calls of a thread.
//!
//! What is kept is one sample for each metric and not for each series, since metrics of one series,
//! those beyond the limit for instance, may time one call in another number.

use zibrato_core::Drain;
use zibrato_core::frame::LossReason;
use zibrato_core::histogram::HostCells;
use zibrato_core::kind::Kind;
use zibrato_core::metric::{Metric, NO_SLOT, Spilled};
use zibrato_core::series::TimerSeries;

use super::{CLASH_SLOT, Publisher, SERIES_AT_ONCE, to_ns, total_of};

/// Slots from here on are places among the sampled timers. There is no memory for so many others.
const FIRST_SLOT: u32 = 1 << 31;

/// A sampled timer's calls, and what is known of their durations.
#[derive(Debug)]
pub(super) struct Sampled {
    metric: &'static Metric,
    /// Calls that were taken from the cells.
    folded: u64,
    /// Those of them that are not in the series, because nothing was ever timed.
    waiting: u64,
    /// Its series' place among the timers, `NO_SLOT` before its first call.
    at: u32,
    /// The calls timed since calls were entered last; without a range the ones before, by which calls
    /// were entered already.
    sample: TimerSeries<HostCells>,
}

impl Sampled {
    /// Starts with the calls so far as its zero.
    pub(super) fn start_at(&mut self, totals: &[u64]) {
        self.folded = total_of(totals, self.metric);
    }

    /// The sample, for what was timed now.
    fn sample(&mut self) -> &mut TimerSeries<HostCells> {
        if self.sample.window_ns.is_none() {
            self.sample.clear();
        }
        &mut self.sample
    }
}

impl Publisher {
    /// The slot of a sampled timer, given to it if it has none.
    pub(super) fn meet_sampled(&mut self, metric: &'static Metric) -> u32 {
        if metric.slot() == NO_SLOT {
            metric.set_slot(FIRST_SLOT + self.sampled.len() as u32);
            let sample = TimerSeries::default();
            self.sampled.push(Sampled { metric, folded: 0, waiting: 0, at: NO_SLOT, sample });
        }
        metric.slot()
    }

    fn sampled_at(&mut self, slot: usize) -> Option<&mut Sampled> {
        self.sampled.get_mut(slot.checked_sub(FIRST_SLOT as usize)?)
    }

    /// Whether the slot is of a sampled timer whose calls are refused, because its series has another kind.
    pub(super) fn has_clash(&self, slot: u32) -> bool {
        let at = slot.checked_sub(FIRST_SLOT).and_then(|at| self.sampled.get(at as usize));
        at.is_some_and(|sampled| sampled.at == CLASH_SLOT)
    }

    /// Takes a timed call into the sample; `None` if the slot is not of a sampled timer.
    #[inline(never)]
    pub(super) fn fold_sample(&mut self, slot: usize, value: u64) -> Option<()> {
        let ns = to_ns(value, &mut self.losses);
        self.sampled_at(slot)?.sample().record_ns(ns);
        Some(())
    }

    /// As [`Publisher::fold_sample`], for timed calls that were spilled.
    pub(super) fn add_to_sample(&mut self, slot: usize, spilled: &Spilled) -> Option<()> {
        self.sampled_at(slot)?.sample().add_spilled(spilled);
        self.losses.add(LossReason::ClockBackwards, spilled.odd);
        Some(())
    }

    /// Enters the calls that the cells have more than at the last time. Behind a pass over the rings and a
    /// look at the spill cells, so that the sample has what there is.
    pub(super) fn fold_calls(&mut self, drain: &mut Drain) {
        for index in 0..self.sampled.len() {
            if index % SERIES_AT_ONCE == 0 {
                self.give_way(drain);
            }
            let sampled = &mut self.sampled[index];
            let total = total_of(&self.totals, sampled.metric);
            sampled.waiting = sampled.waiting.wrapping_add(total.wrapping_sub(sampled.folded));
            sampled.folded = total;
            if sampled.waiting > 0 {
                self.enter_calls(index);
            }
        }
    }

    fn enter_calls(&mut self, index: usize) {
        let Sampled { metric, at, .. } = self.sampled[index];
        if at == NO_SLOT {
            self.sampled[index].at = self.series_of(metric);
        }
        let Sampled { at, waiting, sample, .. } = &mut self.sampled[index];
        let calls = *waiting;
        let Some(state) = self.timers.get_mut(*at as usize) else {
            *waiting = 0;
            self.refuse_clash(Kind::Timer, calls);
            return;
        };
        let Some(mean) = sample.sum_ns.checked_div(sample.count) else { return };
        *waiting = 0;
        if let Some(legacy) = &mut self.legacy {
            let series = &self.series[state.series as usize];
            let label = self.levels[series.level as usize].label;
            // Text has no weights: each call is a message, and a message for each bucket in turn would
            // leave out the long durations where the queue is full.
            if !legacy.offer_timer(label, series.key, mean, calls, &mut self.losses) {
                sample.start_window();
                return;
            }
        }
        state.timer.add_like(sample, calls);
        state.dirty = true;
        if state.is_overflow {
            self.losses.add(LossReason::SeriesLimit, calls);
        }
        // Its range is told.
        sample.start_window();
    }

    /// Calls at `level` that wait for a first timed one.
    pub(super) fn waiting_calls(&self, level: usize) -> u64 {
        let at_level = |sampled: &&Sampled| {
            let timer = self.timers.get(sampled.at as usize);
            timer.is_some_and(|timer| self.series[timer.series as usize].level as usize == level)
        };
        let waiting = self.sampled.iter().filter(|sampled| sampled.waiting > 0);
        waiting.filter(at_level).fold(0, |sum, sampled| sum + sampled.waiting)
    }

    /// Enters the calls that still wait when the end frames are made: counted, and as durations of 0, which
    /// the frame says by its reason.
    pub(super) fn end_waiting_calls(&mut self) {
        for Sampled { metric, waiting, at, .. } in self.sampled.iter_mut().filter(|it| it.waiting > 0) {
            let Some(state) = self.timers.get_mut(*at as usize) else { continue };
            let calls = std::mem::take(waiting);
            tracing::warn!(
                metric = metric.name(),
                level = metric.level().label(),
                calls,
                "none of these calls of a sampled timer was timed: they are counted as durations of 0"
            );
            self.losses.add(LossReason::ClockBackwards, calls);
            state.timer.add_spilled(&Spilled { count: calls, ..Spilled::default() });
            state.dirty = true;
            if state.is_overflow {
                self.losses.add(LossReason::SeriesLimit, calls);
            }
        }
    }
}
