//! Series without number: the limits of a worker, who is over them, and series that are forgotten.
//!
//! The worker's wall clock is moved from flush to flush, so that a test decides what is in one.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "support of tests: what fails here fails a test")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use tempfile::TempDir;
use zibrato_e2e::{
    Backend, Broker, Clock, Delivery, Format, Metrics, PortPair, Process, Worker, command, directory, each,
    field, until,
};

/// Where the worker's clock begins: at a multiple of all intervals here.
const START_S: u64 = 1_900_000_200;
/// Of tests that have time.
const FLUSH_S: u64 = 600;
/// The bits of Prometheus' stale marker, which is a NaN.
const STALE: u64 = 0x7ff0_0000_0000_0002;

/// One program of each sort.
#[derive(Debug)]
struct Kind {
    program: &'static str,
    flags: &'static [&'static str],
    format: Format,
    /// Whether it tells what series have come to, and not by how much they changed.
    totals: bool,
    /// The name of a metric as this store has it.
    name: fn(&str) -> String,
}

static KINDS: [Kind; 2] = [
    Kind {
        program: "zibrato-prometheus",
        flags: &["--instance", "w1"],
        format: Format::RemoteWrite,
        totals: true,
        name: |name| name.replace('.', "_"),
    },
    Kind {
        program: "zibrato-influx",
        flags: &["--database", "shop"],
        format: Format::Influx,
        totals: false,
        name: str::to_owned,
    },
];

/// Does the same with a program of each sort at the same time.
fn each_kind(flush_s: u64, limits: &[&str], test: impl Fn(Rig) + Sync) {
    let kinds: Vec<&'static Kind> = KINDS.iter().collect();
    each(&kinds, |kind| kind.program.to_owned(), |kind| test(Rig::start(kind, flush_s, limits)));
}

/// The worker's clock, which is put forward to the next flush.
struct FlushClock {
    clock: Clock,
    flush_s: u64,
    at_s: u64,
}

impl FlushClock {
    fn new(directory: &Path, flush_s: u64) -> Self {
        Self { clock: Clock::new(directory, ahead_s(START_S)), flush_s, at_s: START_S }
    }

    /// Goes on to the next flush.
    fn go_on(&mut self) {
        self.at_s += self.flush_s;
        self.clock.set(ahead_s(self.at_s));
    }
}

/// How far ahead of now it is, in seconds.
fn ahead_s(at_s: u64) -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    (Duration::from_secs(at_s) - now).as_secs_f64()
}

/// What stores know of a series: its name, its source, and all else that tells it from others.
type Key = (String, String, String);

/// A broker, a worker with limits and the store it writes to.
struct Rig {
    kind: &'static Kind,
    args: Vec<String>,
    clock: FlushClock,
    backend: Backend,
    worker: Worker,
    broker: Broker,
    ports: PortPair,
    _home: TempDir,
}

impl Rig {
    fn start(kind: &'static Kind, flush_s: u64, limits: &[&str]) -> Self {
        let (home, ports, backend) = (directory(), PortPair::reserve(), Backend::start([]));
        let (broker, clock) = (Broker::on(&ports), FlushClock::new(home.path(), flush_s));
        let (spool, flush) = (home.path().join("spool"), flush_s.to_string());
        let own = ["--endpoint", &broker.workers, "--url", &backend.url, "--spool", spool.to_str().unwrap()];
        let own = own.into_iter().chain(["--flush", &flush]);
        let args: Vec<String> =
            own.chain(kind.flags.iter().chain(limits).copied()).map(str::to_owned).collect();
        let worker = worker(kind, &args, &clock);
        broker.subscribed(1);
        Self { kind, args, clock, backend, worker, broker, ports, _home: home }
    }

    /// Ends the worker and starts it again with what it has spooled.
    fn restarted(self) -> Self {
        let Self { kind, args, clock, backend, worker: old, broker, ports, _home } = self;
        old.finish();
        let worker = worker(kind, &args, &clock);
        broker.subscribed(1);
        let rig = Self { kind, args, clock, backend, worker, broker, ports, _home };
        // What the broker holds for it comes first, and is counted as what is sent later.
        until("a replay", || {
            (rig.metric("replay_pages_total") > 0.0 && rig.metric("messages_total") > 0.0).then_some(())
        });
        rig
    }

