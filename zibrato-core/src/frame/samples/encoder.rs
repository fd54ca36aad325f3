//! Writes a sample frame.

use super::super::EncodeError;
use super::super::buckets::put_varint;
use super::super::header::TOPIC_SAMPLES;
use super::{
    BODY_BYTES_AT, FIRST_AT, LOST_AT, PUBLISHER_AT, SAMPLES_HEADER_BYTES, SampleMetric, SampleValue,
    SamplesHeader, check_texts, zigzag,
};
use crate::kind::Kind;
use crate::limits::{FRAME_BYTES_MAX, SAMPLE_METRICS_MAX};
use crate::text::Field;

/// The share of the buffer that is kept for metrics while samples come, one in so many bytes.
const METRICS_SHARE: usize = 4;
/// Longest varint of a number of metrics, in bytes.
const COUNT_BYTES_MAX: usize = 2;
/// Longest sample, in bytes: an index, a time and a value.
const SAMPLE_BYTES_MAX: usize = 2 + 10 + 10;
/// A gauge's value is written as a whole number if that takes no more bytes than this, which is what it
/// takes else.
const F64_BYTES: usize = 8;

/// Writes one sample frame into a buffer, borrowed or owned: `&mut [u8]`, `Box<[u8]>`, `[u8; N]`.
///
/// Metrics and samples may come in any order. On the wire all metrics stand in front; so a quarter of the
/// buffer is kept for those that come behind the first sample, and samples move up when the frame ends.
#[derive(Debug)]
pub struct SamplesEncoder<B> {
    buffer: B,
    /// The frame's end, and the buffer's at most.
    limit: usize,
    header_at: usize,
    /// Where the number of metrics will stand; from there [`COUNT_BYTES_MAX`] are free until the end.
    count_at: usize,
    metrics_end: usize,
    samples_at: usize,
    samples_end: usize,
    metrics: u16,
    samples: u64,
    last_ns: u64,
    /// Two bits for each metric.
    kinds: [u8; SAMPLE_METRICS_MAX / 4],
    is_finished: bool,
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> SamplesEncoder<B> {
    /// Starts a frame of at most the buffer's length, and never more than [`FRAME_BYTES_MAX`].
    /// `time_ns` is the time of its first sample, unix nanoseconds.
    ///
    /// # Errors
    /// [`EncodeError::Full`] if topic, header, time and source do not fit; [`EncodeError::Text`] if
    /// level or source is not accepted.
    pub fn new(
        mut buffer: B,
        level: &str,
        header: &SamplesHeader,
        time_ns: u64,
        source: &str,
    ) -> Result<Self, EncodeError> {
        if !Field::Level.accepts(level) || !Field::Source.accepts(source) {
            return Err(EncodeError::Text);
        }
        let bytes = buffer.as_mut();
        let limit = bytes.len().min(FRAME_BYTES_MAX);
        let (bytes, header_at) = (&mut bytes[..limit], level.len() + 2);
        let mut at = header_at + SAMPLES_HEADER_BYTES;
        if limit < at {
            return Err(EncodeError::Full);
        }
        bytes[0] = TOPIC_SAMPLES;
        bytes[1..=level.len()].copy_from_slice(level.as_bytes());
        bytes[level.len() + 1] = 0;
        let head = &mut bytes[header_at..at];
        head[0] = header.version;
        head[PUBLISHER_AT..FIRST_AT].copy_from_slice(&header.publisher.0);
        write_numbers(head, header.first, header.lost);
        head[BODY_BYTES_AT..].fill(0);
        at += put_varint(time_ns, &mut bytes[at..]).ok_or(EncodeError::Full)?;
        at += put_varint(source.len() as u64, &mut bytes[at..]).ok_or(EncodeError::Full)?;
        let text = bytes.get_mut(at..at + source.len()).ok_or(EncodeError::Full)?;
        text.copy_from_slice(source.as_bytes());
        let count_at = at + source.len();
        let metrics_end = count_at + COUNT_BYTES_MAX;
        let room = limit.checked_sub(metrics_end).ok_or(EncodeError::Full)?;
        let samples_at = metrics_end + room / METRICS_SHARE;
        Ok(Self {
            buffer,
            limit,
            header_at,
            count_at,
            metrics_end,
            samples_at,
            samples_end: samples_at,
            metrics: 0,
            samples: 0,
            last_ns: time_ns,
            kinds: [0; SAMPLE_METRICS_MAX / 4],
            is_finished: false,
        })
    }

    /// Adds a metric and returns its index, for [`SamplesEncoder::push`].
    ///
    /// # Errors
    /// [`EncodeError::Full`] if it does not fit or there are [`SAMPLE_METRICS_MAX`]; the frame is then as
    /// it was before the call. [`EncodeError::Text`] if a text or the order of tags is not accepted.
    pub fn add_metric(&mut self, metric: &SampleMetric<'_>) -> Result<u16, EncodeError> {
        let SampleMetric { kind, name, source, unit, tags } = metric;
        check_texts(name, source, unit, tags).map_err(|_| EncodeError::Text)?;
        if self.is_finished || usize::from(self.metrics) == SAMPLE_METRICS_MAX {
            return Err(EncodeError::Full);
        }
        // Until there is a sample, all of the room is the metrics'.
        let end = if self.samples == 0 { self.limit } else { self.samples_at };
        let room = &mut self.buffer.as_mut()[self.metrics_end..end];
        let used = postcard::to_slice(&(kind.code(), name, source, unit, tags), room);
        self.metrics_end += used.map_err(|_| EncodeError::Full)?.len();
        if self.samples == 0 {
            self.samples_at = self.samples_at.max(self.metrics_end);
            self.samples_end = self.samples_at;
        }
        let index = self.metrics;
        let (byte, shift) = place(index);
        self.kinds[byte] = self.kinds[byte] & !(3 << shift) | kind.code() << shift;
        self.metrics += 1;
        Ok(index)
    }

    /// Appends a sample of the metric with this index. A time before that of the last sample counts as
    /// that: times do not go back within a frame.
    ///
    /// # Errors
    /// [`EncodeError::Full`] if it does not fit; the frame is then as it was before the call.
    /// [`EncodeError::Sample`] if there is no such metric, or the value is of another kind or not finite.
    pub fn push(&mut self, metric: u16, time_ns: u64, value: SampleValue) -> Result<(), EncodeError> {
        if metric >= self.metrics || self.kind(metric) != value.kind().code() {
            return Err(EncodeError::Sample);
        }
        let mut bytes = [0; SAMPLE_BYTES_MAX];
        let time_ns = time_ns.max(self.last_ns);
        let mut at = 0;
        let mut put = |value: u64| {
            let used = put_varint(value, &mut bytes[at..])?;
            at += used;
            Some(used)
        };
        let (whole, float) = match value {
            SampleValue::Counter { increment } => (Some(increment), None),
            SampleValue::Timer { ns } => (Some(ns), None),
            SampleValue::Gauge { value } if !value.is_finite() => return Err(EncodeError::Sample),
            SampleValue::Gauge { value } => match as_whole(value) {
                Some(bits) => (Some(bits), None),
                None => (None, Some(value)),
            },
        };
        let is_whole = value.kind() == Kind::Gauge && whole.is_some();
        // Cannot fail: the array holds the longest sample.
        let _ = put(u64::from(metric) << 1 | u64::from(is_whole));
        let _ = put(time_ns - self.last_ns);
        if let Some(whole) = whole {
            let _ = put(whole);
        }
        if let Some(float) = float {
            bytes[at..at + F64_BYTES].copy_from_slice(&float.to_le_bytes());
            at += F64_BYTES;
        }
        if self.is_finished || at > self.limit - self.samples_end {
            return Err(EncodeError::Full);
        }
        let end = self.samples_end + at;
        self.buffer.as_mut()[self.samples_end..end].copy_from_slice(&bytes[..at]);
        (self.samples_end, self.last_ns, self.samples) = (end, time_ns, self.samples + 1);
        Ok(())
    }

    /// Samples so far.
    #[must_use]
    pub const fn samples(&self) -> u64 {
        self.samples
    }

    /// Ends the frame and returns the message. Nothing more fits into it then.
    pub fn finish(&mut self) -> &[u8] {
        if !self.is_finished {
            self.is_finished = true;
            self.close_gaps();
        }
        &self.buffer.as_ref()[..self.samples_end]
    }

    /// The buffer, for the next frame. [`SamplesEncoder::finish`] says how much of it is the message.
    #[must_use]
    pub fn into_buffer(self) -> B {
        self.buffer
    }

    fn close_gaps(&mut self) {
        let bytes = self.buffer.as_mut();
        let metrics_at = self.count_at + COUNT_BYTES_MAX;
        // Cannot fail: two bytes hold the largest number of metrics.
        let used = put_varint(self.metrics.into(), &mut bytes[self.count_at..metrics_at]).unwrap_or(0);
        bytes.copy_within(metrics_at..self.metrics_end, self.count_at + used);
        self.metrics_end -= COUNT_BYTES_MAX - used;
        bytes.copy_within(self.samples_at..self.samples_end, self.metrics_end);
        self.samples_end -= self.samples_at - self.metrics_end;
        self.samples_at = self.metrics_end;
        let body_at = self.header_at + SAMPLES_HEADER_BYTES;
        // The frame is at most FRAME_BYTES_MAX long, so the length fits.
        let body_bytes = (self.samples_end - body_at) as u32;
        bytes[self.header_at + BODY_BYTES_AT..body_at].copy_from_slice(&body_bytes.to_le_bytes());
    }

    const fn kind(&self, metric: u16) -> u8 {
        let (byte, shift) = place(metric);
        self.kinds[byte] >> shift & 3
    }
}

/// Sets in an encoded message of `level` the number of its first sample, and how many were lost.
///
/// A publisher knows both only when it hands the message over.
pub fn set_numbers(message: &mut [u8], level: &str, first: u64, lost: u64) {
    let header = message.get_mut(level.len() + 2..);
    if let Some(header) = header.filter(|header| header.len() >= SAMPLES_HEADER_BYTES) {
        write_numbers(header, first, lost);
    }
}

fn write_numbers(header: &mut [u8], first: u64, lost: u64) {
    header[FIRST_AT..LOST_AT].copy_from_slice(&first.to_le_bytes());
    header[LOST_AT..BODY_BYTES_AT].copy_from_slice(&lost.to_le_bytes());
}

/// Where the two bits of a metric's kind stand.
const fn place(metric: u16) -> (usize, u8) {
    (metric as usize / 4, (metric % 4) as u8 * 2)
}

/// The zig-zag varint of a value that is a whole number, if that takes no more bytes than the value itself. A
/// negative zero is none: it would come back as 0.
fn as_whole(value: f64) -> Option<u64> {
    let whole = value as i64;
    let bits = zigzag(whole);
    let is_exact = (whole as f64).to_bits() == value.to_bits();
    (is_exact && bits < 1 << (7 * F64_BYTES)).then_some(bits)
}
