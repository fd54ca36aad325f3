//! Prometheus and what understands it: pushed by remote write 1.0, or served for it to come.
//!
//! With `--url` totals are pushed to Prometheus, VictoriaMetrics, Mimir and others; with `--scrape` a page
//! `/metrics` serves them. Both say the same:
//!
//! | of zibrato | there |
//! |---|---|
//! | name | letters, digits and `_`, all others become `_`; a digit at the begin gets `_` before it |
//! | unit | the end of the name, as a base unit (`ms` becomes `_seconds` and values are divided by 1000, `KiB` `_bytes`, `%` `_ratio`; see `units.rs`); others are spelled out (`req/s` becomes `_req_per_s`) |
//! | counter | `<name>_total`: its sum since the worker knows it |
//! | gauge | `<name>`: the value set last |
//! | timer | `<name>_seconds`, a histogram: classic buckets (`_bucket`, `_sum`, `_count`), or native |
//! | source, level | labels `source` and `level` |
//! | tag | a label, its name spelled like that of a metric; `exported_` stands before it if it would clash with a label that is there, or is `le` or begins with `__` |
//! | worker | label `instance`, with `--url` the name of the host unless `--instance` gives another |
//! | `--label` | a label of all series |
//!
//! The time of a sample is that of its flush. Gauge points have times of their own, but a receiver of remote write
//! takes only ascending times of a series, and totals that are told again have none of their own.
//!
//! A counter that falls, as only legacy text can make it, is sent as it is. To Prometheus each fall is a restart, so
//! `rate()` and `increase()` over such a series are wrong and `delta()` is right; a page shows a family with a
//! negative total as one of unknown type.
//!
//! Series that become equal (`a.b` and `a_b`) are told apart by nothing there. Of those in one flush the first by
//! level, kind, name, source, unit and tags is sent and the others are refused as `same_series`.
//!
//! A series must be written by one worker alone. The label `instance` sees to it if workers that subscribe to the
//! same levels run on different hosts; two on one host need `--instance`.

mod args;
mod buckets;
mod clash;
mod client_proto;
mod labels;
mod names;
mod native;
mod proto;
mod scrape;
mod units;
mod value;
mod write;

use crate::backend::Shape;
use buckets::Bounds;
use labels::Fixed;
use names::Family;
use zibrato_core::kind::Kind;

pub use args::{HistogramKind, PrometheusArgs, PrometheusArgsError, URL_EXAMPLE};

const NAME: &str = "prometheus";
const SHAPE: Shape = Shape { keeps_levels: true, totals: true, raw_timers: false };

/// Why points are left out or given up.
mod reason {
    /// It came without a total.
    pub(super) const NO_TOTAL: &str = "no_total";
    /// A counter that is no number.
    pub(super) const NOT_FINITE: &str = "not_finite";
    /// Another series of the flush has the same name and labels there.
    pub(super) const SAME_SERIES: &str = "same_series";
    /// A request beyond all limits.
    pub(super) const TOO_LARGE: &str = "too_large";
    /// Older than the store takes.
    pub(super) const TOO_OLD: &str = "too_old";
    /// The store has a later sample of the series.
    pub(super) const OUT_OF_ORDER: &str = "out_of_order";
    /// The store has another sample of the series and time.
    pub(super) const DUPLICATE: &str = "duplicate";
    /// Refused after an attempt that may have stored it.
    pub(super) const MAYBE_STORED: &str = "maybe_stored";
    /// Refused for whatever else.
    pub(super) const REFUSED: &str = "refused_by_backend";
}

/// What both ways have in common.
#[derive(Clone, Debug)]
struct Settings {
    fixed: Fixed,
    bounds: Bounds,
    is_native: bool,
}

impl Settings {
    /// The names of the samples of a series. Of buckets one stands for all: nothing else has their label.
    fn samples(&self, family: &Family) -> Vec<String> {
        let sample = family.sample();
        if family.kind != Kind::Timer || self.is_native {
            return vec![sample];
        }
        ["_bucket", "_sum", "_count"].map(|ending| format!("{sample}{ending}")).to_vec()
    }
}

#[cfg(test)]
mod test_support;
