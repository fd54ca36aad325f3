//! `zibrato top`: what is measured right now, series by series.
//!
//! ```text
//! broker -> feed (the worker's subscription and ledger) -> state -> draw
//!                                  status endpoints -> services -^     ^- view <- keys
//! ```

mod columns;
mod draw;
mod feed;
mod gauges;
mod model;
mod once;
mod publisher_columns;
mod services;
mod sorting;
mod state;
mod terminal;
mod view;

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use zibrato_service::{Failure, Shutdown, init_logging, run_service};

use crate::broker_args::{BrokerArgs, StatusAddr, parse_status};
use crate::feed::FeedError;
use crate::levels::parse_level;
use crate::paint::{self, is_pretty};
use draw::Theme;
use state::State;
use terminal::{Input, Screen};
use view::{Asked, View};

/// The levels that are on whether or not somebody listens.
const LEVELS_DEFAULT: &str = "critical,error,warning,info";
/// How long `--once` listens unless told otherwise, in seconds.
const ONCE_S_DEFAULT: u64 = 5;
const ONCE_S_MAX: u64 = 3_600;

/// Shows what is measured right now: rates of counters, gauges, timers with their percentiles, each
/// with its last minute, and who publishes it.
///
/// It listens to the broker like a worker, and takes nothing away from workers. A counter or a timer
/// appears when it changes for the first time, a gauge as soon as its value is known. Rates and percentiles are of the last 10 s, smallest and largest
/// value of gauges of the last 60 s. At most 5000 series are held; beyond that some are left out,
/// which the screen says.
///
/// Keys: q quits, / filters, < and > choose the column to sort by, space pauses, p shows publishers,
/// ? shows all keys. NO_COLOR switches colours off.
///
/// Exit codes: 0 after q, Ctrl-C, SIGTERM or SIGHUP, 1 on a failure, 2 on bad usage or without a terminal
/// (then use --once, or zibrato tap). With --once: 1 if there was no broker.
#[derive(Clone, Debug, Args)]
pub(crate) struct TopArgs {
    #[command(flatten)]
    broker: BrokerArgs,

    /// Levels to listen to, separated by commas; matched exactly. Metrics of an on-demand level, such
    /// as debug and trace, are switched on by listening: it costs their programs something.
    #[arg(long, env = "ZIBRATO_TOP_LEVELS", value_name = "LEVELS", default_value = LEVELS_DEFAULT,
          value_delimiter = ',', value_parser = parse_level)]
    levels: Vec<String>,

    /// Status address of the worker, as IP:PORT, or `none`: what it has on disk and lost is shown.
    #[arg(long, env = "ZIBRATO_TOP_WORKER", value_name = "IP:PORT", default_value = "127.0.0.1:5553", value_parser = parse_status)]
    worker: StatusAddr,

    /// Status address of the broker, as IP:PORT, or `none`: levels not listened to are shown.
    #[arg(long, env = "ZIBRATO_TOP_BROKER", value_name = "IP:PORT", default_value = "127.0.0.1:5552", value_parser = parse_status)]
    broker_status: StatusAddr,

    /// Listen for --seconds, print one plain table and exit. Needs no terminal.
    #[arg(long)]
    once: bool,

    /// How long --once listens, in seconds, 1 to 3600.
    #[arg(long, value_name = "SECONDS", default_value_t = ONCE_S_DEFAULT, requires = "once",
          value_parser = zibrato_service::whole_number::<u64>(1, ONCE_S_MAX))]
    seconds: u64,
}

