//! One metric of a device: what it is, and what it has come to.

use zibrato_core::frame::{
    EncodeError, Encoder, Entry, HistogramState, SampleMetric, SamplesEncoder, State, encode_buckets,
};
use zibrato_core::histogram::{Histogram, HostCells};
use zibrato_core::kind::Kind;
use zibrato_core::limits::HISTOGRAM_BUCKETS_MAX;
use zibrato_core::link::{Descriptor, Form, StateValue};

use crate::device_clock::DeviceClock;
use crate::gauge::{Gauge, Set};
use crate::timer::{Timer, Totals};

/// Largest encoding of the buckets of one histogram, in bytes: ten for each.
const BUCKET_BYTES_MAX: usize = HISTOGRAM_BUCKETS_MAX * 10;

/// Reason of an entry of another form than the descriptor has.
const FORM: &str = "form";
/// Reason of a sum or count below the last one.
const WENT_BACK: &str = "went_back";
/// Reason of a gauge that was set to what is no number, or infinite.
pub(super) const NOT_FINITE: &str = "not_finite";

/// See the module.
#[derive(Debug)]
pub(crate) struct Metric {
    pub(super) level: usize,
    form: Form,
    name: Box<str>,
    source: Box<str>,
    unit: Box<str>,
    tags: Box<[(Box<str>, Box<str>)]>,
    value: Value,
    /// A state of it came.
    is_seen: bool,
    /// The device counted before our zero, and how much is not known yet.
    is_base_due: bool,
    /// It changed since a frame had it.
    pub(super) is_dirty: bool,
}

#[derive(Debug)]
enum Value {
    Counter { said: u64, base: u64 },
    Gauge(Gauge),
    Timer(Box<Timer>),
}

/// What makes two metrics one series. The kind is left out: two kinds of one name would be one metric at a receiver.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct SeriesKey(Vec<u8>);

impl SeriesKey {
    /// `source` is that of metrics which have none.
    pub(super) fn of(descriptor: &Descriptor<'_>, source: &str) -> Self {
        let mut key = Vec::new();
        let source = if descriptor.source.is_empty() { source } else { descriptor.source };
        let texts = [descriptor.level, descriptor.name, source].into_iter();
        for text in texts.chain(descriptor.tags.iter().flat_map(|(tag, value)| [tag, value])) {
            key.extend_from_slice(text.as_bytes());
            // No text has a control character.
            key.push(0);
        }
        Self(key)
    }
}

impl Metric {
    /// `is_base_due`: its first state is its zero.
    pub(super) fn new(level: usize, descriptor: &Descriptor<'_>, is_base_due: bool) -> Self {
        let value = match descriptor.form {
            Form::Counter => Value::Counter { said: 0, base: 0 },
            Form::Whole | Form::Float => Value::Gauge(Gauge::default()),
            Form::Timer | Form::Buckets => {
                Value::Timer(Box::new(Timer::new(descriptor.form == Form::Buckets)))
            }
        };
        Self {
            level,
            form: descriptor.form,
            name: descriptor.name.into(),
            source: descriptor.source.into(),
            unit: descriptor.unit.into(),
            tags: descriptor.tags.iter().map(|(key, value)| (key.into(), value.into())).collect(),
            value,
            is_seen: false,
            is_base_due,
            is_dirty: false,
        }
    }

    /// Whether a descriptor says what is known.
    pub(super) fn is(&self, descriptor: &Descriptor<'_>, level: &str) -> bool {
        let tags = self.tags.iter().map(|(key, value)| (&**key, &**value));
        self.form == descriptor.form
            && level == descriptor.level
            && (&*self.name, &*self.source, &*self.unit)
                == (descriptor.name, descriptor.source, descriptor.unit)
            && tags.eq(descriptor.tags.iter())
    }

