//! Metrics on a device without an operating system: no threads, no heap, contexts that interrupt each other.
//!
//! ```
//! use zibrato_core::device::clock::Clock;
//! use zibrato_core::device::{Item, Link, SampleRing, Settings};
//! use zibrato_core::level::Level;
//! use zibrato_core::{counter, gauge, local_timer, metrics, timer};
//!
//! counter!(static FRAMES = "can.rx_frames", Level::INFO);
//! gauge!(static DEPTH: i32 = "queue.depth", Level::INFO, unit = "items");
//! timer!(static LOOP = "ctrl.loop", Level::INFO, buckets = 124);
//! local_timer!(static ISR = "motor.foc_isr", Level::DEBUG);
//! static METRICS: [Item; 4] = metrics![FRAMES, DEPTH, LOOP, ISR];
//! static RING: SampleRing<64> = SampleRing::new();
//!
//! # #[derive(Clone, Copy)] struct Cycles;
//! # impl Clock for Cycles { fn ticks(self) -> u32 { 5 } }
//! # struct Uart;
//! # impl embedded_io::ErrorType for Uart { type Error = core::convert::Infallible; }
//! # impl embedded_io::Write for Uart {
//! #     fn write(&mut self, bytes: &[u8]) -> Result<usize, Self::Error> { Ok(bytes.len()) }
//! #     fn flush(&mut self) -> Result<(), Self::Error> { Ok(()) }
//! # }
//! # let mut uart = Uart;
//! // In whatever context:
//! FRAMES.add(1);
//! DEPTH.set(3);
//! let work = LOOP.start(Cycles);
//! drop(work);
//! // In the one context that owns them:
//! let mut isr = ISR.take().unwrap();
//! let mut trace = RING.producer().unwrap();
//! drop(isr.start(Cycles));
//! trace.push(&LOOP, 42, Cycles);
//! // In the idle loop:
//! let mut link = Link::new(&METRICS, Settings::new(168_000_000).boot(0x1234));
//! link.add_ring(RING.consumer());
//! link.poll(Cycles, &mut uart).unwrap();
//! ```
//!
//! # Contexts
//! An interrupt handler and what it interrupts are two contexts. A *shared* metric (`counter!`, `gauge!`, `timer!`) may be
//! recorded from all of them: by one instruction, or a pair that repeats itself, where the target has such, and
//! within a critical section elsewhere (thumbv6m, feature `critical-section`; without it a shared metric can be declared
//! there but not recorded). A *local* one (`local_counter!` and so on) is taken once and then belongs to the context that
//! has it: plain loads and stores, on every target (but that it is taken within a critical section where a shared one needs it).
//!
//! # From a record to the line
//! What is recorded goes into a cell of its metric, which wraps at 2^32: the sum since the boot. [`Link`] reads the cells
//! every window, in whatever context it is polled, widens them by what they grew, and sends them: so none may grow by 2^32
//! between two of its states. A cell is read while it is written; of a record the count may then come with one state and
//! the sum with the next, and neither ever loses one.
//!
//! Records whose own values matter go through a ring, from one context or from several, and out as samples. A ring that
//! is full drops the newest record and counts it.
//!
//! The modules stand in the order in which a measurement passes through them.
#![cfg_attr(
    not(any(target_has_atomic = "32", feature = "critical-section")),
    allow(dead_code, reason = "without either nothing can be taken or shared, only declared")
)]

pub mod clock;

mod cell;
mod claim;
mod declare;
mod guard;
mod local;
mod place;
mod shared;

mod ring;
mod samples;

mod frames;
mod link;
mod settings;

pub use cell::{Cell, CounterCell, GaugeCell, TimerCell};
#[doc(hidden)]
pub use declare::numbered;
pub use declare::{Descriptor, GaugeValue, Item};
pub use guard::{Fold, Guard};
pub use local::{Alone, LocalCounter, LocalGauge, LocalTimer, OwnedCounter, OwnedGauge, OwnedTimer};
pub use place::{At, Holder, Own, Place};
pub use shared::{Counter, Gauge, Shared, Timer};

pub use frames::{Frames, Position, Window};
pub use link::{Link, LinkState, RINGS_MAX};
pub use samples::{Consumer, Producer, SampleRing, Sampled, SharedSampleRing};
pub use settings::{BYTES_PER_SECOND_DEFAULT, BYTES_PER_SECOND_MIN, Settings, WINDOW_MS_MAX, WINDOW_MS_MIN};

#[cfg(test)]
mod tests;
