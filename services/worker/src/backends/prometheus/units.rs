//! Units as Prometheus wants them: base units, spelled out, as the end of a name.

/// What becomes of a unit.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Unit {
    /// The word at the end of the name; empty for none.
    pub(super) word: String,
    times: f64,
    over: f64,
}

/// Unit, word, and by what numbers are multiplied and divided. A division by a whole number is rounded once, a
/// multiplication by 0.001 twice.
const KNOWN: [(&str, &str, f64, f64); 44] = [
    ("s", "seconds", 1.0, 1.0),
    ("ms", "seconds", 1.0, 1e3),
    ("us", "seconds", 1.0, 1e6),
    ("\u{b5}s", "seconds", 1.0, 1e6),
    ("\u{3bc}s", "seconds", 1.0, 1e6),
    ("ns", "seconds", 1.0, 1e9),
    ("min", "seconds", 60.0, 1.0),
    ("h", "seconds", 3_600.0, 1.0),
    ("d", "seconds", 86_400.0, 1.0),
    ("B", "bytes", 1.0, 1.0),
    ("By", "bytes", 1.0, 1.0),
    ("kB", "bytes", 1e3, 1.0),
    ("kBy", "bytes", 1e3, 1.0),
    ("MB", "bytes", 1e6, 1.0),
    ("MBy", "bytes", 1e6, 1.0),
    ("GB", "bytes", 1e9, 1.0),
    ("GBy", "bytes", 1e9, 1.0),
    ("TB", "bytes", 1e12, 1.0),
    ("TBy", "bytes", 1e12, 1.0),
    ("KiB", "bytes", 1_024.0, 1.0),
    ("KiBy", "bytes", 1_024.0, 1.0),
    ("MiB", "bytes", 1_048_576.0, 1.0),
    ("MiBy", "bytes", 1_048_576.0, 1.0),
    ("GiB", "bytes", 1_073_741_824.0, 1.0),
    ("GiBy", "bytes", 1_073_741_824.0, 1.0),
    ("TiB", "bytes", 1_099_511_627_776.0, 1.0),
    ("TiBy", "bytes", 1_099_511_627_776.0, 1.0),
    ("bit", "bits", 1.0, 1.0),
    ("%", "ratio", 1.0, 100.0),
    ("1", "", 1.0, 1.0),
    ("Hz", "hertz", 1.0, 1.0),
    ("kHz", "hertz", 1e3, 1.0),
    ("MHz", "hertz", 1e6, 1.0),
    ("Cel", "celsius", 1.0, 1.0),
    ("\u{b0}C", "celsius", 1.0, 1.0),
    ("K", "kelvin", 1.0, 1.0),
    ("m", "meters", 1.0, 1.0),
    ("g", "grams", 1.0, 1.0),
    ("kg", "grams", 1e3, 1.0),
    ("V", "volts", 1.0, 1.0),
    ("A", "amperes", 1.0, 1.0),
    ("W", "watts", 1.0, 1.0),
    ("J", "joules", 1.0, 1.0),
    ("Pa", "pascals", 1.0, 1.0),
];

impl Unit {
    /// Seconds, which is what timers have.
    pub(super) fn seconds() -> Self {
        Self { word: "seconds".to_owned(), times: 1.0, over: 1.0 }
    }

    /// A unit as it was declared.
    pub(super) fn of(unit: &str) -> Self {
        // Most have none, and a look at all that are known takes longer than all else here.
        if unit.is_empty() {
            return Self { word: String::new(), times: 1.0, over: 1.0 };
        }
        match KNOWN.iter().find(|(known, ..)| *known == unit) {
            Some(&(_, word, times, over)) => Self { word: word.to_owned(), times, over },
            None => Self { word: spell(unit), times: 1.0, over: 1.0 },
        }
    }

    /// A number of the declared unit in the one that the name says.
    pub(super) fn scale(&self, value: f64) -> f64 {
        value * self.times / self.over
    }
}

/// The unit with its letters, digits and single underscores alone; `/` is spelled out, and what stands in braces is a
/// remark.
fn spell(unit: &str) -> String {
    let mut word = String::new();
    let mut is_remark = false;
    for char in unit.chars() {
        match char {
            '{' => is_remark = true,
            '}' => is_remark = false,
            _ if is_remark => {}
            '/' => word.push_str("_per_"),
            _ if char.is_ascii_alphanumeric() => word.push(char),
            _ => word.push('_'),
        }
    }
    let parts: Vec<&str> = word.split('_').filter(|part| !part.is_empty()).collect();
    parts.join("_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_units_become_base_units() {
        for (unit, value, word, scaled) in [
            ("s", 1.5, "seconds", 1.5),
            ("ms", 1.0, "seconds", 0.001),
            ("ms", 2_300.0, "seconds", 2.3),
            ("\u{b5}s", 7.0, "seconds", 0.000_007),
            ("ns", -3.0, "seconds", -0.000_000_003),
            ("h", 2.0, "seconds", 7_200.0),
            ("B", 9.0, "bytes", 9.0),
            ("KiB", 2.0, "bytes", 2_048.0),
            ("kB", 2.0, "bytes", 2_000.0),
            ("%", 37.0, "ratio", 0.37),
            ("1", 4.0, "", 4.0),
            ("", 4.0, "", 4.0),
            ("kg", 0.5, "grams", 500.0),
        ] {
            let found = Unit::of(unit);
            assert_eq!((found.word.as_str(), found.scale(value)), (word, scaled), "{unit}");
        }
    }

    #[test]
    fn other_units_are_spelled_as_a_name_may_be() {
        for (unit, word) in [
            ("requests", "requests"),
            ("req/s", "req_per_s"),
            ("{request}", ""),
            ("{packet}/s", "per_s"),
            ("m/s2", "m_per_s2"),
            ("  a -- b ", "a_b"),
            ("größe", "gr_e"),
            ("\"\\\n", ""),
            ("/", "per"),
        ] {
            assert_eq!(Unit::of(unit).word, word, "{unit}");
            assert_eq!(Unit::of(unit).scale(3.0), 3.0);
        }
    }
}
