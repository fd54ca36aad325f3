//! The `zibrato` command.

mod args;
mod bench;
mod broker_args;
mod capture;
mod clock;
mod completions;
mod courier;
mod demo;
mod doctor;
mod feed;
mod human;
mod levels;
mod manual;
mod paint;
mod percentile;
mod progress;
mod query;
mod record;
mod replay;
mod send;
mod spark;
mod table;
mod tally;
mod tap;
mod token_args;
mod top;
mod units;
mod up;

use std::process::ExitCode;

use clap::Parser;
use zibrato_service::{Failure, Shutdown, init_logging, run_service};

use args::{Cli, Command, UpArgs};

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Up(args) => up(&args),
        Command::Send(args) => tool("zibrato send", async |shutdown| send::run(args, shutdown).await),
        Command::Tap(args) => tool("zibrato tap", async |shutdown| tap::run(args, shutdown).await),
        Command::Record(args) => tool("zibrato record", async |shutdown| record::run(args, shutdown).await),
        Command::Replay(args) => tool("zibrato replay", async |shutdown| replay::run(args, shutdown).await),
        Command::Top(args) => top::main(args),
        Command::Doctor(args) => doctor::main(&args),
        Command::Bench(args) => bench::main(args),
        Command::Query(args) => query::main(&args),
        Command::Completions(args) => completions::main(&args),
        Command::Man(args) => manual::main(&args),
    }
}

/// A tool prints what it has to say, also that there is no broker; the log is for what else needs care.
fn tool<F>(name: &str, run: impl FnOnce(Shutdown) -> F) -> ExitCode
where
    F: Future<Output = Result<(), Failure>>,
{
    init_logging("warn,zibrato_std=error");
    run_service(name, run)
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
