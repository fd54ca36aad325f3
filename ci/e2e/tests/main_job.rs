//! The main job: a hot loop, the broker, a worker and the local store as separate processes over TCP, and
//! what is stored in the end is what was recorded, to the unit.
#![allow(clippy::unwrap_used, reason = "what fails here fails a test")]

use serde_json::Value;
use zibrato_e2e::{
    Broker, BrokerSum, ClientLaw, Local, Process, Stored, Worker, batches, directory, field, read,
};

/// What a program printed that it recorded.
struct Truth {
    source: String,
    metrics: Vec<Value>,
}

impl Truth {
    fn read(stdout: &str) -> Self {
        let json: Value = serde_json::from_str(stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"));
        Self {
            source: json["source"].as_str().unwrap().to_owned(),
            metrics: json["metrics"].as_array().unwrap().clone(),
        }
    }

    fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.metrics.iter().filter(move |metric| metric["kind"] == kind)
    }

    /// Name and source under which a store without tags keeps a series.
    fn place<'a>(&self, metric: &'a Value) -> (&'a str, String) {
        let tags = metric["tags"].as_object().unwrap();
        let tags: String =
            tags.iter().map(|(key, value)| format!(":{key}.{}", value.as_str().unwrap())).collect();
        (metric["name"].as_str().unwrap(), format!("{}{tags}", self.source))
    }
}

struct Outcome {
    truth: Truth,
    stored: Stored,
    client: ClientLaw,
    broker: BrokerSum,
    timer_records: u64,
}

/// Runs the loop through all four programs, stops them in the order of the flow, and reads the store.
fn run(args: &[&str]) -> Outcome {
    let home = directory();
    let broker = Broker::start();
    let local = Local::start(home.path());
    let mut worker = Worker::start(&broker.workers, "info,debug", &local.url(), &home.path().join("spool"));
    worker.probed();
    let fixed = ["--endpoint", &broker.publishers, "--wait-subscribed-ms", "20000", "--source", "hot"];
    let program = Process::run("latency-loop", &[&fixed, args].concat());
    assert_eq!(program.code, Some(0), "{}", program.stderr);
    assert!(!program.stderr.contains("nobody subscribed"), "{}", program.stderr);
    let broker = broker.finish();
    let delivery = worker.finish();
    let known = batches(&local.db);
    let stored = read(&local.db);
    let account = local.finish();
    assert_eq!(delivery.held, 0, "{}", delivery.line);
    assert_eq!((account.accepted, account.offered), (delivery.points, delivery.points), "{}", delivery.line);
    assert_eq!(field(&delivery.line, "batches_delivered"), known.to_string());
    assert_eq!((field(&delivery.line, "ambiguous"), account.duplicate_batches), ("0", 0));
    let client = ClientLaw::read(&program.stderr);
    let truth = Truth::read(&program.stdout);
    Outcome { truth, stored, client, broker, timer_records: delivery.timer_records }
}

#[test]
fn every_count_and_sum_that_the_program_printed_is_stored_to_the_unit() {
    let Outcome { truth, stored, client, broker, timer_records } = run(&["--seconds", "3", "--threads", "2"]);

    let (mut counters, mut timers) = (0, 0);
    for metric in truth.of_kind("counter") {
        let (name, source) = truth.place(metric);
        let sum = metric["sum"].as_u64().unwrap();
        assert_eq!(stored[(name, source.as_str())].sum, sum as f64, "{name} {source}");
        counters += sum;
    }
    for metric in truth.of_kind("timer") {
        let (name, source) = truth.place(metric);
        let (count, sum_ns) = (metric["count"].as_u64().unwrap(), metric["sum_ns"].as_u64().unwrap());
        let totals = &stored[(name, source.as_str())];
        assert_eq!(totals.count, count as f64, "{name}");
        assert_eq!(totals.sum_ns, sum_ns, "{name}");
        // Every point has its distribution, and it is that of these records.
        let histogram = &totals.histogram;
        assert_eq!(histogram.total(), count, "{name}");
        // A preempted thread makes the spread so wide that it may be twice as coarse as at its finest.
        assert!(histogram.relative_error() < 0.022, "{name}: {}", histogram.relative_error());
        let (low, high) = (1.0 - histogram.relative_error(), 1.0 + histogram.relative_error());
        let (least, most) = (histogram.quantile(0.0).unwrap(), histogram.quantile(1.0).unwrap());
        assert!(least >= totals.min * low && most <= totals.max * high, "{name}: {least} to {most}");
        // A spilled record stands at the mean, so then the extremes need not have a bucket of their own.
        if client.spilled == 0 {
            assert!(least <= totals.min * high && most >= totals.max * low, "{name}: {least} to {most}");
        }
        timers += count;
    }
    assert!(truth.of_kind("timer").any(|metric| metric["name"] == "loop.detail"), "debug was never on");
    assert!(timers > 100_000 && counters > 100_000, "{timers} {counters}: the loop did not run");
    for metric in truth.of_kind("gauge") {
        let (name, source) = truth.place(metric);
        assert_eq!(
            stored[(name, source.as_str())].last(),
            metric["last"].as_f64().unwrap(),
            "{name} {source}"
        );
    }
    for (name, value) in [("loop.zero", 0.0), ("loop.negative", -1.5), ("loop.large", 1e9)] {
        let points = &stored[(name, "hot")].points;
        assert!(points.iter().all(|(_, stored)| *stored == value), "{name}: {points:?}");
    }
    // Nothing is there that was not printed, and series that differ in a tag alone are two.
    assert_eq!(stored.0.len(), truth.metrics.len(), "{:?}", stored.0.keys());
    assert!(stored.sum("loop.bytes", "hot:direction.in") > 0.0);
    assert_ne!(stored.sum("loop.bytes", "hot:direction.in"), stored.sum("loop.bytes", "hot:direction.out"));

    assert_eq!((client.offered.counters, client.offered.timers), (counters, timers));
    assert_eq!((client.delivered, client.held, client.dropped), (client.offered, client.held, client.held));
    assert_eq!(client.held.timers, 0);
    assert_eq!(timer_records, timers);
    assert!(broker.forwarded > 0 && broker.no_subscriber + broker.refused == 0, "{broker:?}");
}

