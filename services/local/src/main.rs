//! The zibrato-local program.

use std::process::ExitCode;

use clap::Parser;
use zibrato_local::{Args, Error, run};
use zibrato_service::{Failure, init_logging, run_service};

fn main() -> ExitCode {
    let args = Args::parse();
    init_logging("info");
    run_service("zibrato-local", async |shutdown| {
        let check_only = args.check_config;
        let config = args.config().map_err(Failure::usage)?;
        if check_only {
            return Ok(());
        }
        match run(config, shutdown).await {
            Ok(_) => Ok(()),
            Err(Error::Config(error)) => Err(Failure::usage(error)),
            Err(error) => Err(error.into()),
        }
    })
}
