//! What a worker counts: the worker library's subscription and ledger, without a backend.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use zibrato_worker::ledger::{Config, Counts, Ledger};
use zibrato_worker::measurement::{Measurement, Value};
use zibrato_worker::subscription::{Incoming, Message, Subscription};

use crate::program::{DEADLINE, run};

/// A level of its own for what tells that everything before has come.
const MARK_LEVEL: &str = "mark";

/// A worker with an empty ledger.
pub(crate) struct Books {
    port: u16,
    marks: u32,
    messages: Receiver<Arc<Incoming>>,
    ledger: Ledger,
    _subscription: Subscription,
    _context: zmq::Context,
}

impl Books {
    /// Subscribes and waits until the broker has taken that in.
    pub(crate) fn open(port: u16, levels: &[&str]) -> Self {
        let context = zmq::Context::new();
        let levels: Vec<String> = levels.iter().chain([&MARK_LEVEL]).map(ToString::to_string).collect();
        let (sender, messages) = sync_channel(100_000);
        let endpoints = [format!("tcp://127.0.0.1:{}", port + 1)];
        let subscription =
            Subscription::start(&context, &endpoints, &levels, vec![("books".to_owned(), sender)]).unwrap();
        let mut ledger = Ledger::new(Config::default(), now_ms());
        levels.iter().for_each(|level| ledger.subscribe_level(level, now_ms()));
        let mut books =
            Self { port, marks: 0, messages, ledger, _subscription: subscription, _context: context };
        // A replay is answered behind the subscriptions, so they stand when it is done.
        books._subscription.request_replay(MARK_LEVEL);
        books.read_until("a replay", |message| matches!(message, Message::ReplayDone { .. }));
        books
    }

    /// Reads everything that was forwarded up to now, and returns what it comes to: by series a line with
    /// its units, without gauge times.
    pub(crate) fn read(&mut self) -> BTreeMap<String, String> {
        self.marks += 1;
        let value = self.marks.to_string();
        run(self.port, &["send", "--legacy", "counter", "mark", &value, "--level", MARK_LEVEL]).well();
        let mark = format!("|mark|{value}|");
        self.read_until("the mark", |message| match message {
            Message::Published(bytes) => String::from_utf8_lossy(bytes).contains(&mark),
            _ => false,
        });
        let flush = self.ledger.prepare_flush(now_ms());
        self.ledger.commit_flush();
        let measurements = flush.changes.measurements();
        let lines = measurements.iter().filter(|measurement| *measurement.series.level != *MARK_LEVEL);
        lines.map(line).collect()
    }

    pub(crate) fn counts(&self) -> Counts {
        self.ledger.counts()
    }

    fn read_until(&mut self, what: &str, is_it: impl Fn(&Message) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let incoming = self.messages.recv_timeout(left.max(Duration::from_millis(1)));
            let incoming = incoming.unwrap_or_else(|_| panic!("no {what} within {DEADLINE:?}"));
            self.ledger.receive(&incoming, now_ms());
            if is_it(&incoming.message) {
                return;
            }
        }
    }
}

fn line(measurement: &Measurement) -> (String, String) {
    let key = &measurement.series;
    let tags: Vec<_> = key.tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let name =
        format!("{} {} {} {} {} {}", key.level, key.kind, key.name, key.source, key.unit, tags.join(","));
    let units = match &measurement.value {
        Value::Counter { delta } => format!("sum {delta}"),
        Value::Gauge { points } | Value::RawTimer { points } => {
            let values: Vec<_> = points.iter().map(|point| point.value.to_string()).collect();
            format!("values {}", values.join(" "))
        }
        Value::Timer(timer) => {
            let buckets: Vec<_> = timer.histogram.counts().collect();
            format!("count {} sum_ns {} buckets {buckets:?}", timer.count, timer.sum_ns)
        }
    };
    (name.trim_end().to_owned(), units)
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}
