//! Metrics: declared once as statics, recorded from anywhere.
//!
//! ```
//! use zibrato_core::level::Level;
//! use zibrato_core::metric::{Counter, Gauge, Timer};
//!
//! static REQUESTS: Counter = Counter::new("web.requests", Level::INFO);
//! static DEPTH: Gauge = Gauge::new("queue.depth", Level::INFO).tags(&[("queue", "orders")]);
//! static LATENCY: Timer = Timer::new("web.latency", Level::DEBUG).source("frontend").unit("s");
//!
//! REQUESTS.add(4);
//! DEPTH.set(17.0);
//! let answer = LATENCY.measure(|| 6 * 7);
//! ```
//!
//! Each metric has one state word, which is gate and index in one load. Recording at an off level
//! costs that load and a branch.

#[cfg(not(loom))]
mod counter;
#[cfg(not(loom))]
mod gauge;
#[cfg(not(loom))]
mod sampled;
mod spill;
#[cfg(not(loom))]
mod timer;

#[cfg(not(loom))]
pub use counter::Counter;
#[cfg(not(loom))]
pub use gauge::Gauge;
#[cfg(not(loom))]
pub use sampled::{ONE_IN_MAX, ONE_IN_MIN, SampledGuard, SampledTimer};
pub use spill::{Spill, Spilled};
#[cfg(not(loom))]
pub use timer::Timer;
#[cfg(not(loom))]
pub use timer::TimerGuard;

use core::fmt;

use crate::kind::Kind;
use crate::level::Level;
use crate::sync::{AtomicU32, Ordering, const_fn};
use crate::text::Field;
pub use crate::text::Tag;

/// State word of a metric that is off: its records are not offered.
pub(crate) const OFF: u32 = 0;
/// State word of a timer or gauge that is on; that of a metric with cells is its index in the slabs.
pub(crate) const ON: u32 = 1;
/// State word before the first call; as a signed number it is negative.
pub(crate) const UNREGISTERED: u32 = u32::MAX;
/// [`Metric::slot`] of a metric that no client has met yet.
pub const NO_SLOT: u32 = u32::MAX;

/// What counter, gauge and timer have in common: who they are and whether they are on.
///
/// In this order it takes three cache lines, and the first has all that recording and draining read, and
/// nothing that recording writes.
#[repr(C)]
pub struct Metric {
    state: AtomicU32,
    slot: AtomicU32,
    kind: Kind,
    /// Of a timer that times one call in `n`: `n - 1`, `n` being a power of two; else 0.
    one_in_mask: u32,
    level: Level,
    pub(crate) link: crate::registry::Link,
    pub(crate) spill: Spill,
    name: &'static str,
    source: &'static str,
    unit: &'static str,
    tags: &'static [Tag],
}

impl Metric {
    const_fn! {
        pub(crate) fn new(kind: Kind, name: &'static str, level: Level) -> Self {
            assert!(Field::Name.accepts(name), "metric name: accepted are 1 to 255 of A-Z a-z 0-9 . : _ -");
            Self {
                state: AtomicU32::new(UNREGISTERED),
                slot: AtomicU32::new(NO_SLOT),
                spill: Spill::new(),
                link: crate::registry::Link::new(),
                kind,
                one_in_mask: 0,
                level,
                name,
                source: "",
                unit: "",
                tags: &[],
            }
        }
    }

    /// Counter, gauge or timer.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The level it was declared with.
    #[must_use]
    pub const fn level(&self) -> Level {
        self.level
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Its own source, or empty for the client's.
    #[must_use]
    pub const fn source(&self) -> &'static str {
        self.source
    }

