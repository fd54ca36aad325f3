//! What the `metrics` facade calls through a trait object: each around one static metric.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics::{CounterFn, GaugeFn, HistogramFn, Key, Unit};
use zibrato_core::kind::Kind;
use zibrato_core::level::Level;
use zibrato_core::metric::{Counter, Gauge, Timer};

use super::{Units, Use, named};
use crate::run_time::Named;

/// Values that a timer cannot hold, by the histogram's name.
const REFUSED: &str = "zibrato.refused.histogram";
/// From here on a timer holds no duration: 146 years.
const NS_END: f64 = (1_u64 << 62) as f64;
const NS_PER_S: f64 = 1e9;

pub(super) struct CounterHandle {
    counter: &'static Counter,
    /// The largest value that [`CounterFn::absolute`] was given.
    absolute: AtomicU64,
}

impl CounterHandle {
    pub(super) fn new(counter: &'static Counter) -> Arc<Self> {
        Arc::new(Self { counter, absolute: AtomicU64::new(0) })
    }
}

impl CounterFn for CounterHandle {
    fn increment(&self, value: u64) {
        self.counter.add(value);
    }

    fn absolute(&self, value: u64) {
        let before = self.absolute.fetch_max(value, Ordering::Relaxed);
        self.counter.add(value.saturating_sub(before));
    }
}

/// A gauge that can also be stepped.
///
/// Threads that step at once must not leave the older of two results behind as the last set. So whoever
/// changed the value tells it, and then looks with a read-modify-write whether it still is the value: if
/// not, it tells the newer one too. All changes of a stepped gauge are read-modify-writes with acquire and
/// release, so a thread that changes the value behind another one's look also tells behind it.
pub(super) struct GaugeHandle {
    gauge: &'static Gauge,
    /// Bits of the value.
    value: AtomicU64,
    /// Gauges that are only ever set need none of this. A set that races the very first step may be told
    /// last; the next set or step is right again.
    is_stepped: AtomicBool,
}

impl GaugeHandle {
    pub(super) fn new(gauge: &'static Gauge) -> Arc<Self> {
        Arc::new(Self { gauge, value: AtomicU64::new(0_f64.to_bits()), is_stepped: AtomicBool::new(false) })
    }

    fn step(&self, by: f64) {
        if !by.is_finite() {
            // The client refuses it and counts that.
            self.gauge.set(by);
            return;
        }
        self.is_stepped.store(true, Ordering::Relaxed);
        // A step that would leave the range of numbers changes nothing, as one that is none does.
        let step = |bits| Some(f64::from_bits(bits) + by).filter(|sum| sum.is_finite()).map(f64::to_bits);
        let _ = self.value.fetch_update(Ordering::AcqRel, Ordering::Acquire, step);
        self.tell();
    }

    fn tell(&self) {
        tell(&self.value, |value| self.gauge.set(value));
    }
}

/// Gives the value to `set` until it stays the same meanwhile.
fn tell(value: &AtomicU64, mut set: impl FnMut(f64)) {
    let mut bits = value.load(Ordering::Acquire);
    loop {
        set(f64::from_bits(bits));
        match value.compare_exchange(bits, bits, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return,
            Err(newer) => bits = newer,
        }
    }
}

impl GaugeFn for GaugeHandle {
    fn increment(&self, value: f64) {
        self.step(value);
    }

    fn decrement(&self, value: f64) {
        self.step(-value);
    }

    fn set(&self, value: f64) {
        if value.is_finite() && self.is_stepped.load(Ordering::Relaxed) {
            self.value.swap(value.to_bits(), Ordering::AcqRel);
            return self.tell();
        }
        if value.is_finite() {
            self.value.store(value.to_bits(), Ordering::Relaxed);
        }
        self.gauge.set(value);
    }
}

pub(super) struct HistogramHandle {
    form: OnceLock<Form>,
    refused: OnceLock<&'static Counter>,
    key: Key,
    level: Level,
    units: Arc<Units>,
}

/// What a histogram is for us.
#[derive(Clone, Copy)]
enum Form {
    Timer { timer: &'static Timer, ns_per_unit: f64 },
    Gauge(&'static Gauge),
}

impl HistogramHandle {
    pub(super) fn new(key: Key, level: Level, units: Arc<Units>) -> Arc<Self> {
        Arc::new(Self { form: OnceLock::new(), refused: OnceLock::new(), key, level, units })
    }

    /// At the first value and not before: a unit may be described until then.
    #[cold]
    #[inline(never)]
    fn choose_form(&self) -> Form {
        let Use { unit, is_first } = self.units.of(Kind::Timer, self.key.name());
        let form = match ns_per_unit(unit) {
            Some(ns_per_unit) => {
                let unit = unit.map(|_| Unit::Seconds);
                Form::Timer { timer: named(&self.key, self.level, unit), ns_per_unit }
            }
            None => Form::Gauge(named(&self.key, self.level, unit)),
        };
        let form = *self.form.get_or_init(|| form);
        if is_first && unit.is_none() {
            let name = self.key.name();
            tracing::info!(name, "a histogram without a unit: its values are taken as seconds");
        }
        form
    }

    #[cold]
    #[inline(never)]
    fn refuse(&self) {
        let refused = match self.refused.get() {
            Some(refused) => refused,
            None => {
                let refused = Named::new(REFUSED, self.level).tag("name", self.key.name()).get();
                self.refused.get_or_init(|| refused)
            }
        };
        refused.add(1);
    }
}

impl HistogramFn for HistogramHandle {
    fn record(&self, value: f64) {
        let form = match self.form.get() {
            Some(form) => *form,
            None => self.choose_form(),
        };
        match form {
            Form::Timer { timer, ns_per_unit } => {
                let ns = value * ns_per_unit;
                // False for NaN.
                if (0.0..NS_END).contains(&ns) {
                    timer.record(duration(ns));
                } else {
                    self.refuse();
                }
            }
            Form::Gauge(gauge) => gauge.set(value),
        }
    }
}

/// To the nearest nanosecond, without what `f64::round` costs where the processor has no instruction for it.
#[inline]
fn duration(ns: f64) -> Duration {
    match (ns + 0.5) as u64 {
        // Short ones need no division.
        ns @ 0..1_000_000_000 => Duration::new(0, ns as u32),
        ns => Duration::from_nanos(ns),
    }
}

/// Nanoseconds in a unit of time; `None` if it is none. No unit at all is what `metrics` makes of a `Duration`.
fn ns_per_unit(unit: Option<Unit>) -> Option<f64> {
    match unit {
        None | Some(Unit::Seconds) => Some(NS_PER_S),
        Some(Unit::Milliseconds) => Some(1e6),
        Some(Unit::Microseconds) => Some(1e3),
        Some(Unit::Nanoseconds) => Some(1.0),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_changed_while_it_was_told_is_told_again() {
        let value = AtomicU64::new(1_f64.to_bits());
        let mut told = Vec::new();
        tell(&value, |now| {
            told.push(now);
            if told.len() < 3 {
                value.store((now + 1.0).to_bits(), Ordering::Release);
            }
        });
        assert_eq!(told, [1.0, 2.0, 3.0]);
    }
}
