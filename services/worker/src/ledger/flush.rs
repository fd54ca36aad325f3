//! Flush in two phases: what changed is prepared, kept in a spool by the owner, then committed.
//!
//! Between both nothing is lost and nothing is counted twice: what arrives meanwhile belongs to the
//! next flush, and an aborted flush is part of the next one.

use std::collections::VecDeque;

use hashbrown::{HashMap, HashSet};
use std::sync::Arc;

use zibrato_core::frame::PublisherId;

use super::identity;
use super::legacy::{Folded, merge_timers};
use super::points::HeldPoint;
use super::rows::{self, Decoded, Rows};
use super::series::{Series, Taken, Undo};
use super::stream::{Place, Stream};
use super::{Amounts, Config, Ledger};
use crate::measurement::{GaugePoint, Measurement, SeriesKey, TimerDelta, Value};

/// What one flush hands over. All of it, and what [`Ledger::rows`] then returns, is to be kept in one transaction before
/// [`Ledger::commit_flush`].
#[derive(Debug, Default)]
pub struct Flush {
    /// What changed.
    pub changes: Changes,
    /// Keys of rows to remove; none of them is among those to keep.
    pub removed: Vec<Vec<u8>>,
}

/// A prepared flush: how to take it back, and what it stands for.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    pub(super) amounts: Amounts,
    undo: Vec<(Place, Undo)>,
    /// Timers left for a later flush.
    deferred: Vec<Place>,
    legacy: HashMap<Arc<[u8]>, Folded>,
    points: VecDeque<HeldPoint>,
    points_amounts: Amounts,
    streams: Vec<usize>,
    levels: Vec<usize>,
    created: bool,
    buckets_unknown: u64,
}

/// A change of a series by one publisher, or by text.
#[derive(Debug)]
enum Part {
    Counter(u64),
    LegacyCounter(f64),
    Timer(Box<TimerDelta>),
    Point(GaugePoint),
}

/// What changed in each series of each publisher. It holds on to nothing of the ledger, which is free for other work while
/// measurements are made of it.
#[derive(Debug, Default)]
pub struct Changes {
    /// Each with the name of its series.
    parts: Vec<(Arc<[u8]>, Part)>,
}

impl Changes {
    /// Per series what changed, in a fixed order; publishers are merged.
    #[must_use]
    pub fn measurements(self) -> Vec<Measurement> {
        let mut parts = self.parts;
        // Stable, so that of two points of one time the later one stays last.
        parts.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut measurements = Vec::with_capacity(parts.len());
        let (mut parts, mut reader) = (parts.into_iter().peekable(), identity::Reader::default());
        while let Some((name, first)) = parts.next() {
            let mut group = Group::default();
            group.add(first);
            while let Some((_, more)) = parts.next_if(|(other, _)| *other == name) {
                group.add(more);
            }
            if let Some(key) = reader.read(&name) {
                group.into_measurements(Arc::new(key), &mut measurements);
            }
        }
        measurements
    }

    fn push(&mut self, name: &Arc<[u8]>, part: Part) {
        self.parts.push((Arc::clone(name), part));
    }
}

impl Ledger {
    /// Rebuilds a ledger from the rows of all its committed flushes.
    ///
    /// A damaged row is counted and skipped. Then no publisher that started before now is trusted
    /// to be new, so that nothing is counted twice: what it did since the last commit is joined
    /// late.
    #[must_use]
    pub fn restore(config: Config, rows: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>, now_ms: u64) -> Self {
        let mut ledger = Self::new(config, now_ms);
        let mut decoded = Vec::new();
        for (key, value) in rows {
            match rows::decode(&key, &value) {
                Some(row) => decoded.push(row),
                None => ledger.counts.rows_damaged += 1,
            }
        }
        decoded.sort_by_key(Decoded::order);
        for row in decoded {
            ledger.restore_row(row);
        }
        if ledger.counts.rows_damaged > 0 {
            ledger.doubt_all(now_ms);
        }
        ledger
    }

    fn restore_row(&mut self, row: Decoded) {
        match row {
            Decoded::Meta { created_ms } => (self.created_ms, self.created_dirty) = (created_ms, false),
            Decoded::Level { level, horizon_ms } => {
                self.add_level(&level, horizon_ms, false);
            }
            Decoded::Stream { publisher, level, kept } => match self.level_at(&level) {
                Some(level) => {
                    self.add_stream(Stream::restored(publisher, level, &kept));
                }
                None => self.counts.rows_damaged += 1,
            },
            Decoded::Series { publisher, identity, level, kept } => {
                let slot = self.level_at(&level).and_then(|level| self.stream_slots.get(&(publisher, level)));
                let Some(stream) = slot.and_then(|&slot| self.streams[slot].as_mut()) else {
                    self.counts.rows_damaged += 1;
                    return;
                };
                let name: Arc<[u8]> =
                    self.names.get(&identity[..]).cloned().unwrap_or_else(|| identity.into());
                self.names.insert(name.clone());
                stream.add(name, Series::restored(kept));
                self.native_series += 1;
            }
        }
    }

