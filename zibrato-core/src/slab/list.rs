//! A list of what recording threads own: each adds its own, and the drain takes away what ended.
//!
//! # Invariants
//! - **L1** A node is reachable from `newest` from its [`List::add`] until the drain unlinks it.
//! - **L2** The drain unlinks a node only after it saw it closed; nobody has a use for it then.
//! - **L3** Threads write `newest` and, before anybody else can see it, the `next` of their own
//!   node. Every other `next` is written by the drain alone.
//!
//! # Orderings
//! | access | ordering | pairs with |
//! |---|---|---|
//! | a thread puts its node at `newest` | Release | the drain's load of `newest`: the node is complete |
//! | the drain loads `newest` | Acquire | the store above; a link further on was seen with its node |
//! | an ending thread stores `closed` | Release | the drain's load: all that the owner did is visible |
//! | the drain loads `closed` | Acquire | the store above |
//! | `next` | Relaxed | published with the node, then the drain's own (L3) |

use core::ptr;
use std::boxed::Box;

use crate::sync::{AtomicBool, AtomicPtr, Ordering, const_fn};

/// What one thread owns, and whether it still does.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Node<T> {
    pub(crate) content: T,
    next: AtomicPtr<Self>,
    closed: AtomicBool,
}

/// All nodes of a kind.
#[derive(Debug)]
pub(crate) struct List<T> {
    newest: AtomicPtr<Node<T>>,
}

impl<T> Node<T> {
    const_fn! {
        pub(crate) fn new(content: T) -> Self {
            Self { content, next: AtomicPtr::new(ptr::null_mut()), closed: AtomicBool::new(false) }
        }
    }

    /// The owner's last word: it does not touch the node from here on.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }
}

impl<T> List<T> {
    const_fn! {
        pub(crate) fn new() -> Self {
            Self { newest: AtomicPtr::new(ptr::null_mut()) }
        }
    }

    /// Adds a node. It is there until the drain has seen it closed.
    pub(crate) fn add(&self, node: Box<Node<T>>) -> *const Node<T> {
        let node = Box::into_raw(node);
        let mut newest = self.newest.load(Ordering::Relaxed);
        loop {
            // SAFETY: L3: nobody else sees the node yet.
            unsafe { &*node }.next.store(newest, Ordering::Relaxed);
            match self.newest.compare_exchange_weak(newest, node, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return node,
                Err(other) => newest = other,
            }
        }
    }

    /// Shows every node's content to `each`, and frees the nodes of which it is told that nothing
    /// more will come: those that were closed before the call.
    ///
    /// # Safety
    /// Only one thread at a time may visit.
    pub(crate) unsafe fn visit(&self, mut each: impl FnMut(&T, Last)) {
        let mut link = &self.newest;
        let mut at = link.load(Ordering::Acquire);
        // SAFETY: L1: the node is linked, and only we unlink.
        while let Some(node) = unsafe { at.as_ref() } {
            let next = node.next.load(Ordering::Relaxed);
            // A closed node stays where it is if a newer one came in front of it meanwhile: then the
            // next visit takes it.
            let last = node.closed.load(Ordering::Acquire)
                && link.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed).is_ok();
            each(&node.content, Last(last));
            if last {
                // SAFETY: L2: it came from `Box::into_raw`, is closed, and nothing links to it.
                drop(unsafe { Box::from_raw(at) });
            } else {
                link = &node.next;
            }
            at = next;
        }
    }
}

impl<T> Drop for List<T> {
    fn drop(&mut self) {
        // SAFETY: `&mut self`: nobody else visits. A list that is dropped belongs to a test, whose
        // threads have ended and closed their nodes.
        unsafe { self.visit(|_, _| ()) };
    }
}

/// Whether a node is shown for the last time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Last(pub(crate) bool);
