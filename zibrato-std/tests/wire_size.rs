//! How many bytes a series takes on the wire, by the frames that a client really sends: the sizes that
//! the documents state.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that reports what it measured")]

mod support;

use std::f64::consts::TAU;
use std::time::Duration;

use support::{Broker, alone, builder};
use zibrato_core::RING_RECORDS;
use zibrato_core::frame::{Encoder, Frame, LossReason, State};
use zibrato_core::limits::{FRAME_BYTES_MAX, KEY_FRAME_WINDOWS};
use zibrato_std::{Client, Counter, Level, Timer, WINDOW_MAX};

/// Most bytes of a counter that changed, its part of the header included, with a name of 20 bytes.
const COUNTER_BYTES_MAX: usize = 40;
/// Most bytes of a timer a window, over a key frame and the nine deltas behind it.
const TIMER_BYTES_MAX: usize = 600;
/// Most bytes of a timer in a key frame, a day after its first record.
const KEY_BYTES_MAX: usize = 1_228;

const COUNTERS: usize = 1_000;
const TIMERS: usize = 20;
/// Records of a timer in a window of a second.
const RECORDS: usize = 1_000;
/// Windows in a day.
const DAY: usize = 86_400;

/// A client whose windows end only by `flush`, and who reads its frames.
fn start() -> (Broker, Client) {
    let broker = Broker::bind().with_own_subscription();
    let client = builder(&broker.endpoint).window(WINDOW_MAX).build().unwrap();
    broker.serve_until("connection", || client.stats().unwrap().connected > 0);
    (broker, client)
}

/// What one window took on the wire.
#[derive(Default)]
struct Window {
    is_key: bool,
    series: usize,
    /// Of all messages, headers included.
    bytes: usize,
    /// Of the entries alone.
    entry_bytes: usize,
    /// Counter sums or timer counts, added up.
    total: u64,
}

/// Ends a window and reads its frame.
fn window(client: &Client, broker: &Broker) -> Window {
    client.flush();
    let mut window = Window::default();
    broker.next("frame", |message| {
        let frame = Frame::parse(message).unwrap();
        let mut scratch = vec![0; FRAME_BYTES_MAX];
        let head = Encoder::new(&mut scratch, frame.level, &frame.header, &frame.prelude).unwrap().length();
        window.is_key = frame.header.flags.key;
        window.bytes += message.len();
        window.entry_bytes += message.len() - head;
        for entry in frame.entries().map(Result::unwrap) {
            window.series += 1;
            let total = match entry.state {
                State::Counter { sum } => sum,
                State::Timer { count, .. } => count,
                State::Gauge { .. } => panic!("nobody set a gauge"),
            };
            window.total = window.total.wrapping_add(total);
        }
        (frame.header.part + 1 == frame.header.of).then_some(())
    });
    window
}

/// A key frame and the deltas behind it: bytes of all entries, and of those of the key frame.
fn round(client: &Client, broker: &Broker, mut record: impl FnMut()) -> (usize, usize) {
    let mut windows = Vec::new();
    while windows.len() < KEY_FRAME_WINDOWS as usize {
        record();
        let window = window(client, broker);
        // What came before the first key frame belongs to another round.
        if window.is_key || !windows.is_empty() {
            windows.push(window);
        }
    }
    let keys = windows.iter().filter(|window| window.is_key).count();
    assert_eq!(keys, 1, "one key frame in {KEY_FRAME_WINDOWS} windows");
    assert!(windows.windows(2).all(|pair| pair[0].total < pair[1].total), "every window has more records");
    (windows.iter().map(|window| window.entry_bytes).sum(), windows[0].entry_bytes)
}

/// Durations around 100 µs whose logarithm is normal with sigma 1.
struct Lognormal {
    random: u64,
    second: Option<f64>,
}

impl Lognormal {
    const fn new() -> Self {
        Self { random: 0x9e37_79b9_7f4a_7c15, second: None }
    }

