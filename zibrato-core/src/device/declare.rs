//! What a metric is, apart from its words: in flash, since nothing of it changes.

use crate::level::Level;
use crate::limits::TAGS_MAX;
use crate::link::{BODY_BYTES_MAX, Form, LEVELS_MAX};

use crate::text::{Field, Tag, check_tags};

use super::cell::Cell;

/// What a metric is.
///
/// Its texts go out in one frame of the link, which bounds them: together at most 235 bytes, and three less for each tag.
#[derive(Clone, Copy, Debug)]
pub struct Descriptor {
    pub(crate) form: Form,
    pub(crate) level: Level,
    pub(crate) name: &'static str,
    pub(crate) more: More,
}

/// What few metrics have.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct More {
    pub(crate) source: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) tags: &'static [Tag],
}

impl Descriptor {
    /// A metric without source, unit and tags.
    ///
    /// # Panics
    /// If the name is not 1 to 255 of `A-Za-z0-9.:_-`: in a static that is a compile error.
    #[must_use]
    pub const fn new(form: Form, name: &'static str, level: Level) -> Self {
        assert!(Field::Name.accepts(name), "metric name: accepted are 1 to 255 of A-Z a-z 0-9 . : _ -");
        Self { form, level, name, more: More { source: "", unit: "", tags: &[] } }.checked()
    }

    /// The same with a source of its own instead of the device's.
    ///
    /// # Panics
    /// If the source is not 1 to 255 of `A-Za-z0-9.:_-`.
    #[must_use]
    pub const fn source(mut self, source: &'static str) -> Self {
        assert!(Field::Source.accepts(source), "source: accepted are 1 to 255 of A-Z a-z 0-9 . : _ -");
        self.more.source = source;
        self.checked()
    }

    /// The same with a unit.
    ///
    /// # Panics
    /// If the unit is longer than 32 bytes or has a control character.
    #[must_use]
    pub const fn unit(mut self, unit: &'static str) -> Self {
        assert!(Field::Unit.accepts(unit), "unit: accepted are at most 32 bytes without control characters");
        self.more.unit = unit;
        self.checked()
    }

    /// The same with tags: at most 8, in the order of their keys, each once.
    ///
    /// # Panics
    /// If a tag is not accepted, or they are not in order.
    #[must_use]
    pub const fn tags(mut self, tags: &'static [Tag]) -> Self {
        check_tags(tags);
        let mut at = 1;
        while at < tags.len() {
            assert!(
                is_before(tags[at - 1].0, tags[at].0),
                "tags: accepted is the order of their keys, each once"
            );
            at += 1;
        }
        self.more.tags = tags;
        self.checked()
    }

    /// What few metrics have, for a static of its own.
    #[doc(hidden)]
    #[must_use]
    pub const fn more(&self) -> More {
        self.more
    }

    /// Refuses what does not fit a frame.
    const fn checked(self) -> Self {
        assert!(
            self.body_bytes() <= BODY_BYTES_MAX,
            "metric: its texts and tags together do not fit a frame of the link"
        );
        self
    }

    /// The most bytes that a descriptor frame has with it.
    const fn body_bytes(&self) -> usize {
        // Id, form, level number, flags, number of tags; two bytes of length for the name and the source.
        let mut bytes = 3 + 1 + 1 + 1 + 1;
        bytes += 1
            + self.level.label().len()
            + 2
            + self.name.len()
            + 2
            + self.more.source.len()
            + 1
            + self.more.unit.len();
        let mut at = 0;
        while at < self.more.tags.len() && at < TAGS_MAX {
            bytes += 1 + self.more.tags[at].0.len() + 2 + self.more.tags[at].1.len();
            at += 1;
        }
        bytes
    }
}

/// Whether `a` stands before `b`, byte for byte.
const fn is_before(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut at = 0;
    while at < a.len() && at < b.len() {
        if a[at] != b[at] {
            return a[at] < b[at];
        }
        at += 1;
    }
    a.len() < b.len()
}

/// What a gauge of a device may be set to.
pub trait GaugeValue: Copy {
    /// How it goes over the link.
    const FORM: Form;

