//! The `metrics` facade: our recorder, the one of exporter-prometheus, and its cells without a recorder. A
//! process has one global recorder, so handles are asked from each recorder itself, and macros run below it
//! as the thread's own.

use std::sync::Arc;

use metrics::{Counter, Gauge, Histogram, Key, Level, Metadata, Recorder};

use super::{CALLS, CALLS_SLOW, Guard, Operation, Work, operation, settle_ours, shared};

pub fn all() -> Vec<Operation> {
    let ours = zibrato_std::MetricsRecorder::new();
    let mut all = rows("zibrato, metrics recorder", Box::leak(Box::new(ours)), || Box::new(settle_ours));

    let theirs = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let handle = theirs.handle();
    let settle = || {
        let handle = handle.clone();
        Box::new(move || handle.run_upkeep()) as Box<dyn Fn()>
    };
    all.extend(rows("metrics, exporter-prometheus", Box::leak(Box::new(theirs)), settle));

    let bucket = Arc::new(metrics_util::storage::AtomicBucket::new());
    let counter = Counter::from_arc(Arc::new(std::sync::atomic::AtomicU64::new(0)));
    // Without this it would grow for ever.
    let settle = || {
        let bucket = Arc::clone(&bucket);
        Box::new(move || bucket.clear()) as Box<dyn Fn()>
    };
    all.extend(handles(
        "metrics, bare cells",
        counter,
        None,
        Histogram::from_arc(Arc::clone(&bucket)),
        settle,
    ));
    all
}

fn rows(
    library: &'static str,
    recorder: &'static (dyn Recorder + Sync),
    settle: impl Fn() -> Box<dyn Fn()>,
) -> Vec<Operation> {
    let metadata = Metadata::new("peers", Level::INFO, None);
    let counter = recorder.register_counter(&Key::from_static_name("h.hits"), &metadata);
    let gauge = recorder.register_gauge(&Key::from_static_name("h.depth"), &metadata);
    let histogram = recorder.register_histogram(&Key::from_static_name("h.took"), &metadata);
    let mut rows = handles(library, counter, Some(gauge), histogram, &settle);
    let below = |name, work: fn(u64)| {
        let work = move |n| metrics::with_local_recorder(recorder, || work(n));
        operation(library, name, CALLS_SLOW, Work::Shared(Arc::new(work)))
    };
    let macros = [
        below("counter!", |n| (0..n).for_each(|i| metrics::counter!("m.hits").increment(i))),
        below("histogram!", |n| (0..n).for_each(|i| metrics::histogram!("m.took").record(seconds(i)))),
        below("counter!, 2 labels", |n| {
            (0..n).for_each(|i| metrics::counter!("m.hits", "route" => "/api", "code" => "200").increment(i));
        }),
    ];
    rows.extend(macros.map(|row| Operation { settle: settle(), ..row }));
    rows
}

fn handles(
    library: &'static str,
    counter: Counter,
    gauge: Option<Gauge>,
    histogram: Histogram,
    settle: impl Fn() -> Box<dyn Fn()>,
) -> Vec<Operation> {
    let (by_instant, by_quanta) = (histogram.clone(), histogram.clone());
    let mut rows = vec![shared!(library, "counter handle", CALLS, |i| counter.increment(i))];
    rows.extend(gauge.map(|gauge| shared!(library, "gauge handle", CALLS, |i| gauge.set(i as f64))));
    rows.extend([
        shared!(library, "histogram handle", CALLS, |i| histogram.record(seconds(i))),
        shared!(library, "histogram handle, guard with Instant", CALLS, |_i| {
            Guard::start(|took| by_instant.record(took))
        }),
        shared!(library, "histogram handle, guard with quanta", CALLS, |_i| {
            QuantaGuard { start: quanta::Instant::now(), histogram: &by_quanta }
        }),
    ]);
    rows.into_iter().map(|row| Operation { settle: settle(), ..row }).collect()
}

/// A duration of some microseconds.
fn seconds(i: u64) -> f64 {
    i as f64 * 1e-6
}

struct QuantaGuard<'a> {
    start: quanta::Instant,
    histogram: &'a Histogram,
}

impl Drop for QuantaGuard<'_> {
    fn drop(&mut self) {
        self.histogram.record(self.start.elapsed());
    }
}
