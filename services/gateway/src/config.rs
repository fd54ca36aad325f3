//! Flags and environment, resolved once into a [`Config`] before any port or socket opens.

mod device;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use zibrato_core::text::Field;
use zibrato_service::StatusEndpoint;

use crate::DEVICES_MAX;
use device::{Named, parse_named, parse_source, parse_tcp, source_of_addr, source_of_path};

pub use device::{DeviceConfig, PortConfig};

const PORT_DEFAULT: u16 = 5_550;
const HTTP_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5_554);
const BAUD_DEFAULT: u32 = 115_200;
const BAUD_MAX: u32 = 20_000_000;
const HOLD_S_DEFAULT: u64 = 15;
const HOLD_S_MAX: u64 = 3_600;

/// Publishes for devices without a network of their own.
///
/// Each device speaks the link of WIRE.md section 13 over a serial port, TCP, a pseudo-terminal or
/// standard input; the gateway adds source and wall time and publishes to a broker as a program does, as
/// one publisher for each boot of the device. It tells devices which on-demand levels somebody subscribes
/// to. A port that fails is opened again, after 0.1 s at first and 5 s at most; nothing that a device
/// counted is lost by that, or by a restart of the gateway.
///
/// Every device needs a source, by which workers tell devices apart: NAME= before PATH, HOST:PORT or FILE,
/// 1 to 255 of A-Z a-z 0-9 . : _ -; without it one is made of what follows. A metric's own source goes before.
///
/// A device's timers with buckets have four for each doubling, so that their percentiles are off by 12.5 % at
/// most, and by 1.1 % more in our own; timers without buckets have the mean of each window. Counts and sums
/// are exact.
///
/// Exit codes: 0 after a clean stop, 1 on a failure, 2 on bad usage. SIGTERM and SIGINT send what there is,
/// for 2 s at most; a second one ends at once. With --stdin and --replay only, it ends by itself when they
/// have ended. RUST_LOG sets the log filter (default: info).
#[derive(Clone, PartialEq, Debug, clap::Parser)]
#[command(name = "zibrato-gateway", version)]
pub struct Args {
    /// Serial port of a device, such as /dev/ttyUSB0 or motor=/dev/ttyACM0: 8 data bits, no parity, 1 stop
    /// bit, no flow control. May be given several times. Default source: the last part of the path.
    #[arg(long, value_name = "[NAME=]PATH", value_parser = parse_named)]
    pub serial: Vec<Named>,

