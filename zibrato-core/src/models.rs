//! What loom goes through in every order that the memory model allows: `ci/loom`.
//!
//! Each model owns what it checks, since loom's atomics cannot stand in statics. Rings hold two
//! records and slabs two cells, so that limits and growth are reached within loom's bounds.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]
#![expect(unsafe_code, reason = "the models stand in for threads and the drain")]

use std::boxed::Box;
use std::vec;
use std::vec::Vec;

use loom::sync::Arc;
use loom::thread;

use crate::device::ring::{Record as Sample, Slots};
use crate::kind::Kind;
use crate::level::Level;
use crate::metric::{Metric, OFF, ON, Spill};
use crate::record::{Record, TimerValue};
use crate::registry::Registry;
use crate::ring::Ring;
use crate::slab::{Cells, Node, Slabs, new_ring};
use crate::sync::{Ordering::Relaxed, WRONG_PUBLISH};

fn metric(kind: Kind, level: Level) -> &'static Metric {
    Box::leak(Box::new(Metric::new(kind, "model", level)))
}

/// One side of a model. The writers are spawned first, then the reader, and main only waits: loom looks
/// for other orders where two threads met at one atomic, and forgets a load that came before the writes.
fn side<T: 'static, R: 'static>(
    shared: &Arc<T>,
    run: impl FnOnce(&T) -> R + 'static,
) -> thread::JoinHandle<R> {
    let shared = Arc::clone(shared);
    thread::spawn(move || run(&shared))
}

/// What a recording thread does with its own ring; false if that is full.
fn push(ring: &Ring<2>, metric: &'static Metric, value: u64) -> bool {
    // SAFETY: each model has one producer.
    unsafe { ring.push(metric, value) || (ring.refresh() && ring.push(metric, value)) }
}

fn push_and_drain() {
    loom::model(|| {
        let metric = metric(Kind::Timer, Level::INFO);
        let ring = Arc::new(Ring::<2>::new());
        let producer =
            side(&ring, move |ring| (1..=3).filter(|&value| push(ring, metric, value)).collect::<Vec<u64>>());
        let consumer = side(&ring, |ring| {
            let mut drained = vec![];
            for _ in 0..2 {
                // SAFETY: this thread is the only consumer.
                unsafe { ring.drain(|record| drained.push(record.value)) };
            }
            drained
        });
        let (pushed, mut drained) = (producer.join().unwrap(), consumer.join().unwrap());
        // SAFETY: the consumer has ended.
        unsafe { ring.drain(|record| drained.push(record.value)) };
        assert_eq!(drained, pushed);
    });
}

