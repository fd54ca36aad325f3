//! The zibrato-worker program.

use std::process::ExitCode;

fn main() -> ExitCode {
    zibrato_worker::cli::many::main()
}