    /// Its unit, or empty.
    #[must_use]
    pub const fn unit(&self) -> &'static str {
        self.unit
    }

    /// Its tags, as declared.
    #[must_use]
    pub const fn tags(&self) -> &'static [Tag] {
        self.tags
    }

    /// Whether it is a timer that counts all calls and times some: [`Timer::sampled`].
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.one_in_mask != 0
    }

    /// Whether threads count it in cells of their slabs.
    pub(crate) fn has_cells(&self) -> bool {
        self.kind == Kind::Counter || self.is_sampled()
    }

    /// Index of a counter or sampled timer in the slabs' cells, from 1; 0 before its first call, and of
    /// other metrics.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.link.index()
    }

    /// Measurements that could not go the ordinary way.
    #[must_use]
    pub const fn spill(&self) -> &Spill {
        &self.spill
    }

    /// A number that the running client keeps here; [`NO_SLOT`] if it has not met this metric.
    #[inline]
    #[must_use]
    pub fn slot(&self) -> u32 {
        self.slot.load(Ordering::Relaxed)
    }

    /// Stores the client's number.
    pub fn set_slot(&self, slot: u32) {
        self.slot.store(slot, Ordering::Relaxed);
    }

    #[inline(always)]
    pub(crate) fn state(&self) -> u32 {
        self.state.load(Ordering::Relaxed)
    }

    pub(crate) fn set_state(&self, state: u32) {
        self.state.store(state, Ordering::Relaxed);
    }
}

#[cfg(not(loom))]
impl Metric {
    /// Whether records of this metric are taken now.
    #[inline(always)]
    pub(crate) fn is_on(&'static self) -> bool {
        let state = self.state();
        if state == OFF {
            return false;
        }
        // One test gives both answers: the sign tells an unregistered metric.
        state.cast_signed() > 0 || self.is_on_after_registering()
    }

    #[cold]
    #[inline(never)]
    fn is_on_after_registering(&'static self) -> bool {
        crate::thread::register(self) != OFF
    }
}

impl fmt::Debug for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} at {}", self.kind, self.name, self.level)
    }
}

/// The `const` builders that all three kinds share.
#[cfg(not(loom))]
macro_rules! declare {
    ($kind:ident) => {
        impl $kind {
            /// Declares a metric at a level.
            ///
            /// # Panics
            /// If the name is not 1 to 255 of `A-Za-z0-9.:_-`: in a static that is a compile error.
            #[must_use]
            pub const fn new(name: &'static str, level: $crate::level::Level) -> Self {
                Self { metric: $crate::metric::Metric::new($crate::kind::Kind::$kind, name, level) }
            }

            /// The same metric with a source of its own instead of the client's.
            ///
            /// # Panics
            /// If the source is not 1 to 255 of `A-Za-z0-9.:_-`.
            #[must_use]
            pub const fn source(mut self, source: &'static str) -> Self {
                assert!(
                    $crate::text::Field::Source.accepts(source),
                    "source: accepted are 1 to 255 of A-Z a-z 0-9 . : _ -"
                );
                self.metric.source = source;
                self
            }

            /// The same metric with a unit, for people and backends that show one.
            ///
            /// # Panics
            /// If the unit is longer than 32 bytes or has a control character.
            #[must_use]
            pub const fn unit(mut self, unit: &'static str) -> Self {
                assert!(
                    $crate::text::Field::Unit.accepts(unit),
                    "unit: accepted are at most 32 bytes without control characters"
                );
                self.metric.unit = unit;
                self
            }

            /// The same metric with tags: at most 8, keys of 1 to 64 of `A-Za-z0-9.:_-`, values of
            /// 1 to 255 bytes. Of two tags with one key the first counts.
            ///
            /// # Panics
            /// If a tag is not accepted.
            #[must_use]
            pub const fn tags(mut self, tags: &'static [$crate::metric::Tag]) -> Self {
                $crate::text::check_tags(tags);
                self.metric.tags = tags;
                self
            }

            /// What this has in common with the other kinds.
            #[must_use]
            pub const fn metric(&'static self) -> &'static $crate::metric::Metric {
                &self.metric
            }
        }
    };
}
#[cfg(not(loom))]
use declare;

#[cfg(all(test, not(loom)))]
mod tests;
