//! What storing and reading cost, through the real server on loopback: `cargo bench -p zibrato-local`.
//!
//! Metrics x 10 sources get one point a second for an hour of simulated time, in POSTs of 300 points;
//! a gauge and a timer have a whole day behind them, and 20 metrics x 10 sources a day before that with a
//! point a minute, of which only the room they take is measured. Prints one `name value unit` a line, and fails
//! if a target is missed: a POST in 10 ms (median), a chart over 24 h in 100 ms (worst), 20 bytes a
//! point once it is packed and rolled up.
//!
//! `ZIBRATO_BENCH_METRICS` sets the number of metrics (default 100; 1000 makes 36 M points and takes
//! some minutes and 1 GB of disk), `ZIBRATO_BENCH_SECONDS` the simulated time (default 3600).
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark reports on stdout and may panic")]

#[path = "store/client.rs"]
mod client;
#[path = "store/plain.rs"]
mod plain;

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use client::Client;
use rusqlite::{Connection, OpenFlags};
use zibrato_local::Config;
use zibrato_service::Shutdown;

const SOURCES: i64 = 10;
/// The metrics with a point a minute.
const SPARSE_METRICS: i64 = 20;
const POINTS_PER_POST: usize = 300;
const DAY_S: i64 = 86_400;
const POST_MS_MAX: f64 = 10.0;
const CHART_MS_MAX: f64 = 100.0;
const BYTES_PER_POINT_MAX: f64 = 20.0;

/// The simulated time, which the store packs by.
static NOW: AtomicI64 = AtomicI64::new(0);

fn main() -> ExitCode {
    let setting = |name, default| std::env::var(name).map_or(default, |text: String| text.parse().unwrap());
    let (metrics, seconds) = (setting("ZIBRATO_BENCH_METRICS", 100), setting("ZIBRATO_BENCH_SECONDS", 3_600));
    let directory = tempfile::tempdir().unwrap();
    let db = directory.path().join("local.db");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let shutdown = Shutdown::new();
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let end = wall / 3_600 * 3_600;
    let begin = end - seconds;
    NOW.store(end - 2 * DAY_S, Ordering::Relaxed);
    let config = Config {
        max_age_s: 3 * DAY_S as u64,
        clock: || NOW.load(Ordering::Relaxed),
        ..Config::new("127.0.0.1:0".parse().unwrap(), &db)
    };
    let running = runtime.block_on(zibrato_local::start(config, shutdown.clone())).unwrap();
    let mut run = Run { client: Client::connect(running.addr), noise: 1, post_ms: Vec::new() };

    let bytes_empty = bytes(&db);
    run.sparse_day(end - 2 * DAY_S, end - DAY_S);
    NOW.store(end - DAY_S + 1_200, Ordering::Relaxed);
    wait_until_packed(&db, end - DAY_S);
    // The server closes a connection that idles.
    run.client = Client::connect(running.addr);
    let sparse_points = SPARSE_METRICS * SOURCES * DAY_S / 60;
    let bytes_per_sparse_point = (bytes(&db) - bytes_empty) as f64 / sparse_points as f64;
    run.fill_day(end - DAY_S, begin);
    // The last blocks of the day wait for their time.
    wait_until_packed(&db, begin - 1_200);
    let bytes_before = bytes(&db);
    run.post_ms.clear();
    let started = Instant::now();
    run.hour(metrics, begin, end);
    let points = metrics * SOURCES * seconds;
    let rate = points as f64 / started.elapsed().as_secs_f64();
    let post_ms = sorted(&mut run.post_ms);
    let charts_live = run.charts(end, metrics);
    NOW.store(end + 3_600, Ordering::Relaxed);
    wait_until_packed(&db, end);
    let bytes_per_point = (bytes(&db) - bytes_before) as f64 / points as f64;
    let charts_packed = run.charts(end, metrics);
    shutdown.request();
    runtime.block_on(running.join()).unwrap();

    let plain = plain::measure(&directory.path().join("plain.db"), &mut || run.noise(), end);
    let chart_ms = charts_live.iter().chain(&charts_packed).map(|(_, ms)| *ms).fold(0.0, f64::max);
    println!("points {points}");
    println!("points_per_second {rate:.0}");
    for (name, quantile) in [("median", 0.5), ("p95", 0.95), ("p99", 0.99), ("p999", 0.999), ("max", 1.0)] {
        let ms = at(&post_ms, quantile);
        println!("post_300_{name} {ms:.2} ms {:.2} x plain", ms / at(&plain.insert_ms, quantile));
    }
    for (when, charts) in [("live", &charts_live), ("packed", &charts_packed)] {
        for (name, ms) in charts {
            println!("chart_24h_{name}_{when} {ms:.1} ms {:.3} x plain", ms / plain.chart_ms);
        }
    }
    println!(
        "bytes_per_point {bytes_per_point:.2} bytes {:.3} x plain",
        bytes_per_point / plain.bytes_per_point
    );
    println!("bytes_per_point_a_minute {bytes_per_sparse_point:.2} bytes");
    println!("plain_insert_300_median {:.2} ms", at(&plain.insert_ms, 0.5));
    println!("plain_chart_24h {:.1} ms", plain.chart_ms);
    println!("plain_bytes_per_point {:.1} bytes", plain.bytes_per_point);
    let mut missed = ExitCode::SUCCESS;
    for (name, value, most) in [
        ("post_300_median", at(&post_ms, 0.5), POST_MS_MAX),
        ("chart_24h", chart_ms, CHART_MS_MAX),
        ("bytes_per_point", bytes_per_point, BYTES_PER_POINT_MAX),
    ] {
        if value > most {
            println!("missed: {name} is {value:.2}, more than {most}");
            missed = ExitCode::FAILURE;
        }
    }
    missed
}

