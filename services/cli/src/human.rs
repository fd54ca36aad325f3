//! Numbers, durations and times as people read them: about three digits and a unit.

use std::time::Duration;

/// Below this a number is written with an exponent.
const TINY: f64 = 1e-3;
/// Most names in one line; more are counted.
const NAMES_MAX: usize = 5;

/// A whole count: `999`, `12.3k`, `4.56M`.
pub(crate) fn short(count: u128) -> String {
    scaled(count as f64, 1_000.0, &["", "k", "M", "G", "T"])
}

/// A duration: `850 ns`, `1.20 µs`, `41.3 ms`, `2.50 s`.
pub(crate) fn duration(duration: Duration) -> String {
    nanoseconds(duration.as_nanos() as f64)
}

/// A duration in seconds, written as [`duration`] does. Histograms speak of seconds.
pub(crate) fn seconds(seconds: f64) -> String {
    nanoseconds(seconds * 1e9)
}

/// Any number: `0`, `17`, `0.250`, `-12.3k`, `1.5e-9`.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    if value.is_nan() || size >= 1e15 || (size < TINY && size > 0.0) {
        return format!("{value:.1e}");
    }
    let sign = if value < 0.0 { "-" } else { "" };
    let text = match size {
        _ if size < 999.5 && size.fract() == 0.0 => format!("{size}"),
        _ if size < 0.9995 => format!("{size:.3}"),
        _ if size < 999.5 => format!("{size:.*}", decimals(size)),
        _ => scaled(size, 1_000.0, &["", "k", "M", "G", "T"]),
    };
    format!("{sign}{text}")
}

/// Bytes: `512 B`, `1.50 KiB`, `64.0 MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    scaled(bytes as f64, 1_024.0, &[" B", " KiB", " MiB", " GiB", " TiB"])
}

/// How long ago or for how long, to about two digits: `0.4 s`, `12 s`, `3 min`, `2 h`, `5 d`.
pub(crate) fn age(ms: u64) -> String {
    match ms {
        0..10_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        10_000..120_000 => format!("{} s", ms / 1_000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} d", ms / 86_400_000),
    }
}

/// `1 series`, `2 levels`: a count and its noun, which takes an `s` unless it is one.
pub(crate) fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// The first names, and how many more there are.
pub(crate) fn some_of(names: &[impl AsRef<str>]) -> String {
    let mut text: Vec<&str> = names.iter().take(NAMES_MAX).map(AsRef::as_ref).collect();
    let more = names.len().saturating_sub(NAMES_MAX);
    let rest = format!("and {more} more");
    if more > 0 {
        text.push(&rest);
    }
    text.join(", ")
}

/// A text from the network without control characters, so that it cannot drive the terminal.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { '?' } else { char }).collect()
}

fn nanoseconds(ns: f64) -> String {
    scaled(ns, 1_000.0, &[" ns", " µs", " ms", " s"])
}

fn scaled(mut value: f64, step: f64, units: &[&str]) -> String {
    let mut unit = 0;
    // The limit is where three digits would be rounded up to the next unit.
    while unit + 1 < units.len() && value >= step - 0.5 {
        value /= step;
        unit += 1;
    }
    let digits = if unit == 0 { 0 } else { decimals(value) };
    format!("{value:.digits$}{}", units[unit])
}

/// How many decimals make three digits.
fn decimals(value: f64) -> usize {
    match value {
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_durations_have_three_digits_and_a_unit() {
        let counts = [0, 999, 1_000, 12_345, 999_499, 999_500, 4_560_000, 12_000_000_000_000_000];
        let shown = ["0", "999", "1.00k", "12.3k", "999k", "1.00M", "4.56M", "12000T"];
        assert_eq!(counts.map(short), shown);
        let durations = [0, 850, 1_200, 41_300_000, 999_600_000, 2_500_000_000, 90_000_000_000];
        let shown = ["0 ns", "850 ns", "1.20 µs", "41.3 ms", "1.00 s", "2.50 s", "90.0 s"];
        assert_eq!(durations.map(|ns| duration(Duration::from_nanos(ns))), shown);
        assert_eq!(seconds(0.0413), "41.3 ms");
    }

    #[test]
    fn any_number_has_about_three_digits() {
        let values = [0.0, 17.0, 0.25, 17.25, 123.4, 999.7, -12_345.0, 1.5e-9, 3e18, f64::NAN];
        let shown = ["0", "17", "0.250", "17.2", "123", "1.00k", "-12.3k", "1.5e-9", "3.0e18", "NaN"];
        assert_eq!(values.map(number), shown);
    }

    #[test]
    fn bytes_and_ages_name_their_unit() {
        assert_eq!(
            [0, 1_023, 1_536, 64 << 20].map(bytes),
            ["0 B", "1023 B", "1.50 KiB", "64.0 MiB"].map(str::to_owned)
        );
        let ages = [0, 450, 9_999, 12_000, 119_999, 180_000, 7_200_000, 500_000_000];
        assert_eq!(
            ages.map(age),
            ["0.0 s", "0.4 s", "9.9 s", "12 s", "119 s", "3 min", "2 h", "5 d"].map(str::to_owned)
        );
    }

    #[test]
    fn a_text_from_the_network_cannot_drive_the_terminal() {
        assert_eq!(clean("a\x1b[31mb\nü"), "a?[31mb?ü");
    }

    #[test]
    fn many_names_are_cut_and_counted() {
        assert_eq!(some_of(&["a", "b"]), "a, b");
        assert_eq!(some_of(&["a", "b", "c", "d", "e", "f", "g"]), "a, b, c, d, e, and 2 more");
    }

    #[test]
    fn one_thing_is_singular() {
        assert_eq!((plural(1, "level"), plural(0, "level")), ("1 level".to_owned(), "0 levels".to_owned()));
    }
}
