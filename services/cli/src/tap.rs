//! `zibrato tap`: shows what a worker would be given, message by message.

mod filter;
mod memory;
mod samples;
mod text;
mod view;

use std::io::{self, BufWriter, ErrorKind, Stdout, Write};
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use tokio::task::spawn_blocking;
use wildmatch::WildMatch;
use zibrato_core::frame::SamplesError;
use zibrato_service::{Failure, Shutdown, whole_number};
use zmq::Context;

use crate::broker_args::BrokerArgs;
use crate::clock::unix_ms;
use crate::feed::{Event, Feed, FeedError, POLL, WaitArgs};
use crate::human::clean;
use crate::levels::parse_level;
use crate::paint::{Paint, is_pretty};
use crate::progress::{Progress, note};
use crate::tally::{Sort, Tally};
use filter::{Filter, Limit};
use memory::Memory;
use samples::{SampleTally, SampleView};
use text::Layout;
use view::View;

/// Shows messages as a worker would be given them, native and legacy.
///
/// A native frame gives a line for each of its series: the cumulative state, and what changed since the
/// state before if that was seen. The columns are time, level, publisher, seq, flags (key, end, heartbeat,
/// part/parts), kind, series with tags and unit, source, state and change. On a terminal they are
/// aligned and coloured unless NO_COLOR is set; in a pipe they are separated by one tab, and the time is
/// in seconds since 1970.
///
/// With --json each message is an object on a line. Its `type` is frame, legacy or unreadable.
///
/// A frame has level, publisher, seq, part, of, key, end, heartbeat, age_ms, window_end_ms, window_ms, bytes,
/// losses {reason: count}, unreadable (how many entries cannot be read), series, and once a key frame told
/// them program, host, pid and library. Each of series has kind, name, source, and if it has any unit and
/// tags; a counter sum, a gauge sets, last, last_ms, min and max, a timer count, sum_ns, window_ns [min, max] or
/// null and buckets {scale, zero, base, offset, counts} as in WIRE.md; and delta {sum}, {sets} or {count,
/// sum_ns} if the state before is known.
///
/// A legacy message has level, kind, name, source, value and timestamp_s. What is unreadable has reason, error
/// and bytes.
///
/// With --samples it shows single measurements instead, of clients that were built with the wire `samples`: every
/// record of a timer and set of a gauge from now on. A sample gives a line of the same columns: its own time, in
/// microseconds; the level; the publisher's id; its number, by publisher and level; no flags; kind; series; source; and
/// what a gauge was set to, or what a timer took, in nanoseconds, or by how much a counter grew. Its time is when
/// the client's drain took it, some milliseconds behind the measurement. Samples are events: numbers that are missing
/// were lost on the way, and what the source could not hand over is told at the end. Their publishers' states have
/// all of them.
///
/// With --samples --json each sample is an object on a line with type sample, level, publisher, number, time_ns, kind,
/// name, source, and if it has any unit and tags; and ns (timer), value (gauge) or increment (counter).
///
/// --name and --source leave out everything that has no series to match. Ctrl-C and --count end it; it then says on
/// standard error what came and what was not shown.
///
/// Exit codes: 0 after Ctrl-C, --count, or when whoever reads the output went away (who closes a pipe has seen
/// enough), 1 if there is no broker or the output cannot be written, 2 bad usage.
#[derive(Clone, Debug, Args)]
pub(crate) struct TapArgs {
    /// Levels to subscribe to, separated by commas; matched exactly. On-demand levels are switched on by it.
    /// Default: everything that is published anyway.
    #[arg(long, value_name = "LEVELS", env = "ZIBRATO_LEVELS", value_delimiter = ',', value_parser = parse_level)]
    levels: Vec<String>,

    /// Show each measurement of these levels instead of their states; without --levels, of every level that is on.
    #[arg(long)]
    samples: bool,

    /// One JSON object for each message, with --samples for each sample.
    #[arg(long)]
    json: bool,

    /// Show only series whose name matches: * is any text, ? one character. Given several times, one must match.
    #[arg(long, value_name = "GLOB", value_parser = parse_glob)]
    name: Vec<WildMatch>,

    /// Show only series whose source matches, likewise.
    #[arg(long, value_name = "GLOB", value_parser = parse_glob)]
    source: Vec<WildMatch>,

    /// Print at most so many lines a second, 1 to 1000000; how many were left out is said every second.
    /// Default: no limit.
    #[arg(long, value_name = "LINES", value_parser = whole_number::<u64>(1, 1_000_000))]
    rate: Option<u64>,

    /// End after so many lines, 1 or more. Default: no end.
    #[arg(long, value_name = "LINES", value_parser = whole_number::<u64>(1, u64::MAX))]
    count: Option<u64>,

    #[command(flatten)]
    broker: BrokerArgs,

    #[command(flatten)]
    wait: WaitArgs,
}

/// Shows messages until it is to end.
///
/// # Errors
/// There is no broker, or the output cannot be written.
pub(crate) async fn run(args: TapArgs, shutdown: Shutdown) -> Result<(), Failure> {
    spawn_blocking(move || args.tap(&shutdown)).await??;
    Ok(())
}

