//! The slots of a sample ring: from one context, or from contexts that interrupt each other, to the link.
//!
//! A slot is free while its mark is null; whoever has written time and value stores the mark, and the consumer takes it
//! away again. `head` counts the slots that the consumer emptied and wraps. So does `tail` those that producers among
//! others reserved; of a producer that is alone it is the offset of its next slot in bytes, which saves it a product, and goes
//! down from there to 0 and on from the last slot, which saves it a comparison.
//!
//! # Invariants
//! - **S1** Slots are emptied in order, and only from `head` on; a slot whose mark is not null is whole.
//! - **S2** Time and value of a slot are written by the one producer that reserved it, between the reservation and the
//!   store of the mark, and read by the consumer between its load of the mark and its store of null.
//! - **S3** There is one consumer; and in rings of `ALONE` one producer, which then reserves by writing.
//! - **S4** In those, `tail` is a multiple of a slot's size, and less than that of all of them.
//!
//! # Orderings
//! | access | ordering | pairs with |
//! |---|---|---|
//! | producer stores a mark | Release | consumer's load: time and value are visible (S2) |
//! | consumer loads a mark | Acquire | the store above |
//! | consumer stores null | Release | the lone producer's load of the mark: the slot has been read (S2) |
//! | lone producer loads a mark | Acquire | the store above |
//! | consumer stores `head` | Release | producers' load of `head`, likewise |
//! | producers load `head` | Acquire | the store above |
//! | producers change `tail` | Relaxed | only says whose a slot is; marks publish it |
//!
//! With feature `single-core` these become compiler fences: contexts of one core see each other's stores in order.
#![expect(unsafe_code, reason = "slots are written by one side and read by the other; S1 to S4 say when")]

use core::mem::{MaybeUninit, offset_of};
use core::ptr;

#[cfg(not(feature = "single-core"))]
use crate::sync::publish;
use crate::sync::{AtomicPtr, AtomicU32, Ordering, Ordering::Relaxed, Slot, array, const_fn};

/// Most slots of a ring: their bytes are to be counted by a u32.
pub(crate) const SLOTS_MAX: usize = 1 << 28;

/// A record in a ring: what it is of, when, and its bits.
#[derive(Debug)]
pub(crate) struct Record<M: 'static> {
    pub(crate) metric: &'static M,
    pub(crate) time: u32,
    pub(crate) bits: u32,
}

#[derive(Debug)]
struct SampleSlot<M> {
    mark: AtomicPtr<M>,
    /// Time and bits.
    content: Slot<MaybeUninit<[u32; 2]>>,
}

/// A ring of `N` slots; `N` is a power of two. All zero at the start. With `ALONE` it has one producer.
///
/// In this order, since what stands behind the slots is far for a device's instructions.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Slots<M, const N: usize, const ALONE: bool> {
    tail: AtomicU32,
    head: AtomicU32,
    lost: AtomicU32,
    slots: [SampleSlot<M>; N],
}

// SAFETY: S2 and S3: a slot's content is reached by one side at a time, and is made of numbers.
unsafe impl<M: Sync, const N: usize, const ALONE: bool> Sync for Slots<M, N, ALONE> {}

#[inline(always)]
fn load_acquire<T: Load>(word: &T) -> T::Value {
    #[cfg(feature = "single-core")]
    {
        let value = word.load_with(Relaxed);
        core::sync::atomic::compiler_fence(Ordering::Acquire);
        value
    }
    #[cfg(not(feature = "single-core"))]
    word.load_with(Ordering::Acquire)
}

#[inline(always)]
fn store_release<T: Load>(word: &T, value: T::Value) {
    #[cfg(feature = "single-core")]
    {
        core::sync::atomic::compiler_fence(Ordering::Release);
        word.store_with(value, Relaxed);
    }
    #[cfg(not(feature = "single-core"))]
    word.store_with(value, publish());
}

/// The two kinds of words that are published.
trait Load {
    type Value;
    fn load_with(&self, ordering: Ordering) -> Self::Value;
    fn store_with(&self, value: Self::Value, ordering: Ordering);
}

impl Load for AtomicU32 {
    type Value = u32;

    #[inline(always)]
    fn load_with(&self, ordering: Ordering) -> u32 {
        self.load(ordering)
    }

    #[inline(always)]
    fn store_with(&self, value: u32, ordering: Ordering) {
        self.store(value, ordering);
    }
}

impl<M> Load for AtomicPtr<M> {
    type Value = *mut M;

    #[inline(always)]
    fn load_with(&self, ordering: Ordering) -> *mut M {
        self.load(ordering)
    }

    #[inline(always)]
    fn store_with(&self, value: *mut M, ordering: Ordering) {
        self.store(value, ordering);
    }
}