    /// Speed of the serial ports in bits a second, 1 to 20000000. It has to be the device's own.
    #[arg(long, env = "ZIBRATO_GATEWAY_BAUD", default_value_t = BAUD_DEFAULT,
          value_parser = zibrato_service::whole_number::<u32>(1, BAUD_MAX))]
    pub baud: u32,

    /// TCP address of a device, or of a program with a device behind it, to connect to. May be given
    /// several times. Default source: HOST:PORT.
    #[arg(long, value_name = "[NAME=]HOST:PORT", value_parser = parse_tcp)]
    pub tcp: Vec<Named>,

    /// Make a pseudo-terminal and print the path of its other end, on a line of standard output; for an
    /// emulator, such as QEMU with -serial PATH, or a test. May be given several times. Default source: pty.
    #[arg(long, value_name = "NAME", num_args = 0..=1, require_equals = true, default_missing_value = "pty",
          value_parser = parse_source)]
    pub pty: Vec<String>,

    /// Read a device from standard input, from when a broker is connected on. Nothing can be told to the device, so
    /// its on-demand levels stay as they are. Default source: stdin.
    #[arg(long, value_name = "NAME", num_args = 0..=1, require_equals = true, default_missing_value = "stdin",
          value_parser = parse_source)]
    pub stdin: Option<String>,

    /// Play a file of --record as if it were the device. May be given several times. Default source: the
    /// file's name without its ending. It begins when a broker is connected.
    #[arg(long, value_name = "[NAME=]FILE", value_parser = parse_named)]
    pub replay: Vec<Named>,

    /// How fast files are played: 1 as they were recorded, 2 twice as fast, 0 as fast as possible; 0 to 1000.
    #[arg(long, default_value_t = 1.0, value_parser = parse_speed)]
    pub speed: f64,

    /// Record what a device sends, with its times, for --replay (docs/CAPTURE.md). With several devices NAME is the
    /// source of the one that is meant. The file must not exist.
    #[arg(long, value_name = "[NAME=]FILE", value_parser = parse_named)]
    pub record: Vec<Named>,

    /// Host of the broker.
    #[arg(long, env = "ZIBRATO_GATEWAY_HOST", default_value = "127.0.0.1", conflicts_with = "endpoint")]
    pub host: String,

    /// Port of the broker for publishers, 1 to 65535.
    #[arg(long, env = "ZIBRATO_GATEWAY_PORT", default_value_t = PORT_DEFAULT, conflicts_with = "endpoint",
          value_parser = zibrato_service::whole_number::<u16>(1, 65_535))]
    pub port: u16,

    /// ZeroMQ endpoint of a broker, such as tcp://127.0.0.1:5550, in place of --host and --port. Given
    /// several times, all get the same frames; 16 at most.
    #[arg(long, value_name = "ENDPOINT")]
    pub endpoint: Vec<String>,

    /// How long an on-demand level stays on after its last subscription left, in seconds, 0 to 3600.
    #[arg(long, env = "ZIBRATO_GATEWAY_HOLD", value_name = "SECONDS", default_value_t = HOLD_S_DEFAULT,
          value_parser = zibrato_service::whole_number::<u64>(0, HOLD_S_MAX))]
    pub hold: u64,

    /// What publisher ids are made of, beside the device's source and boot: two gateways with devices of the same
    /// source must differ in it, and one must not change it while its devices run, else they are counted
    /// again. Default: the host name.
    #[arg(long, env = "ZIBRATO_GATEWAY_SITE", value_name = "TEXT")]
    pub site: Option<String>,

    /// Address and port of /healthz, /metrics and /status; port 0 takes a free one. The default,
    /// 127.0.0.1:5554, is left out with a warning if it is taken; an address given here must be free.
    #[arg(long, env = "ZIBRATO_GATEWAY_HTTP", value_name = "ADDR", conflicts_with = "no_http")]
    pub http: Option<SocketAddr>,

    /// Do not serve /healthz, /metrics and /status.
    #[arg(long)]
    pub no_http: bool,

    /// Allow --http to be an address that other machines reach: whoever reaches it can read how much is
    /// measured, and nobody is asked who he is.
    #[arg(long)]
    pub insecure_bind: bool,

    /// Check the settings and exit: 0 if they are good, 2 if not.
    #[arg(long)]
    pub check_config: bool,
}

/// What a gateway needs to know before it opens anything.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// The devices; at least one, at most [`DEVICES_MAX`], no two of one source.
    pub devices: Vec<DeviceConfig>,
    /// ZeroMQ endpoints of brokers, for publishers.
    pub endpoints: Vec<String>,
    /// How long an on-demand level outlives its last subscription.
    pub hold: Duration,
    /// What publisher ids are made of, beside source and boot.
    pub site: String,
    /// This machine's name, for what workers tell of publishers.
    pub host_name: String,
    /// Where `/healthz`, `/metrics` and `/status` are served.
    pub http: StatusEndpoint,
}

impl Args {
    /// The settings these flags ask for.
    ///
    /// # Errors
    /// [`ConfigError`] names the flag, what was given, what is accepted and what to do.
    pub fn resolve(&self) -> Result<Config, ConfigError> {
        if let Some(addr) = self.http.filter(|addr| !self.insecure_bind && !addr.ip().is_loopback()) {
            return Err(ConfigError::InsecureHttp { addr });
        }
        let mut devices = self.devices();
        if devices.is_empty() {
            return Err(ConfigError::NoDevice);
        }
        if devices.len() > DEVICES_MAX {
            return Err(ConfigError::TooManyDevices { devices: devices.len() });
        }
        let mut sources = BTreeSet::new();
        if let Some(twice) = devices.iter().find(|device| !sources.insert(device.source.clone())) {
            return Err(ConfigError::SameSource { name: twice.source.clone() });
        }
        self.assign_records(&mut devices)?;
        if self.endpoint.len() > zibrato_std::ENDPOINTS_MAX {
            return Err(ConfigError::TooManyEndpoints { endpoints: self.endpoint.len() });
        }
        let host_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Ok(Config {
            devices,
            endpoints: self.endpoints(),
            hold: Duration::from_secs(self.hold),
            site: self.site.clone().unwrap_or_else(|| host_name.clone()),
            host_name,
            http: StatusEndpoint {
                addr: (!self.no_http).then(|| self.http.unwrap_or(HTTP_DEFAULT)),
                explicit: self.http.is_some(),
            },
        })
    }

