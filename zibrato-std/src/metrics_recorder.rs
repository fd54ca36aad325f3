//! What dependencies record with the `metrics` facade, taken into zibrato (feature `metrics`).

mod handles;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, SharedString, Unit};
use zibrato_core::kind::Kind;
use zibrato_core::level::Level;

use crate::add_only_map::AddOnlyMap;
use crate::publisher::overflow_name;
use crate::run_time::{MetricKind, Named, RUN_TIME_METRICS_MAX};

use handles::{CounterHandle, GaugeHandle, HistogramHandle};

/// A recorder for the [`metrics`] facade: what any dependency records with `counter!`, `gauge!` and
/// `histogram!` becomes counters, gauges and timers of this process.
///
/// ```
/// use std::time::Duration;
/// use zibrato_std::{Client, Level, MetricsRecorder};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::builder().source("doc").build()?;
/// MetricsRecorder::new().level("sqlx", Level::DEBUG).install()?;
///
/// // What follows is what dependencies do.
/// metrics::describe_histogram!("body", metrics::Unit::Bytes, "size of an answer");
/// metrics::counter!("requests", "route" => "/api").increment(4);
/// metrics::gauge!("sessions").increment(1.0);
/// metrics::histogram!("request.took").record(Duration::from_millis(2)); // a timer
/// metrics::histogram!("body").record(1_500.0); // a gauge, since bytes are no duration
///
/// let stats = client.shutdown(Duration::from_millis(300)).ok_or("no statistics")?;
/// assert_eq!((stats.accepted.counters, stats.accepted.gauges, stats.accepted.timers), (4, 2, 1));
/// # Ok(())
/// # }
/// ```
///
/// It can be installed before or after the client is built, and lives on when a client ends and another
/// starts. As with every other metric, what is recorded while no client runs counts for nobody.
///
/// # What becomes of a histogram
///
/// `metrics` has one kind of histogram, for numbers of anything; zibrato's distributions are of durations.
/// The unit decides:
///
/// | unit of the histogram | becomes |
/// |---|---|
/// | seconds, milliseconds, microseconds or nanoseconds | a timer with unit `s`; to the nanosecond below 26 days |
/// | none was described | a timer too: values are taken as seconds, which is what `metrics` makes of a `Duration`. The log says so once a name |
/// | any other, bytes for instance | a gauge with that unit: number of values, last, smallest and largest of each window; no sum and no distribution |
///
/// So bare numbers that nobody described, such as sizes, are read as so many seconds, and their sum is right
/// only up to 584 years between two flushes of a worker: 18 GB, were they bytes. Describe them at the start
/// of the program, for dependencies too: `metrics::describe_histogram!("body", Unit::Bytes, "")`.
///
/// The unit that counts is the one described when the first value of any histogram of that name is
/// recorded. One that comes later and differs is not followed, and the log says so once.
///
/// A value that a timer cannot hold (negative, NaN, infinite, or above 146 years) is counted by the counter
/// `zibrato.refused.histogram` with the histogram's name as the tag `name`, at the same level.
///
/// # Counters and gauges
///
/// A counter that is set with `absolute` grows by what the largest value so far grows, from 0; increments
/// come on top of it.
///
/// A gauge's `increment` and `decrement` start from 0, or from what it was set to, and each sets the
/// result, again where another thread was faster. They go on while the level is off, so that the next set
/// is right. Sets and steps that are not finite are refused and counted by the client
/// ([`LossReason::NotFinite`](crate::LossReason)), and change nothing.
///
/// # Names, labels, units
///
/// Names and labels become names and tags as [`Named`] says: bytes outside a class become `_`, and labels
/// beyond 8 are left out. Two metrics that differ in nothing else are one series then: counters and timers
/// add up, of gauges the last set counts. The unit of a counter or gauge is the one described before its
/// first use. Descriptions are not kept.
///
/// # Levels
///
/// The longest rule that fits the target (the module path, unless the caller gave another) says the level, else
/// [`default_level`](Self::default_level), else the metric's own level: `info`, unless its caller gave another.
///
/// # Limits
///
/// Metrics made here count towards [`RUN_TIME_METRICS_MAX`], beyond which overflow metrics take what is
/// recorded. As many keys are remembered for each kind. Counters and gauges of further keys share one handle
/// a level, so that `absolute` and steps mean little there; handles of further histograms are made anew at
/// each use. An allocator must not record through macros: the first use of a key allocates under a lock.
///
/// # Costs
///
/// Through a handle that is kept, the call of zibrato's own metric and a call through a trait object; a
/// macro without a kept handle looks its key up each time, without a lock. The first use of a key allocates
/// and takes locks. `ci/bench` measures them beside another recorder.
pub struct MetricsRecorder {
    /// Prefixes of targets, the longest first.
    rules: Vec<(String, Level)>,
    default_level: Option<Level>,
    counters: AddOnlyMap<Id, Counter>,
    gauges: AddOnlyMap<Id, Gauge>,
    histograms: AddOnlyMap<Id, Histogram>,
    units: Arc<Units>,
}

