//! What a series takes from the heap, the metric itself not counted, which is the program's own: the
//! figures that README states.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that reports what it measured")]

#[path = "support/heap.rs"]
mod heap;
mod support;

use std::time::Duration;

use heap::live_bytes;
use support::{Broker, builder};
use zibrato_core::frame::{Frame, LossReason};
use zibrato_std::{Client, Counter, Level, Timer, prepare_thread};

/// Most bytes of a counter series, the cell of one thread included.
const COUNTER_BYTES_MAX: i64 = 200;
/// Most bytes of a timer series whose durations lie within a factor of two.
const OCTAVE_BYTES_MAX: i64 = 1_024;
/// Most bytes of a timer series whose durations lie within five decades.
const DECADES_BYTES_MAX: i64 = 3_072;

/// Records of each duration that a worn timer has: some two thousand a bucket.
const WORN_TIMES: usize = 1_500;

/// Bytes for each of `n` series that `record` makes, once a key frame of them was sent.
fn bytes_a_series(client: &Client, broker: &Broker, n: usize, record: impl FnOnce()) -> i64 {
    client.flush();
    let before = live_bytes();
    record();
    client.flush();
    let series = client.stats().unwrap().series;
    assert!(series >= n);
    // Every tenth window has a key frame; this one has all series.
    let mut entries = 0;
    broker.next("key frame of all series", |message| {
        let frame = Frame::parse(message).ok().filter(|frame| frame.header.flags.key)?;
        entries = frame.entries().count() + if frame.header.part == 0 { 0 } else { entries };
        (entries == series).then_some(())
    });
    client.flush();
    let each = (live_bytes() - before) / n as i64;
    println!("{each} bytes a series of {n}");
    each
}

/// One test, since one client a process and one heap are measured.
#[test]
fn a_series_takes_what_is_documented() {
    prepare_thread();
    let broker = Broker::bind().with_own_subscription();
    let client = builder(&broker.endpoint).series_max(200_000).build().unwrap();
    broker.serve_until("connection", || client.stats().unwrap().connected > 0);

    let timers = |n: usize, name: &'static str| -> Vec<&'static Timer> {
        (0..n)
            .map(|at| {
                &*Box::leak(Box::new(
                    Timer::new(name, Level::INFO).source(Box::leak(format!("{at}").into_boxed_str())),
                ))
            })
            .collect()
    };
    // Durations go up in steps of less than a bucket, from 1 ms on, and do so `times` times.
    let spread = |timers: &[&'static Timer], factor: f64, times: usize| {
        for timer in timers {
            for _ in 0..times {
                let mut ns = 1e6;
                while ns < 1e6 * factor {
                    timer.record(Duration::from_nanos(ns as u64));
                    ns *= 1.02;
                }
                // Drained before the ring is full: what is spilled has no distribution.
                let _ = client.stats();
            }
        }
    };
    let some = timers(200, "m.octave");
    let octave = bytes_a_series(&client, &broker, 200, || spread(&some, 2.0, 1));
    let some = timers(200, "m.decades");
    let decades = bytes_a_series(&client, &broker, 200, || spread(&some, 1e5, 1));
    let some = timers(4, "m.worn");
    let worn = bytes_a_series(&client, &broker, 4, || spread(&some, 1e5, WORN_TIMES));
    let counters: Vec<&'static Counter> = (0..100_000)
        .map(|at| {
            &*Box::leak(Box::new(
                Counter::new("m.counter", Level::INFO).source(Box::leak(format!("{at}").into_boxed_str())),
            ))
        })
        .collect();
    let counter =
        bytes_a_series(&client, &broker, 100_000, || counters.iter().for_each(|counter| counter.add(1)));

    assert_eq!(client.stats().unwrap().losses.count(LossReason::Spilled), 0);
    assert!(octave <= OCTAVE_BYTES_MAX, "{octave} bytes of an octave");
    assert!(decades <= DECADES_BYTES_MAX, "{decades} bytes of five decades");
    assert!(worn <= DECADES_BYTES_MAX, "{worn} bytes of five decades with thousands in each bucket");
    assert!(counter <= COUNTER_BYTES_MAX, "{counter} bytes of a counter");
    client.shutdown(Duration::ZERO).unwrap();
}
