//! Metrics for latency-critical code: what runs where nothing may wait, allocate or fail.
//!
//! This crate is `no_std` and, without features, does not allocate. It owns the bytes and the ring:
//! metrics as statics, the per-thread ring and slab, cumulative series state, and the frames on the
//! wire. It never opens a socket and never starts a thread; `zibrato-std` does.
//!
//! The modules stand in the order in which a measurement passes through them.
#![no_std]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(any(test, feature = "std"))]
extern crate std;

pub mod limits;
pub mod text;

pub mod kind;
pub mod level;

pub mod clock;
pub mod metric;
pub mod record;
#[cfg(feature = "std")]
pub mod registry;
pub mod ring;
#[cfg(feature = "std")]
mod slab;
mod sync;
#[cfg(feature = "std")]
mod thread;
#[cfg(feature = "std")]
pub use slab::{Drain, Pass, RING_RECORDS, SLAB_CELLS};
#[cfg(feature = "std")]
pub use thread::prepare_thread;

pub mod histogram;

pub mod series;

pub mod frame;
pub mod legacy;

#[cfg(feature = "macros")]
pub use zibrato_macros::{count_me, time_me};
