//! Publishes for devices that have a line and no network.
//!
//! ```text
//! device -> port -> line -> session -> boot -> outlet -> broker
//!           frames  |       |          |       |
//!                   numbers boots      series  windows, key and end frames
//! ```
//!
//! A device speaks the link of WIRE.md section 13. Each of its boots is a publisher, as a run of a program is one.
//! Link frames carry cumulative state, so a lost one changes no count once the next has come, and a gateway that is
//! restarted goes on where the one before was: the publisher's id, its numbers and its state follow
//! from what the device says.
//!
//! Every device has a thread that owns its port, its state and its ZeroMQ sockets; [`run`] is these and the status
//! endpoint. The modules stand in the order in which bytes pass through them.

mod config;
mod moment;

mod backoff;
mod capture;
mod port;

mod line;

mod boot;
mod device_clock;
mod gauge;
mod identity;
mod timer;

mod mask;

mod counts;
mod device;

mod status;

mod run;

pub use capture::CaptureError;
pub use config::{Args, Config, ConfigError, DeviceConfig, PortConfig};
pub use counts::DeviceCounts;
pub use device::DeviceError;
pub use port::PortError;
pub use run::{RunError, Running, run, start};
pub use status::{DeviceStatus, Status};

/// Most devices of one gateway: each has a thread and some sockets.
pub const DEVICES_MAX: usize = 64;
/// Most metrics of one device; further ones are refused and counted.
pub const DESCRIPTORS_MAX: usize = 1_024;
