//! Form encoding with brackets: `gauges[0][name]=cpu&names[]=a&names[]=b`, turned into the JSON that
//! would say the same, so that everything after this reads one language.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;

/// The most pairs of one form.
const PAIRS_MAX: usize = 100_000;
/// The most brackets after one key. The deepest that Librato knows is `gauges[0][attributes][color]`.
const DEPTH_MAX: usize = 4;

/// Why a form cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FormError {
    TooManyPairs,
    TooDeep,
}

impl FormError {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::TooManyPairs => "it has more than 100000 pairs",
            Self::TooDeep => "a key has more than 4 brackets",
        }
    }
}

/// One place of the tree that the keys describe. Where keys contradict each other the later one holds.
#[derive(Debug)]
enum Node {
    Text(String),
    List(Vec<Node>),
    Hash(BTreeMap<Key, Node>),
}

/// A key; those that are numbers come first and in their order, so that measurements stay in theirs.
#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Key {
    Index(u32),
    Name(String),
}

/// The JSON hash of a form.
pub(super) fn to_json(form: &[u8]) -> Result<String, FormError> {
    let mut root = Node::Hash(BTreeMap::new());
    for (pairs, (key, value)) in form_urlencoded::parse(form).enumerate() {
        if pairs == PAIRS_MAX {
            return Err(FormError::TooManyPairs);
        }
        let path = path(&key)?;
        // A key without a name before its brackets has no place in a hash.
        if path.first().is_some_and(|head| !head.is_empty()) {
            root.insert(&path, value.into_owned());
        }
    }
    let mut json = String::with_capacity(form.len());
    root.write(&mut json);
    Ok(json)
}

/// The parts of a key: `a[b][]` is `a`, `b` and the empty part. What does not close its brackets is
/// one part as it stands.
fn path(key: &str) -> Result<Vec<&str>, FormError> {
    let Some((head, brackets)) = key.strip_suffix(']').and_then(|key| key.split_once('[')) else {
        return Ok(vec![key]);
    };
    let mut path = vec![head];
    path.extend(brackets.split("][").take(DEPTH_MAX + 1));
    if path.len() > DEPTH_MAX + 1 { Err(FormError::TooDeep) } else { Ok(path) }
}

impl Key {
    fn of(name: &str) -> Self {
        match name.parse() {
            Ok(index) if name == "0" || !name.starts_with(['0', '+']) => Self::Index(index),
            _ => Self::Name(name.to_owned()),
        }
    }
}

impl Node {
    fn insert(&mut self, path: &[&str], value: String) {
        match path {
            [] => *self = Self::Text(value),
            ["", rest @ ..] => {
                if !matches!(self, Self::List(_)) {
                    *self = Self::List(Vec::new());
                }
                let Self::List(list) = self else { return };
                // `links[][rel]=a&links[][href]=b&links[][rel]=c`: a key that is there begins the next hash.
                match list.last_mut() {
                    Some(last) if rest.first().is_some_and(|name| last.lacks(name)) => {
                        last.insert(rest, value)
                    }
                    _ => {
                        let mut node = Self::Hash(BTreeMap::new());
                        node.insert(rest, value);
                        list.push(node);
                    }
                }
            }
            [name, rest @ ..] => {
                if !matches!(self, Self::Hash(_)) {
                    *self = Self::Hash(BTreeMap::new());
                }
                let Self::Hash(hash) = self else { return };
                hash.entry(Key::of(name)).or_insert_with(|| Self::Hash(BTreeMap::new())).insert(rest, value);
            }
        }
    }

    fn lacks(&self, name: &str) -> bool {
        matches!(self, Self::Hash(hash) if !hash.contains_key(&Key::of(name)))
    }

    fn write(&self, json: &mut String) {
        match self {
            // Writing to a String cannot fail.
            Self::Text(text) => _ = write!(json, "{}", Value::from(text.as_str())),
            Self::List(list) => enclose(json, '[', list, ']', |json, node| node.write(json)),
            Self::Hash(hash) => enclose(json, '{', hash, '}', |json, (key, node)| {
                match key {
                    Key::Index(index) => _ = write!(json, "\"{index}\":"),
                    Key::Name(name) => _ = write!(json, "{}:", Value::from(name.as_str())),
                }
                node.write(json);
            }),
        }
    }
}

fn enclose<T>(
    json: &mut String,
    open: char,
    items: impl IntoIterator<Item = T>,
    close: char,
    write: impl Fn(&mut String, T),
) {
    json.push(open);
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            json.push(',');
        }
        write(json, item);
    }
    json.push(close);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_become_hashes_and_lists_and_numbers_stay_in_order() {
        for (form, json) in [
            ("", "{}"),
            ("a=1&b=x+y%21", r#"{"a":"1","b":"x y!"}"#),
            (
                "g[10][n]=c&g[9][n]=b&g[x][n]=d&g[0][n]=a",
                r#"{"g":{"0":{"n":"a"},"9":{"n":"b"},"10":{"n":"c"},"x":{"n":"d"}}}"#,
            ),
            ("g%5B0%5D%5Bname%5D=a%22b", r#"{"g":{"0":{"name":"a\"b"}}}"#),
            ("names[]=a&names[]=b", r#"{"names":["a","b"]}"#),
            ("l[][r]=1&l[][h]=2&l[][r]=3", r#"{"l":[{"h":"2","r":"1"},{"r":"3"}]}"#),
            ("g[0][a][c]=1", r#"{"g":{"0":{"a":{"c":"1"}}}}"#),
            ("a=1&a=2", r#"{"a":"2"}"#),
            ("a=1&a[b]=2", r#"{"a":{"b":"2"}}"#),
            ("a[b]=2&a[]=1", r#"{"a":["1"]}"#),
            ("a[b=1&a]b=2&=3&[x]=4&[]=5", r#"{"a[b":"1","a]b":"2"}"#),
            ("g[007]=a&g[7]=b", r#"{"g":{"7":"b","007":"a"}}"#),
            ("lonely", r#"{"lonely":""}"#),
        ] {
            assert_eq!(to_json(form.as_bytes()).as_deref(), Ok(json), "{form}");
        }
    }

    #[test]
    fn pairs_and_depth_are_limited() {
        assert!(to_json("a=1&".repeat(PAIRS_MAX).as_bytes()).is_ok());
        assert_eq!(to_json("a=1&".repeat(PAIRS_MAX + 1).as_bytes()), Err(FormError::TooManyPairs));
        assert!(to_json(b"a[b][c][d][e]=1").is_ok());
        assert_eq!(to_json(b"a[b][c][d][e][f]=1"), Err(FormError::TooDeep));
        assert_eq!(to_json(format!("a{}=1", "[]".repeat(10_000)).as_bytes()), Err(FormError::TooDeep));
    }
}
