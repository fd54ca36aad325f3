//! The page at `/`: every metric as a live chart, without an account.
mod chart;
mod quantity;
mod zone;
