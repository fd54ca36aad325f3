//! Series state of one publisher, from drained records to frames. No sockets and no threads.
//!
//! Invariants: a record is folded once and never taken back; a series that was folded into is dirty
//! until a frame with its state was handed out; `seq` grows by one for each part handed out.

mod frames;
mod resolve;
mod sampled;
mod samples;
#[cfg(test)]
#[allow(clippy::expect_used, reason = "helpers of tests fail the test")]
mod tests;

use frames::Packed;
pub(crate) use frames::{FrameKind, now_ms};
pub(crate) use resolve::{SeriesKey, overflow_name};
pub(crate) use samples::Samples;

use resolve::Claim;
use sampled::Sampled;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zibrato_core::Pass;
use zibrato_core::frame::{LossReason, PublisherId};
use zibrato_core::histogram::HostCells;
use zibrato_core::kind::Kind;
use zibrato_core::metric::{Metric, NO_SLOT, Spilled};
use zibrato_core::record::{Record, TimerValue};
use zibrato_core::series::{GaugeSeries, TimerSeries};
use zibrato_core::{Drain, clock, registry};

use crate::legacy::LegacyQueue;
use crate::stats::{Flow, Losses};

/// Slot of a timer or counter whose series has another kind: its records are refused.
const CLASH_SLOT: u32 = NO_SLOT - 1;
/// Records that are folded together.
const BATCH_RECORDS: usize = 64;
/// How long other work keeps the drain from the rings, nearly: an eighth of the time in which a thread
/// that records all 80 ns fills its ring.
const GIVE_WAY: Duration = Duration::from_micros(40);
/// Counters and series that are looked at between two looks at the clock.
const SERIES_AT_ONCE: usize = 32;
/// Timers up to which the processor's caches hold what folding touches.
const CACHED_TIMERS: usize = 1_024;

/// Who publishes; the same in every frame.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) id: PublisherId,
    pub(crate) source: String,
    pub(crate) program: String,
    pub(crate) host: String,
    pub(crate) pid: u32,
    pub(crate) started: Instant,
}

#[derive(Debug)]
enum SeriesState {
    Counter {
        sum: u64,
    },
    Gauge {
        gauge: Box<GaugeSeries>,
        set_by: &'static Metric,
    },
    /// Its place among the timers.
    Timer {
        at: u32,
    },
}

#[derive(Debug)]
struct Series {
    level: u32,
    key: SeriesKey,
    state: SeriesState,
    dirty: bool,
    /// For legacy text: increments of a counter not carried yet, sets of a gauge carried so far.
    legacy_pending: u64,
}

/// What a record of a timer touches: two lines of the cache.
#[derive(Debug)]
#[repr(align(64))]
struct TimerState {
    /// Count and sums since the start, and the buckets that grew since the last key frame: small numbers
    /// for the drain to add to and for the next frame to carry.
    timer: TimerSeries<HostCells>,
    /// The buckets at the last key frame.
    base: Option<Box<Packed>>,
    series: u32,
    is_overflow: bool,
    dirty: bool,
}

/// What is known of one level.
#[derive(Debug)]
pub(crate) struct Level {
    pub(crate) label: &'static str,
    /// `seq` of the last part handed out; 0 before the first.
    seq: u64,
    /// Name of the last key frame, to which buckets are differences; 0 before the first.
    key_seq: u64,
    windows_since_key: u32,
    /// When the last frame was handed out, for the length of the next one's window.
    handed_out: Instant,
    /// Somebody needs a key frame before anything else.
    pub(crate) wants_key: bool,
    series: Vec<u32>,
}

impl Level {
    pub(crate) fn has_series(&self) -> bool {
        !self.series.is_empty()
    }

    /// How long ago the last frame was handed out.
    pub(crate) fn since_handed_out(&self) -> Duration {
        self.handed_out.elapsed()
    }
}

/// A counter's static and what of its cells was folded already.
#[derive(Debug)]
struct Cell {
    metric: &'static Metric,
    folded: u64,
}

