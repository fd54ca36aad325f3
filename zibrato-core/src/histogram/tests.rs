use std::prelude::v1::*;

use proptest::prelude::*;

use super::*;

/// The definition, by a logarithm; right except within a rounding error of a bound.
fn by_logarithm(value: f64) -> f64 {
    value.log2() * 32.0
}

#[test]
fn powers_of_two_are_upper_bounds() {
    for exponent in -30..30 {
        let value = 2f64.powi(exponent);
        assert_eq!(index(value), exponent * 32 - 1);
        assert_eq!(index(value.next_up()), exponent * 32);
        assert_eq!(lower_bound(exponent * 32, 5), value);
    }
}

#[test]
fn the_index_never_falls_as_the_value_grows_and_meets_every_bound() {
    for i in -2000..2000 {
        let bound = lower_bound(i, 5);
        assert_eq!(index(bound), i - 1, "{i}");
        assert_eq!(index(bound.next_up()), i, "{i}");
    }
}

#[test]
fn values_out_of_range_go_to_the_outermost_buckets() {
    assert_eq!(index(0.0), index(f64::MIN_POSITIVE));
    assert_eq!(index(-1.0), index(f64::MIN_POSITIVE));
    assert_eq!(index(f64::NAN), index(f64::MIN_POSITIVE));
    assert_eq!(index(f64::INFINITY), index(f64::MAX));
    assert_eq!(lower_bound(i32::MAX, 5), f64::INFINITY);
    assert_eq!(lower_bound(i32::MIN, 5), 0.0);
}

#[test]
fn a_range_beyond_the_limit_lowers_the_scale_and_keeps_every_count() {
    let mut histogram = Histogram::<HostCells>::new();
    for exponent in 0..63 {
        histogram.record_ns(1 << exponent, 3);
    }
    histogram.record_ns(0, 1);
    assert_eq!(histogram.total(), 63 * 3 + 1);
    assert!(histogram.buckets() <= HISTOGRAM_BUCKETS_MAX);
    assert_eq!(histogram.scale(), 3);
}

#[test]
fn fixed_cells_fold_instead_of_growing() {
    let mut fixed = Histogram::<heapless::Vec<u32, 8>>::new();
    let mut host = Histogram::<HostCells>::new();
    for ns in [1u64, 1_000, 1_000_000, 1_000_000_000, u64::MAX] {
        fixed.record_ns(ns, 2);
        host.record_ns(ns, 2);
    }
    assert_eq!(fixed.total(), 10);
    host.downscale_to(fixed.scale());
    assert_eq!(fixed.counts().collect::<Vec<_>>(), host.counts().collect::<Vec<_>>());
    let mut tiny = Histogram::<heapless::Vec<u32, 1>>::new();
    tiny.record_ns(1, 1);
    tiny.record_ns(u64::MAX, 1);
    assert_eq!(tiny.total(), 2);
}

#[test]
fn cells_widen_at_16_and_at_32_bits_and_are_narrow_again_when_cleared() {
    let limits = [u64::from(u16::MAX), u64::from(u32::MAX)];
    let mut histogram = Histogram::<HostCells>::new();
    histogram.record_ns(1_000, 1);
    histogram.record_ns(2_000, 7);
    let narrow = histogram.clone();
    for limit in limits {
        histogram.record_ns(1_000, limit - histogram.count_at(0));
        assert_eq!((histogram.count_at(0), histogram.total()), (limit, limit + 7));
        histogram.record_ns(1_000, 1);
        assert_eq!((histogram.count_at(0), histogram.total()), (limit + 1, limit + 8));
    }
    histogram.clear();
    assert_eq!((histogram.total(), histogram.buckets()), (0, narrow.buckets()));
    histogram.record_ns(2_000, 7);
    histogram.record_ns(1_000, 1);
    assert_eq!(histogram, narrow);
}

#[test]
fn folding_widens_where_two_counts_do_not_fit_one_cell() {
    for limit in [u64::from(u16::MAX), u64::from(u32::MAX)] {
        let mut histogram = Histogram::<HostCells>::new();
        histogram.record_ns(1_000, limit);
        histogram.record_ns(1_030, limit);
        let scale = histogram.scale();
        while histogram.buckets() > 1 {
            histogram.downscale_to(histogram.scale() - 1);
        }
        assert!(histogram.scale() < scale);
        assert_eq!((histogram.count_at(0), histogram.total()), (2 * limit, 2 * limit));
    }
}

#[test]
fn quantiles_stay_within_the_stated_error() {
    let mut histogram = Histogram::<HostCells>::new();
    let values: Vec<u64> = (1..=10_000u64).map(|i| 1_000 + i * i).collect();
    values.iter().for_each(|&ns| histogram.record_ns(ns, 1));
    for q in [0.0, 0.01, 0.5, 0.9, 0.99, 0.999, 1.0] {
        let rank = ((q * 10_000.0) as usize).clamp(1, 10_000);
        let exact = values[rank - 1] as f64 / 1e9;
        let error = (histogram.quantile(q).unwrap() / exact - 1.0).abs();
        assert!(error <= histogram.relative_error() + 1e-9, "q {q}: {error}");
    }
    assert!(histogram.relative_error() <= 0.011);
    assert_eq!(Histogram::<HostCells>::new().quantile(0.5), None);
}

proptest! {
    #[test]
    fn the_index_is_the_definition(value in prop_oneof![1e-12f64..1e12, 1e-9f64..1e-3]) {
        let exact = by_logarithm(value);
        let expected = exact.ceil() as i32 - 1;
        if (exact - exact.round()).abs() > 1e-9 {
            prop_assert_eq!(index(value), expected);
        }
    }

    #[test]
    fn adding_and_taking_away_gives_the_difference(
        older in proptest::collection::vec(any::<u64>(), 0..60),
        newer in proptest::collection::vec(any::<u64>(), 0..60),
    ) {
        let of = |values: &[u64]| {
            let mut histogram = Histogram::<HostCells>::new();
            values.iter().for_each(|&ns| histogram.record_ns(ns, 1));
            histogram
        };
        let (old, mut delta) = (of(&older), of(&newer));
        let mut sum = old.clone();
        sum.merge(&delta);
        prop_assert_eq!(sum.total() as usize, older.len() + newer.len());
        let mut rest = sum.clone();
        rest.subtract(&old);
        delta.downscale_to(rest.scale());
        prop_assert_eq!(rest.counts().collect::<Vec<_>>(), delta.counts().collect::<Vec<_>>());
    }

    #[test]
    fn parts_come_back(values in proptest::collection::vec(any::<u64>(), 0..60)) {
        let mut histogram = Histogram::<HostCells>::new();
        values.iter().for_each(|&ns| histogram.record_ns(ns, 1));
        let counts: Vec<_> = histogram.cells_from_offset().map(|(_, count)| count).collect();
        let read = Histogram::<HostCells>::from_parts(histogram.scale(), histogram.zero(), histogram.offset(), counts);
        prop_assert_eq!(read, histogram);

    }
}
