//! Rings of libraries: ours, whole and bare, and two outsiders. Bare rings are pushed through a handle, without
//! a thread-local to go through.

use std::time::Duration;

use zibrato_core::level::Level;
use zibrato_core::metric::{Gauge, Timer};
use zibrato_core::record::TimerValue;
use zibrato_core::ring::{Consumer, Producer, Ring};
use zibrato_core::{Drain, RING_RECORDS, prepare_thread, registry};

use crate::layout::{Layout, SLOTS};

static TOOK: Timer = Timer::new("layouts.took", Level::INFO);
static DEPTH: Gauge = Gauge::new("layouts.depth", Level::INFO);

/// What a program calls: the gate, the thread-local and the ring.
pub struct Shipped;

impl Layout for Shipped {
    const NAME: &'static str = "zibrato, shipped: `Timer::record`, gate included";
    type Producer = ();
    type Consumer = Drain;

    fn make() -> ((), Drain) {
        const { assert!(RING_RECORDS == SLOTS) };
        let drain = Drain::claim().expect("the only drain of the process");
        registry::switch(true, Vec::new());
        prepare_thread();
        ((), drain)
    }

    #[inline(always)]
    fn push((): &mut (), value: u64) -> bool {
        // Values are far below a second, which takes no division.
        TOOK.record(Duration::new(0, value as u32));
        true
    }

    fn drain(drain: &mut Drain, mut fold: impl FnMut(u64)) {
        drain.pass(|record| {
            assert!(std::ptr::eq(record.metric, TOOK.metric()));
            match TimerValue::from_bits(record.value) {
                TimerValue::Nanoseconds(ns) => fold(ns),
                value => panic!("{value:?} was not recorded"),
            }
        });
    }

    fn beside() -> (u64, u64) {
        TOOK.metric().spill().take().map_or((0, 0), |spilled| (spilled.count, spilled.sum))
    }
}

/// The shipped ring by its public ends.
pub struct ShippedRing;

impl Layout for ShippedRing {
    const NAME: &'static str = "zibrato, shipped: `Ring` by handle";
    type Producer = Producer<'static, SLOTS>;
    type Consumer = Consumer<'static, SLOTS>;

    fn make() -> (Self::Producer, Self::Consumer) {
        Box::leak(Box::new(Ring::new())).split()
    }

    #[inline(always)]
    fn push(producer: &mut Self::Producer, value: u64) -> bool {
        producer.push(DEPTH.metric(), value)
    }

    fn drain(consumer: &mut Self::Consumer, mut fold: impl FnMut(u64)) {
        let drained = consumer.drain(|record| {
            assert!(std::ptr::eq(record.metric, DEPTH.metric()));
            fold(record.value);
        });
        assert!(!drained.corrupt);
    }
}

/// What the outsiders carry.
type Pair = (u64, u64);

pub struct Rtrb;

impl Layout for Rtrb {
    const NAME: &'static str = "rtrb, by handle";
    type Producer = rtrb::Producer<Pair>;
    type Consumer = rtrb::Consumer<Pair>;

    fn make() -> (Self::Producer, Self::Consumer) {
        rtrb::RingBuffer::new(SLOTS)
    }

    #[inline(always)]
    fn push(producer: &mut Self::Producer, value: u64) -> bool {
        producer.push((7, value)).is_ok()
    }

    fn drain(consumer: &mut Self::Consumer, mut fold: impl FnMut(u64)) {
        let Ok(chunk) = consumer.read_chunk(consumer.slots()) else { return };
        for (id, value) in chunk {
            assert_eq!(id, 7);
            fold(value);
        }
    }
}

pub struct Heapless;

impl Layout for Heapless {
    const NAME: &'static str = "heapless spsc, by handle";
    type Producer = heapless::spsc::Producer<'static, Pair>;
    type Consumer = heapless::spsc::Consumer<'static, Pair>;

    fn make() -> (Self::Producer, Self::Consumer) {
        // One slot of it stays empty.
        let queue: &'static mut heapless::spsc::Queue<Pair, SLOTS> = Box::leak(Box::default());
        queue.split()
    }

    #[inline(always)]
    fn push(producer: &mut Self::Producer, value: u64) -> bool {
        producer.enqueue((7, value)).is_ok()
    }

    fn drain(consumer: &mut Self::Consumer, mut fold: impl FnMut(u64)) {
        for _ in 0..consumer.len() {
            let Some((id, value)) = consumer.dequeue() else { break };
            assert_eq!(id, 7);
            fold(value);
        }
    }
}
