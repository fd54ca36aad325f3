//! The lock-free ring between one producer and the drain.
//!
//! `head` and `tail` count the bytes of records since the ring was made and wrap at `usize`; the
//! offset of a slot is the low bits of its index. Slots from `head` to `tail` hold records, the
//! others hold nothing.
//!
//! # Invariants
//! - **R1** `tail - head` and `limit - tail` (wrapping) are 0 to `N` records.
//! - **R2** Slots from `head` to `tail` are initialised; nobody writes them until `head` has passed.
//! - **R3** One producer writes `tail` and `limit`; one consumer writes `head`.
//! - **R4** The consumer writes into consumed slots only before its release of `head`.
//!
//! # Orderings
//! | access | ordering | pairs with |
//! |---|---|---|
//! | producer stores `tail` | Release | consumer's load of `tail`: the slot's content is visible (R2) |
//! | consumer loads `tail` | Acquire | the store above |
//! | consumer stores `head` | Release | producer's load of `head`: the consumer is done with the slots (R2, R4) |
//! | producer loads `head` | Acquire | the store above |
//! | producer loads `tail` | Relaxed | only the producer writes it (R3) |
//! | producer loads and stores `limit` | none | nobody else has it (R3) |
//! | consumer loads `head` | Relaxed | only the consumer writes it (R3) |
//!
//! The producer keeps `limit`, the highest index it may fill, so that a push compares two words of
//! its own cache line and looks at the consumer's only when they are equal. The consumer stores one
//! byte into each cache line it has consumed: the line then belongs to the consumer's cache in a
//! state from which the producer's next write gets it faster (measured: 26 to 4.9 ns a record
//! between distant cores).
#![expect(unsafe_code, reason = "slots are written by one side and read by the other; R1 to R4 say when")]

mod index;

use core::mem::MaybeUninit;

use crate::record::Record;
use crate::sync::{AtomicUsize, Ordering, Slot, array, const_fn, publish};

/// Bytes that the producer's and the consumer's words keep between them: two cache lines, since
/// x86-64 fetches lines in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Padded<T>(T);

/// Bytes of a cache line, for the drain's stores.
const LINE_BYTES: usize = 64;

/// A ring of `N` records; `N` is a power of two.
///
/// ```
/// use zibrato_core::level::Level;
/// use zibrato_core::metric::Gauge;
/// use zibrato_core::ring::Ring;
///
/// static DEPTH: Gauge = Gauge::new("queue.depth", Level::INFO);
/// let mut ring = Ring::<8>::new();
/// let (mut producer, mut consumer) = ring.split();
/// assert!(producer.push(DEPTH.metric(), 17.0f64.to_bits()));
/// let mut seen = 0;
/// consumer.drain(|record| seen = record.value);
/// assert_eq!(f64::from_bits(seen), 17.0);
/// ```
#[derive(Debug)]
#[repr(C)]
pub struct Ring<const N: usize> {
    producer: Padded<ProducerWords>,
    head: Padded<AtomicUsize>,
    slots: [Slot<MaybeUninit<Record>>; N],
}

#[derive(Debug)]
struct ProducerWords {
    tail: AtomicUsize,
    limit: Slot<usize>,
}

// SAFETY: R2 and R3: slots are reached by one producer and one consumer, which the indices keep
// apart, and `limit` by the producer; `Record` is `Copy` and `Send`.
unsafe impl<const N: usize> Sync for Ring<N> {}

/// What one pass of the drain took out of a ring.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Drained {
    /// Records folded.
    pub records: usize,
    /// Whether the indices were out of range and the ring was emptied unread.
    pub corrupt: bool,
}

impl<const N: usize> Default for Ring<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Ring<N> {
    const_fn! {
        /// An empty ring; its bytes are all zero.
        #[must_use]
        pub fn new() -> Self {
            const { assert!(N.is_power_of_two(), "a ring's capacity is a power of two") };
            Self {
                producer: Padded(ProducerWords { tail: AtomicUsize::new(0), limit: Slot::new(0) }),
                head: Padded(AtomicUsize::new(0)),
                slots: array!(Slot::new(MaybeUninit::uninit()); N),
            }
        }
    }

    /// The two ends.
    pub fn split(&mut self) -> (Producer<'_, N>, Consumer<'_, N>) {
        let ring = &*self;
        (Producer { ring }, Consumer { ring })
    }

