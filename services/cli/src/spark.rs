//! Sparklines: a row of bars, one character each.

/// From the smallest bar to the largest.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Where the bars begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Base {
    /// At 0, or below if a value is: rates, durations.
    Zero,
    /// At the smallest value: values whose changes matter, not their size.
    Smallest,
}

/// At most `width` bars of `values` in their order; each shows the largest of the values it stands
/// for, and a blank stands for none.
pub(crate) fn line(values: &[Option<f64>], width: usize, base: Base) -> String {
    let width = width.min(values.len());
    let bars: Vec<Option<f64>> = (0..width)
        .map(|bar| largest(&values[bar * values.len() / width..(bar + 1) * values.len() / width]))
        .collect();
    let known = || bars.iter().flatten().copied();
    let high = known().fold(f64::NEG_INFINITY, f64::max);
    let low = known().fold(f64::INFINITY, f64::min);
    let low = if base == Base::Zero { low.min(0.0) } else { low };
    bars.iter().map(|bar| bar.map_or(' ', |value| character(value, low, high))).collect()
}

fn largest(values: &[Option<f64>]) -> Option<f64> {
    values.iter().flatten().copied().filter(|value| value.is_finite()).reduce(f64::max)
}

fn character(value: f64, low: f64, high: f64) -> char {
    // Halves keep the range finite for any two doubles.
    let range = high / 2.0 - low / 2.0;
    let share = if range > 0.0 { (value / 2.0 - low / 2.0) / range } else { 0.0 };
    // The share is between 0 and 1, and so the index in range; only 0 itself is the smallest bar.
    BARS[((share * 7.0).ceil() as usize).min(7)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(values: &[f64]) -> Vec<Option<f64>> {
        values.iter().copied().map(Some).collect()
    }

    #[test]
    fn bars_grow_with_their_values_from_zero_or_from_the_smallest() {
        let values = some(&[10.0, 15.0, 20.0]);
        assert_eq!(line(&values, 3, Base::Zero), "▅▇█");
        assert_eq!(line(&values, 3, Base::Smallest), "▁▅█");
        assert_eq!(line(&some(&[0.0, 0.001, 100.0]), 3, Base::Zero), "▁▂█");
        assert_eq!(line(&some(&[-1.0, 1.0]), 2, Base::Zero), "▁█");
    }

    #[test]
    fn a_gap_is_blank_and_equal_values_are_flat() {
        assert_eq!(line(&[Some(1.0), None, Some(f64::NAN)], 3, Base::Zero), "█  ");
        assert_eq!(line(&some(&[5.0, 5.0]), 2, Base::Smallest), "▁▁");
        assert_eq!(line(&some(&[0.0, 0.0]), 2, Base::Zero), "▁▁");
        assert_eq!(line(&[], 5, Base::Zero), "");
        assert_eq!(line(&some(&[f64::MAX, f64::MIN]), 2, Base::Zero), "█▁");
    }

    #[test]
    fn more_values_than_bars_keep_their_peaks() {
        let mut values = some(&[1.0; 60]);
        values[31] = Some(8.0);
        assert_eq!(line(&values, 10, Base::Zero), "▂▂▂▂▂█▂▂▂▂");
        assert_eq!(line(&values, 100, Base::Zero).chars().count(), 60);
    }
}
