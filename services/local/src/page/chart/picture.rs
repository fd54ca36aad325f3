//! What all charts have: the root of the picture, margins, texts, the time axis.

use std::io;

use plotters::chart::ChartContext;
use plotters::coord::Shift;
use plotters::coord::cartesian::Cartesian2d;
use plotters::coord::ranged1d::{Ranged, ValueFormatter};
use plotters::drawing::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea};
use plotters::element::{PathElement, Rectangle, Text};
use plotters::prelude::SVGBackend;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, IntoFont, RGBColor, TRANSPARENT, TextStyle};
use serde::Serialize;

use super::axis::TimeAxis;
use super::theme::Theme;
use crate::page::zone::Zone;

/// Drawing units in a pixel.
pub(super) const PX: i32 = 4;
/// Size of the texts, in pixels.
const FONT_PX: i32 = 11;
/// The average width of a letter of a text, in pixels; only the browser knows the real one.
const LETTER_PX: i32 = 6;
/// Room left of the plot for the values' labels: wider where there is room for it.
const LEFT_PX: [i32; 2] = [58, 64];
/// The width from which on a chart is a large one, in pixels.
const LARGE_PX: u32 = 520;
const RIGHT_PX: i32 = 16;
const TOP_PX: i32 = 8;
const CAPTION_PX: i32 = 50;
const BOTTOM_PX: i32 = 20;
/// The least distance between two ticks, in pixels.
const TIME_TICK_PX: u32 = 84;
const VALUE_TICK_PX: u32 = 34;

/// A part of the picture to draw on.
pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// What drawing answers.
pub(super) type Drawn<T = ()> = Result<T, DrawingAreaErrorKind<io::Error>>;

/// A chart cannot be drawn. Nothing is known that leads here: the picture is a text in memory.
#[derive(Debug, thiserror::Error)]
#[error("the chart cannot be drawn: {0}")]
pub(in crate::page) struct DrawError(String);

impl From<DrawingAreaErrorKind<io::Error>> for DrawError {
    fn from(error: DrawingAreaErrorKind<io::Error>) -> Self {
        Self(error.to_string())
    }
}

/// What is asked of the picture, whatever it shows.
#[derive(Clone, Debug)]
pub(in crate::page) struct Frame<'a> {
    /// Size in pixels.
    pub(in crate::page) width: u32,
    pub(in crate::page) height: u32,
    pub(in crate::page) theme: &'static Theme,
    pub(in crate::page) zone: &'a Zone,
    /// The first second, and the one after the last.
    pub(in crate::page) start: i64,
    pub(in crate::page) end: i64,
    /// Seconds of a step, and how often the metric is reported if that is less often.
    pub(in crate::page) step: i64,
    pub(in crate::page) interval: i64,
    /// The last step in which something was measured.
    pub(in crate::page) newest: Option<i64>,
    /// What it shows, such as `loop.work (p50, p95, p99, max)`.
    pub(in crate::page) title: String,
    /// What else is to be known of it, such as which sources are left out.
    pub(in crate::page) note: String,
    /// Whether title, legend and background are drawn: a picture for itself needs them.
    pub(in crate::page) is_captioned: bool,
    /// What is read off it, in words and colours.
    pub(in crate::page) readings: Vec<Reading>,
}

/// One line of a chart in words.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(in crate::page) struct Reading {
    pub(in crate::page) name: String,
    /// Of its line, such as `#1f6fd6`; empty if nothing is drawn of it.
    pub(in crate::page) colour: String,
    pub(in crate::page) latest: String,
    pub(in crate::page) min: String,
    pub(in crate::page) max: String,
}

/// Where the plot lies in the picture, in pixels from its upper left corner.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Plot {
    left: i32,
    top: i32,
    width: i32,
    height: i32,
}

#[derive(Serialize)]
struct Metadata<'a> {
    plot: Plot,
    start: i64,
    end: i64,
    step: i64,
    interval: i64,
    newest: Option<i64>,
    note: &'a str,
    readings: &'a [Reading],
}

