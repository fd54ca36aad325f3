//! V1: a thread-local pointer to the ring, indices that count records, and a copy of the consumer's index that
//! the producer renews when the ring looks full.

use std::cell::{Cell, UnsafeCell};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::layout::{Layout, Padded, SLOTS};

#[derive(Clone, Copy)]
struct Record {
    id: u32,
    _more: u32,
    value: u64,
}

pub struct Ring {
    producer: Padded<ProducerWords>,
    head: Padded<AtomicUsize>,
    slots: [UnsafeCell<MaybeUninit<Record>>; SLOTS],
}

struct ProducerWords {
    tail: AtomicUsize,
    head_seen: Cell<usize>,
}

// SAFETY: the thread whose thread-local points here is the only producer and the only one to touch
// `head_seen`; the consumer touches the slots from `head` to `tail` alone, the producer the others.
unsafe impl Sync for Ring {}

thread_local! {
    static RING: Cell<*const Ring> = const { Cell::new(ptr::null()) };
}

pub struct Indexed;

impl Layout for Indexed {
    const NAME: &'static str = "V1: thread-local pointer, cached head";
    type Producer = ();
    type Consumer = &'static Ring;

    fn make() -> ((), &'static Ring) {
        ((), own())
    }

    #[inline(always)]
    fn push((): &mut (), value: u64) -> bool {
        let mut ring = RING.get();
        if ring.is_null() {
            ring = own();
        }
        // SAFETY: rings live as long as the process.
        let ring = unsafe { &*ring };
        let tail = ring.producer.tail.load(Ordering::Relaxed);
        if tail.wrapping_sub(ring.producer.head_seen.get()) == SLOTS && !ring.look(tail) {
            return false;
        }
        // SAFETY: `head` has passed this slot, so that only we touch it.
        unsafe { (*ring.slots[tail % SLOTS].get()).write(Record { id: 7, _more: 0, value }) };
        ring.producer.tail.store(tail.wrapping_add(1), Ordering::Release);
        true
    }

    fn drain(ring: &mut &'static Ring, mut fold: impl FnMut(u64)) {
        let mut at = ring.head.load(Ordering::Relaxed);
        let tail = ring.producer.tail.load(Ordering::Acquire);
        while at != tail {
            // SAFETY: slots from `head` to `tail` were written, and the acquire made that visible.
            let record = unsafe { (*ring.slots[at % SLOTS].get()).assume_init() };
            assert_eq!(record.id, 7);
            fold(record.value);
            at = at.wrapping_add(1);
        }
        ring.head.store(tail, Ordering::Release);
    }
}

/// The ring of this thread.
#[cold]
#[inline(never)]
fn own() -> &'static Ring {
    if RING.get().is_null() {
        RING.set(Box::leak(Box::new(Ring {
            producer: Padded(ProducerWords { tail: AtomicUsize::new(0), head_seen: Cell::new(0) }),
            head: Padded(AtomicUsize::new(0)),
            slots: [const { UnsafeCell::new(MaybeUninit::uninit()) }; SLOTS],
        })));
    }
    // SAFETY: set above or before, to a ring that lives as long as the process.
    unsafe { &*RING.get() }
}

impl Ring {
    /// Renews what the producer knows of the consumer; whether there is room.
    #[cold]
    #[inline(never)]
    fn look(&self, tail: usize) -> bool {
        let head = self.head.load(Ordering::Acquire);
        self.producer.head_seen.set(head);
        tail.wrapping_sub(head) < SLOTS
    }
}
