//! What zibrato-local says of a metric, and how it says it.

use serde::{Deserialize, Serialize};

/// A metric.
#[derive(Clone, PartialEq, Debug, Deserialize)]
pub(super) struct Metric {
    pub(super) name: String,
    /// What a Zibrato worker says of it; metrics of others have none.
    #[serde(default)]
    origin: Option<Origin>,
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
struct Origin {
    kind: String,
    #[serde(default)]
    levels: Vec<String>,
    #[serde(default)]
    unit: Option<String>,
}

/// What a metric was recorded as.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Counter,
    Gauge,
    Timer,
}

impl Kind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Timer => "timer",
        }
    }
}

impl Metric {
    /// What it was recorded as, if a worker said so.
    pub(super) fn kind(&self) -> Option<Kind> {
        match self.origin.as_ref()?.kind.as_str() {
            "counter" => Some(Kind::Counter),
            "gauge" => Some(Kind::Gauge),
            "timer" => Some(Kind::Timer),
            _ => None,
        }
    }

    pub(super) fn levels(&self) -> &[String] {
        self.origin.as_ref().map_or(&[], |origin| &origin.levels)
    }

    /// Empty if there is none.
    pub(super) fn unit(&self) -> &str {
        self.origin.as_ref().and_then(|origin| origin.unit.as_deref()).unwrap_or_default()
    }
}

/// A page of the list.
#[derive(Clone, PartialEq, Debug, Deserialize)]
pub(super) struct Page {
    pub(super) query: Found,
    pub(super) metrics: Vec<Metric>,
}

/// How many there are in all.
#[derive(Clone, Copy, PartialEq, Debug, Deserialize)]
pub(super) struct Found {
    pub(super) found: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_tells_its_kind_only_if_a_worker_did() {
        let read = |json: &str| -> Metric { serde_json::from_str(json).unwrap() };
        let ours = read(
            r#"{"name":"a","type":"gauge","origin":{"kind":"timer","levels":["info","audit"],"unit":"s"},"new":1}"#,
        );
        assert_eq!((ours.kind(), ours.levels().len(), ours.unit()), (Some(Kind::Timer), 2, "s"));
        let foreign = read(r#"{"name":"a","type":"gauge"}"#);
        assert_eq!((foreign.kind(), foreign.levels().len(), foreign.unit()), (None, 0, ""));
        let newer = read(r#"{"name":"a","origin":{"kind":"set","unit":null}}"#);
        assert_eq!((newer.kind(), newer.unit()), (None, ""));
    }
}
