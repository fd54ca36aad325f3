//! V21 and V22: indices that count bytes, one comparison with the index up to which the producer may fill, and
//! a drain that stores one byte into each line it consumed. A thread without a ring has one that is always full.
//! V21 names a metric by a number, V22 by its address.

use std::cell::{Cell, UnsafeCell};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::layout::{LINE_BYTES, Layout, Padded, SLOTS};

/// Bytes of a record.
const STEP: usize = 16;

#[repr(C)]
pub struct Ring<R> {
    producer: Padded<ProducerWords>,
    head: Padded<AtomicUsize>,
    slots: Padded<[UnsafeCell<MaybeUninit<R>>; SLOTS]>,
}

struct ProducerWords {
    tail: AtomicUsize,
    limit: Cell<usize>,
}

// SAFETY: the thread whose thread-local points here is the only producer and the only one to touch `limit`;
// the consumer touches the slots from `head` to `tail` alone, the producer the others.
unsafe impl<R: Send> Sync for Ring<R> {}

impl<R: Copy> Ring<R> {
    /// Always full.
    const fn new() -> Self {
        const { assert!(size_of::<R>() == STEP) };
        Self {
            producer: Padded(ProducerWords { tail: AtomicUsize::new(0), limit: Cell::new(0) }),
            head: Padded(AtomicUsize::new(0)),
            slots: Padded([const { UnsafeCell::new(MaybeUninit::uninit()) }; SLOTS]),
        }
    }

    /// False at the limit.
    ///
    /// # Safety
    /// Called by the producer alone.
    #[inline(always)]
    unsafe fn push(&self, record: R) -> bool {
        let tail = self.producer.tail.load(Ordering::Relaxed);
        if tail == self.producer.limit.get() {
            return false;
        }
        // SAFETY: `head` has passed this slot, so that only we touch it.
        unsafe { (*self.slots[tail % (SLOTS * STEP) / STEP].get()).write(record) };
        self.producer.tail.store(tail.wrapping_add(STEP), Ordering::Release);
        true
    }

    /// Moves the limit on; whether there is room.
    fn refresh(&self) -> bool {
        let limit = self.head.load(Ordering::Acquire).wrapping_add(SLOTS * STEP);
        self.producer.limit.set(limit);
        self.producer.tail.load(Ordering::Relaxed) != limit
    }

    fn drain(&self, mut fold: impl FnMut(R)) {
        let mut at = self.head.load(Ordering::Relaxed);
        let tail = self.producer.tail.load(Ordering::Acquire);
        while at != tail {
            let slot = self.slots[at % (SLOTS * STEP) / STEP].get();
            // SAFETY: slots from `head` to `tail` were written, and the acquire made that visible.
            fold(unsafe { (*slot).assume_init() });
            if slot.addr().is_multiple_of(LINE_BYTES) {
                // SAFETY: the slot is consumed, and `head` has not passed it yet.
                unsafe { slot.cast::<u8>().write_volatile(0) };
            }
            at = at.wrapping_add(STEP);
        }
        self.head.store(tail, Ordering::Release);
    }
}

/// What V21 stores.
#[derive(Clone, Copy)]
pub struct Numbered {
    id: u32,
    _more: u32,
    value: u64,
}

/// What V22 stores.
#[derive(Clone, Copy)]
pub struct Addressed {
    metric: &'static Metric,
    value: u64,
}

struct Metric {
    id: u32,
}

static METRIC: Metric = Metric { id: 7 };

/// How a kind of record is made and read.
pub trait Kind: Copy + Send + 'static {
    const NAME: &'static str;
    fn new(value: u64) -> Self;
    fn id(self) -> u32;
    fn value(self) -> u64;
    /// The ring of this thread.
    fn local() -> &'static Ring<Self>;
    fn set_local(ring: &'static Ring<Self>);
}

macro_rules! kind {
    ($record:ident, $name:expr, |$value:ident| $new:expr, |$self:ident| $id:expr) => {
        const _: () = {
            static EMPTY: Ring<$record> = Ring::new();
            thread_local! {
                static RING: Cell<&'static Ring<$record>> = const { Cell::new(&EMPTY) };
            }
            impl Kind for $record {
                const NAME: &'static str = $name;
                #[inline(always)]
                fn new($value: u64) -> Self {
                    $new
                }
                fn id($self) -> u32 {
                    $id
                }
                fn value(self) -> u64 {
                    self.value
                }
                #[inline(always)]
                fn local() -> &'static Ring<Self> {
                    RING.get()
                }
                fn set_local(ring: &'static Ring<Self>) {
                    RING.set(ring);
                }
            }
        };
    };
}
kind!(
    Numbered,
    "V21: limit compare, the drain writes each line",
    |value| Numbered { id: 7, _more: 0, value },
    |self| self.id
);
kind!(Addressed, "V22: V21, metric by address", |value| Addressed { metric: &METRIC, value }, |self| self
    .metric
    .id);

pub struct Limited<R>(PhantomData<R>);
pub type ByNumber = Limited<Numbered>;
pub type ByAddress = Limited<Addressed>;

impl<R: Kind> Layout for Limited<R> {
    const NAME: &'static str = R::NAME;
    type Producer = ();
    type Consumer = &'static Ring<R>;

    fn make() -> ((), &'static Ring<R>) {
        R::set_local(Box::leak(Box::new(Ring::new())));
        ((), R::local())
    }

    #[inline(always)]
    fn push((): &mut (), value: u64) -> bool {
        // SAFETY: the ring is this thread's.
        unsafe { R::local().push(R::new(value)) || push_cold::<R>(value) }
    }

    fn drain(ring: &mut &'static Ring<R>, mut fold: impl FnMut(u64)) {
        ring.drain(|record| {
            assert_eq!(record.id(), 7);
            fold(record.value());
        });
    }
}

/// At the limit.
#[cold]
#[inline(never)]
fn push_cold<R: Kind>(value: u64) -> bool {
    let ring = R::local();
    // SAFETY: the ring is this thread's: `make` has run.
    ring.refresh() && unsafe { ring.push(R::new(value)) }
}
