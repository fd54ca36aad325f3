//! The receiver over real sockets.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests may panic like tests")]

mod client;
mod database;
mod librato;
mod lifecycle;
mod page;
mod post;
mod program;
mod read;
mod security;
mod status;
mod table;