pub(crate) struct Publisher {
    identity: Arc<Identity>,
    series_max: usize,
    levels: Vec<Level>,
    series: Vec<Series>,
    timers: Vec<TimerState>,
    by_key: HashMap<SeriesKey, Claim>,
    cells: Vec<Cell>,
    /// Timers that time one call in so many.
    sampled: Vec<Sampled>,
    /// Metrics whose spill cells are to be looked at, that is all that are no counters.
    spilling: Vec<&'static Metric>,
    metrics_seen: usize,
    totals: Vec<u64>,
    losses: Losses,
    refused: Flow,
    /// Present with wire `legacy`.
    pub(crate) legacy: Option<LegacyQueue>,
    /// Present with wire `samples`.
    pub(crate) samples: Option<Box<Samples>>,
    buffer: Box<[u8]>,
    /// End of the last window: a wall clock that is set back does not take windows with it.
    window_end_ms: u64,
    /// When the rings were emptied last.
    passed: Instant,
    /// End frames were made: what is still recorded belongs to nobody.
    is_ending: bool,
}

impl Publisher {
    /// Starts with what is in cells and rings now as its zero: what was recorded before belongs to
    /// nobody or to an earlier publisher.
    pub(crate) fn new(
        identity: Identity,
        series_max: usize,
        legacy: Option<LegacyQueue>,
        drain: &mut Drain,
    ) -> Self {
        registry::forget_slots();
        drain.pass(|_| ());
        let mut publisher = Self {
            identity: Arc::new(identity),
            series_max,
            levels: Vec::new(),
            series: Vec::new(),
            timers: Vec::new(),
            by_key: HashMap::new(),
            cells: Vec::new(),
            sampled: Vec::new(),
            spilling: Vec::new(),
            metrics_seen: 0,
            totals: Vec::new(),
            losses: Losses::default(),
            refused: Flow::default(),
            legacy,
            samples: None,
            buffer: vec![0; zibrato_core::limits::FRAME_BYTES_MAX].into_boxed_slice(),
            window_end_ms: 0,
            passed: Instant::now(),
            is_ending: false,
        };
        publisher.meet_new_metrics();
        for metric in &publisher.spilling {
            let _ = metric.spill().take();
        }
        drain.counters(&mut publisher.totals);
        for cell in &mut publisher.cells {
            cell.folded = total_of(&publisher.totals, cell.metric);
        }
        for sampled in &mut publisher.sampled {
            sampled.start_at(&publisher.totals);
        }
        publisher
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(crate) fn levels(&self) -> &[Level] {
        &self.levels
    }

    pub(crate) fn level_mut(&mut self, level: usize) -> &mut Level {
        &mut self.levels[level]
    }

    /// Series, overflow series included.
    pub(crate) fn series_count(&self) -> usize {
        self.series.len()
    }

    /// Shows each counter and gauge with a change to `carry`: level, key, kind, units and value.
    /// Where it answers true the change counts as carried.
    pub(crate) fn each_legacy_change(
        &mut self,
        mut carry: impl FnMut(&str, SeriesKey, Kind, u64, f64) -> bool,
    ) {
        let now = now_ms();
        for series in self.series.iter_mut().filter(|series| series.dirty) {
            let level = self.levels[series.level as usize].label;
            let carried = match &mut series.state {
                SeriesState::Counter { .. } => {
                    let delta = series.legacy_pending;
                    carry(level, series.key, Kind::Counter, delta, delta as f64)
                }
                SeriesState::Gauge { gauge, set_by } => {
                    gauge.end_window(now, set_by.spill().last());
                    gauge.start_window();
                    let units = gauge.sets.wrapping_sub(series.legacy_pending);
                    let carried = carry(level, series.key, Kind::Gauge, units, gauge.last);
                    if carried {
                        series.legacy_pending = gauge.sets;
                    }
                    carried
                }
                SeriesState::Timer { .. } => continue,
            };
            if carried {
                series.dirty = false;
                if matches!(series.state, SeriesState::Counter { .. }) {
                    series.legacy_pending = 0;
                }
            }
        }
    }

    pub(crate) fn losses(&self) -> &Losses {
        &self.losses
    }

    /// Measurements refused, by kind.
    pub(crate) fn refused(&self) -> Flow {
        self.refused
    }

    /// Measurements accepted at `level`, by kind; counters are the sum of their values.
    pub(crate) fn accepted(&self, level: usize) -> Flow {
        let mut flow = Flow::default();
        for &index in &self.levels[level].series {
            match &self.series[index as usize].state {
                SeriesState::Counter { sum } => flow.counters = flow.counters.wrapping_add(*sum),
                SeriesState::Gauge { gauge, .. } => flow.gauges = flow.gauges.wrapping_add(gauge.sets),
                SeriesState::Timer { at } => {
                    flow.timers = flow.timers.wrapping_add(self.timers[*at as usize].timer.count);
                }
            }
        }
        flow.timers = flow.timers.wrapping_add(self.waiting_calls(level));
        flow
    }

    /// Takes what is in the rings if that was not done for a while. Long work calls it again and again,
    /// so that rings do not run full meanwhile.
    pub(crate) fn give_way(&mut self, drain: &mut Drain) {
        if !self.is_ending && self.passed.elapsed() >= GIVE_WAY {
            self.fold_rings(drain);
        }
    }

    /// Takes what is in the rings. Returns the most records that one of them had.
    pub(crate) fn fold_rings(&mut self, drain: &mut Drain) -> usize {
        let Pass { fullest, corrupt, .. } = match &mut self.samples {
            None => self.pass(drain, Self::fold_batch),
            Some(samples) => {
                samples.start_pass();
                self.pass(drain, Self::fold_and_sample)
            }
        };
        self.losses.add(LossReason::Corrupt, corrupt);
        self.passed = Instant::now();
        fullest
    }

    /// Hands what is in the rings to `fold`, some records at a time.
    #[inline]
    fn pass(&mut self, drain: &mut Drain, fold: impl Fn(&mut Self, &[Record])) -> Pass {
        let mut batch = heapless::Vec::<Record, BATCH_RECORDS>::new();
        let pass = drain.pass(|record| {
            if batch.is_full() {
                fold(self, &batch);
                batch.clear();
            }
            // There is room now.
            let _ = batch.push(record);
        });
        fold(self, &batch);
        pass
    }

    #[inline(never)]
    fn fold_batch(&mut self, records: &[Record]) {
        if self.timers.len() > CACHED_TIMERS {
            self.fetch(records);
        }
        for record in records {
            self.fold(record.metric, record.value);
        }
    }

    fn fold_and_sample(&mut self, records: &[Record]) {
        self.fold_batch(records);
        self.sample(records);
    }

    /// Has the processor fetch what folding will touch of all the records' timers at once: their lines
    /// come side by side then, and not one after the other, each when the one before was folded.
    fn fetch(&self, records: &[Record]) {
        let mut touched = 0;
        for record in records {
            if let Some(TimerState { timer, .. }) = self.timers.get(record.metric.slot() as usize) {
                touched ^= timer.count ^ timer.histogram.count_at(0);
            }
        }
        // Else the compiler would leave the loop out.
        std::hint::black_box(touched);
    }

    #[inline]
    fn fold(&mut self, metric: &'static Metric, value: u64) {
        let slot = self.slot_of(metric);
        let done = match metric.kind() {
            Kind::Timer => self.fold_timer(slot, value),
            Kind::Gauge => self.fold_gauge(slot, metric, f64::from_bits(value)),
            // A counter never goes through a ring.
            Kind::Counter => Some(()),
        };
        if done.is_none() {
            self.refuse_clash(metric.kind(), 1);
        }
    }

    /// `None` if the timer has no series of its kind.
    #[inline]
    fn fold_timer(&mut self, slot: usize, value: u64) -> Option<()> {
        // A sampled timer's slot is beyond them all, so that it costs the others nothing.
        let Some(state) = self.timers.get_mut(slot) else { return self.fold_sample(slot, value) };
        let ns = to_ns(value, &mut self.losses);
        if let Some(legacy) = &mut self.legacy {
            let series = &self.series[state.series as usize];
            let label = self.levels[series.level as usize].label;
            // Without a subscriber a legacy timer is not offered.
            if !legacy.offer_timer(label, series.key, ns, 1, &mut self.losses) {
                return Some(());
            }
        }
        state.timer.record_ns(ns);
        state.dirty = true;
        if state.is_overflow {
            self.losses.add(LossReason::SeriesLimit, 1);
        }
        Some(())
    }

    /// `None` if the gauge has no series of its kind.
    fn fold_gauge(&mut self, slot: usize, metric: &'static Metric, value: f64) -> Option<()> {
        let series = self.series.get_mut(slot)?;
        let SeriesState::Gauge { gauge, set_by } = &mut series.state else { return None };
        if !gauge.set(value) {
            self.losses.add(LossReason::NotFinite, 1);
            self.refused.gauges += 1;
            return Some(());
        }
        *set_by = metric;
        series.dirty = true;
        if series.key.is_overflow() {
            self.losses.add(LossReason::SeriesLimit, 1);
        }
        Some(())
    }

    fn refuse_clash(&mut self, kind: Kind, units: u64) {
        self.losses.add(LossReason::KindClash, units);
        self.refused.add(kind, units);
    }

    /// Takes what is in cells and spill cells.
    pub(crate) fn fold_cells(&mut self, drain: &mut Drain) {
        self.meet_new_metrics();
        drain.counters(&mut self.totals);
        for at in 0..self.cells.len() {
            if at % SERIES_AT_ONCE == 0 {
                self.give_way(drain);
            }
            let metric = self.cells[at].metric;
            let total = total_of(&self.totals, metric);
            let delta = total.wrapping_sub(self.cells[at].folded);
            if delta == 0 {
                continue;
            }
            self.cells[at].folded = total;
            self.fold_counter(metric, delta);
        }
        for at in 0..self.spilling.len() {
            if at % SERIES_AT_ONCE == 0 {
                self.give_way(drain);
            }
            if let Some(spilled) = self.spilling[at].spill().take() {
                self.fold_spilled(self.spilling[at], &spilled);
            }
        }
        self.fold_calls(drain);
    }

    fn fold_counter(&mut self, metric: &'static Metric, delta: u64) {
        let slot = self.slot_of(metric);
        let Some(Series { state: SeriesState::Counter { sum }, legacy_pending, dirty, key, .. }) =
            self.series.get_mut(slot)
        else {
            self.refuse_clash(Kind::Counter, delta);
            return;
        };
        *sum = sum.wrapping_add(delta);
        *legacy_pending = legacy_pending.wrapping_add(delta);
        *dirty = true;
        if key.is_overflow() {
            self.losses.add(LossReason::SeriesLimit, delta);
        }
    }

    fn fold_spilled(&mut self, metric: &'static Metric, spilled: &Spilled) {
        self.losses.add(LossReason::Spilled, spilled.count);
        if let Some(samples) = &mut self.samples {
            samples.lose_spilled(metric, spilled.count);
            self.losses.add(LossReason::Samples, samples.take_lost());
        }
        let slot = self.slot_of(metric);
        let is_timer = metric.kind() == Kind::Timer;
        let done = if is_timer {
            self.add_to_timer(slot, spilled)
        } else {
            self.add_to_gauge(slot, metric, spilled)
        };
        if done.is_none() {
            let beside = if is_timer { 0 } else { spilled.odd };
            self.refuse_clash(metric.kind(), spilled.count + beside);
        }
    }

    /// `None` if the timer has no series of its kind.
    fn add_to_timer(&mut self, slot: usize, spilled: &Spilled) -> Option<()> {
        let Some(state) = self.timers.get_mut(slot) else { return self.add_to_sample(slot, spilled) };
        if let Some(legacy) = &mut self.legacy {
            let mean = spilled.sum.checked_div(spilled.count).unwrap_or(0);
            let series = &self.series[state.series as usize];
            let label = self.levels[series.level as usize].label;
            if !legacy.offer_timer(label, series.key, mean, spilled.count, &mut self.losses) {
                return Some(());
            }
        }
        self.losses.add(LossReason::ClockBackwards, spilled.odd);
        state.timer.add_spilled(spilled);
        state.dirty = true;
        if state.is_overflow {
            self.losses.add(LossReason::SeriesLimit, spilled.count);
        }
        Some(())
    }

    /// `None` if the gauge has no series of its kind.
    fn add_to_gauge(&mut self, slot: usize, metric: &'static Metric, spilled: &Spilled) -> Option<()> {
        let series = self.series.get_mut(slot)?;
        let SeriesState::Gauge { gauge, set_by } = &mut series.state else { return None };
        self.losses.add(LossReason::NotFinite, spilled.odd);
        self.refused.gauges += spilled.odd;
        gauge.add_spilled(spilled, metric.spill().last());
        *set_by = metric;
        series.dirty = true;
        if series.key.is_overflow() {
            self.losses.add(LossReason::SeriesLimit, spilled.count);
        }
        Some(())
    }
}

/// A duration by a record's value.
#[inline]
fn to_ns(value: u64, losses: &mut Losses) -> u64 {
    match TimerValue::from_bits(value) {
        TimerValue::Ticks(ticks) => clock::to_ns(ticks),
        TimerValue::Nanoseconds(ns) => ns,
        TimerValue::Backwards => {
            losses.add(LossReason::ClockBackwards, 1);
            0
        }
    }
}

/// A counter's total, or a sampled timer's calls, over all threads: in their cells, and in the shared part.
fn total_of(totals: &[u64], metric: &Metric) -> u64 {
    let cells = totals.get(metric.index() as usize).copied().unwrap_or(0);
    let shared = if metric.is_sampled() { metric.spill().calls() } else { metric.spill().counter() };
    cells.wrapping_add(shared)
}
