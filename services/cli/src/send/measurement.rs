//! One measurement to send, from flags or from a line of text or JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use zibrato_core::kind::Kind;
use zibrato_core::limits::TAGS_MAX;
use zibrato_core::text::Field;

use crate::units::{DURATION_ACCEPTED, parse_duration};

/// Largest whole number that a floating-point number holds exactly.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
/// Fields of a line: kind, name, value, level, source.
const FIELDS_MAX: usize = 5;

/// What goes over the wire, and so what values may look like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wire {
    State,
    Legacy,
}

/// What a measurement says of itself if it does not say otherwise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Defaults {
    pub(super) level: String,
    pub(super) source: String,
    pub(super) unit: String,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) wire: Wire,
}

/// A measurement whose texts and value are accepted.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Measurement {
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) value: Value,
    pub(super) level: String,
    pub(super) source: String,
    pub(super) unit: String,
    pub(super) tags: BTreeMap<String, String>,
}

/// A value as its kind and the wire take it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Value {
    /// An increment of a counter.
    Whole(u64),
    /// The value of a gauge; in legacy text also an increment, which may be negative or a fraction.
    Number(f64),
    /// What a timer measured.
    Duration(Duration),
}

/// A line of JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonLine {
    kind: String,
    name: String,
    value: serde_json::Value,
    level: Option<String>,
    source: Option<String>,
    unit: Option<String>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
}

impl Measurement {
    /// Checks every text and reads the value.
    ///
    /// # Errors
    /// What is wrong and what is accepted, in one line.
    pub(super) fn new(kind: Kind, name: &str, value: &str, defaults: &Defaults) -> Result<Self, String> {
        let Defaults { level, source, unit, tags, wire } = defaults;
        let (level, source, unit, tags) = (level.clone(), source.clone(), unit.clone(), tags.clone());
        let value = parse_value(kind, value, *wire)?;
        check(Field::Name, name)?;
        check(Field::Level, &level)?;
        check(Field::Source, &source)?;
        check(Field::Unit, &unit)?;
        for (key, value) in &tags {
            check(Field::TagKey, key)?;
            check(Field::TagValue, value)?;
        }
        if tags.len() > TAGS_MAX {
            return Err(format!("{} tags: accepted are at most {TAGS_MAX}", tags.len()));
        }
        if *wire == Wire::Legacy && !(unit.is_empty() && tags.is_empty()) {
            return Err(
                "a legacy message has no unit and no tags: leave them out, or leave out --legacy".to_owned()
            );
        }
        Ok(Self { kind, name: name.to_owned(), value, level, source, unit, tags })
    }

    /// Reads a line; `None` for a blank one and for a comment.
    ///
    /// # Errors
    /// As [`Measurement::new`].
    pub(super) fn parse(line: &str, defaults: &Defaults) -> Result<Option<Self>, String> {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return Ok(None);
        }
        let measurement =
            if line.starts_with('{') { parse_json(line, defaults) } else { parse_text(line, defaults) };
        measurement.map(Some)
    }
}

fn parse_text(line: &str, defaults: &Defaults) -> Result<Measurement, String> {
    let fields: Vec<_> = line.split_whitespace().take(FIELDS_MAX + 1).collect();
    let (&[kind, name, value], more) = fields.split_first_chunk().ok_or_else(fields_wanted)?;
    if fields.len() > FIELDS_MAX {
        return Err(fields_wanted());
    }
    let mut own = defaults.clone();
    if let Some(level) = more.first() {
        own.level = (*level).to_owned();
    }
    if let Some(source) = more.get(1) {
        own.source = (*source).to_owned();
    }
    Measurement::new(parse_kind(kind)?, name, value, &own)
}

fn fields_wanted() -> String {
    "accepted is KIND NAME VALUE [LEVEL] [SOURCE], or a JSON object".to_owned()
}

