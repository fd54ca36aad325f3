//! The strict reader of OpenMetrics in Prometheus' own Python client.

use serde_json::Value;

use super::{Labels, file, installed, program};
use crate::process::Process;

/// The content type of OpenMetrics, for `Accept`.
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0";

/// A family of metrics as OpenMetrics has it.
#[derive(Clone, PartialEq, Debug)]
pub struct OpenMetricsFamily {
    /// Without what the names of its samples end in, such as `_total`.
    pub name: String,
    /// Empty if it has none.
    pub help: String,
    /// `unknown` if it has none.
    pub kind: String,
    /// Empty if it has none.
    pub unit: String,
    /// Names, labels and values.
    pub samples: Vec<(String, Labels, f64)>,
}

/// The families of a page of OpenMetrics, in its order.
///
/// # Errors
/// If it is no such page, with what the reader says.
///
/// # Panics
/// If the reader is not installed.
pub fn openmetrics_families(page: &str) -> Result<Vec<OpenMetricsFamily>, String> {
    let mut command = program(installed("python/bin/python"));
    command.arg(file("python/openmetrics_families.py"));
    let mut process = Process::spawn(command);
    process.feed(page.as_bytes());
    process.close_stdin();
    let ended = process.wait();
    if ended.code != Some(0) {
        return Err(ended.stderr);
    }
    Ok(ended.stdout.lines().map(|line| family(&serde_json::from_str(line).unwrap())).collect())
}

fn family(said: &Value) -> OpenMetricsFamily {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let sample = |sample: &Value| {
        let labels = sample[1].as_object().unwrap().iter();
        let labels = labels.map(|(name, value)| (name.clone(), text(value))).collect();
        (text(&sample[0]), labels, sample[2].as_f64().unwrap())
    };
    OpenMetricsFamily {
        name: text(&said["name"]),
        help: text(&said["help"]),
        kind: text(&said["type"]),
        unit: text(&said["unit"]),
        samples: said["samples"].as_array().unwrap().iter().map(sample).collect(),
    }
}