impl Frame<'_> {
    /// The plot inside of the margins.
    pub(super) fn plot(&self) -> Plot {
        let left = LEFT_PX[usize::from(self.width >= LARGE_PX)];
        let top = if self.is_captioned { CAPTION_PX } else { TOP_PX };
        Plot {
            left,
            top,
            width: (self.width as i32 - left - RIGHT_PX).max(1),
            height: (self.height as i32 - top - BOTTOM_PX).max(1),
        }
    }

    /// How many ticks of values have room.
    pub(super) fn value_ticks(&self) -> usize {
        (self.plot().height as u32 / VALUE_TICK_PX).max(2) as usize
    }

    /// The axis of the range.
    pub(super) fn time_axis(&self) -> TimeAxis {
        let ticks = (self.plot().width as u32 / TIME_TICK_PX).max(2) as usize;
        TimeAxis::new(self.start, self.end, self.zone, ticks)
    }

    /// The picture around what `draw` puts inside of the margins. Cells that touch each other want
    /// `crispEdges` as the rendering, lines `auto`.
    pub(super) fn picture(
        &self,
        rendering: &str,
        draw: impl FnOnce(&Area<'_>) -> Drawn,
    ) -> Result<String, DrawError> {
        let mut body = String::new();
        let size = (self.width * PX as u32, self.height * PX as u32);
        {
            let root = SVGBackend::with_string(&mut body, size).into_drawing_area();
            if self.is_captioned {
                root.fill(&self.theme.panel)?;
                self.caption(&root)?;
            }
            draw(&root)?;
            root.present()?;
        }
        // plotters opens the root itself; ours says more.
        let inner = body.split_once('>').map_or("", |(_, inner)| inner);
        let metadata = Metadata {
            plot: self.plot(),
            start: self.start,
            end: self.end,
            step: self.step,
            interval: self.interval,
            newest: self.newest,
            note: &self.note,
            readings: &self.readings,
        };
        // Nothing in there can fail to serialise.
        let metadata = serde_json::to_string(&metadata).unwrap_or_default();
        let (Self { width, height, .. }, (wide, high)) = (self, size);
        Ok(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {wide} {high}\" \
             role=\"img\" aria-label=\"{}\" stroke-linejoin=\"round\" stroke-linecap=\"round\" shape-rendering=\"{rendering}\">\n\
             <desc>{}</desc>\n<metadata>{}</metadata>{inner}",
            escaped(&self.title),
            escaped(&self.summary()),
            escaped(&metadata),
        ))
    }

    /// The chart in one sentence for each reading.
    pub(super) fn summary(&self) -> String {
        if self.readings.is_empty() {
            return "Nothing was measured in this range.".to_owned();
        }
        let sentences = self.readings.iter().map(|Reading { name, latest, min, max, .. }| {
            format!("{name}: latest {latest}, lowest {min}, highest {max}.")
        });
        sentences.collect::<Vec<_>>().join(" ")
    }

    /// A text at a place in pixels, from there to the right, to the left or around it.
    pub(super) fn text(
        &self,
        area: &Area<'_>,
        text: &str,
        at: (i32, i32),
        align: HPos,
        colour: RGBColor,
    ) -> Drawn {
        let style = self.font(colour).pos(Pos::new(align, VPos::Center));
        area.draw(&Text::new(text.to_owned(), (at.0 * PX, at.1 * PX), style))
    }

    /// Lines across at the values' ticks, and what is written at both axes.
    pub(super) fn mesh<'a, X, Y>(
        &self,
        chart: &mut ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, Y>>,
    ) -> Drawn
    where
        X: Ranged<ValueType = f64> + ValueFormatter<f64>,
        Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        let line = self.theme.grid.stroke_width(PX as u32);
        chart
            .configure_mesh()
            .disable_x_mesh()
            .bold_line_style(line)
            .light_line_style(TRANSPARENT)
            .axis_style(line)
            .set_all_tick_mark_size(3 * PX)
            .label_style(self.font(self.theme.text))
            .draw()
    }

    /// The style of all texts.
    pub(super) fn font(&self, colour: RGBColor) -> TextStyle<'static> {
        // plotters draws a font of size 1.24 with an em of 1.
        ("system-ui, sans-serif", f64::from(FONT_PX * PX) * 1.24).into_font().color(&colour)
    }

    /// Says in the middle of the plot that there is nothing.
    pub(super) fn nothing(&self, area: &Area<'_>, text: &str) -> Drawn {
        let Plot { left, top, width, height } = self.plot();
        self.text(area, text, (left + width / 2, top + height / 2), HPos::Center, self.theme.text)
    }

    /// Title, legend and time zone at the top.
    fn caption(&self, area: &Area<'_>) -> Drawn {
        self.text(area, &self.title, (12, 13), HPos::Left, self.theme.text)?;
        let range = format!(
            "{} {} – {} {} {}",
            self.zone.wall(self.start).date(),
            self.zone.wall(self.start).time(false),
            self.zone.wall(self.end).date(),
            self.zone.wall(self.end).time(false),
            self.zone.name(self.end),
        );
        let taken = width_px(&self.title) + width_px(&range) + 36;
        if taken < self.width as i32 {
            self.text(area, &range, (self.width as i32 - RIGHT_PX, 13), HPos::Right, self.theme.text)?;
        }
        let mut left = 12;
        for Reading { name, colour, latest, .. } in &self.readings {
            let text = format!("{name} {latest}");
            let end = left + 16 + width_px(&text);
            if end > self.width as i32 {
                break;
            }
            if let Some(colour) = parse_colour(colour) {
                let line = vec![(left * PX, 30 * PX), ((left + 11) * PX, 30 * PX)];
                area.draw(&PathElement::new(line, colour.stroke_width(2 * PX as u32)))?;
            }
            self.text(area, &text, (left + 16, 30), HPos::Left, self.theme.text)?;
            left = end + 14;
        }
        Ok(())
    }
}

