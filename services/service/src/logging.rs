//! Logs: lines with fields, on stderr.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Sends this process's logs to stderr.
///
/// `RUST_LOG` sets the filter; without it, or if it cannot be parsed (which is said once), it is
/// `default_filter`, for example `"info"`. Colours appear only if stderr is a terminal and `NO_COLOR` is unset
/// or empty. A second call changes nothing.
pub fn init_logging(default_filter: &str) {
    let (filter, unreadable) = match std::env::var("RUST_LOG") {
        Ok(given) if !given.trim().is_empty() => match EnvFilter::try_new(&given) {
            Ok(filter) => (filter, None),
            Err(_) => (EnvFilter::new(default_filter), Some(given)),
        },
        _ => (EnvFilter::new(default_filter), None),
    };
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let installed = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(!plain && std::io::stderr().is_terminal())
        .try_init()
        .is_ok();
    if let (true, Some(given)) = (installed, unreadable) {
        tracing::warn!(RUST_LOG = given, using = default_filter, "unreadable log filter");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn initialising_twice_is_harmless() {
        super::init_logging("info");
        super::init_logging("not a filter ===");
        tracing::info!("still here");
    }
}
