//! With fresh ids: what a publisher had counted before the recording is taken out of its states.
//!
//! States are cumulative since the publisher's start, and a worker counts a publisher that it sees from its
//! start from zero. A publisher that started before the recording gets a new id here, so the first
//! state of each of its series becomes zero and the later ones differences to it. Of a series that a
//! complete key frame of the recording did not have, everything is of the recording. Publishers that
//! started during the recording do not come here.
//!
//! *Buckets.* Counts that are a difference to a key frame of the recording stay as they are, since that key
//! frame is rebased as well. A timer whose first state is a difference to a key frame from before has no
//! known buckets; until the recording's next key frame the differences between such states are its
//! buckets. What was recorded in the one window before that key frame is placed at its mean.

use std::collections::{BTreeSet, HashMap};

use zibrato_core::frame::{
    Encoder, Entry, Frame, Header, HistogramState, Loss, Prelude, PublisherId, State, VERSION, encode_buckets,
};
use zibrato_core::histogram::Histogram;
use zibrato_core::limits::HISTOGRAM_BUCKETS_MAX;

use super::Times;

/// Longest encoding of a histogram's counts: each a varint of 64 bits.
const BUCKET_BYTES_MAX: usize = 10 * HISTOGRAM_BUCKETS_MAX;
/// By how many scales histograms are folded at most so that a frame holds what it held: at the lowest
/// scale a histogram has three buckets.
const COARSER_MAX: i8 = 15;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Rebase {
    streams: HashMap<(PublisherId, Box<str>), Stream>,
    losses: HashMap<PublisherId, Vec<Loss>>,
}

/// One level of a publisher.
#[derive(Debug, Default)]
struct Stream {
    /// Parts that came of the newest key frame, by its name.
    key: (u64, BTreeSet<u16>),
    /// Number of the last part of the first key frame that is complete.
    complete: Option<u64>,
    zeros: HashMap<Vec<u8>, Zero>,
}

/// The first state of a series that was there before.
#[derive(Debug)]
struct Zero {
    seq: u64,
    state: ZeroState,
}

#[derive(Debug)]
enum ZeroState {
    Counter { sum: u64 },
    Gauge { sets: u64 },
    Timer(Box<TimerZero>),
}

/// A timer's first state, and how its buckets are brought to zero.
#[derive(Debug)]
struct TimerZero {
    count: u64,
    sum_ns: u64,
    sum_squares_ns2: u128,
    /// The key frame that states refer to, 0 if their buckets are absolute.
    base: u64,
    /// What is taken from buckets that refer to `base`.
    buckets: Histogram,
    /// The last rebased count, sum and buckets, as long as `base` is a key frame from before.
    last: (u64, u64, Histogram),
}

/// A series on its way out, with its buckets if they were changed.
type Rebased<'a> = (Entry<'a>, Option<Histogram>);

impl Rebase {
    /// The rebased frame with its times moved. Entries that cannot be read are left out: what is in them is
    /// not known to be of the recording. `None` for a body that nobody can read.
    pub(super) fn frame<'b>(
        &mut self,
        message: &[u8],
        times: Option<&Times>,
        buffer: &'b mut [u8],
    ) -> Option<&'b [u8]> {
        let mut frame = Frame::parse(message).ok()?;
        let Header { publisher, seq, .. } = frame.header;
        frame.header.version = VERSION;
        self.rebase_losses(publisher, &mut frame.prelude);
        let stream = self.streams.entry((publisher, frame.level.into())).or_default();
        let mut entries: Vec<Rebased<'_>> = Vec::new();
        for mut entry in frame.entries().flatten() {
            let buckets = stream.rebase(seq, frame.prelude.source, &mut entry);
            if let (Some(times), State::Gauge { last_ms, .. }) = (times, &mut entry.state) {
                *last_ms = times.moved(*last_ms);
            }
            entries.push((entry, buckets));
        }
        stream.note_key(&frame.header);
        if let Some(times) = times {
            frame.prelude.window_end_ms = times.moved(frame.prelude.window_end_ms);
        }
        // Zeros between counts take room, so that buckets can be longer than they were.
        let mut length = None;
        for coarser in 0..=COARSER_MAX {
            length = encode(buffer, &frame, &entries, coarser);
            if length.is_some() {
                break;
            }
        }
        buffer.get(..length?)
    }

    fn rebase_losses(&mut self, publisher: PublisherId, prelude: &mut Prelude<'_>) {
        let zeros = self.losses.entry(publisher).or_insert_with(|| prelude.losses.to_vec());
        for loss in &mut prelude.losses {
            let zero = zeros.iter().find(|zero| zero.reason == loss.reason).map_or(0, |zero| zero.count);
            loss.count = loss.count.saturating_sub(zero);
        }
    }
}

