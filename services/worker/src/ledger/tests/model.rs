//! A publisher, a network that loses and a worker that dies, in the simplest form that is right.

use std::collections::BTreeMap;

use zibrato_core::frame::{
    Encoder, Entry, Header, HistogramState, Prelude, PublisherId, State, encode_buckets, set_held_ms,
    split_topic,
};
use zibrato_core::histogram::Histogram;

use crate::ledger::{Applied, Config, Flush, Ledger, Rows};
use crate::measurement::{GaugePoint, Measurement, Value};
use crate::subscription::{Incoming, Message};

/// Wall time at which tests begin.
pub(super) const T0: u64 = 1_700_000_000_000;
pub(super) const LEVEL: &str = "info";

/// SplitMix64.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(super) fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at as u64 + 1) as usize);
        }
    }
}

/// Everything that was recorded, or that arrived, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Totals {
    pub(super) counters: BTreeMap<String, u128>,
    pub(super) timers: BTreeMap<String, TimerTotal>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct TimerTotal {
    pub(super) count: u128,
    pub(super) sum_ns: u128,
    pub(super) sum_squares_ns2: u128,
    pub(super) histogram: Histogram,
}

impl PartialEq for TimerTotal {
    /// Buckets are compared at the lower scale of both.
    fn eq(&self, other: &Self) -> bool {
        let (mut a, mut b) = (self.histogram.clone(), other.histogram.clone());
        a.downscale_to(b.scale());
        b.downscale_to(a.scale());
        (self.count, self.sum_ns, self.sum_squares_ns2) == (other.count, other.sum_ns, other.sum_squares_ns2)
            && a.zero() == b.zero()
            && a.counts().eq(b.counts())
    }
}

#[derive(Default)]
struct TimerModel {
    count: u64,
    sum_ns: u64,
    sum_squares_ns2: u128,
    histogram: Histogram,
    window_ns: Option<(u64, u64)>,
    /// Buckets in the last key frame, if it was in one.
    key: Option<Histogram>,
    dirty: bool,
}

/// One publisher on one level.
pub(super) struct Publisher {
    pub(super) id: PublisherId,
    pub(super) level: String,
    started_ms: u64,
    /// By how much its wall clock is ahead of the worker's.
    pub(super) clock_offset_ms: i64,
    pub(super) window_ms: u32,
    pub(super) seq: u64,
    key_name: u64,
    counters: BTreeMap<String, (u64, bool)>,
    timers: BTreeMap<String, TimerModel>,
    gauges: BTreeMap<String, (u64, f64, u64, bool)>,
    /// What was recorded since the start.
    pub(super) truth: Totals,
    /// Sets and last value of each gauge.
    pub(super) gauge_truth: BTreeMap<String, (u64, f64)>,
}

/// How many series a part of the model's frames holds.
const SERIES_A_PART: usize = 2;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Emit {
    Window,
    Key,
    End,
}

impl Publisher {
    pub(super) fn new(id: u8, started_ms: u64) -> Self {
        Self {
            id: PublisherId([id; 16]),
            level: LEVEL.to_owned(),
            started_ms,
            clock_offset_ms: 0,
            window_ms: 1_000,
            seq: 0,
            key_name: 0,
            counters: BTreeMap::new(),
            timers: BTreeMap::new(),
            gauges: BTreeMap::new(),
            truth: Totals::default(),
            gauge_truth: BTreeMap::new(),
        }
    }

    pub(super) fn count(&mut self, name: &str, n: u64) {
        let (sum, dirty) = self.counters.entry(name.to_owned()).or_default();
        (*sum, *dirty) = (sum.wrapping_add(n), true);
        *self.truth.counters.entry(name.to_owned()).or_default() += u128::from(n);
    }