fn parse_json(line: &str, defaults: &Defaults) -> Result<Measurement, String> {
    let json: JsonLine =
        serde_json::from_str(line).map_err(|error| format!("not accepted as JSON: {error}"))?;
    let value = match json.value {
        serde_json::Value::String(text) => text,
        serde_json::Value::Number(number) => number.to_string(),
        other => return Err(format!("value {other} is not accepted: give a number or a string")),
    };
    let mut own = defaults.clone();
    own.level = json.level.unwrap_or(own.level);
    own.source = json.source.unwrap_or(own.source);
    own.unit = json.unit.unwrap_or(own.unit);
    own.tags.extend(json.tags);
    Measurement::new(parse_kind(&json.kind)?, &json.name, &value, &own)
}

/// Reads a kind by its name.
///
/// # Errors
/// What is accepted.
pub(super) fn parse_kind(text: &str) -> Result<Kind, String> {
    let kinds = [Kind::Counter, Kind::Gauge, Kind::Timer];
    let kind = kinds.into_iter().find(|kind| kind.as_str() == text);
    kind.ok_or_else(|| format!("kind {text:?} is not accepted: give counter, gauge or timer"))
}

fn parse_value(kind: Kind, text: &str, wire: Wire) -> Result<Value, String> {
    let refused = |accepted: &str| format!("value {text:?} of a {kind} is not accepted: give {accepted}");
    match (kind, wire) {
        (Kind::Counter, Wire::State) => whole(text)
            .map(Value::Whole)
            .ok_or_else(|| refused("a whole number from 0 to 18446744073709551615")),
        (Kind::Counter, Wire::Legacy) | (Kind::Gauge, _) => text
            .parse::<f64>()
            .ok()
            .filter(|value| value.is_finite())
            .map(Value::Number)
            .ok_or_else(|| refused("a finite number")),
        (Kind::Timer, _) => parse_duration(text).map(Value::Duration).map_err(|_| refused(DURATION_ACCEPTED)),
    }
}

/// A whole number, also if it is written as a fraction or with an exponent.
fn whole(text: &str) -> Option<u64> {
    let fraction = || {
        let value = text.parse::<f64>().ok()?;
        (value.fract() == 0.0 && (0.0..=WHOLE_MAX).contains(&value)).then_some(value as u64)
    };
    text.parse().ok().or_else(fraction)
}

fn check(field: Field, text: &str) -> Result<(), String> {
    accept(field, text).map_err(|error| format!("{text:?}: {error}"))
}

