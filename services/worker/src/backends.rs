//! The backends: one module each, of which none knows another. A new one has its line in [`ALL`].

pub mod jsonl;
pub mod librato;
pub mod statsd;

mod series_hash;

use clap::Command;

use crate::cli::{BackendArgs, Program};

/// A backend, as far as programs that handle all of them need to know.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Its name, as in `zibrato-<name>`.
    pub name: &'static str,
    /// The parser of its program's command line.
    pub command: fn() -> Command,
}

/// All backends, in the order of their names.
pub const ALL: [Kind; 3] =
    [kind::<jsonl::JsonlArgs>(), kind::<librato::LibratoArgs>(), kind::<statsd::StatsdArgs>()];

const fn kind<B: BackendArgs>() -> Kind {
    Kind { name: B::NAME, command: Program::<B>::command }
}