    pub(super) fn time(&mut self, name: &str, ns: u64) {
        let timer = self.timers.entry(name.to_owned()).or_default();
        timer.count = timer.count.wrapping_add(1);
        timer.sum_ns = timer.sum_ns.wrapping_add(ns);
        timer.sum_squares_ns2 = timer.sum_squares_ns2.wrapping_add(u128::from(ns).pow(2));
        timer.histogram.record_ns(ns, 1);
        let (min, max) = timer.window_ns.unwrap_or((u64::MAX, 0));
        timer.window_ns = Some((min.min(ns), max.max(ns)));
        timer.dirty = true;
        let total = self.truth.timers.entry(name.to_owned()).or_default();
        total.count += 1;
        total.sum_ns += u128::from(ns);
        total.sum_squares_ns2 += u128::from(ns).pow(2);
        total.histogram.record_ns(ns, 1);
    }

    pub(super) fn set(&mut self, name: &str, value: f64, now_ms: u64) {
        let own_ms = now_ms.saturating_add_signed(self.clock_offset_ms);
        let (sets, last, last_ms, dirty) = self.gauges.entry(name.to_owned()).or_default();
        (*sets, *last, *last_ms, *dirty) = (*sets + 1, value, own_ms, true);
        self.gauge_truth.insert(name.to_owned(), (*sets, value));
    }

    /// A few random records.
    pub(super) fn record(&mut self, random: &mut Random, now_ms: u64) {
        for _ in 0..random.below(8) {
            let name = random.below(4);
            match random.below(3) {
                0 => self.count(&format!("c{name}"), random.below(1_000)),
                1 => {
                    // Now and then far apart, so that the scale changes.
                    let ns = if random.percent(3) {
                        random.next() >> random.below(64)
                    } else {
                        random.below(5_000_000)
                    };
                    self.time(&format!("t{name}"), ns.min(1 << 50));
                }
                _ => self.set(&format!("g{name}"), random.below(1_000) as f64, now_ms),
            }
        }
    }

    pub(super) fn heartbeat(&self, now_ms: u64) -> Vec<u8> {
        let mut header = Header::new(self.id, self.seq);
        header.flags.heartbeat = true;
        header.age_ms = now_ms - self.started_ms;
        let mut buffer = vec![0; 1 << 16];
        let prelude = Prelude::default();
        Encoder::new(&mut buffer, &self.level, &header, &prelude).unwrap().finish().to_vec()
    }

    /// The messages of one window; none if nothing changed and it is no key frame.
    pub(super) fn emit(&mut self, emit: Emit, now_ms: u64) -> Vec<Vec<u8>> {
        let key = emit != Emit::Window;
        let name = self.seq + 1;
        let mut owned: Vec<(String, OwnedState)> = Vec::new();
        for (name, (sum, dirty)) in &mut self.counters {
            if std::mem::take(dirty) || key {
                owned.push((name.clone(), OwnedState::Counter(*sum)));
            }
        }
        for (name, (sets, last, last_ms, dirty)) in &mut self.gauges {
            if std::mem::take(dirty) || key {
                owned.push((name.clone(), OwnedState::Gauge(*sets, *last, *last_ms)));
            }
        }
        for (name, timer) in &mut self.timers {
            if std::mem::take(&mut timer.dirty) || key {
                let mut histogram = timer.histogram.clone();
                let base = match timer.key.as_ref().filter(|_| !key) {
                    Some(base) => {
                        histogram.subtract(base);
                        self.key_name
                    }
                    None => 0,
                };
                let window = timer.window_ns.take();
                let totals = (timer.count, timer.sum_ns, timer.sum_squares_ns2);
                owned.push((name.clone(), OwnedState::Timer(totals, window, histogram, base)));
            }
            if key {
                timer.key = Some(timer.histogram.clone());
            }
        }
        if key {
            self.key_name = name;
        } else if owned.is_empty() {
            return Vec::new();
        }
        self.encode(emit, now_ms, &owned)
    }

