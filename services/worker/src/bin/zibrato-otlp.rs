//! The zibrato-otlp program.

use std::process::ExitCode;

use zibrato_worker::backends::otlp::OtlpArgs;
use zibrato_worker::cli;

fn main() -> ExitCode {
    cli::main::<OtlpArgs>()
}
