//! Bucket counts on the wire: varints with runs of zeros folded (WIRE.md section 5.3).

use crate::limits::HISTOGRAM_BUCKETS_MAX;

/// Writes `counts` into `out` and returns the bytes used, or `None` if they do not fit.
///
/// A count is a varint; a run of zeros is `0` and the length of the run.
pub fn encode_buckets(counts: impl IntoIterator<Item = u64>, out: &mut [u8]) -> Option<usize> {
    let mut at = 0;
    let mut zeros = 0;
    for count in counts {
        if count == 0 {
            zeros += 1;
            continue;
        }
        at += put_zeros(&mut zeros, &mut out[at..])?;
        at += put_varint(count, &mut out[at..])?;
    }
    at += put_zeros(&mut zeros, &mut out[at..])?;
    Some(at)
}

fn put_zeros(zeros: &mut u64, out: &mut [u8]) -> Option<usize> {
    if *zeros == 0 {
        return Some(0);
    }
    let (mark, rest) = out.split_first_mut()?;
    *mark = 0;
    let used = put_varint(*zeros, rest)?;
    *zeros = 0;
    Some(1 + used)
}

/// Reads what [`encode_buckets`] wrote: at most [`HISTOGRAM_BUCKETS_MAX`] counts, then `None`.
#[derive(Clone, Debug)]
pub struct BucketRuns<'a> {
    bytes: &'a [u8],
    zeros: u64,
    left: usize,
}

impl<'a> BucketRuns<'a> {
    /// Starts at the first count of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, zeros: 0, left: HISTOGRAM_BUCKETS_MAX }
    }

    /// How many counts `bytes` hold, or `None` if they are malformed or more than the limit.
    #[must_use]
    pub fn count_all(bytes: &'a [u8]) -> Option<usize> {
        let mut runs = Self::new(bytes);
        let count = runs.by_ref().count();
        (runs.bytes.is_empty() && runs.zeros == 0).then_some(count)
    }
}

impl Iterator for BucketRuns<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.left = self.left.checked_sub(1)?;
        if self.zeros == 0 {
            let (count, rest) = take_varint(self.bytes)?;
            if count != 0 {
                self.bytes = rest;
                return Some(count);
            }
            let (zeros, rest) = take_varint(rest)?;
            if zeros == 0 {
                return None;
            }
            (self.zeros, self.bytes) = (zeros, rest);
        }
        self.zeros -= 1;
        Some(0)
    }
}

/// Writes `value` as LEB128, as postcard does; returns the bytes used.
pub(super) fn put_varint(mut value: u64, out: &mut [u8]) -> Option<usize> {
    for (at, byte) in out.iter_mut().enumerate().take(10) {
        *byte = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            return Some(at + 1);
        }
        *byte |= 0x80;
    }
    None
}

/// Reads a LEB128 number of at most 64 bits.
pub(crate) fn take_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (at, &byte) in bytes.iter().enumerate().take(10) {
        let bits = u64::from(byte & 0x7f);
        if at == 9 && bits > 1 {
            return None;
        }
        value |= bits << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[at + 1..]));
        }
    }
    None
}
