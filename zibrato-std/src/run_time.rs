//! Metrics whose names or tags are known only at run time.
//!
//! Each distinct one is made once, kept for the life of the process, and shared by all who ask for
//! it. Beyond [`RUN_TIME_METRICS_MAX`] an overflow metric of the kind and level takes the records,
//! so that totals stay right and memory stays flat.

use std::any::Any;
use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::{Mutex, PoisonError};

use zibrato_core::kind::Kind;
use zibrato_core::level::Level;
use zibrato_core::limits::TAGS_MAX;
use zibrato_core::metric::{Counter, Gauge, Tag, Timer};
use zibrato_core::text::{Field, is_name_byte};

use crate::publisher::overflow_name;

/// Most metrics made at run time in one process, overflow metrics not counted.
pub const RUN_TIME_METRICS_MAX: usize = 100_000;

/// A metric being named at run time: add source, unit and tags, then [`Named::get`] the handle.
///
/// ```no_run
/// # use zibrato_std::{Client, Level};
/// # let client = Client::builder().build().unwrap();
/// let hits = client.counter("route.hits", Level::INFO).source("edge").tag("route", "/api").get();
/// hits.add(1);
/// ```
///
/// Keep the handle where it is used often: `get` takes a lock and looks the metric up.
///
/// Text that is not accepted is made so: bytes outside a class become `_`, too long text is cut, an
/// empty name becomes `_`, and tags beyond 8 or with an empty key or value are left out.
#[derive(Clone, Debug)]
#[must_use = "call `get` for the handle"]
pub struct Named<K> {
    level: Level,
    name: String,
    source: String,
    unit: String,
    tags: Vec<(String, String)>,
    kind: PhantomData<K>,
}

/// A kind of metric that can be made at run time.
pub trait MetricKind: Any + Sync + Sized {
    #[doc(hidden)]
    const KIND: Kind;
    #[doc(hidden)]
    fn make(
        name: &'static str,
        level: Level,
        source: &'static str,
        unit: &'static str,
        tags: &'static [Tag],
    ) -> Self;
}

macro_rules! metric_kind {
    ($($kind:ident),*) => { $(
        impl MetricKind for $kind {
            const KIND: Kind = Kind::$kind;
            fn make(
                name: &'static str,
                level: Level,
                source: &'static str,
                unit: &'static str,
                tags: &'static [Tag],
            ) -> Self {
                let metric = Self::new(name, level).unit(unit).tags(tags);
                if source.is_empty() { metric } else { metric.source(source) }
            }
        }
    )* };
}
metric_kind!(Counter, Gauge, Timer);

type Key = (Kind, &'static str, String, String, Vec<(String, String)>);

static MADE: Mutex<Option<HashMap<Key, &'static (dyn Any + Sync)>>> = Mutex::new(None);

impl<K: MetricKind> Named<K> {
    pub(crate) fn new(name: &str, level: Level) -> Self {
        let name = if name.is_empty() { "_".to_owned() } else { to_class(Field::Name, name) };
        Self { level, name, source: String::new(), unit: String::new(), tags: Vec::new(), kind: PhantomData }
    }

    /// A source of its own instead of the client's; empty for the client's.
    pub fn source(mut self, source: &str) -> Self {
        self.source = to_class(Field::Source, source);
        self
    }

    /// A unit, for people and backends that show one.
    pub fn unit(mut self, unit: &str) -> Self {
        self.unit = to_printable(Field::Unit, unit);
        self
    }

    /// A tag; a second one with the same key replaces the first. A receiver that has no tags gets
    /// them as a part of the source, readable if the value is of `A-Za-z0-9_-`, else with a hash.
    pub fn tag(mut self, key: &str, value: &str) -> Self {
        let (key, value) = (to_class(Field::TagKey, key), to_printable(Field::TagValue, value));
        self.tags.retain(|(known, _)| *known != key);
        if !key.is_empty() && !value.is_empty() && self.tags.len() < TAGS_MAX {
            self.tags.push((key, value));
            self.tags.sort_unstable();
        }
        self
    }

    /// The handle: the same one for the same kind, level, name, source and tags.
    #[must_use]
    pub fn get(self) -> &'static K {
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        let made = made.get_or_insert_default();
        let key = (K::KIND, self.level.label(), self.name, self.source, self.tags);
        if let Some(found) = made.get(&key).and_then(|metric| (*metric as &dyn Any).downcast_ref()) {
            return found;
        }
        let key = if made.len() < RUN_TIME_METRICS_MAX {
            key
        } else {
            (K::KIND, key.1, overflow_name(K::KIND).to_owned(), String::new(), Vec::new())
        };
        let entry = made.entry(key);
        let (_, _, name, source, tags) = entry.key().clone();
        let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
        let metric = entry.or_insert_with(|| {
            let tags: Vec<Tag> = tags.into_iter().map(|(key, value)| (leak(key), leak(value))).collect();
            let tags: &'static [Tag] = Box::leak(tags.into_boxed_slice());
            Box::leak(Box::new(K::make(leak(name), self.level, leak(source), leak(self.unit), tags)))
        });
        match (*metric as &dyn Any).downcast_ref() {
            Some(metric) => metric,
            None => unreachable!("the kind is part of the key"),
        }
    }
}

/// Replaces what the class of names does not have, and cuts.
fn to_class(field: Field, text: &str) -> String {
    let class = |c: char| if u8::try_from(c).is_ok_and(is_name_byte) { c } else { '_' };
    text.chars().map(class).take(field.bytes_max()).collect()
}

/// Replaces control characters, and cuts at a character's end.
fn to_printable(field: Field, text: &str) -> String {
    let printable = text.chars().map(|c| if c.is_control() { '_' } else { c });
    let mut out = String::new();
    for c in printable {
        if out.len() + c.len_utf8() > field.bytes_max() {
            break;
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Named<Counter> {
        Named::new(name, Level::INFO)
    }

    #[test]
    fn the_same_series_is_the_same_handle() {
        let get = || named("r.same").source("s").tag("b", "2").tag("a", "1").get();
        assert!(std::ptr::eq(get(), get()));
        let other_order = named("r.same").source("s").tag("a", "1").tag("b", "2").get();
        assert!(std::ptr::eq(get(), other_order));
        assert!(!std::ptr::eq(get(), named("r.same").source("s").tag("a", "1").get()));
        let timer = Named::<Timer>::new("r.same", Level::INFO).get();
        assert_eq!(timer.metric().kind(), Kind::Timer);
    }

    #[test]
    fn texts_that_are_not_accepted_are_made_so() {
        let long = "é".repeat(300);
        let metric =
            named("a b|c").source("my host").unit("m\n").tag("k y", "/api\u{7}").tag("long", &long).get();
        let metric = metric.metric();
        assert_eq!((metric.name(), metric.source(), metric.unit()), ("a_b_c", "my_host", "m_"));
        assert_eq!(metric.tags()[0], ("k_y", "/api_"));
        assert_eq!(metric.tags()[1].1.len(), 254);
        assert_eq!(named("").get().metric().name(), "_");
    }

    #[test]
    fn tags_beyond_eight_and_empty_ones_are_left_out() {
        let mut many = named("r.tags").tag("", "x").tag("x", "");
        for i in 0..10 {
            many = many.tag(&format!("k{i}"), "v");
        }
        let tags = many.tag("k0", "replaced").get().metric().tags();
        assert_eq!((tags.len(), tags[0]), (8, ("k0", "replaced")));
    }
}
