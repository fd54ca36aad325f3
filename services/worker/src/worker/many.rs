//! A worker with several backends, and its change while it runs.
//!
//! A reload compares what is asked for with what runs, lane by lane: what is the same keeps its queue and its state; what
//! is gone makes its last flush and keeps what is spooled; what is new or different begins with the spool of its name.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use zibrato_service::{Health, Report, Shutdown, StatusEndpoint, StatusError, WorkerReport, serve_status};

use super::lane::{Lane, LaneConfig, Ready, Seen};
use super::{Error, Source, subscribe, tell_start};
use crate::backend::Backend;
use crate::subscription::{Incoming, Subscription};

/// How often it is looked whether a lane ended by itself.
const LOOK: Duration = Duration::from_millis(200);

/// The settings of a worker with several backends.
#[derive(Clone, Debug)]
pub struct ManyConfig {
    /// Where metrics come from.
    pub source: Source,
    /// Where `/healthz`, `/metrics` and `/status` are served.
    pub status: StatusEndpoint,
    /// The lanes, each of another name, at least one.
    pub lanes: Vec<LaneSpec>,
}

/// What is asked for of a lane.
#[derive(Clone)]
pub struct LaneSpec {
    /// Tells it from others, in logs, in metrics and by the name of its spool.
    pub name: String,
    /// All its settings as text: two lanes with the same text are the same.
    pub settings: Vec<String>,
    /// How series become batches.
    pub lane: LaneConfig,
    /// Where they go.
    pub backend: Arc<dyn Backend>,
}

impl std::fmt::Debug for LaneSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The settings may hold a token.
        f.debug_struct("LaneSpec").field("name", &self.name).field("lane", &self.lane).finish_non_exhaustive()
    }
}

/// The pages of `/metrics` of several lanes as one: each family once, with the samples of all.
fn merge_pages(pages: impl Iterator<Item = String>) -> String {
    // Names in the order in which they first appear, with what is said of them and their samples.
    let (mut order, mut families) = (Vec::new(), HashMap::new());
    for page in pages {
        let mut name = String::new();
        for line in page.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                name = rest.split(' ').next().unwrap_or_default().to_owned();
            }
            let (head, samples): &mut (Vec<String>, Vec<String>) =
                families.entry(name.clone()).or_insert_with(|| {
                    order.push(name.clone());
                    Default::default()
                });
            if !line.starts_with('#') {
                samples.push(line.to_owned());
            } else if !head.iter().any(|known| known == line) {
                head.push(line.to_owned());
            }
        }
    }
    let mut text = String::new();
    for (head, samples) in order.iter().filter_map(|name| families.get(name)) {
        for line in head.iter().chain(samples) {
            text += line;
            text.push('\n');
        }
    }
    text
}

/// The lanes that run, as the status shows them.
type SeenLanes = Arc<Mutex<Vec<Seen>>>;

/// A lane and how to end it alone.
struct Entry {
    settings: Vec<String>,
    shutdown: Shutdown,
    lane: Lane,
}

/// What runs.
struct Many {
    source: Source,
    entries: BTreeMap<String, Entry>,
    seen: SeenLanes,
    subscription: Arc<Subscription>,
}

/// Runs a worker with several backends until the shutdown is requested. At each SIGHUP `reload` is asked for new
/// settings; an error of it changes nothing and is told.
///
/// # Errors
///
/// As [`super::start`] and [`super::Running::join`]; the first lane's that did not end in order.
pub async fn run_many(
    config: ManyConfig,
    reload: impl Fn() -> Result<ManyConfig, String>,
    shutdown: Shutdown,
) -> Result<(), Error> {
    let mut hangups = signal(SignalKind::hangup()).map_err(Error::Thread)?;
    let ManyConfig { source, status, lanes } = config;
    let (mut ready, mut ends) = (Vec::new(), Vec::new());
    for spec in lanes {
        let (sender, incoming) = Ready::channel();
        ends.push((spec.name.clone(), sender));
        ready.push((open(&spec, &source).await?, spec, incoming));
    }
    let seen: SeenLanes = Arc::new(Mutex::new(ready.iter().map(|(ready, ..)| ready.seen()).collect()));
    let status = serve(status, &seen, &shutdown).await?;
    tell_start(&source, status, &lock(&seen).iter().collect::<Vec<_>>());
    let subscription = subscribe(&zmq::Context::new(), &source, ends, &shutdown)?;
    let mut many = Many { source, entries: BTreeMap::new(), seen: Arc::clone(&seen), subscription };
    let started: Vec<_> = lock(&seen).clone();
    for ((ready, spec, incoming), seen) in ready.into_iter().zip(started) {
        many.start(ready, &spec, seen, incoming, &shutdown)?;
    }
    loop {
        tokio::select! {
            () = shutdown.requested() => break,
            name = many.one_ended() => {
                // A backend whose reader is gone for good asks for the end of its lane; a lane that ended otherwise is broken.
                if !many.end_if_asked(&name).await || many.entries.is_empty() {
                    break;
                }
            }
            _ = hangups.recv() => match reload() {
                Ok(config) => many.change(config, &shutdown).await,
                Err(error) => tracing::error!(error, "the new settings are not accepted; nothing was changed"),
            },
        }
    }
    many.finish().await
}

