//! The series of a backend: how many there may be, what each has come to, and when it is forgotten.
//!
//! A flush passes through here on its way from the ledger to the encoder. What is prepared takes effect with
//! [`SeriesTable::commit`] alone, as in the ledger.
//!
//! Beyond the limit of its metric a series is folded into an overflow series of that metric, with the source
//! [`OVERFLOW_SOURCE`] and no tags; beyond the limit in total one of a metric that is not known is folded into
//! `zibrato.overflow.<kind>`. So sums over all series of a metric, or over all metrics, stay right.

mod known;

use std::collections::btree_map::{BTreeMap, Entry};
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::{DefaultHashBuilder, HashMap, HashSet};

use crate::backend::{FlushTime, Shape};
use crate::ledger::rows::in_pieces;
use crate::ledger::{Rows, identity};
use crate::measurement::{Measurement, SeriesKey, Value};
use crate::merge::join;
use crate::spool::LedgerRow;

use known::Known;
pub use known::is_row;

/// Default of [`SeriesLimits::series_max`].
pub const SERIES_MAX_DEFAULT: usize = 1_000_000;
/// Default of [`SeriesLimits::metric_series_max`].
pub const METRIC_SERIES_MAX_DEFAULT: usize = 100_000;
/// Default of [`SeriesLimits::idle`], in seconds.
pub const IDLE_S_DEFAULT: u64 = 3_600;
/// The source of overflow series.
pub const OVERFLOW_SOURCE: &str = "overflow";
/// How often a series that does not change is told to a backend that wants totals: stores take one that
/// is silent for five minutes for gone.
pub const REFRESH: Duration = Duration::from_secs(60);
/// Metrics whose overflows are counted apart; those of more are counted together.
const OFFENDERS_MAX: usize = 1_000;

/// How many series a backend is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeriesLimits {
    /// Most series in all, overflow series apart.
    pub series_max: usize,
    /// Most series of one metric, overflow series apart.
    pub metric_series_max: usize,
    /// How long a series that does not change is kept.
    pub idle: Duration,
}

impl Default for SeriesLimits {
    fn default() -> Self {
        Self {
            series_max: SERIES_MAX_DEFAULT,
            metric_series_max: METRIC_SERIES_MAX_DEFAULT,
            idle: Duration::from_secs(IDLE_S_DEFAULT),
        }
    }
}

/// A flush as the backend is to have it; its rows come from [`SeriesTable::rows`].
#[derive(Debug, Default)]
pub struct Prepared {
    /// Series, those beyond the limits folded into overflow series; with totals also those that did not change
    /// for [`REFRESH`].
    pub measurements: Vec<Measurement>,
    /// Series that are forgotten with the commit, of which a backend that wants totals is told.
    pub expired: Vec<Arc<SeriesKey>>,
    /// How many series are forgotten with the commit.
    pub forgotten: u64,
    /// Keys of rows to remove.
    pub removed: Vec<Vec<u8>>,
    /// How many series were folded into overflow series, by metric.
    pub overflowed: BTreeMap<String, u64>,
}

/// See the module.
#[derive(Debug)]
pub struct SeriesTable {
    limits: SeriesLimits,
    shape: Shape,
    known: HashMap<Arc<[u8]>, Known>,
    /// Series of each metric by a hash of its name, overflow series apart. Two metrics of one hash share a limit, which
    /// is cheaper than to keep each name again.
    of_metric: HashMap<u64, u32>,
    hasher: DefaultHashBuilder,
    /// Series of all metrics, overflow series apart.
    counted: usize,
    staged: Staged,
    /// Rows that could not be read.
    rows_damaged: u64,
}

/// What the next commit does.
#[derive(Debug, Default)]
struct Staged {
    changed: Vec<(Arc<[u8]>, Known)>,
    refreshed: Vec<Arc<[u8]>>,
    expired: Vec<Arc<[u8]>>,
    at_ms: u64,
}

/// Series that the flush being prepared brought.
#[derive(Debug, Default)]
struct Admission {
    series: usize,
    of_metric: HashMap<u64, u32>,
}

impl SeriesTable {
    /// The table of these rows, which [`is_row`] says are a table's.
    #[must_use]
    pub fn restore(limits: SeriesLimits, shape: Shape, rows: impl IntoIterator<Item = LedgerRow>) -> Self {
        let mut table = Self {
            limits,
            shape,
            known: HashMap::new(),
            of_metric: HashMap::new(),
            hasher: DefaultHashBuilder::default(),
            counted: 0,
            staged: Staged::default(),
            rows_damaged: 0,
        };
        for (key, value) in rows {
            match Known::read(&key, &value) {
                Some((identity, known)) => table.insert(identity.into(), known),
                None => table.rows_damaged += 1,
            }
        }
        table
    }

