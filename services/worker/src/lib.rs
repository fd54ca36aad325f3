//! The worker: what publishers measured becomes batches that a backend acknowledges.
//!
//! Subscription, ledger, flush, spool, sender. A backend implements the one trait
//! [`backend::Backend`]; scheduling, retry, spool, self-metrics and flags are the library's. The
//! modules stand in the order in which a measurement passes through them.

pub mod subscription;

pub mod ledger;
pub mod measurement;

pub mod flush;
pub mod naming;

pub mod merge;
pub mod numbers;
pub mod table;
pub mod tag_key;

pub mod backend;
pub mod backends;
pub mod http;
pub mod retry;

mod batch_id;
mod sender;
pub mod spool;

pub mod clock;
pub mod secret;
pub mod totals;
pub mod units;

mod report;
mod status;
pub mod worker;

pub mod cli;

#[cfg(test)]
mod test_support;
