//! Flushes of many counters to VictoriaMetrics: how long one takes, and what the worker needs for it.

use std::fmt;
use std::time::Duration;

use tempfile::TempDir;
use zibrato_core::frame::{Encoder, Entry, Header, Prelude, PublisherId, State};
use zibrato_e2e::{Broker, Publisher, VictoriaMetrics, Worker, directory, until_within};

use crate::now_ms;

const LEVEL: &str = "info";
/// Each is changed in each flush.
const SERIES: u64 = 100_000;
const FLUSHES: u64 = 3;
const FLUSH_MAX: Duration = Duration::from_secs(2);
const MANY_SERIES: u64 = 1_000_000;
const MANY_BYTES_MAX: u64 = 1 << 30;
/// Series of one source.
const METRICS: u64 = 1_000;
/// How much of what is slow is waited for.
const WAIT: Duration = Duration::from_secs(120);
/// Between two looks at the worker, which cost it time.
const POLL: Duration = Duration::from_millis(20);

/// How long a flush took, and the share of the processors' time that the host gave to others meanwhile. What misses a target
/// with a share above some hundredths says nothing, and is to be run again on a quieter host.
#[derive(Clone, Copy, Debug)]
struct Flush {
    took: Duration,
    stolen: f64,
}

impl fmt::Display for Flush {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} s ({:.0} % stolen)", self.took.as_secs_f64(), 100.0 * self.stolen)
    }
}

/// What the processors spent since the start of the machine, all of it and what the host gave to others.
fn processor_time() -> [f64; 2] {
    let text = std::fs::read_to_string("/proc/stat").unwrap();
    let fields: Vec<f64> =
        text.lines().next().unwrap().split_whitespace().skip(1).map(|field| field.parse().unwrap()).collect();
    // From user to steal; the two behind are parts of the first two.
    [fields[..8].iter().sum(), fields[7]]
}

/// Broker, worker and store, and a publisher of frames.
struct Way {
    store: VictoriaMetrics,
    worker: Worker,
    _broker: Broker,
    publisher: Publisher,
    flush: Duration,
    seq: u64,
    _home: TempDir,
}

impl Way {
    fn start(flush: Duration, series_max: u64) -> Self {
        let (home, store, broker) = (directory(), VictoriaMetrics::start(), Broker::start());
        let (flush_s, series_max) = (flush.as_secs().to_string(), series_max.to_string());
        let worker = Worker::of(
            "zibrato-prometheus",
            &[
                "--endpoint",
                &broker.workers,
                "--levels",
                LEVEL,
                "--url",
                &store.url,
                "--flush",
                &flush_s,
                "--series-max",
                &series_max,
                "--spool",
                home.path().to_str().unwrap(),
                "--spool-mib",
                "1024",
            ],
        );
        broker.subscribed(1);
        let publisher = Publisher::connect(&broker.publishers);
        publisher.probe(&broker, &[LEVEL]);
        Self { store, worker, _broker: broker, publisher, flush, seq: 0, _home: home }
    }

    /// Publishes a round of counters right behind a flush, and waits until the next one has been stored: how long that
    /// took from when it was due.
    fn round(&mut self, round: u64, series: u64) -> Flush {
        let flush_ms = self.flush.as_millis() as u64;
        let before = self.flushes();
        until_within(WAIT, "a flush", || (self.flushes() > before).then_some(()));
        for source in 0..series / METRICS {
            self.seq += 1;
            self.publisher.send_bytes(&frame(self.seq, round, source));
        }
        let due_ms = (now_ms() / flush_ms + 1) * flush_ms;
        let all = self.seq as f64;
        until_within(WAIT, "all frames", || {
            let frames = self.worker.metrics().sum("zibrato_worker_frames_total", &[]);
            (frames >= all).then_some(())
        });
        assert!(now_ms() < due_ms, "publishing {series} series took longer than {:?}", self.flush);
        until_within(WAIT, "the time of a flush", || (now_ms() >= due_ms).then_some(()));
        let [all_before, stolen_before] = processor_time();
        let stored = (round * series) as f64;
        until_within(WAIT, "a stored flush", || {
            std::thread::sleep(POLL);
            (self.delivered() >= stored).then_some(())
        });
        let took = Duration::from_millis(now_ms() - due_ms);
        let [all, stolen] = processor_time();
        Flush { took, stolen: (stolen - stolen_before) / (all - all_before).max(1.0) }
    }

    fn flushes(&self) -> f64 {
        self.worker.metrics().sum("zibrato_worker_flushes_total", &[])
    }

    fn points(&self) -> f64 {
        self.worker.metrics().sum("zibrato_worker_delivered_points_total", &[])
    }

    fn delivered(&self) -> f64 {
        self.worker.metrics().sum("zibrato_worker_delivered_counted", &[])
    }
}

fn frame(seq: u64, round: u64, source: u64) -> Vec<u8> {
    let source = format!("host-{source:04}");
    let header = Header::new(PublisherId([7; 16]), seq);
    let prelude =
        Prelude { window_end_ms: now_ms(), window_ms: 1_000, source: &source, ..Prelude::default() };
    let mut buffer = vec![0; 1 << 16];
    let mut encoder = Encoder::new(&mut buffer, LEVEL, &header, &prelude).unwrap();
    for metric in 0..METRICS {
        let name = format!("bench.service.requests_{metric:03}");
        encoder.push(&Entry::new(&name, State::Counter { sum: round })).unwrap();
    }
    encoder.finish().to_vec()
}

/// The longest of some flushes.
pub(crate) fn many_series() -> Option<String> {
    let mut way = Way::start(Duration::from_secs(5), 1_000_000);
    let flushes: Vec<_> = (1..=FLUSHES).map(|round| way.round(round, SERIES)).collect();
    let sum: f64 = way.store.query("sum({__name__=~\"bench_.*\"})").iter().map(|(_, sum)| sum).sum();
    println!("flushes of {SERIES} counters to VictoriaMetrics: {}", listed(&flushes));
    assert_eq!(sum, (SERIES * FLUSHES) as f64, "what VictoriaMetrics has of them");
    let longest = flushes.iter().max_by_key(|flush| flush.took).unwrap();
    (longest.took > FLUSH_MAX)
        .then(|| format!("a flush of {SERIES} series took {longest}, at most {FLUSH_MAX:?} are accepted"))
}

fn listed(flushes: &[Flush]) -> String {
    flushes.iter().map(Flush::to_string).collect::<Vec<_>>().join(", ")
}

/// What the worker has resident at most.
pub(crate) fn a_million_series() -> Option<String> {
    let mut way = Way::start(Duration::from_secs(60), 2_000_000);
    let flushes: Vec<_> = (1..=2).map(|round| way.round(round, MANY_SERIES)).collect();
    // When nothing changes any more, all of them are told again in one flush.
    let told = way.points() + MANY_SERIES as f64;
    until_within(2 * WAIT, "series told again", || {
        std::thread::sleep(POLL);
        (way.points() >= told).then_some(())
    });
    let (now, most) = (way.worker.process.resident_bytes(), way.worker.process.resident_bytes_max());
    println!(
        "{MANY_SERIES} counters: {} MiB resident at most, {} MiB at rest, flushes of all {}",
        most >> 20,
        now >> 20,
        listed(&flushes)
    );
    (most > MANY_BYTES_MAX)
        .then(|| format!("{MANY_SERIES} counters took {most} B, at most {MANY_BYTES_MAX} are accepted"))
}
