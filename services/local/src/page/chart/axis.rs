//! The axes: where ticks stand and what is written at them.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

use crate::page::quantity::Quantity;
use crate::page::zone::Zone;

/// Seconds between two ticks of a time axis.
const TIME_STEPS_S: [i64; 24] = [
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400,
    172_800, 604_800, 1_209_600, 2_592_000, 7_776_000, 31_536_000,
];
const DAY_S: i64 = 86_400;
/// A logarithmic axis spans this factor at least, and starts this far below its top at most.
const LOG_FACTOR_MIN: f64 = 10.0;
const LOG_FACTOR_MAX: f64 = 1e12;

/// Seconds since 1970 from left to right, with ticks at round times of the viewer's wall clock.
#[derive(Clone, Debug)]
pub(super) struct TimeAxis {
    range: Range<f64>,
    zone: Zone,
    tick_s: i64,
    ticks: Vec<f64>,
}

impl TimeAxis {
    /// The axis of a range of seconds with at most so many ticks.
    pub(super) fn new(start: i64, end: i64, zone: &Zone, ticks_max: usize) -> Self {
        let length = (end - start).max(1);
        let most = ticks_max.max(2) as i64;
        let fitting = TIME_STEPS_S.into_iter().find(|step| length / step <= most);
        let tick_s = fitting.unwrap_or(length / most + DAY_S);
        // An hour may be missing on the wall clock or come twice, so each tick is looked up by itself.
        let first = (start + zone.offset_s(start)).div_euclid(tick_s) - 1;
        let ticks = (first..=first + length / tick_s + 4).map(|at| at * tick_s).filter_map(|wall| {
            let guess = wall - zone.offset_s(wall - zone.offset_s(start));
            let time = wall - zone.offset_s(guess);
            (time + zone.offset_s(time) == wall && (start..=end).contains(&time)).then_some(time as f64)
        });
        Self {
            range: start as f64..(start + length) as f64,
            zone: zone.clone(),
            tick_s,
            ticks: ticks.collect(),
        }
    }
}

