//! The columns of the publishers: what each shows and how it sorts.

use std::cmp::Ordering;

use zibrato_service::PublisherReport;

use super::sorting::Sortable;
use crate::human::{age, clean};

/// A column of the publishers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PublisherColumn {
    Program,
    Pid,
    Silent,
    Lost,
    Host,
    Series,
    Age,
    Levels,
}

/// In the order of their importance, which is also that on the line.
pub(crate) const PUBLISHER_COLUMNS: [PublisherColumn; 8] = {
    use PublisherColumn::*;
    [Program, Pid, Silent, Lost, Host, Series, Age, Levels]
};

impl Sortable for PublisherColumn {
    fn all() -> Vec<Self> {
        PUBLISHER_COLUMNS.to_vec()
    }

    fn is_descending(self) -> bool {
        self.is_number() && self != Self::Pid
    }
}

impl PublisherColumn {
    /// The heading.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Program => "PROGRAM",
            Self::Pid => "PID",
            Self::Silent => "SILENT",
            Self::Lost => "LOST",
            Self::Host => "HOST",
            Self::Series => "SERIES",
            Self::Age => "AGE",
            Self::Levels => "LEVELS",
        }
    }

    /// The least width with which it is of use.
    pub(crate) fn width_min(self) -> u16 {
        match self {
            Self::Program | Self::Levels => 16,
            Self::Pid | Self::Silent | Self::Age => 8,
            Self::Lost => 6,
            Self::Host => 14,
            Self::Series => 7,
        }
    }

    /// Whether its cells end at the right.
    pub(crate) fn is_number(self) -> bool {
        !matches!(self, Self::Program | Self::Host | Self::Levels)
    }

    /// The text of a cell.
    pub(crate) fn cell(self, publisher: &PublisherReport) -> String {
        match self {
            Self::Program => named(&publisher.program),
            Self::Pid if publisher.pid == 0 => String::new(),
            Self::Pid => publisher.pid.to_string(),
            Self::Silent if publisher.ended => "ended".to_owned(),
            Self::Silent if publisher.vanished => "vanished".to_owned(),
            Self::Silent => age(publisher.silent_ms),
            Self::Lost => lost(publisher).to_string(),
            Self::Host => named(&publisher.host),
            Self::Series => publisher.series.to_string(),
            Self::Age => age(publisher.age_ms),
            Self::Levels => clean(&publisher.levels.join(",")),
        }
    }

    /// The order of two publishers by this column, upwards.
    pub(crate) fn compare(self, left: &PublisherReport, right: &PublisherReport) -> Ordering {
        match self {
            Self::Program => left.program.cmp(&right.program),
            Self::Pid => left.pid.cmp(&right.pid),
            Self::Silent => left.silent_ms.cmp(&right.silent_ms),
            Self::Lost => lost(left).cmp(&lost(right)),
            Self::Host => left.host.cmp(&right.host),
            Self::Series => left.series.cmp(&right.series),
            Self::Age => left.age_ms.cmp(&right.age_ms),
            Self::Levels => left.levels.cmp(&right.levels),
        }
    }
}

/// What it dropped itself, and frames of it that are missing.
pub(crate) fn lost(publisher: &PublisherReport) -> u64 {
    publisher.gaps.saturating_add(publisher.dropped.values().fold(0, |sum, count| sum.saturating_add(*count)))
}

fn named(text: &str) -> String {
    if text.is_empty() { "unknown".to_owned() } else { clean(text) }
}
