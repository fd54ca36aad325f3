//! A device that runs on the host: its clock is a number, its line a vector.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use core::convert::Infallible;
use std::prelude::v1::*;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::vec;

use super::clock::Clock;
use super::*;
use crate::level::Level;
use crate::link::{
    self, Body, Descriptor as Described, Form, Frame, Receiver, Sample, SampleValue, State, StateValue,
    Writer, kind,
};
use crate::{counter, gauge, local_gauge, local_timer, metrics, timer};

/// A clock that a test moves.
#[derive(Clone, Copy, Debug)]
struct Ticks(&'static AtomicU32);

impl Ticks {
    fn new(now: u32) -> Self {
        Self(Box::leak(Box::new(AtomicU32::new(now))))
    }

    fn pass(self, ticks: u32) {
        self.0.fetch_add(ticks, Relaxed);
    }
}

impl Clock for Ticks {
    fn ticks(self) -> u32 {
        self.0.load(Relaxed)
    }
}

#[derive(Default)]
struct Line(Vec<u8>);

impl embedded_io::ErrorType for Line {
    type Error = Infallible;
}

impl embedded_io::Write for Line {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// What came over a line.
#[derive(Debug, PartialEq)]
enum Said {
    Hello { boot: u64, uptime: u64, metrics: u16 },
    Descriptor { id: u16, form: Form, level_number: u8, name: String },
    State { is_all: bool, is_last: bool, is_end: bool, lost: u32, entries: Vec<Entry> },
    Samples { first: u32, lost: u32, samples: Vec<Sample> },
}

#[derive(Clone, Debug, PartialEq)]
enum Entry {
    Counter(u16, u64),
    Whole(u16, u64, i32),
    Float(u16, u64, f32),
    Timer(u16, u64, u64, Option<(u32, u32)>),
    Buckets(u16, Vec<(usize, u32)>),
}

impl Line {
    /// What was said since the last call; frames are numbered without a gap from `seq` on.
    fn take(&mut self, seq: &mut u16) -> Vec<Said> {
        let mut receiver: Receiver = Receiver::new();
        let mut said = vec![];
        for byte in std::mem::take(&mut self.0) {
            let Some(payload) = receiver.push(byte) else { continue };
            let frame = Frame::parse(payload.unwrap()).unwrap();
            assert_eq!(frame.seq, *seq);
            *seq = seq.wrapping_add(1);
            said.push(match frame.body {
                Body::Hello(hello) => {
                    Said::Hello { boot: hello.boot, uptime: hello.uptime, metrics: hello.metrics }
                }
                Body::Descriptor(Described { id, form, level_number, name, .. }) => {
                    Said::Descriptor { id, form, level_number, name: name.to_owned() }
                }
                Body::State(state) => {
                    let State { is_all, is_last, is_end, lost, .. } = state;
                    let entries = state.entries().map(|entry| Entry::of(entry.unwrap())).collect();
                    Said::State { is_all, is_last, is_end, lost, entries }
                }
                Body::Samples(samples) => Said::Samples {
                    first: samples.first,
                    lost: samples.lost,
                    samples: samples.iter().map(Result::unwrap).collect(),
                },
                other => unreachable!("a device does not say {other:?}"),
            });
        }
        said
    }
}

impl Entry {
    fn of(entry: link::StateEntry<'_>) -> Self {
        match entry.value {
            StateValue::Counter { sum } => Self::Counter(entry.id, sum),
            StateValue::Whole { sets, value } => Self::Whole(entry.id, sets, value),
            StateValue::Float { sets, value } => Self::Float(entry.id, sets, value),
            StateValue::Timer { count, sum, range } => Self::Timer(entry.id, count, sum, range),
            StateValue::Buckets(buckets) => Self::Buckets(entry.id, buckets.iter().collect()),
        }
    }
}

/// The entries of all state frames.
fn states(said: Vec<Said>) -> Vec<Entry> {
    let entries = |said| if let Said::State { entries, .. } = said { entries } else { vec![] };
    said.into_iter().flat_map(entries).collect()
}

fn down(kind: u8, mask: Option<u32>) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.start(kind);
    if let Some(mask) = mask {
        writer.varint(mask.into());
    }
    writer.finish().to_vec()
}

/// One tick a microsecond, and a line without a limit.
const SETTINGS: Settings = Settings::new(1_000_000).boot(5).bytes_per_second(2_000_000).program("test");
const SECOND: u32 = 1_000_000;

#[test]
fn hello_and_descriptors_come_first_then_state_of_every_kind() {
    counter!(static COUNTER = "a.counter", Level::INFO);
    gauge!(static WHOLE: i32 = "a.whole", Level::ERROR);
    gauge!(static FLOAT: f32 = "a.float", Level::INFO);
    timer!(static TIMER = "a.timer", Level::INFO, buckets = 20);
    static METRICS: [Item; 4] = metrics![COUNTER, WHOLE, FLOAT, TIMER];
    COUNTER.add(3);
    COUNTER.increment();
    WHOLE.set(-5);
    WHOLE.set(6);
    FLOAT.set(1.5);
    for ticks in [4, 9, 5_000] {
        TIMER.record(ticks);
    }
    let (clock, mut line, mut seq) = (Ticks::new(0u32.wrapping_sub(5)), Line::default(), 0);
    let mut link = Link::new(&METRICS, SETTINGS);
    link.poll(clock, &mut line).unwrap();
    let said = line.take(&mut seq);
    assert_eq!(said[0], Said::Hello { boot: 5, uptime: 0, metrics: 4 });
    let described = [(Form::Counter, 0), (Form::Whole, 1), (Form::Float, 0), (Form::Buckets, 0)];
    let names = ["a.counter", "a.whole", "a.float", "a.timer"];
    for (id, ((form, level_number), name)) in (0..).zip(described.into_iter().zip(names)) {
        let name = name.to_owned();
        assert_eq!(said[usize::from(id) + 1], Said::Descriptor { id, form, level_number, name });
    }
    let mut buckets = vec![(4, 1), (5, 0), (6, 0), (7, 0), (8, 1)];
    buckets.extend((9..19).map(|bucket| (bucket, 0)));
    buckets.push((19, 1));
    let entries = vec![
        Entry::Counter(0, 4),
        Entry::Whole(1, 2, 6),
        Entry::Float(2, 1, 1.5),
        Entry::Timer(3, 3, 5_013, Some((4, 5_000))),
        Entry::Buckets(3, buckets),
    ];
    assert_eq!(said[5..], [Said::State { is_all: true, is_last: true, is_end: false, lost: 0, entries }]);
    // A window in which nothing happens is a sign of life, and has one descriptor beside it.
    clock.pass(SECOND);
    link.poll(clock, &mut line).unwrap();
    let said = line.take(&mut seq);
    let idle = Said::State { is_all: false, is_last: true, is_end: false, lost: 0, entries: vec![] };
    assert!(said.contains(&idle) && said.len() == 2, "{said:?}");
    // Only what changed, and a range that is the window's own.
    clock.pass(SECOND);
    COUNTER.add(1);
    link.poll(clock, &mut line).unwrap();
    assert_eq!(states(line.take(&mut seq)), [Entry::Counter(0, 5)]);
    TIMER.record(7);
    let mut windows = 0;
    let entries = loop {
        clock.pass(SECOND);
        link.poll(clock, &mut line).unwrap();
        let entries = states(line.take(&mut seq));
        if !entries.is_empty() {
            break entries;
        }
        windows += 1;
    };
    assert_eq!(windows, 1, "a timer with buckets goes out every fourth window");
    assert_eq!(entries[0], Entry::Timer(3, 4, 5_020, Some((7, 7))));
    assert_eq!(link.uptime(), u64::from(4 * SECOND));
}

#[test]
fn all_metrics_are_said_every_tenth_window_changed_or_not() {
    counter!(static COUNTER = "b.counter", Level::INFO);
    timer!(static TIMER = "b.timer", Level::INFO);
    static METRICS: [Item; 2] = metrics![COUNTER, TIMER];
    COUNTER.add(7);
    let (clock, mut line, mut seq) = (Ticks::new(1), Line::default(), 0);
    let mut link = Link::new(&METRICS, SETTINGS);
    let mut with_all = vec![];
    for window in 0..31 {
        link.poll(clock, &mut line).unwrap();
        for said in line.take(&mut seq) {
            if let Said::State { is_all: true, entries, .. } = said {
                assert_eq!(entries, [Entry::Counter(0, 7), Entry::Timer(1, 0, 0, None)]);
                with_all.push(window);
            }
        }
        clock.pass(SECOND);
    }
    assert_eq!(with_all, [0, 10, 20, 30]);
}

#[test]
fn cells_that_wrap_are_widened() {
    counter!(static COUNTER = "c.counter", Level::INFO);
    local_timer!(static TIMER = "c.timer", Level::INFO);
    static METRICS: [Item; 2] = metrics![COUNTER, TIMER];
    let mut timer = TIMER.take().unwrap();
    let (clock, mut line, mut seq) = (Ticks::new(0), Line::default(), 0);
    let mut link = Link::new(&METRICS, SETTINGS);
    let (mut sum, mut ticks) = (0u64, 0u64);
    for round in 0..40u32 {
        let n = 3_000_000_000 + round;
        COUNTER.add(n);
        timer.record(n);
        (sum, ticks) = (sum + u64::from(n), ticks + u64::from(n));
        clock.pass(SECOND);
        link.poll(clock, &mut line).unwrap();
        let entries = states(line.take(&mut seq));
        assert_eq!(entries[0], Entry::Counter(0, sum));
        assert_eq!(entries[1], Entry::Timer(1, u64::from(round) + 1, ticks, Some((n, n))));
    }
    assert!(sum > 27 << 32);
}

#[test]
fn a_level_on_demand_is_on_as_long_as_a_mask_says_so() {
    counter!(static ALWAYS = "d.always", Level::INFO);
    counter!(static DEBUG = "d.debug", Level::DEBUG);
    local_timer!(static TRACE = "d.trace", Level::TRACE);
    gauge!(static GAUGE: i32 = "d.gauge", Level::DEBUG);
    static METRICS: [Item; 4] = metrics![ALWAYS, DEBUG, TRACE, GAUGE];
    static RING: SampleRing<4> = SampleRing::new();
    let (clock, mut line, mut seq) = (Ticks::new(0), Line::default(), 0);
    let mut trace = TRACE.take().unwrap();
    let mut samples = RING.producer().unwrap();
    let mut link = Link::new(&METRICS, SETTINGS);
    assert!(link.add_ring(RING.consumer()));
    let mut recorded = |link: &mut Link| {
        ALWAYS.add(1);
        DEBUG.add(1);
        GAUGE.set(1);
        assert_eq!(trace.start(clock).stop().is_some(), link.is_on(Level::TRACE));
        assert!(samples.push(&DEBUG, 1, clock));
        clock.pass(SECOND);
        link.poll(clock, &mut line).unwrap();
        let said = line.take(&mut seq);
        let sampled = said.iter().any(|said| matches!(said, Said::Samples { .. }));
        let changed = states(said).into_iter().filter(|entry| {
            !matches!(entry, Entry::Counter(_, 0) | Entry::Timer(_, 0, ..) | Entry::Whole(_, 0, _))
        });
        (changed.count(), sampled)
    };
    assert_eq!(recorded(&mut link), (1, false), "only what is always on");
    // In pieces, behind noise, and with a frame that is none.
    let mask = down(kind::MASK, Some(0b010));
    link.receive(&[7, 9, 0]);
    link.receive(&mask[..4]);
    link.receive(&mask[4..]);
    assert!(link.is_on(Level::INFO) && link.is_on(Level::DEBUG) && !link.is_on(Level::TRACE));
    assert!(!link.is_on(Level::CRITICAL), "no metric has it");
    assert_eq!(recorded(&mut link), (3, true));
    link.receive(&down(kind::MASK, Some(0b100)));
    assert_eq!(recorded(&mut link), (2, false));
    for _ in 0..13 {
        assert!(!recorded(&mut link).1);
        assert!(link.is_on(Level::TRACE), "for 15 s");
    }
    recorded(&mut link);
    assert!(!link.is_on(Level::TRACE), "nobody repeated the mask");
    // One without a number says nothing, and what a later version appends is skipped.
    link.receive(&down(kind::MASK, Some(0b010)));
    link.receive(&down(kind::MASK, None));
    assert!(link.is_on(Level::DEBUG));
    let mut writer = Writer::new();
    writer.start(kind::MASK);
    writer.varint(0b100);
    writer.bytes(&[1, 0xff, 2, 0, 0, 7]);
    link.receive(writer.finish());
    assert!(link.is_on(Level::TRACE) && !link.is_on(Level::DEBUG));
    // A mask of all ones, as long as it may be.
    link.receive(&down(kind::MASK, Some(u32::MAX)));
    assert!(link.is_on(Level::DEBUG) && link.is_on(Level::TRACE));
}

#[test]
fn whoever_asks_hears_hello_and_all_descriptors_again() {
    counter!(static A = "e.a", Level::INFO);
    counter!(static B = "e.b", Level::INFO);
    static METRICS: [Item; 2] = metrics![A, B];
    let (clock, mut line, mut seq) = (Ticks::new(0), Line::default(), 0);
    let mut link = Link::new(&METRICS, SETTINGS);
    link.poll(clock, &mut line).unwrap();
    line.take(&mut seq);
    clock.pass(10);
    link.poll(clock, &mut line).unwrap();
    assert!(line.take(&mut seq).is_empty());
    link.receive(&down(kind::ASK, None));
    clock.pass(10);
    link.poll(clock, &mut line).unwrap();
    let said = line.take(&mut seq);
    assert!(
        matches!(said[..], [Said::Hello { .. }, Said::Descriptor { .. }, Said::Descriptor { .. }]),
        "{said:?}"
    );
    clock.pass(SECOND);
    link.poll(clock, &mut line).unwrap();
    let is_all = |said: &Said| matches!(said, Said::State { is_all: true, .. });
    assert!(line.take(&mut seq).iter().any(is_all), "whoever asks has no state either");
    // Unasked, hello comes every ten seconds.
    let mut hellos = 0;
    for _ in 0..30 {
        clock.pass(SECOND);
        link.poll(clock, &mut line).unwrap();
        hellos += line.take(&mut seq).iter().filter(|said| matches!(said, Said::Hello { .. })).count();
    }
    assert_eq!(hellos, 3);
}

#[test]
fn samples_come_with_their_values_and_times_and_what_is_lost_is_counted() {
    timer!(static TIMER = "f.timer", Level::INFO);
    local_gauge!(static GAUGE: i32 = "f.gauge", Level::INFO);
    gauge!(static FLOAT: f32 = "f.float", Level::INFO);
    counter!(static STRANGER = "f.stranger", Level::INFO);
    static METRICS: [Item; 3] = metrics![TIMER, GAUGE, FLOAT];
    static RING: SampleRing<8> = SampleRing::new();
    static SHARED: SharedSampleRing<4> = SharedSampleRing::new();
    let (clock, mut line, mut seq) = (Ticks::new(0u32.wrapping_sub(500)), Line::default(), 0);
    let mut producer = RING.producer().unwrap();
    assert!(RING.producer().is_none());
    let mut link = Link::new(&METRICS, SETTINGS);
    assert!(link.add_ring(RING.consumer()) && link.add_ring(SHARED.consumer()));
    assert!(!link.add_ring(RING.consumer()), "a ring has one consumer");
    link.poll(clock, &mut line).unwrap();
    line.take(&mut seq);
    for value in 0..10 {
        clock.pass(100);
        assert_eq!(producer.push(&TIMER, value, clock), value < 8);
    }
    assert!(
        SHARED.push(&GAUGE, -3, clock) && SHARED.push(&STRANGER, 1, clock) && SHARED.push(&FLOAT, 0.5, clock)
    );
    clock.pass(7);
    link.poll(clock, &mut line).unwrap();
    let said = line.take(&mut seq);
    // A frame has samples of one ring.
    let [Said::Samples { first: 0, lost: 2, samples }, Said::Samples { first: 8, lost: 2, samples: shared }] =
        &said[..]
    else {
        unreachable!("{said:?}")
    };
    let ticks = |at: u32| Sample { id: 0, time: 100 * (at + 1), value: SampleValue::Ticks(at) };
    assert_eq!(*samples, (0..8).map(ticks).collect::<Vec<_>>());
    let whole = Sample { id: 1, time: 1_000, value: SampleValue::Whole(-3) };
    assert_eq!(*shared, [whole, Sample { id: 2, time: 1_000, value: SampleValue::Float(0.5) }]);
    // Numbers go on; what nobody listed is counted as lost.
    SHARED.push(&GAUGE, 4, clock);
    clock.pass(SECOND);
    link.poll(clock, &mut line).unwrap();
    let said = line.take(&mut seq);
    assert!(
        said.iter()
            .any(|said| matches!(said, Said::Samples { first: 10, lost: 3, samples } if samples.len() == 1))
    );
    assert!(said.iter().any(|said| matches!(said, Said::State { lost: 3, .. })));
    assert_eq!((RING.lost(), SHARED.lost()), (2, 0));
}

#[test]
fn the_budget_holds_and_state_comes_before_samples() {
    timer!(static TIMER = "g.timer", Level::INFO);
    counter!(static COUNTER = "g.counter", Level::INFO);
    static METRICS: [Item; 2] = metrics![TIMER, COUNTER];
    static RING: SampleRing<64> = SampleRing::new();
    let (clock, mut line, mut seq) = (Ticks::new(0), Line::default(), 0);
    let mut producer = RING.producer().unwrap();
    let mut link = Link::new(&METRICS, SETTINGS.bytes_per_second(1_000));
    link.add_ring(RING.consumer());
    let (mut bytes, mut windows, mut samples, mut pushed) = (0, 0, 0, 0);
    for step in 0..60_000u32 {
        COUNTER.add(1);
        clock.pass(1_000);
        pushed += u32::from(producer.push(&TIMER, step, clock));
        bytes += link.poll(clock, &mut line).unwrap();
        for said in line.take(&mut seq) {
            windows += usize::from(matches!(said, Said::State { is_last: true, .. }));
            if let Said::Samples { samples: some, .. } = said {
                samples += some.len() as u32;
            }
        }
    }
    assert!((59_000..=60_600).contains(&bytes), "{bytes} bytes in 60 s at 1 000 a second");
    assert!((59..=61).contains(&windows), "{windows} windows in 60 s");
    assert!(samples > 9_000 && RING.lost() > 10_000, "{samples} went out and {} were lost", RING.lost());
    assert!(pushed - samples <= 64 && pushed + RING.lost() == 60_000);
}

/// Interrupts that take a sample whenever the line is written to, without a budget: a poll ends all the same.
#[test]
fn a_poll_ends_however_fast_samples_come() {
    timer!(static TIMER = "m.timer", Level::INFO);
    static METRICS: [Item; 1] = metrics![TIMER];
    static RING: SharedSampleRing<64> = SharedSampleRing::new();
    struct Busy(Ticks, usize);
    impl embedded_io::ErrorType for Busy {
        type Error = Infallible;
    }
    impl embedded_io::Write for Busy {
        fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
            self.1 += 1;
            assert!(self.1 < 1_000, "it goes on and on");
            self.0.pass(SECOND);
            while RING.push(&TIMER, 1, self.0) {}
            Ok(bytes.len())
        }
        fn flush(&mut self) -> Result<(), Infallible> {
            Ok(())
        }
    }
    let clock = Ticks::new(0);
    let mut link = Link::new(&METRICS, SETTINGS);
    link.add_ring(RING.consumer());
    let mut busy = Busy(clock, 0);
    for _ in 0..10 {
        link.poll(clock, &mut busy).unwrap();
    }
    link.end(clock, &mut busy).unwrap();
}

