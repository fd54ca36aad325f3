//! Parameters in the query part of an address.

use axum::http::Uri;

use crate::errors::{ApiError, Refusal};
use crate::store::catalogue::ListQuery;

/// The most parameters that are read; the rest is ignored.
const PARAMETERS_MAX: usize = 200;
/// The longest and the default page of a list.
const PAGE_LENGTH_MAX: i64 = 100;

/// The decoded parameters, in order.
#[derive(Clone, Debug)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn of(uri: &Uri) -> Self {
        let pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
        Self(pairs.take(PARAMETERS_MAX).map(|(key, value)| (key.into_owned(), value.into_owned())).collect())
    }

    /// The last value given for `key`.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.0.iter().rev().find(|(given, _)| given == key).map(|(_, value)| value.as_str())
    }

    /// All values given for `key`, or for the array `key[]`.
    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        let pairs = self.0.iter().filter(move |(given, _)| given.strip_suffix("[]").unwrap_or(given) == key);
        pairs.map(|(_, value)| value.as_str())
    }

    /// The pairs of a hash: `tags[region]=us` has the key `region`.
    pub(super) fn hash<'a>(&'a self, key: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().filter_map(move |(given, value)| {
            let inner = given.strip_prefix(key)?.strip_prefix('[')?;
            let inner = inner.strip_suffix("[]").unwrap_or(inner);
            Some((inner.strip_suffix(']')?, value.as_str()))
        })
    }

    /// The whole number given for `key`, at least `least`.
    pub(crate) fn integer(&self, key: &'static str, least: i64) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.text(key) else { return Ok(None) };
        // Clients send times as floats now and then.
        let number = text.trim().parse().ok().or_else(|| {
            let float: f64 = text.trim().parse().ok()?;
            float.is_finite().then_some(float.floor() as i64)
        });
        match number {
            None => Err(ApiError::param(Refusal::BadQuery, key, "is not a number")),
            Some(number) if number < least => {
                Err(ApiError::param(Refusal::BadQuery, key, format!("must be at least {least}")))
            }
            number => Ok(number),
        }
    }

    /// The truth given for `key`.
    pub(super) fn flag(&self, key: &'static str) -> Result<Option<bool>, ApiError> {
        match self.text(key).map(str::to_ascii_lowercase).as_deref() {
            None => Ok(None),
            Some("true" | "1") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(_) => Err(ApiError::param(Refusal::BadQuery, key, "must be true or false")),
        }
    }

    /// The page of a list that is asked for. Lists are ordered by name and by nothing else.
    pub(super) fn page(&self) -> Result<ListQuery, ApiError> {
        let refuse = |key, text: &str| Err(ApiError::param(Refusal::BadQuery, key, text));
        let length = self.integer("length", 1)?.unwrap_or(PAGE_LENGTH_MAX);
        if length > PAGE_LENGTH_MAX {
            return refuse("length", &format!("must be at most {PAGE_LENGTH_MAX}"));
        }
        if self.text("orderby").is_some_and(|order| order != "name") {
            return refuse("orderby", "must be name");
        }
        let descending = match self.text("sort") {
            None | Some("asc") => false,
            Some("desc") => true,
            Some(_) => return refuse("sort", "must be asc or desc"),
        };
        let name_contains = self.text("name").unwrap_or_default().to_owned();
        Ok(ListQuery { name_contains, offset: self.integer("offset", 0)?.unwrap_or(0), length, descending })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_numbers_checked() {
        let uri =
            "/x?name=a%20b&name=c+d&sources%5B%5D=s1&sources[]=s2&n=7.9&bad=x&low=0&inf=inf".parse().unwrap();
        let query = Query::of(&uri);
        assert_eq!(query.text("name"), Some("c d"));
        assert_eq!(query.all("sources").collect::<Vec<_>>(), ["s1", "s2"]);
        assert_eq!(query.integer("n", 1), Ok(Some(7)));
        assert_eq!(query.integer("absent", 1), Ok(None));
        for key in ["bad", "low", "inf"] {
            assert!(query.integer(key, 1).is_err(), "{key}");
        }
    }

    #[test]
    fn hashes_are_read_with_repeated_keys_and_flags_are_true_or_false() {
        let uri = "/x?tags[a]=1&tags%5Ba%5D=2&tags[b][]=3&tags=4&tags[c=5&other[a]=6&yes=TRUE&no=0&odd=2";
        let query = Query::of(&uri.parse().unwrap());
        assert_eq!(query.hash("tags").collect::<Vec<_>>(), [("a", "1"), ("a", "2"), ("b", "3")]);
        assert_eq!(
            (query.flag("yes"), query.flag("no"), query.flag("none")),
            (Ok(Some(true)), Ok(Some(false)), Ok(None))
        );
        assert!(query.flag("odd").is_err());
    }
}
