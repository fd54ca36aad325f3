//! Which devices, and by which sources they go.

use std::path::{Path, PathBuf};

use zibrato_core::limits::SOURCE_BYTES_MAX;
use zibrato_core::text::is_name_byte;

use super::is_source;

/// What is known of a device before its port is open.
#[derive(Clone, PartialEq, Debug)]
pub struct DeviceConfig {
    /// Source of its metrics, and its name in logs and metrics.
    pub source: String,
    /// How it is reached.
    pub port: PortConfig,
    /// File to record its bytes in.
    pub record: Option<PathBuf>,
}

/// How a device is reached.
#[derive(Clone, PartialEq, Debug)]
pub enum PortConfig {
    /// A serial port.
    Serial {
        /// Path of the device file.
        path: String,
        /// Bits a second.
        baud: u32,
    },
    /// A TCP connection that the gateway makes.
    Tcp {
        /// `HOST:PORT`.
        addr: String,
    },
    /// A pseudo-terminal that the gateway makes.
    Pty,
    /// Standard input.
    Stdin,
    /// A recording.
    Replay {
        /// The file.
        path: PathBuf,
        /// How many times as fast as it was recorded; 0 as fast as possible.
        speed: f64,
    },
}

impl PortConfig {
    /// Whether it ends by itself, so that it is not opened again.
    #[must_use]
    pub const fn is_finite(&self) -> bool {
        matches!(self, Self::Stdin | Self::Replay { .. })
    }
}

impl std::fmt::Display for PortConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Serial { path, baud } => write!(f, "{path} at {baud} baud"),
            Self::Tcp { addr } => f.write_str(addr),
            Self::Pty => f.write_str("pty"),
            Self::Stdin => f.write_str("stdin"),
            Self::Replay { path, .. } => write!(f, "{}", path.display()),
        }
    }
}

/// What follows a flag: a source, if one was given, and the rest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Named {
    /// In front of the `=`.
    pub source: Option<String>,
    /// Behind it.
    pub what: String,
}

/// Splits `NAME=REST`. A path may hold an `=` too: what stands before the first one is a name only if it may
/// be one.
pub(super) fn parse_named(text: &str) -> Result<Named, String> {
    let named = match text.split_once('=') {
        Some((name, rest)) if is_source(name) => {
            Named { source: Some(name.to_owned()), what: rest.to_owned() }
        }
        _ => Named { source: None, what: text.to_owned() },
    };
    if named.what.is_empty() {
        return Err("accepted are NAME=PATH and PATH, and PATH is missing".to_owned());
    }
    Ok(named)
}

pub(super) fn parse_tcp(text: &str) -> Result<Named, String> {
    let named = parse_named(text)?;
    let port = named.what.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    match port.and_then(|(_, port)| port.parse::<u16>().ok()).filter(|&port| port > 0) {
        Some(_) => Ok(named),
        None => Err("accepted are HOST:PORT with a port from 1 to 65535, and NAME=HOST:PORT".to_owned()),
    }
}

pub(super) fn parse_source(text: &str) -> Result<String, String> {
    if is_source(text) {
        Ok(text.to_owned())
    } else {
        Err("accepted are 1 to 255 of A-Z a-z 0-9 . : _ -".to_owned())
    }
}

pub(super) fn source_of_path(path: &str) -> String {
    let last = Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned());
    sanitised(last.as_deref().unwrap_or(path))
}

pub(super) fn source_of_file(path: &str) -> String {
    let stem = Path::new(path).file_stem().map(|name| name.to_string_lossy().into_owned());
    sanitised(stem.as_deref().unwrap_or(path))
}

pub(super) fn source_of_addr(addr: &str) -> String {
    sanitised(addr)
}

/// `text` with what no source may have made `_`, and cut to the longest one.
fn sanitised(text: &str) -> String {
    let kept = |byte: u8| if is_name_byte(byte) { char::from(byte) } else { '_' };
    let source: String = text.bytes().take(SOURCE_BYTES_MAX).map(kept).collect();
    if source.is_empty() { "device".to_owned() } else { source }
}
