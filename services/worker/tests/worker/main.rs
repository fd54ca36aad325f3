//! The worker with real sockets: a bus of ZeroMQ on one side, a receiver of HTTP on the other.
#![expect(clippy::unwrap_used, reason = "all of this is test code")]

mod faults;
mod graphite;
mod many;
mod process;
mod programs;
mod shutdown;
mod support;
