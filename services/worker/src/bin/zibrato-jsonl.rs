//! The zibrato-jsonl program.

use std::process::ExitCode;

use zibrato_worker::backends::jsonl::JsonlArgs;
use zibrato_worker::cli;

fn main() -> ExitCode {
    cli::main::<JsonlArgs>()
}
