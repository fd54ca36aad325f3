//! Counters.

use super::{Metric, declare};

/// A sum of non-negative whole numbers.
#[derive(Debug)]
#[repr(transparent)]
pub struct Counter {
    metric: Metric,
}

declare!(Counter);

impl Counter {
    /// Adds `n`. The total wraps at 2^64.
    #[inline(always)]
    pub fn add(&'static self, n: u64) {
        crate::thread::add(&self.metric, n);
    }

    /// Adds 1.
    #[inline(always)]
    pub fn increment(&'static self) {
        self.add(1);
    }
}
