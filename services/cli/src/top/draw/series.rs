//! The table of series.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use zibrato_core::kind::Kind;

use super::super::columns::{Column, Placed, place};
use super::super::model::Series;
use super::super::state::State;
use super::super::view::View;
use super::{NOTHING_PASSES, Theme, put, put_cell};
use crate::spark::{self, Base};

/// Draws the heading and as many series as fit.
pub(super) fn draw(
    frame: &mut Frame<'_>,
    area: Rect,
    state: &State,
    view: &mut View,
    theme: Theme,
    left_out: &mut Vec<String>,
) {
    let rows = view.series(&state.model);
    let widest = |text: fn(&Series) -> &str| {
        rows.iter().map(|series| text(series).len()).max().unwrap_or(0).try_into().unwrap_or(u16::MAX)
    };
    let (columns, hidden) =
        place(area.width, widest(|series| &series.label), widest(|series| &series.key.source));
    left_out.extend(hidden.iter().map(|column| column.title().to_owned()));
    if area.height == 0 {
        return;
    }
    heading(frame, area, &columns, view, theme);
    let room = usize::from(area.height - 1);
    view.fit(rows.len(), room);
    if rows.is_empty() {
        let text =
            if state.model.series().is_empty() { state.why_empty() } else { NOTHING_PASSES.to_owned() };
        put(frame, 0, area.y + 1, if room > 0 { area.width } else { 0 }, &text, theme.faint());
    }
    for (y, series) in (area.y + 1..area.bottom()).zip(rows.into_iter().skip(view.scroll)) {
        row(frame, y, &columns, series, state, theme);
    }
}

fn heading(frame: &mut Frame<'_>, area: Rect, columns: &[Placed], view: &View, theme: Theme) {
    put(frame, 0, area.y, area.width, &" ".repeat(usize::from(area.width)), theme.marked());
    for Placed { column, at, width } in columns {
        let title = view.series.heading(*column, column.title());
        put_cell(
            frame,
            *at,
            area.y,
            *width,
            &title,
            column.is_number(),
            theme.marked().patch(theme.heading()),
        );
    }
}

fn row(frame: &mut Frame<'_>, y: u16, columns: &[Placed], series: &Series, state: &State, theme: Theme) {
    let is_idle = series.figures.rate == 0.0;
    for Placed { column, at, width } in columns {
        if *column == Column::Spark {
            let base = if series.key.kind == Kind::Gauge { Base::Smallest } else { Base::Zero };
            let line = spark::line(&state.model.history(series), usize::from(*width), base);
            put_cell(frame, *at, y, *width, &line, true, theme.kind(series.key.kind));
            continue;
        }
        let style = match column {
            Column::Kind => theme.kind(series.key.kind),
            _ if is_idle => theme.faint(),
            _ => Style::new(),
        };
        put_cell(frame, *at, y, *width, &column.cell(series), column.is_number(), style);
    }
}
