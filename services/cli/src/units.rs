//! Durations and sizes with their units, as flags and lines give them.

use std::time::Duration;

const NS_PER_S: f64 = 1e9;
/// Longest accepted duration, in seconds: what a timer can hold.
const SECONDS_MAX: f64 = 4e9;
/// Units of time and how many nanoseconds they have. A suffix stands before those that end in it.
const TIME_UNITS: [(&str, f64); 10] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("µs", 1e3), // the micro sign
    ("μs", 1e3), // the Greek letter
    ("ms", 1e6),
    ("min", 60.0 * NS_PER_S),
    ("m", 60.0 * NS_PER_S),
    ("h", 3_600.0 * NS_PER_S),
    ("d", 86_400.0 * NS_PER_S),
    ("s", NS_PER_S),
];
const SIZE_UNITS: [(&str, u64); 7] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

/// Which units a number may have.
pub(crate) const TIME_UNITS_ACCEPTED: &str = "ns, us, ms, s, min, h or d behind it (s if none)";
/// What a duration may look like.
pub(crate) const DURATION_ACCEPTED: &str =
    "a number with ns, us, ms, s, min, h or d behind it (s if none), from 0 to 4e9 s";

/// A duration such as `1.5ms`, `200us` or `2`, which is 2 s.
///
/// # Errors
/// What is accepted.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let (number, unit_ns) = TIME_UNITS
        .iter()
        .find_map(|(unit, ns)| Some((text.strip_suffix(unit)?, *ns)))
        .unwrap_or((text, NS_PER_S));
    let value = number.trim_end().parse::<f64>().ok().filter(|value| value.is_finite());
    let ns = value.map(|value| value * unit_ns).filter(|ns| (0.0..=SECONDS_MAX * NS_PER_S).contains(ns));
    // Rounded, so that 0.1 ms is what it says and not a nanosecond less.
    let ns = ns.ok_or_else(|| format!("accepted is {DURATION_ACCEPTED}"))?.round();
    Ok(Duration::from_nanos(ns as u64))
}

/// A size such as `64MiB`, `1GB` or `4096`, which is in bytes.
///
/// # Errors
/// What is accepted.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let (number, factor) = SIZE_UNITS
        .iter()
        .find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, *bytes)))
        .unwrap_or((text, 1));
    let bytes = number.trim_end().parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    bytes.ok_or_else(|| {
        "accepted is a whole number with B, KB, MB, GB, KiB, MiB or GiB behind it (B if none)".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_and_are_seconds_without_one() {
        for (text, ns) in [
            ("2", 2_000_000_000),
            ("0", 0),
            ("0.000000001", 1),
            ("1.5ms", 1_500_000),
            ("200us", 200_000),
            ("200µs", 200_000),
            ("200 μs", 200_000),
            ("7ns", 7),
            ("0.1ms", 100_000),
            ("1e-3s", 1_000_000),
            (" 2min ", 120_000_000_000),
            ("3m", 180_000_000_000),
            ("1h", 3_600_000_000_000),
            ("1.5d", 129_600_000_000_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_nanos(ns)), "{text}");
        }
        for bad in ["", "ms", "-1", "1w", "5x", "NaN", "inf", "1e99", "4000000001", "1 2", "1,5ms", "0x10"] {
            let error = parse_duration(bad).unwrap_err();
            assert!(error.starts_with("accepted is a number") && error.contains("4e9 s"), "{bad}");
        }
    }

    #[test]
    fn sizes_have_units_and_are_bytes_without_one() {
        for (text, bytes) in
            [("0", 0), ("4096", 4_096), ("10B", 10), ("2KiB", 2_048), ("3 MB", 3_000_000), ("1GiB", 1 << 30)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "KiB", "-1", "1.5MiB", "1TB", "99999999999GiB", "18446744073709551616"] {
            assert!(parse_size(bad).unwrap_err().starts_with("accepted is a whole number"), "{bad}");
        }
    }
}
