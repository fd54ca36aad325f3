//! What the gateway says of itself over HTTP.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use zibrato_service::{
    Account, GatewayDevice, GatewayReport, Health, MetricsText, Process, Report, Shutdown, StatusEndpoint,
    StatusError, serve_status,
};

use crate::boot::Boot;
use crate::counts::DeviceCounts;

/// What is told of one device; at most 0.2 s old while its thread is well.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct DeviceStatus {
    /// Its source.
    pub source: String,
    /// How it is reached.
    pub port: String,
    /// Whether its port is open and something came lately.
    pub is_connected: bool,
    /// Whether it is not served any more.
    pub is_over: bool,
    /// Why it is not served any more, if that is no end of its own.
    pub failure: Option<String>,
    /// Why its port is not open.
    pub error: Option<String>,
    /// Milliseconds since its last frame.
    pub heard_ms: Option<u64>,
    /// Brokers that its publisher is connected to.
    pub brokers: usize,
    /// Its program; empty before its hello.
    pub program: String,
    /// The id under which its boot is published; empty before its hello.
    pub publisher: String,
    /// Milliseconds since its boot.
    pub uptime_ms: u64,
    /// Its levels and their bits in a mask.
    pub levels: Vec<(String, u8)>,
    /// The mask that it is told.
    pub levels_on: u32,
    /// Descriptors known, and how many there are.
    pub descriptors: (usize, u16),
    /// Why it is not recorded any more.
    pub record_error: Option<String>,
    /// What was counted.
    pub counts: DeviceCounts,
}

impl DeviceStatus {
    pub(crate) fn new(source: &str, port: &str) -> Self {
        Self { source: source.to_owned(), port: port.to_owned(), ..Self::default() }
    }

    pub(crate) fn set_boot(&mut self, boot: &Boot) {
        if self.program != boot.program() {
            boot.program().clone_into(&mut self.program);
        }
        self.publisher = boot.id().to_string();
        self.uptime_ms = boot.clock().uptime_ms();
        self.levels = boot.levels().iter().map(|level| (level.label.clone(), level.number)).collect();
        self.descriptors = boot.descriptors();
    }

    pub(crate) fn clear_boot(&mut self) {
        (self.uptime_ms, self.descriptors) = (0, (0, 0));
        self.program.clear();
        self.publisher.clear();
        self.levels.clear();
    }

    fn report(&self) -> GatewayDevice {
        let counts = &self.counts;
        let is_on = |number: u8| self.levels_on.checked_shr(number.into()).unwrap_or(0) & 1 != 0;
        let on = self.levels.iter().filter(|(_, number)| is_on(*number));
        GatewayDevice {
            source: self.source.clone(),
            port: self.port.clone(),
            connected: self.is_connected,
            error: self.failure.clone().or_else(|| self.error.clone()),
            over: self.is_over,
            heard_ms: self.heard_ms,
            brokers: self.brokers as u64,
            program: self.program.clone(),
            publisher: self.publisher.clone(),
            uptime_ms: self.uptime_ms,
            levels_on: on.map(|(label, _)| label.clone()).collect(),
            levels: self.levels.iter().map(|(label, _)| label.clone()).collect(),
            metrics: self.descriptors.0 as u64,
            metrics_total: self.descriptors.1.into(),
            frames: counts.frames(),
            frames_lost: counts.frames_lost(),
            bad: counts.bad().map(|(reason, count)| (reason.to_owned(), count)).collect(),
            lost_on_device: counts.lost_on_device,
            resets: counts.resets,
            samples: counts.samples,
            samples_lost: counts.samples_lost,
            record_error: self.record_error.clone(),
        }
    }

    fn account(&self) -> Account {
        let DeviceCounts { entries_offered, entries_accepted, entries_refused, .. } = &self.counts;
        let refused = entries_refused.iter().map(|(reason, count)| ((*reason).to_owned(), *count as f64));
        Account {
            stage: format!("link {}", self.source),
            unit: "entries".to_owned(),
            offered: *entries_offered as f64,
            accepted: *entries_accepted as f64,
            merged: 0.0,
            refused: refused.collect(),
            delivered: *entries_accepted as f64,
            held: 0.0,
            dropped: BTreeMap::new(),
        }
    }
}

/// Where a device's thread leaves its status.
#[derive(Debug)]
pub(crate) struct Shared(Mutex<DeviceStatus>);

