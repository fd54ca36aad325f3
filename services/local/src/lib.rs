//! zibrato-local: a receiver that answers the Librato metrics API v1 and stores in SQLite.
//!
//! A request passes `server` (routes, limits), `auth`, `api` (one module a resource), `body` and
//! `validate` (JSON to points) and ends in `store` (one writer thread, a few
//! readers). `totals` holds the law that every offered point is accepted or refused with a reason.
//!
//! Where the public record of the Librato API does not say what the service did, the choice made
//! here is said at the place of the choice.

mod api;
mod args;
mod auth;
mod body;
mod config;
mod errors;
mod page;
mod rate;
mod server;
mod store;
mod totals;
mod validate;
mod watch;

pub use args::Args;
pub use config::{Config, ConfigError, Keep, Token};
pub use server::{Error, Limits, Running, run, start};
pub use store::{CheckError, CheckReport, StoreError, StoredPoint, check_db, read_points};
pub use totals::Totals;
pub use watch::{AddressList, WATCH_MAX, Watch, Watched};
