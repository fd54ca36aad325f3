//! V4: the producer's place is a pointer in the thread-local, compared with the end of the free run. A slot is
//! published by its first word, which is never 0, and taken by setting that to 0; no index is shared on the way.

use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::layout::{Layout, Padded, SLOTS};

const ID: u64 = 7;

/// Published by `id`; 0 says that the slot is free.
struct Slot {
    id: AtomicU64,
    value: AtomicU64,
}

pub struct Ring {
    /// Records consumed.
    head: Padded<AtomicUsize>,
    slots: Padded<[Slot; SLOTS]>,
}

struct Local {
    at: Cell<*const Slot>,
    end: Cell<*const Slot>,
    /// Records up to `end`.
    granted: Cell<usize>,
    ring: Cell<Option<&'static Ring>>,
}

thread_local! {
    static LOCAL: Local = const {
        Local {
            at: Cell::new(ptr::null()),
            end: Cell::new(ptr::null()),
            granted: Cell::new(0),
            ring: Cell::new(None),
        }
    };
}

pub struct Bump;

impl Layout for Bump {
    const NAME: &'static str = "V4: bump cursor, in-slot publish";
    type Producer = ();
    type Consumer = &'static Ring;

    fn make() -> ((), &'static Ring) {
        let ring = Box::leak(Box::new(Ring {
            head: Padded(AtomicUsize::new(0)),
            slots: Padded([const { Slot { id: AtomicU64::new(0), value: AtomicU64::new(0) } }; SLOTS]),
        }));
        LOCAL.with(|local| local.ring.set(Some(ring)));
        ((), ring)
    }

    #[inline(always)]
    fn push((): &mut (), value: u64) -> bool {
        LOCAL.with(|local| {
            let at = local.at.get();
            if at == local.end.get() {
                return push_cold(local, value);
            }
            // SAFETY: `at` is below `end`, in the slots of a ring that lives as long as the process.
            let slot = unsafe { &*at };
            slot.value.store(value, Ordering::Relaxed);
            slot.id.store(ID, Ordering::Release);
            // SAFETY: at most one behind the last slot.
            local.at.set(unsafe { at.add(1) });
            true
        })
    }

    fn drain(ring: &mut &'static Ring, mut fold: impl FnMut(u64)) {
        let head = ring.head.load(Ordering::Relaxed);
        let mut at = head;
        while at.wrapping_sub(head) < SLOTS {
            let slot = &ring.slots[at % SLOTS];
            let id = slot.id.load(Ordering::Acquire);
            if id == 0 {
                break;
            }
            assert_eq!(id, ID);
            fold(slot.value.load(Ordering::Relaxed));
            slot.id.store(0, Ordering::Relaxed);
            at = at.wrapping_add(1);
        }
        ring.head.store(at, Ordering::Release);
    }
}

/// At the end of the free run: looks how far the consumer is.
#[cold]
#[inline(never)]
fn push_cold(local: &Local, value: u64) -> bool {
    let Some(ring) = local.ring.get() else { return false };
    let granted = local.granted.get();
    let free = SLOTS - granted.wrapping_sub(ring.head.load(Ordering::Acquire));
    if free == 0 {
        return false;
    }
    let first = granted % SLOTS;
    let run = &ring.slots[first..SLOTS.min(first + free)];
    let bounds = run.as_ptr_range();
    local.at.set(bounds.start);
    local.end.set(bounds.end);
    local.granted.set(granted.wrapping_add(run.len()));
    Bump::push(&mut (), value)
}
