//! `zibrato doctor`: looks at everything between publishers and the store, and says what is wrong and
//! what to do.
//!
//! ```text
//! ports, a probe through the broker, /status of each service -> facts -> checks -> findings -> print
//! ```

mod broker;
mod facts;
mod finding;
mod gateway;
mod listeners;
mod local;
mod print;
mod probe;
mod service;
mod worker;
mod zmtp;

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use zibrato_service::{Failure, init_logging, run_service};
use zibrato_worker::secret::Secret;

use crate::broker_args::{BrokerArgs, StatusAddr, parse_status};
use crate::paint::{Paint, PrintError};
use crate::progress::Progress;
use crate::token_args::{TokenArgs, TokenError};
use facts::Facts;
use finding::{Findings, State};

/// Looks at broker, workers and zibrato-local, and says what is wrong and what to do about it.
///
/// It looks at both ports of the broker, sends a message of its own through it at the level
/// zibrato.doctor, which no worker sees, and asks each service for its /status. Each line is ok, warn
/// or FAIL, always in the same order; what is wrong has a line with what to do. It changes nothing and
/// takes 10 s at most. In a pipe its exit code stays what was found, also if the reader goes away; a shell tells it
/// with `set -o pipefail`.
///
/// With --json one object is printed: `version`, `unix_ms`, `took_ms`, `ok` (no FAIL), `failed`,
/// `warnings`, and `findings`, a list of objects with `about` (gateway IP:PORT, broker, worker IP:PORT, local), `check`,
/// `state` (ok, warn, fail), `text`, and `advice` or null.
///
/// Exit codes: 0 if nothing failed, even if there are warnings, 1 if something did, and after Ctrl-C, 2 on
/// bad usage.
#[derive(Clone, Debug, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    broker: BrokerArgs,

    /// Status address of the broker, as IP:PORT, or `none` if it has none. Default: 127.0.0.1:5552, where nobody has to
    /// be; an address given here has to answer.
    #[arg(long, env = "ZIBRATO_DOCTOR_BROKER", value_name = "IP:PORT", value_parser = parse_status)]
    broker_status: Option<StatusAddr>,

    /// Status addresses of the workers, as IP:PORT separated by commas, or `none`.
    #[arg(long, env = "ZIBRATO_DOCTOR_WORKER", value_name = "IP:PORT", default_value = "127.0.0.1:5553",
          value_delimiter = ',', value_parser = parse_status)]
    worker: Vec<StatusAddr>,

    /// Status addresses of gateways, as IP:PORT separated by commas. Default: none is asked; one that is given has to
    /// answer.
    #[arg(long, env = "ZIBRATO_DOCTOR_GATEWAY", value_name = "IP:PORT", value_delimiter = ',', value_parser = parse_status)]
    gateway: Vec<StatusAddr>,

    /// Address of zibrato-local, as IP:PORT, or `none`. Default: 127.0.0.1:5580, where nobody has to be unless a worker
    /// posts there; an address given here has to answer.
    #[arg(long, env = "ZIBRATO_DOCTOR_LOCAL", value_name = "IP:PORT", value_parser = parse_status)]
    local: Option<StatusAddr>,

    #[command(flatten)]
    token: TokenArgs,

    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Whom to ask, and whether the user says that somebody is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Target {
    status: StatusAddr,
    is_given: bool,
}

impl Target {
    fn new(given: Option<StatusAddr>, port: u16) -> Self {
        let default = StatusAddr(Some((Ipv4Addr::LOCALHOST, port).into()));
        Self { status: given.unwrap_or(default), is_given: given.is_some() }
    }

    fn addr(self) -> Option<SocketAddr> {
        self.status.0
    }
}

impl DoctorArgs {
    fn broker_status(&self) -> Target {
        Target::new(self.broker_status, 5_552)
    }

    fn local(&self) -> Target {
        Target::new(self.local, 5_580)
    }
}

/// Why it ends with 1.
#[derive(Debug, thiserror::Error)]
enum Error {
    /// Something failed.
    #[error("{failed} of {checks} checks failed; the lines marked FAIL say what to do")]
    Failed { failed: usize, checks: usize },
    /// The result cannot be printed.
    #[error(transparent)]
    Print(#[from] PrintError),
    /// Ctrl-C.
    #[error("stopped before everybody had answered")]
    Stopped,
}

/// Runs the command.
pub(crate) fn main(args: &DoctorArgs) -> ExitCode {
    init_logging("off");
    run_service("zibrato doctor", async |shutdown| {
        let began = Instant::now();
        let token = local_token(args).map_err(Failure::usage)?;
        let progress = Progress::spinner("asking broker, workers and local");
        let facts = tokio::select! {
            facts = Facts::gather(args, token) => facts,
            // Nothing found must not look like nothing wrong.
            () = shutdown.requested() => return Err(Error::Stopped.into()),
        };
        drop(progress);
        let findings = examine(&facts);
        let text = if args.json {
            print::json(&findings, began.elapsed())
        } else {
            print::text(&findings, Paint::stdout())
        };
        crate::paint::print(&text).map_err(Error::from)?;
        match findings.count(State::Fail) {
            0 => Ok(()),
            failed => Err(Error::Failed { failed, checks: findings.list().len() }.into()),
        }
    })
}

/// The token for zibrato-local, if there is one and it is asked.
fn local_token(args: &DoctorArgs) -> Result<Option<Secret>, TokenError> {
    // An address is part of a URL.
    let url = args.local().addr().and_then(|addr| format!("http://{addr}").parse().ok());
    url.map_or(Ok(None), |url| args.token.token(&url))
}

/// What the facts mean, in the order in which measurements flow.
fn examine(facts: &Facts) -> Findings {
    let mut findings = Findings::default();
    gateway::examine(facts, &mut findings);
    broker::examine(facts, &mut findings);
    worker::examine(facts, &mut findings);
    local::examine(facts, &mut findings);
    findings
}
