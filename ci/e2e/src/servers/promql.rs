//! The query interface that Prometheus has and VictoriaMetrics understands.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::Labels;
use crate::http::{encoded, request};

/// Now in Unix seconds.
pub(super) fn now_s() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// What an expression is at a time in Unix seconds: the labels and value of each series; a number has no labels.
/// VictoriaMetrics takes the last whole second if no time is said, which may be before the newest samples.
pub(super) fn query(addr: &str, promql: &str, time_s: f64) -> Vec<(Labels, f64)> {
    // With its cache VictoriaMetrics does not look at the last 30 s, nor at the last second whatever its settings say.
    let data = ask(addr, &format!("/api/v1/query?query={}&time={time_s:.3}&nocache=1", encoded(promql)));
    // A pair of time and value, the latter as text.
    let value = |pair: &Value| pair[1].as_str().and_then(|text| text.parse().ok());
    let number = |pair: &Value| value(pair).unwrap_or_else(|| panic!("{promql}: {data}"));
    match data["resultType"].as_str() {
        Some("vector") => {
            let series = data["result"].as_array().unwrap().iter();
            series.map(|series| (labels(&series["metric"]), number(&series["value"]))).collect()
        }
        Some("scalar") => vec![(Labels::new(), number(&data["result"]))],
        _ => panic!("{promql} has no value at one time: {data}"),
    }
}

/// The labels of each series that a selector such as `{job="x"}` fits.
pub(super) fn series(addr: &str, selector: &str) -> Vec<Labels> {
    let data = ask(addr, &format!("/api/v1/series?match[]={}&start=0", encoded(selector)));
    data.as_array().unwrap().iter().map(labels).collect()
}

fn ask(addr: &str, path: &str) -> Value {
    let answer = request(addr, "GET", path, &[], b"").unwrap();
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    let mut said: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(said["status"], "success", "{path}: {said}");
    said["data"].take()
}

fn labels(object: &Value) -> Labels {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    object.as_object().unwrap().iter().map(|(name, value)| (name.clone(), text(value))).collect()
}
