//! What of the model is shown and how: keys change it.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use wildmatch::WildMatch;
use zibrato_service::PublisherReport;

use super::columns::Column;
use super::model::{Model, Series};
use super::publisher_columns::PublisherColumn;
use super::sorting::Sorting;

/// Longest filter, in characters.
const FILTER_CHARS_MAX: usize = 60;

/// What is shown and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct View {
    pub(crate) page: Page,
    pub(crate) series: Sorting<Column>,
    pub(crate) publishers: Sorting<PublisherColumn>,
    /// What is shown: see [`passes`].
    pub(crate) filter: String,
    /// Whether keys go to the filter.
    pub(crate) is_typing: bool,
    pub(crate) is_help: bool,
    pub(crate) is_paused: bool,
    /// Lines scrolled down.
    pub(crate) scroll: usize,
    /// Lines that the last drawing had room for, and that there were.
    pub(crate) room: usize,
    pub(crate) lines: usize,
}

/// What fills the screen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Page {
    Series,
    Publishers,
}

/// What a key asks for beyond the view.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Asked {
    Nothing,
    Quit,
}

impl Default for View {
    fn default() -> Self {
        Self {
            page: Page::Series,
            series: Sorting::by(Column::Rate),
            publishers: Sorting::by(PublisherColumn::Program),
            filter: String::new(),
            is_typing: false,
            is_help: false,
            is_paused: false,
            scroll: 0,
            room: 0,
            lines: 0,
        }
    }
}

impl View {
    /// The series that the filter lets through by name, source or level, in order.
    pub(crate) fn series<'a>(&self, model: &'a Model) -> Vec<&'a Series> {
        let passes = passes(&self.filter);
        let mut rows: Vec<_> = model
            .series()
            .iter()
            .filter(|series| passes(&series.label) || passes(&series.key.source) || passes(&series.key.level))
            .collect();
        rows.sort_by(|left, right| {
            let order = self.series.column.compare(left, right);
            let order = if self.series.is_descending() { order.reverse() } else { order };
            order.then_with(|| left.label.cmp(&right.label)).then_with(|| left.key.cmp(&right.key))
        });
        rows
    }

    /// The publishers that the filter lets through by program, host, pid or level, in order. Those that run
    /// stand before those that do not.
    pub(crate) fn publishers<'a>(&self, publishers: &'a [PublisherReport]) -> Vec<&'a PublisherReport> {
        let passes = passes(&self.filter);
        let is_shown = |publisher: &&PublisherReport| {
            let PublisherReport { program, host, pid, levels, .. } = publisher;
            passes(program)
                || passes(host)
                || passes(&pid.to_string())
                || levels.iter().any(|level| passes(level))
        };
        let mut rows: Vec<_> = publishers.iter().filter(is_shown).collect();
        // The order before is that of the state, and stays among equals.
        rows.sort_by(|left, right| {
            let order = self.publishers.column.compare(left, right);
            let order = if self.publishers.is_descending() { order.reverse() } else { order };
            (left.ended, left.vanished).cmp(&(right.ended, right.vanished)).then(order)
        });
        rows
    }

    /// Takes a key.
    pub(crate) fn key(&mut self, key: KeyEvent) -> Asked {
        if key.kind == KeyEventKind::Release {
            return Asked::Nothing;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return if key.code == KeyCode::Char('c') { Asked::Quit } else { Asked::Nothing };
        }
        if self.is_typing {
            self.type_filter(key.code);
            return Asked::Nothing;
        }
        if self.is_help {
            self.is_help = false;
            return if key.code == KeyCode::Char('q') { Asked::Quit } else { Asked::Nothing };
        }
        match key.code {
            KeyCode::Char('q') => return Asked::Quit,
            KeyCode::Char('?' | 'h') => self.is_help = true,
            KeyCode::Char('/') => self.is_typing = true,
            KeyCode::Esc => self.set_filter(String::new()),
            KeyCode::Char(' ') => self.is_paused = !self.is_paused,
            KeyCode::Char('p') | KeyCode::Tab => self.turn_page(),
            KeyCode::Char('r') => self.sort(Sorting::reverse, Sorting::reverse),
            KeyCode::Char('<' | ',') | KeyCode::Left => self.sort(|by| by.step(-1), |by| by.step(-1)),
            KeyCode::Char('>' | '.') | KeyCode::Right => self.sort(|by| by.step(1), |by| by.step(1)),
            KeyCode::Char(digit @ '1'..='9') => self.sort(|by| by.pick(digit), |by| by.pick(digit)),
            KeyCode::Up | KeyCode::Char('k') => self.scroll_by(-1),
            KeyCode::Down | KeyCode::Char('j') => self.scroll_by(1),
            KeyCode::PageUp => self.scroll_by(-self.page_lines()),
            KeyCode::PageDown => self.scroll_by(self.page_lines()),
            KeyCode::Home | KeyCode::Char('g') => self.scroll = 0,
            KeyCode::End | KeyCode::Char('G') => self.scroll_by(isize::MAX),
            _ => {}
        }
        Asked::Nothing
    }

    /// Notes how many lines there are and how many have room, and stays within them.
    pub(crate) fn fit(&mut self, lines: usize, room: usize) {
        (self.lines, self.room) = (lines, room);
        self.scroll = self.scroll.min(lines.saturating_sub(room));
    }

    fn type_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => {
                self.is_typing = false;
                self.set_filter(String::new());
            }
            KeyCode::Backspace => {
                let mut filter = std::mem::take(&mut self.filter);
                filter.pop();
                self.set_filter(filter);
            }
            KeyCode::Char(char) if self.filter.chars().count() < FILTER_CHARS_MAX => {
                let mut filter = std::mem::take(&mut self.filter);
                filter.push(char);
                self.set_filter(filter);
            }
            _ => {}
        }
    }

    fn set_filter(&mut self, filter: String) {
        (self.filter, self.scroll) = (filter, 0);
    }

    fn turn_page(&mut self) {
        self.page = if self.page == Page::Series { Page::Publishers } else { Page::Series };
        self.scroll = 0;
    }

    /// Changes how the page that is shown is sorted.
    fn sort(
        &mut self,
        series: impl FnOnce(&mut Sorting<Column>),
        publishers: impl FnOnce(&mut Sorting<PublisherColumn>),
    ) {
        match self.page {
            Page::Series => series(&mut self.series),
            Page::Publishers => publishers(&mut self.publishers),
        }
        self.scroll = 0;
    }

    fn page_lines(&self) -> isize {
        isize::try_from(self.room.saturating_sub(1)).unwrap_or(isize::MAX).max(1)
    }

    fn scroll_by(&mut self, lines: isize) {
        self.scroll = self.scroll.saturating_add_signed(lines).min(self.lines.saturating_sub(self.room));
    }
}

