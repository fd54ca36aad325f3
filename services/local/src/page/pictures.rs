//! `GET /page/chart.svg`: a metric as a picture.

use axum::extract::State;
use axum::http::{HeaderValue, Uri, header};
use axum::response::IntoResponse;
use plotters::style::RGBColor;

use super::chart::{self, Band, Bars, Curve, Frame, Heat, Lines, Reading, hex};
use super::figures::{Kind, Statistic, Track};
use super::histogram::{self, Distribution};
use super::read::{self, Read};
use super::request::{Answer, PageError, Params};
use super::{marks, quantity::Quantity};
use crate::server::{App, Shared};

/// Limits and defaults of the size, in pixels.
const WIDTH_MIN: i64 = 100;
const WIDTH_DEFAULT: i64 = 900;
const HEIGHT_MIN: i64 = 60;
const HEIGHT_DEFAULT: i64 = 320;
const SIZE_MAX: i64 = 4_000;
/// Width of a step of a line: a pixel of a small chart, two of a large one.
const LINE_PX: [i64; 2] = [1, 2];
const LARGE_PX: i64 = 520;
/// Width of a cell of the heat map, in pixels.
const CELL_PX: i64 = 5;
/// Width of a bar of the histogram, in pixels.
const BAR_PX: usize = 6;

const SVG: HeaderValue = HeaderValue::from_static("image/svg+xml;charset=utf-8");
/// A chart of the newest seconds is old at once.
pub(super) const NOT_STORED: HeaderValue = HeaderValue::from_static("no-store");

/// Which picture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum View {
    Line,
    Heat,
    Histogram,
}

pub(super) async fn show(State(app): State<Shared>, uri: Uri) -> Answer {
    let params = Params::of(&uri);
    let view =
        params.word("view", &[("line", View::Line), ("heat", View::Heat), ("histogram", View::Histogram)])?;
    let look = Look::of(&params)?;
    let picture = match view {
        View::Line => line(&app, &params, &look).await?,
        View::Heat => heat(&app, &params, &look).await?,
        View::Histogram => distribution(&app, &params, &look).await?,
    };
    Ok(([(header::CONTENT_TYPE, SVG), (header::CACHE_CONTROL, NOT_STORED)], picture).into_response())
}

/// How the picture is to look.
struct Look {
    width: i64,
    height: i64,
    theme: &'static chart::Theme,
    zone: super::zone::Zone,
    is_captioned: bool,
}

impl Look {
    fn of(params: &Params) -> Result<Self, PageError> {
        Ok(Self {
            width: params.number("width", WIDTH_MIN, SIZE_MAX)?.unwrap_or(WIDTH_DEFAULT),
            height: params.number("height", HEIGHT_MIN, SIZE_MAX)?.unwrap_or(HEIGHT_DEFAULT),
            theme: params.theme()?,
            zone: params.zone()?,
            is_captioned: params.word("caption", &[("yes", true), ("no", false)])?,
        })
    }

    fn frame<'a>(&'a self, read: &'a Read, title: String) -> Frame<'a> {
        Frame {
            // Both are within limits that a u32 holds.
            width: self.width as u32,
            height: self.height as u32,
            theme: self.theme,
            zone: &self.zone,
            start: read.steps.range.start,
            end: read.steps.range.end,
            step: read.steps.step,
            interval: read.interval,
            newest: super::figures::all_steps(&read.lines).map(|step| step.time).max(),
            title,
            note: String::new(),
            is_captioned: self.is_captioned,
            readings: Vec::new(),
        }
    }
}

