//! Levels: the labels that workers subscribe to.

use core::fmt;

use crate::text::Field;

/// A label by which workers select what they receive, and when its metrics are on.
///
/// Two levels with the same label are the same level to a worker. Whether a metric is on demand is
/// decided by the level it was declared with.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Level {
    label: &'static str,
    on_demand: bool,
}

impl Level {
    /// `trace`, on demand.
    pub const TRACE: Self = Self::new("trace").on_demand();
    /// `debug`, on demand.
    pub const DEBUG: Self = Self::new("debug").on_demand();
    /// `info`, always on.
    pub const INFO: Self = Self::new("info");
    /// `warning`, always on.
    pub const WARNING: Self = Self::new("warning");
    /// `error`, always on.
    pub const ERROR: Self = Self::new("error");
    /// `critical`, always on.
    pub const CRITICAL: Self = Self::new("critical");

    /// A level that is on as long as a client runs.
    ///
    /// # Panics
    /// If the label is empty, longer than 32 bytes, or has a control character, `|` or `,`: in a
    /// static that is a compile error. For a label made at run time use [`Level::try_new`].
    #[must_use]
    pub const fn new(label: &'static str) -> Self {
        assert!(
            Field::Level.accepts(label),
            "level: accepted are 1 to 32 bytes without control characters, '|' or ','"
        );
        Self { label, on_demand: false }
    }

    /// As [`Level::new`], for a label that is not known when compiling.
    ///
    /// # Errors
    /// [`TextError`](crate::text::TextError) if the label is not accepted.
    pub const fn try_new(label: &'static str) -> Result<Self, crate::text::TextError> {
        match Field::Level.check(label) {
            Ok(()) => Ok(Self { label, on_demand: false }),
            Err(error) => Err(error),
        }
    }

    /// The predefined level with this label, or a new always level.
    ///
    /// This is what the attributes `#[count_me]` and `#[time_me]` do with `level = "…"`, so that
    /// `"debug"` is on demand there too.
    ///
    /// # Panics
    /// As [`Level::new`].
    #[must_use]
    pub const fn named(label: &'static str) -> Self {
        let on_demand = str_eq(label, "debug") || str_eq(label, "trace");
        let level = Self::new(label);
        if on_demand { level.on_demand() } else { level }
    }

    /// The same level, on only while somebody subscribes to it (and for the hold after that).
    #[must_use]
    pub const fn on_demand(self) -> Self {
        Self { label: self.label, on_demand: true }
    }

    /// The label.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        self.label
    }

    /// Whether both have the same label, and so are the same level to a worker.
    pub(crate) const fn has_label_of(&self, other: &Self) -> bool {
        str_eq(self.label, other.label)
    }

    /// Whether this level is on only while somebody subscribes to it.
    #[must_use]
    pub const fn is_on_demand(&self) -> bool {
        self.on_demand
    }
}

impl PartialEq for Level {
    fn eq(&self, other: &Self) -> bool {
        self.label == other.label
    }
}

impl Eq for Level {}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label)
    }
}

const fn str_eq(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use std::prelude::v1::*;

    use super::*;

    #[test]
    fn debug_and_trace_are_on_demand_by_any_way_of_naming_them() {
        assert!(Level::DEBUG.is_on_demand() && Level::TRACE.is_on_demand());
        assert!(Level::named("debug").is_on_demand() && Level::named("trace").is_on_demand());
        for always in [Level::INFO, Level::WARNING, Level::ERROR, Level::CRITICAL, Level::named("audit")] {
            assert!(!always.is_on_demand(), "{always}");
        }
    }

    #[test]
    fn levels_are_equal_by_label() {
        assert_eq!(Level::new("debug"), Level::DEBUG);
        assert_ne!(Level::new("information"), Level::INFO);
    }

    #[test]
    fn a_bad_label_is_an_error_at_run_time() {
        assert!(Level::try_new("a|b").is_err());
        assert!(Level::try_new("").is_err());
        assert_eq!(Level::try_new("audit").unwrap().to_string(), "audit");
    }
}
