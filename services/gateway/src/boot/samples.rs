//! A device's samples as native sample frames (WIRE.md section 14).
//!
//! They are events: they wait for the next turn and no longer, and only for who asked for them. A time is the one at which
//! the device made the sample, which its clock tells.

use zibrato_core::frame::{EncodeError, SampleValue as Native, SamplesEncoder, SamplesHeader, set_numbers};
use zibrato_core::link::{Sample, SampleValue, Samples};

use super::{Boot, Level};
use crate::moment::Moment;

/// Most samples that wait for the next turn; further ones are lost, counted.
const SAMPLES_MAX: usize = 16_384;

/// Largest message, in bytes: a broker bounds what waits for a reader by the number of messages.
const MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// A sample that waits for the next turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    id: u16,
    time_ns: u64,
    value: Native,
}

/// A sample frame.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) level: usize,
    pub(crate) samples: u64,
    pub(crate) bytes: Vec<u8>,
}

impl Boot {
    /// Takes in the samples of a link frame; how many came.
    pub(crate) fn samples(&mut self, samples: &Samples<'_>, now: Moment) -> u64 {
        let mut came = 0;
        for sample in samples.iter().filter_map(Result::ok) {
            came += 1;
            let Some(Some(metric)) = self.metrics.get(usize::from(sample.id)) else { continue };
            let (level, Some(value)) = (metric.level, self.native(&sample)) else { continue };
            if self.waiting.len() < SAMPLES_MAX {
                let time_ns = self.sample_ns(sample.time, now);
                self.waiting.push(Waiting { id: sample.id, time_ns, value });
            } else {
                self.levels[level].samples_lost += 1;
            }
        }
        came
    }

    fn native(&self, sample: &Sample) -> Option<Native> {
        let value = match sample.value {
            SampleValue::Increment(increment) => Native::Counter { increment: increment.into() },
            SampleValue::Ticks(ticks) => Native::Timer { ns: self.clock.duration_ns(ticks.into()) },
            SampleValue::Whole(value) => Native::Gauge { value: value.into() },
            SampleValue::Float(value) if value.is_finite() => Native::Gauge { value: value.into() },
            SampleValue::Float(_) => return None,
        };
        let metric = self.metrics[usize::from(sample.id)].as_ref()?;
        (metric.kind() == value.kind()).then_some(value)
    }

    /// The wall time of the low 32 bits of an uptime, which is within half a round of the present one.
    fn sample_ns(&self, ticks: u32, now: Moment) -> u64 {
        let uptime = self.clock.uptime_at(now);
        let later = ticks.wrapping_sub(uptime as u32).cast_signed();
        self.clock.unix_ns(uptime.saturating_add_signed(later.into()), now)
    }

    /// Whether samples wait.
    pub(crate) fn has_samples(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// What waits, as messages for the levels that somebody wants; the rest is nobody's.
    pub(crate) fn take_samples(&mut self, is_wanted: impl Fn(&str) -> bool) -> Vec<Message> {
        let mut waiting = std::mem::take(&mut self.waiting);
        // Those of several rings come in turns, and times do not go back within a frame.
        waiting.sort_by_key(|sample| sample.time_ns);
        let mut messages = Vec::new();
        for level in 0..self.levels.len() {
            if !is_wanted(&self.levels[level].label) {
                continue;
            }
            let is_of_level = |sample: &&Waiting| {
                self.metrics[usize::from(sample.id)].as_ref().is_some_and(|metric| metric.level == level)
            };
            let of_level: Vec<Waiting> = waiting.iter().filter(is_of_level).copied().collect();
            let mut left = of_level.as_slice();
            while !left.is_empty() {
                let Some(message) = self.sample_message(level, left) else { break };
                left = &left[message.samples as usize..];
                messages.push(message);
            }
        }
        messages
    }

    /// As many samples as fit one message. `None` if not even one does, which texts within their limits rule out.
    fn sample_message(&self, level: usize, samples: &[Waiting]) -> Option<Message> {
        let Level { label, samples_sent, samples_lost, .. } = &self.levels[level];
        let header = SamplesHeader::new(self.id, *samples_sent, *samples_lost);
        let buffer = vec![0; MESSAGE_BYTES_MAX].into_boxed_slice();
        let first_ns = samples.first()?.time_ns;
        let mut encoder = SamplesEncoder::new(buffer, label, &header, first_ns, &self.setting.source).ok()?;
        let mut indices: Vec<(u16, u16)> = Vec::new();
        let mut pushed = 0;
        for sample in samples {
            let known = indices.iter().find(|(id, _)| *id == sample.id).map(|(_, index)| *index);
            let index = match known {
                Some(index) => Ok(index),
                None => self.metrics[usize::from(sample.id)].as_ref()?.add_to(&mut encoder),
            };
            let result = index.and_then(|index| {
                if known.is_none() {
                    indices.push((sample.id, index));
                }
                encoder.push(index, sample.time_ns, sample.value)
            });
            match result {
                Ok(()) => pushed += 1,
                Err(EncodeError::Full) if pushed > 0 => break,
                Err(_) => return None,
            }
        }
        Some(Message { level, samples: pushed, bytes: encoder.finish().to_vec() })
    }

    /// Numbers a message: what was handed over before it is known only when its turn comes.
    pub(crate) fn number_samples(&self, message: &mut Message) {
        let Level { label, samples_sent, samples_lost, .. } = &self.levels[message.level];
        set_numbers(&mut message.bytes, label, *samples_sent, *samples_lost);
    }

    /// Notes what became of a message.
    pub(crate) fn note_samples(&mut self, message: &Message, is_taken: bool) {
        let level = &mut self.levels[message.level];
        if is_taken {
            level.samples_sent += message.samples;
        } else {
            level.samples_lost += message.samples;
        }
    }

    /// Samples that no transport took.
    pub(crate) fn samples_lost(&self) -> u64 {
        self.levels.iter().map(|level| level.samples_lost).sum()
    }
}
