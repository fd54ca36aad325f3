//! `zibrato send`, `tap`, `record` and `replay` as programs, against real brokers.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

#[path = "../support/bus.rs"]
mod bus;
#[path = "../support/pty.rs"]
mod pty;

mod books;
mod capture;
mod exits;
mod fake;
mod program;
mod progress;
mod publisher;
mod send;
mod small;
mod tap;
mod tap_samples;
