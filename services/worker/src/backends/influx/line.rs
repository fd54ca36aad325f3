//! One line: `name,tag=value field=number time`.

use std::borrow::Cow;
use std::fmt::Write as _;

use zibrato_core::kind::Kind;
use zibrato_core::text::Field;

use super::encode::reason;
use crate::measurement::SeriesKey;
use crate::numbers::Number;
use crate::tag_key::beside;

/// Keys that a metric's own tag does not get: ours; `time`, which InfluxDB refuses; and the columns of its later versions.
pub const OWN_KEYS: [&str; 10] =
    ["kind", "source", "unit", "time", "_field", "_measurement", "_start", "_stop", "_time", "_value"];
/// The unit of timers.
const SECONDS: &str = "s";

/// Measurement and tags of a series, the tags in the order of their keys, as InfluxDB likes them best.
///
/// # Errors
///
/// The reason for which the series is left out.
pub(super) fn key(series: &SeriesKey) -> Result<String, &'static str> {
    if !Field::Name.accepts(&series.name) {
        return Err(reason::BAD_NAME);
    }
    if !Field::Source.accepts(&series.source) {
        return Err(reason::BAD_SOURCE);
    }
    let unit = if series.kind == Kind::Timer { SECONDS } else { &series.unit };
    let mut tags: Vec<(Cow<'_, str>, &str)> =
        vec![("kind".into(), series.kind.as_str()), ("source".into(), &series.source), ("unit".into(), unit)];
    for (key, value) in &series.tags {
        if !Field::TagKey.accepts(key) {
            return Err(reason::BAD_TAG);
        }
        tags.push((beside(key, &OWN_KEYS), value));
    }
    tags.sort_unstable();
    let mut line = series.name.clone();
    // A tag without a value cannot be written, and is no tag.
    for (key, value) in tags.iter().filter(|(_, value)| !value.is_empty()) {
        line.push(',');
        line.push_str(key);
        line.push('=');
        escape(&mut line, value);
    }
    Ok(line)
}

/// Appends the value of a tag.
pub(super) fn escape(line: &mut String, value: &str) {
    for char in value.chars() {
        match char {
            ',' | '=' | ' ' => line.extend(['\\', char]),
            '\\' => line.push('/'),
            char if char.is_control() => line.push('_'),
            char => line.push(char),
        }
    }
}

/// Appends a line of these numbers, which have one time.
///
/// # Errors
///
/// The reason for which it is left out; nothing is appended then.
pub(super) fn write(line: &mut String, key: &str, numbers: &[Number]) -> Result<(), &'static str> {
    let Some(first) = numbers.first() else { return Err(reason::NO_NUMBERS) };
    if numbers.iter().any(|number| !number.value.is_finite()) {
        return Err(reason::NOT_FINITE);
    }
    line.push_str(key);
    for (at, Number { field, value, .. }) in numbers.iter().enumerate() {
        // Debug shows a float as one, with a point or an exponent. Writing to a String cannot fail.
        let _ = write!(line, "{}{field}={value:?}", if at == 0 { ' ' } else { ',' });
    }
    let _ = writeln!(line, " {}", first.time_ms);
    Ok(())
}

/// A line that was written here.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Line<'a> {
    /// The line without its end.
    pub text: &'a str,
}

impl<'a> Line<'a> {
    /// The lines of a body.
    pub(super) fn all(text: &'a str) -> impl Iterator<Item = Self> {
        text.lines().map(|text| Self { text })
    }

