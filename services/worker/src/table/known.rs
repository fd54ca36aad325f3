//! One series of a table: what it has come to, in memory and as a row of the spool.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zibrato_core::frame::HistogramState;
use zibrato_core::histogram::Histogram;

use crate::backend::FlushTime;
use crate::ledger::Rows;
use crate::ledger::rows::{self, BUCKET_BYTES_MAX, histogram_state};
use crate::measurement::{TimerTotal, Total, TotalValue, Value};

/// First byte of the key of a table's row; the ledger's begin with others.
const TABLE: u8 = b't';
const NS_PER_S: f64 = 1e9;

/// Whether a row of the spool is a table's.
#[must_use]
pub fn is_row(key: &[u8]) -> bool {
    key.first() == Some(&TABLE)
}

/// The key of the row of a series.
pub(super) fn row_key(identity: &[u8]) -> Vec<u8> {
    [&[TABLE], identity].concat()
}

/// What is known of a series.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Known {
    /// The flush with its last change, in Unix milliseconds.
    pub(super) changed_ms: u64,
    /// The flush in which the backend was told of it last, in Unix milliseconds.
    pub(super) told_ms: u64,
    since_ms: u64,
    /// Only with totals.
    total: Option<TotalValue>,
}

/// What a row keeps.
#[derive(Serialize, Deserialize)]
struct Row<'a> {
    changed_ms: u64,
    since_ms: u64,
    #[serde(borrow)]
    total: RowTotal<'a>,
}

#[derive(Serialize, Deserialize)]
enum RowTotal<'a> {
    Counter(f64),
    Gauge(f64),
    #[serde(borrow)]
    Timer(TimerRow<'a>),
}

#[derive(Serialize, Deserialize)]
struct TimerRow<'a> {
    count: u64,
    sum_ns: u128,
    #[serde(borrow)]
    histogram: HistogramState<'a>,
}

impl Known {
    /// A series that is seen for the first time; what it brings was measured since the flush before.
    pub(super) fn new(flush: FlushTime) -> Self {
        let since_ms = flush.unix_ms.saturating_sub(flush.interval.as_millis() as u64);
        Self { changed_ms: flush.unix_ms, told_ms: flush.unix_ms, since_ms, total: None }
    }

    /// Adds a change.
    pub(super) fn add(&mut self, value: &Value) {
        match value {
            Value::Counter { delta } => {
                let total = self.total.get_or_insert(TotalValue::Counter(0.0));
                if let TotalValue::Counter(sum) = total {
                    *sum += delta;
                }
            }
            Value::Gauge { points } => {
                if let Some(last) = points.last() {
                    self.total = Some(TotalValue::Gauge(last.value));
                }
            }
            Value::Timer(delta) => {
                let Some(total) = self.timer() else { return };
                total.count = total.count.saturating_add(delta.count);
                total.sum_ns = total.sum_ns.saturating_add(delta.sum_ns);
                total.histogram.merge(&delta.histogram);
            }
            Value::RawTimer { points } => {
                let Some(total) = self.timer() else { return };
                for point in points {
                    // The cast saturates.
                    let ns = (point.value * NS_PER_S) as u64;
                    total.count = total.count.saturating_add(1);
                    total.sum_ns = total.sum_ns.saturating_add(ns.into());
                    total.histogram.record_ns(ns, 1);
                }
            }
        }
    }

    fn timer(&mut self) -> Option<&mut TimerTotal> {
        match self.total.get_or_insert_with(|| TotalValue::Timer(Arc::default())) {
            // What was prepared and not committed keeps its own.
            TotalValue::Timer(total) => Some(Arc::make_mut(total)),
            // The kind is part of the identity.
            _ => None,
        }
    }

    /// What it has come to.
    pub(super) fn total(&self) -> Option<Total> {
        Some(Total { since_ms: self.since_ms, value: self.total.clone()? })
    }

    /// The change of a series that did not change.
    pub(super) fn unchanged(&self) -> Option<Value> {
        Some(match self.total.as_ref()? {
            TotalValue::Counter(_) => Value::Counter { delta: 0.0 },
            TotalValue::Gauge(_) => Value::Gauge { points: Vec::new() },
            TotalValue::Timer(_) => Value::Timer(Box::default()),
        })
    }

    /// Adds its row; there is none without totals.
    pub(super) fn keep(&self, identity: &[u8], rows: &mut Rows) {
        let mut counts = [0; BUCKET_BYTES_MAX];
        let total = match &self.total {
            None => return,
            Some(TotalValue::Counter(sum)) => RowTotal::Counter(*sum),
            Some(TotalValue::Gauge(last)) => RowTotal::Gauge(*last),
            Some(TotalValue::Timer(total)) => {
                // All buckets fit.
                let Some(histogram) = histogram_state(&total.histogram, &mut counts) else { return };
                RowTotal::Timer(TimerRow { count: total.count, sum_ns: total.sum_ns, histogram })
            }
        };
        let row = Row { changed_ms: self.changed_ms, since_ms: self.since_ms, total };
        rows.seal(&[&[TABLE], identity], &row);
    }

    /// Reads a row; `None` if it is damaged.
    pub(super) fn read<'a>(key: &'a [u8], value: &[u8]) -> Option<(&'a [u8], Self)> {
        let Row { changed_ms, since_ms, total } = postcard::from_bytes(rows::unseal(key, value)?).ok()?;
        let (_, identity) = key.split_first()?;
        let total = match total {
            RowTotal::Counter(sum) => TotalValue::Counter(sum),
            RowTotal::Gauge(last) => TotalValue::Gauge(last),
            RowTotal::Timer(TimerRow { count, sum_ns, histogram: state }) => {
                let histogram = Histogram::from_parts(state.scale, state.zero, state.offset, state.buckets());
                TotalValue::Timer(Arc::new(TimerTotal { count, sum_ns, histogram }))
            }
        };
        // It is told again with the first flush: nobody knows whether the last time arrived.
        Some((identity, Self { changed_ms, told_ms: 0, since_ms, total: Some(total) }))
    }
}
