//! One device: a thread that owns its port, its state and its ZeroMQ sockets.
//!
//! ```text
//! port -> line -> session -> boot -> outlet -> brokers
//! port <- line <- mask, ask  <-      outlet <- subscriptions
//! ```
//!
//! It never waits for anything but for the next of these, 50 ms at most, and a port that fails is opened again
//! for ever.

mod connection;
mod ending;
mod outlet;
mod recorder;
mod session;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zibrato_service::Shutdown;
use zmq::{Context, PollEvents, PollItem};

use crate::boot::Setting;
use crate::config::{Config, DeviceConfig};
use crate::mask::Mask;
use crate::moment::{Clock, Moment};
use crate::port::{Opener, PtyMaster};
use crate::status::{DeviceStatus, Shared};
use connection::{Connection, News};
use outlet::Outlet;
use recorder::Recorder;
use session::Session;

pub(crate) use recorder::RecordError;

/// Longest pause, after which sockets are read in any case.
const PAUSE_MAX: Duration = Duration::from_millis(50);
/// Bytes read from the port at a time.
const READ_BYTES: usize = 16_384;
/// Readings of the port between two of the sockets.
const READS_MAX: usize = 16;
/// How often what is told of the device is brought up to date, in milliseconds.
const STATUS_EVERY_MS: u64 = 200;
/// Silence after which a connection that cannot tell is given up, and windows of silence that are none.
const SILENCE_MS: u64 = 30_000;
const SILENCE_WINDOWS: u64 = 5;
/// How long the end may take.
const END_WITHIN: Duration = Duration::from_secs(2);

/// A device that is ready to be served.
pub(crate) struct Device {
    config: DeviceConfig,
    clock: Clock,
    connection: Connection,
    session: Session,
    outlet: Outlet,
    mask: Mask,
    recorder: Option<Recorder>,
    shared: Arc<Shared>,
    told: Option<Moment>,
}

