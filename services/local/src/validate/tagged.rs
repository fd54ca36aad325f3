//! Measurements with tags, of which each is taken or refused for itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Defaults, Flaw, Kind, Point, Properties, SOURCE_UNASSIGNED, Times, fields, is_source, origin};
use crate::body::{Measurement, Series, TAGS_MAX, TaggedBody, Tags};
use crate::errors::Refusal;

/// The longest name and value of a tag, in characters.
const TAG_NAME_BYTES_MAX: usize = 64;
const TAG_VALUE_BYTES_MAX: usize = 255;
/// The tag that a plain source is.
const SOURCE_TAG: &str = "source";

/// The source that stands for tags, and the tags unless it is a plain one. Measurements that take those of
/// their batch share them.
type Identity = (Arc<str>, Arc<[(String, String)]>);

/// What became of a batch.
#[derive(Debug, Default)]
pub(crate) struct Tagged {
    pub(crate) points: Vec<Point>,
    pub(crate) flaws: Vec<Flaw>,
}

/// The points of a body, and what is wrong with those measurements that are none.
pub(crate) fn tagged(body: TaggedBody, times: Times) -> Tagged {
    let TaggedBody { measurements, tags, time, period, attributes } = body;
    let identity = identity(&tags.unwrap_or_default());
    let given = Measurement { time, period, attributes, ..Measurement::default() };
    let defaults = Defaults::of(Kind::Gauge, &given);
    let mut tagged = Tagged::default();
    for (_, measurement) in measurements.map(|Series(series)| series).unwrap_or_default() {
        match point(measurement, &defaults, &identity, times) {
            Ok(point) => tagged.points.push(point),
            Err(flaw) => tagged.flaws.push(flaw),
        }
    }
    tagged
}

fn point(
    measurement: Measurement,
    defaults: &Defaults<'_>,
    identity_default: &Result<Identity, Flaw>,
    times: Times,
) -> Result<Point, Flaw> {
    let kind = Kind::Gauge;
    let name = fields::name(measurement.name.as_ref(), None)?;
    if let Some(source) = &measurement.source {
        let reason = "is not allowed with tags; give it as the tag source";
        return Err(Flaw::of(Refusal::BadSource, "source", source.text(), reason, &name));
    }
    let time = measurement.time.as_ref().or(defaults.given.time.as_ref());
    let measure_time = fields::time("time", time, times).map_err(|flaw| flaw.named(&name))?;
    let numbers = fields::numbers(kind, &measurement, &name)?;
    // Only the mean is stored, but what is sent must be a number.
    fields::number("last", measurement.last.as_ref(), &name)?;
    let buckets = fields::buckets(&measurement, &numbers, &name)?;
    let origin = origin::origin(measurement.origin.as_ref(), &name)?;
    // The tags of a measurement replace those of its batch; they are never merged.
    let identity = match &measurement.tags {
        Some(own) => identity(own),
        None => identity_default.clone(),
    };
    let (source, tags) = identity.map_err(|flaw| flaw.named(&name))?;
    let properties = Properties::of(kind, measurement, defaults, &name)?;
    Ok(Point { name, kind, source, measure_time, numbers, buckets, properties, origin, tags })
}

fn identity(Tags(given): &Tags) -> Result<Identity, Flaw> {
    let mut tags = BTreeMap::new();
    for (key, value) in given {
        let (key, value) = (key.to_ascii_lowercase(), value.text().to_ascii_lowercase());
        let refuse = |value: &str, reason| Err(Flaw::of(Refusal::BadTag, "tags", value, reason, ""));
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
    let tags: Vec<_> = tags.into_iter().collect();
    match tags.as_slice() {
        [] => Ok((SOURCE_UNASSIGNED.into(), Arc::default())),
        [(key, value)] if key == SOURCE_TAG && is_source(value) => {
            Ok((value.as_str().into(), Arc::default()))
        }
        _ => Ok((tag_text(&tags).into(), tags.into())),
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