    /// Series known, overflow series too.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether no series is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Rows that could not be read when the table was restored: these totals start anew.
    #[must_use]
    pub const fn rows_damaged(&self) -> u64 {
        self.rows_damaged
    }

    /// Brings a flush, in which each series is once, within the limits and adds it up. `shared` may have the identity of
    /// a series already, so that it is kept once.
    pub fn prepare(
        &mut self,
        mut measurements: Vec<Measurement>,
        flush: FlushTime,
        shared: impl Fn(&[u8]) -> Option<Arc<[u8]>>,
    ) -> Prepared {
        let changed = Vec::with_capacity(measurements.len());
        self.staged = Staged { changed, at_ms: flush.unix_ms, ..Staged::default() };
        let mut prepared = Prepared::default();
        let mut overflow: BTreeMap<Vec<u8>, Measurement> = BTreeMap::new();
        let mut new = Admission::default();
        // In place: a second list of millions would cost as much memory again.
        measurements.retain_mut(|measurement| {
            let series = &*measurement.series;
            // One that is what others are folded into is added up with them.
            if *series.source == *OVERFLOW_SOURCE && series.tags.is_empty() {
                fold(&mut overflow, self.identity(series), &Arc::clone(&measurement.series), measurement);
                return false;
            }
            let identity = self.identity(series);
            if let Some((identity, known)) = self.known(&identity) {
                self.add(identity, known, measurement, flush);
                return true;
            }
            if self.admit(&measurement.series.name, &mut new) {
                let identity = shared(&identity).unwrap_or_else(|| identity.into());
                self.add(identity, Known::new(flush), measurement, flush);
                return true;
            }
            note(&mut prepared.overflowed, &measurement.series.name);
            let series = Arc::new(self.overflow_series(&measurement.series, &new));
            fold(&mut overflow, self.identity(&series), &series, measurement);
            false
        });
        for (identity, mut measurement) in overflow {
            let (identity, known) =
                self.known(&identity).unwrap_or_else(|| (identity.into(), Known::new(flush)));
            self.add(identity, known, &mut measurement, flush);
            measurements.push(measurement);
        }
        prepared.measurements = measurements;
        self.look_at_the_idle(flush, &mut prepared);
        prepared
    }

    /// Rows to keep of what was prepared, piece by piece.
    pub fn rows(&self) -> impl Iterator<Item = Rows> {
        let mut changed: Vec<_> = self.staged.changed.iter().collect();
        changed.sort_unstable_by_key(|(identity, _)| identity);
        in_pieces(changed, |rows, (identity, known)| known.keep(identity, rows))
    }

    /// What was prepared is kept for good; without it nothing happens.
    pub fn commit(&mut self) {
        let Staged { changed, refreshed, expired, at_ms } = std::mem::take(&mut self.staged);
        for (identity, known) in changed {
            self.insert(identity, known);
        }
        for identity in refreshed {
            if let Some(known) = self.known.get_mut(&identity) {
                known.told_ms = at_ms;
            }
        }
        for identity in expired {
            self.known.remove(&identity);
            let Some(metric) = self.counted_metric(&identity) else { continue };
            if let Some(series) = self.of_metric.get_mut(&metric) {
                (*series, self.counted) = (*series - 1, self.counted - 1);
                if *series == 0 {
                    self.of_metric.remove(&metric);
                }
            }
        }
    }

    /// What was prepared was not kept.
    pub fn abort(&mut self) {
        self.staged = Staged::default();
    }

    fn identity(&self, series: &SeriesKey) -> Vec<u8> {
        if self.shape.keeps_levels {
            identity::of(series)
        } else {
            // Which of its levels a merged series is named after differs from flush to flush.
            identity::of(&SeriesKey { level: "".into(), ..series.clone() })
        }
    }

    fn admit(&self, name: &str, new: &mut Admission) -> bool {
        let metric = self.hasher.hash_one(name);
        let of = |metrics: &HashMap<u64, u32>| metrics.get(&metric).copied().unwrap_or(0) as usize;
        let of_metric = of(&self.of_metric) + of(&new.of_metric);
        if of_metric >= self.limits.metric_series_max || self.counted + new.series >= self.limits.series_max {
            return false;
        }
        new.series += 1;
        *new.of_metric.entry(metric).or_default() += 1;
        true
    }

    fn overflow_series(&self, series: &SeriesKey, new: &Admission) -> SeriesKey {
        let metric = self.hasher.hash_one(&series.name[..]);
        // Overflow series of metrics that nobody knows would be without number.
        let name = if self.of_metric.contains_key(&metric) || new.of_metric.contains_key(&metric) {
            series.name.clone()
        } else {
            format!("zibrato.overflow.{}", series.kind.as_str())
        };
        SeriesKey { name, source: OVERFLOW_SOURCE.into(), tags: Vec::new(), ..series.clone() }
    }

