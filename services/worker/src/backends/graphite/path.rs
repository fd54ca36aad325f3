//! The path of a series.

use std::borrow::Cow;
use std::fmt::Write as _;

use zibrato_core::text::Field;

use super::encode::reason;
use crate::measurement::SeriesKey;
use crate::tag_key::beside;

/// Longest node of a path, in bytes. A node is the name of a file or directory over there, where 255 is the end, and
/// `.wsp` follows the last one.
pub const NODE_BYTES_MAX: usize = 200;
/// Keys that a metric's own tag does not get: Graphite's `name`, and ours.
pub const OWN_KEYS: [&str; 3] = ["name", "source", "unit"];

const FNV_OFFSET: u32 = 0x811c_9dc5;
const FNV_PRIME: u32 = 0x0100_0193;
/// Bytes of `_` and eight hexadecimal digits.
const HASH_BYTES: usize = 9;

/// A path, in two parts between which the name of a number stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path {
    head: String,
    tail: String,
}

impl Path {
    /// The path of a series.
    ///
    /// # Errors
    ///
    /// The reason for which the series is left out.
    pub(super) fn of(series: &SeriesKey, tagged: bool) -> Result<Self, &'static str> {
        if !Field::Name.accepts(&series.name) {
            return Err(reason::BAD_NAME);
        }
        if !Field::Source.accepts(&series.source) {
            return Err(reason::BAD_SOURCE);
        }
        if !series.tags.iter().all(|(key, _)| Field::TagKey.accepts(key)) {
            return Err(reason::BAD_TAG);
        }
        let nodes: Vec<_> = series.name.split('.').map(node).collect();
        let (mut head, mut tail) = (nodes.join("."), String::new());
        if tagged {
            append_tags(&mut tail, series);
        } else {
            let tags = series.tags.iter().flat_map(|(key, value)| [&**key, value]);
            for text in [&*series.source].into_iter().chain(tags) {
                head.push('.');
                head.push_str(&node(text));
            }
        }
        Ok(Self { head, tail })
    }

    /// The path of one of its numbers; that of a gauge has no name.
    pub(super) fn of_number(&self, field: Option<&str>) -> String {
        let Self { head, tail } = self;
        match field {
            Some(field) => format!("{head}.{field}{tail}"),
            None => format!("{head}{tail}"),
        }
    }
}

