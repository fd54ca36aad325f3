//! The zibrato-graphite program.

use std::process::ExitCode;

use zibrato_worker::backends::graphite::GraphiteArgs;
use zibrato_worker::cli;

fn main() -> ExitCode {
    cli::main::<GraphiteArgs>()
}
