//! `zibrato bench`: what recording costs on this machine, and how much gets through.
//!
//! ```text
//! calls -----------------------------------------------------------> print
//! load, calls -> curves -------------------------------------------> picture
//! load -> client -> broker -> worker (deployment) -> end_to_end ---> print
//! ```

mod calls;
mod curves;
mod deployment;
mod end_to_end;
mod load;
mod print;
mod threads;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use zibrato_service::{Shutdown, init_logging, run_service, whole_number};

use crate::paint::{Paint, PrintError, print as print_out};
use crate::progress::note;
use crate::units::parse_duration;
use load::Spread;

/// How long the short and the long form record.
const DURATION_SHORT: Duration = Duration::from_secs(5);
const DURATION_LONG: Duration = Duration::from_secs(60);
const DURATION_MIN: Duration = Duration::from_secs(1);
const DURATION_MAX: Duration = Duration::from_secs(3_600);
/// Counters of the long form.
const COUNTERS_LONG: u32 = 100_000;
const COUNTERS_MAX: u32 = 500_000;
const TIMERS_MAX: u32 = 100_000;
const THREADS_MAX: u32 = 64;
/// Accepted rates, in records a second.
const RATE_MIN: f64 = 1_000.0;
const RATE_MAX: f64 = 1e9;

/// Measures on this machine what a call costs, and how much gets through from the hot loop to the ledger.
///
/// First what each operation costs the thread that calls it: nanoseconds, and the ratio to an uncontended relaxed
/// fetch_add measured right before and behind it; of timer guards also what they take beyond two readings
/// of the clock. Medians of many short rounds. Then threads record in a hot loop, as fast as --rate says; what
/// they record goes through a client, a broker and a worker, all in this process on free loopback ports, to
/// a store that only adds up. At the end every record and every increment must be there.
///
/// It takes 10 s, with --long a minute. Let nothing else run meanwhile. A debug build's figures mean nothing.
///
/// With --json one object is printed: `version`, `unix_ms`, `debug_build`, `calls`, a list of `operation`, `ns`,
/// `fetch_adds`, `beyond_clock_reads_ns` or null, and `end_to_end`, an object; what --only leaves out is null.
///
/// Exit codes: 0 measured, 1 if the totals are not exact or something fails, and after Ctrl-C, 2 on bad usage.
#[derive(Clone, Debug, Args)]
pub(crate) struct BenchArgs {
    /// How long to record, from 1s to 1h, such as 30s or 5min; seconds without a unit. Default: 5s, with --long 60s.
    #[arg(long, value_name = "TIME", value_parser = parse_bench_duration)]
    duration: Option<Duration>,

    /// The long form: 60 s, and 100000 counters that change every window.
    #[arg(long)]
    long: bool,

    /// Timer records a second, of all threads together, from 1k to 1G, such as 500k or 12M; max for as many
    /// as the threads can make, most of which find their ring full.
    #[arg(long, value_name = "RATE", default_value = "12M", value_parser = parse_rate)]
    rate: Rate,

    /// Threads that record timers, 1 to 64. They never sleep: leave a core for everything else.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = whole_number::<u32>(1, THREADS_MAX))]
    threads: u32,

    /// Timers they record, in turn, 1 to 100000.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = whole_number::<u32>(1, TIMERS_MAX))]
    timers: u32,

    /// Counters that another thread adds one to in every window, 0 to 500000. Default: 0, with --long 100000.
    #[arg(long, value_name = "N", value_parser = whole_number::<u32>(0, COUNTERS_MAX))]
    counters: Option<u32>,

    /// The client's window, from 10ms to 1h.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_window)]
    window: Duration,

    /// Measure one part only.
    #[arg(long, value_name = "PART")]
    only: Option<Only>,

    /// Measure instead how costs grow with threads, metrics and the spread of durations, in half a minute, and
    /// write threads.svg, metrics.svg and spread.svg into DIR. It is created if it is missing; pictures in it are replaced.
    #[arg(long, value_name = "DIR", exclusive = true)]
    curves: Option<PathBuf>,

    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// A part of the measurements.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Only {
    /// What a call costs.
    Calls,
    /// What gets through.
    EndToEnd,
}

/// What to do in the end-to-end part.
#[derive(Clone, Debug)]
struct Plan {
    duration: Duration,
    /// Records a second; `None` for as many as possible.
    rate: Option<f64>,
    threads: u32,
    timers: u32,
    counters: u32,
    window: Duration,
    spread: Spread,
}

impl Plan {
    /// Series of the client.
    fn series(&self) -> usize {
        (self.timers + self.counters) as usize
    }
}

impl BenchArgs {
    fn plan(&self) -> Plan {
        let (duration, counters) =
            if self.long { (DURATION_LONG, COUNTERS_LONG) } else { (DURATION_SHORT, 0) };
        Plan {
            duration: self.duration.unwrap_or(duration),
            rate: self.rate.0,
            threads: self.threads,
            timers: self.timers,
            counters: self.counters.unwrap_or(counters),
            window: self.window,
            spread: Spread::LOGNORMAL,
        }
    }
}

/// Records a second; `None` for as many as possible.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Rate(Option<f64>);

