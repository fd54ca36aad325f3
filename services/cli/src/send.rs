//! `zibrato send`: measurements from the command line or from lines, and proof that they were forwarded.

mod input;
mod legacy;
mod measurement;
mod native;

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use clap::Args;
use tokio::task::spawn_blocking;
use zibrato_core::kind::Kind;
use zibrato_core::limits::SOURCE_DEFAULT;
use zibrato_core::text::Field;
use zibrato_service::{Failure, Shutdown};

use crate::broker_args::BrokerArgs;
use crate::courier::CourierError;
use crate::feed::{POLL, WaitArgs};
use crate::human::{clean, plural, some_of};
use crate::levels::parse_level;
use crate::paint::knows_sequences;
use crate::progress::Progress;
use input::{Input, Next};
use legacy::Legacy;
use measurement::{Defaults, Measurement, Wire, accept, parse_kind};
use native::{Native, NativeError};

/// Bad lines that are shown one by one; further ones are only counted.
const BAD_SHOWN_MAX: u64 = 20;

/// Publishes measurements and returns when the broker has forwarded them.
///
/// It subscribes at the broker's other port and waits until what it sent comes back there: exit
/// code 0 is proof that the broker forwarded it. The proof subscribes to the level as a worker does,
/// which switches an on-demand level on in other publishers for some seconds. If no worker subscribes to a level,
/// so that nothing is stored, a line on standard error says so; the exit code stays 0.
///
/// Without KIND, NAME and VALUE it reads lines from standard input, each one
///
///     KIND NAME VALUE [LEVEL] [SOURCE]
///
/// or a JSON object with kind, name and value, and if wanted level, source, unit and tags. What a line does
/// not say is taken from the flags. Blank lines and those that start with # are skipped. A bad line is
/// reported with its number and skipped, the others are sent. Lines are sent as cumulative state: counters
/// add up, of a gauge the last value of a window counts, timers keep their distribution. At most 100000
/// series and 1000 levels in one run; a line of at most 65536 bytes. Ctrl-C ends the input.
///
/// Exit codes: 0 everything came back, 1 something did not, a line was bad, or there is no broker,
/// 2 bad usage.
#[derive(Clone, Debug, Args)]
pub(crate) struct SendArgs {
    /// counter, gauge or timer.
    #[arg(value_parser = parse_kind)]
    kind: Option<Kind>,

    /// Name of the metric: 1 to 255 of A-Z a-z 0-9 . : _ -
    #[arg(value_parser = text_of(Field::Name))]
    name: Option<String>,

    /// Of a counter its increment, a whole number from 0. Of a gauge any number. Of a timer a duration
    /// such as 1.5ms, with ns, us, ms, s, min, h or d; seconds without a unit.
    #[arg(allow_hyphen_values = true)]
    value: Option<String>,

    /// Level, 1 to 32 bytes.
    #[arg(long, value_name = "LEVEL", env = "ZIBRATO_LEVEL", default_value = "info", value_parser = parse_level)]
    level: String,

    /// Who measured: 1 to 255 of A-Z a-z 0-9 . : _ -
    #[arg(long, value_name = "SOURCE", env = "ZIBRATO_SOURCE", default_value = SOURCE_DEFAULT, value_parser = text_of(Field::Source))]
    source: String,

    /// A tag. Can be given up to 8 times: keys of 1 to 64 of the characters of names, values of 1 to
    /// 255 bytes. Of two with the same key the last counts.
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = parse_tag)]
    tags: Vec<(String, String)>,

    /// Unit, at most 32 bytes. Default: none.
    #[arg(long, value_name = "UNIT", value_parser = text_of(Field::Unit))]
    unit: Option<String>,

    /// Send text messages as the original of 2013 does, one for each measurement. Text has no tags and no
    /// unit; a counter may then be any number. A message of exactly the same text from somebody else in
    /// the same second would count as proof.
    #[arg(long)]
    legacy: bool,

    #[command(flatten)]
    broker: BrokerArgs,

    #[command(flatten)]
    wait: WaitArgs,
}

/// What to send: one measurement, or the lines of standard input.
#[derive(Clone, Debug)]
struct Plan {
    one: Option<Measurement>,
    defaults: Defaults,
    broker: BrokerArgs,
    timeout: Duration,
}

/// Sends and waits for the proof.
///
/// # Errors
/// A usage failure for what can never be sent, else a plain one.
pub(crate) async fn run(args: SendArgs, shutdown: Shutdown) -> Result<(), Failure> {
    let plan = args.resolve().map_err(Failure::usage)?;
    spawn_blocking(move || plan.send(&shutdown)).await??;
    Ok(())
}

impl SendArgs {
    fn resolve(self) -> Result<Plan, Error> {
        let defaults = Defaults {
            level: self.level,
            source: self.source,
            unit: self.unit.unwrap_or_default(),
            tags: BTreeMap::from_iter(self.tags),
            wire: if self.legacy { Wire::Legacy } else { Wire::State },
        };
        let one = match (self.kind, self.name, self.value) {
            (Some(kind), Some(name), Some(value)) => {
                Some(Measurement::new(kind, &name, &value, &defaults).map_err(Error::Usage)?)
            }
            (None, ..) => None,
            _ => return Err(Error::Incomplete),
        };
        Ok(Plan { one, defaults, broker: self.broker, timeout: self.wait.timeout() })
    }
}

