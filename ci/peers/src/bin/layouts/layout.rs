//! What all layouts have in common.

use std::ops::Deref;

/// Slots of every ring.
pub const SLOTS: usize = 4_096;
/// Bytes of a cache line.
pub const LINE_BYTES: usize = 64;

/// A way to lay a ring out: two ends, and how a value goes through.
pub trait Layout: 'static {
    const NAME: &'static str;
    type Producer: 'static;
    type Consumer: Send + 'static;

    /// The two ends of a new ring; the calling thread is the producer.
    fn make() -> (Self::Producer, Self::Consumer);

    /// Puts a record with this value in; false if the ring is full.
    fn push(producer: &mut Self::Producer, value: u64) -> bool;

    /// Takes out what is there, oldest first.
    fn drain(consumer: &mut Self::Consumer, fold: impl FnMut(u64));

    /// How many values pushes took although the ring was full, and their sum, since the last call.
    fn beside() -> (u64, u64) {
        (0, 0)
    }
}

/// Two lines for what one side writes: processors fetch lines in pairs.
#[repr(align(128))]
pub struct Padded<T>(pub T);

impl<T> Deref for Padded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
