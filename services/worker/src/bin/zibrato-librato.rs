//! The zibrato-librato program.

use std::process::ExitCode;

use zibrato_worker::backends::librato::LibratoArgs;
use zibrato_worker::cli;

fn main() -> ExitCode {
    cli::main::<LibratoArgs>()
}
