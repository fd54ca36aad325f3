//! Parameters in the query part of an address.

use axum::http::Uri;

use crate::errors::{ApiError, Refusal};

/// The most parameters that are read; the rest is ignored.
const PARAMETERS_MAX: usize = 200;

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
}