#[test]
fn a_state_that_needs_many_frames_comes_whole_and_bucket_by_bucket() {
    timer!(static A = "h.a", Level::INFO, buckets = 124);
    timer!(static B = "h.b", Level::INFO, buckets = 124);
    counter!(static C = "h.c", Level::INFO);
    static METRICS: [Item; 3] = metrics![A, B, C];
    for bucket in 0..124 {
        let (low, high) = link::bucket_bounds(bucket).unwrap();
        for _ in 0..300 {
            A.record(low);
        }
        B.record(high);
    }
    C.add(1);
    let (clock, mut line, mut seq) = (Ticks::new(0), Line::default(), 0);
    let mut link = Link::new(&METRICS, SETTINGS);
    let mut said = vec![];
    for _ in 0..20 {
        link.poll(clock, &mut line).unwrap();
        said.extend(line.take(&mut seq));
        clock.pass(100);
    }
    let lasts = said
        .iter()
        .filter_map(|said| if let Said::State { is_last, .. } = said { Some(*is_last) } else { None });
    let lasts: Vec<_> = lasts.collect();
    assert!(lasts.len() > 1 && lasts.iter().rposition(|last| !last) == Some(lasts.len() - 2), "{lasts:?}");
    let mut counts = [[0; 124]; 2];
    for entry in states(said) {
        match entry {
            Entry::Buckets(id, buckets) => {
                for (bucket, count) in buckets {
                    counts[usize::from(id)][bucket] = count;
                }
            }
            Entry::Timer(id, count, ..) => assert_eq!(count, [124 * 300, 124][usize::from(id)]),
            other => assert_eq!(other, Entry::Counter(2, 1)),
        }
    }
    assert_eq!(counts, [[300; 124], [1; 124]]);
}

