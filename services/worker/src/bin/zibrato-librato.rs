//! The zibrato-librato program.

use std::process::ExitCode;

use clap::Parser;
use zibrato_service::{init_logging, run_service};
use zibrato_worker::cli::{Args, run_librato};

fn main() -> ExitCode {
    let args = Args::parse();
    init_logging("info");
    run_service("zibrato-librato", async |shutdown| run_librato(&args, shutdown).await)
}
