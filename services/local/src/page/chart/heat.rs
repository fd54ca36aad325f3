//! How often which duration was measured when, as colours.

use plotters::chart::ChartBuilder;
use plotters::element::Rectangle;
use plotters::style::text_anchor::HPos;
use plotters::style::{Color, RGBColor};

use super::axis::ValueAxis;
use super::picture::{DrawError, Frame, PX, width_px};
use crate::page::quantity::Quantity;

/// Height of a row of cells, in pixels.
const ROW_PX: usize = 5;
/// The most rows, however high the chart is.
const ROWS_MAX: usize = 80;

/// What to draw.
#[derive(Clone, Debug)]
pub(in crate::page) struct Heat {
    /// The steps in order of time.
    pub(in crate::page) columns: Vec<Column>,
    pub(in crate::page) quantity: Quantity,
}

/// What was measured in one step.
#[derive(Clone, Debug)]
pub(in crate::page) struct Column {
    /// Where the step begins.
    pub(in crate::page) time: i64,
    /// What was measured in it, from the shortest.
    pub(in crate::page) buckets: Vec<Bucket>,
}

/// So many records between two durations; both are 0 for durations of 0.
#[derive(Clone, Copy, PartialEq, Debug, serde::Serialize)]
pub(in crate::page) struct Bucket {
    pub(in crate::page) low: f64,
    pub(in crate::page) high: f64,
    pub(in crate::page) count: f64,
}

/// A heat map: time to the right, duration upwards, the more records the further from the background.
pub(in crate::page) fn heat(frame: &Frame<'_>, content: &Heat) -> Result<String, DrawError> {
    let buckets =
        || content.columns.iter().flat_map(|column| &column.buckets).filter(|bucket| bucket.high > 0.0);
    let low = buckets().map(|bucket| bucket.low).fold(f64::INFINITY, f64::min);
    let high = buckets().map(|bucket| bucket.high).fold(0.0, f64::max);
    let low = if low.is_finite() { low } else { 0.0 };
    let axis = ValueAxis::logarithmic(low, high, &content.quantity, frame.value_ticks());
    let rows = (frame.plot().height() / ROW_PX).clamp(1, ROWS_MAX);
    let range = axis.range();
    let edge = |row: usize| range.start * (range.end / range.start).powf(row as f64 / rows as f64);
    let cells: Vec<_> = content
        .columns
        .iter()
        .map(|column| (column.time, spread(&column.buckets, range.start, range.end, rows)))
        .collect();
    let most = cells.iter().flat_map(|(_, counts)| counts).copied().fold(0.0, f64::max);
    frame.picture("crispEdges", |area| {
        let [left, top, right, bottom] = frame.plot().margins(frame);
        let mut chart = ChartBuilder::on(area)
            .margin_top(top)
            .margin_right(right)
            .y_label_area_size(left)
            .x_label_area_size(bottom)
            .build_cartesian_2d(frame.time_axis(), axis)?;
        frame.mesh(&mut chart)?;
        for (time, counts) in &cells {
            let shades = counts.iter().map(|count| shade(*count, most)).enumerate().collect::<Vec<_>>();
            // Neighbours of one colour are one rectangle.
            for run in shades.chunk_by(|one, next| one.1 == next.1) {
                let (Some((first, Some(shade))), Some((last, _))) = (run.first(), run.last()) else {
                    continue;
                };
                let corners = [(*time as f64, edge(*first)), ((*time + frame.step) as f64, edge(last + 1))];
                let colour: RGBColor = frame.theme.heat[*shade];
                chart.plotting_area().draw(&Rectangle::new(corners, colour.filled()))?;
            }
        }
        if cells.is_empty() {
            return frame.nothing(area, "no distribution in this range");
        }
        if frame.is_captioned {
            let text = format!("1 to {} records", Quantity::default().text(most.round()));
            let end = frame.width as i32 - 10;
            frame.text(area, &text, (end, 30), HPos::Right, frame.theme.text)?;
            let start = end - width_px(&text) - 8 - 10 * frame.theme.heat.len() as i32;
            for (at, colour) in (0..).zip(frame.theme.heat) {
                let left = (start + 10 * at) * PX;
                area.draw(&Rectangle::new([(left, 25 * PX), (left + 10 * PX, 35 * PX)], colour.filled()))?;
            }
        }
        Ok(())
    })
}

/// The counts of rows of equal height on a logarithmic scale. A bucket that lies across several rows is
/// spread over them.
fn spread(buckets: &[Bucket], bottom: f64, top: f64, rows: usize) -> Vec<f64> {
    let mut counts = vec![0.0; rows];
    let row = |value: f64| (value / bottom).ln() / (top / bottom).ln() * rows as f64;
    for bucket in buckets {
        let (from, to) = if bucket.low > 0.0 { (row(bucket.low), row(bucket.high)) } else { (0.0, 1.0) };
        let (from, to) = (from.clamp(0.0, rows as f64), to.clamp(0.0, rows as f64));
        let height = (to - from).max(f64::MIN_POSITIVE);
        for (at, count) in
            counts.iter_mut().enumerate().skip(from as usize).take_while(|(at, _)| (*at as f64) < to)
        {
            let inside = to.min((at + 1) as f64) - from.max(at as f64);
            *count += bucket.count * inside / height;
        }
    }
    counts
}

/// Which of the nine shades; none if there is nothing. By the root, so that the many do not all look
/// alike; and the first shade is for all that is left, so that a single slow record shows beside a
/// million fast ones.
fn shade(count: f64, most: f64) -> Option<usize> {
    if count <= 0.0 {
        return None;
    }
    let part = (count / most.max(1.0)).sqrt();
    Some((part * 9.0).ceil().clamp(1.0, 9.0) as usize - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_spread_over_rows_and_no_record_is_lost() {
        let buckets = [
            Bucket { low: 0.0, high: 0.0, count: 5.0 },
            Bucket { low: 1.0, high: 2.0, count: 8.0 },
            Bucket { low: 7.9, high: 16.0, count: 3.0 },
        ];
        let counts = spread(&buckets, 1.0, 16.0, 8);
        assert!((counts.iter().sum::<f64>() - 16.0).abs() < 1e-9, "{counts:?}");
        assert_eq!(counts[..4], [9.0, 4.0, 0.0, 0.0]);
    }

    #[test]
    fn one_record_has_a_shade_and_the_most_have_the_last() {
        assert_eq!(
            (shade(0.0, 1e6), shade(0.1, 1e6), shade(1.0, 1e6), shade(1e6, 1e6)),
            (None, Some(0), Some(0), Some(8))
        );
        assert_eq!(shade(1.0, 1.0), Some(8));
    }
}