/// Refuses a text that its field does not accept, and names the character that is to blame if one is.
pub(super) fn accept(field: Field, text: &str) -> Result<(), String> {
    field.check(text).map_err(|error| {
        match text.chars().find(|char| !field.accepts(char.encode_utf8(&mut [0; 4]))) {
            Some(bad) => format!("{error}; it has {bad:?}"),
            None => error.to_string(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaults(wire: Wire) -> Defaults {
        let tags = [("zone".to_owned(), "a".to_owned())];
        let tags = if wire == Wire::State { tags.into() } else { BTreeMap::new() };
        let (level, source) = ("info".to_owned(), "not_specified".to_owned());
        Defaults { level, source, unit: String::new(), tags, wire }
    }

    fn parse(line: &str) -> Result<Option<Measurement>, String> {
        Measurement::parse(line, &defaults(Wire::State))
    }

    #[test]
    fn a_line_is_kind_name_value_and_then_level_and_source_if_they_differ() {
        let plain = parse("counter web.requests 3").unwrap().unwrap();
        assert_eq!((plain.kind, &*plain.name, plain.value), (Kind::Counter, "web.requests", Value::Whole(3)));
        assert_eq!((&*plain.level, &*plain.source), ("info", "not_specified"));
        assert_eq!(plain.tags["zone"], "a");
        let full = parse(" gauge\tdepth -1.5 debug web1 ").unwrap().unwrap();
        assert_eq!((full.value, &*full.level, &*full.source), (Value::Number(-1.5), "debug", "web1"));
        assert_eq!(parse(""), Ok(None));
        assert_eq!(parse("  # a comment"), Ok(None));
    }

    #[test]
    fn a_line_of_json_may_also_have_unit_and_tags() {
        let line = r#"{"kind":"timer","name":"t","value":"1.5ms","source":"s","unit":"s","tags":{"route":"/","zone":"b"}}"#;
        let json = parse(line).unwrap().unwrap();
        assert_eq!(json.value, Value::Duration(Duration::from_micros(1_500)));
        assert_eq!((&*json.unit, &*json.tags["route"], &*json.tags["zone"]), ("s", "/", "b"));
        let number = parse(r#"{"kind":"timer","name":"t","value":0.25}"#).unwrap().unwrap();
        assert_eq!(number.value, Value::Duration(Duration::from_millis(250)));
        let most = parse(r#"{"kind":"counter","name":"c","value":18446744073709551615}"#).unwrap().unwrap();
        assert_eq!(most.value, Value::Whole(u64::MAX));
    }

    #[test]
    fn a_whole_number_may_be_written_as_a_fraction() {
        for (text, value) in [("5.0", 5), ("1e3", 1_000), ("0", 0), ("18446744073709551615", u64::MAX)] {
            assert_eq!(whole(text), Some(value), "{text}");
        }
        for bad in ["-1", "1.5", "1e300", "", "x", "18446744073709551616"] {
            assert_eq!(whole(bad), None, "{bad}");
        }
    }

    #[test]
    fn each_refusal_says_what_is_accepted() {
        let many: Vec<_> = (0..9).map(|at| format!(r#""k{at}":"v""#)).collect();
        let many = format!(r#"{{"kind":"gauge","name":"n","value":1,"tags":{{{}}}}}"#, many.join(","));
        for (line, part) in [
            ("counter", "accepted is KIND NAME VALUE"),
            ("counter n", "accepted is KIND NAME VALUE"),
            ("counter n 1 info s x", "accepted is KIND NAME VALUE"),
            ("count n 1", "kind \"count\" is not accepted: give counter, gauge or timer"),
            ("counter n -1", "value \"-1\" of a counter is not accepted: give a whole number"),
            ("gauge n NaN", "give a finite number"),
            ("gauge n high", "give a finite number"),
            ("timer n 1w", "give a number with ns, us, ms, s, min, h or d behind it"),
            ("timer n -1", "from 0 to 4e9 s"),
            ("counter a|b 1", "\"a|b\": name of 3 bytes refused"),
            ("counter n 1 a|b", "level of 3 bytes refused"),
            ("counter n 1 info a/b", "source of 3 bytes refused"),
            ("{}", "not accepted as JSON: missing field"),
            ("{\"kind\":\"gauge\",\"name\":\"n\",\"value\":1,\"nmae\":2}", "unknown field"),
            ("{\"kind\":\"gauge\",\"name\":\"n\",\"value\":true}", "value true is not accepted"),
            ("{\"kind\":\"gauge\",\"name\":\"n\",\"value\":1,\"tags\":{\"\":\"v\"}}", "tag key of 0 bytes"),
            ("{\"kind\":\"gauge\",\"name\":\"n\",\"value\":1,\"tags\":{\"k\":\"\"}}", "tag value of 0 bytes"),
            ("{\"kind\":\"gauge\",\"name\":\"n\",\"value\":1,\"unit\":\"\\n\"}", "unit of 1 bytes"),
            (&many, "accepted are at most 8"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(part) && !error.contains('\n'), "{line}: {error}");
        }
    }

    #[test]
    fn legacy_text_takes_any_number_for_a_counter_and_has_no_tags() {
        let legacy = defaults(Wire::Legacy);
        let counter = Measurement::parse("counter n -0.5", &legacy).unwrap().unwrap();
        assert_eq!(counter.value, Value::Number(-0.5));
        let tagged = r#"{"kind":"gauge","name":"n","value":1,"tags":{"k":"v"}}"#;
        assert!(Measurement::parse(tagged, &legacy).unwrap_err().contains("has no unit and no tags"));
    }
}
