//! A hot loop that records all three kinds at full speed, and then says exactly what it recorded.
//!
//! ```text
//! latency-loop --seconds 5 --threads 2 --wait-subscribed-ms 2000
//! ```
//!
//! Standard output gets one line of JSON with the truth: per series the sum of a counter, the count
//! and the sum in nanoseconds of a timer, the sets and the last value of a gauge. It is counted
//! beside the metrics, in local variables, so whatever a store holds in the end can be compared
//! with it to the unit. Standard error gets the client's own account.

mod report;
mod workload;

use std::io::{self, Write};
use std::num::NonZeroU64;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use zibrato_std::{BuildError, Client, Level, Stats, Wire};

use report::Recorded;
use workload::Until;

/// Most threads; each has a ring of its own.
const THREADS_MAX: u16 = 256;
/// Longest run, in seconds: a day.
const SECONDS_MAX: u64 = 86_400;
/// How long the end may take.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(5);

/// Records counters, gauges and timers as fast as it can, and prints what it recorded as JSON.
///
/// Exit codes: 0 if nothing is unaccounted for, 1 if something is, 2 on bad usage.
#[derive(Clone, Debug, Parser)]
#[command(name = "latency-loop", version)]
struct Args {
    /// Host of the broker [default: 127.0.0.1, unless --endpoint is given].
    #[arg(long)]
    host: Option<String>,

    /// Port of the broker for publishers [default: 5550, unless --endpoint is given].
    #[arg(long)]
    port: Option<u16>,

    /// A further broker as a ZeroMQ endpoint, such as tcp://10.0.0.2:5550; may be repeated. Without
    /// --host and --port the endpoints are all there is.
    #[arg(long, value_name = "ENDPOINT")]
    endpoint: Vec<String>,

    /// How long to run, in seconds (1 to 86400).
    #[arg(long, value_name = "SECONDS", default_value_t = 5, conflicts_with = "iterations",
          value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX))]
    seconds: u64,

    /// Run this many iterations in each thread instead (at least 1).
    #[arg(long, value_name = "N")]
    iterations: Option<NonZeroU64>,

    /// Threads that run the loop (1 to 256).
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=i64::from(THREADS_MAX)))]
    threads: u16,

    /// Source of all metrics: 1 to 255 of A-Z a-z 0-9 . : _ -
    #[arg(long, default_value = "latency-loop")]
    source: String,

    /// What goes over the wire: cumulative state, or the text of the original's workers.
    #[arg(long, value_enum, default_value_t = WireArg::State)]
    wire: WireArg,

    /// Wait for workers that subscribe to info and debug before the loop begins, in milliseconds.
    /// After that time it begins all the same; 0 does not wait.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    wait_subscribed_ms: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum WireArg {
    State,
    Legacy,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
            say(&format!("latency-loop: error: {error}{}", cause.unwrap_or_default()));
            // What the system refuses is a failure; the rest is what was asked for.
            let is_failure = matches!(error, BuildError::Start { .. } | BuildError::AlreadyRunning);
            ExitCode::from(if is_failure { 1 } else { 2 })
        }
    }
}

/// Runs the loop and reports. Whether everything is accounted for.
fn run(args: &Args) -> Result<bool, BuildError> {
    let mut builder = Client::builder().source(&args.source).wire(match args.wire {
        WireArg::State => Wire::State,
        WireArg::Legacy => Wire::Legacy,
    });
    if let Some(host) = &args.host {
        builder = builder.host(host);
    }
    if let Some(port) = args.port {
        builder = builder.port(port);
    }
    for endpoint in &args.endpoint {
        builder = builder.endpoint(endpoint);
    }
    let client = builder.build()?;
    if args.wait_subscribed_ms > 0 {
        wait_subscribed(&client, Duration::from_millis(args.wait_subscribed_ms.into()));
    }
    let until = match args.iterations {
        Some(iterations) => Until::Iterations(iterations.get()),
        None => Until::Elapsed(Duration::from_secs(args.seconds)),
    };
    let recorded = workload::run(&client, args.threads, until);
    let stats = client.shutdown(SHUTDOWN_DEADLINE);
    // A closed pipe must not turn the exit code into a panic.
    let _ = writeln!(io::stdout(), "{}", recorded.json(&args.source));
    let Some(stats) = stats else {
        say("latency-loop: the client gave no account of itself");
        return Ok(false);
    };
    say(&stats.to_string());
    Ok(is_accounted_for(&stats, &recorded, args.wire))
}

fn wait_subscribed(client: &Client, timeout: Duration) {
    let deadline = std::time::Instant::now() + timeout;
    for level in [Level::INFO, Level::DEBUG] {
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        if !client.wait_subscribed(level, left) {
            say(&format!(
                "latency-loop: nobody subscribed to {level} within {timeout:?}; beginning all the same"
            ));
        }
    }
}

/// The client's law, and that it was offered what the loop recorded. Legacy text has no place for
/// timers that nobody subscribes to, so there the second half says nothing.
fn is_accounted_for(stats: &Stats, recorded: &Recorded, wire: WireArg) -> bool {
    if !stats.law_holds() {
        say("latency-loop: the client's account does not add up");
        return false;
    }
    if wire == WireArg::State && stats.offered != recorded.flow() {
        say(&format!("latency-loop: recorded [{}], which is not what was offered", recorded.flow()));
        return false;
    }
    true
}

fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_its_help_names_units_and_defaults() {
        let mut command = Args::command();
        command.clone().debug_assert();
        let help = command.render_long_help().to_string();
        for text in ["127.0.0.1", "5550", "[default: 5]", "seconds", "milliseconds", "legacy", "Exit codes"] {
            assert!(help.contains(text), "{text} in {help}");
        }
    }
}
