//! What is told of each measurement, and how streams become one.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Streams, Tags};
use crate::api::query::Query;
use crate::errors::{ApiError, Refusal};
use crate::store::catalogue::Metric;
use crate::store::model::Summary;

/// The property of a measurement that a query reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Function {
    Sum,
    Count,
    Min,
    Max,
    Mean,
    Stddev,
    /// From one measurement to the next.
    Derivative,
    /// Each of the others but the derivative.
    All,
}

impl Function {
    /// The `summary_function`, or else the metric's attribute `summarize_function`, or else the mean.
    pub(super) fn of(query: &Query, metric: &Metric) -> Result<Self, ApiError> {
        let persisted = metric.attributes.get("summarize_function").and_then(Value::as_str);
        match query.text("summary_function").or(persisted).unwrap_or("mean") {
            "sum" => Ok(Self::Sum),
            "count" => Ok(Self::Count),
            "min" => Ok(Self::Min),
            "max" => Ok(Self::Max),
            "mean" | "average" => Ok(Self::Mean),
            "stddev" => Ok(Self::Stddev),
            "derivative" => Ok(Self::Derivative),
            "all" => Ok(Self::All),
            _ => {
                let text = "must be sum, min, max, count, mean, derivative, stddev or all";
                Err(ApiError::param(Refusal::BadQuery, "summary_function", text))
            }
        }
    }

    /// The measurements of a stream as they are told.
    pub(super) fn values(self, rows: Vec<(i64, Summary)>) -> Vec<Value> {
        if self == Self::All {
            return rows.iter().map(|(time, summary)| all(*time, summary)).collect();
        }
        let values = self.numbers(rows).into_iter();
        values.map(|(time, value)| json!({ "time": time, "value": value })).collect()
    }

    /// One number for each measurement that has it.
    fn numbers(self, rows: Vec<(i64, Summary)>) -> Vec<(i64, f64)> {
        let mut before = None;
        let rows = rows.into_iter().filter_map(|(time, summary)| {
            let value = match self {
                Self::Sum => Some(summary.sum),
                Self::Count => Some(summary.count),
                Self::Min => summary.min,
                Self::Max => summary.max,
                Self::Mean | Self::All => Some(summary.mean()),
                Self::Stddev => stddev(&summary),
                Self::Derivative => before.replace(summary.last).map(|before| summary.last - before),
            };
            Some((time, value?))
        });
        rows.collect()
    }
}

/// How streams become one: the tags whose values a group shares, and the function over its streams.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Group {
    names: Vec<String>,
    function: Function,
}

impl Group {
    /// The groups given by `group_by` (`*` for one of all streams) and `group_by_function`.
    pub(super) fn of(query: &Query, function: Function) -> Result<Option<Self>, ApiError> {
        let Some(group_by) = query.text("group_by") else { return Ok(None) };
        let refuse = |param, text| Err(ApiError::param(Refusal::BadQuery, param, text));
        if function == Function::All {
            return refuse("group_by", "must not be set with summary_function=all");
        }
        let function = match query.text("group_by_function") {
            None => return Err(ApiError::condition("group_by_function")),
            Some("sum") => Function::Sum,
            Some("min") => Function::Min,
            Some("max") => Function::Max,
            Some("mean") => Function::Mean,
            Some(_) => return refuse("group_by_function", "must be sum, min, max or mean"),
        };
        let names = group_by.split(',').map(|name| name.trim().to_ascii_lowercase());
        Ok(Some(Self { names: names.filter(|name| name != "*").collect(), function }))
    }

    /// Whether a stream has all tags of the group.
    pub(super) fn fits(&self, tags: &Tags) -> bool {
        self.names.iter().all(|name| tags.contains_key(name))
    }

    /// The streams of each group in one.
    pub(super) fn series(&self, streams: Streams, function: Function) -> Vec<(Tags, Vec<Value>)> {
        let mut groups: BTreeMap<Tags, BTreeMap<i64, Vec<f64>>> = BTreeMap::new();
        for (tags, rows) in streams {
            let tags = tags.into_iter().filter(|(name, _)| self.names.contains(name)).collect();
            let group = groups.entry(tags).or_default();
            for (time, value) in function.numbers(rows) {
                group.entry(time).or_default().push(value);
            }
        }
        let groups = groups.into_iter().map(|(tags, times)| {
            let rows = times.into_iter();
            (tags, rows.map(|(time, values)| json!({ "time": time, "value": self.value(&values) })).collect())
        });
        groups.collect()
    }

    fn value(&self, values: &[f64]) -> f64 {
        let sum: f64 = values.iter().sum();
        match self.function {
            Function::Min => values.iter().copied().fold(f64::INFINITY, f64::min),
            Function::Max => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            Function::Mean => sum / values.len() as f64,
            _ => sum,
        }
    }
}