#[test]
fn the_end_has_all_that_was_recorded_and_says_so() {
    counter!(static COUNTER = "i.counter", Level::INFO);
    local_gauge!(static GAUGE: i32 = "i.gauge", Level::INFO);
    static METRICS: [Item; 2] = metrics![COUNTER, GAUGE];
    static RING: SampleRing<64> = SampleRing::new();
    let (clock, mut line, mut seq) = (Ticks::new(0), Line::default(), 0);
    let mut producer = RING.producer().unwrap();
    // So poor that nothing but the end's ignoring it gets anything out.
    let mut link = Link::new(&METRICS, SETTINGS.bytes_per_second(100));
    link.add_ring(RING.consumer());
    COUNTER.add(9);
    for value in 0..64 {
        producer.push(&GAUGE, value, clock);
    }
    link.end(clock, &mut line).unwrap();
    let said = line.take(&mut seq);
    let end = said.last().unwrap();
    let entries = vec![Entry::Counter(0, 9), Entry::Whole(1, 0, 0)];
    assert_eq!(*end, Said::State { is_all: true, is_last: true, is_end: true, lost: 0, entries });
    let samples: usize = said
        .iter()
        .map(|said| if let Said::Samples { samples, .. } = said { samples.len() } else { 0 })
        .sum();
    assert_eq!(samples, 64);
    assert!(said.iter().filter(|said| matches!(said, Said::Descriptor { .. })).count() == 2);
    // Whoever goes on all the same does not end again and again.
    clock.pass(20 * SECOND);
    link.poll(clock, &mut line).unwrap();
    assert!(!line.take(&mut seq).iter().any(|said| matches!(said, Said::State { is_end: true, .. })));
}