    /// Rows are missing, so nothing that started before now is known to be new.
    fn doubt_all(&mut self, now_ms: u64) {
        (self.created_ms, self.doubt_ms) = (self.created_ms.max(now_ms), now_ms);
        for level in &mut self.levels {
            level.horizon_ms = level.horizon_ms.max(now_ms);
            level.dirty = true;
        }
        self.streams.iter_mut().flatten().for_each(Stream::doubt);
    }

    /// Collects what changed since the last committed flush.
    ///
    /// A timer whose buckets wait for a key frame is left for a later flush, for at most
    /// [`BUCKET_PATIENCE_KEY_PERIODS`](super::BUCKET_PATIENCE_KEY_PERIODS), or
    /// [`BUCKET_PATIENCE_MS_MIN`](super::BUCKET_PATIENCE_MS_MIN) if that is longer. A flush that was
    /// prepared before and not committed is aborted first.
    pub fn prepare_flush(&mut self, now_ms: u64) -> Flush {
        self.abort_flush();
        self.advance(now_ms);
        self.forget_silent();
        // Lists that grow into millions would leave holes of half their size behind.
        let (amounts, undo) = (self.held(), Vec::with_capacity(self.dirty.len()));
        let mut in_flight = InFlight { amounts, undo, ..InFlight::default() };
        let mut changes = Changes { parts: Vec::with_capacity(self.dirty.len() + self.legacy.len()) };
        self.take_series(&mut in_flight, &mut changes);
        self.take_legacy(&mut in_flight, &mut changes);
        self.take_dirty(&mut in_flight);
        self.keep_removed_that_came_back(&in_flight);
        // What was left for a later flush is still pending here.
        self.in_flight = None;
        in_flight.amounts -= self.held();
        self.in_flight = Some(in_flight);
        Flush { changes, removed: self.removed.clone() }
    }

    /// Rows that the prepared flush adds or replaces, piece by piece. To be asked for before anything else is received.
    pub fn rows(&self) -> impl Iterator<Item = Rows> {
        let (mut first, mut streams, mut series) = (Rows::default(), Vec::new(), Vec::new());
        if let Some(in_flight) = &self.in_flight {
            if in_flight.created {
                rows::meta(&mut first, self.created_ms);
            }
            for &level in &in_flight.levels {
                let level = &self.levels[level];
                rows::level(&mut first, &level.label, level.horizon_ms);
            }
            streams.extend(in_flight.streams.iter().filter_map(|&slot| self.streams[slot].as_ref()));
            series.reserve_exact(in_flight.undo.len() + in_flight.deferred.len());
            series.extend(self.series_of(in_flight));
        }
        streams.sort_unstable_by_key(|stream| (stream.publisher.0, stream.level));
        series.sort_unstable_by_key(|(publisher, name, _)| (publisher.0, &name[..]));
        let streams = rows::in_pieces(streams, |rows, stream| {
            let label = &self.levels[stream.level].label;
            rows::stream(rows, stream.publisher, label, &stream.kept(self.awake_ms));
        });
        let series = rows::in_pieces(series, |rows, (publisher, name, series)| {
            rows::series(rows, publisher, name, &series.kept());
        });
        [first].into_iter().chain(streams).chain(series)
    }