#[test]
fn quantiles_from_stored_buckets_are_within_the_stated_error_of_the_true_ones() {
    let home = directory();
    let broker = Broker::start();
    let local = Local::start(home.path());
    let mut worker = Worker::start(&broker.workers, "info", &local.url(), &home.path().join("spool"));
    worker.probed();
    // Evenly spread on a logarithmic scale. The second spread takes more buckets than a histogram has
    // at its finest, so it says that it is twice as coarse, and is.
    let spreads = [("fine", 1e5, 0.011), ("coarse", 1e7, 0.022)];
    let durations = spreads.map(|(_, factor, _)| {
        (0..=1_000).map(|step| (100.0 * f64::powf(factor, f64::from(step) / 1e3)) as u64).collect::<Vec<_>>()
    });
    let timers: Vec<String> = std::iter::zip(&spreads, &durations)
        .flat_map(|((name, ..), durations)| durations.iter().map(move |ns| format!("{name}={ns}")))
        .collect();
    let mut args = vec!["--endpoint", &broker.publishers, "--wait-subscribed-ms", "20000"];
    timers.iter().for_each(|timer| args.extend(["--timer", timer]));
    let program = Process::run("once", &args);
    assert_eq!(program.code, Some(0), "{}", program.stderr);
    broker.finish();
    worker.finish();
    let stored = read(&local.db);
    local.finish();
    for ((name, _, stated), durations) in std::iter::zip(spreads, durations) {
        let totals = &stored[(name, "once")];
        assert_eq!((totals.count, totals.sum_ns), (1_001.0, durations.iter().sum()), "{name}");
        assert_eq!(
            (totals.min, totals.max),
            (durations[0] as f64 / 1e9, durations[1_000] as f64 / 1e9),
            "{name}"
        );
        let error = totals.histogram.relative_error();
        assert!(error <= stated, "{name}: {error}");
        for percent in [0, 1, 10, 25, 50, 75, 90, 95, 99, 100] {
            let q = f64::from(percent) / 100.0;
            let exact = durations[((q * 1_001.0).ceil() as usize).max(1) - 1] as f64 / 1e9;
            let found = totals.histogram.quantile(q).unwrap();
            assert!(
                (found - exact).abs() <= exact * error * (1.0 + 1e-9),
                "{name} {percent} %: {found} of {exact}"
            );
        }
    }
}

#[test]
fn a_fixed_number_of_iterations_is_stored_as_exactly_that() {
    // One thread and a fixed number of iterations: what is recorded is known before it runs.
    let Outcome { truth, stored, client, .. } = run(&["--iterations", "50000"]);
    assert_eq!(stored.sum("loop.iterations", "hot"), 50_000.0);
    assert_eq!(stored.sum("loop.bytes", "hot:direction.out"), 150_000.0);
    assert_eq!(stored[("loop.work", "hot")].count, 50_000.0);
    assert_eq!(truth.metrics.len(), stored.0.len());
    assert_eq!(client.refused, zibrato_e2e::Flow::default());
}