#[test]
fn a_writer_that_fails_loses_that_frame_and_nothing_else() {
    struct Broken;
    impl embedded_io::ErrorType for Broken {
        type Error = embedded_io::ErrorKind;
    }
    impl embedded_io::Write for Broken {
        fn write(&mut self, bytes: &[u8]) -> Result<usize, embedded_io::ErrorKind> {
            // What a device says before its first frame.
            if bytes == [0] { Ok(1) } else { Err(embedded_io::ErrorKind::Other) }
        }
        fn flush(&mut self) -> Result<(), embedded_io::ErrorKind> {
            Ok(())
        }
    }
    counter!(static COUNTER = "j.counter", Level::INFO);
    static METRICS: [Item; 1] = metrics![COUNTER];
    COUNTER.add(5);
    let (clock, mut line) = (Ticks::new(0), Line::default());
    let mut link = Link::new(&METRICS, SETTINGS);
    let mut failed = 0;
    while link.poll(clock, &mut Broken).is_err() {
        failed += 1;
    }
    assert_eq!(failed, 3, "hello, descriptor, state");
    for _ in 0..10 {
        clock.pass(SECOND);
        link.poll(clock, &mut line).unwrap();
    }
    assert_eq!(states(line.take(&mut failed)), [Entry::Counter(0, 5)]);
}

