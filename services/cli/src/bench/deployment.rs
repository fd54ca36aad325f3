//! What a program publishes to: a real broker and a real worker on loopback, in this process so that what
//! their threads cost can be told apart. Behind the worker stands a store that only adds up.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;
use zibrato_service::{Shutdown, StatusEndpoint};
use zibrato_worker::backend::{
    Answer, Backend, Batch, Body, Content, Encoded, Limits, Pending, Response, Verdict,
};
use zibrato_worker::backends::librato::AGE_MAX;
use zibrato_worker::clock::WallClock;
use zibrato_worker::worker::{self, LaneConfig, Source};

use super::Error;

/// The default interval of the workers.
const FLUSH: Duration = Duration::from_secs(60);
/// No status is served.
const NO_STATUS: StatusEndpoint = StatusEndpoint { addr: None, explicit: false };

/// Broker and worker while they run.
pub(super) struct Deployment {
    /// Where to publish to.
    pub(super) endpoint: String,
    broker: zibrato_broker::Running,
    broker_stop: Shutdown,
    worker: worker::Running,
    worker_stop: Shutdown,
    context: zmq::Context,
    runtime: Handle,
    _spool: Scratch,
}

/// What both say of themselves after their end.
#[derive(Clone, Debug)]
pub(super) struct Accounts {
    pub(super) broker: zibrato_broker::Totals,
    pub(super) worker: zibrato_worker::totals::Totals,
}

impl Deployment {
    /// Starts both on free ports; the worker subscribes to `level`.
    pub(super) fn start(runtime: &Handle, level: &str) -> Result<Self, Error> {
        let spool = Scratch::new()?;
        let (broker_stop, worker_stop) = (Shutdown::new(), Shutdown::new());
        let settings =
            zibrato_broker::Config { port: 0, http: NO_STATUS, ..zibrato_broker::Config::default() };
        let broker = zibrato_broker::start(settings, None, broker_stop.clone())?;
        let config = worker::Config {
            source: Source {
                endpoints: vec![broker.out_endpoint().to_owned()],
                levels: vec![level.to_owned()],
                clock: WallClock::system(),
            },
            status: NO_STATUS,
            lane: LaneConfig::new(FLUSH, spool.0.clone()),
        };
        let context = zmq::Context::new();
        let worker =
            runtime.block_on(worker::start(config, Arc::new(AddsUp), &context, worker_stop.clone()))?;
        let endpoint = broker.in_endpoint().to_owned();
        let runtime = runtime.clone();
        Ok(Self { endpoint, broker, broker_stop, worker, worker_stop, context, runtime, _spool: spool })
    }

    /// Messages that the worker took in so far.
    pub(super) fn received(&self) -> u64 {
        self.worker.totals().received
    }

    /// Ends the broker, which forwards what it has, then the worker, which takes it and flushes.
    pub(super) fn end(self) -> Result<Accounts, Error> {
        self.broker_stop.request();
        let broker = self.broker.join();
        self.worker_stop.request();
        let worker = self.runtime.block_on(self.worker.join());
        // What lingers in this context is for a broker that has ended; nobody has to wait for it.
        let context = self.context;
        drop(thread::spawn(move || drop(context)));
        let worker = worker?;
        Ok(Accounts { broker, worker })
    }
}

/// A directory for the spool, which is gone afterwards.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, Error> {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).map_err(|error| Error::Scratch(io::Error::other(error)))?;
        let path = std::env::temp_dir().join(format!("zibrato-bench-{:016x}", u64::from_le_bytes(bytes)));
        fs::create_dir(&path).map_err(Error::Scratch)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is a few megabytes in the directory for such things.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A store that takes everything and keeps nothing. What it was given the worker's totals say.
struct AddsUp;

impl Backend for AddsUp {
    fn name(&self) -> &'static str {
        "bench"
    }

    fn target(&self) -> String {
        "nowhere".to_owned()
    }

    fn limits(&self) -> Limits {
        Limits {
            points_max: usize::MAX,
            body_bytes_max: usize::MAX,
            age_max: AGE_MAX,
            points_per_series_max: usize::MAX,
        }
    }

    fn encode(&self, content: &Content<'_>) -> Encoded {
        let points: Vec<_> =
            content.measurements.iter().map(|measurement| measurement.value.units()).collect();
        let body = Body { bytes: vec![0], content_type: "application/octet-stream".to_owned(), points };
        let bodies = if body.points.is_empty() { Vec::new() } else { vec![body] };
        Encoded { bodies, ..Encoded::default() }
    }

    fn send<'a>(&'a self, _batch: &'a Batch) -> Pending<'a, Answer> {
        Box::pin(async { Answer::Response(Response { status: 200, ..Response::default() }) })
    }

    fn classify(&self, _response: &Response, _batch: &Batch, _now_ms: u64) -> Verdict {
        Verdict::Delivered { odd: false }
    }

    fn select(&self, bytes: &[u8], _keep: &[bool]) -> Option<Vec<u8>> {
        Some(bytes.to_vec())
    }

    fn describe(&self, _bytes: &[u8], _point: usize) -> Option<String> {
        None
    }
}
