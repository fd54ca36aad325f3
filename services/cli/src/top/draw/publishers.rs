//! The publishers: all of them on a page of their own, or the first ones below the series.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use zibrato_service::PublisherReport;

use super::super::publisher_columns::{PUBLISHER_COLUMNS, lost};
use super::super::state::State;
use super::super::view::View;
use super::{NOTHING_PASSES, Theme, put, put_cell};

/// Draws them all, scrolled.
pub(super) fn all(
    frame: &mut Frame<'_>,
    area: Rect,
    state: &State,
    view: &mut View,
    theme: Theme,
    left_out: &mut Vec<String>,
) {
    let publishers = view.publishers(&state.publishers);
    view.fit(publishers.len(), usize::from(area.height.saturating_sub(1)));
    if publishers.is_empty() && area.height > 1 {
        let text = if state.publishers.is_empty() { state.why_empty() } else { NOTHING_PASSES.to_owned() };
        put(frame, 0, area.y + 1, area.width, &text, theme.faint());
    }
    table(frame, area, publishers.into_iter().skip(view.scroll), view, theme, left_out);
}

/// Draws the first ones.
pub(super) fn first(
    frame: &mut Frame<'_>,
    area: Rect,
    state: &State,
    view: &View,
    theme: Theme,
    left_out: &mut Vec<String>,
) {
    let rows = usize::from(area.height.saturating_sub(1));
    if state.publishers.len() > rows {
        left_out.push(format!("{} publishers (p)", state.publishers.len() - rows));
    }
    // What has no room here has more on the page. The filter is that of the series, whose publishers these are.
    let view = View { publishers: view.publishers, ..View::default() };
    let publishers = view.publishers(&state.publishers).into_iter();
    table(frame, area, publishers, &view, theme, &mut Vec::new());
}

fn table<'a>(
    frame: &mut Frame<'_>,
    area: Rect,
    publishers: impl Iterator<Item = &'a PublisherReport>,
    view: &View,
    theme: Theme,
    left_out: &mut Vec<String>,
) {
    if area.height == 0 {
        return;
    }
    put(frame, 0, area.y, area.width, &" ".repeat(usize::from(area.width)), theme.marked());
    let mut columns = Vec::new();
    let mut at = 0;
    for column in PUBLISHER_COLUMNS {
        if at + column.width_min() > area.width {
            left_out.push(column.title().to_owned());
            continue;
        }
        columns.push((at, column));
        at += column.width_min() + 1;
    }
    // Spare room goes to the first column.
    let spare = area.width.saturating_sub(at.saturating_sub(1));
    for (at, column) in &columns {
        let (x, width) = widened(*at, column.width_min(), spare);
        put_cell(
            frame,
            x,
            area.y,
            width,
            &view.publishers.heading(*column, column.title()),
            column.is_number(),
            theme.marked().patch(theme.heading()),
        );
    }
    for (y, publisher) in (area.y + 1..area.bottom()).zip(publishers) {
        let style = style(publisher, theme);
        for (at, column) in &columns {
            let (x, width) = widened(*at, column.width_min(), spare);
            put_cell(frame, x, y, width, &column.cell(publisher), column.is_number(), style);
        }
    }
}

fn widened(at: u16, width: u16, spare: u16) -> (u16, u16) {
    if at == 0 { (0, width + spare) } else { (at + spare, width) }
}

fn style(publisher: &PublisherReport, theme: Theme) -> Style {
    if publisher.ended {
        theme.faint()
    } else if publisher.vanished || lost(publisher) > 0 {
        theme.bad()
    } else {
        Style::new()
    }
}
