//! All devices and the status endpoint, as the binary runs them.

use std::io::Write;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use tracing::info;
use zibrato_service::{Shutdown, StatusEndpoint, StatusError};
use zmq::Context;

use crate::config::Config;
use crate::device::{Device, DeviceError};
use crate::moment::Clock;
use crate::status::{DeviceStatus, Shared, Status};

/// Runs a gateway until `shutdown` is requested, or until every device has ended: devices, status endpoint,
/// ordered end.
///
/// The first log line gives version and addresses, the last ones the totals of each device. Paths of
/// pseudo-terminals are printed on standard output.
///
/// # Errors
/// [`RunError`].
pub async fn run(config: Config, shutdown: Shutdown) -> Result<Vec<DeviceStatus>, RunError> {
    let http = config.http;
    let running = start(&config, shutdown.clone())?;
    for path in &running.ptys {
        // Whoever starts us waits for it, and may be gone.
        let _ = writeln!(std::io::stdout(), "{path}");
    }
    let _ = std::io::stdout().flush();
    running.serve(&config, http, shutdown).await
}

/// A gateway whose devices are served.
#[derive(Debug)]
pub struct Running {
    ptys: Vec<String>,
    status: Status,
    threads: Vec<JoinHandle<()>>,
}

/// Starts the thread of each device.
///
/// # Errors
/// [`DeviceError`]; then nothing was started.
pub fn start(config: &Config, shutdown: Shutdown) -> Result<Running, DeviceError> {
    let (clock, context) = (Clock::start(), Context::new());
    let mut ptys = Vec::new();
    let mut devices = Vec::new();
    for device in &config.devices {
        let (device, pty) = Device::prepare(config, device, &context, clock)?;
        ptys.extend(pty.map(|pty| pty.path().display().to_string()));
        devices.push(device);
    }
    let status = Status::new(&config.endpoints, devices.iter().map(Device::shared).collect());
    let mut threads = Vec::new();
    for (device, settings) in devices.into_iter().zip(&config.devices) {
        let ours = shutdown.clone();
        let on_panic = OnPanic(device.shared());
        let serve = move || {
            let _on_panic = on_panic;
            device.run(&ours);
        };
        let thread = Builder::new().name("zibrato-device".to_owned()).spawn(serve);
        match thread {
            Ok(thread) => threads.push(thread),
            Err(source) => {
                shutdown.request();
                return Err(DeviceError::Thread { device: settings.source.clone(), source });
            }
        }
    }
    Ok(Running { ptys, status, threads })
}

/// Tells of a device whose thread panics, which others do not notice before the end.
struct OnPanic(Arc<Shared>);

impl Drop for OnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.update(|status| {
                (status.is_connected, status.is_over) = (false, true);
                status.failure = Some("its thread panicked".to_owned());
            });
        }
    }
}

impl Running {
    /// Paths of the other ends of pseudo-terminals, in the order of the settings.
    #[must_use]
    pub fn ptys(&self) -> &[String] {
        &self.ptys
    }

    /// What is told of it.
    #[must_use]
    pub const fn status(&self) -> &Status {
        &self.status
    }

    /// Waits until all devices have ended, by themselves or by the shutdown; what became of each.
    ///
    /// # Errors
    /// [`RunError::Panicked`].
    pub fn join(self) -> Result<Vec<DeviceStatus>, RunError> {
        let ended: Vec<_> = self.threads.into_iter().map(JoinHandle::join).collect();
        if ended.iter().any(Result::is_err) { Err(RunError::Panicked) } else { Ok(self.status.devices()) }
    }

    async fn serve(
        self,
        config: &Config,
        http: StatusEndpoint,
        shutdown: Shutdown,
    ) -> Result<Vec<DeviceStatus>, RunError> {
        let status = self.status.clone().serve(http, shutdown.clone()).await;
        if let Ok(http) = &status {
            info!(
                version = env!("CARGO_PKG_VERSION"),
                devices = config.devices.len(),
                endpoints = config.endpoints.join(","),
                http = http.map_or_else(|| "off".to_owned(), |addr| addr.to_string()),
                "gateway started"
            );
        } else {
            shutdown.request();
        }
        let joined = tokio::task::spawn_blocking(move || self.join()).await;
        // The status endpoint ends as well if all devices ended by themselves.
        shutdown.request();
        let devices = joined.map_err(|_| RunError::Panicked)??;
        status?;
        let laws = devices.iter().filter(|device| device.counts.law_holds()).count();
        info!(devices = devices.len(), laws_hold = laws, "gateway ended");
        failure(&devices).map_or(Ok(devices), Err)
    }
}

/// The first device that ended because something failed.
fn failure(devices: &[DeviceStatus]) -> Option<RunError> {
    devices.iter().find_map(|device| {
        let why = device.failure.clone()?;
        Some(RunError::Failed { device: device.source.clone(), why })
    })
}

/// Why a gateway did not run to a clean end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A device cannot be served.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Its status endpoint cannot be.
    #[error(transparent)]
    Status(#[from] StatusError),
    /// A device could not be served to its end.
    #[error("device {device} could not be served to its end: {why}")]
    Failed {
        /// Its source.
        device: String,
        /// What failed.
        why: String,
    },
    /// The thread of a device panicked.
    #[error("the thread of a device panicked; its message is above")]
    Panicked,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_whose_thread_panics_is_not_served_any_more() {
        for panics in [false, true] {
            let shared = Arc::new(Shared::new(DeviceStatus::new("a", "port")));
            let on_panic = OnPanic(Arc::clone(&shared));
            let serve = move || {
                let _on_panic = on_panic;
                assert!(!panics, "as it has to");
            };
            assert_eq!(std::thread::spawn(serve).join().is_err(), panics);
            assert_eq!(shared.read().failure.is_some(), panics);
        }
    }

    #[test]
    fn a_device_that_failed_is_a_gateway_that_failed_and_one_that_ended_is_not() {
        let mut devices = [DeviceStatus::new("a", "port"), DeviceStatus::new("b", "port")];
        devices[1].is_over = true;
        assert!(failure(&devices).is_none());
        devices[1].failure = Some("Too many open files".to_owned());
        let text = failure(&devices).map(|error| error.to_string());
        assert_eq!(text.as_deref(), Some("device b could not be served to its end: Too many open files"));
    }
}
