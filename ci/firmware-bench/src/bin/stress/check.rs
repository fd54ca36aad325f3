//! Reads what comes over the link, as a gateway does, and counts what cannot be.

use core::convert::Infallible;

use zibrato_core::link::{Body, Frame, Receiver, SampleValue, StateValue};

use super::{CONTEXTS, ID_COUNT, ID_OWN, ID_OWN_TIMER, ID_TIMER, ID_VALUE, TICKS, stamp};

/// What comes over the link, as a gateway reads it.
pub(crate) struct Check {
    receiver: Receiver,
    /// The next sample of each context.
    pub(crate) next: [u32; CONTEXTS],
    pub(crate) samples: u32,
    /// Samples that are not the next of their context, and that are not whole.
    pub(crate) out_of_order: u32,
    pub(crate) torn: u32,
    /// Frames that are none, and states that cannot be.
    pub(crate) bad_frames: u32,
    pub(crate) bad_states: u32,
    pub(crate) count: u64,
    pub(crate) sets: u64,
    pub(crate) records: u64,
    pub(crate) ticks: u64,
    pub(crate) in_buckets: u64,
    pub(crate) own: [u64; CONTEXTS],
    pub(crate) own_records: u64,
    pub(crate) lost: u32,
}

impl Check {
    pub(crate) fn new() -> Self {
        Self {
            receiver: Receiver::new(),
            next: [0; CONTEXTS],
            samples: 0,
            out_of_order: 0,
            torn: 0,
            bad_frames: 0,
            bad_states: 0,
            count: 0,
            sets: 0,
            records: 0,
            ticks: 0,
            in_buckets: 0,
            own: [0; CONTEXTS],
            own_records: 0,
            lost: 0,
        }
    }

    fn sample(&mut self, id: u16, time: u32, value: SampleValue) {
        self.samples += 1;
        let context = usize::from(id);
        let (Some(next), SampleValue::Increment(number)) = (self.next.get_mut(context), value) else {
            self.torn += 1;
            return;
        };
        if time != stamp(context, number).0 {
            self.torn += 1;
        } else {
            self.out_of_order += u32::from(number != *next);
            *next = number.wrapping_add(1);
        }
    }

    fn state(&mut self, id: u16, value: StateValue<'_>) {
        let range_of = |records: u64, range: Option<(u32, u32)>| match range {
            Some((min, max)) => records > 0 && TICKS.0 <= min && min <= max && max <= TICKS.1,
            None => true,
        };
        // What is cumulative never falls, and a range lies in that of the durations.
        let is_possible = match value {
            StateValue::Counter { sum } if id == ID_COUNT => core::mem::replace(&mut self.count, sum) <= sum,
            StateValue::Counter { sum } if (ID_OWN..ID_OWN_TIMER).contains(&id) => {
                core::mem::replace(&mut self.own[usize::from(id - ID_OWN)], sum) <= sum
            }
            StateValue::Whole { sets, .. } if id == ID_VALUE => {
                core::mem::replace(&mut self.sets, sets) <= sets
            }
            StateValue::Timer { count, sum, range } if id == ID_TIMER => {
                self.in_buckets = 0;
                let grew = self.records <= count && self.ticks <= sum;
                (self.records, self.ticks) = (count, sum);
                grew && range_of(count, range)
            }
            StateValue::Timer { count, range, .. } if id == ID_OWN_TIMER => {
                core::mem::replace(&mut self.own_records, count) <= count && range_of(count, range)
            }
            StateValue::Buckets(buckets) if id == ID_TIMER => {
                self.in_buckets += buckets.iter().map(|(_, count)| u64::from(count)).sum::<u64>();
                true
            }
            // Of the samples' own metrics nothing is counted.
            StateValue::Counter { sum: 0 } => true,
            _ => false,
        };
        self.bad_states += u32::from(!is_possible);
    }
}

impl embedded_io::ErrorType for Check {
    type Error = Infallible;
}

impl embedded_io::Write for Check {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        for &byte in bytes {
            let payload: ([u8; 256], usize) = match self.receiver.push(byte) {
                None => continue,
                Some(Err(_)) => {
                    self.bad_frames += 1;
                    continue;
                }
                // The receiver's buffer is borrowed; the check changes.
                Some(Ok(payload)) => {
                    let mut copy = [0; 256];
                    copy[..payload.len()].copy_from_slice(payload);
                    (copy, payload.len())
                }
            };
            match Frame::parse(&payload.0[..payload.1]).map(|frame| frame.body) {
                Ok(Body::Samples(samples)) => {
                    self.lost = samples.lost;
                    for sample in samples.iter() {
                        match sample {
                            Ok(sample) => self.sample(sample.id, sample.time, sample.value),
                            Err(_) => self.bad_frames += 1,
                        }
                    }
                }
                Ok(Body::State(state)) => {
                    self.lost = state.lost;
                    for entry in state.entries() {
                        match entry {
                            Ok(entry) => self.state(entry.id, entry.value),
                            Err(_) => self.bad_frames += 1,
                        }
                    }
                }
                Ok(_) => {}
                Err(_) => self.bad_frames += 1,
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}
