//! The page of zibrato-local in a real Chromium, fed by the real programs.
//!
//! `ci/page` runs these: they need a browser, and axe-core at the path in `AXE`. Screenshots are written to
//! `target/page`.
#![allow(clippy::unwrap_used, reason = "what fails here fails a test")]

mod access;
mod explore;
mod live;
mod look;
mod speed;
mod support;