    fn known(&self, identity: &[u8]) -> Option<(Arc<[u8]>, Known)> {
        let (identity, known) = self.known.get_key_value(identity)?;
        Some((Arc::clone(identity), known.clone()))
    }

    /// Adds a measurement to what its series has come to.
    fn add(
        &mut self,
        identity: Arc<[u8]>,
        mut known: Known,
        measurement: &mut Measurement,
        flush: FlushTime,
    ) {
        (known.changed_ms, known.told_ms) = (flush.unix_ms, flush.unix_ms);
        if self.shape.totals {
            known.add(&measurement.value);
            measurement.total = known.total();
        }
        self.staged.changed.push((identity, known));
    }

    /// Forgets series that were idle for too long, and tells those again that are due.
    fn look_at_the_idle(&mut self, flush: FlushTime, prepared: &mut Prepared) {
        let (idle_ms, refresh_ms) = (self.limits.idle.as_millis() as u64, REFRESH.as_millis() as u64);
        let is_idle = |known: &Known| flush.unix_ms.saturating_sub(known.changed_ms) >= idle_ms;
        let is_due = |known: &Known| {
            is_idle(known) || (self.shape.totals && flush.unix_ms.saturating_sub(known.told_ms) >= refresh_ms)
        };
        let mut due: Vec<_> = self.known.iter().filter(|(_, known)| is_due(known)).collect();
        // Of most flushes that is all.
        if due.is_empty() {
            return;
        }
        let changed: HashSet<&[u8]> = self.staged.changed.iter().map(|(identity, _)| &identity[..]).collect();
        due.retain(|(identity, _)| !changed.contains(&identity[..]));
        let (mut expired, mut refreshed) = (Vec::new(), Vec::new());
        for (identity, known) in due {
            if is_idle(known) { &mut expired } else { &mut refreshed }.push(Arc::clone(identity));
        }
        // In a fixed order, so that bodies are.
        expired.sort_unstable();
        refreshed.sort_unstable();
        prepared.forgotten = expired.len() as u64;
        let mut reader = identity::Reader::default();
        prepared.measurements.reserve(refreshed.len());
        for identity in &expired {
            if self.shape.totals {
                prepared.removed.push(known::row_key(identity));
                prepared.expired.extend(reader.read(identity).map(Arc::new));
            }
        }
        for identity in &refreshed {
            prepared.measurements.extend(self.known.get(identity).and_then(|known| {
                let series = Arc::new(reader.read(identity)?);
                Some(Measurement {
                    series,
                    merged: Vec::new(),
                    value: known.unchanged()?,
                    total: known.total(),
                })
            }));
        }
        (self.staged.expired, self.staged.refreshed) = (expired, refreshed);
    }

    /// The metric that a series counts for; `None` of overflow series.
    fn counted_metric(&self, identity: &[u8]) -> Option<u64> {
        let (name, source) = identity::name_and_source(identity)?;
        (source != OVERFLOW_SOURCE).then(|| self.hasher.hash_one(name))
    }

    fn insert(&mut self, identity: Arc<[u8]>, known: Known) {
        if let Some(metric) = self.counted_metric(&identity)
            && !self.known.contains_key(&identity)
        {
            self.counted += 1;
            *self.of_metric.entry(metric).or_default() += 1;
        }
        self.known.insert(identity, known);
    }
}

/// Puts a measurement into an overflow series; nothing of it is left.
fn fold(
    overflow: &mut BTreeMap<Vec<u8>, Measurement>,
    identity: Vec<u8>,
    series: &Arc<SeriesKey>,
    measurement: &mut Measurement,
) {
    match overflow.entry(identity) {
        Entry::Occupied(mut present) => join(&mut present.get_mut().value, &measurement.value),
        Entry::Vacant(place) => {
            let value = std::mem::replace(&mut measurement.value, Value::Counter { delta: 0.0 });
            let merged = std::mem::take(&mut measurement.merged);
            place.insert(Measurement { series: Arc::clone(series), merged, value, total: None });
        }
    }
}

/// Counts a series for its metric, or for others if too many metrics are counted already.
fn note(overflowed: &mut BTreeMap<String, u64>, name: &str) {
    let is_counted = overflowed.len() < OFFENDERS_MAX || overflowed.contains_key(name);
    *overflowed.entry(if is_counted { name } else { "others" }.to_owned()).or_default() += 1;
}

#[cfg(test)]
mod tests;