impl Plan {
    fn send(&self, shutdown: &Shutdown) -> Result<(), Error> {
        let begun = Instant::now();
        let mut progress = Progress::spinner("sending");
        let mut outlet = Outlet::open(self, shutdown)?;
        let account = match &self.one {
            Some(measurement) => {
                outlet.send(measurement)??;
                Account { sent: 1, bad: 0 }
            }
            None if std::io::stdin().is_terminal() => {
                // A spinner would stand in what is typed.
                progress = Progress::silent();
                progress.say("reading lines of KIND NAME VALUE [LEVEL] [SOURCE]; Ctrl-D ends them");
                let account = self.send_lines(&mut outlet, &progress, shutdown)?;
                progress = Progress::spinner("sending");
                account
            }
            None => self.send_lines(&mut outlet, &progress, shutdown)?,
        };
        let unheard = if account.sent > 0 { outlet.finish(self.timeout, shutdown)? } else { Vec::new() };
        if self.one.is_none() || knows_sequences(&std::io::stderr()) {
            let sent = plural(account.sent as usize, "measurement");
            progress.say(format_args!("{sent} sent and seen back in {:.3} s", begun.elapsed().as_secs_f64()));
        }
        if !unheard.is_empty() {
            let levels = some_of(&unheard);
            progress.say(format_args!(
                "no worker subscribes to {levels}: what was sent there is forwarded and not stored (see --levels of the worker)"
            ));
        }
        match account.bad {
            0 => Ok(()),
            bad => Err(Error::BadLines { bad }),
        }
    }

    fn send_lines(
        &self,
        outlet: &mut Outlet,
        progress: &Progress,
        shutdown: &Shutdown,
    ) -> Result<Account, Error> {
        let input = Input::stdin().map_err(Error::Thread)?;
        let mut account = Account { sent: 0, bad: 0 };
        while !shutdown.is_requested() {
            let line = match input.next(POLL) {
                Next::Line(line) => line,
                Next::Nothing => {
                    outlet.idle()?;
                    progress.at(account.sent, || plural(account.sent as usize, "measurement"));
                    continue;
                }
                Next::End => break,
            };
            let result = match line.text.and_then(|text| Measurement::parse(&text, &self.defaults)) {
                Ok(None) => continue,
                Ok(Some(measurement)) => outlet.send(&measurement)?,
                Err(reason) => Err(BadLine(reason)),
            };
            match result {
                Ok(()) => account.sent += 1,
                Err(BadLine(reason)) => {
                    account.bad += 1;
                    if account.bad <= BAD_SHOWN_MAX {
                        progress.say(format_args!("line {}: {}", line.number, clean(&reason)));
                    } else if account.bad == BAD_SHOWN_MAX + 1 {
                        progress.say("further bad lines are only counted");
                    }
                }
            }
            progress.at(account.sent, || plural(account.sent as usize, "measurement"));
        }
        Ok(account)
    }
}

/// Lines sent and lines that were not.
struct Account {
    sent: u64,
    bad: u64,
}

/// Why one measurement cannot be sent, though others can.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct BadLine(String);

/// The way that measurements go.
enum Outlet {
    Native(Box<Native>),
    Legacy(Box<Legacy>),
}

impl Outlet {
    fn open(plan: &Plan, shutdown: &Shutdown) -> Result<Self, Error> {
        Ok(match plan.defaults.wire {
            Wire::State => {
                let source = &plan.defaults.source;
                Self::Native(Box::new(Native::open(&plan.broker, source, plan.timeout, shutdown)?))
            }
            Wire::Legacy => Self::Legacy(Box::new(Legacy::open(&plan.broker, plan.timeout, shutdown)?)),
        })
    }

    fn send(&mut self, measurement: &Measurement) -> Result<Result<(), BadLine>, Error> {
        match self {
            Self::Native(native) => Ok(native.record(measurement).map_err(BadLine)),
            Self::Legacy(legacy) => Ok(Ok(legacy.publish(measurement)?)),
        }
    }

    /// Looks after sockets that need it while no line comes.
    fn idle(&mut self) -> Result<(), Error> {
        match self {
            Self::Native(_) => Ok(()),
            Self::Legacy(legacy) => Ok(legacy.idle()?),
        }
    }

    /// Waits for the proof; the levels that nobody subscribes to.
    fn finish(self, timeout: Duration, shutdown: &Shutdown) -> Result<Vec<String>, Error> {
        Ok(match self {
            Self::Native(native) => native.finish(timeout, shutdown)?,
            Self::Legacy(legacy) => legacy.finish()?,
        })
    }
}

/// Why something was not sent.
#[derive(Debug, thiserror::Error)]
enum Error {
    /// The measurement can never be sent.
    #[error("{0}")]
    Usage(String),
    /// Not all of the three were given.
    #[error(
        "a measurement is KIND NAME VALUE; give all three, or none to read lines of them from standard input"
    )]
    Incomplete,
    /// Native measurements did not come back.
    #[error(transparent)]
    Native(#[from] NativeError),
    /// Legacy messages did not come back.
    #[error(transparent)]
    Legacy(#[from] CourierError),
    /// The measurement is refused.
    #[error(transparent)]
    Refused(#[from] BadLine),
    /// The system gives no more threads.
    #[error("cannot start a thread to read standard input")]
    Thread(#[source] std::io::Error),
    /// Some lines were bad.
    #[error("{} not sent, as said above", plural(*bad as usize, "bad line"))]
    BadLines { bad: u64 },
}

/// A value parser for a text of a field.
fn text_of(field: Field) -> impl Fn(&str) -> Result<String, String> + Clone + Send + Sync + 'static {
    move |text| accept(field, text).map(|()| text.to_owned())
}

fn parse_tag(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("accepted is KEY=VALUE")?;
    accept(Field::TagKey, key)?;
    accept(Field::TagValue, value)?;
    Ok((key.to_owned(), value.to_owned()))
}
