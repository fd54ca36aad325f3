//! Wall clocks: the viewer's time zone as far as a chart needs it, and dates.

/// The most changes of the clock in one range.
const CHANGES_MAX: usize = 8;
/// The largest offset from UTC, in minutes.
const OFFSET_MIN_MAX: i32 = 24 * 60;

/// Offsets from UTC over the range of a chart, in the text form `60` or `60,1743296400:120`: minutes
/// east of UTC, then from which second on they are others. A browser knows its zone's rules, and this is
/// all of them that a chart needs.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Zone {
    first_s: i64,
    changes: Vec<(i64, i64)>,
}

impl Zone {
    /// The zone in its text form; `None` if it is not one.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let offset = |text: &str| {
            let minutes = text.parse::<i32>().ok()?;
            (minutes.abs() <= OFFSET_MIN_MAX).then_some(i64::from(minutes) * 60)
        };
        let mut parts = text.split(',');
        let first_s = offset(parts.next()?)?;
        let mut changes: Vec<(i64, i64)> = Vec::new();
        for part in parts {
            let (from, minutes) = part.split_once(':')?;
            let change = (from.parse().ok()?, offset(minutes)?);
            if changes.len() == CHANGES_MAX || changes.last().is_some_and(|last| last.0 >= change.0) {
                return None;
            }
            changes.push(change);
        }
        Some(Self { first_s, changes })
    }

    /// Seconds that the wall clock is ahead of UTC at `time`.
    pub(super) fn offset_s(&self, time: i64) -> i64 {
        self.changes.iter().rev().find(|(from, _)| *from <= time).map_or(self.first_s, |(_, offset)| *offset)
    }

    /// What the wall clock shows at `time`.
    pub(super) fn wall(&self, time: i64) -> Wall {
        Wall::of(time.saturating_add(self.offset_s(time)))
    }

    /// `UTC`, `UTC+1` or `UTC−3:30`: the zone at `time`.
    pub(super) fn name(&self, time: i64) -> String {
        let minutes = self.offset_s(time) / 60;
        let sign = if minutes < 0 { '−' } else { '+' };
        match (minutes.abs() / 60, minutes.abs() % 60) {
            (0, 0) => "UTC".to_owned(),
            (hours, 0) => format!("UTC{sign}{hours}"),
            (hours, minutes) => format!("UTC{sign}{hours}:{minutes:02}"),
        }
    }
}

/// A date and time of day.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Wall {
    pub(super) year: i64,
    pub(super) month: i64,
    pub(super) day: i64,
    pub(super) hour: i64,
    pub(super) minute: i64,
    pub(super) second: i64,
}

impl Wall {
    /// The date so many seconds after the start of 1970, in the proleptic Gregorian calendar.
    fn of(seconds: i64) -> Self {
        let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        // Years begin in March here, so that the leap day is the last one, and 400 of them are an era.
        let shifted = days + 719_468;
        let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        Self {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month,
            day: day_of_year - (153 * from_march + 2) / 5 + 1,
            hour: rest / 3_600,
            minute: rest / 60 % 60,
            second: rest % 60,
        }
    }

    /// `22 Nov`.
    pub(super) fn date(self) -> String {
        const MONTHS: [&str; 12] =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let month = usize::try_from(self.month - 1).ok().and_then(|month| MONTHS.get(month)).unwrap_or(&"");
        format!("{} {month}", self.day)
    }

    /// `14:05`, with seconds if asked for.
    pub(super) fn time(self, with_seconds: bool) -> String {
        let Self { hour, minute, second, .. } = self;
        if with_seconds {
            format!("{hour:02}:{minute:02}:{second:02}")
        } else {
            format!("{hour:02}:{minute:02}")
        }
    }

    /// `2025-11-22T14:05:09`.
    pub(super) fn iso(self) -> String {
        format!("{:04}-{:02}-{:02}T{}", self.year, self.month, self.day, self.time(true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_399, "2000-02-28T23:59:59"),
            (951_782_400, "2000-02-29T00:00:00"),
            (1_700_000_000, "2023-11-14T22:13:20"),
            (4_107_542_400, "2100-03-01T00:00:00"),
            (-1, "1969-12-31T23:59:59"),
        ] {
            assert_eq!(Zone::default().wall(seconds).iso(), expected);
        }
        assert_eq!(Zone::default().wall(1_700_000_000).date(), "14 Nov");
        assert_eq!(Zone::default().wall(1_700_000_000).time(false), "22:13");
    }

    #[test]
    fn a_zone_follows_its_changes() {
        let zone = Zone::parse("60,1743296400:120").unwrap();
        assert_eq!((zone.offset_s(1_743_296_399), zone.offset_s(1_743_296_400)), (3_600, 7_200));
        assert_eq!(zone.wall(1_743_296_399).time(true), "01:59:59");
        assert_eq!(zone.wall(1_743_296_400).time(true), "03:00:00");
        assert_eq!((zone.name(0), zone.name(1_743_296_400)), ("UTC+1".to_owned(), "UTC+2".to_owned()));
        assert_eq!(Zone::parse("-210").unwrap().name(0), "UTC−3:30");
        assert_eq!(Zone::parse("0").unwrap().name(0), "UTC");
    }

    #[test]
    fn what_is_no_zone_is_refused() {
        for text in ["", "x", "1441", "-1441", "60,", "60,5", "60,9:0,5:60", "60,9:0,9:60", "1,a:1", "60,5:x"]
        {
            assert_eq!(Zone::parse(text), None, "{text}");
        }
        let many = (0..=CHANGES_MAX).fold("0".to_owned(), |text, at| format!("{text},{at}:0"));
        assert_eq!(Zone::parse(&many), None);
    }
}
