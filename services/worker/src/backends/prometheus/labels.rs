//! Labels of series: those that all have, and the tags.

use std::borrow::Cow;

use super::names::spell;
use crate::measurement::SeriesKey;

/// Name and value of a label.
pub(super) type Label<'a> = (Cow<'a, str>, Cow<'a, str>);

/// What stands before the name of a tag that would clash, as Prometheus itself does it.
const CLASH_PREFIX: &str = "exported_";
/// The label of a bucket's bound. Only buckets have it, which is how points of a body are told apart.
pub(super) const BOUND: &str = "le";
const LEVEL: &str = "level";
const SOURCE: &str = "source";
/// Names that `--label` may not give.
pub(super) const RESERVED: [&str; 3] = [BOUND, LEVEL, SOURCE];

/// Labels that all series have alike, in the order of their names.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Fixed(Vec<(String, String)>);

impl Fixed {
    /// Labels with names that [`is_name`] accepts, none of them twice or in [`RESERVED`].
    pub(super) fn new(mut labels: Vec<(String, String)>) -> Self {
        labels.sort_unstable();
        Self(labels)
    }

    /// All labels of a series but its name, in the order of their names. An empty value is one that is not there, as
    /// Prometheus has it.
    pub(super) fn of<'a>(&'a self, series: &'a SeriesKey) -> Vec<Label<'a>> {
        let borrowed = |name: &'a str, value: &'a str| (Cow::Borrowed(name), Cow::Borrowed(value));
        let mut labels: Vec<Label<'_>> = Vec::with_capacity(self.0.len() + 2 + series.tags.len());
        labels.extend(self.0.iter().map(|(name, value)| borrowed(name, value)));
        labels.extend([borrowed(LEVEL, &series.level), borrowed(SOURCE, &series.source)]);
        for (key, value) in &series.tags {
            let mut name = spell(key);
            while name == BOUND || name.starts_with("__") || labels.iter().any(|(taken, _)| *taken == name) {
                name.insert_str(0, CLASH_PREFIX);
            }
            labels.push((name.into(), value.into()));
        }
        labels.retain(|(_, value)| !value.is_empty());
        labels.sort_unstable();
        labels
    }
}

/// Whether it is a name of a label that is not Prometheus' own.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.starts_with("__") && spell(text) == text
}

#[cfg(test)]
mod tests {
    use zibrato_core::kind::Kind;

    use super::*;

    fn labels(fixed: &[(&str, &str)], tags: &[(&str, &str)]) -> Vec<String> {
        let owned = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>()
        };
        let (level, name, source) = ("info".into(), "n".to_owned(), "web".into());
        let series =
            SeriesKey { level, kind: Kind::Gauge, name, source, unit: String::new(), tags: owned(tags) };
        let fixed = Fixed::new(owned(fixed));
        let all = fixed.of(&series);
        all.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    #[test]
    fn tags_become_labels_in_the_order_of_their_names() {
        let all =
            labels(&[("job", "z"), ("instance", "a")], &[("Zone", "e"), ("route.x", "/\"\\"), ("5xx", "y")]);
        assert_eq!(
            all,
            ["Zone=e", "_5xx=y", "instance=a", "job=z", "level=info", "route_x=/\"\\", "source=web"]
        );
    }

    #[test]
    fn a_tag_that_would_clash_gets_a_prefix() {
        let all = labels(
            &[("job", "z")],
            &[
                ("__name__", "n"),
                ("a.b", "1"),
                ("a_b", "2"),
                ("exported_job", "4"),
                ("job", "5"),
                ("le", "9"),
                ("level", "6"),
                ("source", "7"),
            ],
        );
        assert_eq!(
            all,
            [
                "a_b=1",
                "exported___name__=n",
                "exported_a_b=2",
                "exported_exported_job=5",
                "exported_job=4",
                "exported_le=9",
                "exported_level=6",
                "exported_source=7",
                "job=z",
                "level=info",
                "source=web"
            ]
        );
    }

    #[test]
    fn an_empty_value_is_no_label() {
        assert_eq!(labels(&[], &[("a", ""), ("b", "1")]), ["b=1", "level=info", "source=web"]);
    }

    #[test]
    fn names_of_labels_are_letters_digits_and_underscores() {
        for good in ["a", "_a", "A_9"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "9a", "a-b", "a.b", "__a", "é", "a:b"] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
