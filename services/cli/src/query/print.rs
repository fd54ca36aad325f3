//! Measurements as a table, as CSV and as JSON.

use serde::Serialize;

use super::catalogue::Kind;
use super::series::{Found, Point, Source};
use super::summary::{Shown, Summary, bars};
use super::window::Window;
use crate::human::{clean, number, plural, seconds};
use crate::paint::{Paint, Tone, is_pretty};
use crate::percentile::quantile_within;
use crate::spark::{self, Base};
use crate::table::Table;

/// Bars of a sparkline in a pipe, and the least on a terminal, where they take what room there is.
const BARS: usize = 30;
const BARS_MIN: usize = 10;

/// One line for each source, on a terminal of `columns` or in a pipe.
pub(super) fn table(found: &Found, window: &Window, paint: Paint, columns: Option<usize>) -> String {
    let mut lines = vec![paint.tone(Tone::Strong, &heading(found, window))];
    if found.sources.iter().all(|source| source.points.is_empty()) {
        lines.push("no points in this time".to_owned());
        return lines.join("\n") + "\n";
    }
    let summaries: Vec<_> =
        found.sources.iter().map(|source| Summary::of(source, found.kind, window)).collect();
    let mut table = Table::new(titles(found.kind).iter().map(|title| (*title, *title != "SOURCE")));
    for (source, summary) in found.sources.iter().zip(&summaries) {
        table.row(cells(&source.name, summary, found.kind));
    }
    let figures = table.to_string();
    let widest = figures.lines().map(|line| line.chars().count()).max().unwrap_or(0);
    let room = columns.map_or(BARS, |columns| columns.saturating_sub(widest + 2).max(BARS_MIN));
    for (at, line) in figures.lines().enumerate() {
        let bars = match at.checked_sub(1) {
            None => bars_title(found.kind).to_owned(),
            Some(at) => paint.tone(Tone::Good, &sparkline(&found.sources[at], found.kind, window, room)),
        };
        let blanks = " ".repeat(widest - line.chars().count() + 2);
        lines.push(format!("{line}{blanks}{bars}").trim_end().to_owned());
    }
    if found.is_cut {
        lines.push("there is more: give a shorter --last, a longer --resolution or a --source".to_owned());
    }
    lines.join("\n") + "\n"
}

/// Width of the terminal; `None` in a pipe.
pub(super) fn columns() -> Option<usize> {
    let size = || ratatui::crossterm::terminal::size().ok();
    is_pretty().then(size).flatten().map(|(columns, _)| usize::from(columns))
}

fn heading(found: &Found, window: &Window) -> String {
    let mut text = format!("{}  {}", clean(&found.metric.name), found.kind.as_str());
    if !found.metric.levels().is_empty() {
        text += &format!("  levels {}", clean(&found.metric.levels().join(",")));
    }
    if !found.metric.unit().is_empty() {
        text += &format!("  unit {}", clean(found.metric.unit()));
    }
    text + &format!("  {} of {} s", plural(window.steps(), "step"), window.resolution_s)
}

fn titles(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Counter => &["SOURCE", "TOTAL", "MEAN/s", "MAX/s"],
        Kind::Gauge => &["SOURCE", "LAST", "MIN", "MEAN", "MAX", "POINTS"],
        Kind::Timer => &["SOURCE", "COUNT", "RATE/s", "p50", "p95", "p99", "MAX"],
    }
}

fn bars_title(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => "RATE",
        Kind::Gauge => "VALUE",
        Kind::Timer => "p99",
    }
}

fn cells(source: &str, summary: &Summary, kind: Kind) -> Vec<String> {
    let plain = |value: Option<f64>| value.map(number).unwrap_or_default();
    let time = |value: Option<f64>| value.map(seconds).unwrap_or_default();
    let Summary { count, sum, rate, rate_max, mean, last, min, max, p50, p95, p99 } = summary;
    let mut cells = vec![clean(source)];
    cells.extend(match kind {
        Kind::Counter => vec![number(*sum), plain(*rate), plain(*rate_max)],
        Kind::Gauge => vec![plain(*last), plain(*min), plain(*mean), plain(*max), number(*count)],
        Kind::Timer => vec![number(*count), plain(*rate), time(*p50), time(*p95), time(*p99), time(*max)],
    });
    cells
}

fn sparkline(source: &Source, kind: Kind, window: &Window, width: usize) -> String {
    let (shown, base) = match kind {
        Kind::Counter => (Shown::Rate, Base::Zero),
        Kind::Gauge => (Shown::Value, Base::Smallest),
        Kind::Timer => (Shown::Value, Base::Zero),
    };
    spark::line(&bars(source, kind, window, shown), width, base)
}

/// A point with its percentiles, as CSV and JSON have it.
#[derive(Serialize)]
struct Step {
    time: u64,
    value: f64,
    count: f64,
    sum: f64,
    min: Option<f64>,
    max: Option<f64>,
    p50: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
}

impl Step {
    fn of(point: &Point) -> Self {
        let Point { time_s, value, count, sum, min, max, histogram } = point;
        let [p50, p95, p99] = [0.5, 0.95, 0.99].map(|q| quantile_within(histogram.as_ref()?, q, *min, *max));
        Self { time: *time_s, value: *value, count: *count, sum: *sum, min: *min, max: *max, p50, p95, p99 }
    }
}

