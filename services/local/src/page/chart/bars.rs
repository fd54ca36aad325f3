//! The distribution of one moment.

use plotters::chart::ChartBuilder;
use plotters::element::{PathElement, Rectangle};
use plotters::style::Color;
use plotters::style::text_anchor::HPos;

use super::axis::ValueAxis;
use super::heat::Bucket;
use super::picture::{DrawError, Frame, PX, width_px};
use crate::page::quantity::Quantity;

/// What to draw.
#[derive(Clone, Debug)]
pub(in crate::page) struct Bars {
    /// From the shortest.
    pub(in crate::page) buckets: Vec<Bucket>,
    /// Of the durations.
    pub(in crate::page) quantity: Quantity,
    /// Lines across, such as `p50`, with their durations and the number of their colour.
    pub(in crate::page) quantiles: Vec<(&'static str, f64)>,
}

/// A histogram: duration to the right on a logarithmic scale, records upwards.
pub(in crate::page) fn bars(frame: &Frame<'_>, content: &Bars) -> Result<String, DrawError> {
    let timed = || content.buckets.iter().filter(|bucket| bucket.high > 0.0);
    let low = timed().map(|bucket| bucket.low).fold(f64::INFINITY, f64::min);
    let high = timed().map(|bucket| bucket.high).fold(0.0, f64::max);
    let most = content.buckets.iter().map(|bucket| bucket.count).fold(0.0, f64::max);
    let plot = frame.plot();
    let low = if low.is_finite() { low } else { 0.0 };
    let across = ValueAxis::logarithmic(low, high, &content.quantity, plot.width() / 80);
    let up = ValueAxis::linear(0.0, most, &Quantity::default(), frame.value_ticks());
    let (bottom_value, span) = (across.range().start, (across.range().end / across.range().start).ln());
    frame.picture("crispEdges", |area| {
        let [left, top, right, bottom] = plot.margins(frame);
        let mut chart = ChartBuilder::on(area)
            .margin_top(top)
            .margin_right(right)
            .y_label_area_size(left)
            .x_label_area_size(bottom)
            .build_cartesian_2d(across, up)?;
        frame.mesh(&mut chart)?;
        for bucket in &content.buckets {
            let corners = [(bucket.low, 0.0), (bucket.high.max(bottom_value * 1.02), bucket.count)];
            chart.plotting_area().draw(&Rectangle::new(corners, frame.theme.lines[0].mix(0.75).filled()))?;
        }
        // A label that would cover the one before stands a line lower.
        let mut label_end = [i32::MIN; 4];
        for ((name, duration), colour) in content.quantiles.iter().zip(frame.theme.quantiles) {
            chart.plotting_area().draw(&PathElement::new(
                vec![(*duration, 0.0), (*duration, most)],
                colour.stroke_width(3 * PX as u32 / 2),
            ))?;
            let part = ((duration / bottom_value).ln() / span).clamp(0.0, 1.0);
            let (x, text_px) = (plot.left() + (plot.width() as f64 * part).round() as i32, width_px(name));
            let is_at_end = x + text_px + 8 > frame.width as i32;
            let (start, align) = if is_at_end { (x - 4 - text_px, HPos::Right) } else { (x + 4, HPos::Left) };
            let row = label_end.iter().position(|end| *end < start).unwrap_or(0);
            label_end[row] = start + text_px;
            let at = (if is_at_end { x - 4 } else { x + 4 }, plot.top() + 8 + 14 * row as i32);
            frame.text(area, name, at, align, colour)?;
        }
        if content.buckets.is_empty() {
            frame.nothing(area, "no distribution at this moment")?;
        }
        Ok(())
    })
}
