//! Tags of a store that has tags of its own beside those of the metric.

use std::borrow::Cow;

/// The key under which a store gets a tag whose key may be one of `own`, which the store or we use ourselves and which do
/// not end in an underscore: an own key, alone or followed by underscores, gets one more underscore. So different keys
/// stay different.
#[must_use]
pub fn beside<'a>(key: &'a str, own: &[&str]) -> Cow<'a, str> {
    if own.contains(&key.trim_end_matches('_')) { Cow::Owned(format!("{key}_")) } else { Cow::Borrowed(key) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_are_taken_get_an_underscore_and_no_two_become_equal() {
        let keys = ["source", "source_", "source__", "sources", "_source", "Source", "_", "time", "a_"];
        let beside: Vec<_> = keys.iter().map(|key| beside(key, &["source", "time"])).collect();
        assert_eq!(
            beside,
            ["source_", "source__", "source___", "sources", "_source", "Source", "_", "time_", "a_"]
        );
    }
}
