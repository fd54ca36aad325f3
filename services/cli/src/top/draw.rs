//! Draws a state as the view asks for it. What there is no room for is named on the last line.

mod publishers;
mod series;
mod summary;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Span;
use zibrato_core::kind::Kind;

use super::state::State;
use super::view::{Page, View};

/// The smallest terminal on which anything can be shown.
const WIDTH_MIN: u16 = 20;
const HEIGHT_MIN: u16 = 5;
/// Heights from which on there is room for more: all lines of the header, publishers below the series.
const HEIGHT_FOR_HEADER: u16 = 12;
const HEIGHT_FOR_PUBLISHERS: u16 = 20;
/// Most publishers below the series.
const PUBLISHERS_BELOW_MAX: usize = 4;
/// What stands in place of rows if there are some that the filter hides.
const NOTHING_PASSES: &str = "nothing passes the filter";

/// Colours that read well on dark and on light ground, or none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Theme {
    pub(crate) has_colours: bool,
}

impl Theme {
    fn coloured(self, colour: Color) -> Style {
        if self.has_colours { Style::new().fg(colour) } else { Style::new() }
    }

    fn kind(self, kind: Kind) -> Style {
        self.coloured(match kind {
            Kind::Counter => Color::Cyan,
            Kind::Gauge => Color::Green,
            Kind::Timer => Color::Magenta,
        })
    }

    fn bad(self) -> Style {
        self.coloured(Color::Red).add_modifier(Modifier::BOLD)
    }

    fn good(self) -> Style {
        self.coloured(Color::Green)
    }

