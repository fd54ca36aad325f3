//! The columns of the series: what each shows, how it sorts, and which of them fit.

use std::cmp::Ordering;

use zibrato_core::kind::Kind;

use super::model::Series;
use super::sorting::Sortable;
use crate::human::{number, seconds};

/// A column of the series.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Column {
    Name,
    Kind,
    Rate,
    Typical,
    Low,
    P99,
    Max,
    Spark,
    Source,
    Level,
}

/// A column and its place on a line, in characters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Placed {
    pub(crate) column: Column,
    pub(crate) at: u16,
    pub(crate) width: u16,
}

/// From left to right.
const ORDER: [Column; 10] = {
    use Column::*;
    [Name, Kind, Rate, Typical, Low, P99, Max, Spark, Source, Level]
};
/// The first ones stay when there is little room.
const IMPORTANCE: [Column; 10] = {
    use Column::*;
    [Name, Rate, P99, Typical, Max, Spark, Low, Kind, Source, Level]
};
/// Width to which names, sources and sparklines grow when there is room.
const NAME_WIDTH_MAX: u16 = 70;
const SOURCE_WIDTH_MAX: u16 = 30;
const SPARK_WIDTH_MAX: u16 = 60;

impl Sortable for Column {
    fn all() -> Vec<Self> {
        ORDER.into_iter().filter(|column| *column != Self::Spark).collect()
    }

    fn is_descending(self) -> bool {
        self.is_number()
    }
}

impl Column {
    /// The heading.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Name => "NAME",
            Self::Kind => "K",
            Self::Rate => "RATE/s",
            Self::Typical => "LAST/p50",
            Self::Low => "MIN/p95",
            Self::P99 => "p99",
            Self::Max => "MAX",
            Self::Spark => "MINUTE",
            Self::Source => "SOURCE",
            Self::Level => "LEVEL",
        }
    }

    /// Whether its cells end at the right.
    pub(crate) fn is_number(self) -> bool {
        matches!(self, Self::Rate | Self::Typical | Self::Low | Self::P99 | Self::Max)
    }

    /// The text of a cell; of the sparkline, which needs more than the figures, none.
    pub(crate) fn cell(self, series: &Series) -> String {
        let figures = &series.figures;
        let value = |value: Option<f64>| {
            let write = if series.key.kind == Kind::Timer { seconds } else { number };
            value.map(write).unwrap_or_default()
        };
        match self {
            Self::Name => series.label.clone(),
            Self::Kind => kind_letter(series.key.kind).to_owned(),
            Self::Rate => number(figures.rate),
            Self::Typical => value(figures.typical),
            Self::Low => value(figures.low),
            Self::P99 => value(figures.p99),
            Self::Max => value(figures.max),
            Self::Source => series.key.source.to_string(),
            Self::Level => series.key.level.to_string(),
            Self::Spark => String::new(),
        }
    }

    /// The order of two series by this column, upwards; series without a figure come before others.
    pub(crate) fn compare(self, left: &Series, right: &Series) -> Ordering {
        let figures = |figure: fn(&Series) -> Option<f64>| match (figure(left), figure(right)) {
            (Some(left), Some(right)) => left.total_cmp(&right),
            (left, right) => left.is_some().cmp(&right.is_some()),
        };
        match self {
            Self::Name | Self::Spark => left.label.cmp(&right.label),
            Self::Kind => left.key.kind.as_str().cmp(right.key.kind.as_str()),
            Self::Rate => figures(|series| Some(series.figures.rate)),
            Self::Typical => figures(|series| series.figures.typical),
            Self::Low => figures(|series| series.figures.low),
            Self::P99 => figures(|series| series.figures.p99),
            Self::Max => figures(|series| series.figures.max),
            Self::Source => left.key.source.cmp(&right.key.source),
            Self::Level => left.key.level.cmp(&right.key.level),
        }
    }

    /// The least width with which it is of use.
    fn width_min(self) -> u16 {
        match self {
            Self::Name => 16,
            Self::Kind => 1,
            Self::Rate | Self::Typical | Self::Low | Self::P99 | Self::Max => 8,
            Self::Spark => 10,
            Self::Source => 12,
            Self::Level => 8,
        }
    }
}