impl<M, const N: usize, const ALONE: bool> Slots<M, N, ALONE> {
    const_fn! {
        pub(crate) fn new() -> Self {
            const { assert!(N.is_power_of_two() && N <= SLOTS_MAX, "a ring's capacity is a power of two, at most 2^28") };
            Self {
                tail: AtomicU32::new(0),
                head: AtomicU32::new(0),
                lost: AtomicU32::new(0),
                slots: array!(
                    SampleSlot {
                        mark: AtomicPtr::new(ptr::null_mut()),
                        content: Slot::new(MaybeUninit::uninit()),
                    };
                    N
                ),
            }
        }
    }

    #[inline(always)]
    fn slot(&self, index: u32) -> &SampleSlot<M> {
        // The mask keeps it in range, which the compiler sees.
        &self.slots[index as usize & (N - 1)]
    }

    /// Records that found the ring full, wrapping.
    pub(crate) fn lost(&self) -> u32 {
        self.lost.load(Relaxed)
    }

    /// Takes the oldest record out, if it is whole.
    ///
    /// # Safety
    /// One context at a time may call this (S3).
    pub(crate) unsafe fn pop(&self) -> Option<Record<M>> {
        let head = self.head.load(Relaxed);
        let slot = self.slot(if ALONE { head.wrapping_neg() } else { head });
        let mark = load_acquire(&slot.mark);
        // SAFETY: marks are null or come from a `&'static M`.
        let metric = unsafe { mark.cast_const().as_ref() }?;
        let content = slot.content.with(|content| {
            // SAFETY: S1 and S2: the mark was stored behind the content, and nobody writes it before we are done.
            unsafe { content.read() }
        });
        // SAFETY: as above: whoever stored the mark had initialised it.
        let [time, bits] = unsafe { content.assume_init() };
        store_release(&slot.mark, ptr::null_mut());
        store_release(&self.head, head.wrapping_add(1));
        Some(Record { metric, time, bits })
    }
}

impl<M, const N: usize> Slots<M, N, true> {
    /// Puts a record in, or counts it as lost; whether it went in.
    ///
    /// # Safety
    /// One context at a time may call this (S3).
    #[inline(always)]
    pub(crate) unsafe fn push_alone(&self, record: Record<M>) -> bool {
        let tail = self.tail.load(Relaxed);
        let shifted = ptr::from_ref(self).wrapping_byte_add(tail as usize);
        // In this order, since an offset that is known is part of each access.
        let slot = shifted.wrapping_byte_add(offset_of!(Self, slots)).cast::<SampleSlot<M>>();
        // SAFETY: S4: it is one of the slots.
        let slot = unsafe { &*slot };
        if !load_acquire(&slot.mark).is_null() {
            self.lost.store(self.lost.load(Relaxed).wrapping_add(1), Relaxed);
            return false;
        }
        slot.content.with_mut(|content| {
            // SAFETY: S2: null says that the consumer is done with the slot, and we are the only producer (S3).
            unsafe { content.write(MaybeUninit::new([record.time, record.bits])) }
        });
        store_release(&slot.mark, ptr::from_ref(record.metric).cast_mut());
        let size = size_of::<SampleSlot<M>>() as u32;
        let (next, is_wrapped) = tail.overflowing_sub(size);
        self.tail.store(if is_wrapped { size * (N as u32 - 1) } else { next }, Relaxed);
        true
    }
}

#[cfg(target_has_atomic = "32")]
impl<M, const N: usize> Slots<M, N, false> {
    /// Puts a record in from any context, or counts it as lost; whether it went in.
    ///
    /// A producer that is interrupted between reservation and mark holds up the consumer, not other producers.
    #[inline(always)]
    pub(crate) fn push_among(&self, record: Record<M>) -> bool {
        let tail = loop {
            let tail = self.tail.load(Relaxed);
            // With a sign: others may have pushed and been drained since `tail` was read, and then the exchange fails.
            if tail.wrapping_sub(load_acquire(&self.head)).cast_signed() >= N as i32 {
                return self.lose();
            }
            if self.tail.compare_exchange_weak(tail, tail.wrapping_add(1), Relaxed, Relaxed).is_ok() {
                break tail;
            }
        };
        let slot = self.slot(tail);
        slot.content.with_mut(|content| {
            // SAFETY: S2: `head` has passed the slot's last use, and the exchange made it ours.
            unsafe { content.write(MaybeUninit::new([record.time, record.bits])) }
        });
        store_release(&slot.mark, ptr::from_ref(record.metric).cast_mut());
        true
    }

    #[cold]
    fn lose(&self) -> bool {
        self.lost.fetch_add(1, Relaxed);
        false
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
