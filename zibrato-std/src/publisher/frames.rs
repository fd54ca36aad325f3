//! Frames from series state: delta, key, end and heartbeat.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use zibrato_core::Drain;
use zibrato_core::frame::{
    About, BucketRuns, EncodeError, Encoder, Entry, Flags, Header, HistogramState, Prelude, State,
    encode_buckets, set_parts,
};
use zibrato_core::histogram::{Histogram, HostCells};
use zibrato_core::limits::{HISTOGRAM_BUCKETS_MAX, KEY_FRAME_WINDOWS, PARTS_MAX};

use crate::links::Frames;

use super::{Identity, Publisher, SERIES_AT_ONCE, Series, SeriesState, TimerState};

/// Largest encoding of the buckets of one histogram, in bytes: ten for each.
const BUCKET_BYTES_MAX: usize = HISTOGRAM_BUCKETS_MAX * 10;

/// What kind of frame to make.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FrameKind {
    /// The series that changed.
    Delta,
    /// All series.
    Key,
    /// All series, for the last time.
    End,
    /// None: nothing changed.
    Heartbeat,
}

/// Unix time in milliseconds.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

impl Publisher {
    /// Which frame `level` needs at the end of a window, or `None` if it never had a series.
    pub(crate) fn due(&mut self, level: usize) -> Option<FrameKind> {
        let state = &mut self.levels[level];
        if state.series.is_empty() {
            return None;
        }
        state.windows_since_key += 1;
        let key = state.wants_key || state.windows_since_key >= KEY_FRAME_WINDOWS;
        Some(match key {
            true => FrameKind::Key,
            false if self.levels[level].series.iter().any(|&index| self.is_dirty(index)) => FrameKind::Delta,
            false => FrameKind::Heartbeat,
        })
    }

    /// Makes the frame and counts its series as handed out. Records are drained meanwhile, and a series
    /// has what came until its turn; but not from the first end frame on, which has all that counts.
    pub(crate) fn encode(&mut self, drain: &mut Drain, level: usize, kind: FrameKind) -> Frames {
        self.window_end_ms = self.window_end_ms.max(now_ms());
        let mut buffer = std::mem::take(&mut self.buffer);
        let frames = self.encode_into(&mut buffer, drain, level, kind);
        self.buffer = buffer;
        frames
    }

    fn encode_into(&mut self, buffer: &mut [u8], drain: &mut Drain, level: usize, kind: FrameKind) -> Frames {
        let is_key = matches!(kind, FrameKind::Key | FrameKind::End);
        let is_heartbeat = kind == FrameKind::Heartbeat;
        if kind == FrameKind::End && !self.is_ending {
            self.is_ending = true;
            self.end_waiting_calls();
        }
        let (last_seq, key_seq) = (self.levels[level].seq, self.levels[level].key_seq);
        let frame_seq = if is_heartbeat { last_seq } else { last_seq + 1 };
        let selected = if is_heartbeat { Vec::new() } else { self.selected(drain, level, is_key) };
        let mut header = Header::new(self.identity.id, frame_seq);
        header.flags = Flags { key: is_key, end: kind == FrameKind::End, heartbeat: is_heartbeat };
        header.age_ms = self.identity.started.elapsed().as_millis() as u64;
        let window_ms =
            if is_heartbeat { 0 } else { self.levels[level].since_handed_out().as_millis() as u32 };
        let identity = Arc::clone(&self.identity);
        let prelude = self.prelude(&identity, window_ms, is_key);
        let base = if is_key { 0 } else { key_seq };
        let mut parts = Vec::new();
        let mut left = selected.as_slice();
        while parts.is_empty() || (!left.is_empty() && parts.len() < PARTS_MAX) {
            let Some((part, used)) = self.encode_part(buffer, drain, level, &header, &prelude, left, base)
            else {
                break;
            };
            parts.push(part);
            left = &left[used..];
            header.seq += 1;
        }
        let of = parts.len() as u16;
        let label = self.levels[level].label;
        for (part, bytes) in parts.iter_mut().enumerate() {
            set_parts(bytes, label, part as u16, of);
        }
        if !is_heartbeat {
            let state = &mut self.levels[level];
            state.handed_out = Instant::now();
            state.seq += parts.len() as u64;
            if is_key {
                (state.key_seq, state.windows_since_key, state.wants_key) = (frame_seq, 0, false);
            }
        }
        Frames { frame_seq, parts: parts.into_iter().map(Arc::from).collect() }
    }

    fn selected(&mut self, drain: &mut Drain, level: usize, all: bool) -> Vec<u32> {
        let mut selected = Vec::new();
        for at in 0..self.levels[level].series.len() {
            if at % SERIES_AT_ONCE == 0 {
                self.give_way(drain);
            }
            let index = self.levels[level].series[at];
            if all || self.is_dirty(index) {
                selected.push(index);
            }
        }
        selected
    }

    /// Whether a series changed since a frame had its state.
    fn is_dirty(&self, index: u32) -> bool {
        let series = &self.series[index as usize];
        match series.state {
            SeriesState::Timer { at } => self.timers[at as usize].dirty,
            SeriesState::Counter { .. } | SeriesState::Gauge { .. } => series.dirty,
        }
    }