    /// The series whose rows a flush writes, with their publishers.
    fn series_of<'a>(
        &'a self,
        in_flight: &'a InFlight,
    ) -> impl Iterator<Item = (PublisherId, &'a Arc<[u8]>, &'a Series)> {
        let taken = in_flight.undo.iter().map(|(place, _)| place);
        taken.chain(&in_flight.deferred).filter_map(|place| {
            let stream = self.streams[place.slot].as_ref()?;
            let (name, series) = stream.series.get_index(place.at)?;
            Some((stream.publisher, name, series))
        })
    }

    /// A publisher may have come back since its rows were given up.
    fn keep_removed_that_came_back(&mut self, in_flight: &InFlight) {
        if self.removed.is_empty() {
            return;
        }
        let mut removed: HashSet<Vec<u8>> = std::mem::take(&mut self.removed).into_iter().collect();
        for stream in in_flight.streams.iter().filter_map(|&slot| self.streams[slot].as_ref()) {
            removed.remove(&rows::stream_key(stream.publisher, &self.levels[stream.level].label));
        }
        for (publisher, name, _) in self.series_of(in_flight) {
            removed.remove(&rows::series_key(publisher, name));
        }
        self.removed = removed.into_iter().collect();
    }

    /// The prepared flush is kept for good; without one nothing happens.
    pub fn commit_flush(&mut self) {
        if let Some(in_flight) = self.in_flight.take() {
            self.counts.flushed += in_flight.amounts;
            self.counts.buckets_unknown += in_flight.buckets_unknown;
            self.removed.clear();
        }
    }

    /// The prepared flush was not kept: the next one includes it. Without one nothing happens.
    pub fn abort_flush(&mut self) {
        let Some(in_flight) = self.in_flight.take() else { return };
        for (place, undo) in in_flight.undo {
            let Some(stream) = &mut self.streams[place.slot] else { continue };
            let Some((_, series)) = stream.series.get_index_mut(place.at) else { continue };
            series.undo(undo);
            if !std::mem::replace(&mut series.dirty, true) {
                self.dirty.push(place);
            }
        }
        for (name, earlier) in in_flight.legacy {
            match self.legacy.get_mut(&name) {
                Some(folded) => folded.merge(earlier),
                None => {
                    self.legacy.insert(name, earlier);
                }
            }
        }
        self.points.put_back(in_flight.points, in_flight.points_amounts, &mut self.counts);
        for slot in in_flight.streams {
            self.streams[slot].iter_mut().for_each(|stream| stream.dirty = true);
        }
        in_flight.levels.into_iter().for_each(|level| self.levels[level].dirty = true);
        self.created_dirty |= in_flight.created;
    }

    fn take_series(&mut self, in_flight: &mut InFlight, changes: &mut Changes) {
        for place in std::mem::take(&mut self.dirty) {
            let Some(stream) = &mut self.streams[place.slot] else { continue };
            let patience_ms = stream.bucket_patience_ms();
            let Some((name, series)) = stream.series.get_index_mut(place.at) else { continue };
            let taken = series.take(self.awake_ms, patience_ms);
            series.dirty = false;
            let undo = match taken {
                Taken::Nothing => Undo::Nothing,
                Taken::Counter(delta) => {
                    changes.push(name, Part::Counter(delta));
                    Undo::Counter(delta)
                }
                Taken::Timer(delta, undo) => {
                    changes.push(name, Part::Timer(delta));
                    in_flight.buckets_unknown += undo.buckets_unknown;
                    Undo::Timer(Box::new(undo))
                }
                Taken::Deferred => {
                    series.dirty = true;
                    in_flight.deferred.push(place);
                    self.dirty.push(place);
                    continue;
                }
            };
            in_flight.undo.push((place, undo));
        }
    }

    fn take_legacy(&mut self, in_flight: &mut InFlight, changes: &mut Changes) {
        in_flight.legacy = std::mem::take(&mut self.legacy);
        for (name, folded) in &in_flight.legacy {
            let part = match folded {
                Folded::Counter { sum, .. } => Part::LegacyCounter(*sum),
                Folded::Timer(timer) => Part::Timer(timer.clone()),
                Folded::Points => continue,
            };
            changes.push(name, part);
        }
        (in_flight.points, in_flight.points_amounts) = self.points.take();
        for held in &in_flight.points {
            changes.push(&held.series, Part::Point(held.point));
        }
    }

    fn take_dirty(&mut self, in_flight: &mut InFlight) {
        in_flight.created = std::mem::take(&mut self.created_dirty);
        for (at, level) in self.levels.iter_mut().enumerate() {
            if std::mem::take(&mut level.dirty) {
                in_flight.levels.push(at);
            }
        }
        for (slot, stream) in self.streams.iter_mut().enumerate() {
            let Some(stream) = stream.as_mut().filter(|stream| stream.dirty) else { continue };
            stream.dirty = false;
            in_flight.streams.push(slot);
        }
    }
}

/// Changes of one series, over all its publishers.
#[derive(Debug, Default)]
struct Group {
    counter: Option<(u128, f64)>,
    timer: Option<Box<TimerDelta>>,
    points: Vec<GaugePoint>,
}

impl Group {
    fn add(&mut self, part: Part) {
        match part {
            Part::Counter(more) => self.counter.get_or_insert_default().0 += u128::from(more),
            Part::LegacyCounter(more) => self.counter.get_or_insert_default().1 += more,
            Part::Timer(more) => match &mut self.timer {
                Some(timer) => merge_timers(timer, &more),
                None => self.timer = Some(more),
            },
            Part::Point(point) => self.points.push(point),
        }
    }

    fn into_measurements(mut self, series: Arc<SeriesKey>, out: &mut Vec<Measurement>) {
        let mut push =
            |value| out.push(Measurement { series: series.clone(), merged: Vec::new(), value, total: None });
        if let Some((native, legacy)) = self.counter {
            push(Value::Counter { delta: native as f64 + legacy });
        }
        if let Some(timer) = self.timer {
            push(Value::Timer(timer));
        }
        if self.points.is_empty() {
            return;
        }
        if series.kind == zibrato_core::kind::Kind::Timer {
            push(Value::RawTimer { points: self.points });
        } else {
            self.points.sort_by_key(|point| point.time_ms);
            push(Value::Gauge { points: self.points });
        }
    }
}
