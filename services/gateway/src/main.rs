//! `zibrato-gateway`: flags, logging, `run`, exit code.

use std::process::ExitCode;

use clap::Parser;
use zibrato_gateway::{Args, run};
use zibrato_service::{Failure, init_logging, run_service};

fn main() -> ExitCode {
    let args = Args::parse();
    init_logging("info");
    run_service("zibrato-gateway", async |shutdown| {
        let config = args.resolve().map_err(Failure::usage)?;
        if !args.check_config {
            run(config, shutdown).await?;
        }
        Ok(())
    })
}
