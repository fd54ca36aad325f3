//! V25: V22 with the producer's index twice, once on a line of its own and once where the drain reads it. A drain
//! that polls takes the published one away all the time; the producer only ever stores there, which waits for
//! nobody.

use std::cell::{Cell, UnsafeCell};
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::layout::{LINE_BYTES, Layout, Padded, SLOTS};

/// Bytes of a record.
const STEP: usize = size_of::<Record>();

struct Metric {
    id: u32,
}

static METRIC: Metric = Metric { id: 7 };

#[derive(Clone, Copy)]
struct Record {
    metric: &'static Metric,
    value: u64,
}

#[repr(C)]
pub struct Ring {
    own: Padded<Own>,
    tail: Padded<AtomicUsize>,
    head: Padded<AtomicUsize>,
    slots: Padded<[UnsafeCell<MaybeUninit<Record>>; SLOTS]>,
}

/// What nobody but the producer touches.
struct Own {
    tail: Cell<usize>,
    limit: Cell<usize>,
}

// SAFETY: the thread whose thread-local points here is the only producer and the only one to touch `own`; the
// consumer touches the slots from `head` to `tail` alone, the producer the others.
unsafe impl Sync for Ring {}

static EMPTY: Ring = Ring::new();

thread_local! {
    static RING: Cell<&'static Ring> = const { Cell::new(&EMPTY) };
}

pub struct OwnTail;

impl Ring {
    /// Always full.
    const fn new() -> Self {
        Self {
            own: Padded(Own { tail: Cell::new(0), limit: Cell::new(0) }),
            tail: Padded(AtomicUsize::new(0)),
            head: Padded(AtomicUsize::new(0)),
            slots: Padded([const { UnsafeCell::new(MaybeUninit::uninit()) }; SLOTS]),
        }
    }

    /// False at the limit.
    ///
    /// # Safety
    /// Called by the producer alone.
    #[inline(always)]
    unsafe fn push(&self, value: u64) -> bool {
        let tail = self.own.0.tail.get();
        if tail == self.own.0.limit.get() {
            return false;
        }
        let record = Record { metric: &METRIC, value };
        // SAFETY: `head` has passed this slot, so that only we touch it.
        unsafe { (*self.slots[tail % (SLOTS * STEP) / STEP].get()).write(record) };
        let next = tail.wrapping_add(STEP);
        self.own.0.tail.set(next);
        self.tail.store(next, Ordering::Release);
        true
    }

    /// Moves the limit on; whether there is room.
    fn refresh(&self) -> bool {
        let limit = self.head.load(Ordering::Acquire).wrapping_add(SLOTS * STEP);
        self.own.0.limit.set(limit);
        self.own.0.tail.get() != limit
    }
}

impl Layout for OwnTail {
    const NAME: &'static str = "V25: V22, the producer's index kept twice";
    type Producer = ();
    type Consumer = &'static Ring;

    fn make() -> ((), &'static Ring) {
        RING.set(Box::leak(Box::new(Ring::new())));
        ((), RING.get())
    }

    #[inline(always)]
    fn push((): &mut (), value: u64) -> bool {
        // SAFETY: the ring is this thread's.
        unsafe { RING.get().push(value) || push_cold(value) }
    }

    fn drain(ring: &mut &'static Ring, mut fold: impl FnMut(u64)) {
        let mut at = ring.head.load(Ordering::Relaxed);
        let tail = ring.tail.load(Ordering::Acquire);
        while at != tail {
            let slot = ring.slots[at % (SLOTS * STEP) / STEP].get();
            // SAFETY: slots from `head` to `tail` were written, and the acquire made that visible.
            let record = unsafe { (*slot).assume_init() };
            assert_eq!(record.metric.id, 7);
            fold(record.value);
            if slot.addr().is_multiple_of(LINE_BYTES) {
                // SAFETY: the slot is consumed, and `head` has not passed it yet.
                unsafe { slot.cast::<u8>().write_volatile(0) };
            }
            at = at.wrapping_add(STEP);
        }
        ring.head.store(tail, Ordering::Release);
    }
}

/// At the limit.
#[cold]
#[inline(never)]
fn push_cold(value: u64) -> bool {
    let ring = RING.get();
    // SAFETY: the ring is this thread's: `make` has run.
    ring.refresh() && unsafe { ring.push(value) }
}