    /// Takes in a state.
    ///
    /// # Errors
    /// The reason why it is refused.
    pub(super) fn apply(
        &mut self,
        state: &StateValue<'_>,
        at_ms: u64,
        clock: &DeviceClock,
    ) -> Result<(), &'static str> {
        let is_changed = match (&mut self.value, state) {
            (Value::Counter { said, .. }, StateValue::Counter { sum }) => {
                let more = sum.wrapping_sub(*said);
                if (more as i64) < 0 {
                    return Err(WENT_BACK);
                }
                *said = *sum;
                more > 0
            }
            (Value::Gauge(gauge), StateValue::Whole { sets, value }) if self.form == Form::Whole => {
                is_set(gauge.apply(*sets, f64::from(*value), at_ms))?
            }
            (Value::Gauge(gauge), StateValue::Float { sets, value }) if self.form == Form::Float => {
                is_set(gauge.apply(*sets, f64::from(*value), at_ms))?
            }
            (Value::Timer(timer), StateValue::Timer { count, sum, range }) => {
                let totals = Totals { count: *count, ticks: *sum };
                timer.apply(totals, *range, clock).ok_or(WENT_BACK)?
            }
            (Value::Timer(timer), StateValue::Buckets(buckets)) if timer.has_buckets() => buckets
                .iter()
                .fold(false, |grew, (bucket, count)| timer.apply_bucket(bucket, count, clock) || grew),
            _ => return Err(FORM),
        };
        self.is_seen = true;
        self.is_dirty |= is_changed;
        if self.is_base_due && !self.has_buckets() {
            self.rebase();
        }
        Ok(())
    }

    /// Whether its state comes in several entries.
    pub(super) fn has_buckets(&self) -> bool {
        matches!(&self.value, Value::Timer(timer) if timer.has_buckets())
    }

    /// All entries of one state of a timer with buckets have come.
    pub(super) fn complete(&mut self, clock: &DeviceClock) {
        if let Value::Timer(timer) = &mut self.value {
            self.is_dirty |= !timer.is_whole();
            timer.complete(clock);
            if self.is_base_due {
                self.rebase();
            }
        }
    }

    pub(super) fn break_range(&mut self) {
        if let Value::Timer(timer) = &mut self.value {
            timer.break_range();
        }
    }

    /// Makes everything so far the zero; what is not known of it yet, once it is. `is_whole`: all of one state came just
    /// now.
    pub(super) fn set_zero(&mut self, is_whole: bool) {
        if self.is_seen && (is_whole || !self.has_buckets()) {
            self.rebase();
        } else {
            self.is_base_due = true;
        }
    }

    fn rebase(&mut self) {
        self.is_base_due = false;
        match &mut self.value {
            Value::Counter { said, base } => *base = *said,
            Value::Gauge(gauge) => gauge.rebase(),
            Value::Timer(timer) => timer.rebase(),
        }
    }

    /// The device has ended.
    pub(super) fn end(&mut self, clock: &DeviceClock) {
        if let Value::Timer(timer) = &mut self.value {
            timer.end(clock);
        }
    }

    /// Whether there is anything to tell: a gauge that was never set has no value, and the buckets of a timer may not be
    /// known.
    pub(super) fn is_shown(&self) -> bool {
        let is_known = match &self.value {
            Value::Counter { .. } => true,
            Value::Gauge(gauge) => gauge.last.is_some(),
            Value::Timer(timer) => timer.is_whole(),
        };
        self.is_seen && !self.is_base_due && is_known
    }

    /// Appends the state to a frame. Buckets are absolute in every frame: a device has few, and so no reader has
    /// to wait for a key frame that they refer to.
    pub(super) fn push(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        let mut scratch = [0; BUCKET_BYTES_MAX];
        let state = match &self.value {
            Value::Counter { said, base } => State::Counter { sum: said.wrapping_sub(*base) },
            Value::Gauge(gauge) => {
                let Some((last, last_ms)) = gauge.last else { return Ok(()) };
                State::Gauge { sets: gauge.sets, last, last_ms, min: last, max: last }
            }
            Value::Timer(timer) => {
                let shown = timer.show();
                State::Timer {
                    count: shown.count,
                    sum_ns: shown.sum_ns,
                    sum_squares_ns2: shown.sum_squares_ns2,
                    window_ns: shown.window_ns,
                    histogram: histogram_state(shown.histogram, &mut scratch),
                }
            }
        };
        let mut entry = Entry::new(&self.name, state);
        (entry.source, entry.unit) = (&self.source, &self.unit);
        entry.tags = self.tags.iter().map(|(key, value)| (&**key, &**value)).collect();
        encoder.push(&entry)
    }

    pub(super) const fn kind(&self) -> Kind {
        self.form.kind()
    }

    /// Adds it to a sample frame; its index there.
    pub(super) fn add_to<B>(&self, encoder: &mut SamplesEncoder<B>) -> Result<u16, EncodeError>
    where
        B: AsRef<[u8]> + AsMut<[u8]>,
    {
        let mut metric = SampleMetric::new(self.kind(), &self.name);
        (metric.source, metric.unit) = (&self.source, &self.unit);
        metric.tags = self.tags.iter().map(|(key, value)| (&**key, &**value)).collect();
        encoder.add_metric(&metric)
    }

    /// A frame has the state.
    pub(super) fn hand_out(&mut self) {
        self.is_dirty = false;
        if let Value::Timer(timer) = &mut self.value {
            timer.start_window();
        }
    }
}

/// Whether a gauge was set, or why not.
const fn is_set(set: Set) -> Result<bool, &'static str> {
    match set {
        Set::Not => Ok(false),
        Set::To => Ok(true),
        Set::Back => Err(WENT_BACK),
        Set::NotFinite => Err(NOT_FINITE),
    }
}

fn histogram_state<'a>(
    histogram: &Histogram<HostCells>,
    scratch: &'a mut [u8; BUCKET_BYTES_MAX],
) -> HistogramState<'a> {
    let counts = histogram.cells_from_offset().map(|(_, count)| count);
    // Cannot fail: the scratch holds the longest encoding.
    let used = encode_buckets(counts, scratch).unwrap_or(0);
    let (scale, zero, offset) = (histogram.scale(), histogram.zero(), histogram.offset());
    HistogramState { scale, zero, base: 0, offset, counts: &scratch[..used] }
}
