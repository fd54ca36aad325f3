//! Series state of one publisher, from drained records to frames. No sockets and no threads.
//!
//! Invariants: a record is folded once and never taken back; a series that was folded into is dirty
//! until a frame with its state was handed out; `seq` grows by one for each part handed out.

mod frames;
mod resolve;

use frames::Packed;
pub(crate) use frames::{FrameKind, Frames, now_ms};
pub(crate) use resolve::{SeriesKey, overflow_name};

use resolve::Claim;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use zibrato_core::Pass;
use zibrato_core::frame::{LossReason, PublisherId};
use zibrato_core::histogram::HostCells;
use zibrato_core::kind::Kind;
use zibrato_core::metric::{Metric, NO_SLOT};
use zibrato_core::record::{Record, TimerValue};
use zibrato_core::series::{GaugeSeries, TimerSeries};
use zibrato_core::{Drain, clock, registry};

use crate::legacy::LegacyQueue;
use crate::stats::{Flow, Losses};

/// Slot of a metric whose series has another kind: its records are refused.
const CLASH_SLOT: u32 = NO_SLOT - 1;

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
    Counter { sum: u64 },
    Gauge { gauge: Box<GaugeSeries>, set_by: &'static Metric },
    Timer { timer: Box<TimerSeries<HostCells>>, base: Option<Box<Packed>> },
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
    identity: Identity,
    series_max: usize,
    levels: Vec<Level>,
    series: Vec<Series>,
    by_key: HashMap<SeriesKey, Claim>,
    cells: Vec<Cell>,
    /// Metrics whose spill cells are to be looked at, that is all that are no counters.
    spilling: Vec<&'static Metric>,
    metrics_seen: usize,
    totals: Vec<u64>,
    losses: Losses,
    refused: Flow,
    /// Present with wire `legacy`.
    pub(crate) legacy: Option<LegacyQueue>,
    buffer: Box<[u8]>,
    /// End of the last window: a wall clock that is set back does not take windows with it.
    window_end_ms: u64,
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
            identity,
            series_max,
            levels: Vec::new(),
            series: Vec::new(),
            by_key: HashMap::new(),
            cells: Vec::new(),
            spilling: Vec::new(),
            metrics_seen: 0,
            totals: Vec::new(),
            losses: Losses::default(),
            refused: Flow::default(),
            legacy,
            buffer: vec![0; zibrato_core::limits::FRAME_BYTES_MAX].into_boxed_slice(),
            window_end_ms: 0,
        };
        publisher.meet_metrics();
        for metric in &publisher.spilling {
            let _ = metric.spill().take();
        }
        drain.counters(&mut publisher.totals);
        for cell in &mut publisher.cells {
            cell.folded = total_of(&publisher.totals, cell.metric);
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
                    let units = gauge.sets.wrapping_sub(series.legacy_pending);
                    let carried = carry(level, series.key, Kind::Gauge, units, gauge.last);
                    if carried {
                        series.legacy_pending = gauge.sets;
                    }
                    carried
                }
                SeriesState::Timer { .. } => true,
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
                SeriesState::Timer { timer, .. } => flow.timers = flow.timers.wrapping_add(timer.count),
            }
        }
        flow
    }

    /// Takes what is in the rings. Returns the number of records.
    pub(crate) fn fold_rings(&mut self, drain: &mut Drain) -> usize {
        let Pass { records, corrupt } = drain.pass(|record| self.fold(record));
        self.losses.add(LossReason::Corrupt, corrupt);
        records
    }

    #[inline]
    fn fold(&mut self, record: Record) {
        let slot = self.slot_of(record.metric);
        let Some(series) = self.series.get_mut(slot) else {
            self.refuse_clash(record.metric.kind(), 1);
            return;
        };
        match &mut series.state {
            SeriesState::Timer { timer, .. } => {
                let ns = match TimerValue::from_bits(record.value) {
                    TimerValue::Ticks(ticks) => clock::to_ns(ticks),
                    TimerValue::Nanoseconds(ns) => ns,
                    TimerValue::Backwards => {
                        self.losses.add(LossReason::ClockBackwards, 1);
                        0
                    }
                };
                if let Some(legacy) = &mut self.legacy {
                    // Without a subscriber a legacy timer is not offered.
                    if !legacy.offer_timer(
                        self.levels[series.level as usize].label,
                        series.key,
                        ns,
                        1,
                        &mut self.losses,
                    ) {
                        return;
                    }
                }
                timer.record_ns(ns);
            }
            SeriesState::Gauge { gauge, set_by } => {
                if !gauge.set(f64::from_bits(record.value)) {
                    self.losses.add(LossReason::NotFinite, 1);
                    self.refused.gauges += 1;
                    return;
                }
                *set_by = record.metric;
            }
            // A counter never goes through a ring.
            SeriesState::Counter { .. } => {}
        }
        if series.key.is_overflow() {
            self.losses.add(LossReason::SeriesLimit, 1);
        }
        series.dirty = true;
    }

    fn refuse_clash(&mut self, kind: Kind, units: u64) {
        self.losses.add(LossReason::KindClash, units);
        self.refused.add(kind, units);
    }

    /// Takes what is in cells and spill cells.
    pub(crate) fn fold_cells(&mut self, drain: &mut Drain) {
        if registry::len() != self.metrics_seen {
            self.meet_metrics();
        }
        drain.counters(&mut self.totals);
        for at in 0..self.cells.len() {
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
            if let Some(spilled) = self.spilling[at].spill().take() {
                self.fold_spilled(self.spilling[at], &spilled);
            }
        }
    }

    fn fold_counter(&mut self, metric: &'static Metric, delta: u64) {
        let slot = self.slot_of(metric);
        let Some(series) = self.series.get_mut(slot) else {
            self.refuse_clash(Kind::Counter, delta);
            return;
        };
        if let SeriesState::Counter { sum } = &mut series.state {
            *sum = sum.wrapping_add(delta);
            series.legacy_pending = series.legacy_pending.wrapping_add(delta);
            series.dirty = true;
            if series.key.is_overflow() {
                self.losses.add(LossReason::SeriesLimit, delta);
            }
        }
    }

    fn fold_spilled(&mut self, metric: &'static Metric, spilled: &zibrato_core::metric::Spilled) {
        self.losses.add(LossReason::Spilled, spilled.count);
        let slot = self.slot_of(metric);
        let Some(series) = self.series.get_mut(slot) else {
            let beside = if metric.kind() == Kind::Gauge { spilled.odd } else { 0 };
            self.refuse_clash(metric.kind(), spilled.count + beside);
            return;
        };
        match &mut series.state {
            SeriesState::Timer { timer, .. } => {
                if let Some(legacy) = &mut self.legacy {
                    let mean = spilled.sum.checked_div(spilled.count).unwrap_or(0);
                    let label = self.levels[series.level as usize].label;
                    if !legacy.offer_timer(label, series.key, mean, spilled.count, &mut self.losses) {
                        return;
                    }
                }
                self.losses.add(LossReason::ClockBackwards, spilled.odd);
                timer.add_spilled(spilled);
            }
            SeriesState::Gauge { gauge, set_by } => {
                self.losses.add(LossReason::NotFinite, spilled.odd);
                self.refused.gauges += spilled.odd;
                gauge.add_spilled(spilled, metric.spill().last());
                *set_by = metric;
            }
            SeriesState::Counter { .. } => {}
        }
        if series.key.is_overflow() {
            self.losses.add(LossReason::SeriesLimit, spilled.count);
        }
        series.dirty = true;
    }
}

/// A counter's total over all threads: in their cells, and in its shared part.
fn total_of(totals: &[u64], metric: &Metric) -> u64 {
    let cells = totals.get(metric.index() as usize).copied().unwrap_or(0);
    cells.wrapping_add(metric.spill().counter())
}