/// A writer that breaks off in the middle of a frame.
#[test]
fn a_frame_that_broke_off_does_not_take_the_next_one_with_it() {
    struct Torn<'a>(&'a mut Vec<u8>, bool);
    impl embedded_io::ErrorType for Torn<'_> {
        type Error = embedded_io::ErrorKind;
    }
    impl embedded_io::Write for Torn<'_> {
        fn write(&mut self, bytes: &[u8]) -> Result<usize, embedded_io::ErrorKind> {
            if bytes.len() < 9 {
                // What is left of the frame, or the zero before it.
                return if self.1 {
                    Err(embedded_io::ErrorKind::TimedOut)
                } else {
                    self.take(bytes, bytes.len())
                };
            }
            self.take(bytes, if self.1 { bytes.len() - 5 } else { bytes.len() })
        }
        fn flush(&mut self) -> Result<(), embedded_io::ErrorKind> {
            Ok(())
        }
    }
    impl Torn<'_> {
        fn take(&mut self, bytes: &[u8], length: usize) -> Result<usize, embedded_io::ErrorKind> {
            self.0.extend_from_slice(&bytes[..length]);
            Ok(length)
        }
    }
    counter!(static COUNTER = "n.counter", Level::INFO);
    static METRICS: [Item; 1] = metrics![COUNTER];
    let (clock, mut bytes) = (Ticks::new(0), vec![]);
    let mut link = Link::new(&METRICS, SETTINGS);
    link.poll(clock, &mut Torn(&mut bytes, false)).unwrap();
    bytes.clear();
    clock.pass(SECOND);
    link.poll(clock, &mut Torn(&mut bytes, true)).unwrap_err();
    COUNTER.add(3);
    clock.pass(SECOND);
    link.poll(clock, &mut Torn(&mut bytes, false)).unwrap();
    let mut receiver: Receiver = Receiver::new();
    let (mut whole, mut broken) = (0, 0);
    for byte in bytes {
        match receiver.push(byte) {
            Some(Ok(_)) => whole += 1,
            Some(Err(_)) => broken += 1,
            None => {}
        }
    }
    assert_eq!(broken, 1, "the one that broke off");
    assert!(whole >= 1, "the state behind it");
}

