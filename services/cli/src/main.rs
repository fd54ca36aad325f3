//! The `zibrato` command.

mod args;
mod broker_args;
mod demo;
mod doctor;
mod human;
mod levels;
mod paint;
mod spark;
mod table;
mod top;
mod up;

use std::process::ExitCode;

use clap::Parser;
use zibrato_service::{Failure, init_logging, run_service};

use args::{Cli, Command, UpArgs};

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Up(args) => up(&args),
        Command::Top(args) => top::main(args),
        Command::Doctor(args) => doctor::main(&args),
    }
}

fn up(args: &UpArgs) -> ExitCode {
    // What `up` has to say it prints itself; the log is for what needs care.
    // Broker and worker end one after the other in one process: that their connection goes is no news.
    init_logging("warn,zibrato_worker::subscription::connection=error");
    run_service("zibrato up", async |shutdown| {
        let config = args.resolve().map_err(Failure::usage)?;
        if args.check_config {
            return Ok(());
        }
        up::run(config, shutdown).await?;
        Ok(())
    })
}
