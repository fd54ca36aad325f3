//! Flushes of many counters to VictoriaMetrics: how long one takes, and what the worker needs for it.

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
    fn round(&mut self, round: u64, series: u64) -> Duration {
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
        let stored = (round * series) as f64;
        until_within(WAIT, "a stored flush", || {
            std::thread::sleep(POLL);
            (now_ms() >= due_ms && self.delivered() >= stored).then_some(())
        });
        Duration::from_millis(now_ms() - due_ms)
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
    let times: Vec<_> = (1..=FLUSHES).map(|round| way.round(round, SERIES)).collect();
    let sum: f64 = way.store.query("sum({__name__=~\"bench_.*\"})").iter().map(|(_, sum)| sum).sum();
    println!("flushes of {SERIES} counters to VictoriaMetrics: {times:?}");
    assert_eq!(sum, (SERIES * FLUSHES) as f64, "what VictoriaMetrics has of them");
    let longest = *times.iter().max().unwrap();
    (longest > FLUSH_MAX)
        .then(|| format!("a flush of {SERIES} series took {longest:?}, at most {FLUSH_MAX:?} are accepted"))
}

/// What the worker has resident at most.
pub(crate) fn a_million_series() -> Option<String> {
    let mut way = Way::start(Duration::from_secs(60), 2_000_000);
    let times: Vec<_> = (1..=2).map(|round| way.round(round, MANY_SERIES)).collect();
    // When nothing changes any more, all of them are told again in one flush.
    let told = way.points() + MANY_SERIES as f64;
    until_within(2 * WAIT, "series told again", || {
        std::thread::sleep(POLL);
        (way.points() >= told).then_some(())
    });
    let (now, most) = (way.worker.process.resident_bytes(), way.worker.process.resident_bytes_max());
    println!(
        "{MANY_SERIES} counters: {} MiB resident at most, {} MiB at rest, flushes {times:?}",
        most >> 20,
        now >> 20
    );
    (most > MANY_BYTES_MAX)
        .then(|| format!("{MANY_SERIES} counters took {most} B, at most {MANY_BYTES_MAX} are accepted"))
}
