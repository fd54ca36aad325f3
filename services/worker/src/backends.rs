//! The backends: one module each, of which none knows another. A new one has its line in [`ALL`].

pub mod graphite;
pub mod influx;
pub mod librato;
pub mod otlp;
pub mod prometheus;

use clap::Command;

use crate::cli::{BackendArgs, ParsedLane, Program, parse_lane};

/// A backend, as far as programs that handle all of them need to know.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Its name, as in `zibrato-<name>`.
    pub name: &'static str,
    /// The parser of its program's command line.
    pub command: fn() -> Command,
    /// Reads its flags and those of its lane, as the keys of a file.
    pub(crate) lane: fn(&[String]) -> Result<ParsedLane, String>,
}

/// All backends, in the order of their names.
pub const ALL: &[Kind] = &[
    kind::<graphite::GraphiteArgs>(),
    kind::<influx::InfluxArgs>(),
    kind::<librato::LibratoArgs>(),
    kind::<otlp::OtlpArgs>(),
    kind::<prometheus::PrometheusArgs>(),
];

const fn kind<B: BackendArgs>() -> Kind {
    Kind { name: B::NAME, command: Program::<B>::command, lane: parse_lane::<B> }
}
