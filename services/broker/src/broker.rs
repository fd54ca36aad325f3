//! The two sockets, and the thread that alone uses them.

mod turn;

use std::net::IpAddr;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};
use std::{io, panic};

use zibrato_core::frame::PublisherId;
use zibrato_service::Shutdown;
use zibrato_std::socket;
use zmq::{Context, Socket};

use crate::config::{Config, ConfigError};
use crate::counts::Totals;
use crate::report::About;
use crate::status::Status;
pub(crate) use turn::Broker;

/// How long the end may take before what is still queued is given up.
pub(crate) const DRAIN_MAX: Duration = Duration::from_secs(2);

/// A broker that runs on a thread of its own.
#[derive(Debug)]
pub struct Running {
    in_endpoint: String,
    out_endpoint: String,
    status: Status,
    thread: JoinHandle<Totals>,
}

impl Running {
    /// Where publishers connect, for example `tcp://127.0.0.1:5550`.
    #[must_use]
    pub fn in_endpoint(&self) -> &str {
        &self.in_endpoint
    }

    /// Where workers connect, for example `tcp://127.0.0.1:5551`.
    #[must_use]
    pub fn out_endpoint(&self) -> &str {
        &self.out_endpoint
    }

    /// Its counts and health, which can be asked while it runs and after it ended.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.clone()
    }

    /// Waits for the end, which [`Shutdown::request`] starts, and returns the final counts.
    ///
    /// If the broker made its own ZeroMQ context, what it forwarded has by then left the process, or
    /// the linger of [`socket::LINGER_MS`] has passed. In a context that was passed in, sending goes
    /// on in the background for as long.
    ///
    /// # Panics
    /// If the broker's thread panicked, with its panic.
    #[must_use]
    pub fn join(self) -> Totals {
        self.thread.join().unwrap_or_else(|reason| panic::resume_unwind(reason))
    }
}

/// Binds both ports and starts forwarding.
///
/// `context` is the ZeroMQ context to use, for a process that has one already. The broker ends when
/// `shutdown` is requested: it takes in no more, forwards what is queued, publishes its end frame
/// and closes; a second request skips what is still queued.
///
/// # Errors
/// [`StartError`]; no port is then bound and no thread runs.
pub fn start(config: Config, context: Option<Context>, shutdown: Shutdown) -> Result<Running, StartError> {
    config.check()?;
    let context = context.unwrap_or_default();
    let from_publishers = socket::broker_in(&context).map_err(StartError::Socket)?;
    let to_workers = socket::broker_out(&context).map_err(StartError::Socket)?;
    let port_out = if config.port == 0 { 0 } else { config.port + 1 };
    let in_endpoint = bind(&from_publishers, &config, config.port)?;
    let out_endpoint = bind(&to_workers, &config, port_out)?;
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| StartError::Random(io::Error::other(error.to_string())))?;
    let status = Status::new(About {
        publishers_endpoint: in_endpoint.clone(),
        workers_endpoint: out_endpoint.clone(),
        kept_bytes_max: config.keep_bytes_max as u64,
        started: Instant::now(),
    });
    let broker = Broker::new(from_publishers, to_workers, PublisherId(id), &config, status.clone());
    let endpoint = in_endpoint.clone();
    let run = move || {
        let totals = broker.run(&endpoint, &shutdown);
        // Ends the context if it is ours, which waits for the linger.
        drop(context);
        totals
    };
    let thread = Builder::new().name("zibrato-broker".to_owned()).spawn(run).map_err(StartError::Thread)?;
    Ok(Running { in_endpoint, out_endpoint, status, thread })
}

/// Binds a socket and returns the endpoint with the port it got.
fn bind(socket: &Socket, config: &Config, port: u16) -> Result<String, StartError> {
    let endpoint = match config.host {
        IpAddr::V4(host) => format!("tcp://{host}:{port}"),
        IpAddr::V6(host) => format!("tcp://[{host}]:{port}"),
    };
    socket.set_ipv6(config.host.is_ipv6()).map_err(StartError::Socket)?;
    let bound = socket.bind(&endpoint).and_then(|()| socket.get_last_endpoint());
    match bound {
        // An endpoint is always text; the one asked for is right unless its port is 0.
        Ok(bound) => Ok(bound.unwrap_or(endpoint)),
        Err(source) => Err(StartError::Bind { endpoint, port: config.port, source }),
    }
}

/// Why a broker did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The settings are refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A port is taken, or the address is not one of this machine's.
    #[error(
        "cannot listen on {endpoint}, as --host and --port {port} ask for (publishers on it, workers on the next); give an address of this machine and two free ports, or --port 0 for any"
    )]
    Bind {
        /// The address that cannot be bound.
        endpoint: String,
        /// The setting.
        port: u16,
        /// What ZeroMQ says.
        source: zmq::Error,
    },
    /// No socket could be made.
    #[error("cannot make a ZeroMQ socket; the process may have too many open files")]
    Socket(#[source] zmq::Error),
    /// The thread could not be started.
    #[error("cannot start the broker's thread")]
    Thread(#[source] io::Error),
    /// The system has no random numbers.
    #[error("cannot read random numbers for the broker's id")]
    Random(#[source] io::Error),
}
