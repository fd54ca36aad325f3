use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::level::Level;
use crate::metric::Gauge;

static METRIC: Gauge = Gauge::new("ring.test", Level::INFO);

/// An empty ring after `start` records.
fn ring_started_at<const N: usize>(start: usize) -> Ring<N> {
    let start = start.wrapping_mul(index::STEP);
    let mut ring = Ring::new();
    ring.producer.0 = ProducerWords { tail: AtomicUsize::new(start), limit: Slot::new(start) };
    ring.head.0 = AtomicUsize::new(start);
    ring
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 5 } else { 256 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]
    #[test]
    fn any_sequence_of_operations_is_a_queue(
        operations in proptest::collection::vec(prop_oneof![3 => Just(true), 1 => Just(false)], 0..200),
        start in prop_oneof![Just(0usize), Just(usize::MAX - 3), any::<usize>()],
    ) {
        const N: usize = 8;
        let mut ring = ring_started_at::<N>(start);
        let (mut producer, mut consumer) = ring.split();
        let mut oracle = VecDeque::new();
        for (value, push) in operations.into_iter().enumerate() {
            if push {
                let pushed = producer.push(METRIC.metric(), value as u64);
                prop_assert_eq!(pushed, oracle.len() < N);
                if pushed {
                    oracle.push_back(value as u64);
                }
            } else {
                let mut read = VecDeque::new();
                let drained = consumer.drain(|record| read.push_back(record.value));
                prop_assert_eq!(drained, Drained { records: oracle.len(), corrupt: false });
                prop_assert_eq!(&read, &oracle);
                oracle.clear();
            }
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
