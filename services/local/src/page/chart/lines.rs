//! Lines over time.

use plotters::chart::ChartBuilder;
use plotters::element::{Circle, PathElement};
use plotters::prelude::Polygon;
use plotters::style::{Color, RGBColor};

use super::axis::ValueAxis;
use super::picture::{DrawError, Frame, PX};
use crate::page::figures::INTERVALS_APART_MAX;
use crate::page::quantity::Quantity;

/// What to draw.
#[derive(Clone, Debug)]
pub(in crate::page) struct Lines {
    pub(in crate::page) curves: Vec<Curve>,
    /// From the lowest to the highest value, behind the lines.
    pub(in crate::page) band: Option<Band>,
    /// Whether the first curve stands on a surface from 0 up.
    pub(in crate::page) is_filled: bool,
    pub(in crate::page) is_log: bool,
    pub(in crate::page) quantity: Quantity,
    /// Times of annotations, in the order of their numbers.
    pub(in crate::page) flags: Vec<i64>,
}

/// One line: points in order of time.
#[derive(Clone, Debug)]
pub(in crate::page) struct Curve {
    pub(in crate::page) colour: RGBColor,
    pub(in crate::page) is_thin: bool,
    pub(in crate::page) points: Vec<(f64, f64)>,
}

/// Time, lowest and highest value, in order of time.
#[derive(Clone, Debug)]
pub(in crate::page) struct Band {
    pub(in crate::page) colour: RGBColor,
    pub(in crate::page) points: Vec<(f64, f64, f64)>,
}

/// A line chart.
pub(in crate::page) fn lines(frame: &Frame<'_>, content: &Lines) -> Result<String, DrawError> {
    let axis = value_axis(frame, content);
    frame.picture("auto", |area| {
        let plot = frame.plot();
        let [left, top, right, bottom] = plot.margins(frame);
        let mut chart = ChartBuilder::on(area)
            .margin_top(top)
            .margin_right(right)
            .y_label_area_size(left)
            .x_label_area_size(bottom)
            .build_cartesian_2d(frame.time_axis(), axis)?;
        frame.mesh(&mut chart)?;
        let gap = (INTERVALS_APART_MAX * frame.step.max(frame.interval)) as f64;
        if let Some(band) = &content.band {
            for part in parts(&band.points, gap, |point| point.0) {
                let upper = part.iter().map(|(time, _, high)| (*time, *high));
                let lower = part.iter().rev().map(|(time, low, _)| (*time, *low));
                chart.plotting_area().draw(&Polygon::new(
                    upper.chain(lower).collect::<Vec<_>>(),
                    band.colour.mix(0.18).filled(),
                ))?;
            }
        }
        for (at, curve) in content.curves.iter().enumerate() {
            for part in parts(&curve.points, gap, |point| point.0) {
                let width = if curve.is_thin { PX as u32 } else { 7 * PX as u32 / 4 };
                if let [(time, value)] = part {
                    chart.plotting_area().draw(&Circle::new(
                        (*time, *value),
                        2 * PX,
                        curve.colour.filled(),
                    ))?;
                    continue;
                }
                if content.is_filled && at == 0 {
                    let ends =
                        [part.last(), part.first()].into_iter().flatten().map(|(time, _)| (*time, 0.0));
                    let surface = part.iter().copied().chain(ends).collect::<Vec<_>>();
                    chart.plotting_area().draw(&Polygon::new(surface, curve.colour.mix(0.14).filled()))?;
                }
                chart
                    .plotting_area()
                    .draw(&PathElement::new(part.to_vec(), curve.colour.stroke_width(width)))?;
            }
        }
        let length = (frame.end - frame.start).max(1) as f64;
        for (at, time) in content.flags.iter().enumerate() {
            let part = (time - frame.start) as f64 / length;
            if (0.0..=1.0).contains(&part) {
                plot.flag(frame, area, at + 1, part)?;
            }
        }
        if content.curves.iter().all(|curve| curve.points.is_empty()) {
            frame.nothing(area, "nothing measured in this range")?;
        }
        Ok(())
    })
}

fn value_axis(frame: &Frame<'_>, content: &Lines) -> ValueAxis {
    let values = content.curves.iter().flat_map(|curve| curve.points.iter().map(|(_, value)| *value));
    let bounds =
        content.band.iter().flat_map(|band| band.points.iter().flat_map(|(_, low, high)| [*low, *high]));
    let all = || values.clone().chain(bounds.clone()).filter(|value| value.is_finite());
    let ticks = frame.value_ticks();
    let high = all().fold(f64::NEG_INFINITY, f64::max);
    if content.is_log {
        let low = all().filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min);
        return ValueAxis::logarithmic(
            if low.is_finite() { low } else { 0.0 },
            high,
            &content.quantity,
            ticks,
        );
    }
    let low = all().fold(f64::INFINITY, f64::min);
    let (low, high) = if low > high { (0.0, 1.0) } else { (low, high) };
    // A surface stands on 0; other lines show their shape, unless 0 is near enough to be shown.
    let is_near_zero = low > 0.0 && low < high / 2.0;
    let low = if low > 0.0 && (content.is_filled || is_near_zero) { 0.0 } else { low };
    ValueAxis::linear(low, high, &content.quantity, ticks)
}

/// The runs of points between which no more than `gap` seconds lie.
fn parts<T>(points: &[T], gap: f64, time: impl Fn(&T) -> f64) -> impl Iterator<Item = &[T]> {
    points.chunk_by(move |one, next| time(next) - time(one) <= gap)
}
