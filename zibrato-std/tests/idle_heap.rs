//! What a client takes from the Rust heap while nobody records: the figure that the documents state.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that reports what it measured")]

#[path = "support/heap.rs"]
mod heap;
mod support;

use std::time::Duration;

use heap::live_bytes;
use support::{Broker, builder};
use zibrato_core::frame::Frame;
use zibrato_core::{RING_RECORDS, SLAB_CELLS};
use zibrato_std::{Counter, Level, Timer, prepare_thread};

/// Most bytes of a client with [`METRICS`] metrics at rest, beside the rings and cells of threads.
const IDLE_BYTES_MAX: i64 = 200 * 1024;
const METRICS: usize = 100;

static HITS: Counter = Counter::new("idle.hits", Level::INFO);

/// One test, since one client a process and one heap are measured.
#[test]
fn an_idle_client_takes_no_more_than_is_documented() {
    let broker = Broker::bind().with_own_subscription();
    // The program's own, not the client's.
    let timers: Vec<&'static Timer> = (1..METRICS)
        .map(|at| {
            &*Box::leak(Box::new(Timer::new(
                Box::leak(format!("idle.{at:05}").into_boxed_str()),
                Level::INFO,
            )))
        })
        .collect();
    let before = live_bytes();
    prepare_thread();
    let threads = live_bytes() - before;
    let own = (RING_RECORDS * 16 + SLAB_CELLS * 8) as i64;
    assert!((own..own + 1_024).contains(&threads), "{threads} bytes of this thread's ring and cells");

    let client = builder(&broker.endpoint).build().unwrap();
    broker.serve_until("connection", || client.stats().unwrap().connected > 0);
    let registered = {
        HITS.add(0);
        timers.iter().for_each(|timer| timer.start().cancel());
        client.flush();
        live_bytes() - before - threads
    };
    println!("{registered} bytes with {METRICS} metrics registered and nothing recorded");
    assert!(registered <= IDLE_BYTES_MAX, "{registered} bytes at rest");

    // With a series of each, and after frames of both sorts.
    HITS.add(1);
    timers.iter().for_each(|timer| timer.record(Duration::from_micros(100)));
    client.flush();
    let mut seen = (false, false);
    broker.next("key frame and heartbeat", |message| {
        let flags = Frame::parse(message).unwrap().header.flags;
        seen = (seen.0 || flags.key, seen.1 || flags.heartbeat);
        (seen == (true, true)).then_some(())
    });
    assert_eq!(client.stats().unwrap().series, METRICS);
    let at_rest = live_bytes() - before - threads;
    println!("{at_rest} bytes with a series of each");
    assert!(at_rest <= IDLE_BYTES_MAX, "{at_rest} bytes at rest");
    client.shutdown(Duration::ZERO).unwrap();
}
