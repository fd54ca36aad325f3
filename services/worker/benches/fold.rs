//! What a worker takes: series states folded each second on one core, and memory of a series, by the ledger and by the table
//! of a backend that wants totals; fails where a target is missed.
//!
//! Folding is compared with a walk over the same frames that looks at each entry and does nothing, in the same run. A
//! publisher sends its series in one order, which the ledger makes use of; what other orders take is shown beside it.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench that reports what it measured")]

#[path = "../../../zibrato-std/tests/support/heap.rs"]
mod heap;

use std::time::{Duration, Instant};

use heap::live_bytes;
use zibrato_core::frame::{
    Encoder, Entry, Frame, Header, HistogramState, Prelude, PublisherId, State, encode_buckets,
};
use zibrato_core::histogram::Histogram;
use zibrato_worker::backend::{FlushTime, Shape};
use zibrato_worker::ledger::{Config, Ledger};
use zibrato_worker::merge::merge_series;
use zibrato_worker::subscription::{Incoming, Message};
use zibrato_worker::table::{SeriesLimits, SeriesTable};

const SERIES: u64 = 100_000;
/// Series states that are folded each second at least.
const STATES_A_SECOND_MIN: f64 = 3e6;
const COUNTER_BYTES_MAX: f64 = 300.0;
const TIMER_BYTES_MAX: f64 = 1_536.0;
const NOW_MS: u64 = 1_700_000_000_000;
const ROUNDS: u64 = 20;
/// From a series to the next in a window, as publishers send them.
const IN_ORDER: u64 = 1;
/// As if two of three had not changed. It has no factor in common with [`SERIES`].
const SPARSE: u64 = 3;
/// An order far from the one in which the ledger has them, as it is after a restart, when they come from rows. It has no
/// factor in common either.
const OUT_OF_ORDER: u64 = 61_803;
/// Entries of a frame, below its 64 KiB.
const ENTRIES: u64 = 500;
const LEVEL: &str = "info";
const TOTALS: Shape = Shape { keeps_levels: true, totals: true, raw_timers: false };

/// The frames of one window of counters, each of them changed.
fn counters(round: u64, seq: &mut u64, step: u64) -> Vec<Vec<u8>> {
    frames(seq, SERIES, |place, encoder| {
        let at = place * step % SERIES;
        encoder.push(&Entry::new(&name(at), State::Counter { sum: round * 3 + at % 7 + 1 })).unwrap();
    })
}

/// The frames of one window of timers: some durations within a factor of two, as most have.
fn timers(round: u64, seq: &mut u64) -> Vec<Vec<u8>> {
    let (mut histogram, mut counts) = (Histogram::new(), vec![0; 6_400]);
    let recorded: Histogram = {
        (0..32).for_each(|step| histogram.record_ns(1_000_000 + step * 31_250, round + 1));
        histogram
    };
    let used = encode_buckets(recorded.cells_from_offset().map(|(_, count)| count), &mut counts).unwrap();
    frames(seq, SERIES / 10, |at, encoder| {
        let histogram = HistogramState {
            scale: recorded.scale(),
            zero: 0,
            base: 0,
            offset: recorded.offset(),
            counts: &counts[..used],
        };
        let count = recorded.total();
        let state = State::Timer {
            count,
            sum_ns: count * 1_500_000,
            sum_squares_ns2: u128::from(count) * 2_250_000_000_000,
            window_ns: Some((1_000_000, 2_000_000)),
            histogram,
        };
        encoder.push(&Entry::new(&name(at), state)).unwrap();
    })
}

fn name(at: u64) -> String {
    format!("bench.some.service.metric.{at:06}")
}

