//! Totals that Prometheus can hold.

use zibrato_core::kind::Kind;

use super::reason;
use crate::measurement::{SeriesKey, Total, TotalValue};

/// A NaN that is no stale marker.
const NOT_A_NUMBER: f64 = f64::from_bits(0x7ff8_0000_0000_0001);

/// The total, unless nobody could make sense of it.
pub(super) fn check<'a>(total: Option<&'a Total>, series: &SeriesKey) -> Result<&'a Total, &'static str> {
    let total = total.ok_or(reason::NO_TOTAL)?;
    match (&total.value, series.kind) {
        (TotalValue::Counter(sum), Kind::Counter) if sum.is_finite() => Ok(total),
        (TotalValue::Counter(_), Kind::Counter) => Err(reason::NOT_FINITE),
        (TotalValue::Gauge(_), Kind::Gauge) | (TotalValue::Timer(_), Kind::Timer) => Ok(total),
        _ => Err(reason::NO_TOTAL),
    }
}

/// The value, or a NaN that does not say that the series has ended.
pub(super) fn not_stale(value: f64) -> f64 {
    if value.is_nan() { NOT_A_NUMBER } else { value }
}