async fn line(app: &App, params: &Params, look: &Look) -> Result<String, PageError> {
    let wanted = params.word(
        "of",
        &[
            ("", None),
            ("rate", Some(Statistic::Rate)),
            ("mean", Some(Statistic::Mean)),
            ("p50", Some(Statistic::P50)),
            ("p95", Some(Statistic::P95)),
            ("p99", Some(Statistic::P99)),
            ("max", Some(Statistic::Max)),
        ],
    )?;
    let scale = params.word("scale", &[("", None), ("log", Some(true)), ("linear", Some(false))])?;
    let has_marks = params.word("marks", &[("no", false), ("yes", true)])?;
    let read = read::read(app, params, look.width / LINE_PX[usize::from(look.width >= LARGE_PX)]).await?;
    let quantity = if read.kind == Kind::Counter || read.kind == Kind::Absolute {
        read.quantity().rate()
    } else {
        read.quantity()
    };
    let tracks = read.tracks();
    let statistic = wanted.unwrap_or(match read.kind {
        Kind::Counter | Kind::Absolute => Statistic::Rate,
        Kind::Gauge => Statistic::Mean,
        Kind::Timer => Statistic::P99,
    });
    let mut frame = look.frame(&read, title(&read));
    let middle = read.steps.step as f64 / 2.0;
    let drawn = if read.by_source {
        by_source(&mut frame, &tracks, statistic, &quantity, middle)
    } else {
        together(&mut frame, read.kind, &tracks, &quantity, middle)
    };
    let (curves, band) = drawn;
    let flags = if has_marks { marks::times(app, frame.start, frame.end).await? } else { Vec::new() };
    let content = Lines {
        is_filled: !read.by_source && matches!(read.kind, Kind::Counter | Kind::Absolute),
        is_log: scale.unwrap_or(read.kind == Kind::Timer),
        curves,
        band,
        quantity,
        flags,
    };
    Ok(chart::lines(&frame, &content)?)
}

/// The lines of all sources together: one, or the quantiles of a timer.
fn together(
    frame: &mut Frame<'_>,
    kind: Kind,
    tracks: &[Track],
    quantity: &Quantity,
    middle: f64,
) -> (Vec<Curve>, Option<Band>) {
    let steps = tracks.first().map_or(&[][..], |track| &track.steps);
    let points = |statistic| -> Vec<(f64, f64)> {
        steps
            .iter()
            .filter_map(|step| Some((step.time as f64 + middle, step.statistic(statistic)?)))
            .collect()
    };
    let colour = frame.theme.lines[0];
    match kind {
        Kind::Timer => {
            let quantiles = [
                ("p50", Statistic::P50),
                ("p95", Statistic::P95),
                ("p99", Statistic::P99),
                ("max", Statistic::Max),
            ];
            let mut curves = Vec::new();
            for ((name, statistic), colour) in quantiles.into_iter().zip(frame.theme.quantiles) {
                let points = points(statistic);
                frame.readings.extend(reading(name, colour, &points, quantity));
                curves.push(Curve { colour, is_thin: statistic == Statistic::Max, points });
            }
            (curves, None)
        }
        Kind::Gauge => {
            let band =
                steps.iter().filter_map(|step| Some((step.time as f64 + middle, step.min?, step.max?)));
            let band: Vec<_> = band.collect();
            let points = points(Statistic::Mean);
            if let (Some(last), Some(mut reading)) =
                (steps.last(), reading("value", colour, &points, quantity))
            {
                // What a step hides is told by its bounds.
                reading.latest = quantity.text(last.last);
                if !band.is_empty() {
                    reading.min =
                        quantity.text(band.iter().map(|point| point.1).fold(f64::INFINITY, f64::min));
                    reading.max =
                        quantity.text(band.iter().map(|point| point.2).fold(f64::NEG_INFINITY, f64::max));
                }
                frame.readings.push(reading);
            }
            (vec![Curve { colour, is_thin: false, points }], Some(Band { colour, points: band }))
        }
        Kind::Counter | Kind::Absolute => {
            let points = points(Statistic::Rate);
            frame.readings.extend(reading("rate", colour, &points, quantity));
            (vec![Curve { colour, is_thin: false, points }], None)
        }
    }
}