    fn devices(&self) -> Vec<DeviceConfig> {
        let device = |source: String, port| DeviceConfig { source, port, record: None };
        let named = |named: &Named, default: fn(&str) -> String| {
            named.source.clone().unwrap_or_else(|| default(&named.what))
        };
        let serial = self.serial.iter().map(|it| {
            let port = PortConfig::Serial { path: it.what.clone(), baud: self.baud };
            device(named(it, source_of_path), port)
        });
        let tcp = self
            .tcp
            .iter()
            .map(|it| device(named(it, source_of_addr), PortConfig::Tcp { addr: it.what.clone() }));
        let pty = self.pty.iter().map(|source| device(source.clone(), PortConfig::Pty));
        let stdin = self.stdin.iter().map(|source| device(source.clone(), PortConfig::Stdin));
        let replay = self.replay.iter().map(|it| {
            let port = PortConfig::Replay { path: PathBuf::from(&it.what), speed: self.speed };
            device(named(it, device::source_of_file), port)
        });
        serial.chain(tcp).chain(pty).chain(stdin).chain(replay).collect()
    }

    fn assign_records(&self, devices: &mut [DeviceConfig]) -> Result<(), ConfigError> {
        for record in &self.record {
            let wanted =
                |device: &&mut DeviceConfig| record.source.as_ref().is_none_or(|it| *it == device.source);
            if record.source.is_none() && devices.len() > 1 {
                return Err(ConfigError::RecordWhich { file: record.what.clone() });
            }
            let Some(device) = devices.iter_mut().find(wanted) else {
                let name = record.source.clone().unwrap_or_default();
                return Err(ConfigError::RecordWhom { name });
            };
            if device.record.is_some() {
                return Err(ConfigError::RecordTwice { name: device.source.clone() });
            }
            device.record = Some(PathBuf::from(&record.what));
        }
        Ok(())
    }

    fn endpoints(&self) -> Vec<String> {
        if !self.endpoint.is_empty() {
            return self.endpoint.clone();
        }
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        vec![format!("tcp://{host}:{}", self.port)]
    }
}

fn parse_speed(text: &str) -> Result<f64, String> {
    let speed = text.parse::<f64>().ok().filter(|speed| (0.0..=1_000.0).contains(speed));
    speed.ok_or_else(|| "accepted are numbers from 0 to 1000".to_owned())
}

/// Why settings are refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Nothing to publish for.
    #[error("no device is given: give --serial, --tcp, --pty, --stdin or --replay")]
    NoDevice,
    /// More threads and sockets than one process should have.
    #[error(
        "{devices} devices are given: accepted are at most {DEVICES_MAX}; start a second gateway for the others"
    )]
    TooManyDevices {
        /// How many.
        devices: usize,
    },
    /// Workers could not tell them apart.
    #[error("two devices have the source {name}: each needs one of its own; give NAME= before one of them")]
    SameSource {
        /// The source of both.
        name: String,
    },
    /// Which of several devices is to be recorded is not said.
    #[error("--record {file} does not say which device: give NAME=FILE, NAME being the source of one")]
    RecordWhich {
        /// The file.
        file: String,
    },
    /// There is no such device.
    #[error("--record {name}=FILE: no device has this source; give that of a device")]
    RecordWhom {
        /// The source given.
        name: String,
    },
    /// One file is enough.
    #[error("--record is given twice for the device {name}: accepted is one file each")]
    RecordTwice {
        /// The device's source.
        name: String,
    },
    /// More endpoints than anybody has brokers.
    #[error("{endpoints} endpoints are given: accepted are at most {}", zibrato_std::ENDPOINTS_MAX)]
    TooManyEndpoints {
        /// How many.
        endpoints: usize,
    },
    /// Other machines reach the status endpoint.
    #[error(
        "--http {addr} is reached by other machines: accepted are loopback addresses; --insecure-bind allows it all the same"
    )]
    InsecureHttp {
        /// The address.
        addr: SocketAddr,
    },
}

/// Whether `text` may be a source.
fn is_source(text: &str) -> bool {
    Field::Source.accepts(text)
}

#[cfg(test)]
mod tests;