    /// Encodes as many of `series` as fit and counts them as handed out; how many that were. `None` if
    /// not even the prelude fits, which texts within their limits rule out.
    #[expect(clippy::too_many_arguments, reason = "all that a part differs by, named where it is called")]
    fn encode_part(
        &mut self,
        buffer: &mut [u8],
        drain: &mut Drain,
        level: usize,
        header: &Header,
        prelude: &Prelude<'_>,
        series: &[u32],
        base: u64,
    ) -> Option<(Vec<u8>, usize)> {
        let mut encoder = Encoder::new(buffer, self.levels[level].label, header, prelude).ok()?;
        let mut used = 0;
        let mut scratch = [0; BUCKET_BYTES_MAX];
        for &index in series {
            self.give_way(drain);
            let series = &mut self.series[index as usize];
            series.state.end_window(prelude.window_end_ms);
            let pushed = encoder.push(&series.entry(&self.timers, base, &mut scratch));
            match pushed {
                Ok(()) => {
                    used += 1;
                    self.hand_out(index, header.flags.key);
                }
                Err(EncodeError::Full) if used > 0 => break,
                // A series whose texts were checked when it was made always fits alone.
                Err(_) => return None,
            }
        }
        Some((encoder.finish().to_vec(), used))
    }

    fn prelude<'a>(&self, identity: &'a Identity, window_ms: u32, about: bool) -> Prelude<'a> {
        Prelude {
            window_end_ms: self.window_end_ms,
            window_ms,
            source: &identity.source,
            losses: self.losses.to_wire(),
            about: about.then_some(About {
                program: &identity.program,
                host: &identity.host,
                pid: identity.pid,
                library: env!("CARGO_PKG_VERSION"),
            }),
        }
    }

    /// Notes that a frame has the state of a series.
    fn hand_out(&mut self, index: u32, is_key: bool) {
        let series = &mut self.series[index as usize];
        series.dirty = false;
        match &mut series.state {
            SeriesState::Counter { .. } => {}
            SeriesState::Gauge { gauge, .. } => gauge.start_window(),
            SeriesState::Timer { at } => self.timers[*at as usize].handed_out(is_key),
        }
    }
}

impl Series {
    /// The entry with this series' state; `base` names the key frame that buckets are to be
    /// differences to, 0 for absolute counts.
    fn entry<'a>(
        &'a self,
        timers: &'a [TimerState],
        base: u64,
        scratch: &'a mut [u8; BUCKET_BYTES_MAX],
    ) -> Entry<'a> {
        let state = match &self.state {
            SeriesState::Counter { sum } => State::Counter { sum: *sum },
            SeriesState::Gauge { gauge, .. } => gauge.state(),
            SeriesState::Timer { at } => timers[*at as usize].state(base, scratch),
        };
        let key = &self.key;
        Entry { name: key.name(), source: key.source(), unit: key.unit(), tags: key.tags(), state }
    }
}

impl TimerState {
    fn state<'a>(&self, base: u64, scratch: &'a mut [u8; BUCKET_BYTES_MAX]) -> State<'a> {
        let timer = &self.timer;
        let histogram = match &self.base {
            Some(_) if base != 0 => histogram_state(&timer.histogram, base, scratch),
            Some(then) => histogram_state(&then.plus(&timer.histogram), 0, scratch),
            None => histogram_state(&timer.histogram, 0, scratch),
        };
        State::Timer {
            count: timer.count,
            sum_ns: timer.sum_ns,
            sum_squares_ns2: timer.sum_squares_ns2,
            window_ns: timer.window_ns,
            histogram,
        }
    }

    fn handed_out(&mut self, is_key: bool) {
        self.dirty = false;
        self.timer.start_window();
        if is_key {
            let grown = &mut self.timer.histogram;
            let total = self.base.as_ref().map(|then| then.plus(grown));
            let total = total.as_ref().unwrap_or(grown);
            let (packed, scale) = (Packed::of(total), total.scale());
            self.base = Some(Box::new(packed));
            // What grows from here on is no finer than what it is added to.
            grown.downscale_to(scale);
            grown.clear();
        }
    }
}

impl SeriesState {
    /// Closes a gauge's window; a timer's is closed when its state is handed out.
    fn end_window(&mut self, now_ms: u64) {
        if let Self::Gauge { gauge, set_by } = self {
            gauge.end_window(now_ms, set_by.spill().last());
        }
    }
}

/// A histogram at the last key frame, as the wire has it: a few bytes a bucket.
#[derive(Debug)]
pub(super) struct Packed {
    scale: i8,
    zero: u64,
    offset: i32,
    counts: Box<[u8]>,
}

impl Packed {
    fn of(histogram: &Histogram<HostCells>) -> Self {
        let mut scratch = [0; BUCKET_BYTES_MAX];
        let HistogramState { scale, zero, offset, counts, .. } = histogram_state(histogram, 0, &mut scratch);
        Self { scale, zero, offset, counts: counts.into() }
    }

    /// These counts and what they have grown by.
    fn plus(&self, grown: &Histogram<HostCells>) -> Histogram<HostCells> {
        let then = BucketRuns::new(&self.counts);
        let mut total = Histogram::from_parts(self.scale, self.zero, self.offset, then);
        total.merge(grown);
        total
    }
}

fn histogram_state<'a>(
    histogram: &Histogram<HostCells>,
    base: u64,
    scratch: &'a mut [u8; BUCKET_BYTES_MAX],
) -> HistogramState<'a> {
    let counts = histogram.cells_from_offset().map(|(_, count)| count);
    // Cannot fail: the scratch holds the longest encoding.
    let used = encode_buckets(counts, scratch).unwrap_or(0);
    let (scale, zero, offset) = (histogram.scale(), histogram.zero(), histogram.offset());
    HistogramState { scale, zero, base, offset, counts: &scratch[..used] }
}