/// A line of each source; if there are more than colours, of those with the highest values.
fn by_source(
    frame: &mut Frame<'_>,
    tracks: &[Track],
    statistic: Statistic,
    quantity: &Quantity,
    middle: f64,
) -> (Vec<Curve>, Option<Band>) {
    let lines = tracks.iter().map(|track| {
        let points = track
            .steps
            .iter()
            .filter_map(|step| Some((step.time as f64 + middle, step.statistic(statistic)?)));
        (track.source.as_deref().unwrap_or_default(), points.collect::<Vec<_>>())
    });
    let mut lines: Vec<_> = lines.filter(|(_, points)| !points.is_empty()).collect();
    let (total, most) = (lines.len(), frame.theme.lines.len());
    let highest = |points: &[(f64, f64)]| points.iter().map(|point| point.1.abs()).fold(0.0, f64::max);
    if total > most {
        lines.sort_by(|one, other| highest(&other.1).total_cmp(&highest(&one.1)));
        lines.truncate(most);
        lines.sort_by_key(|(source, _)| *source);
        frame.note = format!(
            "{most} of {total} sources are drawn, those with the highest values; a source filter chooses others"
        );
    }
    let mut curves = Vec::new();
    for ((source, points), colour) in lines.into_iter().zip(frame.theme.lines) {
        frame.readings.extend(reading(source, colour, &points, quantity));
        curves.push(Curve { colour, is_thin: false, points });
    }
    (curves, None)
}

async fn heat(app: &App, params: &Params, look: &Look) -> Result<String, PageError> {
    let read = read::read(app, params, (look.width - 80).max(CELL_PX) / CELL_PX).await?;
    let mut columns = std::collections::BTreeMap::new();
    for step in super::figures::all_steps(&read.lines) {
        let Some(histogram) = &step.summary.histogram else { continue };
        columns.entry(step.time).or_insert_with(Distribution::default).add(histogram);
    }
    let columns =
        columns.into_iter().map(|(time, found)| chart::Column { time, buckets: found.buckets() }).collect();
    let title = format!("{} (distribution)", read.metric.name);
    let frame = look.frame(&read, title);
    Ok(chart::heat(&frame, &Heat { columns, quantity: read.quantity() })?)
}

async fn distribution(app: &App, params: &Params, look: &Look) -> Result<String, PageError> {
    let found = histogram::read(app, params).await?;
    let read = &found.read;
    let title = format!("{} (distribution of {} s)", read.metric.name, read.steps.range.seconds());
    let mut frame = look.frame(read, title);
    let quantity = read.quantity();
    let mut quantiles = Vec::new();
    for ((name, value), colour) in found.quantiles().into_iter().zip(frame.theme.quantiles) {
        let Some(value) = value else { continue };
        let text = quantity.text(value);
        frame.readings.push(Reading {
            name: name.to_owned(),
            colour: hex(colour),
            latest: text.clone(),
            min: text.clone(),
            max: text,
        });
        quantiles.push((name, value));
    }
    let room = (look.width as usize).saturating_sub(80) / BAR_PX;
    let buckets = found.distribution.coarse(room.max(8)).buckets();
    Ok(chart::bars(&frame, &Bars { buckets, quantity, quantiles })?)
}

fn title(read: &Read) -> String {
    let what = match (read.kind, read.by_source) {
        (Kind::Counter | Kind::Absolute, _) => "per second",
        (Kind::Gauge, _) => "mean",
        (Kind::Timer, false) => "p50, p95, p99, max",
        (Kind::Timer, true) => "by source",
    };
    format!("{} ({what})", read.metric.name)
}

fn reading(name: &str, colour: RGBColor, points: &[(f64, f64)], quantity: &Quantity) -> Option<Reading> {
    let (_, latest) = points.last()?;
    let values = || points.iter().map(|(_, value)| *value);
    Some(Reading {
        name: name.to_owned(),
        colour: hex(colour),
        latest: quantity.text(*latest),
        min: quantity.text(values().fold(f64::INFINITY, f64::min)),
        max: quantity.text(values().fold(f64::NEG_INFINITY, f64::max)),
    })
}