    fn encode(&mut self, emit: Emit, now_ms: u64, owned: &[(String, OwnedState)]) -> Vec<Vec<u8>> {
        let of = owned.len().div_ceil(SERIES_A_PART).max(1);
        let mut messages = Vec::new();
        for part in 0..of {
            self.seq += 1;
            let mut header = Header::new(self.id, self.seq);
            (header.part, header.of) = (part as u16, of as u16);
            header.flags.key = emit != Emit::Window;
            header.flags.end = emit == Emit::End;
            header.age_ms = now_ms - self.started_ms;
            let window_end_ms = now_ms.saturating_add_signed(self.clock_offset_ms);
            let prelude =
                Prelude { window_end_ms, window_ms: self.window_ms, source: "sim", ..Prelude::default() };
            let mut buffer = vec![0; 1 << 16];
            let mut encoder = Encoder::new(&mut buffer, &self.level, &header, &prelude).unwrap();
            for (name, state) in owned.iter().skip(part * SERIES_A_PART).take(SERIES_A_PART) {
                let mut counts = vec![0; 1 << 14];
                encoder.push(&Entry::new(name, state.as_state(&mut counts))).unwrap();
            }
            messages.push(encoder.finish().to_vec());
        }
        messages
    }
}

enum OwnedState {
    Counter(u64),
    Gauge(u64, f64, u64),
    Timer((u64, u64, u128), Option<(u64, u64)>, Histogram, u64),
}

impl OwnedState {
    fn as_state<'a>(&self, counts: &'a mut [u8]) -> State<'a> {
        match self {
            Self::Counter(sum) => State::Counter { sum: *sum },
            Self::Gauge(sets, last, last_ms) => {
                State::Gauge { sets: *sets, last: *last, last_ms: *last_ms, min: *last, max: *last }
            }
            Self::Timer((count, sum_ns, sum_squares_ns2), window_ns, histogram, base) => {
                let used = encode_buckets(histogram.cells_from_offset().map(|(_, n)| n), counts).unwrap();
                let histogram = HistogramState {
                    scale: histogram.scale(),
                    zero: histogram.zero(),
                    base: *base,
                    offset: histogram.offset(),
                    counts: &counts[..used],
                };
                State::Timer {
                    count: *count,
                    sum_ns: *sum_ns,
                    sum_squares_ns2: *sum_squares_ns2,
                    window_ns: *window_ns,
                    histogram,
                }
            }
        }
    }
}

/// What became of a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Committed,
    Aborted,
    /// Killed after it was prepared and before the spool kept it.
    KilledBefore,
    /// Killed after the spool kept it and before the ledger heard of it.
    KilledAfter,
}

/// A flush and its rows.
#[derive(Clone, Debug)]
pub(super) struct Flushed {
    pub(super) measurements: Vec<Measurement>,
    pub(super) rows: Rows,
    pub(super) removed: Vec<Vec<u8>>,
}

/// A ledger with the spool behind it.
pub(super) struct Worker {
    pub(super) ledger: Ledger,
    config: Config,
    levels: Vec<String>,
    pub(super) rows: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What the spool kept.
    pub(super) kept: Totals,
    pub(super) points: BTreeMap<String, Vec<GaugePoint>>,
    pub(super) min_max: BTreeMap<String, (u64, u64)>,
}

impl Worker {
    pub(super) fn new(config: Config, now_ms: u64) -> Self {
        let mut worker = Self {
            ledger: Ledger::new(config.clone(), now_ms),
            config,
            levels: Vec::new(),
            rows: BTreeMap::new(),
            kept: Totals::default(),
            points: BTreeMap::new(),
            min_max: BTreeMap::new(),
        };
        worker.subscribe(LEVEL, now_ms);
        // A worker keeps its first rows before it takes anything in.
        worker.flush(Fate::Committed, now_ms);
        worker
    }

    pub(super) fn subscribe(&mut self, level: &str, now_ms: u64) {
        self.levels.push(level.to_owned());
        self.ledger.subscribe_level(level, now_ms);
    }

