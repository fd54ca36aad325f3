//! Views as lines of text: tab-separated for a pipe, in columns and colours for a terminal.

use std::collections::BTreeMap;
use std::time::Duration;

use super::memory::Change;
use super::samples::{SampleView, ValueView};
use super::view::{FrameView, LegacyView, SeriesView, StateView, View};
use crate::human::{clean, duration, number};
use crate::paint::{Paint, Tone};

/// Number of columns.
const COLUMNS: usize = 10;
/// Widest that a column is made; longer texts push the rest of their line to the right.
const WIDTH_MAX: usize = 48;
/// Shown hexadecimal digits of a publisher's id.
const ID_DIGITS: usize = 8;
/// What stands where there is nothing to say.
const NONE: &str = "-";
const DAY_S: u64 = 86_400;
const SECOND_NS: u64 = 1_000_000_000;

/// Time, level, publisher, seq, flags, kind, series, source, state, change.
type Cells = [String; COLUMNS];

/// How lines are written.
#[derive(Debug)]
pub(super) struct Layout {
    is_terminal: bool,
    paint: Paint,
    widths: [usize; COLUMNS],
}

impl Layout {
    pub(super) fn new(is_terminal: bool, paint: Paint) -> Self {
        Self { is_terminal, paint, widths: [0; COLUMNS] }
    }

    /// The lines of a view: one for each series, or one if it has none.
    pub(super) fn lines(&mut self, view: &View<'_>, now_ms: u64) -> Vec<String> {
        let time = self.time(now_ms / 1_000, &format!("{:03}", now_ms % 1_000));
        let rows = match view {
            View::Frame(frame) => frame_rows(frame),
            View::Legacy(legacy) => vec![legacy_row(legacy)],
            View::Unreadable { error, bytes, .. } => {
                let mut row = empty_row();
                (row[5], row[8]) = ("unreadable".to_owned(), format!("{bytes} bytes: {error}"));
                vec![row]
            }
        };
        rows.into_iter().map(|row| self.line(row, &time)).collect()
    }

    /// The line of a sample.
    pub(super) fn sample_line(&mut self, sample: &SampleView<'_>) -> String {
        let (s, ns) = (sample.time_ns / SECOND_NS, sample.time_ns % SECOND_NS);
        let time = self.time(s, &format!("{:06}", ns / 1_000));
        self.line(sample_row(sample), &time)
    }

    fn line(&mut self, mut row: Cells, time: &str) -> String {
        time.clone_into(&mut row[0]);
        let row = row.map(|cell| clean(&cell));
        if !self.is_terminal {
            return row.join("\t");
        }
        let mut line = String::new();
        for (at, cell) in row.iter().enumerate() {
            let chars = cell.chars().count();
            self.widths[at] = self.widths[at].max(chars.min(WIDTH_MAX));
            line.push_str(&self.paint(at, cell, &row[5]));
            if at + 1 < COLUMNS {
                line.extend(std::iter::repeat_n(' ', 2 + self.widths[at].saturating_sub(chars)));
            }
        }
        line
    }

    fn paint(&self, column: usize, cell: &str, kind: &str) -> String {
        let tone = match (column, kind) {
            (5 | 8, "unreadable") => Tone::Bad,
            (0 | 2 | 3 | 7, _) => Tone::Faint,
            (4, _) => Tone::Warning,
            (5, _) => Tone::Good,
            (6 | 9, _) => Tone::Strong,
            _ => return cell.to_owned(),
        };
        self.paint.tone(tone, cell)
    }

    /// For people the time of day, for programs seconds since 1970; both UTC, with this fraction.
    fn time(&self, unix_s: u64, fraction: &str) -> String {
        if self.is_terminal {
            let s = unix_s % DAY_S;
            format!("{:02}:{:02}:{:02}.{fraction}", s / 3_600, s / 60 % 60, s % 60)
        } else {
            format!("{unix_s}.{fraction}")
        }
    }
}

fn empty_row() -> Cells {
    std::array::from_fn(|_| NONE.to_owned())
}

