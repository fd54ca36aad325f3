//! Numbers as people read them: three digits, an SI prefix and the unit.

use std::fmt::Write as _;

/// Units that take an SI prefix in front, large and small.
const PREFIXED: [&str; 9] = ["s", "Hz", "W", "V", "A", "J", "m", "g", "Pa"];
/// Units of which there are no parts.
const WHOLE: [&str; 3] = ["B", "bit", "b"];
/// What takes the place of a number that is none.
pub(super) const NOTHING: &str = "–";

/// What numbers stand for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Quantity {
    /// The unit; empty without one.
    pub(super) unit: String,
    /// Whether they are rates.
    pub(super) per_second: bool,
}

impl Quantity {
    /// Quantities of a unit that may be empty.
    pub(super) fn new(unit: &str) -> Self {
        Self { unit: unit.to_owned(), per_second: false }
    }

    /// How much of this comes in a second.
    pub(super) fn rate(self) -> Self {
        Self { per_second: true, ..self }
    }

    /// A number for an axis, where a long unit has no room: only a unit with a prefix stands there.
    pub(super) fn short(&self, value: f64) -> String {
        if self.takes_prefix() {
            return self.text(value);
        }
        Self { unit: String::new(), per_second: self.per_second }.text(value)
    }

    /// A number with its unit, such as `1.25 ms`, `3.4k/s` or `17 °C`.
    pub(super) fn text(&self, value: f64) -> String {
        if !value.is_finite() {
            return NOTHING.to_owned();
        }
        let (prefix, scaled) = self.scaled(value);
        let mut text = digits(scaled);
        if !self.unit.is_empty() {
            // A prefix belongs to a unit that takes one, else to the number.
            let is_glued = self.takes_prefix();
            let _ = if is_glued {
                write!(text, " {prefix}{}", self.unit)
            } else {
                write!(text, "{prefix} {}", self.unit)
            };
        } else {
            text.push_str(prefix);
        }
        if self.per_second {
            text.push_str("/s");
        }
        text
    }

    fn takes_prefix(&self) -> bool {
        PREFIXED.contains(&self.unit.as_str()) || WHOLE.contains(&self.unit.as_str())
    }

    fn scaled(&self, value: f64) -> (&'static str, f64) {
        let size = value.abs();
        let large = [(1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
        let small = [(1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n")];
        let is_small_allowed = PREFIXED.contains(&self.unit.as_str()) && !self.per_second;
        // Nobody counts kiloseconds.
        if self.unit != "s" || self.per_second {
            // What rounds up to the next prefix already has it.
            if let Some((factor, prefix)) = large.into_iter().find(|(factor, _)| size >= factor * 0.9995) {
                return (prefix, value / factor);
            }
        }
        if is_small_allowed && size > 0.0 {
            let found = small.into_iter().find(|(factor, _)| size >= factor * 0.9995);
            let (factor, prefix) = found.unwrap_or((1e-9, "n"));
            return (prefix, value / factor);
        }
        ("", value)
    }
}

/// Three significant digits without zeros at the end; whole below a million.
fn digits(value: f64) -> String {
    let size = value.abs();
    let sign = if value < 0.0 { "−" } else { "" };
    if size == 0.0 {
        return "0".to_owned();
    }
    if !(1e-4..1e6).contains(&size) {
        let text = format!("{size:.2e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        return format!("{sign}{}e{exponent}", trimmed(mantissa));
    }
    let before = size.log10().floor() as i32 + 1;
    let decimals = (3 - before).clamp(0, 6) as usize;
    let text = format!("{size:.decimals$}");
    format!("{sign}{}", trimmed(&text))
}

/// Without zeros behind the point.
fn trimmed(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_a_prefix_and_their_unit() {
        for (unit, value, expected) in [
            ("s", 0.000_000_25, "250 ns"),
            ("s", 0.001_254, "1.25 ms"),
            ("s", 0.000_999_7, "1 ms"),
            ("s", 3e-10, "0.3 ns"),
            ("s", 12.0, "12 s"),
            ("s", 4_000.0, "4000 s"),
            ("s", 0.0, "0 s"),
            ("B", 1_500_000.0, "1.5 MB"),
            ("B", 0.5, "0.5 B"),
            ("°C", -3.25, "−3.25 °C"),
            ("°C", 25_000.0, "25k °C"),
            ("", 999.6, "1k"),
            ("", 1_234.0, "1.23k"),
            ("", 42.0, "42"),
            ("", 0.012_34, "0.0123"),
            ("", 1e-9, "1e-9"),
            ("", 3e18, "3000P"),
            ("V", 0.02, "20 mV"),
            ("", f64::NAN, "–"),
        ] {
            assert_eq!(Quantity::new(unit).text(value), expected, "{value} {unit}");
        }
    }

    #[test]
    fn a_rate_is_of_its_unit_in_a_second() {
        assert_eq!(Quantity::new("").rate().text(1_200.0), "1.2k/s");
        assert_eq!(Quantity::new("B").rate().text(1_200.0), "1.2 kB/s");
        assert_eq!(Quantity::new("requests").rate().text(0.5), "0.5 requests/s");
        assert_eq!(Quantity::new("requests").rate().short(0.5), "0.5/s");
        assert_eq!(Quantity::new("B").rate().short(500.0), "500 B/s");
    }
}
