//! The zibrato-prometheus program.

use std::process::ExitCode;

use zibrato_worker::backends::prometheus::PrometheusArgs;
use zibrato_worker::cli;

fn main() -> ExitCode {
    cli::main::<PrometheusArgs>()
}