/// A process has one recorder of `metrics`, and another one came first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "a recorder of `metrics` is installed in this process already: install one, and before anything records"
)]
pub struct AlreadyInstalled;

/// What tells handles apart: one key may be used by targets of several levels.
type Id = (Key, Level);

impl MetricsRecorder {
    /// A recorder without rules.
    #[must_use]
    pub fn new() -> Self {
        Self {
            rules: Vec::new(),
            default_level: None,
            counters: AddOnlyMap::new(),
            gauges: AddOnlyMap::new(),
            histograms: AddOnlyMap::new(),
            units: Arc::default(),
        }
    }

    /// The level of metrics whose target is `target` or below it: `hyper` fits `hyper` and `hyper::client`, not
    /// `hyper_util`. The longest that fits counts.
    #[must_use]
    pub fn level(mut self, target: &str, level: Level) -> Self {
        self.rules.retain(|(known, _)| known != target);
        self.rules.push((target.to_owned(), level));
        self.rules.sort_by_key(|(target, _)| std::cmp::Reverse(target.len()));
        self
    }

    /// The level of metrics that no rule fits, whatever level their callers gave.
    #[must_use]
    pub fn default_level(mut self, level: Level) -> Self {
        self.default_level = Some(level);
        self
    }

    /// Makes this the recorder of the process, for good.
    ///
    /// # Errors
    /// [`AlreadyInstalled`] if the process has one.
    pub fn install(self) -> Result<(), AlreadyInstalled> {
        metrics::set_global_recorder(self).map_err(|_| AlreadyInstalled)
    }

    fn level_of(&self, metadata: &Metadata<'_>) -> Level {
        let rule = self.rules.iter().find(|(target, _)| is_below(metadata.target(), target));
        let given = rule.map(|(_, level)| *level).or(self.default_level);
        given.unwrap_or_else(|| level_from(*metadata.level()))
    }
}

impl Default for MetricsRecorder {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MetricsRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rules, default_level, .. } = self;
        f.debug_struct("MetricsRecorder")
            .field("rules", rules)
            .field("default_level", default_level)
            .finish_non_exhaustive()
    }
}

impl metrics::Recorder for MetricsRecorder {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        self.units.describe(Kind::Counter, name.as_str(), unit);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        self.units.describe(Kind::Gauge, name.as_str(), unit);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        self.units.describe(Kind::Timer, name.as_str(), unit);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        let make = |key: &Key, level| {
            let unit = self.units.of(Kind::Counter, key.name()).unit;
            CounterHandle::new(named(key, level, unit)).into()
        };
        shared(&self.counters, Kind::Counter, key, self.level_of(metadata), make)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        let make = |key: &Key, level| {
            let unit = self.units.of(Kind::Gauge, key.name()).unit;
            GaugeHandle::new(named(key, level, unit)).into()
        };
        shared(&self.gauges, Kind::Gauge, key, self.level_of(metadata), make)
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        let make =
            |key: &Key, level| HistogramHandle::new(key.clone(), level, Arc::clone(&self.units)).into();
        let level = self.level_of(metadata);
        // An overflow handle for all would not know whose unit it has.
        remembered(&self.histograms, key, level, make).unwrap_or_else(|| make(key, level))
    }
}