impl Stream {
    /// Brings the state of `entry` to zero; the buckets of a timer if they are others than they were.
    fn rebase(&mut self, seq: u64, source: &str, entry: &mut Entry<'_>) -> Option<Histogram> {
        let key = series_key(source, entry);
        let zero = match self.zeros.get_mut(&key) {
            Some(zero) => zero,
            None if self.complete.is_some_and(|last| seq > last) => return None,
            None => self.zeros.entry(key).or_insert_with(|| Zero::new(seq, &entry.state)),
        };
        // A frame that comes late is no newer than zero, and nobody counts it.
        let is_late = seq < zero.seq;
        match (&mut entry.state, &mut zero.state) {
            (State::Counter { sum }, ZeroState::Counter { sum: zero }) => {
                *sum = if is_late { 0 } else { sum.wrapping_sub(*zero) };
                None
            }
            (State::Gauge { sets, .. }, ZeroState::Gauge { sets: zero }) => {
                *sets = if is_late { 0 } else { sets.wrapping_sub(*zero) };
                None
            }
            (State::Timer { count, sum_ns, sum_squares_ns2, histogram, .. }, ZeroState::Timer(zero)) => {
                if is_late {
                    (*count, *sum_ns, *sum_squares_ns2) = (0, 0, 0);
                    return Some(Histogram::new());
                }
                *count = count.wrapping_sub(zero.count);
                *sum_ns = sum_ns.wrapping_sub(zero.sum_ns);
                *sum_squares_ns2 = sum_squares_ns2.wrapping_sub(zero.sum_squares_ns2);
                zero.rebase(*count, *sum_ns, histogram)
            }
            // The kind is part of the key.
            _ => None,
        }
    }

    fn note_key(&mut self, header: &Header) {
        if !header.flags.key || self.complete.is_some() {
            return;
        }
        let (name, parts) = &mut self.key;
        if *name != header.frame_seq() {
            (*name, *parts) = (header.frame_seq(), BTreeSet::new());
        }
        parts.insert(header.part);
        if parts.len() == usize::from(header.of) {
            self.complete = Some(*name + u64::from(header.of) - 1);
        }
    }
}

impl Zero {
    fn new(seq: u64, state: &State<'_>) -> Self {
        let state = match *state {
            State::Counter { sum } => ZeroState::Counter { sum },
            State::Gauge { sets, .. } => ZeroState::Gauge { sets },
            State::Timer { count, sum_ns, sum_squares_ns2, histogram, .. } => {
                let last = (0, 0, Histogram::new());
                let (base, buckets) = (histogram.base, read(&histogram));
                ZeroState::Timer(Box::new(TimerZero { count, sum_ns, sum_squares_ns2, base, buckets, last }))
            }
        };
        Self { seq, state }
    }
}

impl TimerZero {
    /// The rebased buckets of a state whose rebased count and sum these are; `None` if they stay.
    fn rebase(&mut self, count: u64, sum_ns: u64, histogram: &HistogramState<'_>) -> Option<Histogram> {
        if self.base == 0 && histogram.base != 0 {
            // A difference to a key frame of the recording.
            return None;
        }
        let mut buckets = read(histogram);
        if self.base == histogram.base {
            buckets.subtract(&self.buckets);
        } else {
            let (last_count, last_sum_ns, last) = &self.last;
            let records = count.wrapping_sub(*last_count);
            let mut rebased = last.clone();
            if let Some(mean_ns) = sum_ns.wrapping_sub(*last_sum_ns).checked_div(records) {
                rebased.record_ns(mean_ns, records);
            }
            buckets.subtract(&rebased);
            (self.base, self.buckets) = (histogram.base, buckets);
            buckets = rebased;
        }
        if self.base != 0 {
            self.last = (count, sum_ns, buckets.clone());
        }
        Some(buckets)
    }
}

/// What makes an entry a series of its level. No text of a frame has control characters.
fn series_key(source: &str, entry: &Entry<'_>) -> Vec<u8> {
    let source = if entry.source.is_empty() { source } else { entry.source };
    let mut key = vec![entry.state.kind().code()];
    let tags = entry.tags.iter().flat_map(|(key, value)| [*key, *value]);
    for text in [entry.name, source, entry.unit].into_iter().chain(tags) {
        key.extend_from_slice(text.as_bytes());
        key.push(0);
    }
    key
}

fn read(state: &HistogramState<'_>) -> Histogram {
    Histogram::from_parts(state.scale, state.zero, state.offset, state.buckets())
}

