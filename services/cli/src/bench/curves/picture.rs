//! A figure as SVG, whose colours follow the reader's: light, or dark where that is preferred.

use std::ops::Range;

use plotters::chart::ChartBuilder;
use plotters::drawing::IntoDrawingArea;
use plotters::element::{PathElement, Text};
use plotters::prelude::SVGBackend;
use plotters::series::LineSeries;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, IntoFont, RGBColor, TRANSPARENT, TextStyle};

use crate::bench::Error;
use crate::human;

/// In pixels.
const SIZE: (u32, u32) = (760, 420);
const FONT: &str = "sans-serif";
const FONT_PX: i32 = 14;
const TITLE_PX: i32 = 17;
/// Where the plot begins, and where the names of the curves stand and how far apart.
const PLOT_LEFT: i32 = 72;
const PLOT_TOP: u32 = 92;
const KEY_TOP: i32 = 70;
const KEY_WIDTH: i32 = 230;
/// Between the highest point and the top, as a part of what is below.
const HEADROOM: f64 = 0.2;
/// Each colour on white, and what stands for it on near black. Texts and lines keep to WCAG's contrast on both.
const PANEL: RGBColor = RGBColor(0xff, 0xff, 0xff);
const TEXT: RGBColor = RGBColor(0x3d, 0x46, 0x54);
const GRID: RGBColor = RGBColor(0xe1, 0xe5, 0xeb);
const LINES: [RGBColor; 3] =
    [RGBColor(0xc8, 0x52, 0x00), RGBColor(0x1f, 0x6f, 0xd6), RGBColor(0x0b, 0x85, 0x77)];
const DARK: [(RGBColor, &str); 6] = [
    (PANEL, "#161b24"),
    (TEXT, "#c3ccd9"),
    (GRID, "#2b3443"),
    (LINES[0], "#f28d4f"),
    (LINES[1], "#5aa2f7"),
    (LINES[2], "#2fc4ae"),
];

/// What to draw.
pub(super) struct Figure {
    pub(super) title: String,
    /// Under which conditions.
    pub(super) note: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    /// At most one for each of [`LINES`].
    pub(super) curves: Vec<Curve>,
}

/// One line, and what it is of.
pub(super) struct Curve {
    pub(super) name: &'static str,
    pub(super) points: Vec<(f64, f64)>,
}

/// An axis: its scale, and what is measured along it, with the unit.
pub(super) struct Axis {
    scale: Scale,
    name: &'static str,
}

enum Scale {
    /// Powers of a base, as far as there are points.
    Powers(f64),
    /// From 0 to this number.
    Even(usize),
    /// From 0 to above the highest point.
    FromZero,
}

impl Axis {
    /// A logarithmic axis with ticks at the powers of `base`.
    pub(super) const fn powers(base: f64, name: &'static str) -> Self {
        Self { scale: Scale::Powers(base), name }
    }

    /// From 0 to `last`, with a tick at each whole number.
    pub(super) const fn even(last: usize, name: &'static str) -> Self {
        Self { scale: Scale::Even(last), name }
    }

    /// From 0 to above the highest value.
    pub(super) const fn from_zero(name: &'static str) -> Self {
        Self { scale: Scale::FromZero, name }
    }

    /// Where a value lies.
    fn place(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Powers(base) => value.log(base),
            Scale::Even(_) | Scale::FromZero => value,
        }
    }

    /// What lies there, as written at a tick.
    fn label(&self, place: f64) -> String {
        match self.scale {
            Scale::Powers(base) => format!("{}", (base.powf(place) * 1e6).round() / 1e6),
            Scale::Even(_) | Scale::FromZero => format!("{}", (place * 1e6).round() / 1e6),
        }
    }

    /// From where to where it goes, and how many ticks it has at most.
    fn range(&self, values: impl Iterator<Item = f64> + Clone) -> (Range<f64>, usize) {
        let places = values.map(|value| self.place(value)).filter(|place| place.is_finite());
        let low = places.clone().fold(f64::INFINITY, f64::min);
        let high = places.fold(f64::NEG_INFINITY, f64::max);
        match self.scale {
            _ if low > high => (0.0..1.0, 2),
            Scale::Powers(_) => {
                let (low, high) = (low.floor(), high.ceil().max(low.floor() + 1.0));
                (low..high, (high - low) as usize + 1)
            }
            Scale::Even(last) => (0.0..last as f64, last + 1),
            Scale::FromZero => (0.0..high * (1.0 + HEADROOM), 6),
        }
    }
}