/// Why it ends before it is asked to.
#[derive(Debug, thiserror::Error)]
enum Error {
    /// There is nothing to draw on.
    #[error("top draws on a terminal and standard {what} is none: use zibrato top --once, or zibrato tap")]
    NoTerminal { what: &'static str },
    /// The terminal cannot be drawn on.
    #[error("cannot draw on the terminal")]
    Terminal(#[source] io::Error),
    /// The table of `--once` cannot be printed.
    #[error(transparent)]
    Print(#[from] paint::PrintError),
    /// It cannot be listened to the broker.
    #[error(transparent)]
    Feed(#[from] feed::Error),
    /// The feed ended by itself.
    #[error("listening ended by itself: please report this with the versions of broker and top")]
    FeedEnded,
    /// `--once` had nobody to listen to.
    #[error(transparent)]
    NoBroker(#[from] FeedError),
}

/// Runs the command.
pub(crate) fn main(args: TopArgs) -> ExitCode {
    // A log on the same terminal would be drawn over the screen.
    if args.once || !io::stderr().is_terminal() {
        init_logging("warn,zibrato_worker=error");
    }
    run_service("zibrato top", async |shutdown| {
        if args.once {
            return Ok(once(&args, &shutdown).await?);
        }
        for (what, is_terminal) in [("input", io::stdin().is_terminal()), ("output", is_pretty())] {
            if !is_terminal {
                return Err(Failure::usage(Error::NoTerminal { what }));
            }
        }
        Ok(watch(&args, &shutdown).await?)
    })
}

/// Shows the screen until the user or a signal ends it.
async fn watch(args: &TopArgs, shutdown: &Shutdown) -> Result<(), Error> {
    let mut ticks = feed::start(&args.broker.workers(), &args.levels)?;
    let mut services = services::watch(args.broker_status.0, args.worker.0);
    let mut state = State::new(args.broker.workers(), &args.levels);
    // Before the first answer it is known at least who is asked.
    state.services = services.borrow_and_update().clone();
    let mut screen = Screen::enter().map_err(Error::Terminal)?;
    let mut input = Input::start();
    // Its default action would leave a terminal that is still there in raw mode.
    let mut hang_up = signal(SignalKind::hangup()).map_err(Error::Terminal)?;
    let theme = Theme { has_colours: paint::colours_wanted() };
    let mut view = View::default();
    // What is shown while paused.
    let mut frozen: Option<State> = None;
    loop {
        let shown = frozen.as_ref().unwrap_or(&state);
        if !screen.draw(|frame| draw::draw(frame, shown, &mut view, theme)).map_err(Error::Terminal)? {
            return Ok(());
        }
        tokio::select! {
            () = shutdown.requested() => return Ok(()),
            _ = hang_up.recv() => return Ok(()),
            tick = ticks.recv() => state.absorb(tick.ok_or(Error::FeedEnded)?),
            Ok(()) = services.changed() => state.services = services.borrow_and_update().clone(),
            event = input.next() => match event {
                // Without an event the terminal is gone.
                None => return Ok(()),
                Some(event) => {
                    if terminal::key(&event).is_some_and(|key| view.key(key) == Asked::Quit) {
                        return Ok(());
                    }
                    frozen = view.is_paused.then(|| frozen.take().unwrap_or_else(|| state.clone()));
                }
            },
        }
    }
}

/// Listens for a while and prints one table.
async fn once(args: &TopArgs, shutdown: &Shutdown) -> Result<(), Error> {
    let endpoint = args.broker.workers();
    let mut ticks: mpsc::Receiver<_> = feed::start(&endpoint, &args.levels)?;
    let mut state = State::new(endpoint.clone(), &args.levels);
    let end = tokio::time::sleep(Duration::from_secs(args.seconds) + feed::TICK / 2);
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = shutdown.requested() => break,
            () = &mut end => break,
            tick = ticks.recv() => state.absorb(tick.ok_or(Error::FeedEnded)?),
        }
    }
    if !state.is_connected {
        return Err(FeedError::NoBroker { endpoint, timeout_s: args.seconds }.into());
    }
    Ok(paint::print(&once::table(&state))?)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        top: TopArgs,
    }

    fn parse(flags: &[&str]) -> Result<TopArgs, String> {
        let parsed = Cli::try_parse_from([&["top"], flags].concat());
        parsed.map(|cli| cli.top).map_err(|error| error.to_string())
    }

    #[test]
    fn without_flags_the_ports_are_the_documented_ones_and_no_level_on_demand_is_listened_to() {
        let args = parse(&[]).unwrap();
        assert_eq!(args.broker.workers(), "tcp://127.0.0.1:5551");
        assert_eq!(args.levels, ["critical", "error", "warning", "info"]);
        assert_eq!(args.worker.0.unwrap().port(), 5_553);
        assert_eq!(args.broker_status.0.unwrap().port(), 5_552);
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_is_accepted() {
        for (flags, text) in [
            (["--levels", "a|b"], "without control characters"),
            (["--worker", "5553"], "IP:PORT"),
            (["--port", "65535"], "1 to 65534"),
            (["--seconds", "3"], "--once"),
        ] {
            let error = parse(&flags).unwrap_err();
            assert!(error.contains(text), "{error}");
        }
        assert!(parse(&["--once", "--seconds", "0"]).unwrap_err().contains("1 to 3600"));
    }
}
