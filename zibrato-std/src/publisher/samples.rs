//! The wire `samples`: what the drain takes from the rings, also as single samples (WIRE.md section 14).
//!
//! Samples are events: they are handed over once, and what no socket takes is lost and counted. They stand
//! beside the state and change nothing of it: a record is folded whatever becomes of its sample.
//!
//! Invariants: nothing is encoded of a level that nobody asked samples of; what waits is bounded by
//! [`FRAMES_WAITING_MAX`]; a number is used up when a socket took its sample, and only then.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use zibrato_core::clock;
use zibrato_core::frame::{
    EncodeError, LossReason, PublisherId, SampleMetric, SampleValue, SamplesEncoder, SamplesHeader,
    TOPIC_SAMPLES, set_numbers, topic,
};
use zibrato_core::kind::Kind;
use zibrato_core::metric::Metric;
use zibrato_core::record::{Record, TimerValue};

use super::{CLASH_SLOT, Publisher, SeriesKey};
use crate::links::Offered;

/// Length of a sample frame's buffer, in bytes. Smaller than a frame may be, since brokers bound what waits
/// for a slow subscriber by the number of messages.
const FRAME_BYTES: usize = 16 * 1_024;
/// How long a frame that is not full waits for more samples.
const FRAME_AGE_MAX: Duration = Duration::from_millis(50);
/// Most frames that wait for the sockets while a pass is made; samples beyond are lost. They take 4 MiB.
pub(super) const FRAMES_WAITING_MAX: usize = 256;
/// How often a sample is tried: in the frame that is begun, and in a new one.
const TRIES: usize = 2;

/// A frame that is to be offered.
#[derive(Debug)]
pub(crate) struct SampleMessage {
    level: usize,
    pub(crate) label: &'static str,
    samples: u64,
    /// What the frame says was lost.
    lost: u64,
    pub(crate) bytes: Vec<u8>,
}

/// Samples on their way from records to frames.
#[derive(Debug)]
pub(crate) struct Samples {
    publisher: PublisherId,
    source: String,
    /// Prefixes of sample topics that somebody subscribes to. Topics and not labels: a level may get its
    /// first metric long after its subscriber.
    subscribed: Vec<Vec<u8>>,
    levels: Vec<LevelSamples>,
    /// By address of the metric.
    places: HashMap<usize, Place>,
    waiting: VecDeque<SampleMessage>,
    /// Unix nanoseconds of this pass. A wall clock that is set back does not take it with it.
    time_ns: u64,
    /// Numbers the frames, so that a place in an older one is known as such; from 1.
    frames: u64,
    /// Lost since [`Samples::take_lost`].
    lost: u64,
}

/// What is known of one level.
#[derive(Debug)]
struct LevelSamples {
    label: &'static str,
    is_on: bool,
    /// Number of the next sample.
    next: u64,
    lost: u64,
    /// What the last frame that a socket took said of it.
    lost_told: u64,
    frame: Option<Building>,
}

/// A frame that takes more samples.
#[derive(Debug)]
struct Building {
    number: u64,
    encoder: SamplesEncoder<Box<[u8]>>,
    since: Instant,
}

/// Where a metric's samples go: its level, and its index in the frame of that number.
#[derive(Clone, Copy, Debug)]
struct Place {
    level: usize,
    frame: u64,
    index: u16,
}

impl Samples {
    pub(crate) fn new(publisher: PublisherId, source: &str) -> Self {
        Self {
            publisher,
            source: source.to_owned(),
            subscribed: Vec::new(),
            levels: Vec::new(),
            places: HashMap::new(),
            waiting: VecDeque::new(),
            time_ns: 0,
            frames: 0,
            lost: 0,
        }
    }

    /// Says what somebody subscribes to. What was begun of a level that nobody wants any more goes away,
    /// and is not lost: nobody asks for it.
    fn set_subscribed(&mut self, topics: Vec<Vec<u8>>) {
        self.subscribed = topics;
        for level in &mut self.levels {
            level.is_on = is_wanted(&self.subscribed, level.label);
            if !level.is_on {
                level.frame = None;
            }
        }
    }

    const fn is_on(&self) -> bool {
        !self.subscribed.is_empty()
    }

    /// Reads the wall clock, if anybody wants samples.
    pub(super) fn start_pass(&mut self) {
        if self.is_on() {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            self.time_ns = self.time_ns.max(now.map_or(0, |since| since.as_nanos() as u64));
        }
    }