    /// Records that wait for the drain; exact for the consumer.
    #[must_use]
    pub fn len(&self) -> usize {
        index::used(self.head.0.load(Ordering::Relaxed), self.producer.0.tail.load(Ordering::Acquire))
    }

    /// Whether no record waits for the drain.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts a record in, or returns false if the producer's limit is reached: then
    /// [`Ring::refresh`] says whether there is room again.
    ///
    /// # Safety
    /// Only one thread at a time may be the producer of this ring (R3).
    #[inline(always)]
    pub(crate) unsafe fn push(&self, metric: &'static crate::metric::Metric, value: u64) -> bool {
        let words = &self.producer.0;
        let tail = words.tail.load(Ordering::Relaxed);
        // SAFETY: R3: only the producer has the limit.
        if words.limit.with(|limit| unsafe { limit.read() }) == tail {
            return false;
        }
        self.slots[index::slot::<N>(tail)].with_mut(|slot| {
            // SAFETY: R1: `tail` is below `limit`, so `head` has passed this slot and the consumer
            // does not touch it (R2); we are the only producer (R3).
            unsafe { slot.write(MaybeUninit::new(Record { metric, value })) }
        });
        // Loaded again: that makes it one addition in memory, which a register could not be spared for. Only we
        // store it (R3), and no handler of a signal pushes in between (see `thread.rs`).
        words.tail.store(index::next(words.tail.load(Ordering::Relaxed)), publish());
        true
    }

    /// Looks how far the consumer is; whether there is room now.
    ///
    /// # Safety
    /// As [`Ring::push`].
    pub(crate) unsafe fn refresh(&self) -> bool {
        let words = &self.producer.0;
        let limit = index::limit::<N>(self.head.0.load(Ordering::Acquire));
        // SAFETY: R3: only the producer has the limit.
        words.limit.with_mut(|place| unsafe { place.write(limit) });
        words.tail.load(Ordering::Relaxed) != limit
    }

    /// Takes out what is there at the start of the call.
    ///
    /// # Safety
    /// Only one thread at a time may be the consumer of this ring (R3).
    #[inline]
    pub(crate) unsafe fn drain(&self, mut fold: impl FnMut(Record)) -> Drained {
        let head = self.head.0.load(Ordering::Relaxed);
        let tail = self.producer.0.tail.load(Ordering::Acquire);
        let records = index::used(head, tail);
        if records > N {
            // Somebody wrote over the indices: nothing between them can be trusted.
            self.head.0.store(tail, Ordering::Release);
            return Drained { records: 0, corrupt: true };
        }
        let mut at = head;
        while at != tail {
            let slot = &self.slots[index::slot::<N>(at)];
            // SAFETY: R2: nobody writes slots from `head` to `tail`, and the acquire of `tail` made
            // their content visible.
            let content = slot.with(|slot| unsafe { slot.read() });
            // SAFETY: R2: slots from `head` to `tail` are initialised.
            fold(unsafe { content.assume_init() });
            slot.with_mut(|slot| {
                if slot.addr() % LINE_BYTES == 0 {
                    // SAFETY: R4: the slot is consumed and `head` is not yet released.
                    unsafe { slot.cast::<u8>().write_volatile(0) };
                }
            });
            at = index::next(at);
        }
        self.head.0.store(tail, Ordering::Release);
        Drained { records, corrupt: false }
    }
}

/// The end that records go in at.
#[derive(Debug)]
pub struct Producer<'a, const N: usize> {
    ring: &'a Ring<N>,
}

impl<const N: usize> Producer<'_, N> {
    /// Puts a record in; false if the ring is full, and the record is the caller's to keep.
    #[inline]
    pub fn push(&mut self, metric: &'static crate::metric::Metric, value: u64) -> bool {
        // SAFETY: `&mut self` of the only producer that `split` made (R3).
        let pushed = unsafe { self.ring.push(metric, value) };
        // SAFETY: as above.
        pushed || (unsafe { self.ring.refresh() } && unsafe { self.ring.push(metric, value) })
    }
}

/// The end that the drain takes records out at.
#[derive(Debug)]
pub struct Consumer<'a, const N: usize> {
    ring: &'a Ring<N>,
}

impl<const N: usize> Consumer<'_, N> {
    /// Takes out what is there at the start of the call, oldest first.
    pub fn drain(&mut self, fold: impl FnMut(Record)) -> Drained {
        // SAFETY: `&mut self` of the only consumer that `split` made (R3).
        unsafe { self.ring.drain(fold) }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