impl Figure {
    /// The picture.
    ///
    /// # Errors
    /// Nothing is known that leads to one: the picture is a text in memory.
    pub(super) fn svg(&self) -> Result<String, Error> {
        let mut svg = String::new();
        self.draw(&mut svg).map_err(|error| Error::Draw(error.to_string()))?;
        // A sheet of style goes before what attributes say.
        let hex = |RGBColor(r, g, b): RGBColor| format!("#{r:02X}{g:02X}{b:02X}");
        let rule = |(light, dark): (RGBColor, &str)| {
            let light = hex(light);
            format!("[fill=\"{light}\"]{{fill:{dark}}}[stroke=\"{light}\"]{{stroke:{dark}}}")
        };
        let rules: String = DARK.into_iter().map(rule).collect();
        let style = format!("<style>@media (prefers-color-scheme:dark){{{rules}}}</style>");
        let title = format!("<title>{}: {}</title>", self.title, self.note);
        let head = svg.find('>').map_or(0, |end| end + 1);
        svg.insert_str(head, &format!("\n{title}\n{style}"));
        Ok(svg)
    }

    fn draw(&self, svg: &mut String) -> Result<(), Box<dyn std::error::Error + '_>> {
        let text = |px: i32| TextStyle::from((FONT, px).into_font()).color(&TEXT);
        let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        root.fill(&PANEL)?;
        let middle = SIZE.0 as i32 / 2;
        let centred = |px| text(px).pos(Pos::new(HPos::Center, VPos::Top));
        root.draw(&Text::new(self.title.as_str(), (middle, 12), centred(TITLE_PX)))?;
        root.draw(&Text::new(self.note.as_str(), (middle, 36), centred(FONT_PX - 1)))?;

        let points = || self.curves.iter().flat_map(|curve| &curve.points);
        let (x, x_ticks) = self.x.range(points().map(|point| point.0));
        let (y, y_ticks) = self.y.range(points().map(|point| point.1));
        let mut chart = ChartBuilder::on(&root)
            .margin_top(PLOT_TOP)
            .margin_right(78)
            .margin_bottom(8)
            .margin_left(8)
            .x_label_area_size(52)
            .y_label_area_size(PLOT_LEFT - 8)
            .build_cartesian_2d(x, y)?;
        chart
            .configure_mesh()
            .x_desc(self.x.name)
            .y_desc(self.y.name)
            .x_labels(x_ticks)
            .y_labels(y_ticks)
            .x_label_formatter(&|place| self.x.label(*place))
            .y_label_formatter(&|place| self.y.label(*place))
            .axis_style(TEXT)
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .label_style(text(FONT_PX))
            .axis_desc_style(text(FONT_PX))
            .draw()?;
        for (at, (curve, colour)) in self.curves.iter().zip(LINES).enumerate() {
            let place = |(x, y): &(f64, f64)| (self.x.place(*x), self.y.place(*y));
            let placed: Vec<_> = curve.points.iter().map(place).collect();
            chart.draw_series(LineSeries::new(placed.clone(), colour.stroke_width(2)).point_size(3))?;
            // The last value in figures, right of its point.
            if let (Some(place), Some((_, value))) = (placed.last(), curve.points.last()) {
                let (left, top) = chart.backend_coord(place);
                root.draw(&Text::new(
                    format!("{} ns", human::number(*value)),
                    (left + 8, top),
                    beside(&colour),
                ))?;
            }
            // Its name above the plot, where no line can be.
            let (left, top) = (PLOT_LEFT + at as i32 * KEY_WIDTH, KEY_TOP);
            root.draw(&PathElement::new([(left, top), (left + 20, top)], colour.stroke_width(2)))?;
            root.draw(&Text::new(curve.name, (left + 26, top), beside(&colour)))?;
        }
        root.present()?;
        Ok(())
    }
}

/// A text of a curve's colour, right of where it is put.
fn beside(colour: &RGBColor) -> TextStyle<'_> {
    let style = TextStyle::from((FONT, FONT_PX).into_font()).color(colour);
    style.pos(Pos::new(HPos::Left, VPos::Center))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(curves: Vec<Curve>) -> Figure {
        let (x, y) = (Axis::powers(2.0, "threads"), Axis::powers(10.0, "nanoseconds a call"));
        Figure { title: "A title".to_owned(), note: "a note".to_owned(), x, y, curves }
    }

    #[test]
    fn axes_have_names_and_ticks_at_powers_and_each_colour_has_one_for_the_dark() {
        let curve = Curve { name: "counter", points: vec![(1.0, 0.5), (64.0, 30.0)] };
        let svg = figure(vec![curve]).svg().unwrap();
        for text in ["threads", "nanoseconds a call", "A title", "counter", "30 ns", "0.1", "100", "64", "32"]
        {
            assert!(svg.contains(&format!("\n{text}\n")), "{text} in {svg}");
        }
        for at in svg.match_indices("=\"#").map(|(at, _)| at) {
            let colour = &svg[at + 2..at + 9];
            let known = DARK.iter().any(|(RGBColor(r, g, b), _)| colour == format!("#{r:02X}{g:02X}{b:02X}"));
            assert!(known, "{colour}");
        }
        assert!(svg.len() < 60_000 && svg.contains("prefers-color-scheme:dark"));
    }

    #[test]
    fn a_figure_without_points_is_a_picture_too() {
        figure(Vec::new()).svg().unwrap();
    }
}
