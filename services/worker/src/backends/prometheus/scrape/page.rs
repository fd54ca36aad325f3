//! What is served: families in the order of their names, with the last total of each series.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;

use zibrato_core::kind::Kind;

use super::super::Settings;
use super::super::labels::Label;
use super::super::names::{Family, help};
use super::super::value::not_stale;
use super::body::Change;
use crate::ledger::identity;
use crate::measurement::{SeriesKey, TimerTotal, TotalValue};

/// All families.
#[derive(Debug, Default)]
pub(super) struct Page {
    families: BTreeMap<(String, Kind), Group>,
    /// How many families have each name.
    claims: HashMap<String, usize>,
}

/// The series of a family.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) family: Family,
    pub(super) help: String,
    /// The unit, if the name ends in it.
    pub(super) unit: Option<String>,
    /// By their labels as they are written between the braces.
    pub(super) series: BTreeMap<Box<str>, Shown>,
}

/// A series on the page.
#[derive(Debug)]
pub(super) struct Shown {
    identity: Box<[u8]>,
    pub(super) value: Number,
}

/// What a series has come to, in the unit of its family.
#[derive(Debug)]
pub(super) enum Number {
    /// Of a counter or a gauge.
    Plain(f64),
    /// Of a timer.
    Timer(Arc<TimerTotal>),
}

impl Page {
    /// Takes a change in.
    pub(super) fn apply(&mut self, change: Change, settings: &Settings) {
        let Change { identity, series, total } = change;
        let family = Family::of(&series);
        let labels = written(&settings.fixed.of(&series));
        let key = (family.name.clone(), family.kind);
        let Some(total) = total else {
            let Some(group) = self.families.get_mut(&key) else { return };
            if group.series.get(&*labels).is_some_and(|shown| *shown.identity == *identity) {
                group.series.remove(&*labels);
            }
            if group.series.is_empty() {
                self.families.remove(&key);
                self.release(&family);
            }
            return;
        };
        let value = match total {
            TotalValue::Counter(sum) => Number::Plain(family.unit.scale(sum)),
            TotalValue::Gauge(last) => Number::Plain(not_stale(family.unit.scale(last))),
            TotalValue::Timer(timer) => Number::Timer(timer),
        };
        let (help, unit) = (help(&series), family.known_unit().map(str::to_owned));
        if !self.families.contains_key(&key) {
            self.claim(&family);
        }
        let group = self.families.entry(key).or_insert_with(|| Group {
            family,
            help: help.clone(),
            unit: None,
            series: BTreeMap::new(),
        });
        // Of several metrics that become one family always the same one speaks for it.
        if help < group.help {
            group.help = help;
        }
        group.unit = group.unit.take().or(unit);
        let shown = Shown { identity: identity.into_boxed_slice(), value };
        match group.series.get_mut(&*labels) {
            Some(present) if present.identity < shown.identity => {}
            Some(present) => *present = shown,
            None => _ = group.series.insert(labels.into_boxed_str(), shown),
        }
    }

    /// Families in the order of their names, but those that would have a name of one before.
    pub(super) fn groups(&self) -> impl Iterator<Item = &Group> {
        let mut shown = HashSet::new();
        self.families.values().filter(move |group| {
            let claims = group.family.claims();
            if !claims.iter().any(|name| self.claims.get(name).is_some_and(|families| *families > 1)) {
                return true;
            }
            let is_free = claims.iter().all(|name| !shown.contains(name));
            if is_free {
                shown.extend(claims);
            }
            is_free
        })
    }

    fn claim(&mut self, family: &Family) {
        for name in family.claims() {
            let families = self.claims.entry(name.clone()).or_default();
            *families += 1;
            if *families > 1 {
                let (family, kind) = (&family.name, family.kind.as_str());
                tracing::warn!(
                    family,
                    kind,
                    name,
                    "two metrics of different kinds have the same name for Prometheus; one of them is not shown"
                );
            }
        }
    }

    fn release(&mut self, family: &Family) {
        for name in family.claims() {
            if let Some(families) = self.claims.get_mut(&name) {
                *families -= 1;
                if *families == 0 {
                    self.claims.remove(&name);
                }
            }
        }
    }
}

impl Group {
    /// Whether all totals are such that a counter may have them. A page with one that has not would be refused as a
    /// whole by strict readers.
    pub(super) fn is_counter(&self) -> bool {
        let is_negative = |shown: &Shown| matches!(shown.value, Number::Plain(value) if value < 0.0);
        self.family.kind == Kind::Counter && !self.series.values().any(is_negative)
    }
}

impl Shown {
    /// Its series.
    pub(super) fn series(&self) -> Option<SeriesKey> {
        identity::read(&self.identity)
    }
}

/// Labels as they stand between braces.
fn written(labels: &[Label<'_>]) -> String {
    let mut text = String::new();
    for (at, (name, value)) in labels.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{}{name}=\"", if at == 0 { "" } else { "," });
        for char in value.chars() {
            match char {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                _ => text.push(char),
            }
        }
        text.push('"');
    }
    text
}

#[cfg(test)]
mod tests;