    fn heading(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    fn faint(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    fn marked(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }
}

/// Draws everything.
pub(crate) fn draw(frame: &mut Frame<'_>, state: &State, view: &mut View, theme: Theme) {
    let area = frame.area();
    if area.width < WIDTH_MIN || area.height < HEIGHT_MIN {
        put(frame, 0, 0, area.width, &format!("needs {WIDTH_MIN}x{HEIGHT_MIN}"), Style::new());
        return;
    }
    if view.is_help {
        return help(frame, area, theme);
    }
    let mut left_out = Vec::new();
    let header = summary::header(state, view, theme, usize::from(area.width));
    let header_lines = if area.height < HEIGHT_FOR_HEADER { 1 } else { header.len() };
    if header_lines < header.len() {
        left_out.push("totals".to_owned());
    }
    let mut y = 0;
    for line in header.into_iter().take(header_lines) {
        frame.buffer_mut().set_line(0, y, &line, area.width);
        y += 1;
    }
    // The last two lines: the keys, and what is left out or typed.
    let bottom = area.height - 2;
    let body = Rect { y, height: bottom.saturating_sub(y), ..area };
    match view.page {
        Page::Publishers => publishers::all(frame, body, state, view, theme, &mut left_out),
        Page::Series => {
            let below = if area.height >= HEIGHT_FOR_PUBLISHERS && !state.publishers.is_empty() {
                // At most a handful and a heading.
                1 + state.publishers.len().min(PUBLISHERS_BELOW_MAX) as u16
            } else {
                0
            };
            let upper = Rect { height: body.height - below, ..body };
            series::draw(frame, upper, state, view, theme, &mut left_out);
            let lower = Rect { y: upper.bottom(), height: below, ..body };
            publishers::first(frame, lower, state, view, theme, &mut left_out);
        }
    }
    put(frame, 0, bottom, area.width, &notes(state, view, &left_out), theme.faint());
    if view.is_typing || !view.filter.is_empty() {
        let cursor = if view.is_typing { "_" } else { "" };
        let hint = if view.is_typing { "Enter keeps, Esc clears" } else { "Esc clears" };
        let text = format!("filter: {}{cursor}  ({hint})", view.filter);
        put(
            frame,
            0,
            bottom,
            area.width,
            &format!("{text:<width$}", width = usize::from(area.width)),
            theme.heading(),
        );
    }
    put(frame, 0, bottom + 1, area.width, &keys(area.width), theme.faint());
}

/// Writes a text; what is beyond `width` is cut.
fn put(frame: &mut Frame<'_>, x: u16, y: u16, width: u16, text: &str, style: Style) {
    frame.buffer_mut().set_stringn(x, y, text, usize::from(width), style);
}

/// Writes a text into a cell: cut in its middle, or moved to the right.
fn put_cell(frame: &mut Frame<'_>, x: u16, y: u16, width: u16, text: &str, to_right: bool, style: Style) {
    let text = fitted(text, usize::from(width));
    let used = u16::try_from(Span::raw(&text).width()).unwrap_or(width);
    let x = if to_right { x + width.saturating_sub(used) } else { x };
    put(frame, x, y, width, &text, style);
}

/// The text, or its start, a `…` and its end if it is wider than `width`: series of one name differ in
/// their tags, and tags stand at the end.
fn fitted(text: &str, width: usize) -> String {
    if Span::raw(text).width() <= width {
        return text.to_owned();
    }
    let room = width.saturating_sub(1);
    let start = taken(text.chars(), room.div_ceil(2));
    let end = taken(text.chars().rev(), room / 2);
    let end: String = end.chars().rev().collect();
    format!("{start}…{end}")
}

/// As many of the characters as are at most `width` wide.
fn taken(chars: impl Iterator<Item = char>, width: usize) -> String {
    let mut taken = String::new();
    for char in chars {
        taken.push(char);
        if Span::raw(&taken).width() > width {
            taken.pop();
            break;
        }
    }
    taken
}

/// What the screen does not show, in one line.
fn notes(state: &State, view: &View, left_out: &[String]) -> String {
    let mut notes = Vec::new();
    if view.lines > view.room {
        let last = (view.scroll + view.room).min(view.lines);
        notes.push(format!("lines {} to {last} of {}", view.scroll + 1, view.lines));
    }
    if !left_out.is_empty() {
        notes.push(format!("no room for {}", left_out.join(", ")));
    }
    if let Some(levels) = state.other_levels() {
        notes.push(format!("not listened to: {levels} (--levels)"));
    }
    if state.model.left_out() > 0 {
        notes.push(format!("limit of {} series reached: some are not shown", super::model::SERIES_MAX));
    }
    notes.join("; ")
}

/// The keys that matter most, as many as fit.
fn keys(width: u16) -> String {
    const KEYS: [&str; 8] = [
        "q quit",
        "? help",
        "/ filter",
        "<> sort",
        "r reverse",
        "space pause",
        "p publishers",
        "arrows scroll",
    ];
    let mut line = String::new();
    for key in KEYS {
        let gap = if line.is_empty() { "" } else { "  " };
        if line.len() + gap.len() + key.len() > usize::from(width) {
            break;
        }
        line = line + gap + key;
    }
    line
}

fn help(frame: &mut Frame<'_>, area: Rect, theme: Theme) {
    const LINES: [&str; 20] = [
        "q, Ctrl-C      quit",
        "/              filter: a part of a name, source or level, or a glob with * or ?",
        "< > or arrows  sort by the column to the left or right",
        "1 to 9         sort by that column; again: reverse",
        "r              reverse the order",
        "space          pause and go on; nothing is lost meanwhile",
        "p, Tab         publishers, series; each is sorted by itself",
        "up down j k    scroll; PgUp PgDn Home End",
        "",
        "K              c counter, g gauge, t timer",
        "RATE/s         a counter's increase, a timer's records, windows with a set",
        "LAST/p50       a gauge's value set last, a timer's median",
        "MIN/p95        a gauge's smallest, a timer's 95th percentile",
        "MAX            the largest; p99 is of timers only",
        "               rates and timers: last 10 s; gauges: last 60 s",
        "MINUTE         the last one: counter: rate, gauge: value, timer: p99",
        "LEVEL, SOURCE  on wide terminals",
        "",
        "levels on demand cost programs something while top listens",
        "any key goes back",
    ];
    for (y, line) in (0..area.height).zip(LINES) {
        put(frame, 0, y, area.width, line, if line.is_empty() { theme.faint() } else { Style::new() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_too_wide_keeps_its_start_and_its_end() {
        assert_eq!((fitted("abc", 3), fitted("abcd", 3)), ("abc".to_owned(), "a…d".to_owned()));
        assert_eq!(fitted("demo.responses{route=/cart}", 14), "demo.re…/cart}");
        assert_eq!(fitted("日本語日本語", 5), "日…語");
        assert_eq!(fitted("日本語日本語", 4), "日…");
        assert_eq!((fitted("ab", 1), fitted("ab", 0)), ("…".to_owned(), "…".to_owned()));
    }

    #[test]
    fn the_keys_that_fit_are_named_and_quitting_always_is() {
        assert!(keys(80).contains("p publishers"));
        assert_eq!(keys(20), "q quit  ? help");
        assert!(keys(200).ends_with("arrows scroll"));
    }
}
