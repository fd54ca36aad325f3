//! Distributions: from what a client posts to a histogram, and between a histogram and bytes.

use zibrato_core::histogram::Histogram;
use zibrato_core::limits::HISTOGRAM_SCALE;

use crate::body::Buckets;

/// No double falls into a bucket beyond this index, either way, at any scale that is kept.
const INDEX_MAX: i64 = 1_100 << HISTOGRAM_SCALE;

/// The histogram of posted buckets. Finer ones than [`HISTOGRAM_SCALE`] are folded to that scale,
/// each bucket into the one that holds it; an index that no number has becomes the nearest that one
/// may have.
pub(super) fn of(buckets: &Buckets) -> Histogram {
    let finest = i32::from(HISTOGRAM_SCALE);
    let folds = (buckets.scale - finest).max(0);
    let at =
        |place: usize| ((i64::from(buckets.offset) + place as i64) >> folds).clamp(-INDEX_MAX, INDEX_MAX);
    let first = at(0);
    let mut counts = Vec::new();
    for (place, count) in buckets.counts.iter().enumerate() {
        // Indexes never fall and never skip one, so this is the last cell or the one after it.
        let cell = (at(place) - first) as usize;
        if cell == counts.len() {
            counts.push(0_u64);
        }
        counts[cell] = counts[cell].saturating_add(*count);
    }
    // Both fit: the scale is at most the finest, the index was clamped.
    Histogram::from_parts(buckets.scale.min(finest) as i8, buckets.zero, first as i32, counts)
}

/// A histogram as it lies in the database: postcard's bytes of scale, zeros, offset and counts.
/// They tell their own length, so several can follow each other.
pub(super) fn append(histogram: &Histogram, bytes: Vec<u8>) -> Vec<u8> {
    let counts: Vec<u64> = histogram.cells_from_offset().map(|(_, count)| count).collect();
    let parts = (histogram.scale(), histogram.zero(), histogram.offset(), counts);
    // Writing to a Vec cannot fail.
    postcard::to_extend(&parts, bytes).unwrap_or_default()
}

pub(super) fn to_bytes(histogram: &Histogram) -> Vec<u8> {
    append(histogram, Vec::new())
}

/// The histogram at the beginning of `bytes`, and what follows it.
pub(super) fn split_from(bytes: &[u8]) -> Option<(Histogram, &[u8])> {
    let (parts, rest) = postcard::take_from_bytes::<(i8, u64, i32, Vec<u64>)>(bytes).ok()?;
    let (scale, zero, offset, counts) = parts;
    i32::try_from(counts.len()).ok().and_then(|length| offset.checked_add(length))?;
    Some((Histogram::from_parts(scale, zero, offset, counts), rest))
}

pub(super) fn from_bytes(bytes: &[u8]) -> Option<Histogram> {
    split_from(bytes).filter(|(_, rest)| rest.is_empty()).map(|(histogram, _)| histogram)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(scale: i32, offset: i32, counts: &[u64]) -> Buckets {
        Buckets { scale, offset, counts: counts.to_vec(), zero: 3 }
    }

    fn counts(histogram: &Histogram) -> Vec<(i32, u64)> {
        histogram.counts().collect()
    }

    #[test]
    fn buckets_of_a_kept_scale_stay_as_they_are() {
        let histogram = of(&buckets(-10, -1, &[4, 0, 2]));
        assert_eq!((histogram.scale(), histogram.zero()), (-10, 3));
        assert_eq!(counts(&histogram), [(-1, 4), (1, 2)]);
        assert_eq!(counts(&of(&buckets(5, 100, &[]))), []);
    }

    #[test]
    fn a_finer_scale_is_folded_into_the_buckets_that_hold_it() {
        // At scale 7 four buckets lie in one of scale 5: -5 in -2, -4 to -1 in -1, 0 in 0.
        let histogram = of(&buckets(7, -5, &[1, 2, 4, 8, 16, 32]));
        assert_eq!((histogram.scale(), histogram.zero()), (5, 3));
        assert_eq!(counts(&histogram), [(-2, 1), (-1, 30), (0, 32)]);
        // A value of 1.5 s: its bucket at scale 20 holds it, and so does the folded one.
        let index = (1.5_f64.log2() * f64::from(1 << 20)).ceil() as i32 - 1;
        let folded = of(&buckets(20, index, &[1]));
        let value = folded.quantile(1.0).unwrap();
        assert!((value / 1.5 - 1.0).abs() <= folded.relative_error(), "{value}");
    }

    #[test]
    fn indexes_at_the_ends_of_their_type_lose_no_count() {
        for offset in [i32::MIN, i32::MAX - 1, i32::MAX] {
            for scale in [-10, 5, 20] {
                assert_eq!(of(&buckets(scale, offset, &[1, 2, 3])).total(), 9, "{offset} {scale}");
            }
        }
    }

    #[test]
    fn bytes_round_trip_one_after_the_other_and_damage_is_noticed() {
        let (one, two) = (of(&buckets(5, -3, &[1, 0, u64::MAX])), of(&buckets(2, 7, &[])));
        let bytes = append(&two, to_bytes(&one));
        let (first, rest) = split_from(&bytes).unwrap();
        assert_eq!((first, from_bytes(rest)), (one, Some(two)));
        assert_eq!(from_bytes(&bytes), None);
        for cut in 0..4 {
            assert!(split_from(&bytes[..cut]).is_none(), "{cut}");
        }
    }
}
