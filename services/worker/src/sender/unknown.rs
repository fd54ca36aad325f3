//! How often batches that are being sent may have been stored already.

use hashbrown::HashMap;

/// Batches with attempts whose outcome is unknown, until they are settled: no more than are sent at a time, and the parts
/// that they were cut into. Parts of a batch have what the whole had.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unknown(HashMap<String, u32>);

impl Unknown {
    /// Of a batch.
    pub(super) fn of(&self, id: &str) -> u32 {
        self.0.get(id).copied().unwrap_or(0)
    }

    /// Notes an attempt.
    pub(super) fn add(&mut self, id: &str) {
        let attempts = self.0.entry_ref(id).or_default();
        *attempts = attempts.saturating_add(1);
    }

    /// A batch becomes its parts.
    pub(super) fn split<'a>(&mut self, id: &str, parts: impl IntoIterator<Item = &'a str>) {
        if let Some(attempts) = self.0.remove(id) {
            self.0.extend(parts.into_iter().map(|part| (part.to_owned(), attempts)));
        }
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
    fn parts_have_what_the_whole_had_and_what_is_settled_is_forgotten() {
        let mut unknown = Unknown::default();
        assert_eq!(unknown.of("a"), 0);
        unknown.split("a", ["b", "c"]);
        assert_eq!(unknown.of("b"), 0);
        unknown.add("b");
        unknown.add("b");
        unknown.add("g");
        unknown.split("b", ["d", "e"]);
        unknown.add("d");
        unknown.split("d", ["f"]);
        assert_eq!(["b", "d", "e", "f", "g"].map(|id| unknown.of(id)), [0, 0, 2, 3, 1]);
        ["e", "f", "c"].iter().for_each(|id| unknown.forget(id));
        assert_eq!((unknown.of("f"), unknown.of("g"), unknown.0.len()), (0, 1, 1));
    }
}
