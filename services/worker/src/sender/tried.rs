//! What was tried with batches that are not settled.

use hashbrown::HashMap;

/// The attempts of a batch so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Attempts {
    /// All that failed.
    pub(super) failures: u32,
    /// Those that something between us and the store answered.
    pub(super) few: u32,
    /// Those that may have stored it.
    pub(super) unknown: u32,
}

/// Attempts by the ids of batches, until these are settled. Parts of a batch may have been stored as often as the whole.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tried(HashMap<String, Attempts>);

impl Tried {
    /// Of a batch.
    pub(super) fn of(&self, id: &str) -> Attempts {
        self.0.get(id).copied().unwrap_or_default()
    }

    /// The same, to note one more.
    pub(super) fn of_mut(&mut self, id: &str) -> &mut Attempts {
        self.0.entry_ref(id).or_default()
    }

    /// A batch becomes its parts.
    pub(super) fn split<'a>(&mut self, id: &str, parts: impl IntoIterator<Item = &'a str>) {
        let Some(Attempts { unknown: unknown @ 1.., .. }) = self.0.remove(id) else { return };
        let attempts = Attempts { unknown, ..Attempts::default() };
        self.0.extend(parts.into_iter().map(|part| (part.to_owned(), attempts)));
    }

    /// A batch is settled.
    pub(super) fn forget(&mut self, id: &str) {
        self.0.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_may_have_been_stored_as_often_as_the_whole_and_what_is_settled_is_forgotten() {
        let mut tried = Tried::default();
        tried.split("a", ["b", "c"]);
        *tried.of_mut("b") = Attempts { failures: 3, few: 1, unknown: 2 };
        tried.of_mut("g").failures = 1;
        tried.split("b", ["d", "e"]);
        tried.of_mut("d").unknown += 1;
        tried.split("d", ["f"]);
        tried.split("g", ["h"]);
        let unknown = ["b", "d", "e", "f", "g", "h"].map(|id| tried.of(id).unknown);
        assert_eq!((unknown, tried.of("e").failures), ([0, 0, 2, 3, 0, 0], 0));
        ["e", "f", "c"].iter().for_each(|id| tried.forget(id));
        assert!(tried.0.is_empty(), "{tried:?}");
    }
}