fn frames(seq: &mut u64, series: u64, mut push: impl FnMut(u64, &mut Encoder<'_>)) -> Vec<Vec<u8>> {
    let starts = (0..series).step_by(ENTRIES as usize);
    starts
        .map(|start| {
            *seq += 1;
            let header = Header::new(PublisherId([7; 16]), *seq);
            let prelude =
                Prelude { window_end_ms: NOW_MS, window_ms: 1_000, source: "bench", ..Prelude::default() };
            let mut buffer = vec![0; 1 << 16];
            let mut encoder = Encoder::new(&mut buffer, LEVEL, &header, &prelude).unwrap();
            (start..series.min(start + ENTRIES)).for_each(|at| push(at, &mut encoder));
            encoder.finish().to_vec()
        })
        .collect()
}

fn incoming(frames: Vec<Vec<u8>>) -> Vec<Incoming> {
    frames.into_iter().map(|bytes| Incoming { endpoint: 0, message: Message::Published(bytes) }).collect()
}

fn ledger() -> Ledger {
    let mut ledger = Ledger::new(Config::default(), NOW_MS);
    ledger.subscribe_level(LEVEL, NOW_MS);
    ledger
}

/// States folded each second, and those only looked at, in the quickest round of each: others were disturbed by what else
/// the machine does. The third is what was folded each second over all rounds. `step` is the order of all rounds but the
/// first.
fn folded(step: u64) -> (f64, f64, f64) {
    let (mut ledger, mut seq) = (ledger(), 0);
    for message in incoming(counters(0, &mut seq, IN_ORDER)) {
        ledger.receive(&message, NOW_MS);
    }
    let (mut folding, mut looking, mut all) = (Duration::MAX, Duration::MAX, Duration::ZERO);
    for round in 1..=ROUNDS {
        let messages = incoming(counters(round, &mut seq, step));
        let begun = Instant::now();
        for message in &messages {
            ledger.receive(message, NOW_MS + round);
        }
        let took = begun.elapsed();
        (folding, all) = (folding.min(took), all + took);
        let begun = Instant::now();
        let mut sum = 0;
        for message in &messages {
            let Message::Published(bytes) = &message.message else { unreachable!() };
            for entry in Frame::parse(bytes).unwrap().entries() {
                if let State::Counter { sum: more } = entry.unwrap().state {
                    sum += more;
                }
            }
        }
        looking = looking.min(begun.elapsed());
        assert!(sum > 0);
        // As a worker does once a flush.
        if round % 10 == 0 {
            let _ = ledger.prepare_flush(NOW_MS + round);
            ledger.commit_flush();
        }
    }
    assert_eq!(ledger.counts().frames, seq, "all of them were taken in");
    let states = SERIES as f64;
    let all = ROUNDS as f64 * states / all.as_secs_f64();
    (states / folding.as_secs_f64(), states / looking.as_secs_f64(), all)
}

/// Bytes of a series at rest, once its state was flushed: in the ledger, and in the table.
fn bytes(series: u64, frames: impl Fn(u64, &mut u64) -> Vec<Vec<u8>>) -> (f64, f64) {
    let before = live_bytes();
    let (mut ledger, mut seq) = (ledger(), 0);
    let mut table = SeriesTable::restore(SeriesLimits::default(), TOTALS, []);
    for round in 0..2 {
        for message in incoming(frames(round, &mut seq)) {
            ledger.receive(&message, NOW_MS + round);
        }
        let flush = ledger.prepare_flush(NOW_MS + round);
        let measurements = merge_series(flush.changes.measurements(), true);
        let time = FlushTime { unix_ms: NOW_MS + round, interval: Duration::from_secs(10) };
        drop(table.prepare(measurements, time, |identity| ledger.name(identity)));
        table.commit();
        ledger.commit_flush();
    }
    assert_eq!((ledger.series() as u64, table.len() as u64), (series, series));
    let all = (live_bytes() - before) as f64;
    drop(table);
    let of_ledger = (live_bytes() - before) as f64;
    ((of_ledger / series as f64), (all - of_ledger) / series as f64)
}

fn main() {
    let mut bad = Vec::new();
    let (quickest, looked, over_all) = folded(IN_ORDER);
    let [sparse, out_of_order] = [SPARSE, OUT_OF_ORDER].map(|step| folded(step).2);
    println!(
        "folded {:.2} M series states/s on one core in the quickest round, {:.2} M/s over all; {:.2} of what looking at them takes ({:.2} M/s)",
        quickest / 1e6,
        over_all / 1e6,
        looked / quickest,
        looked / 1e6
    );
    println!(
        "{:.2} M/s over all with one in {SPARSE} changed, {:.2} M/s out of order",
        sparse / 1e6,
        out_of_order / 1e6
    );
    if over_all < STATES_A_SECOND_MIN {
        bad.push(format!(
            "folded {over_all:.0} series states/s, at least {STATES_A_SECOND_MIN:.0} are asked for"
        ));
    }
    for (kind, (ledger, table), most) in [
        ("counter", bytes(SERIES, |round, seq| counters(round, seq, IN_ORDER)), COUNTER_BYTES_MAX),
        ("timer", bytes(SERIES / 10, timers), TIMER_BYTES_MAX),
    ] {
        let all = ledger + table;
        println!(
            "a {kind} series: {ledger:.0} B in the ledger, {table:.0} B in the table of totals, {all:.0} B"
        );
        if all > most {
            bad.push(format!("a {kind} series takes {all:.0} B, at most {most:.0} are accepted"));
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("; "));
}
