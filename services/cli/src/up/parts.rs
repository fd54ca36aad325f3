//! The parts: their start, what they count while they run, and their end in order.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};
use zibrato_service::Shutdown;
use zibrato_std::Stats;
use zibrato_worker::backends::librato::{AGE_MAX, Librato, LibratoConfig};
use zibrato_worker::clock::WallClock;
use zibrato_worker::worker::{self, LaneConfig, Source};

use super::board::{Board, Watched};
use super::{Config, Error, FLUSH};
use crate::demo::Demo;

/// How long the demo's client may wait for the acknowledgement of its last frame.
const DEMO_DEADLINE: Duration = Duration::from_secs(2);
/// Names inside of the data directory.
const STORE_FILE: &str = "local.db";
const SPOOL_DIRECTORY: &str = "spool";

/// A part of the process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    Demo,
    Broker,
    Worker,
    Local,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Demo => "demo",
            Self::Broker => "broker",
            Self::Worker => "worker",
            Self::Local => "local",
        })
    }
}

/// One shutdown a part.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stops {
    broker: Shutdown,
    worker: Shutdown,
    local: Shutdown,
}

impl Stops {
    /// Asks all parts to leave out what can be left out.
    pub(crate) fn end_at_once(&self) {
        for stop in [&self.broker, &self.worker, &self.local] {
            // The first request asks for an ordered end only.
            stop.request();
            stop.request();
        }
    }
}

/// The parts while they run.
pub(crate) struct Parts {
    pub(crate) endpoint_in: String,
    pub(crate) endpoint_out: String,
    pub(crate) api: SocketAddr,
    pub(crate) broker_http: Option<SocketAddr>,
    pub(crate) worker_http: Option<SocketAddr>,
    demo: Option<Demo>,
    broker: JoinHandle<zibrato_broker::Totals>,
    broker_status: zibrato_broker::Status,
    worker: worker::Running,
    worker_context: zmq::Context,
    board: Board,
    local: zibrato_local::Running,
}

/// What the parts count at a moment.
pub(crate) struct Snapshot {
    pub(crate) broker: zibrato_broker::Totals,
    pub(crate) worker: zibrato_worker::totals::Totals,
    pub(crate) local: zibrato_local::Totals,
    pub(crate) board: Board,
}

/// What the parts say of themselves after their end.
pub(crate) struct Accounts {
    /// `None` without a demo, or if its client was not waited for.
    pub(crate) demo: Option<Stats>,
    pub(crate) broker: zibrato_broker::Totals,
    pub(crate) worker: zibrato_worker::totals::Totals,
    pub(crate) local: zibrato_local::Totals,
}

impl Parts {
    /// Starts all parts, the last of the flow first, so that each finds the next one there.
    pub(crate) async fn start(config: &Config, stops: &Stops) -> Result<Self, Error> {
        let store = config.data.join(STORE_FILE);
        let local_config = zibrato_local::Config::new(config.listen, store);
        let local = zibrato_local::start(local_config, stops.local.clone()).await?;

        // The broker has a ZeroMQ context of its own: ending that one waits until what was
        // forwarded has left, and only then the worker is asked to end.
        let broker = zibrato_broker::start(config.broker.clone(), None, stops.broker.clone())?;
        let (endpoint_in, endpoint_out) =
            (connectable(broker.in_endpoint()), connectable(broker.out_endpoint()));
        let broker_status = broker.status();
        let broker_http = broker.status().serve(config.broker.http, stops.broker.clone()).await?;

        let board = Board::default();
        let backend = Arc::new(Watched::new(librato(local.addr)?, board.clone()));
        let worker_config = worker_config(config, &endpoint_out);
        let worker_context = zmq::Context::new();
        let worker = worker::start(worker_config, backend, &worker_context, stops.worker.clone()).await?;

        // Only now the addresses are known: a default one that was taken belongs to somebody else.
        for status in [broker_http, worker.status_addr()].into_iter().flatten() {
            local.watch().add(status);
        }

        let demo = if config.demo { Some(Demo::start(&endpoint_in)?) } else { None };
        Ok(Self {
            endpoint_in,
            endpoint_out,
            api: local.addr,
            broker_http,
            worker_http: worker.status_addr(),
            demo,
            broker: spawn_blocking(move || broker.join()),
            broker_status,
            worker,
            worker_context,
            board,
            local,
        })
    }

    /// A part that ended although nobody asked for it.
    pub(crate) fn ended(&self) -> Option<Part> {
        if self.broker.is_finished() {
            return Some(Part::Broker);
        }
        if self.local.handle.is_finished() {
            return Some(Part::Local);
        }
        self.worker.is_finished().then_some(Part::Worker)
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot {
            broker: self.broker_status.totals(),
            worker: self.worker.totals(),
            local: self.local.totals(),
            board: self.board.clone(),
        }
    }

    /// Ends the parts in the order of the flow. A second request of `shutdown` shortens what is left.
    pub(crate) async fn end(self, stops: Stops, shutdown: &Shutdown) -> Result<Accounts, Error> {
        let (second, all) = (shutdown.clone(), stops.clone());
        tokio::spawn(async move {
            second.immediate().await;
            all.end_at_once();
        });
        let demo = match self.demo {
            Some(demo) => {
                let ending = spawn_blocking(move || demo.stop(DEMO_DEADLINE));
                tokio::select! {
                    ended = ending => ended.map_err(|_| Error::Ended { part: Part::Demo })?,
                    () = shutdown.immediate() => None,
                }
            }
            None => None,
        };
        stops.broker.request();
        let broker = self.broker.await;
        // All parts are ended before an error is returned.
        stops.worker.request();
        let worker = self.worker.join().await;
        // What lingers in this context is for a broker that has ended; nobody has to wait for it.
        let context = self.worker_context;
        drop(thread::spawn(move || drop(context)));
        stops.local.request();
        let local = self.local.join().await;
        let broker = broker.map_err(|_| Error::Ended { part: Part::Broker })?;
        Ok(Accounts { demo, broker, worker: worker?, local: local? })
    }
}

fn librato(api: SocketAddr) -> Result<Librato, Error> {
    let url = format!("http://{api}/v1/metrics");
    // An address that was bound is part of a URL.
    let Ok(url) = url.parse() else { return Err(Error::Ended { part: Part::Worker }) };
    Ok(Librato::new(&LibratoConfig { url, credentials: None, age_max: AGE_MAX, raw_timers: false })?)
}

fn worker_config(config: &Config, endpoint: &str) -> worker::Config {
    worker::Config {
        source: Source {
            endpoints: vec![endpoint.to_owned()],
            levels: config.levels.clone(),
            clock: WallClock::system(),
        },
        status: config.worker_http,
        lane: LaneConfig::new(FLUSH, Path::join(&config.data, SPOOL_DIRECTORY)),
    }
}

/// The endpoint to connect to for one that is bound to every interface.
fn connectable(bound: &str) -> String {
    bound.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_on_every_interface_is_connected_to_over_loopback() {
        assert_eq!(connectable("tcp://0.0.0.0:5550"), "tcp://127.0.0.1:5550");
        assert_eq!(connectable("tcp://[::]:5550"), "tcp://[::1]:5550");
        assert_eq!(connectable("tcp://10.0.0.1:5550"), "tcp://10.0.0.1:5550");
    }
}
