//! Which series a metric belongs to: found or made at its first record.

use std::hash::{Hash, Hasher};

use zibrato_core::kind::Kind;
use zibrato_core::limits::TAGS_MAX;
use zibrato_core::metric::{Metric, NO_SLOT};
use zibrato_core::registry;
use zibrato_core::series::TimerSeries;

use super::{CLASH_SLOT, Cell, Level, Publisher, Series, SeriesState, TimerState};

/// Name of the series that takes what is beyond the limit, one of each kind and level.
const OVERFLOW: [&str; 3] = ["zibrato.overflow.counter", "zibrato.overflow.gauge", "zibrato.overflow.timer"];

/// The name of the overflow series of a kind.
pub(crate) const fn overflow_name(kind: Kind) -> &'static str {
    OVERFLOW[kind.code() as usize]
}

/// Which kind a key belongs to, and the number of its series once it has one: among the timers if it is
/// one, else among all series.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    kind: Kind,
    slot: u32,
}

/// What makes two metrics one series: level, name, source and tags. The kind is not part of it: a
/// second kind is a clash; the unit describes a series and does not tell it from another.
///
/// Two words, since a program may have as many as it has series: the metric that came first stands
/// for all with its texts, or for the overflow series of its level and kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SeriesKey {
    metric: &'static Metric,
    is_overflow: bool,
}

/// Tags in the order of their keys, of two with one key the first.
pub(super) type Tags = heapless::Vec<(&'static str, &'static str), TAGS_MAX>;

impl SeriesKey {
    pub(super) const fn of(metric: &'static Metric) -> Self {
        Self { metric, is_overflow: false }
    }

    /// The overflow series of the level and kind of `metric`.
    const fn overflow(metric: &'static Metric) -> Self {
        Self { metric, is_overflow: true }
    }

    /// Whether this is one of the series that take what is beyond the limit.
    pub(super) const fn is_overflow(self) -> bool {
        self.is_overflow
    }

    fn level(self) -> &'static str {
        self.metric.level().label()
    }

    pub(crate) const fn name(self) -> &'static str {
        if self.is_overflow { overflow_name(self.metric.kind()) } else { self.metric.name() }
    }

    /// Its own source, or empty for the client's.
    pub(crate) const fn source(self) -> &'static str {
        if self.is_overflow { "" } else { self.metric.source() }
    }

    pub(super) const fn unit(self) -> &'static str {
        if self.is_overflow { "" } else { self.metric.unit() }
    }

    pub(super) fn tags(self) -> Tags {
        let mut tags = Tags::new();
        for &tag in if self.is_overflow { &[] } else { self.metric.tags() } {
            if !tags.iter().any(|&(key, _)| key == tag.0) {
                // A metric has at most TAGS_MAX tags.
                let _ = tags.push(tag);
            }
        }
        tags.sort_unstable();
        tags
    }
}

impl PartialEq for SeriesKey {
    fn eq(&self, other: &Self) -> bool {
        (self.level(), self.name(), self.source()) == (other.level(), other.name(), other.source())
            && self.tags() == other.tags()
    }
}

impl Eq for SeriesKey {}

impl Hash for SeriesKey {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        (self.level(), self.name(), self.source(), self.tags().as_slice()).hash(hasher);
    }
}

impl Publisher {
    /// Meets the metrics that registered since the last call, in that order: of two kinds under one
    /// key the first registered one is right, whichever records first. A series is made at the first
    /// record that counts, so a metric that was never on has none.
    pub(crate) fn meet_new_metrics(&mut self) {
        let (all, new) = registry::newer_than(self.metrics_seen);
        self.metrics_seen = all;
        let new: Vec<_> = new.collect();
        // The list has the newest first.
        for metric in new.into_iter().rev() {
            if metric.kind() == Kind::Counter {
                self.cells.push(Cell { metric, folded: 0 });
            } else {
                self.spilling.push(metric);
            }
            if metric.is_sampled() {
                self.meet_sampled(metric);
            }
            self.by_key.entry(SeriesKey::of(metric)).or_insert(Claim { kind: metric.kind(), slot: NO_SLOT });
        }
    }

    /// The number of the series of `metric`, as [`Claim`] has it; a sampled timer has one of its own.
    #[inline]
    pub(super) fn slot_of(&mut self, metric: &'static Metric) -> usize {
        match metric.slot() {
            NO_SLOT => self.resolve(metric) as usize,
            slot => slot as usize,
        }
    }

    /// Finds or makes the number of `metric`, keeps it in the metric and returns it.
    #[cold]
    fn resolve(&mut self, metric: &'static Metric) -> u32 {
        self.meet_new_metrics();
        if metric.is_sampled() {
            return self.meet_sampled(metric);
        }
        let slot = self.series_of(metric);
        metric.set_slot(slot);
        slot
    }

    /// Finds or makes the series of `metric`.
    pub(super) fn series_of(&mut self, metric: &'static Metric) -> u32 {
        let own = SeriesKey::of(metric);
        match self.claim(own, metric.kind()) {
            Claim { slot: NO_SLOT, kind }
                if kind == metric.kind() && self.series.len() >= self.series_max =>
            {
                let overflow = SeriesKey::overflow(metric);
                match self.claim(overflow, metric.kind()) {
                    // A program's own metric has that name, and another kind.
                    Claim { kind, .. } if kind != metric.kind() => CLASH_SLOT,
                    Claim { slot: NO_SLOT, .. } => self.make(overflow, metric),
                    Claim { slot, .. } => slot,
                }
            }
            Claim { slot: NO_SLOT, kind } if kind == metric.kind() => self.make(own, metric),
            Claim { slot, kind } if kind == metric.kind() => slot,
            Claim { kind, .. } => {
                tracing::warn!(
                    metric = metric.name(),
                    level = metric.level().label(),
                    kind = %metric.kind(),
                    first = %kind,
                    "a metric of this name has another kind: its records are refused"
                );
                CLASH_SLOT
            }
        }
    }

    fn claim(&mut self, key: SeriesKey, kind: Kind) -> Claim {
        *self.by_key.entry(key).or_insert(Claim { kind, slot: NO_SLOT })
    }

    fn make(&mut self, key: SeriesKey, metric: &'static Metric) -> u32 {
        let level = self.level_of(key.level());
        let index = self.series.len() as u32;
        let (state, slot) = match metric.kind() {
            Kind::Counter => (SeriesState::Counter { sum: 0 }, index),
            Kind::Gauge => (SeriesState::Gauge { gauge: Box::default(), set_by: metric }, index),
            Kind::Timer => {
                let at = self.timers.len() as u32;
                let (timer, is_overflow) = (TimerSeries::default(), key.is_overflow());
                self.timers.push(TimerState { timer, base: None, series: index, is_overflow, dirty: false });
                (SeriesState::Timer { at }, at)
            }
        };
        self.levels[level].series.push(index);
        self.by_key.insert(key, Claim { kind: metric.kind(), slot });
        self.series.push(Series { level: level as u32, key, state, dirty: false, legacy_pending: 0 });
        slot
    }

    fn level_of(&mut self, label: &'static str) -> usize {
        if let Some(found) = self.levels.iter().position(|level| level.label == label) {
            return found;
        }
        // The first frame of a level is a key frame.
        self.levels.push(Level {
            label,
            seq: 0,
            key_seq: 0,
            windows_since_key: 0,
            handed_out: self.identity.started,
            wants_key: true,
            series: Vec::new(),
        });
        self.levels.len() - 1
    }
}
