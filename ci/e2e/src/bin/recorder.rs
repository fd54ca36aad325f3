//! Records random values of all kinds until its standard input ends, then says what it recorded.
//!
//! ```text
//! recorder --endpoint tcp://127.0.0.1:5550 --source a --seed 7 --window-ms 20 --levels info,audit
//! ```
//!
//! Standard output gets one line of JSON: the series with their truth, which is counted beside the
//! metrics, and the client's account of itself.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "support of tests: what fails here fails a test"
)]

use std::io::{self, Read};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use clap::Parser;
use serde_json::{Value, json};
use zibrato_e2e::Random;
use zibrato_std::{Client, Counter, Gauge, Level, Stats, Timer};

/// Series of each kind and level.
const SERIES: u64 = 3;
/// Records after which the next series of each kind and level is in use, and the others rest: what
/// was lost of a series at rest comes only with a key frame.
const SERIES_EVERY: u64 = 700;
/// Records between two pauses.
const BURST: u64 = 20;
const PAUSE: Duration = Duration::from_millis(2);
const COUNT_MAX: u64 = 1_000;
/// The longest duration is below 2 to this power, in nanoseconds: a good second.
const DURATION_BITS: u64 = 30;

/// Records random values until its standard input ends, and prints what it recorded as JSON.
#[derive(Clone, Debug, Parser)]
#[command(name = "recorder")]
struct Args {
    /// ZeroMQ endpoint of a broker; may be repeated.
    #[arg(long, required = true)]
    endpoint: Vec<String>,

    /// Source of all metrics.
    #[arg(long, default_value = "recorder")]
    source: String,

    /// What the values depend on.
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Length of a window, in milliseconds.
    #[arg(long, default_value_t = 50)]
    window_ms: u64,

    /// Levels to record at, separated by commas.
    #[arg(long, default_value = "info", value_delimiter = ',')]
    levels: Vec<String>,

    /// Wait until a worker subscribes to every level, in milliseconds at most.
    #[arg(long, default_value_t = 0)]
    wait_subscribed_ms: u64,

    /// How long the end may take, in milliseconds.
    #[arg(long, default_value_t = 20_000)]
    shutdown_ms: u64,
}

/// The metrics of one level, and the truth of each.
struct Recorded {
    level: Level,
    counters: Vec<(&'static Counter, u64)>,
    timers: Vec<(&'static Timer, Times)>,
    gauges: Vec<(&'static Gauge, Sets)>,
}

#[derive(Clone, Copy, Default)]
struct Times {
    count: u64,
    sum_ns: u64,
}

#[derive(Clone, Copy, Default)]
struct Sets {
    count: u64,
    last: f64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let mut builder = Client::builder().source(&args.source).window(Duration::from_millis(args.window_ms));
    for endpoint in &args.endpoint {
        builder = builder.endpoint(endpoint);
    }
    let client = builder.build().unwrap();
    let mut levels: Vec<_> = args.levels.iter().map(|label| Recorded::new(&client, label)).collect();
    if args.wait_subscribed_ms > 0 {
        let timeout = Duration::from_millis(args.wait_subscribed_ms);
        for recorded in &levels {
            assert!(
                client.wait_subscribed(recorded.level, timeout),
                "nobody subscribed to {}",
                recorded.level
            );
        }
    }
    record(&mut levels, args.seed);
    let stats = client.shutdown(Duration::from_millis(args.shutdown_ms)).unwrap();
    let answer = answer(&args.source, &levels, &stats);
    println!("{answer}");
    eprintln!("recorder: {stats}");
    ExitCode::SUCCESS
}

/// Records until standard input ends.
fn record(levels: &mut [Recorded], seed: u64) {
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    thread::spawn(move || {
        // Whatever ends the input ends the recording, an error too.
        let _ = io::stdin().read_to_end(&mut Vec::new());
        seen.store(true, Ordering::Relaxed);
    });
    let mut random = Random::new(seed);
    let mut records = 0;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..BURST {
            records += 1;
            let at = (records / SERIES_EVERY % SERIES) as usize;
            let level = random.below(levels.len() as u64) as usize;
            levels[level].record(&mut random, at);
        }
        thread::sleep(PAUSE);
    }
}

impl Recorded {
    fn new(client: &Client, label: &str) -> Self {
        let level = Level::named(label.to_owned().leak());
        let name = |kind: &str, at: u64| format!("rec.{label}.{kind}.{at}");
        Self {
            level,
            counters: (0..SERIES).map(|at| (client.counter(&name("counter", at), level).get(), 0)).collect(),
            timers: (0..SERIES)
                .map(|at| (client.timer(&name("timer", at), level).get(), Times::default()))
                .collect(),
            gauges: (0..SERIES)
                .map(|at| (client.gauge(&name("gauge", at), level).get(), Sets::default()))
                .collect(),
        }
    }

    /// Makes one record in the series of a random kind.
    fn record(&mut self, random: &mut Random, at: usize) {
        match random.below(3) {
            0 => {
                let count = random.below(COUNT_MAX);
                let (counter, sum) = &mut self.counters[at];
                counter.add(count);
                *sum += count;
            }
            1 => {
                let bits = random.below(DURATION_BITS);
                let ns = random.below(1 << bits) + (1 << bits);
                let (timer, times) = &mut self.timers[at];
                timer.record(Duration::from_nanos(ns));
                times.count += 1;
                times.sum_ns += ns;
            }
            _ => {
                let value = random.below(1_000_000) as f64 / 8.0 - 50_000.0;
                let (gauge, sets) = &mut self.gauges[at];
                gauge.set(value);
                sets.count += 1;
                sets.last = value;
            }
        }
    }

    fn json(&self) -> Vec<Value> {
        let level = self.level.label();
        let mut rows = Vec::new();
        for (counter, sum) in &self.counters {
            rows.push(
                json!({"name": counter.metric().name(), "level": level, "kind": "counter", "sum": sum}),
            );
        }
        for (timer, Times { count, sum_ns }) in &self.timers {
            rows.push(json!({"name": timer.metric().name(), "level": level, "kind": "timer",
                "count": count, "sum_ns": sum_ns}));
        }
        for (gauge, Sets { count, last }) in &self.gauges {
            rows.push(json!({"name": gauge.metric().name(), "level": level, "kind": "gauge",
                "count": count, "last": last}));
        }
        rows
    }
}

fn answer(source: &str, levels: &[Recorded], stats: &Stats) -> Value {
    let series: Vec<_> = levels.iter().flat_map(Recorded::json).collect();
    json!({
        "source": source,
        "series": series,
        "law_holds": stats.law_holds(),
        "unacknowledged": stats.unacknowledged,
        "accepted": {
            "counters": stats.accepted.counters,
            "timers": stats.accepted.timers,
            "gauges": stats.accepted.gauges,
        },
        "delivered": {
            "counters": stats.delivered.counters,
            "timers": stats.delivered.timers,
            "gauges": stats.delivered.gauges,
        },
    })
}
