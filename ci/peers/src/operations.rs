//! The operations, each a loop of calls to one library.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use zibrato_core::clock;
use zibrato_std::{Client, Counter, Gauge, Level, Timer};

/// Calls in a sample; half a ring of ours, which is drained between samples.
const CALLS: u64 = 2_048;
/// Calls in a sample of what costs more than 100 ns.
const CALLS_SLOW: u64 = 512;

/// What a sample runs: given a number of calls, makes them.
pub enum Work {
    /// By one thread at a time.
    Own(Box<dyn FnMut(u64)>),
    /// By two threads at once too.
    Shared(Arc<dyn Fn(u64) + Send + Sync>),
}

/// One row of the table.
pub struct Operation {
    pub library: &'static str,
    pub name: &'static str,
    pub work: Work,
    pub calls: u64,
    /// Brings the library back to rest, outside of the measurement.
    pub settle: Box<dyn Fn()>,
    pub alone_ns: Vec<f64>,
    pub ratios: Vec<f64>,
    pub pair_ratios: Vec<f64>,
}

fn operation(library: &'static str, name: &'static str, calls: u64, work: Work) -> Operation {
    let (alone_ns, ratios, pair_ratios) = Default::default();
    Operation { library, name, work, calls, settle: Box::new(|| ()), alone_ns, ratios, pair_ratios }
}

/// A loop that two threads may run at once.
macro_rules! shared {
    ($library:expr, $name:expr, $calls:expr, |$i:ident| $body:expr) => {
        operation(
            $library,
            $name,
            $calls,
            Work::Shared(Arc::new(move |n| {
                for $i in 0..n {
                    let _ = $body;
                }
            })),
        )
    };
}

/// A loop over something that one thread owns.
macro_rules! own {
    ($library:expr, $name:expr, $calls:expr, |$i:ident| $body:expr) => {
        operation(
            $library,
            $name,
            $calls,
            Work::Own(Box::new(move |n| {
                for $i in 0..n {
                    let _ = $body;
                }
            })),
        )
    };
}

/// Every row, in the order of the table.
pub fn all() -> Vec<Operation> {
    let mut all = base();
    all.extend(zibrato());
    all.extend(metrics());
    all.extend(prometheus());
    all.extend(opentelemetry());
    all.extend(others());
    all.extend(rings());
    all
}

fn base() -> Vec<Operation> {
    static SUM: AtomicU64 = AtomicU64::new(0);
    vec![
        shared!("std", "fetch_add, relaxed", CALLS, |i| SUM.fetch_add(i, Relaxed)),
        shared!("core", "two clock reads", CALLS, |_i| {
            let start = std::hint::black_box(clock::ticks());
            std::hint::black_box(clock::ticks().wrapping_sub(start))
        }),
    ]
}

fn zibrato() -> Vec<Operation> {
    static CLIENT: LazyLock<Client> = LazyLock::new(|| {
        Client::builder().endpoint("tcp://127.0.0.1:9").build().expect("one client a process")
    });
    static HITS: Counter = Counter::new("peers.hits", Level::INFO);
    static TOOK: Timer = Timer::new("peers.took", Level::INFO);
    static DEPTH: Gauge = Gauge::new("peers.depth", Level::INFO);
    static OFF_HITS: Counter = Counter::new("peers.off.hits", Level::DEBUG);
    static OFF_TOOK: Timer = Timer::new("peers.off.took", Level::DEBUG);
    LazyLock::force(&CLIENT);
    zibrato_std::prepare_thread();
    let mut rows = vec![
        shared!("zibrato", "counter", CALLS, |i| HITS.add(i)),
        shared!("zibrato", "timer, duration given", CALLS, |i| TOOK.record(Duration::from_nanos(i))),
        shared!("zibrato", "gauge", CALLS, |i| DEPTH.set(i as f64)),
        shared!("zibrato", "timer guard", CALLS, |_i| TOOK.start()),
        shared!("zibrato", "timer guard, exact", CALLS, |_i| TOOK.start_exact()),
        shared!("zibrato", "counter at a level that is off", CALLS, |i| OFF_HITS.add(i)),
        shared!("zibrato", "timer guard at a level that is off", CALLS, |_i| OFF_TOOK.start()),
    ];
    for row in &mut rows {
        // The answer comes behind a pass of the drain.
        row.settle = Box::new(|| {
            let _ = CLIENT.stats();
        });
    }
    rows
}

fn metrics() -> Vec<Operation> {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).expect("no recorder before");
    let (counter, histogram) = (metrics::counter!("h.hits"), metrics::histogram!("h.took"));
    let name = "metrics, exporter-prometheus";
    let mut rows = vec![
        shared!(name, "counter handle", CALLS, |i| counter.increment(i)),
        shared!(name, "histogram handle", CALLS, |i| histogram.record(i as f64)),
        shared!(name, "counter!", CALLS_SLOW, |i| metrics::counter!("m.hits").increment(i)),
        shared!(name, "histogram!", CALLS_SLOW, |i| metrics::histogram!("m.took").record(i as f64)),
    ];
    for row in &mut rows {
        let handle = handle.clone();
        row.settle = Box::new(move || handle.run_upkeep());
    }
    rows
}

