//! From the hot loop to the ledger: how much gets through, that all of it does, and what it takes.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::runtime::Handle;
use zibrato_service::Shutdown;
use zibrato_std::{Client, Level, LossReason, Stats};

use super::deployment::{Accounts, Deployment};
use super::load::{Load, Metrics, Recorded};
use super::threads::{Cpu, Usage, memory_bytes};
use super::{Error, Plan};
use crate::demo::random::Random;
use crate::human;
use crate::progress::Progress;

/// How long the worker's subscription may take to reach the client.
const SUBSCRIBED_MAX: Duration = Duration::from_secs(10);
/// How long the client may take to have its last frames acknowledged: 100 000 series are 5 MB.
const SHUTDOWN_MAX: Duration = Duration::from_secs(30);
/// What is told apart from the rest: everything is done for the first time in it.
const FIRST: Duration = Duration::from_secs(1);
/// How long the client is watched at rest before.
const REST: Duration = Duration::from_secs(1);
/// Pause between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(50);

/// What came of a run.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Outcome {
    /// How long was recorded, in seconds.
    pub(super) took_s: f64,
    /// What was asked for, in records a second; `None` for as many as the threads can.
    pub(super) rate_asked: Option<f64>,
    pub(super) threads: u32,
    pub(super) timers: u32,
    pub(super) timer_records: u64,
    pub(super) timer_records_per_s: f64,
    pub(super) first_second: Part,
    pub(super) later: Part,
    pub(super) counters: u32,
    pub(super) counter_sum: u64,
    /// How often each counter was changed in a window.
    pub(super) counter_changes_per_window: f64,
    pub(super) window_s: f64,
    /// Whether ledger and store got exactly what was recorded.
    pub(super) exact: bool,
    /// Timer records and sum of counters in the ledger.
    pub(super) ledger_timer_records: u128,
    pub(super) ledger_counter_sum: u128,
    /// The same in the store behind it.
    pub(super) store_timer_records: u64,
    pub(super) store_counter_sum: f64,
    /// Frames and bytes given to the socket.
    pub(super) frames: u64,
    pub(super) bytes: u64,
    /// Messages that the worker took in.
    pub(super) received: u64,
    /// What the client's drain thread takes of one core when nothing is recorded.
    pub(super) idle_share: Option<f64>,
    /// Processor time of the parts; `None` where the system does not say.
    pub(super) cpu: Option<Cpu>,
    /// Records that went through rings, per second of processor time of the drain thread.
    pub(super) drained_per_cpu_s: Option<f64>,
    /// Memory of the process, client, broker, worker and ledger together, before the end.
    pub(super) memory_bytes: Option<u64>,
}

/// A part of the run.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(super) struct Part {
    pub(super) timer_records: u64,
    /// Those of them that found their ring full and went into spill cells: exact in count and sum.
    pub(super) spilled: u64,
}

impl Part {
    /// The spilled ones as a share of all; `None` of nothing.
    pub(super) fn spilled_share(self) -> Option<f64> {
        (self.timer_records > 0).then(|| self.spilled as f64 / self.timer_records as f64)
    }
}

/// Runs the plan.
pub(super) fn run(plan: &Plan, runtime: &Handle, shutdown: &Shutdown) -> Result<Outcome, Error> {
    let deployment = Deployment::start(runtime, Level::INFO.label())?;
    let client = Client::builder()
        .endpoint(&deployment.endpoint)
        .source("bench")
        .window(plan.window)
        .series_max(plan.series())
        .build()?;
    let ran = record(plan, &client, &deployment, shutdown);
    // Everything is ended before an error is returned.
    let stats = client.shutdown(SHUTDOWN_MAX);
    let accounts = deployment.end();
    let (ran, stats) = (ran?, stats.ok_or(Error::NoStats)?);
    Ok(ran.outcome(plan, &stats, &accounts?))
}

/// What was seen while it ran.
struct Ran {
    took: Duration,
    recorded: Recorded,
    first: Part,
    idle_share: Option<f64>,
    cpu: Option<Cpu>,
    memory_bytes: Option<u64>,
}

