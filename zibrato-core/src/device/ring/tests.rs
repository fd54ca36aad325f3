use std::collections::VecDeque;
use std::prelude::v1::*;

use proptest::prelude::*;

use super::*;

static METRIC: u8 = 7;
static OTHER: u8 = 8;

fn record(value: u32) -> Record<u8> {
    let metric = if value.is_multiple_of(3) { &OTHER } else { &METRIC };
    Record { metric, time: !value, bits: value }
}

fn value_of(record: &Record<u8>) -> u32 {
    assert_eq!(record.time, !record.bits, "time and bits of one record");
    assert_eq!(*record.metric == OTHER, record.bits.is_multiple_of(3));
    record.bits
}

/// Runs pushes (true) and pops against a queue of the same capacity.
fn check<const N: usize>(operations: &[bool], among: bool) {
    let ring = Slots::<u8, N>::new();
    // Both sides of the wrap.
    for start in [0, 0u32.wrapping_sub(5)] {
        ring.tail.store(start, Relaxed);
        ring.head.store(start, Relaxed);
        let (mut oracle, mut lost) = (VecDeque::new(), ring.lost());
        for (value, &push) in (0..).zip(operations) {
            if push {
                // SAFETY: one thread is all contexts here.
                let pushed = if among {
                    ring.push_among(record(value))
                } else {
                    unsafe { ring.push_alone(record(value)) }
                };
                assert_eq!(pushed, oracle.len() < N);
                if pushed {
                    oracle.push_back(value);
                } else {
                    lost += 1;
                }
            } else {
                // SAFETY: as above.
                let popped = unsafe { ring.pop() };
                assert_eq!(popped.as_ref().map(value_of), oracle.pop_front());
            }
            assert_eq!(ring.lost(), lost);
        }
        // SAFETY: as above.
        while let Some(left) = unsafe { ring.pop() } {
            assert_eq!(Some(value_of(&left)), oracle.pop_front());
        }
        assert!(oracle.is_empty());
    }
}

#[test]
fn every_sequence_of_pushes_and_pops_of_small_rings_is_a_queue() {
    // Miri takes a thousand times as long.
    let length = if cfg!(miri) { 6 } else { 12 };
    for bits in 0..1u32 << length {
        let operations: Vec<bool> = (0..length).map(|at| bits >> at & 1 != 0).collect();
        for among in [false, true] {
            check::<1>(&operations, among);
            check::<2>(&operations, among);
            check::<4>(&operations, among);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 256 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn long_sequences_are_a_queue(operations in proptest::collection::vec(any::<bool>(), 0..400), among in any::<bool>()) {
        check::<8>(&operations, among);
        check::<64>(&operations, among);
    }
}

/// Real threads: what every producer pushed comes out once, whole, and in its order.
#[test]
fn several_producers_lose_and_mix_nothing() {
    const PRODUCERS: u32 = 3;
    let each: u32 = if cfg!(miri) { 60 } else { 200_000 };
    static RING: Slots<u8, 16> = Slots::new();
    let producer = |id: u32| {
        move || {
            let mut pushed = 0;
            while pushed < each {
                if RING.push_among(record(pushed << 2 | id)) {
                    pushed += 1;
                } else {
                    std::thread::yield_now();
                }
            }
        }
    };
    let threads: Vec<_> = (0..PRODUCERS).map(|id| std::thread::spawn(producer(id))).collect();
    let mut next = [0; PRODUCERS as usize];
    while next.iter().sum::<u32>() < PRODUCERS * each {
        // SAFETY: this thread is the only consumer.
        let Some(popped) = (unsafe { RING.pop() }) else {
            std::thread::yield_now();
            continue;
        };
        let value = value_of(&popped);
        let id = (value & 3) as usize;
        assert_eq!(value >> 2, next[id], "of producer {id}");
        next[id] += 1;
    }
    for thread in threads {
        thread.join().unwrap();
    }
    // SAFETY: as above.
    assert!(unsafe { RING.pop() }.is_none());
}
