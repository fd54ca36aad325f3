//! The 16-byte record: which metric, and one value.

use crate::metric::Metric;

/// One measurement on its way from the hot path to the drain.
///
/// A gauge's value is the bits of an `f64`. A timer's value is described by [`TimerValue`].
/// There is no time stamp: reading a clock would cost more than all the rest.
///
/// Of 16 bytes everywhere: a ring's indices need a power of two, which it would not be on a 32-bit x86.
#[derive(Clone, Copy, Debug)]
#[repr(align(8))]
pub struct Record {
    /// The metric measured.
    pub metric: &'static Metric,
    /// The value; its meaning depends on the metric's kind.
    pub value: u64,
}

/// What a timer's record says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimerValue {
    /// Clock ticks between start and end, below 2^62.
    Ticks(u64),
    /// Nanoseconds, below 2^62 (146 years); a longer duration is recorded as the longest.
    Nanoseconds(u64),
    /// The clock went backwards.
    Backwards,
}

const NANOSECONDS: u64 = 1 << 62;
const BACKWARDS: u64 = 1 << 63;

impl TimerValue {
    /// Reads a record's value: bit 63 set means backwards, else bit 62 set means nanoseconds.
    #[inline]
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        if bits & BACKWARDS != 0 {
            Self::Backwards
        } else if bits & NANOSECONDS != 0 {
            Self::Nanoseconds(bits & !NANOSECONDS)
        } else {
            Self::Ticks(bits)
        }
    }

    /// The record's value for nanoseconds below a second, which need no limit.
    #[inline]
    #[must_use]
    pub(crate) const fn subsecond_to_bits(ns: u32) -> u64 {
        ns as u64 | NANOSECONDS
    }

    /// The record's value for a duration in nanoseconds.
    #[inline]
    #[must_use]
    pub const fn nanoseconds_to_bits(ns: u64) -> u64 {
        (if ns < NANOSECONDS { ns } else { NANOSECONDS - 1 }) | NANOSECONDS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_takes_16_bytes() {
        assert_eq!(size_of::<Record>(), 16);
    }

    #[test]
    fn ticks_nanoseconds_and_backwards_differences_are_told_apart() {
        assert_eq!(TimerValue::from_bits(7), TimerValue::Ticks(7));
        assert_eq!(TimerValue::from_bits(3u64.wrapping_sub(5)), TimerValue::Backwards);
        for (ns, read) in [(0, 0), (9, 9), (u64::MAX, NANOSECONDS - 1)] {
            let bits = TimerValue::nanoseconds_to_bits(ns);
            assert_eq!(TimerValue::from_bits(bits), TimerValue::Nanoseconds(read));
        }
    }
}
