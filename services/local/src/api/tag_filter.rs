//! Which streams a query by tags means.

use std::collections::BTreeMap;

use super::query::Query;
use crate::errors::{ApiError, Refusal};
use crate::store::matches;

/// The most conditions of one query.
const CONDITIONS_MAX: usize = 50;

/// Conditions on tags: alternatives, of each of which all conditions must hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct TagFilter(Vec<Vec<Condition>>);

/// A condition on the tags of a stream. In names and patterns `*` stands for anything.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Condition {
    /// It has a tag of this name, with a value that one of the patterns describes and none of the
    /// others; without a pattern any value will do.
    Has { name: String, any_of: Vec<String>, none_of: Vec<String> },
    /// It has no tag of this name.
    Lacks { name: String },
}

impl TagFilter {
    /// The filter given by `tags[name]=pattern` or `tags_search`, which have the same meaning but that
    /// the latter knows `or`.
    ///
    /// Several values of one name are alternatives; different names must all hold. `!` before a value
    /// or a name turns it around, and a turned value still wants the tag to be there.
    pub(super) fn of(query: &Query) -> Result<Self, ApiError> {
        let refuse = |param, text: &str| Err(ApiError::param(Refusal::BadQuery, param, text));
        let filter = match query.text("tags_search") {
            None => Self(vec![conditions(query.hash("tags"))]),
            Some(_) if query.hash("tags").next().is_some() => {
                return refuse("tags_search", "must not be set with tags");
            }
            Some(search) if search.contains(['(', ')']) => {
                return refuse("tags_search", "must be conditions name=value with and, or and no brackets");
            }
            Some(search) => {
                let mut alternatives = Vec::new();
                for alternative in split(search, " or ") {
                    let pairs: Option<Vec<_>> =
                        split(alternative, " and ").iter().map(|pair| pair.split_once('=')).collect();
                    let Some(pairs) = pairs else {
                        return refuse(
                            "tags_search",
                            "must be conditions name=value with and, or and no brackets",
                        );
                    };
                    let pairs = pairs.iter().map(|(name, value)| (name.trim(), value.trim()));
                    alternatives.push(conditions(pairs));
                }
                Self(alternatives)
            }
        };
        let size = |condition: &Condition| match condition {
            Condition::Has { any_of, none_of, .. } => 1 + any_of.len() + none_of.len(),
            Condition::Lacks { .. } => 1,
        };
        if filter.0.iter().flatten().map(size).sum::<usize>() > CONDITIONS_MAX {
            return refuse("tags", &format!("must be at most {CONDITIONS_MAX} conditions"));
        }
        Ok(filter)
    }

    /// Whether a stream is meant.
    pub(super) fn accepts(&self, tags: &BTreeMap<String, String>) -> bool {
        self.0.iter().any(|conditions| conditions.iter().all(|condition| condition.holds(tags)))
    }
}

impl Condition {
    fn holds(&self, tags: &BTreeMap<String, String>) -> bool {
        match self {
            Self::Lacks { name } => !tags.keys().any(|key| matches(name, key)),
            Self::Has { name, any_of, none_of } => {
                tags.iter().filter(|(key, _)| matches(name, key)).any(|(_, value)| {
                    // Tags are kept in lower case, but a plain source has the case it came with.
                    let value = value.to_ascii_lowercase();
                    let fits = |pattern: &String| matches(pattern, &value);
                    (any_of.is_empty() || any_of.iter().any(fits)) && !none_of.iter().any(fits)
                })
            }
        }
    }
}

fn conditions<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<Condition> {
    let mut conditions: Vec<Condition> = Vec::new();
    for (given, value) in pairs {
        let (given, value) = (given.to_ascii_lowercase(), value.to_ascii_lowercase());
        if let Some(name) = given.strip_prefix('!') {
            conditions.push(Condition::Lacks { name: name.to_owned() });
            continue;
        }
        let place = conditions
            .iter()
            .position(|known| matches!(known, Condition::Has { name, .. } if *name == given));
        let place = place.unwrap_or_else(|| {
            conditions.push(Condition::Has { name: given, any_of: Vec::new(), none_of: Vec::new() });
            conditions.len() - 1
        });
        if let Some(Condition::Has { any_of, none_of, .. }) = conditions.get_mut(place) {
            match value.strip_prefix('!') {
                Some(value) => none_of.push(value.to_owned()),
                None => any_of.push(value),
            }
        }
    }
    conditions
}

/// The parts of a text between the words, which may have any case.
fn split<'a>(text: &'a str, word: &str) -> Vec<&'a str> {
    let lower = text.to_ascii_lowercase();
    let mut parts = Vec::new();
    let mut begin = 0;
    for (place, _) in lower.match_indices(word) {
        parts.push(&text[begin..place]);
        begin = place + word.len();
    }
    parts.push(&text[begin..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(query: &str) -> Result<TagFilter, ApiError> {
        TagFilter::of(&Query::of(&format!("/x?{query}").parse().unwrap()))
    }

    #[test]
    fn tags_are_matched_as_documented() {
        let tags = [("region", "us-east"), ("az", "b"), ("source", "Web-1")];
        let tags = tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        for (query, expected) in [
            ("", true),
            ("tags=*", true),
            ("tags[region]=us-east", true),
            ("tags[Region]=US-*", true),
            ("tags[region]=us-west", false),
            ("tags[region]=us-west&tags[region]=us-east", true),
            ("tags[region]=us-*&tags[az]=b", true),
            ("tags[region]=us-*&tags[az]=a", false),
            ("tags[region]=!us-west", true),
            ("tags[region]=!us-*", false),
            ("tags[region]=us-*&tags[region]=!us-east", false),
            ("tags[host]=!x", false),
            ("tags[host]=*", false),
            ("tags[!host]=", true),
            ("tags[!az]=", false),
            ("tags[*]=b", true),
            ("tags[*]=c", false),
            ("tags[source]=web-1", true),
            ("tags_search=region=us-east*%20and%20az=b", true),
            ("tags_search=region=eu*%20OR%20az=b", true),
            ("tags_search=region=eu*%20or%20az=b%20AND%20region=eu*", false),
            ("tags_search=!host=*", true),
        ] {
            assert_eq!(filter(query).unwrap().accepts(&tags), expected, "{query}");
        }
    }

    #[test]
    fn searches_that_cannot_be_read_and_too_many_conditions_are_refused() {
        for bad in ["tags_search=region", "tags_search=(a=b)", "tags_search=a=b&tags[a]=b", "tags_search="] {
            assert!(filter(bad).is_err(), "{bad}");
        }
        let many = |n: usize| (0..n).map(|i| format!("tags[k{i}]=!v&")).collect::<String>();
        assert!(filter(&many(25)).is_ok() && filter(&many(26)).is_err());
    }
}