impl Many {
    /// Brings what runs to what is asked for.
    async fn change(&mut self, config: ManyConfig, shutdown: &Shutdown) {
        if config.source.endpoints != self.source.endpoints || config.source.levels != self.source.levels {
            tracing::error!(
                "endpoints and levels are read at the start alone; restart the worker; nothing was changed"
            );
            return;
        }
        let (mut kept, mut ended, mut begun) = (Vec::new(), Vec::new(), Vec::new());
        let asked: BTreeMap<String, LaneSpec> =
            config.lanes.into_iter().map(|spec| (spec.name.clone(), spec)).collect();
        let is_same =
            |entry: &Entry, name: &str| asked.get(name).is_some_and(|spec| spec.settings == entry.settings);
        let gone: Vec<String> = self
            .entries
            .iter()
            .filter(|(name, entry)| !is_same(entry, name))
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            let Some(entry) = self.entries.remove(&name) else { continue };
            // A lane that begins anew needs the spool of the old one.
            self.end(&name, entry).await;
            ended.push(name);
        }
        for (name, spec) in asked {
            if self.entries.contains_key(&name) {
                kept.push(name);
                continue;
            }
            match self.begin(&spec, shutdown).await {
                Ok(()) => begun.push(name),
                Err(error) => tracing::error!(lane = name, %error, "a lane cannot begin; the others go on"),
            }
        }
        *lock(&self.seen) = self.entries.values().map(|entry| entry.lane.seen().clone()).collect();
        let (kept, ended, begun) = (kept.join(","), ended.join(","), begun.join(","));
        tracing::info!(kept, ended, begun, "the new settings are in force");
    }

    async fn begin(&mut self, spec: &LaneSpec, shutdown: &Shutdown) -> Result<(), Error> {
        let ready = open(spec, &self.source).await?;
        let seen = ready.seen();
        let (sender, incoming) = Ready::channel();
        self.start(ready, spec, seen, incoming, shutdown)?;
        self.subscription.add_lane((spec.name.clone(), sender));
        Ok(())
    }

    fn start(
        &mut self,
        ready: Ready,
        spec: &LaneSpec,
        seen: Seen,
        incoming: Receiver<Arc<Incoming>>,
        shutdown: &Shutdown,
    ) -> Result<(), Error> {
        let stop = child(shutdown);
        let lane = ready.start(seen, incoming, Arc::clone(&self.subscription), stop.clone())?;
        let entry = Entry { settings: spec.settings.clone(), shutdown: stop, lane };
        self.entries.insert(spec.name.clone(), entry);
        Ok(())
    }

    /// Waits until a lane has ended or asks for its end; its name.
    async fn one_ended(&self) -> String {
        loop {
            let is_over = |entry: &Entry| entry.lane.is_finished() || entry.shutdown.is_requested();
            if let Some((name, _)) = self.entries.iter().find(|(_, entry)| is_over(entry)) {
                return name.clone();
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Ends a lane that asked for it; false if it did not.
    async fn end_if_asked(&mut self, name: &str) -> bool {
        let Some(entry) = self.entries.remove(name) else { return true };
        if !entry.shutdown.is_requested() {
            self.entries.insert(name.to_owned(), entry);
            return false;
        }
        self.end(name, entry).await;
        true
    }

    /// Ends one lane and lets the others go on.
    async fn end(&mut self, name: &str, entry: Entry) {
        let Entry { shutdown, lane, .. } = entry;
        if !shutdown.is_requested() {
            shutdown.request();
        }
        self.subscription.close_lane(name);
        if let Err(error) = lane.join().await {
            tracing::error!(lane = name, %error, "a lane did not end in order");
        }
        *lock(&self.seen) = self.entries.values().map(|entry| entry.lane.seen().clone()).collect();
    }

    /// Waits for all lanes, which the shutdown ends; if one ended by itself the others end as well.
    async fn finish(self) -> Result<(), Error> {
        self.subscription.request_stop();
        let mut result = Ok(());
        for entry in self.entries.into_values() {
            if !entry.shutdown.is_requested() {
                entry.shutdown.request();
            }
            result = result.and(entry.lane.join().await.map(drop));
        }
        result
    }
}

async fn open(spec: &LaneSpec, source: &Source) -> Result<Ready, Error> {
    Ready::open(spec.name.clone(), spec.lane.clone(), Arc::clone(&spec.backend), source.clone()).await
}

/// A shutdown that follows another one, and can be requested alone.
fn child(parent: &Shutdown) -> Shutdown {
    let (parent, child) = (parent.clone(), Shutdown::new());
    let follower = child.clone();
    tokio::spawn(async move {
        parent.requested().await;
        if !follower.is_requested() {
            follower.request();
        }
        parent.immediate().await;
        follower.request();
    });
    child
}

async fn serve(
    endpoint: StatusEndpoint,
    seen: &SeenLanes,
    shutdown: &Shutdown,
) -> Result<Option<SocketAddr>, StatusError> {
    let (for_health, for_page, for_report) = (Arc::clone(seen), Arc::clone(seen), Arc::clone(seen));
    serve_status(
        endpoint,
        move || health(&lock(&for_health)),
        move || merge_pages(lock(&for_page).iter().map(Seen::page)),
        move || Report::Worker(report(&lock(&for_report))),
        shutdown.clone(),
    )
    .await
}

/// Degraded if a lane is, with its name.
fn health(lanes: &[Seen]) -> Health {
    let reasons: Vec<_> = lanes
        .iter()
        .filter_map(|seen| match seen.health() {
            Health::Ok => None,
            Health::Degraded(reason) => Some(format!("{}: {reason}", seen.name())),
        })
        .collect();
    if reasons.is_empty() { Health::Ok } else { Health::Degraded(reasons.join("; ")) }
}

/// One report of all lanes: what they share once, accounts and losses of each under its name.
fn report(lanes: &[Seen]) -> WorkerReport {
    let mut lanes = lanes.iter().map(|seen| (seen.name(), seen.report()));
    let Some((name, mut all)) = lanes.next() else { return WorkerReport::default() };
    let named = |name: &str, report: &mut WorkerReport| {
        for account in &mut report.accounts {
            account.stage = format!("{} {name}", account.stage);
        }
        report.backend_error = report.backend_error.take().map(|error| format!("{name}: {error}"));
    };
    named(name, &mut all);
    for (name, mut report) in lanes {
        named(name, &mut report);
        all.backend = format!("{},{name}", all.backend);
        all.target = format!("{},{}", all.target, report.target);
        all.accounts.append(&mut report.accounts);
        for (reason, count) in report
            .lost
            .into_iter()
            .chain(report.refused.into_iter().map(|(reason, count)| (format!("refused_{reason}"), count)))
        {
            *all.lost.entry(reason).or_default() += count;
        }
        all.process.degraded = all.process.degraded.or(report.process.degraded);
        all.backend_error = all.backend_error.or(report.backend_error);
        // The slowest of them.
        all.flushed_ms = all.flushed_ms.max(report.flushed_ms);
        all.delivered_ms = all.delivered_ms.max(report.delivered_ms);
        all.spool.batches += report.spool.batches;
        all.spool.bytes += report.spool.bytes;
        all.spool.bytes_max += report.spool.bytes_max;
        all.spool.oldest_ms = all.spool.oldest_ms.max(report.spool.oldest_ms);
    }
    all
}

fn lock(seen: &SeenLanes) -> MutexGuard<'_, Vec<Seen>> {
    // It is replaced whole.
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
