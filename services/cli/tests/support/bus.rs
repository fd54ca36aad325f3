//! A broker in this process, on two neighbouring ports as the command's flags expect them, and what
//! else belongs to a deployment.
#![allow(dead_code, reason = "not every test uses every helper")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests may panic like tests")]

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use zibrato_service::{Shutdown, StatusEndpoint};
use zibrato_worker::backends::librato::{AGE_MAX, Librato, LibratoConfig};
use zibrato_worker::clock::WallClock;
use zibrato_worker::worker::{self, LaneConfig, Source};

/// How long anything may take, and the pause between two looks at it.
const DEADLINE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Ports tried before a test gives up.
const TRIES: usize = 100;
/// A status endpoint on any free port.
const ANY: StatusEndpoint = StatusEndpoint {
    addr: Some(SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0)),
    explicit: true,
};

/// A broker, and what was started at it; all of it ends when this is dropped.
pub(crate) struct Bus {
    /// The port for publishers; the workers' is the next.
    pub(crate) port: u16,
    /// Address of the broker's status.
    pub(crate) status: SocketAddr,
    shutdown: Shutdown,
    broker: Option<zibrato_broker::Running>,
    runtime: Runtime,
}

impl Bus {
    /// Starts a broker.
    pub(crate) fn start() -> Self {
        // Somebody may be faster, and then the next pair is tried.
        let started = (0..TRIES).find_map(|_| Self::try_start(Self::free_pair()));
        started.expect("two neighbouring ports that are free")
    }

    /// Starts a broker on the ports of one that has ended.
    pub(crate) fn start_on(port: u16) -> Self {
        Self::try_start(port).expect("the ports were left")
    }

    fn try_start(port: u16) -> Option<Self> {
        let (runtime, shutdown) = (Runtime::new().unwrap(), Shutdown::new());
        let config = zibrato_broker::Config { port, ..zibrato_broker::Config::default() };
        let broker = zibrato_broker::start(config, None, shutdown.clone()).ok()?;
        let status = runtime.block_on(broker.status().serve(ANY, shutdown.clone())).unwrap().unwrap();
        Some(Self { port, status, shutdown, broker: Some(broker), runtime })
    }

    /// Starts a worker that flushes every second to a receiver at `to`; the address of its status.
    pub(crate) fn start_worker(&self, to: SocketAddr, levels: &[&str], spool: &Path) -> SocketAddr {
        let url = format!("http://{to}/v1/metrics").parse().unwrap();
        let backend =
            Librato::new(&LibratoConfig { url, credentials: None, age_max: AGE_MAX, raw_timers: false })
                .unwrap();
        let config = worker::Config {
            source: Source {
                endpoints: vec![format!("tcp://127.0.0.1:{}", self.port + 1)],
                levels: levels.iter().map(|level| (*level).to_owned()).collect(),
                clock: WallClock::system(),
            },
            status: ANY,
            lane: LaneConfig {
                spool_bytes_max: 1 << 20,
                grace: Duration::ZERO,
                ..LaneConfig::new(Duration::from_secs(1), spool.to_owned())
            },
        };
        let context = zmq::Context::new();
        let started = worker::start(config, Arc::new(backend), &context, self.shutdown.clone());
        self.runtime.block_on(started).unwrap().status_addr().unwrap()
    }

    /// Starts zibrato-local; its address.
    pub(crate) fn start_local(&self, database: &Path) -> SocketAddr {
        self.start_local_with(zibrato_local::Config::new("127.0.0.1:0".parse().unwrap(), database))
    }

    /// Starts zibrato-local with these settings; its address.
    pub(crate) fn start_local_with(&self, config: zibrato_local::Config) -> SocketAddr {
        self.runtime.block_on(zibrato_local::start(config, self.shutdown.clone())).unwrap().addr
    }

    /// Waits until the broker keeps a frame of somebody else.
    pub(crate) fn wait_for_a_frame(&self) {
        let status = self.broker.as_ref().unwrap().status();
        let deadline = Instant::now() + DEADLINE;
        while status.totals().received == 0 {
            assert!(Instant::now() < deadline, "no frame reached the broker");
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// The first of two neighbouring ports that are free now.
    pub(crate) fn free_pair() -> u16 {
        for _ in 0..TRIES {
            let first = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = first.local_addr().unwrap().port();
            if port < u16::MAX && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
                return port;
            }
        }
        panic!("no two neighbouring ports are free");
    }

    /// An address at which nobody listens now.
    pub(crate) fn closed() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.shutdown.request();
        self.shutdown.request();
        if let Some(broker) = self.broker.take() {
            let _ = broker.join();
        }
    }
}
