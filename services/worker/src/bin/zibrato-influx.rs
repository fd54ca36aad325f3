//! The zibrato-influx program.

use std::process::ExitCode;

use zibrato_worker::backends::influx::InfluxArgs;
use zibrato_worker::cli;

fn main() -> ExitCode {
    cli::main::<InfluxArgs>()
}
