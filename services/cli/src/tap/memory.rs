//! What was seen before: the state of each series, for the change since then, and who publishes.

use std::collections::HashMap;

use serde::Serialize;
use zibrato_core::frame::{Entry, Header, PublisherId, State};

use super::view::AboutView;

/// Most series whose state is remembered; those beyond are shown without a change.
const SERIES_MAX: usize = 100_000;
/// Most publishers whose names are remembered; those beyond are shown by their id in other than key frames.
const PUBLISHERS_MAX: usize = 10_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Memory {
    series: HashMap<(PublisherId, Box<[u8]>), Seen>,
    abouts: HashMap<PublisherId, AboutView>,
    scratch: Vec<u8>,
}

/// The newest state of a series.
#[derive(Clone, Copy, Debug)]
struct Seen {
    seq: u64,
    units: Change,
}

/// Units of a series: cumulative in a state, or the difference of two.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Change {
    Counter { sum: u64 },
    Gauge { sets: u64 },
    Timer { count: u64, sum_ns: u64 },
}

impl Change {
    fn of(state: &State<'_>) -> Self {
        match *state {
            State::Counter { sum } => Self::Counter { sum },
            State::Gauge { sets, .. } => Self::Gauge { sets },
            State::Timer { count, sum_ns, .. } => Self::Timer { count, sum_ns },
        }
    }

    /// The difference to an older state of the same series; all units wrap.
    fn since(self, older: Self) -> Option<Self> {
        match (self, older) {
            (Self::Counter { sum }, Self::Counter { sum: older }) => {
                Some(Self::Counter { sum: sum.wrapping_sub(older) })
            }
            (Self::Gauge { sets }, Self::Gauge { sets: older }) => {
                Some(Self::Gauge { sets: sets.wrapping_sub(older) })
            }
            (Self::Timer { count, sum_ns }, Self::Timer { count: count_then, sum_ns: sum_then }) => {
                let (count, sum_ns) = (count.wrapping_sub(count_then), sum_ns.wrapping_sub(sum_then));
                Some(Self::Timer { count, sum_ns })
            }
            // The kind is part of what makes a series.
            _ => None,
        }
    }
}

impl Memory {
    /// Notes who publishes, if the frame says so, and says who it is, if that is known.
    pub(super) fn about(&mut self, publisher: PublisherId, told: Option<AboutView>) -> Option<AboutView> {
        let Some(about) = told else { return self.abouts.get(&publisher).cloned() };
        if self.abouts.len() < PUBLISHERS_MAX || self.abouts.contains_key(&publisher) {
            self.abouts.insert(publisher, about.clone());
        }
        Some(about)
    }

    /// The change of a series since its newest state, which this one then is unless it is old.
    pub(super) fn change(
        &mut self,
        header: &Header,
        level: &str,
        source: &str,
        entry: &Entry<'_>,
    ) -> Option<Change> {
        self.write_identity(level, source, entry);
        let units = Change::of(&entry.state);
        let is_full = self.series.len() == SERIES_MAX;
        let key = (header.publisher, Box::from(&self.scratch[..]));
        match self.series.get_mut(&key) {
            Some(seen) if header.seq > seen.seq => {
                let change = units.since(seen.units);
                *seen = Seen { seq: header.seq, units };
                change
            }
            Some(_) => None,
            None => {
                if !is_full {
                    self.series.insert(key, Seen { seq: header.seq, units });
                }
                None
            }
        }
    }

    /// What makes a series, as bytes: no text of a frame has control characters.
    fn write_identity(&mut self, level: &str, source: &str, entry: &Entry<'_>) {
        self.scratch.clear();
        self.scratch.push(entry.state.kind().code());
        let tags = entry.tags.iter().flat_map(|(key, value)| [*key, *value]);
        for text in [level, entry.name, source].into_iter().chain(tags) {
            self.scratch.extend_from_slice(text.as_bytes());
            self.scratch.push(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(program: &str) -> AboutView {
        AboutView { program: program.to_owned(), host: String::new(), pid: 1, library: String::new() }
    }

    #[test]
    fn a_change_is_what_is_newer_and_of_the_same_series() {
        let mut memory = Memory::default();
        let mut change = |publisher, seq, level, source, name, sum| {
            let header = Header::new(PublisherId([publisher; 16]), seq);
            memory.change(&header, level, source, &Entry::new(name, State::Counter { sum }))
        };
        assert_eq!(change(1, 1, "info", "s", "n", 10), None);
        assert_eq!(change(1, 3, "info", "s", "n", 14), Some(Change::Counter { sum: 4 }));
        // A repeated and a late frame tell nothing new.
        assert_eq!(change(1, 3, "info", "s", "n", 14), None);
        assert_eq!(change(1, 2, "info", "s", "n", 12), None);
        assert_eq!(change(1, 4, "info", "s", "n", 3), Some(Change::Counter { sum: 3u64.wrapping_sub(14) }));
        for (publisher, level, source, name) in
            [(2, "info", "s", "n"), (1, "debug", "s", "n"), (1, "info", "t", "n"), (1, "info", "s", "m")]
        {
            assert_eq!(change(publisher, 9, level, source, name, 50), None);
        }
    }

    #[test]
    fn beyond_the_limits_nothing_more_is_remembered() {
        let mut memory = Memory::default();
        let id = |at: usize| PublisherId((at as u128).to_le_bytes());
        let mut change = |at, seq| {
            let entry = Entry::new("n", State::Counter { sum: seq });
            memory.change(&Header::new(id(at), seq), "info", "s", &entry)
        };
        (0..=SERIES_MAX).for_each(|at| assert_eq!(change(at, 1), None));
        assert!(change(SERIES_MAX - 1, 2).is_some() && change(SERIES_MAX, 2).is_none());
        for at in 0..=PUBLISHERS_MAX {
            assert_eq!(memory.about(id(at), Some(about("first"))), Some(about("first")));
        }
        assert_eq!(memory.about(id(PUBLISHERS_MAX), None), None);
        assert_eq!(memory.about(id(0), Some(about("renamed"))), Some(about("renamed")));
        assert_eq!(memory.about(id(0), None), Some(about("renamed")));
    }
}