    fn metric(&self, name: &str) -> f64 {
        self.worker.metrics().sum(&format!("zibrato_worker_{name}"), &[])
    }

    /// Publishes lines of `KIND NAME VALUE LEVEL SOURCE` or JSON, and waits until the worker has all of them.
    fn send(&self, lines: impl IntoIterator<Item = String>) {
        let forwarded = || self.broker.metrics().sum("zibrato_broker_forwarded_total", &[("level", "info")]);
        let before = (forwarded(), self.metric("messages_total"));
        let mut send =
            Process::start("zibrato", &["send", "--port", &self.ports.port.to_string(), "--timeout", "20"]);
        lines.into_iter().for_each(|line| send.tell(&line));
        send.close_stdin();
        let ended = send.wait();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        until("what was sent at the worker", || {
            let (forwarded, received) = (forwarded() - before.0, self.metric("messages_total") - before.1);
            (forwarded > 0.0 && received >= forwarded).then_some(())
        });
    }

    /// Lets time pass until the next flush was made and stored.
    fn flush(&mut self) {
        let before = self.metric("flushes_total");
        self.clock.go_on();
        until("a flush", || (self.metric("flushes_total") > before).then_some(()));
        until("an empty spool", || (self.metric("spool_batches") == 0.0).then_some(()));
    }

    /// What each series came to in the store, over all of its lives, and how many of them ended.
    fn stored(&self) -> BTreeMap<Key, (f64, usize)> {
        let mut series: BTreeMap<Key, (f64, usize, f64)> = BTreeMap::new();
        let bodies = self.backend.stored().into_iter().map(|request| request.body);
        for point in bodies.flat_map(|body| self.kind.format.points(&body)) {
            let labels = point.series.replace(", ", ",").replace('"', "");
            let pick = |key: &str| {
                // A line of InfluxDB goes on with the values.
                let mut labels = labels.split(' ').next().unwrap_or_default().split(['{', ',', '}']);
                labels.find_map(|label| label.strip_prefix(key)).unwrap_or_default().to_owned()
            };
            let key = (point.name, pick("source="), pick("route="));
            let (sum, ends, last) = series.entry(key).or_default();
            if point.value.to_bits() == STALE {
                (*ends, *last) = (*ends + 1, 0.0);
            } else if self.kind.totals {
                assert!(point.value >= *last, "{} went from {last} to {}", point.series, point.value);
                (*sum, *last) = (*sum + point.value - *last, point.value);
            } else {
                *sum += point.value;
            }
        }
        series.into_iter().map(|(key, (sum, ends, _))| (key, (sum, ends))).collect()
    }

    /// Asserts that these series are in the store and no other, with this sum each.
    #[track_caller]
    fn assert_stored(&self, expected: &[(&str, &str, &str, f64)]) {
        let stored: Vec<_> = self.stored().into_iter().map(|(key, (sum, _))| (key, sum)).collect();
        let mut expected: Vec<_> = expected
            .iter()
            .map(|&(name, source, route, sum)| {
                (((self.kind.name)(name), source.to_owned(), route.to_owned()), sum)
            })
            .collect();
        expected.sort_by(|(one, _), (other, _)| one.cmp(other));
        assert_eq!(stored, expected, "{}", self.kind.program);
    }

    fn finish(self) -> Delivery {
        let delivery = self.worker.finish();
        self.broker.finish();
        let is_whole = [" refused [none]", " dropped [none]"].iter().all(|part| delivery.line.contains(part));
        assert!(delivery.held == 0 && is_whole, "{}", delivery.line);
        delivery
    }
}

fn worker(kind: &Kind, args: &[String], clock: &FlushClock) -> Worker {
    let mut command = command(kind.program);
    clock.clock.show_to(command.args(args));
    Worker::spawn(command)
}

fn counter(name: &str, source: &str, value: u64) -> String {
    format!("counter {name} {value} info {source}")
}

fn timer(name: &str, source: &str) -> String {
    format!("timer {name} 1ms info {source}")
}

fn tagged(name: &str, source: &str, route: &str, value: u64) -> String {
    json!({ "kind": "counter", "name": name, "value": value, "source": source, "tags": { "route": route } })
        .to_string()
}

/// The lines of the log that name who is over a limit.
fn naming(stderr: &str) -> Vec<(String, String)> {
    let lines = stderr.lines().filter(|line| line.contains("series beyond the limit were folded"));
    lines.map(|line| (field(line, "metric").to_owned(), field(line, "series").to_owned())).collect()
}

