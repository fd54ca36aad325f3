use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::level::Level;
use crate::metric::Gauge;

static METRIC: Gauge = Gauge::new("ring.test", Level::INFO);
static OTHER: Gauge = Gauge::new("ring.other", Level::INFO);

/// An empty ring after `start` records.
fn ring_started_at<const N: usize>(start: usize) -> Ring<N> {
    let start = start.wrapping_mul(index::STEP);
    let mut ring = Ring::new();
    ring.producer.0 = ProducerWords { tail: AtomicUsize::new(start), limit: Slot::new(start) };
    ring.head.0 = AtomicUsize::new(start);
    ring
}

/// What may happen to a ring.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Push,
    Drain,
    /// A drain during which the producer goes on, one push for each record taken out and one more.
    DrainAndPush,
}

/// A ring, and what it should hold.
struct Checked<'a, const N: usize> {
    producer: Producer<'a, N>,
    consumer: Consumer<'a, N>,
    /// Values in the order they went in.
    oracle: VecDeque<u64>,
    pushes: u64,
}

impl<'a, const N: usize> Checked<'a, N> {
    fn new(ring: &'a mut Ring<N>) -> Self {
        let (producer, consumer) = ring.split();
        Self { producer, consumer, oracle: VecDeque::new(), pushes: 0 }
    }

    fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Push => self.push(N),
            Operation::Drain => self.drain(false),
            Operation::DrainAndPush => self.drain(true),
        }
        assert_eq!(self.producer.ring.len(), self.oracle.len());
        assert_eq!(self.producer.ring.is_empty(), self.oracle.is_empty());
    }

    /// Pushes the next value, for which there is room if fewer than `room` are held.
    fn push(&mut self, room: usize) {
        let has_room = self.oracle.len() < room;
        assert_eq!(self.producer.push(metric_of(self.pushes), self.pushes), has_room);
        if has_room {
            self.oracle.push_back(self.pushes);
        }
        self.pushes += 1;
    }

    fn drain(&mut self, and_push: bool) {
        let Self { producer, consumer, oracle, pushes } = self;
        let (expected, mut room) = (oracle.len(), N - oracle.len());
        let mut taken = 0;
        let drained = consumer.drain(|record| {
            assert_eq!(Some(record.value), oracle.pop_front(), "in order, once");
            assert!(core::ptr::eq(record.metric, metric_of(record.value)));
            taken += 1;
            if and_push {
                // What is drained makes room only at the end of the pass.
                assert_eq!(producer.push(metric_of(*pushes), *pushes), room > 0);
                if room > 0 {
                    oracle.push_back(*pushes);
                    room -= 1;
                }
                *pushes += 1;
            }
        });
        assert_eq!(taken, expected, "what was there at the start of the call");
        assert_eq!(drained, Drained { records: expected, corrupt: false });
        if and_push {
            self.push(N);
        }
    }
}

/// Values take turns between two metrics.
fn metric_of(value: u64) -> &'static crate::metric::Metric {
    if value.is_multiple_of(2) { METRIC.metric() } else { OTHER.metric() }
}

/// Every sequence of `length` operations, on a ring that starts after `start` records.
fn check_all_sequences<const N: usize>(length: u32, start: usize) {
    for sequence in 0..3usize.pow(length) {
        let mut ring = ring_started_at::<N>(start);
        let mut checked = Checked::new(&mut ring);
        for at in 0..length {
            checked.apply(match sequence / 3usize.pow(at) % 3 {
                0 => Operation::Push,
                1 => Operation::Drain,
                _ => Operation::DrainAndPush,
            });
        }
    }
}

#[test]
fn all_short_sequences_of_operations_on_small_rings_are_a_queue() {
    let length = if cfg!(miri) { 3 } else { 8 };
    // Before, on and behind the place where the indices wrap.
    for start in [0usize, 1, usize::MAX, usize::MAX - 1, usize::MAX - 2, usize::MAX - 3] {
        check_all_sequences::<1>(length, start);
        check_all_sequences::<2>(length, start);
        check_all_sequences::<4>(length, start);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 5 } else { 256 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]
    #[test]
    fn any_sequence_of_operations_is_a_queue(
        operations in proptest::collection::vec(
            prop_oneof![
                6 => Just(Operation::Push),
                1 => Just(Operation::Drain),
                1 => Just(Operation::DrainAndPush),
            ],
            0..200,
        ),
        start in prop_oneof![Just(0usize), (0..200usize).prop_map(|below| usize::MAX - below), any::<usize>()],
    ) {
        let mut ring = ring_started_at::<8>(start);
        let mut checked = Checked::new(&mut ring);
        for operation in operations {
            checked.apply(operation);
        }
    }
}

#[test]
fn indices_out_of_range_empty_the_ring_and_are_reported() {
    let mut ring = Ring::<4>::new();
    ring.producer.0.tail.store(100 * index::STEP, Ordering::Relaxed);
    let (_, mut consumer) = ring.split();
    assert_eq!(consumer.drain(|_| panic!("nothing can be read")), Drained { records: 0, corrupt: true });
    assert_eq!(consumer.drain(|_| ()), Drained::default());
}

#[test]
fn two_threads_lose_and_repeat_nothing() {
    const RECORDS: u64 = if cfg!(miri) { 300 } else { 2_000_000 };
    let mut ring = Ring::<64>::new();
    let (mut producer, mut consumer) = ring.split();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for value in 0..RECORDS {
                while !producer.push(METRIC.metric(), value) {
                    std::thread::yield_now();
                }
            }
        });
        let mut next = 0;
        while next < RECORDS {
            let drained = consumer.drain(|record| {
                assert_eq!(record.value, next);
                assert!(core::ptr::eq(record.metric, METRIC.metric()));
                next += 1;
            });
            if drained.records == 0 {
                std::thread::yield_now();
            }
        }
    });
}
