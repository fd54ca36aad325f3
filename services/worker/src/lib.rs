//! The worker: what publishers measured becomes batches that a backend acknowledges.
//!
//! Subscription, ledger, flush, spool, sender. A backend implements the one trait
//! [`backend::Backend`]; scheduling, retry, spool, self-metrics and flags are the library's. The
//! modules stand in the order in which a measurement passes through them.

pub mod measurement;

pub mod flush;
pub mod merge;

pub mod backend;
pub mod http;
pub mod librato;
pub mod retry;

pub mod secret;
pub mod units;

#[cfg(test)]
mod test_support;