fn append_tags(path: &mut String, series: &SeriesKey) {
    let mut tags: Vec<(Cow<'_, str>, &str)> =
        vec![("source".into(), &series.source), ("unit".into(), &series.unit)];
    tags.extend(series.tags.iter().map(|(key, value)| (beside(key, &OWN_KEYS), value.as_str())));
    // Carbon puts them in this order too.
    tags.sort_unstable();
    for (key, value) in tags.iter().filter(|(_, value)| !value.is_empty()) {
        let accepts = |char: char| char.is_ascii_graphic() && !matches!(char, ';' | '"' | '\'' | '\\');
        let mut value: String = value.chars().map(|char| if accepts(char) { char } else { '_' }).collect();
        if value.starts_with('~') {
            value.replace_range(..1, "_");
        }
        // Writing to a String cannot fail.
        let _ = write!(path, ";{key}={value}");
    }
}

/// A text as one node.
fn node(text: &str) -> String {
    let accepts = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-' | ':');
    let mut node: String = text.chars().map(|char| if accepts(char) { char } else { '_' }).collect();
    if node.is_empty() {
        node.push('_');
    }
    if node.len() > NODE_BYTES_MAX {
        // All of it is ASCII by now.
        node.truncate(NODE_BYTES_MAX - HASH_BYTES);
        let hash =
            text.bytes().fold(FNV_OFFSET, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(FNV_PRIME));
        let _ = write!(node, "_{hash:08x}");
    }
    node
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::test_support::counter;

    fn series(name: &str, source: &str, tags: &[(&str, &str)]) -> SeriesKey {
        let mut series = counter("info", name, source, 1.0).series;
        let tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Arc::make_mut(&mut series).tags = tags;
        Arc::unwrap_or_clone(series)
    }

    fn plain(name: &str, source: &str, tags: &[(&str, &str)]) -> String {
        Path::of(&series(name, source, tags), false).unwrap().of_number(None)
    }

    fn tagged(name: &str, source: &str, tags: &[(&str, &str)]) -> String {
        Path::of(&series(name, source, tags), true).unwrap().of_number(None)
    }

    #[test]
    fn a_path_is_name_source_and_tags_and_the_number_comes_last() {
        let path =
            Path::of(&series("web.hits", "a.example.org", &[("az", "e1"), ("route", "/api/é")]), false)
                .unwrap();
        assert_eq!(path.of_number(None), "web.hits.a_example_org.az.e1.route._api__");
        assert_eq!(path.of_number(Some("p99_9")), "web.hits.a_example_org.az.e1.route._api__.p99_9");
        assert_eq!(plain("a:b-c_d", "s", &[("k.l", "v")]), "a:b-c_d.s.k_l.v");
    }

    #[test]
    fn with_tags_they_follow_in_the_order_of_keys_and_the_number_stands_behind_the_name() {
        let path = Path::of(&series("web.hits", "a.b", &[("az", "e1"), ("zone", "x")]), true).unwrap();
        assert_eq!(path.of_number(None), "web.hits;az=e1;source=a.b;zone=x");
        assert_eq!(path.of_number(Some("count")), "web.hits.count;az=e1;source=a.b;zone=x");
        let mut bytes = series("a", "s", &[]);
        bytes.unit = "MiB".to_owned();
        assert_eq!(Path::of(&bytes, true).unwrap().of_number(None), "a;source=s;unit=MiB");
        assert_eq!(Path::of(&bytes, false).unwrap().of_number(None), "a.s");
    }

    #[test]
    fn no_node_is_empty_and_none_leads_elsewhere() {
        assert_eq!(plain("..", "..", &[("..", "../../etc")]), "_._._.__.__.______etc");
        assert_eq!(plain(".a..b.", "s", &[("k", "")]), "_.a._.b._.s.k._");
        assert_eq!(tagged(".a..b.", "s", &[]), "_.a._.b._;source=s");
        let hostile = "a b\t;=\"'\\{}*?[],()~!^|\u{a0}\u{2028}é\n";
        let path = plain("n", "s", &[("k", hostile)]);
        assert!(path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._".contains(&byte)), "{path}");
    }

    #[test]
    fn values_of_tags_keep_what_carbon_takes() {
        let hostile = "~a b\t;=\"'\\{}*~\u{a0}\u{2028}é\n";
        assert_eq!(tagged("n", "s", &[("k", hostile)]), "n;k=_a_b__=___{}*~____;source=s");
        assert_eq!(tagged("n", "s", &[("k", "")]), "n;source=s");
        assert_eq!(
            tagged("n", "s", &[("name", "x"), ("source", "y"), ("unit", "z")]),
            "n;name_=x;source=s;source_=y;unit_=z"
        );
        // It would be taken for the format of OpenMetrics, which needs a quote.
        assert!(!tagged("n", "s", &[("z", "{a=\"b\"}")]).ends_with("\"}"));
    }

    #[test]
    fn a_long_node_is_cut_and_its_hash_keeps_it_apart() {
        let long = "x".repeat(255);
        let (left, right) = (plain("n", "s", &[("k", &long)]), plain("n", "s", &[("k", &long[1..])]));
        assert_ne!(left, right);
        assert!(left.split('.').chain(right.split('.')).all(|node| node.len() <= NODE_BYTES_MAX));
        let (exact, over) = ("x".repeat(200), "x".repeat(201));
        assert_eq!(plain("n", &exact, &[]), format!("n.{exact}"));
        // FNV-1a, computed apart from this code.
        assert_eq!(plain("n", &over, &[]), format!("n.{}_ce0b7927", &over[..191]));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for is_tagged in [false, true] {
            let of = |name, source, tags: &[_]| Path::of(&series(name, source, tags), is_tagged).map(|_| ());
            assert_eq!(of("a b", "s", &[]), Err("bad_name"));
            assert_eq!(of("a", "s\n", &[]), Err("bad_source"));
            assert_eq!(of("a", "s", &[("k;", "v")]), Err("bad_tag"));
        }
    }
}