    fn push(&mut self, metric: &'static Metric, value: SampleValue) {
        let mut place = self.place(metric);
        if !self.levels[place.level].is_on {
            return;
        }
        if self.waiting.len() < FRAMES_WAITING_MAX {
            for _ in 0..TRIES {
                if self.try_push(&mut place, metric, value).is_ok() {
                    return;
                }
                self.end_frame(place.level);
            }
        }
        self.lose(place.level, 1);
    }

    /// Puts a sample into the frame of its level, which is begun if there is none.
    fn try_push(
        &mut self,
        place: &mut Place,
        metric: &'static Metric,
        value: SampleValue,
    ) -> Result<(), EncodeError> {
        let time_ns = self.time_ns;
        let frame = self.frame(place.level)?;
        if place.frame != frame.number {
            place.index = frame.encoder.add_metric(&sample_metric(metric))?;
            place.frame = frame.number;
            let place = *place;
            self.places.insert(address(metric), place);
            return self.frame(place.level)?.encoder.push(place.index, time_ns, value);
        }
        frame.encoder.push(place.index, time_ns, value)
    }

    fn frame(&mut self, level: usize) -> Result<&mut Building, EncodeError> {
        let LevelSamples { label, frame, .. } = &mut self.levels[level];
        match frame {
            Some(frame) => Ok(frame),
            None => {
                // Both numbers are set when the frame is offered.
                let header = SamplesHeader::new(self.publisher, 0, 0);
                let buffer = vec![0; FRAME_BYTES].into_boxed_slice();
                let encoder = SamplesEncoder::new(buffer, label, &header, self.time_ns, &self.source)?;
                self.frames += 1;
                Ok(frame.insert(Building { number: self.frames, encoder, since: Instant::now() }))
            }
        }
    }

    /// Has the frame of a level wait for the sockets, if there is one.
    fn end_frame(&mut self, level: usize) {
        let Some(Building { mut encoder, .. }) = self.levels[level].frame.take() else { return };
        let samples = encoder.samples();
        if self.waiting.len() == FRAMES_WAITING_MAX {
            self.lose(level, samples);
            return;
        }
        let length = encoder.finish().len();
        let mut bytes = encoder.into_buffer().into_vec();
        bytes.truncate(length);
        let label = self.levels[level].label;
        self.waiting.push_back(SampleMessage { level, label, samples, lost: 0, bytes });
    }

    /// Ends the frames that waited long enough, or all. A level that lost samples and has none gets an empty
    /// frame to tell it by.
    fn end_frames(&mut self, all: bool) {
        for level in 0..self.levels.len() {
            let LevelSamples { is_on, lost, lost_told, frame, .. } = &self.levels[level];
            let is_due = match frame {
                Some(frame) => all || frame.since.elapsed() >= FRAME_AGE_MAX,
                None => {
                    if *is_on && lost != lost_told {
                        // Cannot fail: an empty frame fits. It waits as any other.
                        let _ = self.frame(level);
                    }
                    all
                }
            };
            if is_due {
                self.end_frame(level);
            }
        }
    }

    fn take_waiting(&mut self) -> Option<SampleMessage> {
        let mut message = self.waiting.pop_front()?;
        let level = &self.levels[message.level];
        message.lost = level.lost;
        set_numbers(&mut message.bytes, level.label, level.next, level.lost);
        Some(message)
    }

    fn note(&mut self, message: &SampleMessage, offered: Offered) {
        let level = &mut self.levels[message.level];
        match offered {
            Offered::Taken => {
                level.next += message.samples;
                level.lost_told = message.lost;
            }
            Offered::Refused => self.lose(message.level, message.samples),
            Offered::Unwanted => {}
        }
    }

    /// Counts samples of a metric that there never were, since its records did not go through a ring.
    pub(super) fn lose_spilled(&mut self, metric: &'static Metric, count: u64) {
        if self.is_on() {
            let level = self.place(metric).level;
            if self.levels[level].is_on {
                self.lose(level, count);
            }
        }
    }

    fn lose(&mut self, level: usize, samples: u64) {
        self.levels[level].lost += samples;
        self.lost += samples;
    }

    /// What was lost since the last call, all levels.
    pub(super) const fn take_lost(&mut self) -> u64 {
        std::mem::replace(&mut self.lost, 0)
    }

