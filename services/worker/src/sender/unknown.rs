//! How often the batches at the head of the queue may have been stored already.

/// Batches with attempts whose outcome is unknown, in the order of the queue.
///
/// Parts of a batch have what the whole had. A batch that is not at the head any more is forgotten, so this holds no
/// more than the head and the parts that wait behind it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unknown(Vec<(String, u32)>);

impl Unknown {
    /// Of the batch that is at the head now; those that were before it are settled.
    pub(super) fn of_head(&mut self, id: &str) -> u32 {
        let place = self.0.iter().position(|(known, _)| known == id).unwrap_or(self.0.len());
        self.0.drain(..place);
        self.0.first().map_or(0, |(_, attempts)| *attempts)
    }

    /// Notes an attempt for the batch at the head.
    pub(super) fn add(&mut self, id: &str) {
        let attempts = self.of_head(id).saturating_add(1);
        self.0.splice(..self.0.len().min(1), [(id.to_owned(), attempts)]);
    }

    /// The batch at the head is split; its parts come behind those of a batch that both were part of.
    pub(super) fn split<'a>(&mut self, id: &str, parts: impl IntoIterator<Item = &'a str>) {
        let attempts = self.of_head(id);
        if attempts > 0 {
            self.0.remove(0);
            self.0.extend(parts.into_iter().map(|part| (part.to_owned(), attempts)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_what_the_whole_had_and_what_is_settled_is_forgotten() {
        let mut unknown = Unknown::default();
        assert_eq!(unknown.of_head("a"), 0);
        unknown.split("a", ["b", "c"]);
        assert_eq!(unknown.of_head("b"), 0);
        unknown.add("b");
        unknown.add("b");
        unknown.split("b", ["d", "e"]);
        unknown.add("d");
        unknown.split("d", ["f"]);
        assert_eq!((unknown.of_head("e"), unknown.of_head("e")), (2, 2));
        assert_eq!((unknown.of_head("f"), unknown.0.len()), (3, 1));
        assert_eq!((unknown.of_head("c"), unknown.0.len()), (0, 0));
        assert_eq!(unknown.of_head("f"), 0, "it was settled");
    }
}
