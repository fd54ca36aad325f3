//! The two-port forwarder between publishers and workers.
//!
//! ```text
//! publishers -> XSUB :5550 -> [ classify -> keep, acknowledge ] -> XPUB :5551 -> workers
//! publishers <- subscriptions, acknowledgements <- [ subscriptions, replay ] <-      workers
//! ```
//!
//! It reads nothing of a frame but topic and header, forwards every message unchanged, and counts
//! each one exactly once: `received = forwarded + no_subscriber + refused`. It keeps what a worker
//! needs to catch up on (the last complete key frame of each publisher and level, and what came
//! after it), acknowledges end frames when they are kept, and replays kept frames on demand.
//!
//! All ZeroMQ calls stay on one thread, which [`start`] starts; [`run`] is that and the status
//! endpoint. The modules stand in the order in which a message passes through them.

mod config;

mod classify;
mod subscriptions;

mod keep;
mod replay;

mod counts;
mod report;
mod self_metrics;
mod status;

mod broker;
mod run;

pub use broker::{Running, StartError, start};
pub use config::{Args, Config, ConfigError};
pub use counts::{LevelTotals, Totals};
pub use run::{RunError, run, serve};
pub use status::Status;

/// Most levels that are counted by name; messages of further levels are forwarded and counted as `other`.
pub const LEVELS_MAX: usize = 1_000;
/// Most distinct topics that workers may subscribe to; further ones are ignored and counted.
pub const TOPICS_MAX: usize = 10_000;
/// Longest topic that a worker may subscribe to, in bytes.
pub const TOPIC_BYTES_MAX: usize = 256;
/// Most kept frames in one page of a replay.
pub const PAGE_FRAMES_MAX: usize = 256;

#[cfg(test)]
mod tests;
