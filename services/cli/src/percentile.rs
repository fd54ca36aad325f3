//! Percentiles as they are shown.

use zibrato_core::histogram::Histogram;

/// The `q` quantile in seconds, brought between the smallest and the largest value where these are known: a
/// bucket knows its values only to about 1 %, and nobody was slower than the slowest.
pub(crate) fn quantile_within(
    histogram: &Histogram,
    q: f64,
    min: Option<f64>,
    max: Option<f64>,
) -> Option<f64> {
    let value = histogram.quantile(q)?;
    let value = max.map_or(value, |max| value.min(max));
    Some(min.map_or(value, |min| value.max(min)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_percentile_is_outside_of_what_was_measured() {
        let mut histogram: Histogram = Histogram::new();
        histogram.record_ns(2_500_000_000, 1);
        let bucket = histogram.quantile(0.5).unwrap();
        assert!(bucket > 2.5, "{bucket}");
        assert_eq!(quantile_within(&histogram, 0.99, Some(2.5), Some(2.5)), Some(2.5));
        assert_eq!(quantile_within(&histogram, 0.5, Some(2.6), None), Some(2.6));
        assert_eq!(quantile_within(&histogram, 0.5, None, None), Some(bucket));
        assert_eq!(quantile_within(&Histogram::new(), 0.5, None, Some(1.0)), None);
    }
}
