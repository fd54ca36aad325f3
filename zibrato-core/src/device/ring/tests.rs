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

/// A ring that is filled in either way.
trait Filled {
    fn start_at(&self, start: u32);
    fn push(&self, record: Record<u8>) -> bool;
    fn pop(&self) -> Option<Record<u8>>;
    fn lost(&self) -> u32;
}

macro_rules! filled {
    ($alone:expr, $this:ident, $start:ident => $tail:expr, $push:expr) => {
        impl<const N: usize> Filled for Slots<u8, N, $alone> {
            fn start_at(&self, $start: u32) {
                self.tail.store($tail, Relaxed);
                self.head.store($start, Relaxed);
            }
            fn push(&self, record: Record<u8>) -> bool {
                let $this = self;
                $push(record)
            }
            fn pop(&self) -> Option<Record<u8>> {
                // SAFETY: one thread is all contexts here.
                unsafe { self.pop() }
            }
            fn lost(&self) -> u32 {
                self.lost()
            }
        }
    };
}

filled!(false, this, start => start, |record| this.push_among(record));
filled!(true, this, start => start.wrapping_neg() % N as u32 * size_of::<SampleSlot<u8>>() as u32, |record| {
    // SAFETY: one thread is all contexts here.
    unsafe { this.push_alone(record) }
});

/// Runs pushes (true) and pops against a queue of the same capacity.
fn check<const N: usize>(operations: &[bool], ring: &impl Filled) {
    // Both sides of the wrap.
    for start in [0, 0u32.wrapping_sub(5)] {
        ring.start_at(start);
        let (mut oracle, mut lost) = (VecDeque::new(), ring.lost());
        for (value, &push) in (0..).zip(operations) {
            if push {
                let pushed = ring.push(record(value));
                assert_eq!(pushed, oracle.len() < N);
                if pushed {
                    oracle.push_back(value);
                } else {
                    lost += 1;
                }
            } else {
                assert_eq!(ring.pop().as_ref().map(value_of), oracle.pop_front());
            }
            assert_eq!(ring.lost(), lost);
        }
        while let Some(left) = ring.pop() {
            assert_eq!(Some(value_of(&left)), oracle.pop_front());
        }
        assert!(oracle.is_empty());
    }
}

/// In both ways.
fn check_both<const N: usize>(operations: &[bool]) {
    check::<N>(operations, &Slots::<u8, N, true>::new());
    check::<N>(operations, &Slots::<u8, N, false>::new());
}

#[test]
fn every_sequence_of_pushes_and_pops_of_small_rings_is_a_queue() {
    // Miri takes a thousand times as long.
    let length = if cfg!(miri) { 6 } else { 12 };
    for bits in 0..1u32 << length {
        let operations: Vec<bool> = (0..length).map(|at| bits >> at & 1 != 0).collect();
        check_both::<1>(&operations);
        check_both::<2>(&operations);
        check_both::<4>(&operations);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 256 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn long_sequences_are_a_queue(operations in proptest::collection::vec(any::<bool>(), 0..400)) {
        check_both::<8>(&operations);
        check_both::<64>(&operations);
    }
}

/// Real threads: what every producer pushed comes out once, whole, and in its order.
#[test]
fn several_producers_lose_and_mix_nothing() {
    const PRODUCERS: u32 = 3;
    let each: u32 = if cfg!(miri) { 60 } else { 200_000 };
    static RING: Slots<u8, 16, false> = Slots::new();
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
