//! Measurements by source, as they are or summarized over time and sources.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::query::Query;
use crate::body::number_as_sent;
use crate::errors::{ApiError, Refusal};
use crate::store::Measured;
use crate::store::model::Summary;

/// The source under which measurements of all sources are given.
const ALL: &str = "all";

/// The measurements of each source.
pub(super) type BySource = BTreeMap<Arc<str>, Series>;

/// Measurements of one source, in order of time.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Series(Vec<(i64, Summary)>);

/// Adds the rows of a page to those before it.
pub(super) fn by_source(series: &mut BySource, rows: Vec<Measured>) {
    for row in rows {
        series.entry(row.source).or_default().0.push((row.measure_time, row.summary));
    }
}

impl Series {
    /// Turns the absolute values of a counter into what was added between them. One that went back
    /// was begun again at 0.
    pub(super) fn make_deltas(&mut self) {
        let mut before = None;
        self.0 = std::mem::take(&mut self.0)
            .into_iter()
            .filter_map(|(time, summary)| {
                let value = summary.last;
                let before = before.replace(value)?;
                let delta = if value >= before { value - before } else { value };
                Some((time, Summary::of(delta, time)))
            })
            .collect();
    }

    /// All of it in one, at its first time.
    fn in_one(self) -> Self {
        let mut measurements = self.0.into_iter();
        let Some((time, mut all)) = measurements.next() else { return Self::default() };
        measurements.for_each(|(_, summary)| all.merge(summary));
        Self(vec![(time, all)])
    }
}

/// What is to be summarized.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Summaries {
    /// The whole interval in one, for each source.
    over_time: bool,
    /// All sources in one, for each time.
    over_sources: bool,
    /// Each source besides.
    breakout: bool,
    /// A function over the sources, instead of merging what they measured.
    group_by: Option<Group>,
    /// Distributions with their buckets, which Librato's clients neither know nor want to read.
    buckets: bool,
}

/// A function over what several sources measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Group {
    Min,
    Max,
    Mean,
    Sum,
    Count,
}

impl Summaries {
    pub(super) fn of(query: &Query) -> Result<Self, ApiError> {
        let group_by = match query.text("group_by") {
            None => None,
            Some("min") => Some(Group::Min),
            Some("max") => Some(Group::Max),
            Some("mean") => Some(Group::Mean),
            Some("sum") => Some(Group::Sum),
            Some("count") => Some(Group::Count),
            Some(_) => {
                let text = "must be min, max, mean, sum or count";
                return Err(ApiError::param(Refusal::BadQuery, "group_by", text));
            }
        };
        let is_grouped = group_by.is_some();
        Ok(Self {
            over_time: query.flag("summarize_time")?.unwrap_or(false),
            over_sources: query.flag("summarize_sources")?.unwrap_or(false) || is_grouped,
            breakout: query.flag("breakout_sources")?.unwrap_or(!is_grouped),
            group_by,
            buckets: query.flag("buckets")?.unwrap_or(false),
        })
    }

    /// Whether anything is.
    pub(super) fn any(&self) -> bool {
        self.over_time || self.over_sources
    }

    /// The measurements under the names of their sources.
    pub(super) fn into_json(self, mut series: BySource) -> Value {
        if self.over_time {
            series.values_mut().for_each(|series| *series = std::mem::take(series).in_one());
        }
        let mut json = Map::new();
        if self.breakout || !self.over_sources {
            for (source, Series(measurements)) in &series {
                let measurements =
                    measurements.iter().map(|(time, summary)| self.measurement(*time, summary));
                json.insert(source.to_string(), measurements.collect());
            }
        }
        if self.over_sources {
            json.insert(ALL.to_owned(), self.all(series));
        }
        Value::Object(json)
    }

    /// What all sources measured, at each time or in all.
    fn all(&self, series: BySource) -> Value {
        let mut times: BTreeMap<i64, Vec<Summary>> = BTreeMap::new();
        // Summarized over time each source has its own first time; together they have the earliest.
        let first = series.values().filter_map(|series| series.0.first()).map(|(time, _)| *time).min();
        for (time, summary) in series.into_values().flat_map(|series| series.0) {
            let time = if self.over_time { first.unwrap_or(time) } else { time };
            times.entry(time).or_default().push(summary);
        }
        let rows = times.into_iter().map(|(time, summaries)| match self.group_by {
            Some(group) => group.measurement(time, &summaries),
            None => {
                let merged = summaries.into_iter().reduce(|mut all, summary| {
                    all.merge(summary);
                    all
                });
                merged.map_or(Value::Null, |all| self.measurement(time, &all))
            }
        });
        rows.collect()
    }

    /// A measurement; the distribution is an extension that only Zibrato's workers bring.
    fn measurement(self, time: i64, summary: &Summary) -> Value {
        let mut measurement = json!({
            "measure_time": time,
            "value": summary.mean(),
            "count": number_as_sent(summary.count),
            "sum": summary.sum,
            "min": summary.min,
            "max": summary.max,
            "sum_squares": summary.sum_squares,
        });
        if self.buckets
            && let Some(histogram) = &summary.histogram
        {
            let counts: Vec<u64> = histogram.cells_from_offset().map(|(_, count)| count).collect();
            let (scale, offset, zero) = (histogram.scale(), histogram.offset(), histogram.zero());
            measurement["buckets"] =
                json!({ "scale": scale, "offset": offset, "counts": counts, "zero": zero });
        }
        measurement
    }
}

