//! What Librato would refuse, found before it is sent: one bad point makes it refuse the whole request.

use zibrato_core::text::Field;

/// Largest magnitude Librato accepts.
pub(super) const MAGNITUDE_MAX: f64 = 1e126;
/// How far ahead of the flush a point may be, in seconds. Librato's own bound is not on record.
pub(super) const AHEAD_S_MAX: u64 = 600;
/// The source that Librato reserves for queries.
const SOURCE_RESERVED: &str = "all";

/// Why points are left out of a body. Each is a reason of the worker's totals.
pub(super) mod reason {
    pub(crate) const BAD_NAME: &str = "bad_name";
    pub(crate) const BAD_SOURCE: &str = "bad_source";
    pub(crate) const RESERVED_SOURCE: &str = "reserved_source";
    pub(crate) const NOT_FINITE: &str = "not_finite";
    pub(crate) const TOO_LARGE: &str = "too_large";
    pub(crate) const ZERO_COUNT: &str = "zero_count";
    pub(crate) const TOO_OLD: &str = "too_old";
    pub(crate) const TIME_AHEAD: &str = "time_ahead";
}

/// Checks name and source.
pub(super) fn check_identity(name: &str, source: &str) -> Result<(), &'static str> {
    if !Field::Name.accepts(name) {
        return Err(reason::BAD_NAME);
    }
    if !Field::Source.accepts(source) {
        return Err(reason::BAD_SOURCE);
    }
    if source.eq_ignore_ascii_case(SOURCE_RESERVED) {
        return Err(reason::RESERVED_SOURCE);
    }
    Ok(())
}

/// Checks a value, or a part of a complex gauge.
pub(super) fn check_value(value: f64) -> Result<(), &'static str> {
    if !value.is_finite() {
        return Err(reason::NOT_FINITE);
    }
    if value.abs() > MAGNITUDE_MAX {
        return Err(reason::TOO_LARGE);
    }
    Ok(())
}

/// Checks the time of a point against the flush, all in seconds.
pub(super) fn check_time(time_s: u64, flush_s: u64, age_s_max: u64) -> Result<(), &'static str> {
    if time_s > flush_s.saturating_add(AHEAD_S_MAX) {
        return Err(reason::TIME_AHEAD);
    }
    if time_s < flush_s.saturating_sub(age_s_max) {
        return Err(reason::TOO_OLD);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_sources_follow_the_documented_class_and_length() {
        let long = "x".repeat(256);
        assert_eq!(check_identity(&long[1..], &long[1..]), Ok(()));
        for bad in ["", "a b", "a/b", "größe", "a|b", &long] {
            assert_eq!(check_identity(bad, "s"), Err(reason::BAD_NAME), "{bad}");
            assert_eq!(check_identity("n", bad), Err(reason::BAD_SOURCE), "{bad}");
        }
        assert_eq!(check_identity("all", "All"), Err(reason::RESERVED_SOURCE));
        assert_eq!(check_identity("all", "all.web"), Ok(()));
    }

    #[test]
    fn values_arrive_as_they_are_unless_librato_cannot_hold_them() {
        for good in [0.0, -1.5, 1e9, 1e126, -1e126, 1e-200] {
            assert_eq!(check_value(good), Ok(()), "{good}");
        }
        assert_eq!(check_value(1.1e126), Err(reason::TOO_LARGE));
        assert_eq!(check_value(-1e127), Err(reason::TOO_LARGE));
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(check_value(bad), Err(reason::NOT_FINITE));
        }
    }

    #[test]
    fn times_are_within_the_age_and_not_far_ahead() {
        let check = |time_s| check_time(time_s, 10_000, 6_900);
        assert_eq!(check(3_100), Ok(()));
        assert_eq!(check(3_099), Err(reason::TOO_OLD));
        assert_eq!(check(10_600), Ok(()));
        assert_eq!(check(10_601), Err(reason::TIME_AHEAD));
    }
}
