//! Every fact on Librato's API that is known, section by section.
//!
//! Sections: 0 the original's client, 1 routes, 2.1 and 2.2 bodies, 3.1 limits, 3.2 whole batches, 3.3
//! error bodies, 3.4 rate limits, 3.5 answers to measurements. Where the record is silent the row says
//! what was chosen.

mod annotations;
mod bodies;
mod errors;
mod measurements;
mod metrics;
mod series;
mod sources;

use crate::client::now;

/// A time some minutes ago at which a minute begins.
fn minute() -> i64 {
    (now() - 600) / 60 * 60
}