struct Run {
    client: Client,
    noise: u64,
    post_ms: Vec<f64>,
}

impl Run {
    /// A number from 0 to 1, in order but without one.
    fn noise(&mut self) -> f64 {
        self.noise =
            self.noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.noise >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A point a minute of each metric from all sources.
    fn sparse_day(&mut self, begin: i64, end: i64) {
        let mut post = Post::default();
        for t in (begin..end).step_by(60) {
            NOW.store(t, Ordering::Relaxed);
            for metric in 0..SPARSE_METRICS {
                let name = format!("sparse.metric.{metric}");
                for source in 0..SOURCES {
                    let value = self.value(metric);
                    post.gauge(&name, source, t, value);
                    self.send_full(&mut post, POINTS_PER_POST * 10);
                }
            }
        }
        self.send_full(&mut post, 1);
    }

    /// A gauge with a point a second and a timer with a point a minute, each from all sources.
    fn fill_day(&mut self, begin: i64, end: i64) {
        let mut post = Post::default();
        for t in begin..end {
            NOW.store(t, Ordering::Relaxed);
            for source in 0..SOURCES {
                post.gauge("day.gauge", source, t, 20.0 + self.noise());
                if t % 60 == 0 {
                    let scatter = self.noise();
                    post.timer("day.timer", source, t, scatter);
                }
                self.send_full(&mut post, POINTS_PER_POST * 10);
            }
        }
        self.send_full(&mut post, 1);
    }

    /// The next value of a metric. A third of them each are counts, numbers with two decimals, and numbers
    /// with all the digits a double has.
    fn value(&mut self, metric: i64) -> f64 {
        let noise = self.noise();
        match metric % 3 {
            0 => (noise * 1_000.0).floor(),
            1 => (noise * 10_000.0).floor() / 100.0,
            _ => 50.0 + noise,
        }
    }

    /// A point a second of everything.
    fn hour(&mut self, metrics: i64, begin: i64, end: i64) {
        let mut post = Post::default();
        let names: Vec<String> = (0..metrics).map(|metric| format!("bench.metric.{metric}")).collect();
        for t in begin..end {
            NOW.store(t, Ordering::Relaxed);
            for (metric, name) in (0..).zip(&names) {
                for source in 0..SOURCES {
                    let value = self.value(metric);
                    post.gauge(name, source, t, value);
                    self.send_full(&mut post, POINTS_PER_POST);
                }
            }
            for source in 0..SOURCES {
                post.gauge("day.gauge", source, t, 20.0 + self.noise());
                if t % 60 == 0 {
                    let scatter = self.noise();
                    post.timer("day.timer", source, t, scatter);
                }
            }
        }
        self.send_full(&mut post, 1);
    }

    fn send_full(&mut self, post: &mut Post, least: usize) {
        if post.points < least {
            return;
        }
        let body = std::mem::take(post).body();
        let begun = Instant::now();
        let status = self.client.post("/v1/metrics", &body);
        self.post_ms.push(begun.elapsed().as_secs_f64() * 1e3);
        assert_eq!(status, 200);
    }

    /// The time of each kind of chart over the day before `end`: the median of a few, in ms.
    fn charts(&mut self, end: i64, metrics: i64) -> Vec<(&'static str, f64)> {
        let begin = end - DAY_S;
        let some = format!("bench.metric.{}", metrics / 2);
        let page = |what: &str, metric: &str, rest: &str| {
            format!("/page/{what}?metric={metric}&start={begin}&end={end}&{rest}")
        };
        let charts = [
            ("gauge_1min", page("data", "day.gauge", "step=60")),
            ("gauge_5min_by_source", page("data", "day.gauge", "step=300&by=source")),
            ("timer_1min", page("data", "day.timer", "step=60")),
            ("timer_5min_by_source", page("data", "day.timer", "step=300&by=source")),
            ("timer_picture", page("chart.svg", "day.timer", "width=1600")),
            ("timer_heat_map", page("chart.svg", "day.timer", "width=1600&view=heat")),
            ("hour_old_gauge_picture", page("chart.svg", &some, "width=1600")),
            (
                "api_gauge_5min",
                format!("/v1/metrics/day.gauge?start_time={begin}&end_time={end}&resolution=300"),
            ),
        ];
        let time = |client: &mut Client, path: &str| {
            let begun = Instant::now();
            let (status, body) = client.call("GET", path, "");
            assert!(status == 200 && body.len() > 1_000, "{path} {status} {body}");
            begun.elapsed().as_secs_f64() * 1e3
        };
        charts
            .into_iter()
            .map(|(name, path)| {
                let mut times: Vec<f64> = (0..9).map(|_| time(&mut self.client, &path)).collect();
                (name, at(&sorted(&mut times), 0.5))
            })
            .collect()
    }
}

#[derive(Default)]
struct Post {
    gauges: String,
    points: usize,
}

impl Post {
    fn gauge(&mut self, name: &str, source: i64, t: i64, value: f64) {
        let rest = format_args!(r#""value":{value}}}"#).to_string();
        self.add(name, source, t, &rest);
    }

    /// Some 40 buckets around 10 ms, as a worker posts them.
    fn timer(&mut self, name: &str, source: i64, t: i64, scatter: f64) {
        let counts: Vec<String> =
            (0..40).map(|i| format!("{:.0}", (1.0 + scatter) * f64::from(20 - i32::abs(i - 20)))).collect();
        let count: f64 = counts.iter().map(|count| count.parse::<f64>().unwrap()).sum();
        let (sum, squares) = (count * 0.01, count * 0.000_101);
        let rest = format!(
            r#""count":{count},"sum":{sum},"min":0.0061,"max":0.0152,"sum_squares":{squares},"buckets":{{"scale":5,"offset":-233,"counts":[{}],"zero":0}}}}"#,
            counts.join(",")
        );
        self.add(name, source, t, &rest);
    }

    fn add(&mut self, name: &str, source: i64, t: i64, rest: &str) {
        let comma = if self.points == 0 { "" } else { "," };
        write!(self.gauges, r#"{comma}{{"name":"{name}","source":"host-{source}","measure_time":{t},{rest}"#)
            .unwrap();
        self.points += 1;
    }

    fn body(self) -> String {
        format!(r#"{{"gauges":[{}]}}"#, self.gauges)
    }
}

/// Waits until the tail has nothing before `t`.
fn wait_until_packed(db: &Path, t: i64) {
    let connection = Connection::open_with_flags(db, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let deadline = Instant::now() + Duration::from_secs(600);
    loop {
        let oldest: Option<i64> =
            connection.query_row("SELECT min(slot) * 10 FROM tail", (), |row| row.get(0)).unwrap();
        if oldest.is_none_or(|oldest| oldest >= t) {
            return;
        }
        assert!(Instant::now() < deadline, "the packer does not keep up");
        std::thread::yield_now();
    }
}

/// Bytes of the database that are in use.
fn bytes(db: &Path) -> i64 {
    let connection = Connection::open_with_flags(db, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
    (pragma("page_count") - pragma("freelist_count")) * pragma("page_size")
}

fn sorted(values: &mut [f64]) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values.to_vec()
}

/// The value at a quantile of sorted values.
fn at(sorted: &[f64], quantile: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * quantile) as usize]
}
