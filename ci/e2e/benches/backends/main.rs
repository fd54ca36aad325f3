//! What a worker does with many series, and what a counter costs all the way, beside etsy's statsd: real programs, real
//! servers. Fails where a target is missed.
//!
//! Needs what `ci/setup` installs, and the programs in the same profile: `ci/bench` builds and runs it.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench that reports what it measured")]

mod flush;
mod statsd;

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix time in milliseconds.
fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

fn main() {
    let mut bad = Vec::new();
    bad.extend(flush::many_series());
    bad.extend(flush::a_million_series());
    bad.extend(statsd::beside_etsy());
    assert!(bad.is_empty(), "{}", bad.join("; "));
}
