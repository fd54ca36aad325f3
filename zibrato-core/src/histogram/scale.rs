//! From a value to its bucket and back, without a logarithm.

use crate::limits::HISTOGRAM_SCALE;

/// Buckets an octave at [`HISTOGRAM_SCALE`], as a shift.
const OCTAVE_SHIFT: u32 = HISTOGRAM_SCALE as u32;
const MANTISSA_BITS: u32 = 52;
const MANTISSA_MASK: u64 = (1 << MANTISSA_BITS) - 1;
/// Top bits of the mantissa that select an entry of [`FIRST`].
const FIRST_BITS: u32 = 6;

/// Mantissas of `2^(j/32)`, rounded down, so that `value <= bound` is exact for doubles.
const BOUNDS: [u64; 33] = [
    0x0000000000000,
    0x059b0d3158574,
    0x0b5586cf9890f,
    0x11301d0125b50,
    0x172b83c7d517a,
    0x1d4873168b9aa,
    0x2387a6e756238,
    0x29e9df51fdee1,
    0x306fe0a31b715,
    0x371a7373aa9ca,
    0x3dea64c123422,
    0x44e086061892d,
    0x4bfdad5362a27,
    0x5342b569d4f81,
    0x5ab07dd485429,
    0x6247eb03a5584,
    0x6a09e667f3bcc,
    0x71f75e8ec5f73,
    0x7a11473eb0186,
    0x82589994cce12,
    0x8ace5422aa0db,
    0x93737b0cdc5e4,
    0x9c49182a3f090,
    0xa5503b23e255c,
    0xae89f995ad3ad,
    0xb7f76f2fb5e46,
    0xc199bdd85529c,
    0xcb720dcef9069,
    0xd5818dcfba487,
    0xdfc97337b9b5e,
    0xea4afa2a490d9,
    0xf50765b6e4540,
    0x10000000000000,
];

/// For each value of the top six bits of a mantissa, the last bound below all mantissas that start
/// so. Bounds lie further apart than 1/64, so at most one more bound is below the mantissa.
const FIRST: [u8; 64] = [
    0, 0, 1, 2, 2, 3, 4, 4, 5, 6, 6, 7, 7, 8, 9, 9, 10, 10, 11, 12, 12, 13, 13, 14, 14, 15, 15, 16, 16, 17,
    17, 18, 18, 19, 19, 20, 20, 21, 21, 21, 22, 22, 23, 23, 24, 24, 25, 25, 25, 26, 26, 27, 27, 27, 28, 28,
    29, 29, 29, 30, 30, 30, 31, 31,
];

/// The bucket of a positive `value` at [`HISTOGRAM_SCALE`]: `ceil(log2(value) * 32) - 1`.
///
/// Zero, negatives and subnormals go where the smallest normal double goes, infinity and NaN
/// where the largest finite one goes.
#[inline]
#[must_use]
pub fn index(value: f64) -> i32 {
    let bits = if value >= f64::MIN_POSITIVE { value.min(f64::MAX) } else { f64::MIN_POSITIVE }.to_bits();
    let exponent = ((bits >> MANTISSA_BITS) as i32) - 1023;
    let mantissa = bits & MANTISSA_MASK;
    let octave = exponent << OCTAVE_SHIFT;
    if mantissa == 0 {
        // A power of two is the upper bound of the bucket below.
        return octave - 1;
    }
    let first = FIRST[(mantissa >> (MANTISSA_BITS - FIRST_BITS)) as usize] as usize;
    octave + first as i32 + i32::from(mantissa > BOUNDS[first + 1])
}

/// The lower bound of bucket `index` at `scale`, in the unit of the values; within one unit in the
/// last place. The upper bound is that of the next index. Out of a double's range: 0 or infinity.
#[must_use]
pub fn lower_bound(index: i32, scale: i8) -> f64 {
    let shift = (HISTOGRAM_SCALE - scale).clamp(0, 31) as u32;
    let finest = i64::from(index) << shift;
    let exponent = finest >> OCTAVE_SHIFT;
    let mantissa = BOUNDS[(finest & ((1 << OCTAVE_SHIFT) - 1)) as usize];
    match exponent {
        ..-1022 => 0.0,
        -1022..=1023 => f64::from_bits(((exponent + 1023) as u64) << MANTISSA_BITS | mantissa),
        _ => f64::INFINITY,
    }
}
