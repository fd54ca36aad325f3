//! Which series a query means, and from which tables it is answered.

use std::sync::Arc;

use rusqlite::Connection;

use super::errors::StoreError;
use super::rollup::{self, RESOLUTIONS, step_of};

/// A series of the metric that is read.
#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) id: i64,
    pub(super) source: Arc<str>,
}

/// The series of a metric whose source matches one of the patterns (all, if there are none), in
/// order of their sources.
pub(super) fn matching(
    connection: &Connection,
    metric: i64,
    patterns: &[String],
) -> rusqlite::Result<Vec<Series>> {
    let mut statement = connection.prepare_cached(
        "SELECT series.id, sources.name, sources.name_key FROM series JOIN sources ON sources.id = series.source
         WHERE series.metric = ?1 ORDER BY sources.name_key",
    )?;
    let mut rows = statement.query([metric])?;
    let mut series = Vec::new();
    while let Some(row) = rows.next()? {
        let key = row.get_ref(2)?.as_str()?;
        if patterns.is_empty() || patterns.iter().any(|pattern| matches(pattern, key)) {
            series.push(Series { id: row.get(0)?, source: row.get_ref(1)?.as_str()?.into() });
        }
    }
    Ok(series)
}

/// Whether `text` is what `pattern` describes, in which each `*` stands for any text.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*') {
        // The earliest place leaves the most for the parts that follow.
        match text.find(part) {
            Some(place) => text = &text[place + part.len()..],
            None => return false,
        }
    }
    text.ends_with(last)
}

/// From which tables, besides the tail, the points of a range are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Packed {
    Blocks,
    Rollups { resolution: i64 },
}

impl Packed {
    /// The coarsest that serves steps of so many seconds from `start` on (without a start, from the
    /// oldest that is kept), and the beginning of the first step that is kept as a whole.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if rows that are needed have expired.
    pub(super) fn serving(
        connection: &Connection,
        step_s: i64,
        start: Option<i64>,
    ) -> Result<(Self, i64), StoreError> {
        let rollups = RESOLUTIONS.iter().rev().filter(|resolution| step_s % *resolution == 0);
        let mut oldest = i64::MAX;
        for resolution in rollups.copied().chain([1]) {
            let until = rollup::expired_until(connection, resolution)?;
            let start = start.unwrap_or(until);
            if until <= start {
                let first = step_of(start, step_s);
                let first = if first < until { first.saturating_add(step_s) } else { first };
                let packed = if resolution == 1 { Self::Blocks } else { Self::Rollups { resolution } };
                return Ok((packed, first));
            }
            oldest = oldest.min(until);
        }
        Err(StoreError::Unavailable { step_s, until: oldest })
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_stands_for_any_text_and_nothing_else_does() {
        for (pattern, text, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "anything", true),
            ("a*", "a", true),
            ("a*", "ba", false),
            ("*a", "ba", true),
            ("*a", "ab", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "acb", false),
            ("a*bc*c", "abcc", true),
            ("a*bc*c", "abc", false),
            ("**", "x", true),
            ("a?[b]", "a?[b]", true),
            ("a?[b]", "axb", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
