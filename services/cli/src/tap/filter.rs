//! Which series are shown: globs over names and sources, and at most so many lines a second.

use std::time::{Duration, Instant};

use wildmatch::WildMatch;

use super::view::View;

const SECOND: Duration = Duration::from_secs(1);

/// Globs; a series must match one of each sort that is given.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    pub(super) names: Vec<WildMatch>,
    pub(super) sources: Vec<WildMatch>,
}

impl Filter {
    pub(super) fn matches(&self, name: &str, source: &str) -> bool {
        let any = |globs: &[WildMatch], text| globs.is_empty() || globs.iter().any(|glob| glob.matches(text));
        any(&self.names, name) && any(&self.sources, source)
    }

    /// Whether a message is shown: it has something that matches, or there are no globs.
    pub(super) fn shows(&self, view: &View<'_>) -> bool {
        let is_open = self.names.is_empty() && self.sources.is_empty();
        match view {
            View::Frame(frame) => is_open || !frame.series.is_empty(),
            View::Legacy(legacy) => self.matches(legacy.name, legacy.source),
            View::Unreadable { .. } => is_open,
        }
    }
}

/// At most so many lines a second.
#[derive(Debug)]
pub(super) struct Limit {
    /// `None` is no limit.
    lines_max: Option<u64>,
    second: Instant,
    lines: u64,
    suppressed: u64,
}

impl Limit {
    pub(super) fn new(lines_max: Option<u64>, now: Instant) -> Self {
        Self { lines_max, second: now, lines: 0, suppressed: 0 }
    }

    /// Whether a line may be printed now.
    pub(super) fn allows(&mut self) -> bool {
        let allows = self.lines_max.is_none_or(|max| self.lines < max);
        if allows {
            self.lines += 1;
        } else {
            self.suppressed += 1;
        }
        allows
    }

    /// Starts the next second if it is time; how many lines the last one suppressed, if any.
    pub(super) fn end_second(&mut self, now: Instant) -> Option<u64> {
        if now.saturating_duration_since(self.second) < SECOND {
            return None;
        }
        (self.second, self.lines) = (now, 0);
        Some(std::mem::take(&mut self.suppressed)).filter(|suppressed| *suppressed > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_must_match_a_name_and_a_source() {
        let globs = |texts: &[&str]| texts.iter().map(|text| WildMatch::new(text)).collect();
        let filter = Filter { names: globs(&["web.*", "db.?"]), sources: globs(&["host1"]) };
        assert!(filter.matches("web.requests", "host1") && filter.matches("db.x", "host1"));
        assert!(!filter.matches("web.requests", "host2") && !filter.matches("db.xy", "host1"));
        assert!(Filter::default().matches("n", "s"));
    }

    #[test]
    fn lines_beyond_the_limit_are_counted_until_the_second_is_over() {
        let start = Instant::now();
        let mut limit = Limit::new(Some(2), start);
        assert_eq!(
            [limit.allows(), limit.allows(), limit.allows(), limit.allows()],
            [true, true, false, false]
        );
        assert_eq!(limit.end_second(start + SECOND / 2), None);
        assert_eq!(limit.end_second(start + SECOND), Some(2));
        assert!(limit.allows());
        assert_eq!(limit.end_second(start + 2 * SECOND), None);
        let mut none = Limit::new(None, start);
        assert!((0..1_000).all(|_| none.allows()));
    }
}
