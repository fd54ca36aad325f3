//! The body of `POST /v1/metrics` and `POST /v1/measurements`, before validation.
//!
//! A form becomes JSON first, so there is one way to read. Parsing keeps each value in the form it was
//! sent, so that validation can name what is wrong with it. It also bounds what a small body can turn
//! into: the number of measurements, attributes and tags is limited while reading, and unknown fields
//! are skipped without being built.

mod form;
mod values;

use std::fmt;

use serde::de::{DeserializeOwned, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

pub(crate) use values::{Attributes, Object, Scalar, TAGS_MAX, Tags, number_as_sent};

/// The most measurements in one POST. Librato documented no hard limit; its clients send 300 to
/// 1000.
pub(crate) const MEASUREMENTS_PER_POST_MAX: usize = 10_000;
/// What parsing says when there are more than [`MEASUREMENTS_PER_POST_MAX`] measurements.
const TOO_MANY: &str = "too many measurements";

/// A body of measurements with sources.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Body {
    pub(crate) gauges: Series,
    pub(crate) counters: Series,
    pub(crate) source: Option<Scalar>,
    pub(crate) measure_time: Option<Scalar>,
    pub(crate) period: Option<Scalar>,
    pub(crate) attributes: Option<Attributes>,
}

/// A body of measurements with tags.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct TaggedBody {
    pub(crate) measurements: Option<Series>,
    pub(crate) tags: Option<Tags>,
    pub(crate) time: Option<Scalar>,
    pub(crate) period: Option<Scalar>,
    pub(crate) attributes: Option<Attributes>,
}

/// Why a body cannot be parsed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum ParseError {
    /// It holds more than [`MEASUREMENTS_PER_POST_MAX`] measurements.
    TooMany,
    /// It is not the JSON it should be; the text says where.
    Json(String),
    /// It is not the form it should be.
    Form(String),
}

impl Body {
    /// The body that a request with this content type has.
    pub(crate) fn parse(content_type: Option<&str>, bytes: &[u8]) -> Result<Self, ParseError> {
        let body: Self = hash(content_type, bytes)?;
        if body.measurements() > MEASUREMENTS_PER_POST_MAX { Err(ParseError::TooMany) } else { Ok(body) }
    }

    pub(crate) fn measurements(&self) -> usize {
        self.gauges.0.len() + self.counters.0.len()
    }
}

/// The hash that a body of this content type says. A form is the default, as it was Librato's; but no
/// form begins with a brace or bracket, so what does is JSON whatever was announced.
pub(crate) fn hash<T: DeserializeOwned>(content_type: Option<&str>, bytes: &[u8]) -> Result<T, ParseError> {
    let first = bytes.trim_ascii_start().first();
    if is_json(content_type) || matches!(first, Some(b'{' | b'[')) {
        return json(bytes).map_err(|text| ParseError::of(text, ParseError::Json));
    }
    let text = form::to_json(bytes).map_err(|error| ParseError::Form(error.as_str().to_owned()))?;
    json(text.as_bytes()).map_err(|text| {
        // The place is one in our JSON, which the sender has never seen.
        let text = text.split(" at line ").next().unwrap_or_default().to_owned();
        ParseError::of(text, ParseError::Form)
    })
}

/// Whether a content type is JSON.
pub(crate) fn is_json(content_type: Option<&str>) -> bool {
    let kind = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice::<Object<T>>(bytes).map(|object| object.0).map_err(|error| error.to_string())
}

impl ParseError {
    fn of(text: String, other: fn(String) -> Self) -> Self {
        if text.starts_with(TOO_MANY) { Self::TooMany } else { other(text) }
    }
}

/// The measurements of one kind: an array, or a hash whose keys are names. Order and repeated keys
/// are kept.
#[derive(Debug, Default)]
pub(crate) struct Series(pub(crate) Vec<(Option<String>, Measurement)>);

/// One measurement as sent.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Measurement {
    pub(crate) name: Option<Scalar>,
    pub(crate) source: Option<Scalar>,
    pub(crate) measure_time: Option<Scalar>,
    pub(crate) value: Option<Scalar>,
    pub(crate) count: Option<Scalar>,
    pub(crate) sum: Option<Scalar>,
    pub(crate) min: Option<Scalar>,
    pub(crate) max: Option<Scalar>,
    pub(crate) sum_squares: Option<Scalar>,
    pub(crate) stddev: Option<Scalar>,
    pub(crate) stddev_m2: Option<Scalar>,
    pub(crate) last: Option<Scalar>,
    pub(crate) time: Option<Scalar>,
    pub(crate) tags: Option<Tags>,
    pub(crate) period: Option<Scalar>,
    pub(crate) description: Option<Scalar>,
    pub(crate) display_name: Option<Scalar>,
    pub(crate) attributes: Option<Attributes>,
    pub(crate) buckets: Option<Object<Buckets>>,
    pub(crate) origin: Option<Object<SentOrigin>>,
}

/// What a Zibrato worker says of a metric beyond what Librato's API has.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct SentOrigin {
    pub(crate) kind: Option<Scalar>,
    pub(crate) levels: Vec<Scalar>,
    pub(crate) unit: Option<Scalar>,
}

