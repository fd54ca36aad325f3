//! Under which names series go to a backend: dropped, renamed, put together anew, prefixed, in this order.
//!
//! Patterns are globs over metric names: `*` stands for any text, also none, `?` for one character; all else for
//! itself. A new name may have `$1` to `$9` for what the first to ninth `*` or `?` stood for.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

use zibrato_core::text::Field;

use crate::measurement::{Measurement, SeriesKey};
use crate::units::{ByReason, Units};

/// Most characters of a pattern, so that matching one stays cheap.
pub const PATTERN_BYTES_MAX: usize = 255;
/// Most rules of a kind.
pub const RULES_MAX: usize = 100;

/// Why series do not go to a backend.
mod reason {
    /// A rule says so.
    pub(super) const BY_RULE: &str = "dropped_by_rule";
    /// The rules made a name of it that is none.
    pub(super) const BAD_NAME: &str = "bad_name_by_rule";
}

/// The rules of a backend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Naming {
    /// Metrics that are left out.
    pub drop: Vec<Pattern>,
    /// New names; the first rule that matches counts.
    pub rename: Vec<Rename>,
    /// How a name is put together.
    pub template: Template,
    /// What stands before each name.
    pub prefix: String,
}

/// A glob over names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

/// Names that match get another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rename {
    pattern: Pattern,
    to: String,
}

/// How a name is put together: text with `{name}`, `{source}`, `{level}`, `{unit}` and `{tag:KEY}` in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Name,
    Source,
    Level,
    Unit,
    Tag(String),
}

impl Default for Template {
    fn default() -> Self {
        Self(vec![Piece::Name])
    }
}

impl Naming {
    /// Names series anew. What is left out is counted in `refused`.
    pub fn apply(&self, measurements: &mut Vec<Measurement>, refused: &mut ByReason) {
        if *self == Self::default() {
            return;
        }
        // Kinds and levels of one metric come behind one another, often with one name.
        let mut renamed: HashMap<String, Option<String>> = HashMap::new();
        measurements.retain_mut(|measurement| {
            let series = &*measurement.series;
            let name = renamed.entry(series.name.clone()).or_insert_with(|| self.renamed(&series.name));
            let Some(name) = name else {
                refused.add(reason::BY_RULE, &Units::of(&[measurement.value.units()]));
                return false;
            };
            let name = self.prefix.clone() + &self.template.fill(series, name);
            if !Field::Name.accepts(&name) {
                refused.add(reason::BAD_NAME, &Units::of(&[measurement.value.units()]));
                return false;
            }
            if name != series.name {
                measurement.series = Arc::new(SeriesKey { name, ..series.clone() });
            }
            true
        });
    }

    /// `None` if the metric is left out.
    fn renamed(&self, name: &str) -> Option<String> {
        if self.drop.iter().any(|pattern| pattern.captures(name).is_some()) {
            return None;
        }
        let mut rules = self.rename.iter().filter_map(|rule| Some(rule.fill(&rule.pattern.captures(name)?)));
        Some(rules.next().unwrap_or_else(|| name.to_owned()))
    }
}

impl Pattern {
    /// What each `*` and `?` stands for; `None` if the name does not match.
    fn captures<'n>(&self, name: &'n str) -> Option<Vec<&'n str>> {
        let mut captures = Vec::new();
        matches(self.0.as_bytes(), name, 0, &mut captures).then_some(captures)
    }
}

/// Matches from the back of a name to where `*` last took one character less: names are short, and so are patterns.
fn matches<'n>(pattern: &[u8], name: &'n str, from: usize, captures: &mut Vec<&'n str>) -> bool {
    let Some((&first, rest)) = pattern.split_first() else { return from == name.len() };
    let known = captures.len();
    match first {
        b'*' => {
            // The longest first, as one expects of two stars: `a.*.*` of `a.b.c.d` is `b.c` and `d`.
            for end in (from..=name.len()).rev() {
                captures.extend(name.get(from..end));
                if matches(rest, name, end, captures) {
                    return true;
                }
                captures.truncate(known);
            }
            false
        }
        b'?' => {
            captures.extend(name.get(from..from + 1));
            let matched = captures.len() > known && matches(rest, name, from + 1, captures);
            if !matched {
                captures.truncate(known);
            }
            matched
        }
        byte => name.as_bytes().get(from) == Some(&byte) && matches(rest, name, from + 1, captures),
    }
}

impl Rename {
    fn fill(&self, captures: &[&str]) -> String {
        let mut filled = String::new();
        let mut chars = self.to.chars().peekable();
        while let Some(char) = chars.next() {
            match chars.peek().and_then(|digit| digit.to_digit(10)) {
                Some(digit @ 1..) if char == '$' => {
                    chars.next();
                    filled.push_str(captures.get(digit as usize - 1).unwrap_or(&""));
                }
                _ => filled.push(char),
            }
        }
        filled
    }
}

impl Template {
    fn fill(&self, series: &SeriesKey, name: &str) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Name => name.to_owned(),
            Piece::Source => series.source.to_string(),
            Piece::Level => series.level.to_string(),
            Piece::Unit => series.unit.clone(),
            Piece::Tag(key) => {
                let tag = series.tags.iter().find(|(known, _)| known == key);
                tag.map_or_else(|| "none".to_owned(), |(_, value)| of_name(value))
            }
        };
        self.0.iter().map(piece).collect()
    }
}

