//! The time that is looked at, and its steps.

use std::time::Duration;

use zibrato_worker::clock::WallClock;

use crate::units::{TIME_UNITS_ACCEPTED, parse_duration};

/// The shortest and the longest time to look back.
const SPAN_MIN: Duration = Duration::from_secs(1);
const SPAN_MAX: Duration = Duration::from_secs(366 * DAY_S);
const DAY_S: u64 = 24 * 3_600;
/// Most steps if their length is not given.
const STEPS: u64 = 60;
/// Lengths of steps to choose from, in seconds. Those of a minute and more are multiples of what
/// zibrato-local keeps for long.
const RESOLUTIONS_S: [u64; 19] = [
    1, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 21_600, 43_200, 86_400, 172_800,
    604_800,
];

/// See the module. Times are seconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Window {
    /// The beginning of the first step.
    pub(super) start_s: u64,
    /// The end of the last one, which may be cut short.
    pub(super) end_s: u64,
    /// The length of a step.
    pub(super) resolution_s: u64,
}

impl Window {
    /// The window that ends now.
    pub(super) fn ending_now(span: Duration, resolution_s: Option<u64>) -> Self {
        Self::ending(WallClock::system().now_ms() / 1_000, span, resolution_s)
    }

    fn ending(now_s: u64, span: Duration, resolution_s: Option<u64>) -> Self {
        let span_s = span.as_secs().max(1);
        let fits = |resolution_s: &u64| span_s.div_ceil(*resolution_s) <= STEPS;
        let chosen =
            || RESOLUTIONS_S.into_iter().find(fits).unwrap_or(RESOLUTIONS_S[RESOLUTIONS_S.len() - 1]);
        let resolution_s = resolution_s.unwrap_or_else(chosen);
        // Steps begin at multiples of their length; the first one is whole.
        let end_s = now_s + 1;
        let start_s = (end_s.saturating_sub(span_s)).div_ceil(resolution_s) * resolution_s;
        Self { start_s: start_s.min(now_s / resolution_s * resolution_s), end_s, resolution_s }
    }

    /// How many steps there are.
    pub(super) fn steps(&self) -> usize {
        // Bounded by the longest time in seconds.
        (self.end_s - self.start_s).div_ceil(self.resolution_s) as usize
    }

    /// The step that a time is in; `None` outside.
    pub(super) fn step_of(&self, time_s: u64) -> Option<usize> {
        let offset_s = time_s.checked_sub(self.start_s).filter(|_| time_s < self.end_s)?;
        Some((offset_s / self.resolution_s) as usize)
    }

    /// How much of a step has passed, in seconds: the last one may not be over.
    pub(super) fn step_s(&self, step: usize) -> f64 {
        let begin_s = self.start_s + step as u64 * self.resolution_s;
        self.end_s.saturating_sub(begin_s).min(self.resolution_s) as f64
    }

    /// How long all of it is, in seconds.
    pub(super) fn span_s(&self) -> f64 {
        (self.end_s - self.start_s) as f64
    }
}

/// A value parser for the time to look back.
///
/// # Errors
/// What is accepted.
pub(super) fn parse_span(text: &str) -> Result<Duration, String> {
    let span = parse_duration(text).ok().filter(|span| (SPAN_MIN..=SPAN_MAX).contains(span));
    span.ok_or_else(|| format!("accepted is a number with {TIME_UNITS_ACCEPTED}, from 1 s to 366 d"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(span_s: u64, resolution_s: Option<u64>) -> Window {
        Window::ending(1_000_000, Duration::from_secs(span_s), resolution_s)
    }

    #[test]
    fn the_steps_are_sixty_at_most_unless_their_length_is_given() {
        for (span_s, resolution_s) in [
            (1, 1),
            (60, 1),
            (61, 5),
            (300, 5),
            (3_600, 60),
            (86_400, 1_800),
            (604_800, 14_400),
            (366 * DAY_S, 604_800),
        ] {
            let window = Window::ending(100_000_000, Duration::from_secs(span_s), None);
            assert_eq!(window.resolution_s, resolution_s, "{span_s}");
            assert!((1..=61).contains(&window.steps()), "{span_s}: {}", window.steps());
        }
        assert_eq!(window(3_600, Some(1)).steps(), 3_600);
    }

    #[test]
    fn steps_begin_at_multiples_and_the_last_one_may_be_cut_short() {
        let window = window(300, Some(60));
        // 1 000 000 is 40 s into a minute.
        assert_eq!((window.start_s, window.end_s, window.steps()), (999_720, 1_000_001, 5));
        assert_eq!((window.step_of(999_719), window.step_of(999_720)), (None, Some(0)));
        assert_eq!((window.step_of(1_000_000), window.step_of(1_000_001)), (Some(4), None));
        assert_eq!((window.step_s(0), window.step_s(4)), (60.0, 41.0));
    }

    #[test]
    fn a_time_shorter_than_a_step_is_one_step() {
        let window = window(5, Some(3_600));
        assert_eq!((window.steps(), window.start_s % 3_600), (1, 0));
    }

    #[test]
    fn a_span_has_a_unit_and_limits() {
        for (text, seconds) in [
            ("90s", 90),
            ("15min", 900),
            ("1h", 3_600),
            ("7d", 604_800),
            ("1.5d", 129_600),
            ("366d", 366 * DAY_S),
        ] {
            assert_eq!(parse_span(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "0s", "367d", "5x", "-1h", "soon", "10ms"] {
            assert!(parse_span(bad).unwrap_err().ends_with("(s if none), from 1 s to 366 d"), "{bad}");
        }
    }
}