#[test]
fn what_is_pushed_is_drained_once_and_in_order() {
    push_and_drain();
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_publication_that_does_not_release_is_refused() {
    // Loom runs all threads of a model on this one.
    WRONG_PUBLISH.set(true);
    push_and_drain();
}

#[test]
fn what_a_full_ring_refuses_is_in_the_spill_cells() {
    loom::model(|| {
        let metric = metric(Kind::Timer, Level::INFO);
        let both = Arc::new((Ring::<2>::new(), Spill::new()));
        let take = |(ring, spill): &(Ring<2>, Spill)| {
            let (mut count, mut sum) = (0, 0);
            let each = |record: Record| {
                count += 1;
                sum += record.value;
            };
            // SAFETY: called by the consumer, then by main when that has ended.
            unsafe { ring.drain(each) };
            let spilled = spill.take().unwrap_or_default();
            (count + spilled.count, sum + spilled.sum)
        };
        let producer = side(&both, move |(ring, spill)| {
            for value in [1, 10, 100] {
                if !push(ring, metric, value) {
                    spill.fold_timer(TimerValue::nanoseconds_to_bits(value));
                }
            }
        });
        let consumer = side(&both, move |both| take(both));
        producer.join().unwrap();
        let (first, second) = (consumer.join().unwrap(), take(&both));
        assert_eq!((first.0 + second.0, first.1 + second.1), (3, 111));
    });
}

#[test]
fn what_is_spilled_is_taken_once() {
    loom::model(|| {
        let spill = Arc::new(Spill::new());
        let writer = side(&spill, |spill| {
            for ns in [3, 7] {
                spill.fold_timer(TimerValue::nanoseconds_to_bits(ns));
            }
        });
        let reader = side(&spill, |spill| spill.take().unwrap_or_default());
        writer.join().unwrap();
        let (first, second) = (reader.join().unwrap(), spill.take().unwrap_or_default());
        assert_eq!((first.count + second.count, first.sum + second.sum), (2, 10));
        assert_eq!(spill.take(), None);
    });
}

#[test]
fn a_thread_that_ends_leaves_its_records_and_its_ring_is_freed() {
    loom::model(|| {
        let metric = metric(Kind::Timer, Level::INFO);
        let slabs = Arc::new(Slabs::new());
        let record = move |slabs: &Slabs, value| {
            let own = slabs.rings.add(new_ring());
            // SAFETY: the node is ours until we close it.
            let own = unsafe { &*own };
            assert!(push(&own.content, metric, value));
            own.close();
        };
        let writers =
            [side(&slabs, move |slabs| record(slabs, 1)), side(&slabs, move |slabs| record(slabs, 2))];
        let reader = side(&slabs, |slabs| {
            let mut drained = vec![];
            // SAFETY: this thread is the only reader.
            unsafe { slabs.pass(|record| drained.push(record.value)) };
            drained
        });
        for writer in writers {
            writer.join().unwrap();
        }
        let mut drained = reader.join().unwrap();
        // SAFETY: the reader has ended.
        unsafe { slabs.pass(|record| drained.push(record.value)) };
        drained.sort_unstable();
        assert_eq!(drained, [1, 2]);
    });
}

#[test]
fn cells_that_grow_and_end_are_counted_once() {
    loom::model(|| {
        let slabs = Arc::new(Slabs::new());
        let owner = side(&slabs, |slabs| {
            let own = slabs.cells.add(Box::new(Node::new(Cells::new())));
            // SAFETY: the node is ours until we close it.
            let own = unsafe { &*own };
            own.content.cells()[1].store(5, Relaxed);
            own.content.grow(4);
            own.content.cells()[3].store(7, Relaxed);
            own.close();
        });
        let reader = side(&slabs, |slabs| {
            let (mut ended, mut totals, mut last) = (vec![], vec![], 0);
            for _ in 0..2 {
                // SAFETY: this thread is the only reader.
                unsafe { slabs.counters(&mut ended, &mut totals) };
                let now = totals.get(1).copied().unwrap_or(0);
                assert!(now >= last, "a total went back");
                last = now;
            }
            ended
        });
        owner.join().unwrap();
        let (mut ended, mut totals) = (reader.join().unwrap(), vec![]);
        for _ in 0..2 {
            // SAFETY: the reader has ended.
            unsafe { slabs.counters(&mut ended, &mut totals) };
            assert_eq!((totals[1], totals[3]), (5, 7));
        }
    });
}

#[test]
fn a_metric_that_registers_during_a_switch_does_not_miss_it() {
    loom::model(|| {
        let debug = metric(Kind::Timer, Level::DEBUG);
        let info = metric(Kind::Counter, Level::INFO);
        let registry = Arc::new(Registry::new());
        let registering =
            side(&registry, move |registry| (registry.register(debug), registry.register(info)));
        let switching = side(&registry, |registry| registry.switch(true, vec!["debug".into()]));
        let (at_first, _) = registering.join().unwrap();
        switching.join().unwrap();
        assert!([OFF, ON].contains(&at_first));
        assert_eq!((debug.state(), info.state()), (ON, info.index()));
        registry.switch(false, vec![]);
        assert_eq!((debug.state(), info.state()), (OFF, OFF));
    });
}

/// A sample ring of two slots that two contexts fill with two samples each, or that one fills alone with three.
fn sample<const ALONE: bool>(
    push: impl Fn(&Slots<u32, 2, ALONE>, Sample<u32>) -> bool + Copy + Send + Sync + 'static,
) {
    type Samples<const ALONE: bool> = Slots<u32, 2, ALONE>;
    static METRIC: u32 = 7;
    let record = |bits: u32| Sample { metric: &METRIC, time: !bits, bits };
    let producers = if ALONE { 1 } else { 2 };
    // Three contexts have many more orders than two: one switch less keeps the model at seconds.
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(if producers == 1 { 4 } else { 3 });
    model.check(move || {
        let ring = Arc::new(Samples::<ALONE>::new());
        let sides: Vec<_> = (0..producers as u32)
            .map(|id| {
                side(&ring, move |ring| {
                    let values = if producers == 1 { 1..4 } else { 10 * id + 1..10 * id + 3 };
                    values.filter(|&value| push(ring, record(value))).collect::<Vec<u32>>()
                })
            })
            .collect();
        let take = |ring: &Samples<ALONE>| {
            // SAFETY: called by the consumer, then by main when that has ended.
            let popped = unsafe { ring.pop() }?;
            assert_eq!((*popped.metric, popped.time), (7, !popped.bits), "a record is whole");
            Some(popped.bits)
        };
        let consumer = side(&ring, move |ring| (0..2).filter_map(|_| take(ring)).collect::<Vec<u32>>());
        let pushed: Vec<_> = sides.into_iter().map(|side| side.join().unwrap()).collect();
        let mut popped = consumer.join().unwrap();
        while let Some(bits) = take(&ring) {
            popped.push(bits);
        }
        for pushed in &pushed {
            let of_side: Vec<_> = popped.iter().filter(|bits| pushed.contains(bits)).copied().collect();
            assert_eq!(of_side, *pushed, "each once and in its order");
        }
        let total = pushed.iter().map(Vec::len).sum::<usize>();
        assert_eq!(popped.len(), total);
        assert_eq!(ring.lost() as usize, if producers == 1 { 3 } else { 4 } - total);
    });
}

fn sample_alone() {
    // SAFETY: this side of the model is the only producer.
    sample::<true>(|ring, record| unsafe { ring.push_alone(record) });
}

#[test]
fn samples_of_one_context_come_out_once_and_in_order() {
    sample_alone();
}

#[test]
fn samples_of_two_contexts_come_out_once_and_whole() {
    sample::<false>(|ring, record| ring.push_among(record));
}

/// Two slots are enough for two contexts with one sample each, whatever is drained meanwhile: none may be lost.
#[test]
fn a_ring_that_is_not_full_loses_nothing() {
    static METRIC: u32 = 7;
    loom::model(|| {
        let ring = Arc::new(Slots::<u32, 2, false>::new());
        let record = |bits: u32| Sample { metric: &METRIC, time: 0, bits };
        let sides = [1, 2].map(|bits| side(&ring, move |ring| ring.push_among(record(bits))));
        // SAFETY: this side is the only consumer.
        let consumer = side(&ring, |ring| unsafe { ring.pop() }.is_some());
        assert!(sides.into_iter().all(|side| side.join().unwrap()));
        consumer.join().unwrap();
        assert_eq!(ring.lost(), 0);
    });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_mark_that_does_not_release_is_refused() {
    WRONG_PUBLISH.set(true);
    sample_alone();
}
