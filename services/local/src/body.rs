//! The JSON body of `POST /v1/metrics`, before validation.
//!
//! Parsing keeps each value in the form it was sent, so that validation can name what is wrong with
//! it. It also bounds what a small body can turn into: the number of measurements, attributes and
//! buckets is limited while reading, and unknown fields are skipped without being built.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// The most measurements in one POST. Librato documented no hard limit; its clients send 300 to
/// 1000.
pub(crate) const MEASUREMENTS_PER_POST_MAX: usize = 10_000;
/// The most attributes of one metric.
const ATTRIBUTES_MAX: usize = 64;

/// What parsing says when there are more than [`MEASUREMENTS_PER_POST_MAX`] measurements.
const TOO_MANY: &str = "too many measurements";

/// A whole body.
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

/// Why a body cannot be parsed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum ParseError {
    /// It holds more than [`MEASUREMENTS_PER_POST_MAX`] measurements.
    TooMany,
    /// It is not the JSON it should be; the text says where.
    Json(String),
}

impl Body {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let parsed = serde_json::from_slice::<Object<Self>>(bytes).map_err(|error| {
            let text = error.to_string();
            if text.starts_with(TOO_MANY) { ParseError::TooMany } else { ParseError::Json(text) }
        });
        let body = parsed?.0;
        if body.measurements() > MEASUREMENTS_PER_POST_MAX { Err(ParseError::TooMany) } else { Ok(body) }
    }

    pub(crate) fn measurements(&self) -> usize {
        self.gauges.0.len() + self.counters.0.len()
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
    pub(crate) period: Option<Scalar>,
    pub(crate) description: Option<Scalar>,
    pub(crate) display_name: Option<Scalar>,
    pub(crate) attributes: Option<Attributes>,
    pub(crate) buckets: Option<Object<Buckets>>,
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

/// A value of any JSON type; arrays and hashes are read over.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Scalar {
    Number(f64),
    Text(String),
    Bool(bool),
    Other,
}

/// A flat hash of at most [`ATTRIBUTES_MAX`] attributes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attributes(pub(crate) BTreeMap<String, Value>);

/// A `T` that is written as a JSON hash. Derived code would take an array of its fields as well.
#[derive(Clone, Debug)]
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HashOnly<T>(PhantomData<T>);
        impl<'de, T: DeserializeOwned> Visitor<'de> for HashOnly<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a hash")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(HashOnly(PhantomData))
    }
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

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar::Bool(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar::Number(value as f64))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Scalar, E> {
                Ok(Scalar::Number(value as f64))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Scalar, E> {
                Ok(Scalar::Number(value))
            }

            fn visit_str<E>(self, value: &str) -> Result<Scalar, E> {
                Ok(Scalar::Text(value.to_owned()))
            }

            fn visit_unit<E>(self) -> Result<Scalar, E> {
                Ok(Scalar::Other)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Scalar, A::Error> {
                while array.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut hash: A) -> Result<Scalar, A::Error> {
                while hash.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

impl<'de> Deserialize<'de> for Attributes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Flat;
        impl<'de> Visitor<'de> for Flat {
            type Value = Attributes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a hash of attributes")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut hash: A) -> Result<Attributes, A::Error> {
                let mut attributes = BTreeMap::new();
                while let Some((key, value)) = hash.next_entry::<String, Scalar>()? {
                    if attributes.len() == ATTRIBUTES_MAX {
                        return Err(A::Error::custom(format!("more than {ATTRIBUTES_MAX} attributes")));
                    }
                    let value = match value {
                        Scalar::Number(number) => Value::from(number),
                        Scalar::Text(text) => Value::from(text),
                        Scalar::Bool(bool) => Value::from(bool),
                        Scalar::Other => Value::Null,
                    };
                    attributes.insert(key, value);
                }
                Ok(Attributes(attributes))
            }
        }
        deserializer.deserialize_map(Flat)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<Option<String>> {
        Body::parse(text.as_bytes()).unwrap().gauges.0.into_iter().map(|(name, _)| name).collect()
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
            let error = Body::parse(bad.as_bytes()).unwrap_err();
            assert!(matches!(&error, ParseError::Json(text) if text.contains("line")), "{bad}: {error:?}");
        }
    }

    #[test]
    fn the_number_of_measurements_and_attributes_is_limited_while_reading() {
        let gauges = |n: usize| vec!["{}"; n].join(",");
        let body =
            |gauges: &str, counters: &str| format!(r#"{{"gauges":[{gauges}],"counters":[{counters}]}}"#);
        let most = MEASUREMENTS_PER_POST_MAX;
        assert_eq!(Body::parse(body(&gauges(most), "").as_bytes()).unwrap().measurements(), most);
        for (some, more) in [(most + 1, 0), (most, 1), (0, most + 1)] {
            let body = body(&gauges(some), &gauges(more));
            assert_eq!(Body::parse(body.as_bytes()).unwrap_err(), ParseError::TooMany);
        }
        let attributes = |n: usize| (0..n).map(|i| format!("\"a{i}\":1")).collect::<Vec<_>>().join(",");
        let with = |n| Body::parse(format!(r#"{{"attributes":{{{}}}}}"#, attributes(n)).as_bytes());
        assert!(with(ATTRIBUTES_MAX).is_ok());
        assert!(matches!(with(ATTRIBUTES_MAX + 1), Err(ParseError::Json(_))));
    }

    #[test]
    fn scalars_keep_the_form_they_were_sent_in() {
        let body =
            r#"{"source":"s","measure_time":"17","period":true,"attributes":{"a":[1,{"b":2}],"c":"d"}}"#;
        let body = Body::parse(body.as_bytes()).unwrap();
        assert_eq!(body.source, Some(Scalar::Text("s".to_owned())));
        assert_eq!(body.measure_time, Some(Scalar::Text("17".to_owned())));
        assert_eq!(body.period, Some(Scalar::Bool(true)));
        let attributes = body.attributes.unwrap().0;
        assert_eq!(attributes["a"], Value::Null);
        assert_eq!(attributes["c"], Value::from("d"));
        assert_eq!(Body::parse(br#"{"source":null}"#).unwrap().source, None);
    }
}