    /// The 32 bits that stand for it.
    fn to_bits(self) -> u32;
}

impl GaugeValue for i32 {
    const FORM: Form = Form::Whole;

    #[inline(always)]
    fn to_bits(self) -> u32 {
        self.cast_unsigned()
    }
}

impl GaugeValue for f32 {
    const FORM: Form = Form::Float;

    #[inline(always)]
    fn to_bits(self) -> u32 {
        self.to_bits()
    }
}

/// For code that is to run on hosts too: kept as the nearest `f32`.
impl GaugeValue for f64 {
    const FORM: Form = Form::Float;

    #[inline(always)]
    fn to_bits(self) -> u32 {
        (self as f32).to_bits()
    }
}

/// A metric in the list that [`crate::metrics!`] makes: all that the link says of it, and its cell.
#[derive(Clone, Copy)]
pub struct Item {
    pub(crate) level: &'static Level,
    pub(crate) name: &'static str,
    /// What few metrics have.
    pub(crate) more: Option<&'static More>,
    pub(crate) form: Form,
    /// Its level's bit in a mask: in the order in which levels first appear in the list.
    pub(crate) level_number: u8,
    pub(crate) cell: &'static dyn Cell,
}

impl Item {
    pub(super) const fn new(
        descriptor: &'static Descriptor,
        level: &'static Level,
        more: &'static More,
        cell: &'static dyn Cell,
    ) -> Self {
        let is_bare = more.source.is_empty() && more.unit.is_empty() && more.tags.is_empty();
        let more = if is_bare { None } else { Some(more) };
        Self { level, name: descriptor.name, more, form: descriptor.form, level_number: 0, cell }
    }
}

// By hand: a cell's own would come with every list into flash.
impl core::fmt::Debug for Item {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Item").field("name", &self.name).field("form", &self.form).finish_non_exhaustive()
    }
}

/// Numbers the levels of a list, and refuses one that a link could not number; called by [`crate::metrics!`] when compiling.
#[doc(hidden)]
#[must_use]
pub const fn numbered<const N: usize>(mut items: [Item; N]) -> [Item; N] {
    // An id, shifted by its form, is a varint of u32, and the hello's number of metrics one of u16.
    assert!(N <= u16::MAX as usize, "metrics: accepted are at most 65535");
    let mut levels = 0;
    let mut at = 0;
    while at < N {
        let mut before = 0;
        while before < at && !items[before].level.has_label_of(items[at].level) {
            before += 1;
        }
        if before < at {
            items[at].level_number = items[before].level_number;
        } else {
            assert!(levels < LEVELS_MAX, "metrics: accepted are at most 32 levels");
            items[at].level_number = levels as u8;
            levels += 1;
        }
        at += 1;
    }
    items
}

/// The type of a metric, which knows its cell.
#[doc(hidden)]
#[macro_export]
macro_rules! place {
    ($visibility:vis $name:ident, $cell:ty, $level:expr) => {
        #[doc(hidden)]
        #[allow(non_camel_case_types, missing_docs, unreachable_pub, clippy::upper_case_acronyms)]
        #[derive(Clone, Copy, Debug)]
        $visibility struct $name {}

        impl $name {
            #[inline(always)]
            const fn cell() -> &'static $cell {
                static CELL: $cell = <$cell>::new();
                &CELL
            }
        }

        impl $crate::device::Place<$cell> for $name {
            const GATED: bool = $level.is_on_demand();

            #[inline(always)]
            fn cell(self) -> &'static $cell {
                $name::cell()
            }
        }
    };
}