impl Plot {
    pub(super) fn left(self) -> i32 {
        self.left
    }

    pub(super) fn top(self) -> i32 {
        self.top
    }

    pub(super) fn width(self) -> usize {
        self.width as usize
    }

    pub(super) fn height(self) -> usize {
        self.height as usize
    }

    /// The plot's margins as plotters takes them: left, top, right and bottom.
    pub(super) fn margins(self, frame: &Frame<'_>) -> [i32; 4] {
        let right = frame.width as i32 - self.left - self.width;
        let bottom = frame.height as i32 - self.top - self.height;
        [self.left, self.top, right, bottom].map(|side| side * PX)
    }

    /// Flags at the top of the plot, numbered from 1, with a line down from each: `at` is a part of the
    /// plot's width.
    pub(super) fn flag(self, frame: &Frame<'_>, area: &Area<'_>, number: usize, at: f64) -> Drawn {
        let Self { left, top, width, height } = self;
        let x = left + (f64::from(width) * at).round() as i32;
        let colour = frame.theme.mark;
        let dashes = (0..height / 6).map(|dash| top + 6 * dash);
        for dash in dashes {
            let line = vec![(x * PX, dash * PX), (x * PX, (dash + 3) * PX)];
            area.draw(&PathElement::new(line, colour.stroke_width(PX as u32)))?;
        }
        let text = number.to_string();
        let half = width_px(&text) / 2 + 3;
        area.draw(&Rectangle::new(
            [((x - half) * PX, (top - 7) * PX), ((x + half) * PX, (top + 7) * PX)],
            colour.filled(),
        ))?;
        frame.text(area, &text, (x, top), HPos::Center, frame.theme.panel)
    }
}

/// How wide a text is about, in pixels.
pub(super) fn width_px(text: &str) -> i32 {
    text.chars().count() as i32 * LETTER_PX
}

/// A colour as it is written in CSS.
pub(in crate::page) fn hex(RGBColor(r, g, b): RGBColor) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

fn parse_colour(text: &str) -> Option<RGBColor> {
    let hex = u32::from_str_radix(text.strip_prefix('#')?, 16).ok()?;
    Some(RGBColor((hex >> 16) as u8, (hex >> 8) as u8, hex as u8))
}

/// A text as it stands in XML. Characters that XML does not know at all are left out.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars().filter(|char| !char.is_control()) {
        match char {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            other => escaped.push(other),
        }
    }
    escaped
}
