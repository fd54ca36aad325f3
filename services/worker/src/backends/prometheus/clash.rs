//! Different series that come to the same name and labels.
//!
//! Prometheus takes the first sample of a series and time and drops others without a word, so they must be found
//! before.

use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashSet};

use super::labels::Label;
use crate::backend::Encoded;
use crate::measurement::Measurement;

/// Names and labels that a flush has had, as two hashes of 64 bits with keys of their own: that two series share both by chance is
/// not to be expected.
#[derive(Debug, Default)]
pub(super) struct Seen {
    hashers: [DefaultHashBuilder; 2],
    hashes: HashSet<[u64; 2]>,
}

impl Seen {
    /// With room for so many samples, since growing costs as much as filling.
    pub(super) fn with_capacity(samples: usize) -> Self {
        Self { hashes: HashSet::with_capacity(samples), ..Self::default() }
    }

    /// Adds the samples of a series; false, and nothing is added, if one of them has been there.
    pub(super) fn add(&mut self, samples: &[String], labels: &[Label<'_>]) -> bool {
        let hashes: Vec<_> = samples.iter().map(|sample| self.hash(sample, labels)).collect();
        if hashes.iter().any(|hash| self.hashes.contains(hash)) {
            return false;
        }
        self.hashes.extend(hashes);
        true
    }

    fn hash(&self, sample: &str, labels: &[Label<'_>]) -> [u64; 2] {
        self.hashers.each_ref().map(|hasher| hasher.hash_one((sample, labels)))
    }
}

/// Encodes in the order in which measurements come, or, if series clash, in that of their keys: the same series has to
/// win in each flush, or its totals would be mixed with those of another.
///
/// `pass` is told whether the order is that of the keys; if not, it gives up at the first clash.
pub(super) fn encode_in_order(
    measurements: &[Measurement],
    pass: impl Fn(&[&Measurement], bool) -> Option<Encoded>,
) -> Encoded {
    let mut order: Vec<_> = measurements.iter().collect();
    if let Some(encoded) = pass(&order, false) {
        return encoded;
    }
    order.sort_by(|a, b| a.series.cmp(&b.series));
    // It gives up only in the other order.
    pass(&order, true).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_seen_if_one_of_its_samples_is() {
        let mut seen = Seen::default();
        let text = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let label = |name: &str, value: &str| vec![(name.to_owned().into(), value.to_owned().into())];
        assert!(seen.add(&text(&["a_sum", "a_count"]), &label("x", "1")));
        assert!(!seen.add(&text(&["a_count"]), &label("x", "1")));
        assert!(seen.add(&text(&["a_count"]), &label("x", "2")));
        assert!(seen.add(&text(&["a_count"]), &label("x1", "")));
        assert!(!seen.add(&text(&["b", "a_sum"]), &label("x", "1")));
        assert!(seen.add(&text(&["b"]), &label("x", "1")), "a refused one leaves nothing");
    }
}