impl TapArgs {
    fn tap(self, shutdown: &Shutdown) -> Result<(), Error> {
        let mut feed = Feed::open(&Context::new(), &self.broker.workers())?;
        feed.watch_output(&io::stdout());
        if self.samples {
            feed.subscribe_samples(&self.levels)?;
        } else {
            feed.subscribe_levels(&self.levels)?;
        }
        feed.ask(self.wait.timeout())?;
        let mut tap = Tap::new(self);
        match tap.follow(&mut feed, shutdown) {
            Err(Error::Output(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            Err(error) => Err(error),
            Ok(()) => {
                note(tap.account());
                Ok(())
            }
        }
    }
}

/// What is shown, and the account of it.
struct Tap {
    out: BufWriter<Stdout>,
    /// `None` with `--json`.
    layout: Option<Layout>,
    is_terminal: bool,
    filter: Filter,
    limit: Limit,
    lines_max: u64,
    memory: Memory,
    tally: Tally,
    /// With `--samples`.
    samples: Option<SampleTally>,
    printed: u64,
    suppressed: u64,
    filtered: u64,
}

impl Tap {
    fn new(args: TapArgs) -> Self {
        let is_terminal = is_pretty();
        Self {
            layout: (!args.json).then(|| Layout::new(is_terminal, Paint::stdout())),
            out: BufWriter::new(io::stdout()),
            is_terminal,
            filter: Filter { names: args.name, sources: args.source },
            limit: Limit::new(args.rate, Instant::now()),
            lines_max: args.count.unwrap_or(u64::MAX),
            memory: Memory::default(),
            tally: Tally::default(),
            samples: args.samples.then(SampleTally::default),
            printed: 0,
            suppressed: 0,
            filtered: 0,
        }
    }

    fn follow(&mut self, feed: &mut Feed, shutdown: &Shutdown) -> Result<(), Error> {
        let mut waiting = Some(Progress::spinner("waiting for the broker"));
        let mut was_lost = false;
        while !shutdown.is_requested() && self.printed < self.lines_max {
            let mut event = feed.next(Duration::ZERO)?;
            if event.is_none() {
                // Nothing is left to be read, so this is the time to show what was.
                self.out.flush()?;
                event = feed.next(POLL)?;
            }
            match event {
                Some(Event::Message(message)) => self.take(&message)?,
                Some(Event::Confirmed) => drop(waiting.take()),
                Some(Event::Lost) => {
                    was_lost = true;
                    note("the connection to the broker is lost; trying again");
                }
                Some(Event::Connected) if was_lost => note("connected to the broker again"),
                Some(Event::OutputClosed) => Err(io::Error::from(ErrorKind::BrokenPipe))?,
                Some(Event::Connected) | None => {}
            }
            if let Some(suppressed) = self.limit.end_second(Instant::now()) {
                self.out.flush()?;
                note(format_args!("{suppressed} lines of the last second are not shown (--rate)"));
            }
        }
        self.out.flush()?;
        Ok(())
    }

    /// Shows a message.
    fn take(&mut self, message: &[u8]) -> io::Result<()> {
        if let Some(mut samples) = self.samples.take() {
            let shown = samples.take(message, |sample| self.take_sample(sample, message));
            self.samples = Some(samples);
            return shown;
        }
        let sort = Sort::of(message);
        self.tally.note(&sort);
        let view = match sort {
            Sort::Frame { .. } | Sort::Unreadable => View::frame(message, &self.filter, &mut self.memory),
            Sort::Legacy => View::legacy(message),
            Sort::Control => return Ok(()),
        };
        self.take_view(&view)
    }

    fn take_view(&mut self, view: &View<'_>) -> io::Result<()> {
        if !self.filter.shows(view) {
            self.filtered += 1;
            return Ok(());
        }
        let lines = match &mut self.layout {
            Some(layout) => layout.lines(view, unix_ms()),
            None => vec![self.json(view)?],
        };
        lines.iter().try_for_each(|line| self.print(line))
    }

    /// Shows a sample, or why what stands in `message` cannot be read.
    fn take_sample(
        &mut self,
        sample: Result<&SampleView<'_>, SamplesError>,
        message: &[u8],
    ) -> io::Result<()> {
        let sample = match sample {
            Ok(sample) => sample,
            Err(error) => return self.take_view(&View::unreadable(error.reason(), error, message)),
        };
        if !self.filter.matches(sample.name, sample.source) {
            self.filtered += 1;
            return Ok(());
        }
        let line = match &mut self.layout {
            Some(layout) => layout.sample_line(sample),
            None => self.json(sample)?,
        };
        self.print(&line)
    }

    /// Prints a line, if it may be printed now.
    fn print(&mut self, line: &str) -> io::Result<()> {
        if self.printed == self.lines_max {
            return Ok(());
        }
        if self.limit.allows() {
            self.printed += 1;
            writeln!(self.out, "{line}")
        } else {
            self.suppressed += 1;
            Ok(())
        }
    }

    fn json(&self, view: &impl Serialize) -> io::Result<String> {
        let line = serde_json::to_string(view).map_err(io::Error::other)?;
        // JSON leaves some control characters as they are, which a terminal would obey.
        Ok(if self.is_terminal { clean(&line) } else { line })
    }

    /// What came, and what became of it.
    fn account(&self) -> String {
        let Self { tally, samples, filtered, printed, suppressed, .. } = self;
        let came = samples.as_ref().map_or_else(|| tally.to_string(), SampleTally::to_string);
        format!("{came}; without a match {filtered}; lines printed {printed}, suppressed {suppressed}")
    }
}

fn parse_glob(text: &str) -> Result<WildMatch, String> {
    if text.is_empty() {
        return Err("accepted is a text in which * is any text and ? one character".to_owned());
    }
    Ok(WildMatch::new(text))
}

/// Why nothing is shown.
#[derive(Debug, thiserror::Error)]
enum Error {
    /// Nothing comes from the broker.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// The output is full or broken.
    #[error("cannot write to standard output")]
    Output(#[from] io::Error),
}