/// One line for each step of each source.
pub(super) fn csv(found: &Found) -> String {
    let mut text = "time,source,value,count,sum,min,max,p50,p95,p99\n".to_owned();
    for source in &found.sources {
        for Step { time, value, count, sum, min, max, p50, p95, p99 } in source.points.iter().map(Step::of) {
            let optional: Vec<_> = [min, max, p50, p95, p99]
                .map(|value| value.map(|value| value.to_string()).unwrap_or_default())
                .into();
            let source = csv_cell(&source.name);
            text += &format!("{time},{source},{value},{count},{sum},{}\n", optional.join(","));
        }
    }
    text
}

/// A text as a field of CSV (RFC 4180).
pub(super) fn csv_cell(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[derive(Serialize)]
struct Json<'a> {
    name: &'a str,
    kind: Kind,
    unit: &'a str,
    levels: &'a [String],
    start: u64,
    end: u64,
    resolution: u64,
    is_cut: bool,
    sources: Vec<JsonSource<'a>>,
}

#[derive(Serialize)]
struct JsonSource<'a> {
    source: &'a str,
    #[serde(flatten)]
    summary: Summary,
    points: Vec<Step>,
}

/// One object.
pub(super) fn json(found: &Found, window: &Window) -> String {
    let sources = found.sources.iter().map(|source| JsonSource {
        source: &source.name,
        summary: Summary::of(source, found.kind, window),
        points: source.points.iter().map(Step::of).collect(),
    });
    let object = Json {
        name: &found.metric.name,
        kind: found.kind,
        unit: found.metric.unit(),
        levels: found.metric.levels(),
        start: window.start_s,
        end: window.end_s,
        resolution: window.resolution_s,
        is_cut: found.is_cut,
        sources: sources.collect(),
    };
    // Texts and finite numbers have no way to fail.
    serde_json::to_string(&object).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window = Window { start_s: 1_000, end_s: 1_030, resolution_s: 10 };

    fn found(kind: &str) -> Found {
        let metric = format!(r#"{{"name":"m","origin":{{"kind":"{kind}","levels":["info"],"unit":"B"}}}}"#);
        let metric: super::super::catalogue::Metric = serde_json::from_str(&metric).unwrap();
        let point = |time_s, value| Point {
            time_s,
            value,
            count: 1.0,
            sum: value,
            min: Some(value),
            max: None,
            histogram: None,
        };
        let kind = metric.kind().unwrap();
        let sources = vec![
            Source { name: "a".to_owned(), points: vec![point(1_000, 20.0), point(1_020, 40.5)] },
            Source { name: "b,c".to_owned(), points: vec![point(1_010, 1.0)] },
        ];
        Found { metric, kind, sources, is_cut: false }
    }

    #[test]
    fn the_table_has_a_heading_and_a_line_for_each_source() {
        let text = table(&found("counter"), &WINDOW, Paint::PLAIN, None);
        let expected = "m  counter  levels info  unit B  3 steps of 10 s\n\
                        SOURCE  TOTAL  MEAN/s  MAX/s  RATE\n\
                        a        60.5    2.02   4.05  ▅▁█\n\
                        b,c         1   0.033  0.100  ▁█▁\n";
        assert_eq!(text, expected);
        let gauge = table(&found("gauge"), &WINDOW, Paint::PLAIN, None);
        assert!(gauge.contains("a       40.5   20  30.2  40.5       2  ▁ █\n"), "{gauge}");
        let nothing = Found { sources: Vec::new(), ..found("gauge") };
        assert!(table(&nothing, &WINDOW, Paint::PLAIN, None).ends_with("\nno points in this time\n"));
        let cut = Found { is_cut: true, ..found("timer") };
        assert!(
            table(&cut, &WINDOW, Paint::PLAIN, None)
                .ends_with("there is more: give a shorter --last, a longer --resolution or a --source\n")
        );
    }

    #[test]
    fn csv_has_a_line_for_each_step_and_nothing_for_what_is_not_known() {
        let expected = "time,source,value,count,sum,min,max,p50,p95,p99\n\
                        1000,a,20,1,20,20,,,,\n1020,a,40.5,1,40.5,40.5,,,,\n1010,\"b,c\",1,1,1,1,,,,\n";
        assert_eq!(csv(&found("counter")), expected);
    }

    #[test]
    fn json_has_the_documented_shape() {
        let json: serde_json::Value = serde_json::from_str(&json(&found("counter"), &WINDOW)).unwrap();
        assert_eq!((json["name"].as_str(), json["kind"].as_str()), (Some("m"), Some("counter")));
        assert_eq!((json["start"].as_u64(), json["resolution"].as_u64()), (Some(1_000), Some(10)));
        let source = &json["sources"][0];
        assert_eq!((source["source"].as_str(), source["sum"].as_f64()), (Some("a"), Some(60.5)));
        assert_eq!(
            (source["points"][1]["value"].as_f64(), source["points"][1]["max"].is_null()),
            (Some(40.5), true)
        );
    }
}