/// A text as a part of a name: what a name cannot have becomes `_`.
fn of_name(text: &str) -> String {
    text.chars()
        .map(|char| if Field::Name.accepts(char.encode_utf8(&mut [0; 4])) { char } else { '_' })
        .collect()
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_of_names =
            |byte: u8| matches!(byte, b'*' | b'?') || Field::Name.accepts(&char::from(byte).to_string());
        if text.is_empty() || text.len() > PATTERN_BYTES_MAX || !text.bytes().all(is_of_names) {
            return Err(format!(
                "not a pattern; give 1 to {PATTERN_BYTES_MAX} of A-Z a-z 0-9 . : _ - with * for any text and ? for one character"
            ));
        }
        // Each star tries all lengths.
        if text.bytes().filter(|&byte| byte == b'*').count() > 4 {
            return Err("more than 4 stars; give a pattern with fewer".to_owned());
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for Rename {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (pattern, to) =
            text.split_once('=').ok_or("not a rule; give PATTERN=NAME, such as app.*=web.$1")?;
        let plain = to.replace('$', "");
        if to.is_empty() || !Field::Name.accepts(&plain) {
            return Err("no new name behind '='; give one of A-Z a-z 0-9 . : _ - with $1 to $9".to_owned());
        }
        Ok(Self { pattern: pattern.parse()?, to: to.to_owned() })
    }
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused =
            || "not a template; give text with {name}, {source}, {level}, {unit} or {tag:KEY}".to_owned();
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            let close = rest[open..].find('}').ok_or_else(refused)? + open;
            if open > 0 {
                pieces.push(Piece::Text(rest[..open].to_owned()));
            }
            pieces.push(match &rest[open + 1..close] {
                "name" => Piece::Name,
                "source" => Piece::Source,
                "level" => Piece::Level,
                "unit" => Piece::Unit,
                other => match other.strip_prefix("tag:") {
                    Some(key) if Field::TagKey.accepts(key) => Piece::Tag(key.to_owned()),
                    _ => return Err(refused()),
                },
            });
            rest = &rest[close + 1..];
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        let is_text_of_names = |piece: &Piece| match piece {
            Piece::Text(text) => Field::Name.accepts(text),
            _ => true,
        };
        if !pieces.contains(&Piece::Name) || !pieces.iter().all(is_text_of_names) {
            return Err(refused());
        }
        Ok(Self(pieces))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merge::units_of;
    use crate::test_support::counter;

    fn named(naming: &Naming, name: &str) -> Option<String> {
        let mut measurement = counter("info", name, "web-1", 1.0);
        Arc::make_mut(&mut measurement.series).tags = vec![("route".to_owned(), "/a b".to_owned())];
        let mut all = vec![measurement];
        let before = units_of(&all);
        let mut refused = ByReason::default();
        naming.apply(&mut all, &mut refused);
        let mut after = units_of(&all);
        after.add(&refused.sum());
        assert!(after.same(&before), "nothing is lost unseen");
        all.first().map(|measurement| measurement.series.name.clone())
    }

    #[test]
    fn the_first_rule_that_matches_gives_the_name() {
        let naming = Naming {
            drop: vec!["debug.*".parse().unwrap()],
            rename: ["app.*.lat=web.$1_latency", "app.*=app", "x?y*=$2$1-$3$"]
                .map(|rule| rule.parse().unwrap())
                .into(),
            template: "{source}.{name}.{tag:route}.{tag:none}".parse().unwrap(),
            prefix: "p.".to_owned(),
        };
        let name = |name: &str| {
            named(&naming, name).map(|name| name.replace("p.web-1.", "").replace("._a_b.none", ""))
        };
        assert_eq!(name("app.api.lat").unwrap(), "web.api_latency");
        assert_eq!(name("app.x").unwrap(), "app");
        assert_eq!(name("x1yz").as_deref(), None, "$ at the end is no name's");
        assert_eq!(name("other").unwrap(), "other");
        assert_eq!(name("debug.x"), None);
        assert_eq!(named(&naming, "n").unwrap(), "p.web-1.n._a_b.none");
        assert_eq!(named(&Naming::default(), "n").unwrap(), "n");
        let long = Naming { prefix: "p".repeat(255), ..Naming::default() };
        assert_eq!(named(&long, "n"), None, "a name that is too long");
    }

    #[test]
    fn stars_take_as_much_as_they_can_and_give_back_what_others_need() {
        let captures = |pattern: &str, name: &str| {
            let captures = pattern.parse::<Pattern>().unwrap();
            captures.captures(name).map(|parts| parts.join("|"))
        };
        assert_eq!(captures("a.*.*", "a.b.c.d").unwrap(), "b.c|d");
        assert_eq!(captures("*", "").unwrap(), "");
        assert_eq!(captures("*b*", "abcb").unwrap(), "abc|");
        assert_eq!(captures("a?c", "abc").unwrap(), "b");
        for (pattern, name) in [("a?c", "ac"), ("a", "ab"), ("a*c", "ab"), ("?", "")] {
            assert_eq!(captures(pattern, name), None, "{pattern} {name}");
        }
        assert_eq!(captures("*a*a*a*b", &"a".repeat(255)), None, "and soon enough");
    }

    #[test]
    fn rules_that_cannot_work_are_refused() {
        for bad in ["", "a b", "a|b", "*****", &"a".repeat(256)] {
            assert!(bad.parse::<Pattern>().is_err(), "{bad}");
        }
        for bad in ["a", "a=", "=b", "a=b c", "a b=c", "a=$"] {
            assert!(bad.parse::<Rename>().is_err(), "{bad}");
        }
        for bad in ["", "x", "{name", "{nam}", "{tag:}", "{name} x", "{source}"] {
            assert!(bad.parse::<Template>().is_err(), "{bad}");
        }
    }
}