fn record(plan: &Plan, client: &Client, deployment: &Deployment, shutdown: &Shutdown) -> Result<Ran, Error> {
    if !client.wait_subscribed(Level::INFO, SUBSCRIBED_MAX) {
        return Err(Error::NoSubscription);
    }
    let idle_share = idle_share(shutdown);
    let metrics = Metrics::new(plan.timers, plan.counters, &mut Random::new(1));
    let progress = Progress::bar("hot loop to ledger", plan.duration.as_millis() as u64);
    let (usage, began) = (Usage::now(), Instant::now());
    let load = Load::start(plan, &metrics).map_err(Error::Thread)?;
    let mut first = None;
    while began.elapsed() < plan.duration && !shutdown.is_requested() {
        let next = if first.is_none() { FIRST } else { plan.duration };
        sleep(next.saturating_sub(began.elapsed()).min(LOOK));
        if first.is_none() && began.elapsed() >= FIRST {
            let stats = client.stats().ok_or(Error::NoStats);
            first = Some(
                stats.map(|stats| Part { timer_records: load.timer_records(), spilled: spilled(&stats) }),
            );
        }
        progress.at(began.elapsed().as_millis() as u64, || {
            let records = human::short(load.timer_records().into());
            format!("{records} timer records, {} frames received", deployment.received())
        });
    }
    let cpu = usage.and_then(|usage| Some(Usage::now()?.since(&usage)));
    let memory_bytes = memory_bytes();
    let (recorded, took) = (load.stop(), began.elapsed());
    if shutdown.is_requested() {
        return Err(Error::Stopped);
    }
    let first = first.unwrap_or(Err(Error::NoStats))?;
    Ok(Ran { took, recorded, first, idle_share, cpu, memory_bytes })
}

/// The drain thread's share of a core while nobody records.
fn idle_share(shutdown: &Shutdown) -> Option<f64> {
    let (before, began) = (Usage::now()?, Instant::now());
    while began.elapsed() < REST && !shutdown.is_requested() {
        sleep(LOOK);
    }
    Some(Usage::now()?.since(&before).drain_s / began.elapsed().as_secs_f64())
}

fn spilled(stats: &Stats) -> u64 {
    stats.losses.count(LossReason::Spilled)
}

impl Ran {
    fn outcome(self, plan: &Plan, stats: &Stats, accounts: &Accounts) -> Outcome {
        let Self { took, recorded, first, idle_share, cpu, memory_bytes } = self;
        let took_s = took.as_secs_f64();
        let (ledger, store) = (accounts.worker.ledger.flushed, accounts.worker.delivered);
        let drained = recorded.timers.saturating_sub(spilled(stats));
        let windows = took_s / plan.window.as_secs_f64();
        let changes = recorded.counters as f64 / f64::from(plan.counters.max(1));
        Outcome {
            took_s,
            rate_asked: plan.rate,
            threads: plan.threads,
            timers: plan.timers,
            timer_records: recorded.timers,
            timer_records_per_s: recorded.timers as f64 / took_s,
            first_second: first,
            later: Part {
                timer_records: recorded.timers.saturating_sub(first.timer_records),
                spilled: spilled(stats).saturating_sub(first.spilled),
            },
            counters: plan.counters,
            counter_sum: recorded.counters,
            counter_changes_per_window: changes / windows,
            window_s: plan.window.as_secs_f64(),
            exact: stats.law_holds()
                && accounts.broker.adds_up()
                && accounts.worker.law_holds()
                && (ledger.timers, ledger.counters)
                    == (u128::from(recorded.timers), u128::from(recorded.counters))
                && store.timer_records == recorded.timers
                && store.counter_sum == recorded.counters as f64,
            ledger_timer_records: ledger.timers,
            ledger_counter_sum: ledger.counters,
            store_timer_records: store.timer_records,
            store_counter_sum: store.counter_sum,
            frames: stats.messages_sent,
            bytes: stats.bytes_sent,
            received: accounts.worker.received,
            idle_share,
            cpu,
            drained_per_cpu_s: cpu.filter(|cpu| cpu.drain_s > 0.0).map(|cpu| drained as f64 / cpu.drain_s),
            memory_bytes,
        }
    }
}