/// Writes the frame, with changed buckets at a scale that is lower by `coarser`; its length if it fits.
fn encode(buffer: &mut [u8], frame: &Frame<'_>, entries: &[Rebased<'_>], coarser: i8) -> Option<usize> {
    let mut encoder = Encoder::new(buffer, frame.level, &frame.header, &frame.prelude).ok()?;
    let mut scratch = [0; BUCKET_BYTES_MAX];
    for (entry, buckets) in entries {
        let mut entry = entry.clone();
        if let (State::Timer { histogram, .. }, Some(buckets)) = (&mut entry.state, buckets) {
            let mut buckets = buckets.clone();
            buckets.downscale_to(buckets.scale() - coarser);
            let counts = buckets.cells_from_offset().map(|(_, count)| count);
            let used = encode_buckets(counts, &mut scratch)?;
            let (scale, zero, offset) = (buckets.scale(), buckets.zero(), buckets.offset());
            *histogram = HistogramState { scale, zero, base: 0, offset, counts: &scratch[..used] };
        }
        encoder.push(&entry).ok()?;
    }
    Some(encoder.finish().len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Part `seq` of a frame with a timer of these counts from bucket 0 on.
    fn timer(seq: u64, base: u64, key: bool, counts: &[u64], buffer: &mut [u8]) -> Vec<u8> {
        let mut scratch = [0; BUCKET_BYTES_MAX];
        let used = encode_buckets(counts.iter().copied(), &mut scratch).unwrap();
        let histogram = HistogramState { base, counts: &scratch[..used], ..HistogramState::EMPTY };
        let count = counts.iter().sum();
        let state = State::Timer { count, sum_ns: 0, sum_squares_ns2: 0, window_ns: None, histogram };
        let mut header = Header::new(PublisherId([1; 16]), seq);
        header.flags.key = key;
        let prelude = Prelude {
            losses: [Loss { reason: 1, count: 10 * seq }].into_iter().collect(),
            ..Prelude::default()
        };
        let mut encoder = Encoder::new(buffer, "info", &header, &prelude).unwrap();
        for at in 0.. {
            // As many series as fit.
            if encoder.push(&Entry::new(&format!("t{at}"), state)).is_err() {
                break;
            }
        }
        encoder.finish().to_vec()
    }

    fn first_timer(message: &[u8]) -> (u64, HistogramState<'_>) {
        match Frame::parse(message).unwrap().entries().next().unwrap().unwrap().state {
            State::Timer { count, histogram, .. } => (count, histogram),
            _ => panic!("no timer"),
        }
    }

    #[test]
    fn a_full_frame_of_long_histograms_holds_all_of_its_series_when_it_is_rebased() {
        let mut buffer = vec![0; zibrato_core::limits::FRAME_BYTES_MAX];
        let mut rebase = Rebase::default();
        let first = timer(1, 0, true, &[5; 300], &mut vec![0; 60_000]);
        rebase.frame(&first, None, &mut buffer).unwrap();
        let counts: Vec<u64> = (0..300).map(|at| 5 + at % 2).collect();
        let second = timer(2, 0, false, &counts, &mut vec![0; 60_000]);
        let series = Frame::parse(&second).unwrap().entries().count();
        // As little room as there was.
        let rebased = rebase.frame(&second, None, &mut buffer[..60_000]).unwrap();
        assert_eq!(Frame::parse(rebased).unwrap().entries().count(), series);
        let (count, histogram) = first_timer(rebased);
        assert_eq!((count, histogram.buckets().sum::<u64>()), (150, 150));
        assert!(histogram.scale < HistogramState::EMPTY.scale, "{histogram:?}");
    }

    #[test]
    fn losses_late_frames_and_entries_of_a_later_version_add_nothing() {
        let (mut buffer, mut small) = (vec![0; 65_536], [0; 120]);
        let mut rebase = Rebase::default();
        let mut played = |message: &[u8]| rebase.frame(message, None, &mut buffer).unwrap().to_vec();
        let first = played(&timer(5, 0, true, &[4], &mut small));
        assert_eq!(Frame::parse(&first).unwrap().prelude.losses[0].count, 0);
        let late = played(&timer(4, 0, false, &[3], &mut small));
        assert_eq!((first_timer(&first).0, first_timer(&late).0), (0, 0));
        assert_eq!(Frame::parse(&late).unwrap().prelude.losses[0].count, 0);
        let newer = played(&timer(7, 5, false, &[3], &mut small));
        assert_eq!(Frame::parse(&newer).unwrap().prelude.losses[0].count, 20);
        // A difference to a key frame that was rebased is the same difference.
        assert_eq!((first_timer(&newer).1.base, first_timer(&newer).1.buckets().sum::<u64>()), (5, 3));
        let mut unknown_kind = timer(8, 5, false, &[4], &mut small);
        let kind = unknown_kind.windows(4).position(|bytes| bytes == b"\x02\x02t0").unwrap();
        unknown_kind[kind] = 9;
        let without = played(&unknown_kind);
        let entries: Vec<_> = Frame::parse(&without).unwrap().entries().collect();
        assert!(entries.iter().all(|entry| entry.as_ref().unwrap().name != "t0"), "{entries:?}");
    }
}