#[test]
fn series_beyond_the_limit_of_their_metric_share_one_and_nothing_is_lost() {
    each_kind(FLUSH_S, &["--metric-series-max", "3"], |mut rig| {
        // Powers of two: a sum says which of them are in it.
        let hits = |from: u32| {
            let sources = ["a", "b", "c", "d"].into_iter().enumerate();
            let plain = sources.map(move |(at, source)| counter("hits", source, 1 << (from + at as u32)));
            plain.chain(
                ["x", "y", "z"]
                    .into_iter()
                    .enumerate()
                    .map(move |(at, route)| tagged("hits", "a", route, 1 << (from + 4 + at as u32))),
            )
        };
        let lat = || ["a", "b", "c", "d", "e", "e"].map(|source| timer("lat", source));
        rig.send(hits(0).chain(lat()).chain([counter("misses", "z", 5)]));
        rig.flush();
        let first = [
            ("hits", "a", "", 1.0),
            ("hits", "a", "x", 16.0),
            ("hits", "a", "y", 32.0),
            ("hits", "overflow", "", 2.0 + 4.0 + 8.0 + 64.0),
            ("lat", "a", "", 1.0),
            ("lat", "b", "", 1.0),
            ("lat", "c", "", 1.0),
            ("lat", "overflow", "", 3.0),
            ("misses", "z", "", 5.0),
        ];
        rig.assert_stored(&first);
        assert_eq!(rig.metric("series_overflowed_total"), 4.0 + 2.0);

        // What is known stays by itself, and what is not goes to the others, also those that come back.
        let mut rig = rig.restarted();
        rig.send(hits(8).chain(lat()).chain([counter("hits", "A", 1 << 16)]));
        rig.flush();
        let stored = rig.stored();
        let hits: f64 = stored.iter().filter(|(key, _)| key.0 == "hits").map(|(_, (sum, _))| sum).sum();
        let lat: f64 = stored.iter().filter(|(key, _)| key.0 == "lat").map(|(_, (sum, _))| sum).sum();
        assert_eq!((hits, lat), (127.0 + 127.0 * 256.0 + 65_536.0, 12.0), "{stored:?}");
        if rig.kind.totals {
            // Only totals have to be known after a restart.
            rig.assert_stored(&[
                ("hits", "a", "", 257.0),
                ("hits", "a", "x", 16.0 * 257.0),
                ("hits", "a", "y", 32.0 * 257.0),
                ("hits", "overflow", "", 78.0 * 257.0 + 65_536.0),
                ("lat", "a", "", 2.0),
                ("lat", "b", "", 2.0),
                ("lat", "c", "", 2.0),
                ("lat", "overflow", "", 6.0),
                ("misses", "z", "", 5.0),
            ]);
            assert_eq!(rig.metric("series_overflowed_total"), 5.0 + 2.0);
        }
        rig.finish();
    });
}

#[test]
fn beyond_the_limit_in_total_metrics_that_nobody_knows_share_one_series_of_each_kind() {
    each_kind(FLUSH_S, &["--series-max", "4"], |mut rig| {
        let metrics = ["m1", "m2", "m3", "m4", "m5", "m6"].into_iter().enumerate();
        let all = metrics.map(|(at, name)| counter(name, "web", 1 << at));
        rig.send(all.chain([counter("m1", "api", 64), timer("t1", "web"), timer("t2", "web")]));
        rig.flush();
        let first = [
            ("m1", "web", "", 1.0),
            ("m1", "api", "", 64.0),
            ("m2", "web", "", 2.0),
            ("m3", "web", "", 4.0),
            ("zibrato.overflow.counter", "overflow", "", 8.0 + 16.0 + 32.0),
            ("zibrato.overflow.timer", "overflow", "", 2.0),
        ];
        rig.assert_stored(&first);
        // A metric that is known keeps its name.
        rig.send([counter("m2", "api", 1_000), counter("m7", "web", 128), counter("m3", "web", 40)]);
        rig.flush();
        rig.assert_stored(&[
            ("m1", "web", "", 1.0),
            ("m1", "api", "", 64.0),
            ("m2", "web", "", 2.0),
            ("m2", "overflow", "", 1_000.0),
            ("m3", "web", "", 44.0),
            ("zibrato.overflow.counter", "overflow", "", 56.0 + 128.0),
            ("zibrato.overflow.timer", "overflow", "", 2.0),
        ]);
        assert_eq!(rig.metric("series_overflowed_total"), 5.0 + 2.0);
        let delivery = rig.finish();
        assert!(delivery.line.contains(" counter_sum 1295 timer_records 2 "), "{}", delivery.line);
    });
}