fn prometheus() -> Vec<Operation> {
    let counter = prometheus::IntCounter::new("hits", "hits").expect("a name");
    let histogram =
        prometheus::Histogram::with_opts(prometheus::HistogramOpts::new("took", "took")).expect("a name");
    let vector =
        prometheus::IntCounterVec::new(prometheus::Opts::new("by", "by"), &["route"]).expect("a name");
    let client_counter = prometheus_client::metrics::counter::Counter::<u64>::default();
    let buckets = prometheus_client::metrics::histogram::exponential_buckets(0.005, 2.0, 11);
    let client_histogram = prometheus_client::metrics::histogram::Histogram::new(buckets);
    vec![
        shared!("prometheus", "IntCounter", CALLS, |i| counter.inc_by(i)),
        shared!("prometheus", "IntCounterVec by label", CALLS, |i| vector
            .with_label_values(&["/api"])
            .inc_by(i)),
        shared!("prometheus", "Histogram", CALLS, |i| histogram.observe(i as f64)),
        shared!("prometheus-client", "Counter", CALLS, |i| client_counter.inc_by(i)),
        shared!("prometheus-client", "Histogram", CALLS, |i| client_histogram.observe(i as f64)),
    ]
}

fn opentelemetry() -> Vec<Operation> {
    use opentelemetry::KeyValue;
    use opentelemetry::metrics::MeterProvider as _;
    // Without a reader the instruments would record nothing.
    let reader = opentelemetry_sdk::metrics::ManualReader::builder().build();
    let provider = opentelemetry_sdk::metrics::SdkMeterProvider::builder().with_reader(reader).build();
    let meter = provider.meter("peers");
    let (counter, histogram) = (meter.u64_counter("hits").build(), meter.f64_histogram("took").build());
    let tagged = counter.clone();
    let tags = [KeyValue::new("route", "/api"), KeyValue::new("code", 200), KeyValue::new("method", "GET")];
    // Lives as long as the program: a dropped provider turns its instruments off.
    std::mem::forget(provider);
    vec![
        shared!("opentelemetry", "counter", CALLS, |i| counter.add(i, &[])),
        shared!("opentelemetry", "counter, 3 attributes", CALLS_SLOW, |i| tagged.add(i, &tags)),
        shared!("opentelemetry", "histogram", CALLS, |i| histogram.record(i as f64, &[])),
    ]
}

fn others() -> Vec<Operation> {
    use cadence::prelude::*;
    let nothing = || cadence::NopMetricSink;
    let queued = cadence::StatsdClient::from_sink("peers", cadence::QueuingMetricSink::from(nothing()));
    let plain = cadence::StatsdClient::from_sink("peers", nothing());
    let mut recorder = {
        let histogram =
            hdrhistogram::Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).expect("bounds");
        let histogram = histogram.into_sync();
        let recorder = histogram.recorder();
        std::mem::forget(histogram);
        recorder
    };
    let measured = measured::Counter::new();
    vec![
        shared!("measured", "Counter", CALLS, |i| measured.inc_by(i)),
        own!("hdrhistogram", "Recorder", CALLS, |i| recorder.record(1 + i * 17)),
        shared!("cadence", "count, no sink behind it", CALLS_SLOW, |i| plain.count("hits", i)),
        shared!("cadence", "count, queuing sink", CALLS_SLOW, |i| queued.count("hits", i)),
        spans(),
    ]
}

/// Spans below a root that is reported to nobody: without a root they would be nothing.
fn spans() -> Operation {
    use fastrace::prelude::*;
    struct Nobody;
    impl fastrace::collector::Reporter for Nobody {
        fn report(&mut self, _: Vec<SpanRecord>) {}
    }
    fastrace::set_reporter(Nobody, fastrace::collector::Config::default());
    let work = |n| {
        let root = Span::root("root", SpanContext::random());
        let _parent = root.set_local_parent();
        for _ in 0..n {
            let _span = LocalSpan::enter_with_local_parent("span");
        }
    };
    operation("fastrace", "local span", CALLS_SLOW, Work::Shared(Arc::new(work)))
}

/// Bare rings: what a library on one of them would pay for a push of 16 bytes, drained in between.
fn rings() -> Vec<Operation> {
    type Record = (u64, u64);
    const RECORDS: usize = 4_096;
    let (mut producer, mut consumer) = rtrb::RingBuffer::<Record>::new(RECORDS);
    let array = crossbeam_queue::ArrayQueue::<Record>::new(RECORDS);
    let queue: &'static mut heapless::spsc::Queue<Record, RECORDS> = Box::leak(Box::default());
    let (mut enqueue, mut dequeue) = queue.split();
    // Emptied by the same thread, which favours them: ours are drained by another.
    let half = CALLS / 2;
    vec![
        own!("rtrb", "push and pop", half, |i| (producer.push((i, i)).is_ok(), consumer.pop().is_ok())),
        own!("crossbeam ArrayQueue", "push and pop", half, |i| (array.push((i, i)).is_ok(), array.pop())),
        own!("heapless spsc", "push and pop", half, |i| (enqueue.enqueue((i, i)).is_ok(), dequeue.dequeue())),
    ]
}
