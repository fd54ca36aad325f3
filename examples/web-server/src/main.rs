//! An axum server whose handlers are counted and timed.
//!
//! Start a broker, a worker and a store in one process, then this server:
//!
//! ```text
//! zibrato up
//! web-server --listen 127.0.0.1:8080
//! ```
//!
//! Give it something to do, and look at what it measured:
//!
//! ```text
//! curl http://127.0.0.1:8080/hello/world
//! curl http://127.0.0.1:8080/work/250
//! curl -X POST --data-binary @Cargo.toml http://127.0.0.1:8080/upload
//! curl 'http://127.0.0.1:5580/v1/metrics?name=web.'
//! curl 'http://127.0.0.1:5580/v1/metrics/web.latency?count=10'
//! ```
//!
//! What each route shows is said at its handler. SIGTERM and Ctrl-C finish the requests under way,
//! send the last frame, and print what became of everything that was recorded.

mod routes;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use zibrato_std::{BuildError, Client};

/// How long the end of the client may take; a broker answers in milliseconds.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(2);

/// Serves a few routes and measures them.
///
/// Exit codes: 0 after a clean stop, 1 on a failure, 2 on bad usage.
#[derive(Clone, Debug, Parser)]
#[command(name = "web-server", version)]
struct Args {
    /// Address to listen on, as IP:PORT; port 0 takes a free one.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,

    /// The broker's port for publishers, as a ZeroMQ endpoint. It need not be there yet.
    #[arg(long, default_value = "tcp://127.0.0.1:5550")]
    endpoint: String,

    /// Source of all metrics: 1 to 255 of A-Z a-z 0-9 . : _ -
    #[arg(long, default_value = "web-server")]
    source: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            let _ = writeln!(io::stderr(), "web-server: error: {error}{cause}");
            // What is wrong with a setting is bad usage, the rest is a failure.
            let is_setting = error
                .downcast_ref::<BuildError>()
                .is_some_and(|error| !matches!(error, BuildError::Start { .. } | BuildError::AlreadyRunning));
            ExitCode::from(if is_setting { 2 } else { 1 })
        }
    }
}

async fn run(args: Args) -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::builder().endpoint(args.endpoint).source(args.source).build()?;
    // The handlers stand before anybody is told that the server is there.
    let stop = stop(signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let listener = TcpListener::bind(args.listen).await.map_err(|error| {
        format!("cannot listen on --listen {}; give a free address: {error}", args.listen)
    })?;
    // A closed standard output is no reason to stop.
    let _ = writeln!(io::stdout(), "listening on http://{}", listener.local_addr()?);
    axum::serve(listener, routes::router(&client)).with_graceful_shutdown(stop).await?;

    // Waits for the broker's answer, so it may not block a thread of the runtime.
    let stats = tokio::task::spawn_blocking(move || client.shutdown(SHUTDOWN_DEADLINE)).await?;
    let stats = stats.ok_or("the client gave no account of itself")?;
    let _ = writeln!(io::stderr(), "{stats}");
    Ok(())
}

async fn stop(mut terminate: Signal, mut interrupt: Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_its_help_names_defaults() {
        let mut command = Args::command();
        command.clone().debug_assert();
        let help = command.render_long_help().to_string();
        for text in ["127.0.0.1:8080", "tcp://127.0.0.1:5550", "Exit codes"] {
            assert!(help.contains(text), "{text} in {help}");
        }
    }
}
