//! The zibrato-statsd program.

use std::process::ExitCode;

use zibrato_worker::backends::statsd::StatsdArgs;
use zibrato_worker::cli;

fn main() -> ExitCode {
    cli::main::<StatsdArgs>()
}
