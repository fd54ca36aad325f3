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
