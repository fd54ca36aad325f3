//! How a client is set up.

use std::time::Duration;

use zibrato_core::limits::{HOLD_MS_DEFAULT, SOURCE_DEFAULT, WINDOW_MS_DEFAULT};
use zibrato_core::text::{Field, TextError};

use crate::client::Client;

/// Default host of the broker.
pub const HOST_DEFAULT: &str = "127.0.0.1";
/// Default port of the broker for publishers.
pub const PORT_DEFAULT: u16 = 5550;
/// Default time that a shutdown may take.
pub const SHUTDOWN_DEADLINE_DEFAULT: Duration = Duration::from_secs(2);
/// Longest time that a shutdown may take; a longer one asked for counts as this.
pub const SHUTDOWN_DEADLINE_MAX: Duration = Duration::from_secs(3_600);
/// Default limit of series of one client.
pub const SERIES_MAX_DEFAULT: usize = 100_000;
/// Shortest window.
pub const WINDOW_MIN: Duration = Duration::from_millis(10);
/// Longest window: a counter of a device wraps no sooner, and nobody waits longer for a number.
pub const WINDOW_MAX: Duration = Duration::from_secs(3_600);
/// Most broker endpoints of one client.
pub const ENDPOINTS_MAX: usize = 16;

/// What goes over the wire.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Wire {
    /// Frames with cumulative state: exact over loss, duplicates and reordering.
    #[default]
    State,
    /// As [`Wire::State`], and in addition each measurement of levels whose samples somebody subscribes to:
    /// every record of a timer and every set of a gauge that the drain takes from the rings, as sample frames
    /// (`zibrato tap --samples` shows them). Counters are not sampled, since they never go through a ring, and of a
    /// [sampled timer](crate::Timer::sampled) only the timed calls are.
    ///
    /// A record has no time stamp, so a sample's time is the wall clock of the drain's pass that took it: later than
    /// the measurement by the drain's pause, which is 20 us to 5 ms while records come in, and 20 ms at most behind a silence.
    ///
    /// Samples are events. What a socket does not take is lost, and so are records that spilled; they are counted
    /// under [`LossReason::Samples`](crate::LossReason::Samples), and state has them all the same.
    /// Nothing is sent before somebody asks, and a frame goes out when it has 16 KiB or is 50 ms old.
    Samples,
    /// The original's text messages, for its workers. Lost is lost; one endpoint only. Text has no
    /// tags: series that differ only in them become one. A timer sends one message a record,
    /// through a queue of [`LEGACY_QUEUE_MAX`](crate::LEGACY_QUEUE_MAX); what is beyond is dropped and counted.
    Legacy,
}

/// Settings of a [`Client`].
///
/// | setting | default | accepted | effect |
/// |---|---|---|---|
/// | `host`, `port` | `127.0.0.1`, 5550 | a name or address, 1 to 65535 | the broker's publisher port |
/// | `endpoint` | none | a ZeroMQ endpoint, 16 in all | a further broker, which gets the same frames |
/// | `context` | an own one | a `zmq::Context` | shares I/O threads, needed for `inproc:` |
/// | `source` | `not_specified` | 1 to 255 of `A-Za-z0-9.:_-` | source of metrics without one |
/// | `window` | 1 s | 10 ms to 1 h | how often changed series are sent |
/// | `hold` | 15 s | any | how long an on-demand level outlives its last subscription |
/// | `wire` | state | state, samples, legacy | see [`Wire`] |
/// | `shutdown_deadline` | 2 s | up to 1 h | how long dropping the client may take |
/// | `series_max` | 100 000 | at least 1 | beyond it, overflow series keep the totals |
#[derive(Clone, Default)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct Builder {
    config: Config,
    host: Option<String>,
    port: Option<u16>,
    context: Option<zmq::Context>,
}

/// Resolved settings.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) endpoints: Vec<String>,
    pub(crate) source: String,
    pub(crate) window: Duration,
    pub(crate) hold: Duration,
    pub(crate) wire: Wire,
    pub(crate) shutdown_deadline: Duration,
    pub(crate) series_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            source: SOURCE_DEFAULT.to_owned(),
            window: Duration::from_millis(u64::from(WINDOW_MS_DEFAULT)),
            hold: Duration::from_millis(u64::from(HOLD_MS_DEFAULT)),
            wire: Wire::default(),
            shutdown_deadline: SHUTDOWN_DEADLINE_DEFAULT,
            series_max: SERIES_MAX_DEFAULT,
        }
    }
}

