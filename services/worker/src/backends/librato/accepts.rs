//! What a receiver understands beyond Librato, and bodies for one that does not.
//!
//! A body is frozen when it is flushed, with what the receiver said by then. If another one answers
//! when it is sent (a worker that was restarted with another URL, or a receiver of an earlier
//! version), the fields that it does not know are left out. A receiver that is replaced while a worker
//! runs is not asked again until the next start; it gets fields that it does not know, which it is
//! expected to skip.

use std::sync::{Mutex, PoisonError};

use serde_json::Value as Json;

const HISTOGRAM: &str = "histogram/1";
const ORIGIN: &str = "origin/1";

/// What a receiver understands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Accepts {
    /// `buckets` in complex gauges.
    pub(super) histogram: bool,
    /// `origin` in gauges.
    pub(super) origin: bool,
}

impl Accepts {
    /// Reads the value of the header, such as `histogram/1, origin/1`.
    pub(super) fn read(header: &str) -> Self {
        let has = |wanted: &str| header.split(',').any(|accepted| accepted.trim() == wanted);
        Self { histogram: has(HISTOGRAM), origin: has(ORIGIN) }
    }

    /// The body without the fields that are not understood; `None` if there is none of them.
    pub(super) fn strip(self, bytes: &[u8]) -> Option<Vec<u8>> {
        let fields = [(self.histogram, "buckets"), (self.origin, "origin")];
        let unknown: Vec<&str> = fields
            .into_iter()
            .filter(|(is_known, field)| !is_known && contains(bytes, &format!("\"{field}\":")))
            .map(|(_, field)| field)
            .collect();
        if unknown.is_empty() {
            return None;
        }
        let mut json: Json = serde_json::from_slice(bytes).ok()?;
        for gauge in json.get_mut("gauges")?.as_array_mut()? {
            let gauge = gauge.as_object_mut()?;
            unknown.iter().for_each(|field| _ = gauge.remove(*field));
        }
        serde_json::to_vec(&json).ok()
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// What the receiver said last; nothing before its first answer.
#[derive(Debug, Default)]
pub(super) struct Said(Mutex<Option<Accepts>>);

impl Said {
    pub(super) fn set(&self, accepts: Accepts) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(accepts);
    }

    pub(super) fn last(&self) -> Option<Accepts> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NEITHER: Accepts = Accepts { histogram: false, origin: false };

    #[test]
    fn the_header_lists_what_is_understood() {
        for (header, histogram, origin) in [
            ("", false, false),
            ("histogram/1", true, false),
            ("x/1, histogram/1,origin/1", true, true),
            ("histogram/2, origin/10", false, false),
        ] {
            assert_eq!(Accepts::read(header), Accepts { histogram, origin }, "{header}");
        }
    }

    #[test]
    fn fields_that_are_not_understood_are_left_out_and_the_rest_stays() {
        let gauge = |name: &str| json!({"name": name, "source": "s", "measure_time": 1, "sum": 0.1});
        let mut full = json!({"gauges": [gauge("origin"), gauge("b")]});
        full["gauges"][0]["origin"] = json!({"kind": "timer", "levels": ["\"origin\":"]});
        full["gauges"][0]["buckets"] = json!({"scale": 5});
        let strip = |accepts: Accepts, json: &Json| {
            let stripped = accepts.strip(&serde_json::to_vec(json).unwrap());
            stripped.map(|bytes| serde_json::from_slice::<Json>(&bytes).unwrap())
        };
        let plain = json!({"gauges": [gauge("origin"), gauge("b")]});
        assert_eq!(strip(NEITHER, &full), Some(plain.clone()));
        assert_eq!(strip(NEITHER, &plain), None);
        let without_origin = strip(Accepts { histogram: true, origin: false }, &full).unwrap();
        assert!(without_origin["gauges"][0].get("buckets").is_some());
        assert!(without_origin["gauges"][0].get("origin").is_none());
        assert_eq!(strip(Accepts { histogram: true, origin: true }, &full), None);
        assert_eq!(NEITHER.strip(b"nonsense with \"origin\":"), None);
    }
}