/// An exponential histogram of seconds: bucket `i` of `counts` holds the values in
/// (`base^(offset+i)`, `base^(offset+i+1)`] with `base = 2^(2^-scale)`; `zero` counts the zeros.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize)]
pub(crate) struct Buckets {
    pub(crate) scale: i32,
    pub(crate) offset: i32,
    pub(crate) counts: Vec<u64>,
    #[serde(default)]
    pub(crate) zero: u64,
}

impl<'de> Deserialize<'de> for Series {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ArrayOrHash;
        impl<'de> Visitor<'de> for ArrayOrHash {
            type Value = Series;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array or a hash of measurements")
            }

            fn visit_unit<E: Error>(self) -> Result<Series, E> {
                Ok(Series::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Series, A::Error> {
                let mut series = Vec::new();
                while let Some(Object(measurement)) = array.next_element()? {
                    push(&mut series, None, measurement)?;
                }
                Ok(Series(series))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut hash: A) -> Result<Series, A::Error> {
                let mut series = Vec::new();
                while let Some((name, Object(measurement))) = hash.next_entry()? {
                    push(&mut series, Some(name), measurement)?;
                }
                Ok(Series(series))
            }
        }
        deserializer.deserialize_any(ArrayOrHash)
    }
}

fn push<E: Error>(
    series: &mut Vec<(Option<String>, Measurement)>,
    name: Option<String>,
    measurement: Measurement,
) -> Result<(), E> {
    if series.len() == MEASUREMENTS_PER_POST_MAX {
        return Err(E::custom(TOO_MANY));
    }
    series.push((name, measurement));
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::values::{ATTRIBUTES_MAX, TEXT_BYTES_MAX};
    use super::*;

    fn parse(body: impl AsRef<[u8]>) -> Result<Body, ParseError> {
        Body::parse(Some("application/json"), body.as_ref())
    }

    fn names(text: &str) -> Vec<Option<String>> {
        parse(text).unwrap().gauges.0.into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn arrays_and_hashes_keep_order_and_repeated_keys() {
        assert_eq!(names(r#"{"gauges":[{"value":1},{"value":2}]}"#), [None, None]);
        let hash = r#"{"gauges":{"b":{"value":1},"a":{},"b":{"value":2}}}"#;
        assert_eq!(names(hash), ["b", "a", "b"].map(|name| Some(name.to_owned())));
        assert_eq!(names(r#"{"gauges":null}"#), []);
        assert_eq!(names(r#"{"unknown":[[{}]],"gauges":[]}"#), []);
    }

    #[test]
    fn what_is_not_a_hash_of_hashes_is_refused_with_its_place() {
        for bad in [
            "",
            "[]",
            "5",
            "nonsense",
            "{",
            r#"{"gauges":[5]}"#,
            r#"{"gauges":[["name",1]]}"#,
            r#"{"gauges":[{"name":"a","value":NaN}]}"#,
            r#"{"gauges":5}"#,
            r#"{"gauges":[{"buckets":[1,2,[3],0]}]}"#,
            r#"{"gauges":[{"buckets":{"scale":1}}]}"#,
            "\u{0}",
            "{} {}",
        ] {
            let error = parse(bad).unwrap_err();
            assert!(matches!(&error, ParseError::Json(text) if text.contains("line")), "{bad}: {error:?}");
        }
    }

    #[test]
    fn the_number_of_measurements_and_attributes_is_limited_while_reading() {
        let gauges = |n: usize| vec!["{}"; n].join(",");
        let body =
            |gauges: &str, counters: &str| format!(r#"{{"gauges":[{gauges}],"counters":[{counters}]}}"#);
        let most = MEASUREMENTS_PER_POST_MAX;
        assert_eq!(parse(body(&gauges(most), "")).unwrap().measurements(), most);
        for (some, more) in [(most + 1, 0), (most, 1), (0, most + 1)] {
            let body = body(&gauges(some), &gauges(more));
            assert_eq!(parse(body).unwrap_err(), ParseError::TooMany);
        }
        let attributes = |n: usize| (0..n).map(|i| format!("\"a{i}\":1")).collect::<Vec<_>>().join(",");
        let with = |n| parse(format!(r#"{{"attributes":{{{}}}}}"#, attributes(n)));
        assert!(with(ATTRIBUTES_MAX).is_ok());
        assert!(matches!(with(ATTRIBUTES_MAX + 1), Err(ParseError::Json(_))));
        let source = |bytes: usize| parse(format!(r#"{{"source":"{}"}}"#, "s".repeat(bytes)));
        assert!(source(TEXT_BYTES_MAX).is_ok());
        assert!(matches!(source(TEXT_BYTES_MAX + 1), Err(ParseError::Json(text)) if text.contains("65536")));
    }

    #[test]
    fn scalars_keep_the_form_they_were_sent_in() {
        let body =
            r#"{"source":"s","measure_time":"17","period":true,"attributes":{"a":[1,{"b":2}],"c":"d"}}"#;
        let body = parse(body).unwrap();
        assert_eq!(body.source, Some(Scalar::Text("s".to_owned())));
        assert_eq!(body.measure_time, Some(Scalar::Text("17".to_owned())));
        assert_eq!(body.period, Some(Scalar::Bool(true)));
        let attributes = body.attributes.unwrap().0;
        assert_eq!(attributes["a"], Value::Null);
        assert_eq!(attributes["c"], Value::from("d"));
        assert_eq!(parse(br#"{"source":null}"#).unwrap().source, None);
    }
}
