//! Where a metric's cell is.
//!
//! Each metric that a macro declares has a type of its own, of the name that its static has, without size: from it the
//! compiler knows the cell and whether there is a gate. So a handle takes no memory, and what runs at the end of a guard
//! is a function of that one metric, which is inlined where it is used, also when optimising for size.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::level::Level;

use super::declare::More;

/// The way to a cell.
pub trait Place<T: 'static>: Copy + 'static {
    /// Whether the cell is recorded in only while its gate is open.
    const GATED: bool;

    /// The cell.
    fn cell(self) -> &'static T;

    /// Whether records are taken now: always, but for a level on demand that is off.
    #[doc(hidden)]
    #[inline(always)]
    fn is_open(self, gate: &AtomicU32) -> bool {
        !Self::GATED || gate.load(Relaxed) != 0
    }
}

impl<T: 'static> Place<T> for &'static T {
    const GATED: bool = true;

    #[inline(always)]
    fn cell(self) -> &'static T {
        self
    }
}

/// What a metric has beside its descriptor: a cell, or the way to one.
pub trait Holder<T: 'static>: 'static {
    /// The way to the cell.
    type Place: Place<T>;

    /// The way to the cell.
    fn place(&'static self) -> Self::Place;
}

/// A cell in the metric's own static.
#[derive(Debug)]
pub struct Own<T>(pub(super) T);

impl<T: 'static> Holder<T> for Own<T> {
    type Place = &'static T;

    #[inline(always)]
    fn place(&'static self) -> &'static T {
        &self.0
    }
}

/// A cell that is a static of its own, known by the metric's type.
#[derive(Debug)]
pub struct At<P, T: 'static> {
    pub(super) place: P,
    pub(super) cell: &'static T,
    /// Statics of their own, so that the metric's own need not be linked for them.
    pub(super) level: &'static Level,
    pub(super) more: &'static More,
}

impl<P, T: 'static> At<P, T> {
    /// What a macro knows of a metric's cell.
    #[doc(hidden)]
    #[must_use]
    pub const fn new(place: P, cell: &'static T, level: &'static Level, more: &'static More) -> Self {
        Self { place, cell, level, more }
    }
}

impl<T: 'static, P: Place<T>> Holder<T> for At<P, T> {
    type Place = P;

    #[inline(always)]
    fn place(&'static self) -> P {
        self.place
    }
}