#[test]
fn a_budget_that_is_no_whole_number_of_ticks_is_not_exceeded() {
    counter!(static COUNTER = "o.counter", Level::INFO);
    static METRICS: [Item; 1] = metrics![COUNTER];
    static RING: SampleRing<256> = SampleRing::new();
    let mut producer = RING.producer().unwrap();
    let (clock, mut line) = (Ticks::new(0), Line::default());
    let mut link = Link::new(&METRICS, Settings::new(32_768).bytes_per_second(11_520));
    link.add_ring(RING.consumer());
    let mut sent = 0;
    for step in 0..60 * 32_768 / 8 {
        clock.pass(8);
        producer.push(&COUNTER, step, clock);
        sent += link.poll(clock, &mut line).unwrap();
    }
    assert!((600_000..=60 * 11_520 + 510).contains(&sent), "{sent} bytes in 60 s");
}

#[test]
fn guards_record_once_whatever_way_they_end() {
    timer!(static TIMER = "k.timer", Level::INFO);
    local_timer!(static LOCAL = "k.local", Level::INFO);
    static METRICS: [Item; 2] = metrics![TIMER, LOCAL];
    let (clock, mut line, mut seq) = (Ticks::new(0), Line::default(), 0);
    let mut local = LOCAL.take().unwrap();
    assert!(LOCAL.take().is_none());
    drop((TIMER.start(clock), local.start(clock)));
    TIMER.start(clock).cancel();
    let guard = TIMER.start(clock);
    clock.pass(30);
    assert_eq!(guard.stop(), Some(30));
    let early = |local: &mut OwnedTimer<LOCAL>| -> Option<()> {
        let _guard = local.start(clock);
        clock.pass(20);
        None
    };
    early(&mut local);
    assert_eq!(local.measure(clock, || 6 * 7), 42);
    assert_eq!(TIMER.measure(clock, || 6 * 7), 42);
    let mut link = Link::new(&METRICS, SETTINGS);
    link.poll(clock, &mut line).unwrap();
    let entries = states(line.take(&mut seq));
    assert_eq!(entries, [Entry::Timer(0, 3, 30, Some((0, 30))), Entry::Timer(1, 3, 20, Some((0, 20)))]);
}