/// The standard deviation of all that was measured, if it is known.
fn stddev(summary: &Summary) -> Option<f64> {
    let mean = summary.mean();
    // Rounding may leave a little less than nothing.
    Some((summary.sum_squares? / summary.count - mean * mean).max(0.0).sqrt())
}

fn all(time: i64, summary: &Summary) -> Value {
    json!({
        "time": time,
        "count": summary.count,
        "sum": summary.sum,
        "min": summary.min,
        "max": summary.max,
        "mean": summary.mean(),
        "stddev": stddev(summary),
        "last": summary.last,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(attributes: Value) -> Metric {
        let attributes = attributes.as_object().cloned().unwrap_or_default();
        Metric {
            id: 1,
            name: "m".to_owned(),
            kind: crate::validate::Kind::Gauge,
            period: None,
            description: None,
            display_name: None,
            attributes,
            origin: None,
        }
    }

    fn query(text: &str) -> Query {
        Query::of(&format!("/x?{text}").parse().unwrap())
    }

    #[test]
    fn each_function_reads_its_property() {
        let row = |time, last| {
            let summary = Summary {
                count: 3.0,
                sum: 9.0,
                min: Some(1.0),
                max: Some(6.0),
                sum_squares: Some(41.0),
                ..Summary::of(last, time)
            };
            (time, summary)
        };
        for (name, expected) in [
            ("sum", 9.0),
            ("count", 3.0),
            ("min", 1.0),
            ("max", 6.0),
            ("mean", 3.0),
            ("stddev", (14.0_f64 / 3.0).sqrt()),
            ("derivative", 4.0),
        ] {
            let function =
                Function::of(&query(&format!("summary_function={name}")), &metric(json!({}))).unwrap();
            let rows = function.values(vec![row(60, 2.0), row(120, 6.0)]);
            let last = rows.last().unwrap();
            assert!((last["value"].as_f64().unwrap() - expected).abs() < 1e-12, "{name}: {rows:?}");
            assert_eq!(rows.len(), if name == "derivative" { 1 } else { 2 }, "{name}");
        }
        let all = Function::All.values(vec![row(60, 2.0)]);
        assert_eq!((&all[0]["last"], &all[0]["mean"]), (&json!(2.0), &json!(3.0)));
    }

    #[test]
    fn the_metric_has_its_own_function_unless_the_query_names_one() {
        let summed = metric(json!({ "summarize_function": "sum" }));
        assert_eq!(Function::of(&query(""), &summed), Ok(Function::Sum));
        assert_eq!(Function::of(&query("summary_function=max"), &summed), Ok(Function::Max));
        assert_eq!(
            Function::of(&query(""), &metric(json!({ "summarize_function": "average" }))),
            Ok(Function::Mean)
        );
        assert!(Function::of(&query("summary_function=median"), &summed).is_err());
    }

    #[test]
    fn groups_share_the_values_of_their_tags() {
        let stream = |region: &str, az: &str, value| {
            let tags =
                [("region", region), ("az", az)].map(|(key, value)| (key.to_owned(), value.to_owned()));
            (tags.into(), vec![(60, Summary::of(value, 60))])
        };
        let streams: Streams =
            [stream("us", "a", 1.0), stream("us", "b", 4.0), stream("eu", "a", 7.0)].into();
        let group = |text: &str| {
            let group = Group::of(&query(text), Function::Mean).unwrap().unwrap();
            let series = group.series(streams.clone(), Function::Mean);
            series
                .into_iter()
                .map(|(tags, rows)| (tags.len(), rows[0]["value"].as_f64().unwrap()))
                .collect::<Vec<_>>()
        };
        assert_eq!(group("group_by=region&group_by_function=sum"), [(1, 7.0), (1, 5.0)]);
        assert_eq!(group("group_by=region,az&group_by_function=max"), [(2, 7.0), (2, 1.0), (2, 4.0)]);
        assert_eq!(group("group_by=*&group_by_function=mean"), [(0, 4.0)]);
        assert_eq!(group("group_by=*&group_by_function=min"), [(0, 1.0)]);
        for bad in ["group_by=a", "group_by=a&group_by_function=median"] {
            assert!(Group::of(&query(bad), Function::Mean).is_err(), "{bad}");
        }
        assert!(Group::of(&query("group_by=a&group_by_function=sum"), Function::All).is_err());
        assert_eq!(Group::of(&query(""), Function::All), Ok(None));
        assert!(
            !Group::of(&query("group_by=host&group_by_function=sum"), Function::Sum)
                .unwrap()
                .unwrap()
                .fits(&Tags::new())
        );
    }
}
