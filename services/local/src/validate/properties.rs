//! The properties of a metric: what a first measurement may bring and a PUT changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::{Defaults, Flaw, Kind};
use crate::body::{Attributes, Measurement, Scalar, number_as_sent};
use crate::errors::{ApiError, Refusal};

/// The longest description, display name and attribute, in bytes.
const TEXT_BYTES_MAX: usize = 1_024;
/// The longest name of an attribute, in bytes.
const KEY_BYTES_MAX: usize = 64;
/// What the receiver sets itself: who created the metric.
const CREATED_BY: &str = "created_by_ua";
/// The attributes that Librato knows; in a PUT they may stand beside the properties.
const KNOWN: [&str; 10] = [
    "aggregate",
    "color",
    "display_max",
    "display_min",
    "display_stacked",
    "display_transform",
    "display_units_long",
    "display_units_short",
    "gap_detection",
    "summarize_function",
];

/// Attributes that counters do not have.
const GAUGES_ONLY: [&str; 2] = ["aggregate", "summarize_function"];

/// What a metric gets when a point creates it; without effect on a metric that exists.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Properties {
    pub(crate) period: Option<i64>,
    pub(crate) description: Option<String>,
    pub(crate) display_name: Option<String>,
    pub(crate) attributes: Arc<BTreeMap<String, Value>>,
}

impl Properties {
    /// The properties that a measurement brings, or its batch as a whole.
    pub(super) fn of(
        kind: Kind,
        measurement: Measurement,
        defaults: &Defaults<'_>,
        name: &str,
    ) -> Result<Self, Flaw> {
        let refuse =
            |(param, reason): BadProperty<'_>| Flaw::of(Refusal::BadProperty, param, "", reason, name);
        let text = |param, given: &Option<Scalar>| match given {
            Some(given) => text(param, given.clone()).map(Some).map_err(refuse),
            None => Ok(None),
        };
        let period = match measurement.period.as_ref().or(defaults.given.period.as_ref()) {
            Some(given) => Some(period(given).map_err(refuse)?),
            None => None,
        };
        let description = text("description", &measurement.description)?;
        let display_name = text("display_name", &measurement.display_name)?;
        let attributes = match &measurement.attributes {
            Some(own) => attributes(kind, Some(own)),
            None => defaults.attributes.clone(),
        };
        let attributes = attributes.map_err(|flaw| flaw.named(name))?;
        Ok(Self { period, description, display_name, attributes })
    }

    /// Whether service-side aggregation was asked for.
    pub(crate) fn is_aggregated(&self) -> bool {
        self.attributes.get("aggregate") == Some(&Value::Bool(true))
    }
}

/// The attributes that metrics of this kind have.
pub(super) fn attributes(
    kind: Kind,
    given: Option<&Attributes>,
) -> Result<Arc<BTreeMap<String, Value>>, Flaw> {
    let mut attributes = BTreeMap::new();
    for (key, value) in given.iter().flat_map(|Attributes(given)| given) {
        if key != CREATED_BY && is_for(kind, key) {
            let value = attribute(key, value.clone())
                .map_err(|(param, reason)| Flaw::of(Refusal::BadProperty, param, "", reason, ""))?;
            attributes.insert(key.clone(), value);
        }
    }
    Ok(Arc::new(attributes))
}

/// What to change of a metric. An inner `None` or `Null` takes the property away.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Changes {
    pub(crate) period: Option<Option<i64>>,
    pub(crate) description: Option<Option<String>>,
    pub(crate) display_name: Option<Option<String>>,
    pub(crate) attributes: BTreeMap<String, Value>,
}

impl Changes {
    /// The changes that the parameters of a PUT ask for; unknown parameters are not looked at. An empty
    /// text takes away as null does, because a form has no null.
    pub(crate) fn of(params: &serde_json::Map<String, Value>) -> Result<Self, ApiError> {
        let refuse = |(param, reason): BadProperty<'_>| ApiError::param(Refusal::BadProperty, param, reason);
        let mut changes = Self::default();
        for (key, value) in params {
            let is_gone = value.is_null() || value.as_str() == Some("");
            let given = (!is_gone).then(|| Scalar::from(value.clone()));
            match key.as_str() {
                "period" => {
                    let period = given.as_ref().map(period).transpose();
                    changes.period = Some(period.map_err(refuse)?);
                }
                "description" => {
                    changes.description =
                        Some(given.map(|given| text(key, given)).transpose().map_err(refuse)?);
                }
                "display_name" => {
                    changes.display_name =
                        Some(given.map(|given| text(key, given)).transpose().map_err(refuse)?);
                }
                "attributes" => match value {
                    Value::Object(attributes) => {
                        for (key, value) in attributes.iter().filter(|(key, _)| *key != CREATED_BY) {
                            let value = attribute(key, value.clone()).map_err(refuse)?;
                            changes.attributes.insert(key.clone(), value);
                        }
                    }
                    _ => return Err(refuse((key, "is not a hash"))),
                },
                key if KNOWN.contains(&key) => {
                    let value = attribute(key, value.clone()).map_err(refuse)?;
                    changes.attributes.insert(key.to_owned(), value);
                }
                _ => {}
            }
        }
        Ok(changes)
    }
}

/// Whether metrics of this kind have the attribute.
pub(crate) fn is_for(kind: Kind, key: &str) -> bool {
    kind == Kind::Gauge || !GAUGES_ONLY.contains(&key)
}

/// Which property is bad, and why.
type BadProperty<'a> = (&'a str, &'static str);