/// Whether a text passes a filter, in any case: one with `*` or `?` is a glob for all of the text, any other
/// is a part of it. A glob while typing has no end yet, and a word is what most look for.
fn passes(filter: &str) -> impl Fn(&str) -> bool {
    let filter = filter.to_lowercase();
    let glob = filter.contains(['*', '?']).then(|| WildMatch::new(&filter));
    move |text| {
        let text = text.to_lowercase();
        glob.as_ref().map_or_else(|| text.contains(&filter), |glob| glob.matches(&text))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use zibrato_core::kind::Kind;
    use zibrato_worker::measurement::{Measurement, SeriesKey, Value};

    use super::super::sorting::Sortable;
    use super::*;

    fn model() -> Model {
        let counter = |name: &str, level: &str, source: &str, delta| {
            let series = Arc::new(SeriesKey {
                level: level.into(),
                kind: Kind::Counter,
                name: name.to_owned(),
                source: source.into(),
                unit: String::new(),
                tags: Vec::new(),
            });
            Measurement { series, merged: Vec::new(), value: Value::Counter { delta }, total: None }
        };
        let mut model = Model::default();
        model.absorb(&[
            counter("alpha", "info", "web1", 2.0),
            counter("beta", "audit", "web2", 30.0),
            counter("gamma", "info", "db1", 2.0),
        ]);
        model
    }

    fn press(view: &mut View, keys: &str) {
        for char in keys.chars() {
            let code = match char {
                '\n' => KeyCode::Enter,
                '\x08' => KeyCode::Backspace,
                '\x1b' => KeyCode::Esc,
                char => KeyCode::Char(char),
            };
            assert_eq!(view.key(KeyEvent::new(code, KeyModifiers::NONE)), Asked::Nothing, "{char:?}");
        }
    }

    fn shown(view: &View, model: &Model) -> Vec<String> {
        view.series(model).into_iter().map(|series| series.label.clone()).collect()
    }

    #[test]
    fn the_largest_rate_comes_first_and_equal_ones_by_name() {
        let (mut view, model) = (View::default(), model());
        assert_eq!(shown(&view, &model), ["beta", "alpha", "gamma"]);
        press(&mut view, "r");
        assert_eq!(shown(&view, &model), ["alpha", "gamma", "beta"]);
    }

    #[test]
    fn every_column_can_be_sorted_by_number_and_by_neighbour() {
        let (mut view, model) = (View::default(), model());
        press(&mut view, "1");
        assert_eq!((view.series.column, shown(&view, &model)[0].as_str()), (Column::Name, "alpha"));
        press(&mut view, "1");
        assert_eq!(shown(&view, &model)[0], "gamma", "the same column again turns the order round");
        press(&mut view, "8");
        assert_eq!(
            (view.series.column, shown(&view, &model)),
            (Column::Source, vec!["gamma".into(), "alpha".into(), "beta".into()])
        );
        press(&mut view, ">");
        assert_eq!((view.series.column, shown(&view, &model)[0].as_str()), (Column::Level, "beta"));
        press(&mut view, ">");
        assert_eq!(view.series.column, Column::Name);
        press(&mut view, "<");
        assert_eq!(view.series.column, Column::Level);
        let mut seen = vec![view.series.column];
        for _ in 1..Column::all().len() {
            press(&mut view, ">");
            assert!(!seen.contains(&view.series.column));
            seen.push(view.series.column);
        }
    }

    #[test]
    fn typing_filters_by_name_source_or_level_until_escape() {
        let (mut view, model) = (View::default(), model());
        press(&mut view, "/WEBq");
        assert!(shown(&view, &model).is_empty(), "q is a letter here");
        press(&mut view, "\x08");
        assert_eq!(shown(&view, &model), ["beta", "alpha"]);
        press(&mut view, "\n");
        assert!(!view.is_typing && view.filter == "WEB");
        press(&mut view, "\x1b/audit\n");
        assert_eq!(shown(&view, &model), ["beta"]);
        press(&mut view, "\x1b/gam");
        assert_eq!(shown(&view, &model), ["gamma"]);
        press(&mut view, "\x1b");
        assert_eq!((shown(&view, &model).len(), view.is_typing), (3, false));
        press(&mut view, &format!("/{}", "x".repeat(FILTER_CHARS_MAX + 5)));
        assert_eq!(view.filter.len(), FILTER_CHARS_MAX);
    }

    #[test]
    fn a_filter_with_a_star_is_a_glob_and_any_other_a_part() {
        let (mut view, model) = (View::default(), model());
        for (filter, expected) in [
            ("*A", &["beta", "alpha", "gamma"][..]),
            ("a*", &["beta", "alpha"]),
            ("al*a", &["alpha"]),
            ("web?", &["beta", "alpha"]),
            ("web*1", &["alpha"]),
            ("w*", &["beta", "alpha"]),
            ("e*", &[]),
            ("et", &["beta"]),
        ] {
            view.set_filter(filter.to_owned());
            assert_eq!(shown(&view, &model), expected, "{filter}");
        }
    }

    #[test]
    fn publishers_are_sorted_and_filtered_by_the_same_keys() {
        let publisher = |program: &str, pid, gaps, ended| PublisherReport {
            program: program.to_owned(),
            host: format!("host{pid}"),
            pid,
            gaps,
            ended,
            levels: vec!["info".to_owned()],
            ..PublisherReport::default()
        };
        let publishers =
            [publisher("b", 1, 0, false), publisher("c", 3, 9, false), publisher("a", 2, 4, true)];
        let mut view = View::default();
        let shown = |view: &View| -> Vec<u32> {
            view.publishers(&publishers).into_iter().map(|publisher| publisher.pid).collect()
        };
        press(&mut view, "p");
        assert_eq!(shown(&view), [1, 3, 2], "what ended stands behind what runs");
        press(&mut view, "r");
        assert_eq!(shown(&view), [3, 1, 2]);
        press(&mut view, "4");
        assert_eq!((view.publishers.column, shown(&view)), (PublisherColumn::Lost, vec![3, 1, 2]));
        press(&mut view, "4");
        assert_eq!(shown(&view), [1, 3, 2]);
        press(&mut view, "<");
        assert_eq!(view.publishers.column, PublisherColumn::Silent);
        assert_eq!(view.series, View::default().series, "the other page stays as it was");
        for (filter, expected) in [("host3", &[3][..]), ("*2", &[2]), ("info", &[1, 3, 2]), ("x", &[])] {
            view.set_filter(filter.to_owned());
            assert_eq!(shown(&view), expected, "{filter}");
        }
    }

    #[test]
    fn scrolling_stays_within_the_lines() {
        let mut view = View::default();
        view.fit(10, 4);
        press(&mut view, "kjj");
        assert_eq!(view.scroll, 2);
        view.key(KeyEvent::new(KeyCode::PageDown, KeyModifiers::NONE));
        assert_eq!(view.scroll, 5);
        press(&mut view, "G");
        assert_eq!(view.scroll, 6);
        view.fit(5, 4);
        assert_eq!(view.scroll, 1);
        press(&mut view, "g");
        assert_eq!(view.scroll, 0);
    }

    #[test]
    fn q_and_control_c_quit_also_from_help_and_while_typing() {
        let quit = KeyEvent::new(KeyCode::Char('q'), KeyModifiers::NONE);
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(View::default().key(quit), Asked::Quit);
        let mut view = View::default();
        press(&mut view, "?");
        assert!(view.is_help);
        assert_eq!(view.clone().key(quit), Asked::Quit);
        press(&mut view, "x");
        assert!(!view.is_help, "any key leaves the help");
        press(&mut view, "/");
        assert_eq!(view.key(interrupt), Asked::Quit);
    }
}
