//! Metrics for latency-critical code: what runs where nothing may wait, allocate or fail.
//!
//! This crate is `no_std` and, without features, does not allocate. It owns the bytes and the ring:
//! metrics as statics, the per-thread ring and slab, cumulative series state, and the frames on the
//! wire. It never opens a socket and never starts a thread; `zibrato-std` does.
//!
//! The modules stand in the order in which a measurement passes through them.
#![no_std]
// The model checker's build has no statics to record at, so that much stands unused in it.
#![cfg_attr(loom, allow(dead_code, unreachable_pub, unused_imports))]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(any(test, feature = "std"))]
extern crate std;

pub mod limits;
pub mod text;

pub mod kind;
pub mod level;

#[cfg(feature = "std")]
pub mod clock;
#[cfg(feature = "std")]
pub mod metric;
#[cfg(all(not(feature = "std"), not(loom)))]
pub mod metric {
    //! Metrics as statics; without feature `std` those of [`device`](crate::device).
    pub use crate::device::{Counter, Gauge, Timer};
    pub use crate::text::Tag;
}
#[cfg(feature = "std")]
pub mod record;
#[cfg(feature = "std")]
pub mod registry;
#[cfg(feature = "std")]
pub mod ring;
#[cfg(feature = "std")]
mod slab;
mod sync;
#[cfg(all(feature = "std", not(loom)))]
mod thread;
#[cfg(all(feature = "std", not(loom)))]
pub use slab::{Drain, Pass, RING_RECORDS, SLAB_CELLS, SLAB_CELLS_MAX};
#[cfg(all(feature = "std", not(loom)))]
pub use thread::prepare_thread;

pub mod histogram;

pub mod series;

pub mod frame;
pub mod legacy;

#[cfg(not(loom))]
pub mod device;
// The rest has statics.
#[cfg(loom)]
mod device {
    pub(crate) mod ring;
}
pub mod link;

#[cfg(feature = "macros")]
pub use zibrato_macros::{count_me, time_me};

#[cfg(all(test, loom, feature = "std"))]
mod models;
