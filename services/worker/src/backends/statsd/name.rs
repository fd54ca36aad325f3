//! How a series is called in StatsD; the table is in the documentation of [`statsd`](super).

use std::fmt::Write as _;

use zibrato_core::limits::SOURCE_DEFAULT;

use super::Dialect;
use crate::backends::series_hash::series_hash;
use crate::measurement::SeriesKey;

/// The tag that carries the source, and the part of a plain name that begins it.
const SOURCE: &str = "source";
/// What a metric's own tag of that key becomes, so that it cannot be taken for the source.
const TAG_SOURCE: &str = "tag_source";

/// The name of a series, which a field and a value can be added to.
#[derive(Debug, PartialEq)]
pub(super) struct Name {
    /// What stands before the field.
    head: String,
    /// What stands behind the type: tags of DogStatsD, else nothing.
    tail: String,
}

impl Name {
    /// The name of a series in a dialect.
    pub(super) fn of(series: &SeriesKey, dialect: Dialect) -> Self {
        let mut head: String = series.name.chars().map(|char| kept(char, is_name)).collect();
        match dialect {
            Dialect::Plain => {
                append_plain(&mut head, series);
                Self { head, tail: String::new() }
            }
            Dialect::Dogstatsd => Self { head, tail: dogstatsd_tags(series) },
        }
    }

    /// What stands before the colon; `field` may be empty.
    pub(super) fn head(&self, field: &str) -> String {
        if field.is_empty() { self.head.clone() } else { format!("{}.{field}", self.head) }
    }

    /// What stands behind type and rate.
    pub(super) fn tail(&self) -> &str {
        &self.tail
    }
}

/// Appends source and tags as parts of the name.
fn append_plain(head: &mut String, series: &SeriesKey) {
    if series.tags.is_empty() && *series.source == *SOURCE_DEFAULT {
        return;
    }
    let mut changed = false;
    let mut part = |text: &str| {
        head.push('.');
        head.extend(text.chars().map(|char| kept(char, is_part)));
        changed |= !text.chars().all(is_part);
    };
    part(SOURCE);
    // Host names have dots; a hash behind each of them would help nobody.
    part(&series.source.replace(['.', ':'], "_"));
    for (key, value) in &series.tags {
        part(key);
        part(value);
    }
    if changed {
        // Writing to a String cannot fail.
        let _ = write!(head, ".{:08x}", series_hash(&series.source, &series.tags));
    }
}

fn dogstatsd_tags(series: &SeriesKey) -> String {
    let mut text = String::new();
    let mut tag = |key: &str, value: &str| {
        text.push_str(if text.is_empty() { "|#" } else { "," });
        text.extend(key.chars().map(|char| kept(char, is_tag_key)));
        text.push(':');
        text.extend(value.chars().map(|char| kept(char, is_tag_value)));
    };
    if *series.source != *SOURCE_DEFAULT {
        tag(SOURCE, &series.source);
    }
    for (key, value) in &series.tags {
        tag(if key.eq_ignore_ascii_case(SOURCE) { TAG_SOURCE } else { key }, value);
    }
    text
}

fn kept(char: char, accepts: fn(char) -> bool) -> char {
    if accepts(char) { char } else { '_' }
}

/// In a metric's name.
fn is_name(char: char) -> bool {
    is_part(char) || char == '.'
}

/// In one part of a plain name, between dots.
fn is_part(char: char) -> bool {
    char.is_ascii_alphanumeric() || char == '_' || char == '-'
}

/// In a key of DogStatsD, which ends at the first colon.
fn is_tag_key(char: char) -> bool {
    char.is_alphanumeric() || matches!(char, '_' | '-' | '.' | '/')
}

/// In a value of DogStatsD.
fn is_tag_value(char: char) -> bool {
    is_tag_key(char) || char == ':'
}

#[cfg(test)]
mod tests {
    use zibrato_core::kind::Kind;

    use super::*;

    fn name(dialect: Dialect, name: &str, source: &str, tags: &[(&str, &str)]) -> String {
        let tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let series = SeriesKey {
            level: "info".into(),
            kind: Kind::Counter,
            name: name.to_owned(),
            source: source.into(),
            unit: String::new(),
            tags,
        };
        let name = Name::of(&series, dialect);
        format!("{}{}", name.head("f"), name.tail())
    }

    #[test]
    fn plain_names_end_in_source_and_tags() {
        let plain = |of: &str, source: &str, tags: &[(&str, &str)]| name(Dialect::Plain, of, source, tags);
        assert_eq!(plain("a.b", SOURCE_DEFAULT, &[]), "a.b.f");
        assert_eq!(plain("a:b", "web1.example.com:80", &[]), "a_b.source.web1_example_com_80.f");
        assert_eq!(
            plain("a", "web", &[("az", "e_1"), ("route", "home-page")]),
            "a.source.web.az.e_1.route.home-page.f"
        );
        assert_eq!(plain("a", SOURCE_DEFAULT, &[("k", "v")]), "a.source.not_specified.k.v.f");
    }

    #[test]
    fn plain_tags_that_had_to_be_changed_stay_apart_by_a_hash() {
        let plain = |tags: &[(&str, &str)]| name(Dialect::Plain, "a", "web", tags);
        // FNV-1a of "web\0a\0x/y\0", computed apart from this code.
        assert_eq!(plain(&[("a", "x/y")]), "a.source.web.a.x_y.5cb2964a.f");
        let alike = ["x/y", "x.y", "x y", "x|y", "x\ny", "xüy", "x:y", "x@y", "x#y", "x_y"];
        let mut all: Vec<_> = alike.iter().map(|value| plain(&[("a", value)])).collect();
        assert!(all.iter().all(|name| name.starts_with("a.source.web.a.x_y.")), "{all:?}");
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), alike.len());
        assert_ne!(plain(&[("a", "b"), ("c", "d")]), plain(&[("a", "b.c.d")]));
    }

    #[test]
    fn dogstatsd_has_source_and_tags_as_tags() {
        let dog = |source: &str, tags: &[(&str, &str)]| name(Dialect::Dogstatsd, "a:b", source, tags);
        assert_eq!(dog(SOURCE_DEFAULT, &[]), "a_b.f");
        assert_eq!(
            dog("web:1", &[("az", "e.1"), ("route", "/a:b")]),
            "a_b.f|#source:web:1,az:e.1,route:/a:b"
        );
        assert_eq!(
            dog(SOURCE_DEFAULT, &[("Source", "x"), ("k:l", "größe")]),
            "a_b.f|#tag_source:x,k_l:größe"
        );
    }

    #[test]
    fn nothing_that_the_protocol_gives_a_meaning_gets_through() {
        let hostile: String = (0..=0x2fff).filter_map(char::from_u32).collect();
        let tags = [(&hostile[..], &hostile[..])];
        let plain = name(Dialect::Plain, &hostile, &hostile, &tags);
        assert!(plain.chars().all(is_name), "{plain}");
        let dog = name(Dialect::Dogstatsd, &hostile, &hostile, &tags);
        let (head, tail) = dog.split_once("|#").unwrap();
        assert!(head.chars().all(is_name), "{head}");
        assert_eq!(tail.split(',').count(), 2);
        assert!(!tail.contains(|char: char| char.is_control() || " |#@;\u{2028}".contains(char)), "{tail}");
    }
}