#[test]
fn metrics_in_one_static_count_as_those_in_two() {
    static COUNTER: Counter = Counter::new("l.counter", Level::INFO).unit("frames").tags(&[("a", "b")]);
    static DEBUG: Counter = Counter::new("l.debug", Level::DEBUG);
    static GAUGE: Gauge = Gauge::new("l.gauge", Level::INFO).source("left");
    static TIMER: Timer = Timer::new("l.timer", Level::INFO);
    static METRICS: [Item; 4] = metrics![COUNTER, DEBUG, GAUGE, TIMER];
    COUNTER.add(2);
    DEBUG.add(2);
    GAUGE.set(2.5);
    TIMER.record(9);
    let (clock, mut line, mut seq) = (Ticks::new(0), Line::default(), 0);
    let mut link = Link::new(&METRICS, SETTINGS);
    link.poll(clock, &mut line).unwrap();
    let expected = [
        Entry::Counter(0, 2),
        Entry::Counter(1, 0),
        Entry::Float(2, 1, 2.5),
        Entry::Timer(3, 1, 9, Some((9, 9))),
    ];
    assert_eq!(states(line.take(&mut seq)), expected);
}

#[test]
fn the_words_of_a_metric_are_as_many_as_documented() {
    assert_eq!(size_of::<CounterCell>(), 20);
    assert_eq!(size_of::<GaugeCell>(), 24);
    assert_eq!((size_of::<TimerCell>(), size_of::<TimerCell<124>>()), (40, 40 + 4 * 124));
}
