//! The values of which bodies are made, read without building what is not wanted.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// The most attributes of one metric.
pub(super) const ATTRIBUTES_MAX: usize = 64;
/// The longest text, in bytes; no field takes as much. Longer ones would be repeated in errors, once for
/// each measurement that takes them from its batch.
pub(super) const TEXT_BYTES_MAX: usize = 64 * 1024;
/// The most tags of one measurement.
pub(crate) const TAGS_MAX: usize = 50;

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

/// The tags of a measurement, in the order sent. One more than [`TAGS_MAX`] says that there were too many.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tags(pub(crate) Vec<(String, Scalar)>);

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

            fn visit_str<E: Error>(self, value: &str) -> Result<Scalar, E> {
                if value.len() > TEXT_BYTES_MAX {
                    return Err(E::custom(format!("a text of more than {TEXT_BYTES_MAX} bytes")));
                }
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
                    attributes.insert(key, value.into());
                }
                Ok(Attributes(attributes))
            }
        }
        deserializer.deserialize_map(Flat)
    }
}

impl<'de> Deserialize<'de> for Tags {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Tags;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a hash of tags")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut hash: A) -> Result<Tags, A::Error> {
                let mut tags = Vec::new();
                while let Some(key) = hash.next_key()? {
                    if tags.len() > TAGS_MAX {
                        hash.next_value::<IgnoredAny>()?;
                    } else {
                        tags.push((key, hash.next_value()?));
                    }
                }
                Ok(Tags(tags))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

impl From<Scalar> for Value {
    fn from(scalar: Scalar) -> Self {
        match scalar {
            Scalar::Number(number) => number_as_sent(number),
            Scalar::Text(text) => Self::from(text),
            Scalar::Bool(bool) => Self::from(bool),
            Scalar::Other => Self::Null,
        }
    }
}

/// The number as JSON, without a fraction unless it has one.
pub(crate) fn number_as_sent(number: f64) -> Value {
    /// Beyond it not every integer is a double.
    const INTEGER_MAX: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() <= INTEGER_MAX {
        Value::from(number as i64)
    } else {
        number.into()
    }
}

impl From<Value> for Scalar {
    fn from(value: Value) -> Self {
        match value {
            Value::Number(number) => number.as_f64().map_or(Self::Other, Self::Number),
            Value::String(text) => Self::Text(text),
            Value::Bool(bool) => Self::Bool(bool),
            Value::Null | Value::Array(_) | Value::Object(_) => Self::Other,
        }
    }
}

impl Scalar {
    /// A finite number, or a string that is one: forms have no numbers, and the original zibrato sends
    /// `measure_time` in quotes.
    pub(crate) fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => text.trim().parse().ok().filter(|number: &f64| number.is_finite()),
            Self::Bool(_) | Self::Other => None,
        }
    }

    /// The value as text; arrays and hashes are empty.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
            Self::Bool(bool) => bool.to_string(),
            Self::Other => String::new(),
        }
    }
}