/// Declares a counter that every context may count with, as two statics: its words, and all else, in flash.
///
/// ```
/// # use zibrato_core::{counter, level::Level};
/// counter!(static FRAMES = "can.rx_frames", Level::INFO);
/// counter!(pub static BYTES = "can.rx_bytes", Level::INFO, unit = "B", tags = &[("bus", "0")]);
/// FRAMES.add(1);
/// ```
#[macro_export]
macro_rules! counter {
    ($(#[$attribute:meta])* $visibility:vis static $name:ident = $text:expr, $level:expr $(, $key:ident = $value:expr)* $(,)?) => {
        $(#[$attribute])*
        $visibility static $name: $crate::device::Counter<$crate::device::At<$name, $crate::device::CounterCell>> = {
            const DESCRIPTOR: $crate::device::Descriptor =
                $crate::device::Descriptor::new($crate::link::Form::Counter, $text, $level)$(.$key($value))*;
            let at = $crate::device::At::new($name {}, $name::cell(), &$level, const { &DESCRIPTOR.more() });
            $crate::device::Counter::declare(DESCRIPTOR, at)
        };
        $crate::place!($visibility $name, $crate::device::CounterCell, $level);
    };
}

/// Declares a gauge of `i32` or `f32` that every context may set; see [`counter!`](crate::counter).
///
/// ```
/// # use zibrato_core::{gauge, level::Level};
/// gauge!(static DEPTH: i32 = "queue.depth", Level::INFO);
/// gauge!(static CURRENT: f32 = "motor.current", Level::INFO, unit = "A");
/// DEPTH.set(-3);
/// CURRENT.set(1.5);
/// ```
#[macro_export]
macro_rules! gauge {
    ($(#[$attribute:meta])* $visibility:vis static $name:ident: $type:ty = $text:expr, $level:expr $(, $key:ident = $value:expr)* $(,)?) => {
        $(#[$attribute])*
        $visibility static $name: $crate::device::Gauge<$type, $crate::device::At<$name, $crate::device::GaugeCell>> = {
            const DESCRIPTOR: $crate::device::Descriptor =
                $crate::device::Descriptor::new(<$type as $crate::device::GaugeValue>::FORM, $text, $level)$(.$key($value))*;
            let at = $crate::device::At::new($name {}, $name::cell(), &$level, const { &DESCRIPTOR.more() });
            $crate::device::Gauge::declare(DESCRIPTOR, at)
        };
        $crate::place!($visibility $name, $crate::device::GaugeCell, $level);
    };
}

/// Declares a timer that every context may record with; see [`counter!`](crate::counter). `buckets = N`, which comes
/// first, keeps a distribution: the first `N` of [`bucket_of`](crate::link::bucket_of), 4 bytes each; 124 are all. Of fewer
/// the last one takes all that is longer as well, and the gateway places that as if it were no longer.
///
/// ```
/// # use zibrato_core::{timer, level::Level};
/// timer!(static ISR = "motor.foc_isr", Level::INFO);
/// timer!(static LOOP = "ctrl.loop", Level::DEBUG, buckets = 80, unit = "s");
/// ISR.record(1_450);
/// ```
#[macro_export]
macro_rules! timer {
    ($(#[$attribute:meta])* $visibility:vis static $name:ident = $text:expr, $level:expr, buckets = $buckets:expr $(, $key:ident = $value:expr)* $(,)?) => {
        $(#[$attribute])*
        $visibility static $name: $crate::device::Timer<
            { $buckets }, $crate::device::At<$name, $crate::device::TimerCell<{ $buckets }>>,
        > = {
            const DESCRIPTOR: $crate::device::Descriptor =
                $crate::device::Descriptor::new($crate::link::Form::of_timer($buckets), $text, $level)$(.$key($value))*;
            let at = $crate::device::At::new($name {}, $name::cell(), &$level, const { &DESCRIPTOR.more() });
            $crate::device::Timer::declare(DESCRIPTOR, at)
        };
        $crate::place!($visibility $name, $crate::device::TimerCell<{ $buckets }>, $level);
    };
    ($(#[$attribute:meta])* $visibility:vis static $name:ident = $text:expr, $level:expr $(, $key:ident = $value:expr)* $(,)?) => {
        $crate::timer!($(#[$attribute])* $visibility static $name = $text, $level, buckets = 0 $(, $key = $value)*);
    };
}

/// Declares a counter for the one context that takes it; see [`counter!`](crate::counter).
///
/// ```
/// # use zibrato_core::{local_counter, level::Level};
/// local_counter!(static TURNS = "main.turns", Level::INFO);
/// let mut turns = TURNS.take().unwrap();
/// turns.add(1);
/// assert!(TURNS.take().is_none());
/// ```
///
/// It has no `add` of its own, and what was taken cannot be shared:
/// ```compile_fail,E0599
/// # use zibrato_core::{local_counter, level::Level};
/// # local_counter!(static TURNS = "main.turns", Level::INFO);
/// TURNS.add(1);
/// ```
/// ```compile_fail,E0277
/// # use zibrato_core::{local_counter, level::Level};
/// # local_counter!(static TURNS = "main.turns", Level::INFO);
/// fn share<T: Sync>(_: T) {}
/// share(TURNS.take().unwrap());
/// ```
#[macro_export]
macro_rules! local_counter {
    ($(#[$attribute:meta])* $visibility:vis static $name:ident = $text:expr, $level:expr $(, $key:ident = $value:expr)* $(,)?) => {
        $(#[$attribute])*
        $visibility static $name: $crate::device::LocalCounter<$name> = {
            const DESCRIPTOR: $crate::device::Descriptor =
                $crate::device::Descriptor::new($crate::link::Form::Counter, $text, $level)$(.$key($value))*;
            let at = $crate::device::At::new($name {}, $name::cell(), &$level, const { &DESCRIPTOR.more() });
            $crate::device::LocalCounter::declare(DESCRIPTOR, at)
        };
        $crate::place!($visibility $name, $crate::device::CounterCell, $level);
    };
}

/// Declares a gauge for the one context that takes it; see [`gauge!`](crate::gauge).
#[macro_export]
macro_rules! local_gauge {
    ($(#[$attribute:meta])* $visibility:vis static $name:ident: $type:ty = $text:expr, $level:expr $(, $key:ident = $value:expr)* $(,)?) => {
        $(#[$attribute])*
        $visibility static $name: $crate::device::LocalGauge<$type, $name> = {
            const DESCRIPTOR: $crate::device::Descriptor =
                $crate::device::Descriptor::new(<$type as $crate::device::GaugeValue>::FORM, $text, $level)$(.$key($value))*;
            let at = $crate::device::At::new($name {}, $name::cell(), &$level, const { &DESCRIPTOR.more() });
            $crate::device::LocalGauge::declare(DESCRIPTOR, at)
        };
        $crate::place!($visibility $name, $crate::device::GaugeCell, $level);
    };
}

/// Declares a timer for the one context that takes it; see [`timer!`](crate::timer).
#[macro_export]
macro_rules! local_timer {
    ($(#[$attribute:meta])* $visibility:vis static $name:ident = $text:expr, $level:expr, buckets = $buckets:expr $(, $key:ident = $value:expr)* $(,)?) => {
        $(#[$attribute])*
        $visibility static $name: $crate::device::LocalTimer<{ $buckets }, $name> = {
            const DESCRIPTOR: $crate::device::Descriptor =
                $crate::device::Descriptor::new($crate::link::Form::of_timer($buckets), $text, $level)$(.$key($value))*;
            let at = $crate::device::At::new($name {}, $name::cell(), &$level, const { &DESCRIPTOR.more() });
            $crate::device::LocalTimer::declare(DESCRIPTOR, at)
        };
        $crate::place!($visibility $name, $crate::device::TimerCell<{ $buckets }>, $level);
    };
    ($(#[$attribute:meta])* $visibility:vis static $name:ident = $text:expr, $level:expr $(, $key:ident = $value:expr)* $(,)?) => {
        $crate::local_timer!($(#[$attribute])* $visibility static $name = $text, $level, buckets = 0 $(, $key = $value)*);
    };
}

/// The list of a device's metrics, in flash; a metric's place is its id on the link.
///
/// ```
/// # use zibrato_core::{counter, metrics, level::Level, device::Item};
/// # counter!(static A = "a", Level::INFO);
/// # counter!(static B = "b", Level::INFO);
/// static METRICS: [Item; 2] = metrics![A, B];
/// ```
#[macro_export]
macro_rules! metrics {
    ($($name:path),* $(,)?) => {
        $crate::device::numbered([$($name.item()),*])
    };
}
