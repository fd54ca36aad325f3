//! Records a known workload of all kinds over several windows, and ends.
//!
//! ```text
//! workload --endpoint tcp://127.0.0.1:5550 --source shop-1 --rounds 5
//! ```
//!
//! What it comes to is in `zibrato_e2e::Workload`. It waits until a worker subscribes to both its levels, and exits with 1
//! unless the broker acknowledged its end.
#![allow(clippy::unwrap_used, reason = "support of tests: what fails here fails a test")]

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Parser;
use zibrato_e2e::workload::{AUDIT, BYTES, LATENCIES, LATENCY_STEP, LOAD, ORDERS, depth};
use zibrato_std::{Client, Level};

/// Several rounds are to be in one flush, and several flushes in one run.
const PAUSE: Duration = Duration::from_millis(150);
const WAIT: Duration = Duration::from_secs(20);

/// Records a known workload and ends.
#[derive(Clone, Debug, Parser)]
#[command(name = "workload")]
struct Args {
    /// ZeroMQ endpoint of a broker.
    #[arg(long)]
    endpoint: String,

    /// Source of all metrics.
    #[arg(long)]
    source: String,

    /// How often all of it is recorded.
    #[arg(long)]
    rounds: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let builder =
        Client::builder().endpoint(&args.endpoint).source(&args.source).window(Duration::from_millis(50));
    let client = builder.build().unwrap();
    let audit = Level::named(AUDIT);
    let [a, b] =
        ORDERS.map(|(route, n)| (client.counter("shop.orders", Level::INFO).tag("route", route).get(), n));
    let bytes = client.counter("shop.bytes", audit).unit("B").get();
    let depth_gauge = client.gauge("shop.depth", Level::INFO).get();
    let load = client.gauge("shop.load", Level::INFO).get();
    let latency = client.timer("shop.latency", Level::INFO).get();
    for level in [Level::INFO, audit] {
        assert!(client.wait_subscribed(level, WAIT), "nobody subscribed to {level}");
    }
    for round in 1..=args.rounds {
        a.0.add(a.1);
        b.0.add(b.1);
        bytes.add(BYTES);
        depth_gauge.set(depth(round, args.rounds));
        load.set(LOAD);
        for at in 1..=LATENCIES {
            latency.record(LATENCY_STEP * at as u32);
        }
        thread::sleep(PAUSE);
    }
    let stats = client.shutdown(WAIT).unwrap();
    eprintln!("workload: {stats}");
    if stats.unacknowledged == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