impl Builder {
    /// Host of the broker.
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.host = Some(host.into());
        self
    }

    /// Port of the broker for publishers.
    pub const fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// A further broker, as a ZeroMQ endpoint (`tcp://10.0.0.2:5550`). If only endpoints are given,
    /// neither host nor port, they are all there is.
    pub fn endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.config.endpoints.push(endpoint.into());
        self
    }

    /// A ZeroMQ context to share.
    pub fn context(mut self, context: zmq::Context) -> Self {
        self.context = Some(context);
        self
    }

    /// Source of metrics that have none of their own.
    pub fn source(mut self, source: impl Into<String>) -> Self {
        self.config.source = source.into();
        self
    }

    /// How often changed series are sent.
    pub const fn window(mut self, window: Duration) -> Self {
        self.config.window = window;
        self
    }

    /// How long an on-demand level stays on after its last subscription left.
    pub const fn hold(mut self, hold: Duration) -> Self {
        self.config.hold = hold;
        self
    }

    /// What goes over the wire.
    pub const fn wire(mut self, wire: Wire) -> Self {
        self.config.wire = wire;
        self
    }

    /// How long dropping the client may take.
    pub const fn shutdown_deadline(mut self, deadline: Duration) -> Self {
        self.config.shutdown_deadline = deadline;
        self
    }

    /// Most series of this client; what is beyond is counted in overflow series.
    pub const fn series_max(mut self, series_max: usize) -> Self {
        self.config.series_max = series_max;
        self
    }

    /// Starts the client: its drain thread, its sockets, and every always level.
    ///
    /// # Errors
    /// [`BuildError`]; [`BuildError::AlreadyRunning`] if this process has a client.
    pub fn build(self) -> Result<Client, BuildError> {
        let context = self.context.clone();
        Client::start(self.resolve()?, context)
    }

    fn resolve(self) -> Result<Config, BuildError> {
        let Self { mut config, host, port, .. } = self;
        if host.is_some() || port.is_some() || config.endpoints.is_empty() {
            let host = host.unwrap_or_else(|| HOST_DEFAULT.to_owned());
            config.endpoints.insert(0, format!("tcp://{host}:{}", port.unwrap_or(PORT_DEFAULT)));
        }
        if port == Some(0) {
            return Err(BuildError::Port);
        }
        if config.endpoints.len() > ENDPOINTS_MAX {
            return Err(BuildError::TooManyEndpoints { endpoints: config.endpoints.len() });
        }
        if config.wire == Wire::Legacy && config.endpoints.len() > 1 {
            return Err(BuildError::LegacyEndpoints { endpoints: config.endpoints.len() });
        }
        if !(WINDOW_MIN..=WINDOW_MAX).contains(&config.window) {
            return Err(BuildError::Window { window: config.window });
        }
        if config.series_max == 0 {
            return Err(BuildError::SeriesMax);
        }
        Field::Source
            .check(&config.source)
            .map_err(|error| BuildError::Source { value: config.source.clone(), source: error })?;
        Ok(config)
    }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { config, host, port, context } = self;
        f.debug_struct("Builder")
            .field("config", config)
            .field("host", host)
            .field("port", port)
            .field("own_context", &context.is_none())
            .finish()
    }
}

/// Why a client did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// One client a process.
    #[error("a client is already running in this process: shut it down before building another")]
    AlreadyRunning,
    /// The source is not accepted.
    #[error("source '{value}' is not accepted")]
    Source {
        /// What was given.
        value: String,
        /// What is accepted.
        source: TextError,
    },
    /// The window is not accepted.
    #[error("window of {window:?} is not accepted: give 10 ms to 1 h")]
    Window {
        /// What was given.
        window: Duration,
    },
    /// Nobody listens on port 0.
    #[error("port 0 is not accepted: give 1 to 65535, as the broker's --port says")]
    Port,
    /// No series at all.
    #[error("series_max of 0 is not accepted: give at least 1")]
    SeriesMax,
    /// Legacy text to more than one broker would be counted twice.
    #[error("wire legacy with {endpoints} endpoints is not accepted: text cannot be de-duplicated, give one")]
    LegacyEndpoints {
        /// How many were given.
        endpoints: usize,
    },
    /// More endpoints than anybody has brokers.
    #[error("{endpoints} endpoints are not accepted: give at most 16")]
    TooManyEndpoints {
        /// How many were given.
        endpoints: usize,
    },
    /// A socket could not be made or does not take the endpoint.
    #[error("endpoint {endpoint} cannot be connected to: give tcp://HOST:PORT, ipc://PATH or inproc://NAME")]
    Endpoint {
        /// The endpoint.
        endpoint: String,
        /// What ZeroMQ said.
        source: zmq::Error,
    },
    /// The operating system gave no random bytes or no thread.
    #[error("the drain thread cannot be started")]
    Start {
        /// What the operating system said.
        source: std::io::Error,
    },
}
