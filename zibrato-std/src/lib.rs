//! The zibrato client: metrics from a program with threads to a broker.
//!
//! ```
//! use std::time::Duration;
//! use zibrato_std::{Client, Counter, Gauge, Level, Timer, count_me, time_me};
//!
//! static REQUESTS: Counter = Counter::new("web.requests", Level::INFO);
//! static LATENCY: Timer = Timer::new("web.latency", Level::DEBUG).source("frontend");
//! static DEPTH: Gauge = Gauge::new("queue.depth", Level::INFO);
//!
//! #[time_me(level = "debug", name = "handle")]
//! async fn handle() {}
//!
//! #[count_me(level = "info", name = "handled", value = 5)]
//! fn handled() {}
//!
//! # fn work() -> u32 { 42 }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::builder().source("doc").build()?;
//!
//! REQUESTS.add(4); // one buffer write
//! DEPTH.set(17.0);
//! let guard = LATENCY.start(); // records on drop
//! let took: Option<Duration> = guard.stop(); // None: nobody subscribes to debug
//! LATENCY.start().cancel();
//! let out = LATENCY.measure(|| work());
//! assert_eq!(out, 42);
//! handled();
//! drop(handle());
//!
//! let route = "/api";
//! let hits = client.counter("route.hits", Level::INFO).source("s").tag("route", route).get();
//! hits.add(1);
//!
//! let stats = client.shutdown(Duration::from_millis(300)).ok_or("no statistics")?;
//! assert!(stats.law_holds());
//! assert_eq!((stats.accepted.counters, stats.accepted.gauges), (4 + 5 + 1, 1));
//! # Ok(())
//! # }
//! ```
//!
//! # What other libraries measure
//!
//! Two features take in what code measures that knows nothing of zibrato:
//!
//! - `metrics`: `MetricsRecorder` makes counters, gauges and timers of what is recorded with the facade of that name.
//! - `tracing`: `SpanTimers` is a layer that makes a timer of each span.
//!
//! Both make metrics at run time, which count towards [`RUN_TIME_METRICS_MAX`].
//!
//! # A wall clock that is set back
//!
//! Recording does not see it. But libzmq, as its crate builds it, times reconnects and heartbeats by the wall clock: a client
//! whose clock is set back by an hour may notice an hour late that a broker is gone, or back. Whoever builds a program that must
//! not can tell libzmq of the monotonic clock, as this project does, in `.cargo/config.toml`:
//!
//! ```toml
//! [env]
//! HOST_CXXFLAGS = "-DHAVE_CLOCK_GETTIME"
//! TARGET_CXXFLAGS = "-DHAVE_CLOCK_GETTIME"
//! ```
//!
//! # Inside
//!
//! A record goes through the modules in this order: `zibrato_core` (metric, ring), `publisher`
//! (state, frames), `links` (sockets). The drain thread in `drain` moves it along.

#[cfg(any(feature = "metrics", feature = "tracing"))]
mod add_only_map;
#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;
mod builder;
mod client;
mod drain;
mod gates;
mod legacy;
pub mod links;
#[cfg(feature = "metrics")]
mod metrics_recorder;
mod publisher;
mod run_time;
mod shared;
pub mod socket;
mod stats;
#[cfg(feature = "tracing")]
mod tracing_layer;

pub use builder::{
    BuildError, Builder, ENDPOINTS_MAX, HOST_DEFAULT, PORT_DEFAULT, SERIES_MAX_DEFAULT,
    SHUTDOWN_DEADLINE_DEFAULT, SHUTDOWN_DEADLINE_MAX, WINDOW_MAX, WINDOW_MIN, Wire,
};
pub use client::Client;
pub use legacy::LEGACY_QUEUE_MAX;
#[cfg(feature = "metrics")]
pub use metrics_recorder::{AlreadyInstalled, MetricsRecorder};
pub use run_time::{MetricKind, Named, RUN_TIME_METRICS_MAX};
pub use stats::{Flow, Losses, Stats};
#[cfg(feature = "tracing")]
pub use tracing_layer::SpanTimers;
pub use zibrato_core::level::Level;
pub use zibrato_core::metric::{
    Counter, Gauge, ONE_IN_MAX, ONE_IN_MIN, SampledGuard, SampledTimer, Timer, TimerGuard,
};
pub use zibrato_core::{count_me, frame::LossReason, prepare_thread, time_me};

/// The README's example compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