#[test]
fn the_metric_with_most_series_beyond_its_limit_is_named_once_a_minute() {
    each_kind(25, &["--metric-series-max", "1"], |mut rig| {
        let offenders = |metrics: &Metrics| -> Vec<String> {
            let lines =
                metrics.page.lines().filter(|line| line.starts_with("zibrato_worker_series_offender{"));
            lines.map(str::to_owned).collect()
        };
        let offender = |metric: &str, series: u32| {
            let backend = rig.kind.program.trim_start_matches("zibrato-");
            vec![format!(
                "zibrato_worker_series_offender{{backend=\"{backend}\",metric=\"{metric}\"}} {series}"
            )]
        };
        let (first, second) = (offender("hits", 2), offender("misses", 3));
        let named = |metric: &str, series: u32| (metric.to_owned(), series.to_string());
        let many = |name: &'static str, series: usize| {
            ["a", "b", "c", "d"].into_iter().take(series).map(move |source| counter(name, source, 1))
        };
        rig.send(many("single", 1));
        rig.flush();
        assert_eq!(
            (offenders(&rig.worker.metrics()), naming(&rig.worker.process.stderr())),
            (vec![], vec![])
        );
        rig.send(many("hits", 3).chain(many("misses", 2)));
        rig.flush();
        assert_eq!(offenders(&rig.worker.metrics()), first);
        for _ in 0..2 {
            rig.send(many("hits", 3).chain(many("misses", 4)));
            rig.flush();
            assert_eq!(naming(&rig.worker.process.stderr()), [named("hits", 2)]);
            assert_eq!(offenders(&rig.worker.metrics()), first);
        }
        // The third flush after it is more than a minute later.
        rig.flush();
        assert_eq!(offenders(&rig.worker.metrics()), second);
        assert_eq!(naming(&rig.worker.process.stderr()), [named("hits", 2), named("misses", 3)]);
        let delivery = rig.finish();
        assert_eq!(naming(&delivery.stderr).len(), 2, "{}", delivery.stderr);
    });
}

#[test]
fn a_series_that_does_not_change_is_forgotten_makes_room_and_comes_back_right() {
    each_kind(25, &["--idle", "60", "--metric-series-max", "2"], |mut rig| {
        rig.send([
            counter("hits", "a", 1),
            counter("hits", "b", 2),
            counter("hits", "c", 4),
            timer("lat", "b"),
        ]);
        rig.flush();
        rig.send([counter("hits", "a", 8)]);
        rig.flush();
        rig.flush();
        assert_eq!(rig.metric("series_expired_total"), 0.0, "a flush too early");
        rig.flush();
        // Those of b, and what c was folded into.
        assert_eq!(rig.metric("series_expired_total"), 3.0);
        let ended = |rig: &Rig| -> Vec<Key> {
            let ended = rig.stored().into_iter().filter(|(_, (_, ends))| *ends > 0);
            ended.map(|(key, _)| key).collect()
        };
        let [b, lat, overflow] = [("hits", "b"), ("lat", "b"), ("hits", "overflow")]
            .map(|(name, source)| (name.to_owned(), source.to_owned(), String::new()));
        // Only who keeps totals has to be told.
        let expected = if rig.kind.totals { vec![b, overflow, lat] } else { Vec::new() };
        assert_eq!(ended(&rig), expected);

        rig.send([counter("hits", "c", 16), counter("hits", "a", 32)]);
        rig.flush();
        rig.send([counter("hits", "b", 64), timer("lat", "b")]);
        rig.flush();
        rig.assert_stored(&[
            ("hits", "a", "", 41.0),
            ("hits", "b", "", 2.0),
            ("hits", "c", "", 16.0),
            ("hits", "overflow", "", 4.0 + 64.0),
            ("lat", "b", "", 2.0),
        ]);
        assert_eq!(ended(&rig), expected, "none ended again");
        let delivery = rig.finish();
        assert!(delivery.line.contains(" counter_sum 127 timer_records 2 "), "{}", delivery.line);
    });
}
