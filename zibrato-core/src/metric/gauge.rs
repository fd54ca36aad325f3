//! Gauges.

use super::{Metric, declare};

/// A value that is set; the last one counts.
#[derive(Debug)]
#[repr(transparent)]
pub struct Gauge {
    metric: Metric,
}

declare!(Gauge);

impl Gauge {
    /// Sets the value. NaN and infinities are refused later, by the drain, and counted.
    #[inline(always)]
    pub fn set(&'static self, value: f64) {
        if self.metric.is_on() {
            let bits = value.to_bits();
            // Rings of several threads have no common order, so the last value is kept here.
            self.metric.spill.set_last(bits);
            crate::thread::push(&self.metric, bits);
        }
    }
}
