//! Measurements with tags, of which each is taken or refused for itself.

use std::collections::BTreeMap;

use super::{Flaw, Kind, Point, Properties, SOURCE_UNASSIGNED, Times, fields, is_source, origin};
use crate::body::{Measurement, Series, TAGS_MAX, TaggedBody, Tags};
use crate::errors::Refusal;

/// The longest name and value of a tag, in characters.
const TAG_NAME_BYTES_MAX: usize = 64;
const TAG_VALUE_BYTES_MAX: usize = 255;
/// The tag that a plain source is.
const SOURCE_TAG: &str = "source";

/// What became of a batch.
#[derive(Debug, Default)]
pub(crate) struct Tagged {
    pub(crate) points: Vec<Point>,
    pub(crate) flaws: Vec<Flaw>,
}

/// The points of a body, and what is wrong with those measurements that are none.
pub(crate) fn tagged(body: TaggedBody, times: Times) -> Tagged {
    let TaggedBody { measurements, tags, time, period, attributes } = body;
    let defaults = Measurement { tags, time, period, attributes, ..Measurement::default() };
    let mut tagged = Tagged::default();
    for (_, measurement) in measurements.map(|Series(series)| series).unwrap_or_default() {
        match point(measurement, &defaults, times) {
            Ok(point) => tagged.points.push(point),
            Err(flaw) => tagged.flaws.push(flaw),
        }
    }
    tagged
}

fn point(measurement: Measurement, defaults: &Measurement, times: Times) -> Result<Point, Flaw> {
    let kind = Kind::Gauge;
    let name = fields::name(measurement.name.as_ref(), None)?;
    if let Some(source) = &measurement.source {
        let reason = "is not allowed with tags; give it as the tag source";
        return Err(Flaw::of(Refusal::BadSource, "source", source.text(), reason, &name));
    }
    let time = measurement.time.as_ref().or(defaults.time.as_ref());
    let measure_time = fields::time("time", time, times).map_err(|flaw| flaw.named(&name))?;
    let numbers = fields::numbers(kind, &measurement, &name)?;
    // Only the mean is stored, but what is sent must be a number.
    fields::number("last", measurement.last.as_ref(), &name)?;
    let buckets = fields::buckets(&measurement, &numbers, &name)?;
    let origin = origin::origin(measurement.origin.as_ref(), &name)?;
    // The tags of a measurement replace those of its batch; they are never merged.
    let (source, tags) = tags(measurement.tags.as_ref().or(defaults.tags.as_ref()), &name)?;
    let properties = Properties::of(kind, measurement, defaults, &name)?;
    Ok(Point { name, kind, source, measure_time, numbers, buckets, properties, origin, tags })
}

/// The source that stands for the tags, and the tags unless it is a plain one.
fn tags(given: Option<&Tags>, name: &str) -> Result<(String, Vec<(String, String)>), Flaw> {
    let mut tags = BTreeMap::new();
    for (key, value) in given.iter().flat_map(|Tags(tags)| tags) {
        let (key, value) = (key.to_ascii_lowercase(), value.text().to_ascii_lowercase());
        let refuse = |value: &str, reason| Err(Flaw::of(Refusal::BadTag, "tags", value, reason, name));
        if !is_tag_name(&key) {
            return refuse(&key, "is not a valid tag name");
        }
        if !is_tag_value(&value) {
            return refuse(&value, "is not a valid tag value");
        }
        tags.insert(key, value);
        if tags.len() > TAGS_MAX {
            return refuse("", "must be at most 50");
        }
    }
    let mut tags: Vec<_> = tags.into_iter().collect();
    match tags.as_mut_slice() {
        [] => Ok((SOURCE_UNASSIGNED.to_owned(), tags)),
        [(key, value)] if key == SOURCE_TAG && is_source(value) => Ok((std::mem::take(value), Vec::new())),
        _ => Ok((tag_text(&tags), tags)),
    }
}

/// The source of a series with tags, which no plain source can be.
fn tag_text(tags: &[(String, String)]) -> String {
    let pairs: Vec<_> = tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(",")
}

fn is_tag_name(text: &str) -> bool {
    (1..=TAG_NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.:_".contains(&byte))
}

fn is_tag_value(text: &str) -> bool {
    (1..=TAG_VALUE_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.:_?\\/ ".contains(&byte))
}
