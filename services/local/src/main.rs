//! The zibrato-local program.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use zibrato_local::{Args, CheckError, Config, Error, check_db, run};
use zibrato_service::{Failure, init_logging, run_main, run_service};

/// How long a check runs before it tells how far it is, and how often it does then.
const PROGRESS_AFTER: Duration = Duration::from_secs(1);
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

fn main() -> ExitCode {
    let args = Args::parse();
    init_logging("info");
    if args.check_db {
        return run_main("zibrato-local", || check(&args.config().map_err(Failure::usage)?));
    }
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

fn check(config: &Config) -> Result<(), Failure> {
    let begun = Instant::now();
    let is_shown = io::stderr().is_terminal();
    let mut shown = begun;
    let progress = move |what: &str| {
        if is_shown && begun.elapsed() > PROGRESS_AFTER && shown.elapsed() > PROGRESS_EVERY {
            shown = Instant::now();
            // The line is overwritten by the next one; a stderr that is gone is no reason to stop.
            let _ = write!(io::stderr(), "\rchecking {what}: {} s\x1b[K", begun.elapsed().as_secs());
        }
    };
    let report = check_db(&config.db, progress)?;
    if is_shown && begun.elapsed() > PROGRESS_AFTER {
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
    let mut out = io::stdout().lock();
    for finding in &report.findings {
        writeln!(out, "{finding}")?;
    }
    if report.findings_total > 0 {
        return Err(CheckError { db: config.db.clone(), findings: report.findings_total }.into());
    }
    let (metrics, series) = (report.metrics, report.series);
    writeln!(
        out,
        "OK: {metrics} metrics, {series} series, {} points, {} rollup rows",
        report.points, report.rollups
    )?;
    Ok(())
}