/// `c`, `g` or `t`.
pub(crate) fn kind_letter(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => "c",
        Kind::Gauge => "g",
        Kind::Timer => "t",
    }
}

/// The columns that fit into `width`, placed, and those that do not. Names and sources need not be
/// wider than the longest, which are given.
pub(crate) fn place(width: u16, name_width: u16, source_width: u16) -> (Vec<Placed>, Vec<Column>) {
    let mut kept: Vec<Column> = Vec::new();
    let mut used = 0;
    for column in IMPORTANCE {
        let gap = u16::from(!kept.is_empty());
        if !kept.is_empty() && used + gap + column.width_min() > width {
            break;
        }
        used += gap + column.width_min();
        kept.push(column);
    }
    let left_out = ORDER.into_iter().filter(|column| !kept.contains(column)).collect();
    let mut spare = width.saturating_sub(used);
    let mut grow = |column: Column, to: u16| {
        let more = to.saturating_sub(column.width_min()).min(spare);
        let more = if kept.contains(&column) { more } else { 0 };
        spare -= more;
        more
    };
    let more_name = grow(Column::Name, name_width.min(NAME_WIDTH_MAX));
    let more_source = grow(Column::Source, source_width.min(SOURCE_WIDTH_MAX));
    let more_spark = grow(Column::Spark, SPARK_WIDTH_MAX);
    let mut at = 0;
    let mut placed = Vec::new();
    for column in ORDER.into_iter().filter(|column| kept.contains(column)) {
        let more = match column {
            Column::Name => more_name,
            Column::Source => more_source,
            Column::Spark => more_spark,
            _ => 0,
        };
        let column_width = (column.width_min() + more).min(width.saturating_sub(at));
        placed.push(Placed { column, at, width: column_width });
        at += column_width + 1;
    }
    (placed, left_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(width: u16) -> Vec<Column> {
        place(width, 20, 20).0.into_iter().map(|placed| placed.column).collect()
    }

    #[test]
    fn eighty_characters_hold_the_figures_and_more_hold_everything() {
        use Column::*;
        assert_eq!(columns(80), [Name, Kind, Rate, Typical, Low, P99, Max, Spark]);
        assert_eq!(columns(60), [Name, Rate, Typical, P99, Max]);
        assert_eq!(columns(25), [Name, Rate]);
        assert_eq!(columns(10), [Name]);
        assert_eq!(columns(120), ORDER);
        assert_eq!(place(80, 20, 20).1, [Source, Level]);
    }

    #[test]
    fn columns_never_overlap_and_never_leave_the_line() {
        for width in 1..250 {
            let (placed, left_out) = place(width, 90, 90);
            assert_eq!(placed.len() + left_out.len(), ORDER.len());
            let mut end = 0;
            for Placed { at, width: column_width, column } in placed {
                assert!(at >= end && at + column_width <= width, "{column:?} at {width}");
                end = at + column_width + 1;
            }
        }
    }

    #[test]
    fn spare_room_goes_to_names_then_sources_then_sparklines() {
        let widths = |width| -> Vec<_> {
            let wide = [Column::Name, Column::Source, Column::Spark];
            let (placed, _) = place(width, 40, 20);
            wide.map(|column| placed.iter().find(|placed| placed.column == column).map(|placed| placed.width))
                .into()
        };
        assert_eq!(widths(100), [Some(20), Some(12), Some(10)].to_vec());
        assert_eq!(widths(140), [Some(40), Some(20), Some(22)].to_vec());
        assert_eq!(widths(200), [Some(40), Some(20), Some(60)].to_vec());
    }
}
