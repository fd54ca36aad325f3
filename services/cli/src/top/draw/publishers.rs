//! The publishers: all of them on a page of their own, or the first ones below the series.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use zibrato_service::PublisherReport;

use super::super::state::State;
use super::super::view::View;
use super::{Theme, put, put_cell};
use crate::human::{age, clean};

/// A column: heading, least width, whether it is a number.
struct Column {
    title: &'static str,
    width: u16,
    to_right: bool,
    cell: fn(&PublisherReport) -> String,
}

/// In the order of their importance, which is also that on the line.
const COLUMNS: [Column; 8] = [
    Column { title: "PROGRAM", width: 16, to_right: false, cell: |publisher| named(&publisher.program) },
    Column { title: "PID", width: 8, to_right: true, cell: pid },
    Column { title: "SILENT", width: 8, to_right: true, cell: silent },
    Column { title: "LOST", width: 6, to_right: true, cell: |publisher| lost(publisher).to_string() },
    Column { title: "HOST", width: 14, to_right: false, cell: |publisher| named(&publisher.host) },
    Column { title: "SERIES", width: 7, to_right: true, cell: |publisher| publisher.series.to_string() },
    Column { title: "AGE", width: 8, to_right: true, cell: |publisher| age(publisher.age_ms) },
    Column { title: "LEVELS", width: 16, to_right: false, cell: |publisher| publisher.levels.join(",") },
];

/// Draws them all, scrolled.
pub(super) fn all(
    frame: &mut Frame<'_>,
    area: Rect,
    state: &State,
    view: &mut View,
    theme: Theme,
    left_out: &mut Vec<String>,
) {
    view.fit(state.publishers.len(), usize::from(area.height.saturating_sub(1)));
    table(frame, area, state.publishers.iter().skip(view.scroll), theme, left_out);
    if state.publishers.is_empty() && area.height > 1 {
        put(frame, 0, area.y + 1, area.width, &state.why_empty(), theme.faint());
    }
}

/// Draws the first ones.
pub(super) fn first(
    frame: &mut Frame<'_>,
    area: Rect,
    state: &State,
    theme: Theme,
    left_out: &mut Vec<String>,
) {
    let rows = usize::from(area.height.saturating_sub(1));
    if state.publishers.len() > rows {
        left_out.push(format!("{} publishers (p)", state.publishers.len() - rows));
    }
    // What has no room here has more on the page.
    table(frame, area, state.publishers.iter(), theme, &mut Vec::new());
}

fn table<'a>(
    frame: &mut Frame<'_>,
    area: Rect,
    publishers: impl Iterator<Item = &'a PublisherReport>,
    theme: Theme,
    left_out: &mut Vec<String>,
) {
    if area.height == 0 {
        return;
    }
    put(frame, 0, area.y, area.width, &" ".repeat(usize::from(area.width)), theme.marked());
    let mut columns = Vec::new();
    let mut at = 0;
    for column in &COLUMNS {
        if at + column.width > area.width {
            left_out.push(column.title.to_owned());
            continue;
        }
        columns.push((at, column));
        at += column.width + 1;
    }
    // Spare room goes to the first column.
    let spare = area.width.saturating_sub(at.saturating_sub(1));
    for (at, column) in &columns {
        let (x, width) = widened(*at, column.width, spare);
        put_cell(
            frame,
            x,
            area.y,
            width,
            column.title,
            column.to_right,
            theme.marked().patch(theme.heading()),
        );
    }
    for (y, publisher) in (area.y + 1..area.bottom()).zip(publishers) {
        let style = style(publisher, theme);
        for (at, column) in &columns {
            let (x, width) = widened(*at, column.width, spare);
            put_cell(frame, x, y, width, &(column.cell)(publisher), column.to_right, style);
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

/// What it dropped itself, and frames of it that are missing.
fn lost(publisher: &PublisherReport) -> u64 {
    publisher.gaps.saturating_add(publisher.dropped.values().fold(0, |sum, count| sum.saturating_add(*count)))
}

fn named(text: &str) -> String {
    if text.is_empty() { "unknown".to_owned() } else { clean(text) }
}

fn pid(publisher: &PublisherReport) -> String {
    if publisher.pid == 0 { String::new() } else { publisher.pid.to_string() }
}

fn silent(publisher: &PublisherReport) -> String {
    match publisher {
        PublisherReport { ended: true, .. } => "ended".to_owned(),
        PublisherReport { vanished: true, .. } => "vanished".to_owned(),
        PublisherReport { silent_ms, .. } => age(*silent_ms),
    }
}