impl Shared {
    pub(crate) const fn new(status: DeviceStatus) -> Self {
        Self(Mutex::new(status))
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut DeviceStatus)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn read(&self) -> DeviceStatus {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The status of a gateway and of its devices, shared with whoever asks.
#[derive(Clone, Debug)]
pub struct Status {
    started: Instant,
    endpoints: Arc<[String]>,
    devices: Arc<[Arc<Shared>]>,
}

impl Status {
    pub(crate) fn new(endpoints: &[String], devices: Vec<Arc<Shared>>) -> Self {
        Self { started: Instant::now(), endpoints: endpoints.into(), devices: devices.into() }
    }

    /// Serves all of this over HTTP until `shutdown` is requested; the bound address, if there is one.
    ///
    /// # Errors
    /// As [`serve_status`].
    pub async fn serve(
        self,
        http: StatusEndpoint,
        shutdown: Shutdown,
    ) -> Result<Option<SocketAddr>, StatusError> {
        let (health, metrics) = (self.clone(), self.clone());
        let report = move || self.report();
        serve_status(http, move || health.health(), move || metrics.metrics(), report, shutdown).await
    }

    /// Each device, in the order of the settings.
    #[must_use]
    pub fn devices(&self) -> Vec<DeviceStatus> {
        self.devices.iter().map(|shared| shared.read()).collect()
    }

    /// Unwell if no device is connected, a device's publisher has no broker, or a device is not served any more because
    /// something failed.
    #[must_use]
    pub fn health(&self) -> Health {
        health(&self.devices())
    }

    /// All that is known, for a person.
    #[must_use]
    pub fn report(&self) -> Report {
        let devices = self.devices();
        Report::Gateway(GatewayReport {
            process: Process::this(env!("CARGO_PKG_VERSION"), self.started, &health(&devices)),
            endpoints: self.endpoints.to_vec(),
            accounts: devices.iter().map(DeviceStatus::account).collect(),
            devices: devices.iter().map(DeviceStatus::report).collect(),
        })
    }

    /// The counts as a page of the Prometheus text format.
    #[must_use]
    pub fn metrics(&self) -> String {
        metrics(&self.devices())
    }
}

fn health(devices: &[DeviceStatus]) -> Health {
    if let Some((device, why)) = devices.iter().find_map(|it| Some((it, it.failure.as_ref()?))) {
        return Health::Degraded(format!("device {} is not served any more: {why}", device.source));
    }
    let mut running = devices.iter().filter(|device| !device.is_over).peekable();
    if running.peek().is_none() {
        return Health::Ok;
    }
    if let Some(alone) = running.clone().find(|device| device.brokers == 0) {
        return Health::Degraded(format!("no broker is connected for device {}", alone.source));
    }
    if running.all(|device| !device.is_connected) {
        let why = |device: &DeviceStatus| {
            let why = device.error.as_deref().unwrap_or("nothing came for too long");
            format!("{}: {why}", device.source)
        };
        let all: Vec<_> = devices.iter().filter(|device| !device.is_over).map(why).collect();
        return Health::Degraded(format!("no device is connected ({})", all.join("; ")));
    }
    Health::Ok
}

fn metrics(devices: &[DeviceStatus]) -> String {
    let mut text = MetricsText::new();
    type Reader = fn(&DeviceStatus) -> u64;
    let gauges: [(&str, &str, Reader); 4] = [
        ("zibrato_gateway_connected", "Whether the port is open and something came lately.", |device| {
            device.is_connected.into()
        }),
        ("zibrato_gateway_brokers", "Brokers connected.", |device| device.brokers as u64),
        ("zibrato_gateway_descriptors", "Descriptors known.", |device| device.descriptors.0 as u64),
        ("zibrato_gateway_descriptors_expected", "Descriptors that the device has.", |device| {
            device.descriptors.1.into()
        }),
    ];
    for (name, help, read) in gauges {
        let mut family = text.gauge(name, help);
        for device in devices {
            family.sample(&[("device", &device.source)], read(device));
        }
    }
    let counters: [(&str, &str, Reader); 14] = [
        ("zibrato_gateway_bytes_total", "Bytes received.", |device| device.counts.bytes()),
        ("zibrato_gateway_frames_total", "Link frames received whole.", |device| device.counts.frames()),
        ("zibrato_gateway_frames_lost_total", "Link frames missing, by their numbers.", |device| {
            device.counts.frames_lost()
        }),
        ("zibrato_gateway_frames_repeated_total", "Link frames received again.", |device| {
            device.counts.frames_repeated()
        }),
        ("zibrato_gateway_frames_unknown_total", "Link frames of an unknown kind.", |device| {
            device.counts.frames_unknown()
        }),
        ("zibrato_gateway_states_withheld_total", "State frames of an uncertain boot.", |device| {
            device.counts.states_withheld
        }),
        ("zibrato_gateway_entries_offered_total", "State entries received.", |device| {
            device.counts.entries_offered
        }),
        ("zibrato_gateway_entries_accepted_total", "State entries taken in.", |device| {
            device.counts.entries_accepted
        }),
        ("zibrato_gateway_lost_on_device_total", "Records lost to full rings on the device.", |device| {
            device.counts.lost_on_device
        }),
        ("zibrato_gateway_resets_total", "Times that the device started again.", |device| {
            device.counts.resets
        }),
        ("zibrato_gateway_connections_total", "Times that the port was opened.", |device| {
            device.counts.connections
        }),
        ("zibrato_gateway_samples_total", "Samples received.", |device| device.counts.samples),
        ("zibrato_gateway_samples_lost_total", "Samples missing, by their numbers.", |device| {
            device.counts.samples_lost
        }),
        ("zibrato_gateway_messages_total", "Messages given to sockets.", |device| {
            device.counts.messages_sent
        }),
    ];
    for (name, help, read) in counters {
        let mut family = text.counter(name, help);
        for device in devices {
            family.sample(&[("device", &device.source)], read(device));
        }
    }
    let mut family =
        text.counter("zibrato_gateway_bad_frames_total", "Pieces of the line that were no frame.");
    for device in devices {
        for (reason, count) in device.counts.bad() {
            family.sample(&[("device", &device.source), ("reason", reason)], count);
        }
    }
    let mut family = text.counter("zibrato_gateway_entries_refused_total", "State entries refused.");
    for device in devices {
        for (reason, count) in &device.counts.entries_refused {
            family.sample(&[("device", &device.source), ("reason", reason)], *count);
        }
    }
    let mut family = text.counter("zibrato_gateway_descriptors_refused_total", "Descriptors refused.");
    for device in devices {
        for (reason, count) in &device.counts.descriptors_refused {
            family.sample(&[("device", &device.source), ("reason", reason)], *count);
        }
    }
    let mut family =
        text.counter("zibrato_gateway_ends_unacknowledged_total", "Levels whose end no broker acknowledged.");
    for device in devices {
        family.sample(&[("device", &device.source)], device.counts.ends_unacknowledged);
    }
    text.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(source: &str, is_connected: bool, brokers: usize) -> DeviceStatus {
        DeviceStatus { is_connected, brokers, ..DeviceStatus::new(source, "port") }
    }

    #[test]
    fn no_device_or_no_broker_is_unwell_and_what_is_over_is_not_asked() {
        let degraded = |devices: &[DeviceStatus]| match health(devices) {
            Health::Ok => None,
            Health::Degraded(reason) => Some(reason),
        };
        assert_eq!(degraded(&[device("a", true, 1), device("b", false, 1)]), None);
        let text = degraded(&[device("a", true, 1), device("b", true, 0)]).unwrap();
        assert_eq!(text, "no broker is connected for device b");
        let mut gone = device("b", false, 1);
        gone.error = Some("No such file".to_owned());
        let text = degraded(&[device("a", false, 1), gone.clone()]).unwrap();
        assert_eq!(text, "no device is connected (a: nothing came for too long; b: No such file)");
        gone.is_over = true;
        assert_eq!(degraded(&[gone.clone()]), None);
        gone.failure = Some("Too many open files".to_owned());
        let text = degraded(&[device("a", true, 1), gone]).unwrap();
        assert_eq!(text, "device b is not served any more: Too many open files");
    }

    #[test]
    fn the_page_has_each_count_of_each_device_and_the_report_the_same() {
        let mut one = device("motor", true, 1);
        one.counts.refuse("form");
        (one.counts.entries_offered, one.counts.entries_accepted, one.counts.resets) = (3, 2, 1);
        one.counts.line.bad[3] = 4;
        one.counts.line.lost = 9;
        (one.levels, one.levels_on) = (vec![("info".to_owned(), 0), ("debug".to_owned(), 3)], 8);
        let page = metrics(&[one.clone(), device("pump", false, 1)]);
        for line in [
            "zibrato_gateway_connected{device=\"motor\"} 1\n",
            "zibrato_gateway_connected{device=\"pump\"} 0\n",
            "zibrato_gateway_entries_offered_total{device=\"motor\"} 3\n",
            "zibrato_gateway_entries_refused_total{device=\"motor\",reason=\"form\"} 1\n",
            "zibrato_gateway_bad_frames_total{device=\"motor\",reason=\"crc\"} 4\n",
            "zibrato_gateway_frames_lost_total{device=\"motor\"} 9\n",
            "zibrato_gateway_resets_total{device=\"motor\"} 1\n",
        ] {
            assert!(page.contains(line), "{line} in {page}");
        }
        assert!(one.account().adds_up());
        assert_eq!(one.report().levels_on, ["debug"]);
        let status = Status::new(&[], vec![Arc::new(Shared::new(one))]);
        let text = serde_json_free(&status.report());
        assert!(text.contains("motor"));
    }

    fn serde_json_free(report: &Report) -> String {
        format!("{report:?}")
    }
}
