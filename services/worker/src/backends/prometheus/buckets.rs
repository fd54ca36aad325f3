//! Classic buckets out of an exponential histogram.

use zibrato_core::histogram::lower_bound;

use crate::measurement::TimerTotal;

/// Most bounds of `--buckets`.
pub(super) const BOUNDS_MAX: usize = 64;
/// Default of `--buckets`: from 100 us to 100 s, with those bounds that promises about latency are made with.
pub(super) const BOUNDS_DEFAULT: &str = "0.0001,0.0005,0.001,0.005,0.01,0.025,0.05,0.1,0.25,0.5,1,2.5,10,100";

/// The bound above all others.
pub(super) const INFINITE: &str = "+Inf";

/// Upper bounds in seconds, ascending, that above all others left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Bounds(Vec<f64>);

impl Bounds {
    /// Reads 1 to [`BOUNDS_MAX`] positive numbers, separated by commas; order and doubles do not matter.
    ///
    /// # Errors
    ///
    /// A text that says what is accepted.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut bounds = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let bound: Option<f64> = part.parse().ok();
            match bound.filter(|bound| bound.is_normal() && *bound > 0.0) {
                Some(bound) => bounds.push(bound),
                None => {
                    return Err(format!("{part:?}: a bound is a number of seconds above 0, such as 0.25"));
                }
            }
        }
        bounds.sort_by(f64::total_cmp);
        bounds.dedup();
        if bounds.is_empty() || bounds.len() > BOUNDS_MAX {
            return Err(format!("{} bounds; accepted are 1 to {BOUNDS_MAX}", bounds.len()));
        }
        Ok(Self(bounds))
    }

    /// The bounds.
    pub(super) fn values(&self) -> &[f64] {
        &self.0
    }

    /// Bounds and the records up to each, that above all others left out: its count is that of the timer.
    ///
    /// A bucket of the histogram that a bound falls into counts as above it. So each bound stands for one that is lower
    /// by at most the width of a bucket, which is 2.2 % while the histogram has its full scale.
    pub(super) fn cumulative<'a>(&'a self, total: &'a TimerTotal) -> impl Iterator<Item = (f64, u64)> + 'a {
        let (scale, mut counts) = (total.histogram.scale(), total.histogram.counts().peekable());
        let mut below = total.histogram.zero();
        self.0.iter().map(move |&bound| {
            while let Some((_, count)) =
                counts.next_if(|(index, _)| lower_bound(index.saturating_add(1), scale) <= bound)
            {
                below = below.saturating_add(count);
            }
            (bound, below.min(total.count))
        })
    }
}

/// A bound as OpenMetrics writes it: `0.25`, `1.0`, `1e-05`.
pub(super) fn bound_text(bound: f64) -> String {
    if (1e-4..1e6).contains(&bound) {
        return format!("{bound:?}");
    }
    let text = format!("{bound:e}");
    match text.split_once('e') {
        Some((digits, power)) => match power.strip_prefix('-') {
            Some(power) => format!("{digits}e-{power:0>2}"),
            None => format!("{digits}e+{power:0>2}"),
        },
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(records_ns: &[u64]) -> TimerTotal {
        let mut total = TimerTotal { count: records_ns.len() as u64, ..TimerTotal::default() };
        records_ns.iter().for_each(|ns| total.histogram.record_ns(*ns, 1));
        total
    }

    fn cumulative(bounds: &str, total: &TimerTotal) -> Vec<u64> {
        Bounds::parse(bounds).unwrap().cumulative(total).map(|(_, count)| count).collect()
    }

    #[test]
    fn records_are_counted_up_to_each_bound() {
        // A quarter and a half are bounds of the histogram as well, so these are exact.
        let total = total(&[0, 1, 250_000_000, 250_000_001, 500_000_000, 3_000_000_000]);
        assert_eq!(cumulative("0.25,0.5,1", &total), [3, 5, 5]);
        assert_eq!(cumulative("0.0000000001", &total), [1]);
    }

    #[test]
    fn a_bound_is_lower_by_a_bucket_at_most() {
        let bounds = Bounds::parse(BOUNDS_DEFAULT).unwrap();
        assert_eq!(bounds.values().len(), 14);
        let mut records: Vec<u64> = (0..4_000).map(|step| (1e4 * 1.005_f64.powi(step)) as u64).collect();
        records.retain(|ns| *ns < 200_000_000_000);
        let total = total(&records);
        for (bound, count) in bounds.cumulative(&total) {
            let up_to = |bound: f64| records.iter().filter(|ns| **ns as f64 / 1e9 <= bound).count() as u64;
            assert!(count <= up_to(bound), "{bound}");
            let width = lower_bound(1, total.histogram.scale());
            assert!(count >= up_to(bound / width * 0.999_999), "{bound}: {count}");
        }
    }

    #[test]
    fn counts_ascend_and_never_exceed_the_count() {
        let mut short = total(&[1_000_000, 2_000_000, 50_000_000]);
        short.count = 2;
        assert_eq!(cumulative("0.0015,0.003,0.1,1", &short), [1, 2, 2, 2]);
        assert_eq!(cumulative("1", &TimerTotal::default()), [0]);
    }

    #[test]
    fn bounds_are_checked() {
        assert_eq!(Bounds::parse("2, 1,2,,0.5").unwrap().values(), [0.5, 1.0, 2.0]);
        let many: Vec<String> = (1..=65).map(|bound| bound.to_string()).collect();
        assert!(Bounds::parse(&many[1..].join(",")).is_ok());
        for bad in ["", ",", "0", "-1", "x", "inf", "NaN", "1e-310", &many.join(",")] {
            assert!(Bounds::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bounds_are_written_as_openmetrics_has_it() {
        for (bound, text) in [
            (0.0001, "0.0001"),
            (0.25, "0.25"),
            (1.0, "1.0"),
            (100.0, "100.0"),
            (0.000_01, "1e-05"),
            (0.000_025, "2.5e-05"),
            (1e6, "1e+06"),
            (1.5e12, "1.5e+12"),
            (1e-100, "1e-100"),
        ] {
            assert_eq!(bound_text(bound), text);
        }
    }
}