fn parse_rate(text: &str) -> Result<Rate, String> {
    if text == "max" {
        return Ok(Rate(None));
    }
    let factors = [("k", 1e3), ("M", 1e6), ("G", 1e9)];
    let (number, factor) =
        factors.iter().find_map(|(unit, by)| Some((text.strip_suffix(unit)?, *by))).unwrap_or((text, 1.0));
    let rate = number.parse::<f64>().ok().map(|number| number * factor);
    match rate.filter(|rate| (RATE_MIN..=RATE_MAX).contains(rate)) {
        Some(rate) => Ok(Rate(Some(rate))),
        None => Err("accepted are max and records a second from 1k to 1G, such as 500k or 12M".to_owned()),
    }
}

fn parse_bench_duration(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text)?;
    let accepted = (DURATION_MIN..=DURATION_MAX).contains(&duration);
    accepted.then_some(duration).ok_or_else(|| "accepted are 1s to 1h".to_owned())
}

fn parse_window(text: &str) -> Result<Duration, String> {
    let window = parse_duration(text)?;
    let accepted = (zibrato_std::WINDOW_MIN..=zibrato_std::WINDOW_MAX).contains(&window);
    accepted.then_some(window).ok_or_else(|| "accepted are 10ms to 1h".to_owned())
}

/// Runs the command.
pub(crate) fn main(args: BenchArgs) -> ExitCode {
    // The log is for what needs care. That the parts end one after the other is no news.
    init_logging("warn,zibrato_std=error,zibrato_worker::subscription::connection=error");
    run_service("zibrato bench", async |shutdown| {
        let runtime = Handle::current();
        spawn_blocking(move || run(&args, &runtime, &shutdown)).await??;
        Ok(())
    })
}

fn run(args: &BenchArgs, runtime: &Handle, shutdown: &Shutdown) -> Result<(), Error> {
    if cfg!(debug_assertions) {
        note("this is a debug build: its figures mean nothing; build with --release");
    }
    if let Some(directory) = &args.curves {
        return curves::draw(directory, shutdown);
    }
    let paint = Paint::stdout();
    let calls = (args.only != Some(Only::EndToEnd)).then(|| calls::measure(shutdown)).transpose()?;
    if let (Some(calls), false) = (&calls, args.json) {
        print_out(&print::calls(calls, paint))?;
    }
    let run = || end_to_end::run(&args.plan(), runtime, shutdown);
    let outcome = (args.only != Some(Only::Calls)).then(run).transpose()?;
    if let (Some(outcome), false) = (&outcome, args.json) {
        print_out(&print::end_to_end(outcome, paint))?;
    }
    if args.json {
        print_out(&print::json(calls.as_deref(), outcome.as_ref()))?;
    }
    if outcome.is_none_or(|outcome| outcome.exact) { Ok(()) } else { Err(Error::NotExact) }
}

/// The middle of these numbers, which are put in order; 0 of none.
fn median(numbers: &mut [f64]) -> f64 {
    numbers.sort_by(f64::total_cmp);
    match numbers.get(numbers.len() / 2) {
        Some(upper) if numbers.len() % 2 == 1 => *upper,
        Some(upper) => (numbers[numbers.len() / 2 - 1] + upper) / 2.0,
        None => 0.0,
    }
}

/// Why nothing was measured, or nothing good.
#[derive(Debug, thiserror::Error)]
enum Error {
    /// Something was lost or counted twice.
    #[error("the totals are not exact: something was lost or counted twice, which must not happen")]
    NotExact,
    /// The broker does not start.
    #[error(transparent)]
    Broker(#[from] zibrato_broker::StartError),
    /// The worker does not start, or ended badly.
    #[error(transparent)]
    Worker(#[from] zibrato_worker::worker::Error),
    /// The client does not start.
    #[error(transparent)]
    Client(#[from] zibrato_std::BuildError),
    /// There is no place for the spool.
    #[error("cannot make a directory for the worker's spool; set TMPDIR to one that can be written")]
    Scratch(#[source] io::Error),
    /// The system gives no more threads.
    #[error("cannot start a thread that records; free memory or raise the limit of processes")]
    Thread(#[source] io::Error),
    /// The worker's subscription did not reach the client.
    #[error("the worker's subscription did not reach the client within 10 s; the machine is overloaded")]
    NoSubscription,
    /// The client's thread does not answer.
    #[error("the client does not answer; the machine is overloaded")]
    NoStats,
    /// A picture cannot be written.
    #[error("cannot write pictures into {}; give a directory that can be written with --curves", path.display())]
    Curves { path: PathBuf, source: io::Error },
    /// A picture cannot be drawn.
    #[error("a picture cannot be drawn: {0}")]
    Draw(String),
    /// Ctrl-C.
    #[error("stopped before it was done")]
    Stopped,
    /// The result cannot be printed.
    #[error(transparent)]
    Print(#[from] PrintError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&mut []), 0.0);
    }

    #[test]
    fn rates_have_a_unit_and_a_range() {
        assert_eq!(parse_rate("max"), Ok(Rate(None)));
        for (text, rate) in [("1k", 1e3), ("12M", 12e6), ("0.5M", 5e5), ("1G", 1e9), ("250000", 25e4)] {
            assert_eq!(parse_rate(text), Ok(Rate(Some(rate))), "{text}");
        }
        for bad in ["", "0", "999", "2G", "-1M", "1m", "fast", "NaN", "inf"] {
            assert!(parse_rate(bad).unwrap_err().contains("1k to 1G"), "{bad}");
        }
    }
}