impl Ranged for TimeAxis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        place((value - self.range.start) / (self.range.end - self.range.start), limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for TimeAxis {
    fn format_ext(&self, value: &f64) -> String {
        let wall = self.zone.wall(*value as i64);
        let is_midnight = (wall.hour, wall.minute, wall.second) == (0, 0, 0);
        if self.tick_s >= DAY_S || is_midnight { wall.date() } else { wall.time(self.tick_s < 60) }
    }
}

/// Values from the bottom to the top, on a linear or a logarithmic scale.
#[derive(Clone, Debug)]
pub(super) struct ValueAxis {
    range: Range<f64>,
    is_log: bool,
    ticks: Vec<f64>,
    quantity: Quantity,
}

impl ValueAxis {
    /// A linear axis that holds the values from `low` to `high`, between round numbers.
    pub(super) fn linear(low: f64, high: f64, quantity: &Quantity, ticks_max: usize) -> Self {
        // A line that is level stands in the middle.
        let (low, high) = if high > low { (low, high) } else { spread(low) };
        let step = round_step((high - low) / ticks_max.max(2) as f64);
        let (bottom, top) = ((low / step).floor() * step, (high / step - 1e-9).ceil() * step);
        let count = ((top - bottom) / step).round() as usize;
        let ticks = (0..=count).map(|at| {
            let tick = bottom + at as f64 * step;
            // The sum of many steps misses 0 by a hair.
            if tick.abs() < step / 1e6 { 0.0 } else { tick }
        });
        Self { range: bottom..top, is_log: false, ticks: ticks.collect(), quantity: quantity.clone() }
    }

    /// A logarithmic axis that holds the values above 0 from `low` to `high`. What is not above 0 stands
    /// at its bottom.
    pub(super) fn logarithmic(low: f64, high: f64, quantity: &Quantity, ticks_max: usize) -> Self {
        let high = if high > 0.0 && high.is_finite() { high } else { 1.0 };
        let low = if low > 0.0 { low.max(high / LOG_FACTOR_MAX) } else { high / LOG_FACTOR_MIN };
        // Half of what is missing to the least span goes to each end.
        let missing = (LOG_FACTOR_MIN / (high / low)).max(1.0).sqrt();
        let (bottom, top) = (below(low / missing), above(high * missing));
        let decades = (top / bottom).log10();
        let mantissas: &[f64] = match ticks_max as f64 / decades {
            3.0.. => &[1.0, 2.0, 5.0],
            2.0.. => &[1.0, 3.0],
            _ => &[1.0],
        };
        let every = (decades / ticks_max.max(2) as f64).ceil().max(1.0) as i32;
        let (first, last) = (bottom.log10().floor() as i32, top.log10().ceil() as i32);
        let ticks = (first..=last)
            .filter(|exponent| exponent.rem_euclid(every) == 0)
            .flat_map(|exponent| mantissas.iter().map(move |mantissa| mantissa * 10_f64.powi(exponent)))
            .filter(|tick| (bottom * 0.999..=top * 1.001).contains(tick));
        Self { range: bottom..top, is_log: true, ticks: ticks.collect(), quantity: quantity.clone() }
    }

    /// The bottom and the top.
    pub(super) fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl Ranged for ValueAxis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let Range { start, end } = self.range;
        let part = if self.is_log {
            (value.max(start) / start).ln() / (end / start).ln()
        } else {
            (value - start) / (end - start)
        };
        place(part, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for ValueAxis {
    fn format_ext(&self, value: &f64) -> String {
        self.quantity.short(*value)
    }
}

/// The pixel at a part of the way; never outside of the axis.
fn place(part: f64, (from, to): (i32, i32)) -> i32 {
    let part = if part.is_finite() { part.clamp(0.0, 1.0) } else { 0.0 };
    from + (f64::from(to - from) * part).round() as i32
}

fn spread(value: f64) -> (f64, f64) {
    let by = if value == 0.0 { 1.0 } else { value.abs() / 10.0 };
    // Numbers that are never negative keep 0 as their bottom.
    if value >= 0.0 { ((value - by).max(0.0), value + by) } else { (value - by, value + by) }
}

/// The smallest of 1, 2 and 5 times a power of ten that is not below `step`.
fn round_step(step: f64) -> f64 {
    above(step.max(f64::MIN_POSITIVE * 1e10))
}

fn above(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let found = [1.0, 2.0, 5.0].into_iter().find(|mantissa| value <= mantissa * power * (1.0 + 1e-9));
    found.unwrap_or(10.0) * power
}

fn below(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let found = [5.0, 2.0, 1.0].into_iter().find(|mantissa| value >= mantissa * power * (1.0 - 1e-9));
    found.unwrap_or(1.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(axis: &ValueAxis) -> Vec<String> {
        axis.ticks.iter().map(|tick| axis.format_ext(tick)).collect()
    }

    fn labels(start: i64, end: i64, zone: &str, ticks_max: usize) -> Vec<String> {
        let axis = TimeAxis::new(start, end, &Zone::parse(zone).unwrap(), ticks_max);
        axis.ticks.iter().map(|tick| axis.format_ext(tick)).collect()
    }

    #[test]
    fn time_ticks_stand_at_round_times_of_the_wall_clock() {
        // 2023-11-14 22:13:20 UTC.
        let now = 1_700_000_000;
        assert_eq!(labels(now - 300, now, "0", 6), ["22:09", "22:10", "22:11", "22:12", "22:13"]);
        assert_eq!(
            labels(now - 10, now, "0", 6),
            ["22:13:10", "22:13:12", "22:13:14", "22:13:16", "22:13:18", "22:13:20"]
        );
        assert_eq!(labels(now, now + 7_200, "60", 6), ["23:30", "15 Nov", "00:30", "01:00"]);
        assert_eq!(labels(now - 3 * DAY_S, now, "-300", 4), ["12 Nov", "13 Nov", "14 Nov"]);
    }

    #[test]
    fn time_ticks_keep_to_midnight_over_a_change_of_the_clock() {
        // 2025-03-30 01:00 UTC: 02:00 becomes 03:00 in Central Europe.
        let change = 1_743_296_400;
        let days = labels(change - 2 * DAY_S, change + 2 * DAY_S, &format!("60,{change}:120"), 6);
        assert_eq!(days, ["29 Mar", "30 Mar", "31 Mar", "1 Apr"]);
        let hours = labels(change - 7_000, change + 7_000, &format!("60,{change}:120"), 5);
        assert_eq!(hours, ["01:00", "03:00", "04:00"]);
        // 2025-10-26 01:00 UTC: 03:00 becomes 02:00.
        let change = 1_761_440_400;
        let axis = TimeAxis::new(
            change - 7_000,
            change + 7_000,
            &Zone::parse(&format!("120,{change}:60")).unwrap(),
            5,
        );
        assert!(axis.ticks.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", axis.ticks);
    }

    #[test]
    fn any_range_has_few_ticks() {
        for length in [1, 59, 300, 3_601, DAY_S, 30 * DAY_S, 400 * DAY_S, 40_000 * DAY_S] {
            let ticks = labels(1_700_000_123, 1_700_000_123 + length, "0", 6).len();
            assert!(ticks <= 7, "{length}: {ticks}");
        }
    }

    #[test]
    fn a_linear_axis_lies_between_round_numbers_and_holds_all_values() {
        let axis = ValueAxis::linear(0.0, 87.0, &Quantity::default(), 5);
        assert_eq!(axis.range, 0.0..100.0);
        assert_eq!(written(&axis), ["0", "20", "40", "60", "80", "100"]);
        let axis = ValueAxis::linear(-3.0, 3.0, &Quantity::default(), 4);
        assert_eq!(written(&axis), ["−4", "−2", "0", "2", "4"]);
        for value in [0.0, 5.0, -5.0, 1e-300, 1e120] {
            let axis = ValueAxis::linear(value, value, &Quantity::default(), 4);
            assert!(
                axis.range.start <= value && value <= axis.range.end && axis.ticks.len() <= 12,
                "{axis:?}"
            );
        }
    }

    #[test]
    fn a_logarithmic_axis_spans_a_decade_at_least() {
        let seconds = Quantity::new("s");
        let axis = ValueAxis::logarithmic(0.000_2, 0.03, &seconds, 10);
        assert_eq!(written(&axis)[0], "200 µs");
        assert_eq!(written(&axis).last().unwrap(), "50 ms");
        let level = ValueAxis::logarithmic(0.001, 0.001, &seconds, 4);
        assert!(level.range.start <= 0.001 / 3.0 && level.range.end >= 0.003, "{:?}", level.range);
        for (low, high) in [(0.0, 0.0), (0.0, 5.0), (1e-300, 1.0)] {
            let axis = ValueAxis::logarithmic(low, high, &seconds, 4);
            assert!(axis.range.start > 0.0 && axis.ticks.len() <= 12, "{axis:?}");
            assert_eq!(axis.map(&0.0, (100, 0)), 100, "what is not above 0 stands at the bottom");
        }
    }
}