fn frame_rows(frame: &FrameView<'_>) -> Vec<Cells> {
    let mut head = empty_row();
    head[1] = frame.level.to_owned();
    head[2] = publisher(frame);
    head[3] = frame.seq.to_string();
    head[4] = flags(frame);
    if frame.series.is_empty() {
        return vec![head];
    }
    let row = |series: &SeriesView<'_>| {
        let mut row = head.clone();
        row[5] = series.kind.to_owned();
        row[6] = series_name(series.name, &series.tags, series.unit);
        row[7] = series.source.to_owned();
        (row[8], row[9]) = state(series);
        row
    };
    frame.series.iter().map(row).collect()
}

fn publisher(frame: &FrameView<'_>) -> String {
    let id = short_id(&frame.publisher);
    match &frame.about {
        Some(about) => format!("{}@{}/{id}", about.program, about.host),
        None => id.to_owned(),
    }
}

fn short_id(publisher: &str) -> &str {
    &publisher[..publisher.len().min(ID_DIGITS)]
}

fn flags(frame: &FrameView<'_>) -> String {
    let FrameView { key, end, heartbeat, part, of, .. } = *frame;
    let mut flags = Vec::new();
    flags.extend(
        [(key, "key"), (end, "end"), (heartbeat, "heartbeat")]
            .iter()
            .filter(|flag| flag.0)
            .map(|flag| flag.1.to_owned()),
    );
    if of > 1 {
        flags.push(format!("{}/{of}", part + 1));
    }
    if flags.is_empty() { NONE.to_owned() } else { flags.join(",") }
}

/// The name with its tags and unit: `web.requests{route=/api} [bytes]`.
fn series_name(name: &str, tags: &BTreeMap<&str, &str>, unit: &str) -> String {
    let mut text = name.to_owned();
    if !tags.is_empty() {
        let tags: Vec<_> = tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
        text = format!("{text}{{{}}}", tags.join(","));
    }
    if unit.is_empty() { text } else { format!("{text} [{unit}]") }
}

/// State and change of a series.
fn state(series: &SeriesView<'_>) -> (String, String) {
    let state = match &series.state {
        StateView::Counter { sum } => format!("sum {sum}"),
        StateView::Gauge { last, .. } => format!("last {}", number(*last)),
        StateView::Timer { count, sum_ns, .. } => format!("count {count}{}", mean(*sum_ns, *count)),
    };
    let change = match (&series.state, series.delta) {
        (_, Some(Change::Counter { sum })) => format!("+{sum}"),
        (StateView::Gauge { min, max, .. }, Some(Change::Gauge { sets })) => {
            format!("+{sets} from {} to {}", number(*min), number(*max))
        }
        (StateView::Timer { window_ns, .. }, Some(Change::Timer { count, sum_ns })) => {
            let range = window_ns.map(|(min, max)| format!(" from {} to {}", ns(min), ns(max)));
            format!("+{count}{}{}", mean(sum_ns, count), range.unwrap_or_default())
        }
        _ => NONE.to_owned(),
    };
    (state, change)
}

fn mean(sum_ns: u64, count: u64) -> String {
    sum_ns.checked_div(count).map(|mean| format!(" mean {}", ns(mean))).unwrap_or_default()
}

fn ns(ns: u64) -> String {
    duration(Duration::from_nanos(ns))
}

fn legacy_row(legacy: &LegacyView<'_>) -> Cells {
    let LegacyView { level, kind, name, source, value, .. } = legacy;
    let mut row = empty_row();
    (row[1], row[2]) = ((*level).to_owned(), "legacy".to_owned());
    (row[5], row[6], row[7]) = ((*kind).to_owned(), (*name).to_owned(), (*source).to_owned());
    match *kind {
        "counter" => row[9] = format!("{value:+}"),
        "timer" => row[9] = format!("+1 of {value} s"),
        _ => row[8] = format!("last {}", number(*value)),
    }
    row
}

/// As the row of a legacy message, but for numbers, which are exact.
fn sample_row(sample: &SampleView<'_>) -> Cells {
    let mut row = empty_row();
    row[1] = sample.level.to_owned();
    row[2] = short_id(sample.publisher).to_owned();
    row[3] = sample.number.to_string();
    row[5] = sample.kind.to_owned();
    row[6] = series_name(sample.name, &sample.tags, sample.unit);
    row[7] = sample.source.to_owned();
    match sample.value {
        ValueView::Counter { increment } => row[9] = format!("+{increment}"),
        ValueView::Gauge { value } => row[8] = format!("last {value}"),
        ValueView::Timer { ns } => row[9] = format!("+1 of {ns} ns"),
    }
    row
}
