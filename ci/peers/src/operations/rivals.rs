//! Other libraries for metrics and spans.

use std::net::UdpSocket;
use std::sync::Arc;

use super::{CALLS, CALLS_SLOW, Guard, Operation, Work, operation, own, shared};

pub fn all() -> Vec<Operation> {
    let mut all = prometheus();
    all.extend(opentelemetry());
    all.extend(cadence());
    all.extend(others());
    all
}

fn prometheus() -> Vec<Operation> {
    let counter = prometheus::IntCounter::new("hits", "hits").expect("a name");
    let histogram =
        prometheus::Histogram::with_opts(prometheus::HistogramOpts::new("took", "took")).expect("a name");
    let guarded = histogram.clone();
    let vector =
        prometheus::IntCounterVec::new(prometheus::Opts::new("by", "by"), &["route"]).expect("a name");
    let client_counter = prometheus_client::metrics::counter::Counter::<u64>::default();
    let buckets = prometheus_client::metrics::histogram::exponential_buckets(0.005, 2.0, 11);
    let client_histogram = prometheus_client::metrics::histogram::Histogram::new(buckets);
    let client_guarded = client_histogram.clone();
    vec![
        shared!("prometheus", "IntCounter", CALLS, |i| counter.inc_by(i)),
        shared!("prometheus", "IntCounterVec by label", CALLS, |i| vector
            .with_label_values(&["/api"])
            .inc_by(i)),
        shared!("prometheus", "Histogram", CALLS, |i| histogram.observe(i as f64)),
        shared!("prometheus", "Histogram::start_timer", CALLS, |_i| guarded.start_timer()),
        shared!("prometheus-client", "Counter", CALLS, |i| client_counter.inc_by(i)),
        shared!("prometheus-client", "Histogram", CALLS, |i| client_histogram.observe(i as f64)),
        shared!("prometheus-client", "Histogram, guard with Instant", CALLS, |_i| {
            Guard::start(|took| client_guarded.observe(took.as_secs_f64()))
        }),
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
    let tags = [KeyValue::new("route", "/api"), KeyValue::new("code", 200), KeyValue::new("method", "GET")];
    let (tagged, guarded, tagged_guarded) = (counter.clone(), histogram.clone(), histogram.clone());
    let (bound_counter, bound_histogram) = (counter.bind(&tags), histogram.bind(&tags));
    let bound_guarded = histogram.bind(&tags);
    let tags_of_guard = tags.clone();
    // Lives as long as the program: a dropped provider turns its instruments off.
    std::mem::forget(provider);
    let name = "opentelemetry";
    vec![
        shared!(name, "counter", CALLS, |i| counter.add(i, &[])),
        shared!(name, "counter, 3 attributes", CALLS_SLOW, |i| tagged.add(i, &tags)),
        shared!(name, "counter, 3 attributes, bound", CALLS, |i| bound_counter.add(i)),
        shared!(name, "histogram", CALLS, |i| histogram.record(i as f64, &[])),
        shared!(name, "histogram, 3 attributes, bound", CALLS, |i| bound_histogram.record(i as f64)),
        shared!(name, "histogram, guard with Instant", CALLS, |_i| {
            Guard::start(|took| guarded.record(took.as_secs_f64(), &[]))
        }),
        shared!(name, "histogram, 3 attributes, guard with Instant", CALLS_SLOW, |_i| {
            Guard::start(|took| tagged_guarded.record(took.as_secs_f64(), &tags_of_guard))
        }),
        shared!(name, "histogram, 3 attributes, bound, guard with Instant", CALLS, |_i| {
            Guard::start(|took| bound_guarded.record(took.as_secs_f64()))
        }),
    ]
}

fn cadence() -> Vec<Operation> {
    use cadence::prelude::*;
    use cadence::{BufferedUdpMetricSink, NopMetricSink, QueuingMetricSink, StatsdClient};
    // Nobody reads it: what does not fit is dropped by the kernel, which favours them.
    let receiver = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let to = receiver.local_addr().expect("an address");
    let from = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    std::mem::forget(receiver);
    let buffered = BufferedUdpMetricSink::from(to, from).expect("an address");
    let buffered = StatsdClient::from_sink("peers", buffered);
    let queued = StatsdClient::from_sink("peers", QueuingMetricSink::from(NopMetricSink));
    let plain = StatsdClient::from_sink("peers", NopMetricSink);
    vec![
        shared!("cadence", "count, no sink behind it", CALLS_SLOW, |i| plain.count("hits", i)),
        shared!("cadence", "count, queuing sink", CALLS_SLOW, |i| queued.count("hits", i)),
        shared!("cadence", "count, buffered UDP sink", CALLS_SLOW, |i| buffered.count("hits", i)),
    ]
}

fn others() -> Vec<Operation> {
    use dipstick::InputScope as _;
    let mut recorder = {
        let histogram =
            hdrhistogram::Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).expect("bounds");
        let histogram = histogram.into_sync();
        let recorder = histogram.recorder();
        std::mem::forget(histogram);
        recorder
    };
    let measured = measured::Counter::new();
    let bucket = dipstick::AtomicBucket::new();
    let (timer, guarded) = (bucket.timer("took"), bucket.timer("guarded"));
    vec![
        shared!("measured", "Counter", CALLS, |i| measured.inc_by(i)),
        own!("hdrhistogram", "Recorder", CALLS, |i| recorder.record(1 + i * 17)),
        shared!("dipstick", "Timer, duration given", CALLS, |i| timer.interval_us(i)),
        shared!("dipstick", "Timer, start and stop", CALLS, |_i| guarded.stop(guarded.start())),
        local_spans(),
        shared!("tracing", "span without a subscriber", CALLS, |_i| tracing::info_span!("span").entered()),
    ]
}

/// Spans below a root that is reported to nobody: without a root they would be nothing.
fn local_spans() -> Operation {
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
