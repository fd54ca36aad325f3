//! Round trips of blocks, and what happens to damaged ones.

use proptest::prelude::*;
use zibrato_core::histogram::Histogram;

use super::*;

fn point() -> impl Strategy<Value = RawPoint> {
    let number = || prop_oneof![Just(0.0), -1e126..1e126, (0..100).prop_map(f64::from)];
    let histogram =
        (0_u64..3, proptest::collection::vec(1_u64..1_000_000_000_000, 0..4)).prop_map(|(n, ns)| {
            let mut histogram = Histogram::new();
            ns.into_iter().for_each(|ns| histogram.record_ns(ns, n + 1));
            histogram
        });
    let optional = || proptest::option::of(number());
    let complex =
        (1.0..1e9_f64, number(), optional(), optional(), optional(), proptest::option::of(histogram))
            .prop_map(|(count, sum, min, max, sum_squares, histogram)| {
                Box::new(Complex { count, sum, min, max, sum_squares, histogram })
            });
    (0..BLOCK_S, number(), proptest::option::of(complex)).prop_map(|(t, value, complex)| {
        let value = complex.as_ref().map_or(value, |complex| complex.sum / complex.count);
        RawPoint { t, value, complex }
    })
}

fn points() -> impl Strategy<Value = Vec<RawPoint>> {
    proptest::collection::vec(point(), 0..300).prop_map(|mut points| {
        points.sort_by_key(|point| point.t);
        points
    })
}

fn moved(mut points: Vec<RawPoint>, by: i64) -> Vec<RawPoint> {
    points.iter_mut().for_each(|point| point.t += by);
    points
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn points_round_trip(points in points(), block in -3_i64..3_000_000) {
        let start = block * BLOCK_S;
        let points = moved(points, start);
        prop_assert_eq!(decode(start, &Encoder::default().encode(start, &points)), Ok(points));
    }

    #[test]
    fn a_changed_byte_or_a_missing_end_is_noticed(points in points(), at in any::<proptest::sample::Index>(), bit in 0_u8..8) {
        let mut bytes = Encoder::default().encode(0, &points);
        let at = at.index(bytes.len());
        prop_assert_eq!(decode(0, &bytes[..at]), Err(Damaged));
        bytes[at] ^= 1_u8 << bit;
        prop_assert_eq!(decode(0, &bytes), Err(Damaged));
    }
}

fn simple(t: i64, value: f64) -> RawPoint {
    RawPoint { t, value, complex: None }
}

#[test]
fn a_regular_series_costs_little_more_than_its_digits() {
    let size = |value: fn(i64) -> f64| {
        let points: Vec<RawPoint> = (0..BLOCK_S).map(|t| simple(t, value(t))).collect();
        Encoder::default().encode(0, &points).len()
    };
    assert!(size(|_| 17.5) < 40, "{}", size(|_| 17.5));
    // Three digits of noise are 10 bits.
    let noise = |t: i64| ((t * 7_919 + t * t * 31) % 1_000) as f64 / 10.0;
    assert!(size(noise) < 600 * 2, "{}", size(noise));
}

#[test]
fn the_most_points_of_a_part_round_trip() {
    let points: Vec<RawPoint> =
        (0..POINTS_MAX as i64).map(|i| simple(i * BLOCK_S / POINTS_MAX as i64, i as f64)).collect();
    assert_eq!(decode(0, &Encoder::default().encode(0, &points)).unwrap(), points);
    let mut more = points.clone();
    more.push(simple(BLOCK_S - 1, 0.0));
    assert_eq!(decode(0, &Encoder::default().encode(0, &more)), Err(Damaged));
}
