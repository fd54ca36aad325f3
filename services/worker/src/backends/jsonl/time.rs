//! Times as text.

const MS_PER_S: u64 = 1_000;
const S_PER_DAY: u64 = 86_400;
/// The last millisecond of the year 9999; RFC 3339 has four digits for a year.
pub(super) const TIME_MS_MAX: u64 = 253_402_300_799_999;

/// RFC 3339 in UTC with milliseconds; a time beyond [`TIME_MS_MAX`] is that.
pub(super) fn rfc3339(unix_ms: u64) -> String {
    let unix_ms = unix_ms.min(TIME_MS_MAX);
    let (unix_s, ms) = (unix_ms / MS_PER_S, unix_ms % MS_PER_S);
    let (year, month, day) = date(unix_s / S_PER_DAY);
    let second = unix_s % S_PER_DAY;
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// Year, month and day so many days after 1970-01-01.
///
/// A year that begins with March ends with the leap day, so that months have the same lengths in each: Howard
/// Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_that_date_prints() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_700_000_060_250, "2023-11-14T22:14:20.250Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (TIME_MS_MAX, "9999-12-31T23:59:59.999Z"),
            (u64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(rfc3339(ms), text);
        }
    }

    #[test]
    fn each_day_follows_the_one_before() {
        let mut last = date(0);
        for days in 1..200_000 {
            let next = date(days);
            let (year, month, day) = last;
            let follows = [(year, month, day + 1), (year, month + 1, 1), (year + 1, 1, 1)];
            assert!(follows.contains(&next), "{last:?} {next:?}");
            assert!(next.2 != 1 || day >= 28, "{last:?} {next:?}");
            last = next;
        }
        assert_eq!(last, (2517, 7, 31));
    }
}