impl Group {
    /// The function of each number that all sources have. Of the smallest and largest Librato's text
    /// says: with `max` they are the minimum of the maximums and the maximum of the maximums, so with
    /// `min` those of the minimums.
    fn measurement(self, time: i64, sources: &[Summary]) -> Value {
        let each = |number: fn(&Summary) -> Option<f64>| -> Option<Vec<f64>> {
            sources.iter().map(number).collect()
        };
        let min = match self {
            Self::Max => each(|summary| summary.max).map(|maximums| Self::Min.of(&maximums)),
            _ => each(|summary| summary.min).map(|minimums| self.of(&minimums)),
        };
        let max = match self {
            Self::Min => each(|summary| summary.min).map(|minimums| Self::Max.of(&minimums)),
            _ => each(|summary| summary.max).map(|maximums| self.of(&maximums)),
        };
        let count: f64 = sources.iter().map(|summary| summary.count).sum();
        json!({
            "measure_time": time,
            "value": each(|summary| Some(summary.mean())).map(|values| self.of(&values)),
            "count": number_as_sent(count),
            "sum": each(|summary| Some(summary.sum)).map(|sums| self.of(&sums)),
            "min": min,
            "max": max,
            "sum_squares": each(|summary| summary.sum_squares).map(|squares| self.of(&squares)),
            "summarized": sources.len(),
        })
    }

    fn of(self, numbers: &[f64]) -> f64 {
        let sum: f64 = numbers.iter().sum();
        match self {
            Self::Min => numbers.iter().copied().fold(f64::INFINITY, f64::min),
            Self::Max => numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            Self::Mean => sum / numbers.len() as f64,
            Self::Sum => sum,
            Self::Count => numbers.len() as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(values: &[(i64, f64)]) -> Series {
        Series(values.iter().map(|(time, value)| (*time, Summary::of(*value, *time))).collect())
    }

    fn summarized(query: &str) -> Value {
        let query = Query::of(&format!("/x?{query}").parse().unwrap());
        let sources = [("a", series(&[(60, 1.0), (120, 5.0)])), ("b", series(&[(60, 3.0)]))];
        let sources = sources.map(|(source, series)| (source.into(), series)).into();
        Summaries::of(&query).unwrap().into_json(sources)
    }

    fn times_and(field: &str, measurements: &Value) -> Vec<(i64, f64)> {
        let rows = measurements.as_array().unwrap().iter();
        rows.map(|row| (row["measure_time"].as_i64().unwrap(), row[field].as_f64().unwrap())).collect()
    }

    #[test]
    fn a_counter_becomes_what_was_added_and_begins_again_at_0() {
        let mut counter = series(&[(1, 100.0), (2, 150.0), (3, 150.0), (4, 20.0), (5, 30.0)]);
        counter.make_deltas();
        assert_eq!(counter, series(&[(2, 50.0), (3, 0.0), (4, 20.0), (5, 10.0)]));
    }

    #[test]
    fn time_and_sources_are_summarized_each_and_together() {
        let both = summarized("summarize_time=true&summarize_sources=true");
        assert_eq!(times_and("sum", &both["a"]), [(60, 6.0)]);
        assert_eq!(times_and("value", &both["a"]), [(60, 3.0)]);
        assert_eq!(times_and("sum", &both["all"]), [(60, 9.0)]);
        let sources = summarized("summarize_sources=1");
        assert_eq!(times_and("sum", &sources["all"]), [(60, 4.0), (120, 5.0)]);
        assert_eq!(times_and("sum", &sources["a"]), [(60, 1.0), (120, 5.0)]);
        let alone = summarized("summarize_sources=true&breakout_sources=false");
        assert_eq!(alone.as_object().unwrap().len(), 1);
        // Without `all` there is nothing to leave the sources out for.
        assert_eq!(summarized("breakout_sources=false").as_object().unwrap().len(), 2);
        assert!(summarized("").get("all").is_none());
    }

    #[test]
    fn a_group_is_a_function_of_each_number_and_says_how_many_it_took() {
        for (function, value) in [("min", 1.0), ("max", 3.0), ("mean", 2.0), ("sum", 4.0), ("count", 2.0)] {
            let group = summarized(&format!("group_by={function}"));
            assert_eq!(group.as_object().unwrap().len(), 1, "{function}");
            assert_eq!(times_and("value", &group["all"])[0], (60, value), "{function}");
            assert_eq!(times_and("summarized", &group["all"]), [(60, 2.0), (120, 1.0)]);
            assert_eq!(times_and("count", &group["all"]), [(60, 2.0), (120, 1.0)]);
        }
        let max = summarized("group_by=max&breakout_sources=true");
        assert_eq!(
            (times_and("min", &max["all"])[0], times_and("max", &max["all"])[0]),
            ((60, 1.0), (60, 3.0))
        );
        assert!(max.get("a").is_some());
        assert!(Summaries::of(&Query::of(&"/x?group_by=median".parse().unwrap())).is_err());
    }
}
