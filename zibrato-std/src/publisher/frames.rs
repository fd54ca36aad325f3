//! Frames from series state: delta, key, end and heartbeat.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use zibrato_core::frame::{
    About, BucketRuns, EncodeError, Encoder, Entry, Flags, Header, HistogramState, Prelude, State,
    encode_buckets, set_parts,
};
use zibrato_core::histogram::{Histogram, HostCells};
use zibrato_core::limits::{HISTOGRAM_BUCKETS_MAX, KEY_FRAME_WINDOWS, PARTS_MAX};

use super::{Publisher, Series, SeriesState};

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

/// The parts of one frame, ready to send.
#[derive(Clone, Debug)]
pub(crate) struct Frames {
    /// `seq` of part 0.
    pub(crate) frame_seq: u64,
    pub(crate) parts: Vec<Arc<[u8]>>,
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
        let dirty = || state.series.iter().any(|&index| self.series[index as usize].dirty);
        Some(match key {
            true => FrameKind::Key,
            false if dirty() => FrameKind::Delta,
            false => FrameKind::Heartbeat,
        })
    }

    /// Makes the frame and counts its series as handed out.
    pub(crate) fn encode(&mut self, level: usize, kind: FrameKind) -> Frames {
        self.window_end_ms = self.window_end_ms.max(now_ms());
        let mut buffer = std::mem::take(&mut self.buffer);
        let frames = self.encode_into(&mut buffer, level, kind, self.window_end_ms);
        self.buffer = buffer;
        frames
    }

    fn encode_into(&mut self, buffer: &mut [u8], level: usize, kind: FrameKind, now: u64) -> Frames {
        let is_key = matches!(kind, FrameKind::Key | FrameKind::End);
        let is_heartbeat = kind == FrameKind::Heartbeat;
        let (last_seq, key_seq) = (self.levels[level].seq, self.levels[level].key_seq);
        let frame_seq = if is_heartbeat { last_seq } else { last_seq + 1 };
        let selected: Vec<usize> = if is_heartbeat { Vec::new() } else { self.selected(level, is_key) };
        for &index in &selected {
            self.series[index].state.end_window(now);
        }
        let mut header = Header::new(self.identity.id, frame_seq);
        header.flags = Flags { key: is_key, end: kind == FrameKind::End, heartbeat: is_heartbeat };
        header.age_ms = self.identity.started.elapsed().as_millis() as u64;
        let window_ms =
            if is_heartbeat { 0 } else { self.levels[level].since_handed_out().as_millis() as u32 };
        let prelude = self.prelude(now, window_ms, is_key);
        let base = if is_key { 0 } else { key_seq };
        let mut parts = Vec::new();
        let mut left = selected.as_slice();
        while parts.is_empty() || (!left.is_empty() && parts.len() < PARTS_MAX) {
            let Some((part, used)) = self.encode_part(buffer, level, &header, &prelude, left, base) else {
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
        let written = selected.len() - left.len();
        for &index in &selected[..written] {
            self.series[index].handed_out(is_key);
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

    fn selected(&self, level: usize, all: bool) -> Vec<usize> {
        let series = self.levels[level].series.iter().map(|&index| index as usize);
        series.filter(|&index| all || self.series[index].dirty).collect()
    }

    /// Encodes as many of `series` as fit; how many that were. `None` if not even the prelude does,
    /// which texts within their limits rule out.
    fn encode_part(
        &self,
        buffer: &mut [u8],
        level: usize,
        header: &Header,
        prelude: &Prelude<'_>,
        series: &[usize],
        base: u64,
    ) -> Option<(Vec<u8>, usize)> {
        let mut encoder = Encoder::new(buffer, self.levels[level].label, header, prelude).ok()?;
        let mut used = 0;
        for &index in series {
            let mut scratch = [0; BUCKET_BYTES_MAX];
            match encoder.push(&self.series[index].entry(base, &mut scratch)) {
                Ok(()) => used += 1,
                Err(EncodeError::Full) if used > 0 => break,
                // A series whose texts were checked when it was made always fits alone.
                Err(_) => return None,
            }
        }
        Some((encoder.finish().to_vec(), used))
    }

    fn prelude(&self, now: u64, window_ms: u32, about: bool) -> Prelude<'_> {
        let identity = &self.identity;
        Prelude {
            window_end_ms: now,
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
}

impl Series {
    /// The entry with this series' state; `base` names the key frame that buckets are to be
    /// differences to, 0 for absolute counts.
    fn entry<'a>(&'a self, base: u64, scratch: &'a mut [u8; BUCKET_BYTES_MAX]) -> Entry<'a> {
        let state = match &self.state {
            SeriesState::Counter { sum } => State::Counter { sum: *sum },
            SeriesState::Gauge { gauge, .. } => gauge.state(),
            SeriesState::Timer { timer, base: counts_then } => {
                let histogram = match counts_then {
                    Some(then) if base != 0 => {
                        let mut grown = timer.histogram.clone();
                        grown.subtract(&then.unpack());
                        histogram_state(&grown, base, scratch)
                    }
                    _ => histogram_state(&timer.histogram, 0, scratch),
                };
                State::Timer {
                    count: timer.count,
                    sum_ns: timer.sum_ns,
                    sum_squares_ns2: timer.sum_squares_ns2,
                    window_ns: timer.window_ns,
                    histogram,
                }
            }
        };
        let key = &self.key;
        Entry { name: key.name(), source: key.source(), unit: key.unit(), tags: key.tags(), state }
    }

    fn handed_out(&mut self, is_key: bool) {
        self.dirty = false;
        if let SeriesState::Timer { timer, base } = &mut self.state {
            timer.end_window();
            if is_key {
                *base = Some(Box::new(Packed::of(&timer.histogram)));
            }
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

/// A histogram at the last key frame, as the wire has it: some half of what its cells take.
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

    fn unpack(&self) -> Histogram<HostCells> {
        Histogram::from_parts(self.scale, self.zero, self.offset, BucketRuns::new(&self.counts))
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