impl Device {
    /// Makes what has to work at the start.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub(crate) fn prepare(
        config: &Config,
        device: &DeviceConfig,
        context: &Context,
        clock: Clock,
    ) -> Result<(Self, Option<PtyMaster>), DeviceError> {
        let opener = Opener::prepare(&device.port, clock)?;
        let pty = if let Opener::Pty(master) = &opener { Some(master.clone()) } else { None };
        let recorder =
            device.record.clone().map(|path: PathBuf| Recorder::create(path, clock)).transpose()?;
        let outlet = Outlet::open(context.clone(), config.endpoints.clone())
            .map_err(|(endpoint, source)| DeviceError::Endpoint { endpoint, source })?;
        let is_replay = matches!(opener, Opener::Replay(_));
        let setting = Setting {
            source: device.source.clone(),
            host: config.host_name.clone(),
            is_unfiltered: is_replay,
        };
        let prepared = Self {
            connection: Connection::new(device, opener),
            session: Session::new(config.site.clone(), setting),
            outlet,
            mask: Mask::new(config.hold),
            recorder,
            shared: Arc::new(Shared::new(DeviceStatus::new(&device.source, &device.port.to_string()))),
            told: None,
            config: device.clone(),
            clock,
        };
        Ok((prepared, pty))
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Runs until a shutdown is requested or the device can never speak again, and through the end.
    pub(crate) fn run(mut self, shutdown: &Shutdown) {
        let mut buffer = vec![0; READ_BYTES];
        while !shutdown.is_requested() && !self.connection.is_over() && self.outlet.failed.is_none() {
            self.turn(&mut buffer);
        }
        self.finish(shutdown);
    }

    fn turn(&mut self, buffer: &mut [u8]) {
        self.wait();
        let now = self.clock.now();
        // A recording does not begin to play to nobody.
        let may_open = !self.config.port.is_finite() || self.outlet.brokers() > 0;
        match self.connection.poll(now, may_open) {
            News::Up => self.session.connected(),
            News::Down | News::None => {}
        }
        self.read(buffer);
        let now = self.clock.now();
        self.outlet.exchange(self.session.boot_mut(), now);
        self.speak(now);
        if let Some(recorder) = &mut self.recorder {
            recorder.poll(now);
        }
        if self.told.is_none_or(|at| now.ms_since(at) >= STATUS_EVERY_MS) {
            self.tell(now);
        }
    }

    /// Waits for bytes, for a socket, or for [`PAUSE_MAX`].
    fn wait(&self) {
        let most = if self.outlet.has_more() { Duration::from_millis(1) } else { PAUSE_MAX };
        let most = self.connection.due().map_or(most, |due| due.min(most));
        // Rounded up, so that a pause below a millisecond is not spent in turns without any.
        let timeout_ms = most.as_micros().div_ceil(1_000) as i64;
        let mut items: Vec<PollItem<'_>> =
            self.outlet.sockets().map(|socket| socket.as_poll_item(zmq::POLLIN)).collect();
        if let Some(fd) = self.connection.fd() {
            items.push(PollItem::from_fd(fd, PollEvents::POLLIN));
        }
        if zmq::poll(&mut items, timeout_ms).is_err() {
            // Interrupted, or a descriptor that is gone, which reading will tell.
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn read(&mut self, buffer: &mut [u8]) {
        for _ in 0..READS_MAX {
            let bytes = match self.connection.read(buffer) {
                Ok(None) => return,
                Ok(Some(0)) => return self.connection.lost("the other end closed it", self.clock.now()),
                Ok(Some(bytes)) => bytes,
                Err(error) => return self.connection.lost(&error.to_string(), self.clock.now()),
            };
            let now = self.clock.now();
            if let Some(recorder) = &mut self.recorder {
                recorder.push(now, &buffer[..bytes]);
            }
            self.session.take(&buffer[..bytes], now, &mut self.outlet);
            if self.session.heard().is_some_and(|heard| heard == now) {
                self.connection.is_well();
            }
        }
    }

    /// Tells the device what it is to know, and gives up a connection that has died.
    fn speak(&mut self, now: Moment) {
        if self.session.take_is_new() {
            self.mask.repeat();
        }
        if let Some(boot) = self.session.boot() {
            let on_demand = boot.levels().iter().filter(|level| level.is_on_demand);
            self.mask.update(on_demand.map(|level| (level.number, self.outlet.is_wanted(&level.label))), now);
        }
        if !self.connection.is_up() {
            return self.mask.repeat();
        }
        self.session.ask(now);
        if self.session.boot().is_some()
            && let Some(mask) = self.mask.due(now)
            && self.session.line.send_mask(mask)
        {
            self.mask.said(mask, now);
        }
        let (line, connection) = (&mut self.session.line, &mut self.connection);
        if let Err(error) = line.flush(|bytes| connection.write(bytes)) {
            connection.lost(&error.to_string(), now);
        }
        if self.connection.dies_silently() && self.is_silent(now) {
            self.connection.lost("nothing came for too long", now);
        }
    }

    fn is_silent(&self, now: Moment) -> bool {
        let window_ms = self.session.boot().map_or(0, |boot| boot.window_ms().into());
        let since = self.session.heard().max(self.connection.since()).unwrap_or_default();
        now.ms_since(since) > SILENCE_MS.max(SILENCE_WINDOWS * window_ms)
    }

    /// Brings what is told of the device up to date.
    fn tell(&mut self, now: Moment) {
        self.told = Some(now);
        let counts = &mut self.session.counts;
        counts.ends_unacknowledged = self.outlet.ends_unacknowledged;
        counts.messages_sent = self.outlet.messages_sent();
        let is_connected = self.connection.is_up() && !self.is_silent(now);
        let heard_ms = self.session.heard().map(|heard| now.ms_since(heard));
        self.shared.update(|status| {
            status.is_connected = is_connected;
            status.error = self.connection.error().map(str::to_owned);
            status.heard_ms = heard_ms;
            status.brokers = self.outlet.brokers();
            status.levels_on = self.mask.bits();
            status.record_error = self.recorder.as_ref().and_then(|it| it.error().map(str::to_owned));
            status.counts.clone_from(&self.session.counts);
            match self.session.boot() {
                Some(boot) => status.set_boot(boot),
                None => status.clear_boot(),
            }
        });
    }

    fn finish(mut self, shutdown: &Shutdown) {
        let within = if shutdown.is_immediate() { Duration::ZERO } else { END_WITHIN };
        let now = self.clock.now();
        self.tell(now);
        let Self { session: mut ended, outlet, clock, recorder, shared, config, .. } = self;
        if let Some(recorder) = recorder {
            recorder.finish(clock.now());
        }
        let (unacknowledged, sent, failed) = outlet.finish(ended.boot_mut(), clock, Instant::now() + within);
        (ended.counts.ends_unacknowledged, ended.counts.messages_sent) = (unacknowledged, sent);
        let law = if ended.counts.law_holds() { "holds" } else { "BROKEN" };
        tracing::info!(device = config.source, law, sum = %ended.counts, "device closed");
        shared.update(|status| {
            status.is_connected = false;
            status.is_over = true;
            status.failure = failed.map(|error| error.to_string());
            status.counts = ended.counts;
        });
    }
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Why a device cannot be served at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// Its port.
    #[error(transparent)]
    Port(#[from] crate::port::PortError),
    /// The file to record into.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A socket could not be made or does not take the endpoint.
    #[error("endpoint {endpoint} cannot be connected to: give tcp://HOST:PORT, ipc://PATH or inproc://NAME")]
    Endpoint {
        /// The endpoint.
        endpoint: String,
        /// What ZeroMQ said.
        source: zmq::Error,
    },
    /// The operating system gave no thread.
    #[error("cannot start the thread of device {device}")]
    Thread {
        /// Its source.
        device: String,
        /// What the system says.
        source: io::Error,
    },
}