    /// In (0, 1].
    fn uniform(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        ((self.random >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// Box and Muller: two at a time.
    fn normal(&mut self) -> f64 {
        if let Some(second) = self.second.take() {
            return second;
        }
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        let (sin, cos) = (TAU * self.uniform()).sin_cos();
        self.second = Some(radius * sin);
        radius * cos
    }

    fn duration(&mut self) -> Duration {
        Duration::from_nanos((1e5 * self.normal().exp()) as u64)
    }
}

/// `records` for each timer, in batches that fit the ring.
fn record(client: &Client, timers: &[&'static Timer], random: &mut Lognormal, records: usize) {
    let mut room = RING_RECORDS / 2;
    for _ in 0..records {
        for timer in timers {
            timer.record(random.duration());
            room -= 1;
            if room == 0 {
                // The answer comes behind a pass of the drain.
                client.stats().unwrap();
                room = RING_RECORDS / 2;
            }
        }
    }
}

#[test]
fn a_changed_counter_takes_no_more_than_is_documented() {
    let _alone = alone();
    let (broker, client) = start();
    let counters: Vec<&'static Counter> = (0..COUNTERS)
        .map(|at| client.counter(&format!("wire.size.hits.{at:05}"), Level::INFO).get())
        .collect();
    assert!(counters.iter().all(|counter| counter.metric().name().len() == 20));
    let add = |n| counters.iter().for_each(|counter| counter.add(n));
    add(1);
    assert!(window(&client, &broker).is_key, "the first frame of a level");
    // From the smallest sums to the largest, of which every one takes ten bytes.
    for n in [1, 1_000_000, u64::MAX / 2] {
        add(n);
        let delta = window(&client, &broker);
        assert!(!delta.is_key);
        assert_eq!(delta.series, COUNTERS);
        let each = delta.bytes.div_ceil(COUNTERS);
        println!("{each} bytes a counter, {n} added");
        assert!(each <= COUNTER_BYTES_MAX, "{each} bytes a counter");
    }
    client.shutdown(Duration::ZERO).unwrap();
}

#[test]
fn a_timer_takes_no_more_than_is_documented_in_its_first_minute() {
    let _alone = alone();
    let (broker, client) = start();
    let timers: Vec<&'static Timer> =
        (0..TIMERS).map(|at| client.timer(&format!("wire.size.took.{at:05}"), Level::INFO).get()).collect();
    let mut random = Lognormal::new();
    for minute_part in 1..=6 {
        let (bytes, key) = round(&client, &broker, || record(&client, &timers, &mut random, RECORDS));
        let (each, key) = (bytes / TIMERS / KEY_FRAME_WINDOWS as usize, key / TIMERS);
        println!("{each} bytes a timer and window, key frame {key}, after {minute_part}0 windows");
        assert!(each <= TIMER_BYTES_MAX, "{each} bytes a timer and window");
        assert!(key <= KEY_BYTES_MAX, "{key} bytes a timer in a key frame");
    }
    let stats = client.shutdown(Duration::ZERO).unwrap();
    assert_eq!(stats.losses.count(LossReason::Spilled), 0, "what is spilled has no distribution");
}

#[test]
fn a_timer_takes_no_more_than_is_documented_after_a_day() {
    let _alone = alone();
    let (broker, client) = start();
    let timers = [client.timer("wire.size.took.a.day", Level::INFO).get()];
    let mut random = Lognormal::new();
    record(&client, &timers, &mut random, DAY * RECORDS);
    let (bytes, key) = round(&client, &broker, || record(&client, &timers, &mut random, RECORDS));
    let each = bytes / KEY_FRAME_WINDOWS as usize;
    println!("{each} bytes a timer and window, key frame {key}, after a day");
    assert!(each <= TIMER_BYTES_MAX, "{each} bytes a timer and window");
    assert!(key <= KEY_BYTES_MAX, "{key} bytes a timer in a key frame");
    let stats = client.shutdown(Duration::ZERO).unwrap();
    assert_eq!(stats.accepted.timers as usize, (DAY + KEY_FRAME_WINDOWS as usize) * RECORDS);
    assert_eq!(stats.losses.count(LossReason::Spilled), 0, "what is spilled has no distribution");
}