    /// Measurement and tags.
    pub(super) fn key(self) -> &'a str {
        self.parts().0
    }

    /// The measurement, in which nothing is escaped.
    pub(super) fn name(self) -> &'a str {
        let key = self.key();
        key.split_once(',').map_or(key, |(name, _)| name)
    }

    pub(super) fn has_field(self, field: &str) -> bool {
        let fields = self.parts().1;
        fields.split(',').any(|pair| pair.split_once('=').is_some_and(|(name, _)| name == field))
    }

    /// Whether it has this tag, whose value is not escaped.
    pub(super) fn has_tag(self, key: &str, value: &str) -> bool {
        let mut tag = format!(",{key}=");
        escape(&mut tag, value);
        self.key().match_indices(&tag).any(|(at, _)| {
            let rest = &self.key()[at + tag.len()..];
            rest.is_empty() || rest.starts_with(',')
        })
    }

    /// Unix milliseconds; 0 for a line that is not ours.
    pub(super) fn time_ms(self) -> u64 {
        self.parts().2.parse().unwrap_or(0)
    }

    /// Key, fields and time. Only the key has blanks of its own, and these are escaped.
    fn parts(self) -> (&'a str, &'a str, &'a str) {
        let (rest, time) = self.text.rsplit_once(' ').unwrap_or((self.text, ""));
        let (key, fields) = rest.rsplit_once(' ').unwrap_or((rest, ""));
        (key, fields, time)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::measurement::Measurement;
    use crate::test_support::{counter, timer};

    fn tagged(mut measurement: Measurement, unit: &str, tags: &[(&str, &str)]) -> SeriesKey {
        let series = Arc::make_mut(&mut measurement.series);
        series.unit = unit.to_owned();
        series.tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        series.clone()
    }

    fn hits(tags: &[(&str, &str)]) -> String {
        key(&tagged(counter("info", "hits", "web", 1.0), "", tags)).unwrap()
    }

    #[test]
    fn a_series_has_its_kind_source_unit_and_tags_in_the_order_of_keys() {
        assert_eq!(hits(&[]), "hits,kind=counter,source=web");
        let series = tagged(counter("info", "a.b:c_d-e", "web", 1.0), "MiB", &[("zone", "b"), ("app", "a")]);
        assert_eq!(key(&series).unwrap(), "a.b:c_d-e,app=a,kind=counter,source=web,unit=MiB,zone=b");
        let series = tagged(timer("info", "lat", "web", &[1]), "ms", &[]);
        assert_eq!(key(&series).unwrap(), "lat,kind=timer,source=web,unit=s");
    }

    #[test]
    fn values_are_escaped_and_what_cannot_be_is_replaced() {
        let rows = [
            ("plain/é\"'", "plain/é\"'"),
            ("a b,c=d", r"a\ b\,c\=d"),
            (r"C:\dir\", "C:/dir/"),
            (r"\,", r"/\,"),
            ("a\nb\u{85}", "a_b_"),
            ("#", "#"),
            (" ", r"\ "),
        ];
        for (value, expected) in rows {
            assert_eq!(hits(&[("t", value)]), format!("hits,kind=counter,source=web,t={expected}"));
        }
        assert_eq!(hits(&[("t", "")]), "hits,kind=counter,source=web");
    }

    #[test]
    fn own_keys_do_not_meet_those_of_the_metric() {
        let all: Vec<_> = OWN_KEYS.iter().map(|key| (*key, "x")).collect();
        let line = hits(&all);
        for own in OWN_KEYS {
            assert_eq!(line.matches(&format!(",{own}_=x")).count(), 1, "{line}");
        }
        assert!(line.contains(",kind=counter,") && line.contains(",source=web,"), "{line}");
        assert!(hits(&[("source", "a"), ("source_", "b")]).contains(",source_=a,source__=b"));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        assert_eq!(key(&counter("info", "a b", "web", 1.0).series), Err("bad_name"));
        assert_eq!(key(&counter("info", "a", "we,b", 1.0).series), Err("bad_source"));
        assert_eq!(key(&tagged(counter("info", "a", "web", 1.0), "", &[("a b", "c")])), Err("bad_tag"));
    }

    #[test]
    fn numbers_are_floats_and_never_infinite() {
        let number = |field: &str, value| Number { field: field.to_owned(), value, time_ms: 7 };
        let mut line = String::new();
        let values = [5.0, -0.5, 1e16, 1e300, 5e-324, 0.1];
        let numbers: Vec<_> = values.iter().map(|value| number("a", *value)).collect();
        write(&mut line, "k", &numbers).unwrap();
        assert_eq!(line, "k a=5.0,a=-0.5,a=1e16,a=1e300,a=5e-324,a=0.1 7\n");
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let mut line = String::new();
            assert_eq!(write(&mut line, "k", &[number("a", 1.0), number("b", bad)]), Err("not_finite"));
            assert_eq!(line, "");
        }
        assert_eq!(write(&mut String::new(), "k", &[]), Err("no_numbers"));
    }

    #[test]
    fn a_line_is_read_back() {
        let text = r"hits,kind=counter,route=a\ b\,c\=d,source=web count=5.0,rate=0.5 1700000000001";
        let line = Line { text };
        assert_eq!(line.key(), r"hits,kind=counter,route=a\ b\,c\=d,source=web");
        assert_eq!((line.name(), line.time_ms()), ("hits", 1_700_000_000_001));
        assert!(line.has_field("count") && line.has_field("rate") && !line.has_field("coun"));
        assert!(line.has_tag("route", "a b,c=d") && line.has_tag("source", "web"));
        assert!(!line.has_tag("route", "a b") && !line.has_tag("source", "we"));
        let other = Line { text: "garbage" };
        assert_eq!((other.name(), other.time_ms(), other.has_field("a")), ("garbage", 0, false));
    }
}