/// The handle of a key, or beyond the limit the one that all further keys of the level share.
fn shared<H: Clone>(
    handles: &AddOnlyMap<Id, H>,
    kind: Kind,
    key: &Key,
    level: Level,
    make: impl Fn(&Key, Level) -> H,
) -> H {
    remembered(handles, key, level, &make).unwrap_or_else(|| {
        let overflow = Key::from_static_name(overflow_name(kind));
        handles.add(overflow.get_hash(), (overflow.clone(), level), || make(&overflow, level)).clone()
    })
}

/// The handle of a key, made at its first use; `None` for a new key beyond the limit.
#[inline]
fn remembered<H: Clone>(
    handles: &AddOnlyMap<Id, H>,
    key: &Key,
    level: Level,
    make: impl Fn(&Key, Level) -> H,
) -> Option<H> {
    let found = handles.find(key.get_hash(), |id| id.1 == level && id.0 == *key);
    if let Some(found) = found {
        return Some(found.clone());
    }
    let has_room = handles.len() < RUN_TIME_METRICS_MAX;
    has_room.then(|| handles.add(key.get_hash(), (key.clone(), level), || make(key, level)).clone())
}

/// The metric behind a key.
fn named<K: MetricKind>(key: &Key, level: Level, unit: Option<Unit>) -> &'static K {
    let named = Named::new(key.name(), level).unit(unit.map_or("", |unit| unit.as_canonical_label()));
    key.labels().fold(named, |named, label| named.tag(label.key(), label.value())).get()
}

/// Whether `target` is `rule` or something below it.
fn is_below(target: &str, rule: &str) -> bool {
    target
        .strip_prefix(rule)
        .is_some_and(|rest| !rest.starts_with(|next: char| next.is_alphanumeric() || next == '_'))
}

fn level_from(level: metrics::Level) -> Level {
    match level {
        metrics::Level::TRACE => Level::TRACE,
        metrics::Level::DEBUG => Level::DEBUG,
        metrics::Level::WARN => Level::WARNING,
        metrics::Level::ERROR => Level::ERROR,
        _ => Level::INFO,
    }
}

/// Units by kind and name; those of names beyond [`RUN_TIME_METRICS_MAX`] are not kept.
#[derive(Debug, Default)]
struct Units(Mutex<HashMap<(Kind, String), Described>>);

#[derive(Clone, Copy, Debug, Default)]
struct Described {
    unit: Option<Unit>,
    /// A metric was made with this unit.
    is_used: bool,
    /// The log said that another unit came too late.
    is_told: bool,
}

impl Units {
    fn describe(&self, kind: Kind, name: &str, unit: Option<Unit>) {
        let Some(unit) = unit else { return };
        let told = self.with(kind, name, |known| {
            if !known.is_used {
                known.unit = Some(unit);
            }
            let too_late = known.unit != Some(unit);
            too_late && !std::mem::replace(&mut known.is_told, true)
        });
        if told {
            let unit = unit.as_str();
            tracing::warn!(%kind, name, unit, "a unit was described after the metric was used: it is not followed");
        }
    }

    /// What was described up to the first call, for good, and whether this is it.
    fn of(&self, kind: Kind, name: &str) -> Use {
        self.with(kind, name, |known| {
            let is_first = !std::mem::replace(&mut known.is_used, true);
            Use { unit: known.unit, is_first }
        })
    }

    fn with<R>(&self, kind: Kind, name: &str, f: impl FnOnce(&mut Described) -> R) -> R {
        let mut units = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (kind, name.to_owned());
        if units.len() >= RUN_TIME_METRICS_MAX && !units.contains_key(&key) {
            // Used, so that the log does not name each of them.
            return f(&mut Described { is_used: true, is_told: true, ..Described::default() });
        }
        f(units.entry(key).or_default())
    }
}

/// The unit with which a metric is made.
struct Use {
    unit: Option<Unit>,
    /// No other metric of the name was made before.
    is_first: bool,
}

#[cfg(test)]
mod tests;