fn text(param: &str, given: Scalar) -> Result<String, BadProperty<'_>> {
    match given {
        Scalar::Other => Err((param, "is not a string")),
        given => {
            let text = given.text();
            if text.len() > TEXT_BYTES_MAX { Err((param, "is longer than 1024 bytes")) } else { Ok(text) }
        }
    }
}

fn period(given: &Scalar) -> Result<i64, BadProperty<'static>> {
    match given.number() {
        Some(seconds) if seconds >= 0.0 => Ok(seconds as i64),
        _ => Err(("period", "is not a number")),
    }
}

/// The attribute in its own type, because a form sends all as text.
fn attribute(key: &str, value: Value) -> Result<Value, BadProperty<'_>> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(("attributes", "must have names of 1 to 64 bytes"));
    }
    if value.is_null() || value.as_str() == Some("") {
        return Ok(Value::Null);
    }
    let given = Scalar::from(value);
    match key {
        "display_max" | "display_min" => match given.number() {
            Some(number) => Ok(number_as_sent(number)),
            None => Err((key, "is not a number")),
        },
        "aggregate" | "display_stacked" | "gap_detection" => match given.text().as_str() {
            "true" | "1" => Ok(true.into()),
            "false" | "0" => Ok(false.into()),
            _ => Err((key, "must be true or false")),
        },
        "color" => checked(key, given, is_color, "must be a color such as #52D74C"),
        "display_transform" => {
            checked(key, given, is_transform, "must be a formula of digits, x, p and + - * / ( )")
        }
        "summarize_function" => {
            let is_known = |text: &str| matches!(text, "average" | "sum" | "count" | "min" | "max");
            checked(key, given, is_known, "must be average, sum, count, min or max")
        }
        _ => match given {
            Scalar::Other => Err((key, "is not a string, number or boolean")),
            Scalar::Text(given) => text(key, Scalar::Text(given)).map(Value::from),
            given => Ok(given.into()),
        },
    }
}

fn checked<'a>(
    key: &'a str,
    given: Scalar,
    is_good: impl Fn(&str) -> bool,
    reason: &'static str,
) -> Result<Value, BadProperty<'a>> {
    let text = text(key, given)?;
    if is_good(&text) { Ok(text.into()) } else { Err((key, reason)) }
}

fn is_color(text: &str) -> bool {
    text.strip_prefix('#')
        .is_some_and(|hex| hex.len() == 6 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Librato's `/^[\dxp()*+-\/ ]+$/`, in which `+-\/` is a range.
fn is_transform(text: &str) -> bool {
    text.bytes().all(|byte| {
        byte.is_ascii_digit() || matches!(byte, b'x' | b'p' | b'(' | b')' | b'*' | b'+'..=b'/' | b' ')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_get_their_own_types_and_bad_ones_are_refused() {
        for (key, sent, expected) in [
            ("display_min", Value::from("0"), Value::from(0)),
            ("display_max", Value::from("7.5"), Value::from(7.5)),
            ("aggregate", Value::from("true"), Value::from(true)),
            ("display_stacked", Value::from(false), Value::from(false)),
            ("color", Value::from("#52D74c"), Value::from("#52D74c")),
            ("display_transform", Value::from("(x-32)*5/9.0"), Value::from("(x-32)*5/9.0")),
            ("summarize_function", Value::from("sum"), Value::from("sum")),
            ("display_units_short", Value::from("ms"), Value::from("ms")),
            ("team", Value::from(3), Value::from(3)),
            ("color", Value::from(""), Value::Null),
            ("aggregate", Value::Null, Value::Null),
        ] {
            assert_eq!(attribute(key, sent.clone()), Ok(expected), "{key} {sent}");
        }
        let long = "x".repeat(TEXT_BYTES_MAX + 1);
        for (key, sent) in [
            ("display_min", "low"),
            ("aggregate", "maybe"),
            ("color", "red"),
            ("color", "#52D74C0"),
            ("display_transform", "x;1"),
            ("summarize_function", "median"),
            ("team", &long),
        ] {
            assert_eq!(attribute(key, Value::from(sent)).unwrap_err().0, key, "{sent}");
        }
        assert!(attribute("team", serde_json::json!([1])).is_err());
        assert!(attribute(&"k".repeat(KEY_BYTES_MAX + 1), Value::from(1)).is_err());
    }

    #[test]
    fn a_put_changes_what_it_names_and_takes_away_what_is_null_or_empty() {
        let params = serde_json::json!({
            "period": "60", "description": "", "display_name": "D", "display_min": "1", "color": null,
            "attributes": {"aggregate": "true", "created_by_ua": "me"}, "type": "gauge", "other": [1],
        });
        let changes = Changes::of(params.as_object().unwrap()).unwrap();
        assert_eq!((changes.period, changes.description), (Some(Some(60)), Some(None)));
        assert_eq!(changes.display_name, Some(Some("D".to_owned())));
        let expected =
            [("aggregate", Value::from(true)), ("color", Value::Null), ("display_min", Value::from(1))];
        assert_eq!(changes.attributes, expected.map(|(key, value)| (key.to_owned(), value)).into());
        for bad in [
            serde_json::json!({"period": "often"}),
            serde_json::json!({"period": -1}),
            serde_json::json!({"description": [1]}),
            serde_json::json!({"attributes": 5}),
            serde_json::json!({"color": "red"}),
        ] {
            assert!(Changes::of(bad.as_object().unwrap()).is_err(), "{bad}");
        }
    }
}