    fn place(&mut self, metric: &'static Metric) -> Place {
        if let Some(place) = self.places.get(&address(metric)) {
            return *place;
        }
        let label = metric.level().label();
        let level = self.levels.iter().position(|level| level.label == label).unwrap_or_else(|| {
            let is_on = is_wanted(&self.subscribed, label);
            self.levels.push(LevelSamples { label, is_on, next: 0, lost: 0, lost_told: 0, frame: None });
            self.levels.len() - 1
        });
        let place = Place { level, frame: 0, index: 0 };
        self.places.insert(address(metric), place);
        place
    }
}

impl Publisher {
    /// Says who subscribes to samples, by prefixes of their topics. Whether that is another set.
    pub(crate) fn samples_differ(&self, topics: &[Vec<u8>]) -> bool {
        self.samples.as_ref().is_some_and(|samples| samples.subscribed != topics)
    }

    /// Says who subscribes to samples, by prefixes of their topics.
    pub(crate) fn set_samples_subscribed(&mut self, topics: Vec<Vec<u8>>) {
        if let Some(samples) = &mut self.samples {
            samples.set_subscribed(topics);
        }
    }

    /// Encodes records that were folded just now.
    #[cold]
    pub(super) fn sample(&mut self, records: &[Record]) {
        let Some(mut samples) = self.samples.take() else { return };
        if samples.is_on() {
            for record in records {
                if let Some(value) = self.sample_value(record) {
                    samples.push(record.metric, value);
                }
            }
            self.losses.add(LossReason::Samples, samples.take_lost());
        }
        self.samples = Some(samples);
    }

    /// What a record says, if it was not refused.
    fn sample_value(&self, record: &Record) -> Option<SampleValue> {
        let Record { metric, value } = *record;
        if metric.slot() == CLASH_SLOT || self.has_clash(metric.slot()) {
            return None;
        }
        match metric.kind() {
            Kind::Timer => Some(SampleValue::Timer { ns: duration_ns(value) }),
            Kind::Gauge => {
                let value = f64::from_bits(value);
                value.is_finite().then_some(SampleValue::Gauge { value })
            }
            // A counter never goes through a ring.
            Kind::Counter => None,
        }
    }

    /// Ends the frames of samples that waited long enough, or all of them.
    pub(crate) fn end_sample_frames(&mut self, all: bool) {
        if let Some(samples) = &mut self.samples {
            samples.end_frames(all);
            self.losses.add(LossReason::Samples, samples.take_lost());
        }
    }

    /// The next frame that is to be offered.
    pub(crate) fn take_sample_message(&mut self) -> Option<SampleMessage> {
        self.samples.as_mut()?.take_waiting()
    }

    /// Most frames that can wait at a time.
    pub(crate) const SAMPLE_MESSAGES_MAX: usize = FRAMES_WAITING_MAX;

    /// Ends the samples: what was not offered is lost, and no more are made.
    pub(crate) fn end_samples(&mut self) {
        let Some(samples) = self.samples.take() else { return };
        let begun = samples.levels.iter().flat_map(|level| &level.frame);
        let waiting: u64 = samples.waiting.iter().map(|message| message.samples).sum();
        let rest = waiting + begun.map(|frame| frame.encoder.samples()).sum::<u64>();
        self.losses.add(LossReason::Samples, rest);
    }

    /// Notes what became of a frame.
    pub(crate) fn note_sample_message(&mut self, message: &SampleMessage, offered: Offered) {
        if let Some(samples) = &mut self.samples {
            samples.note(message, offered);
            self.losses.add(LossReason::Samples, samples.take_lost());
        }
    }
}

/// A metric as a frame has it. Samples carry their metric's own texts, also where its state is in an overflow
/// series: a frame's list of metrics is short in any case.
fn sample_metric(metric: &'static Metric) -> SampleMetric<'static> {
    let key = SeriesKey::of(metric);
    SampleMetric {
        kind: metric.kind(),
        name: key.name(),
        source: key.source(),
        unit: key.unit(),
        tags: key.tags(),
    }
}

fn duration_ns(value: u64) -> u64 {
    match TimerValue::from_bits(value) {
        TimerValue::Ticks(ticks) => clock::to_ns(ticks),
        TimerValue::Nanoseconds(ns) => ns,
        // As the state counts it.
        TimerValue::Backwards => 0,
    }
}

fn is_wanted(subscribed: &[Vec<u8>], label: &str) -> bool {
    let full = topic(TOPIC_SAMPLES, label);
    full.is_some_and(|full| subscribed.iter().any(|topic| full.starts_with(topic)))
}

fn address(metric: &'static Metric) -> usize {
    std::ptr::from_ref(metric).addr()
}