    pub(super) fn receive(&mut self, message: &[u8], now_ms: u64) -> Applied {
        let message = Message::Published(message.to_vec());
        self.ledger.receive(&Incoming { endpoint: 0, message }, now_ms)
    }

    pub(super) fn replay(&mut self, message: &[u8], held_ms: u32, now_ms: u64) -> Applied {
        let (level, untopiced) = split_topic(message).unwrap();
        let (level, mut untopiced) = (level.into(), untopiced.to_vec());
        set_held_ms(&mut untopiced, held_ms);
        self.ledger
            .receive(&Incoming { endpoint: 0, message: Message::Replayed { level, untopiced } }, now_ms)
    }

    pub(super) fn flush(&mut self, fate: Fate, now_ms: u64) -> Flushed {
        assert_law(&self.ledger);
        let Flush { changes, removed } = self.ledger.prepare_flush(now_ms);
        let pieces = Vec::from_iter(self.ledger.rows());
        let rows = pieces.iter().flat_map(Rows::iter).collect();
        let flush = Flushed { measurements: changes.measurements(), rows, removed };
        assert_law(&self.ledger);
        if matches!(fate, Fate::Committed | Fate::KilledAfter) {
            self.keep(&flush);
        }
        match fate {
            Fate::Committed => self.ledger.commit_flush(),
            Fate::Aborted => self.ledger.abort_flush(),
            Fate::KilledBefore | Fate::KilledAfter => self.restart(now_ms),
        }
        assert_law(&self.ledger);
        flush
    }

    /// What SIGKILL and a new start leave.
    pub(super) fn restart(&mut self, now_ms: u64) {
        self.ledger = Ledger::restore(self.config.clone(), self.rows.clone(), now_ms);
        for level in &self.levels {
            self.ledger.subscribe_level(level, now_ms);
        }
    }

    fn keep(&mut self, flush: &Flushed) {
        for (key, value) in flush.rows.iter() {
            self.rows.insert(key.to_vec(), value.to_vec());
        }
        for key in &flush.removed {
            self.rows.remove(key);
        }
        for measurement in &flush.measurements {
            let name = measurement.series.name.clone();
            match &measurement.value {
                Value::Counter { delta } => *self.kept.counters.entry(name).or_default() += *delta as u128,
                Value::Gauge { points } | Value::RawTimer { points } => {
                    self.points.entry(name).or_default().extend(points);
                }
                Value::Timer(delta) => {
                    assert!(delta.count > 0 && delta.min_ns <= delta.max_ns, "{delta:?}");
                    let bounds = self.min_max.entry(name.clone()).or_insert((u64::MAX, 0));
                    *bounds = (bounds.0.min(delta.min_ns), bounds.1.max(delta.max_ns));
                    let total = self.kept.timers.entry(name).or_default();
                    total.count += u128::from(delta.count);
                    total.sum_ns += delta.sum_ns;
                    total.sum_squares_ns2 += delta.sum_squares_ns2;
                    total.histogram.merge(&delta.histogram);
                }
            }
        }
    }
}

pub(super) fn assert_law(ledger: &Ledger) {
    let counts = ledger.counts();
    assert!(counts.law_holds(), "{counts:#?}");
}

/// Sums of several publishers, without counters that stayed zero.
pub(super) fn sum<'a>(publishers: impl IntoIterator<Item = &'a Publisher>) -> Totals {
    let mut sum = Totals::default();
    for publisher in publishers {
        for (name, n) in publisher.truth.counters.iter().filter(|(_, n)| **n > 0) {
            *sum.counters.entry(name.clone()).or_default() += n;
        }
        for (name, timer) in &publisher.truth.timers {
            let total = sum.timers.entry(name.clone()).or_default();
            total.count += timer.count;
            total.sum_ns += timer.sum_ns;
            total.sum_squares_ns2 += timer.sum_squares_ns2;
            total.histogram.merge(&timer.histogram);
        }
    }
    sum
}
