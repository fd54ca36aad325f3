//! Spans of `tracing` into a client and over a real socket.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use support::{Broker, alone, builder, end_frames, until};
use tracing::subscriber::with_default;
use tracing::{Instrument, debug_span, error_span, info, info_span, trace_span, warn_span};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, registry};
use zibrato_core::frame::{Frame, State};
use zibrato_std::{Client, Level, SpanTimers};

/// Level, count and sum of each timer.
type Timers = BTreeMap<String, (String, u64, Duration)>;

/// Runs `record` below the layer while a client runs that a broker listens to, and reads the last state of
/// all levels.
fn timers_of(
    layer: impl Layer<registry::Registry> + Send + Sync,
    on_demand: &[Level],
    record: impl FnOnce(&Client, &Broker),
) -> Timers {
    let _alone = alone();
    let broker = Broker::bind().with_own_subscription();
    let client = builder(&broker.endpoint).hold(Duration::from_millis(100)).build().unwrap();
    for level in on_demand {
        broker.subscribe_level(level.label());
        broker.serve_until("subscription", || client.wait_subscribed(*level, Duration::from_millis(1)));
    }
    with_default(registry().with(layer), || record(&client, &broker));
    let (stats, frames) = end_frames(client, &broker);
    let mut timers = Timers::new();
    for frame in &frames {
        let frame = Frame::parse(frame).unwrap();
        for entry in frame.entries().map(Result::unwrap) {
            let State::Timer { count, sum_ns, .. } = entry.state else {
                panic!("{} is no timer", entry.name)
            };
            assert_eq!(entry.unit, "s");
            timers
                .insert(entry.name.to_owned(), (frame.level.to_owned(), count, Duration::from_nanos(sum_ns)));
        }
    }
    assert_eq!(stats.accepted.timers, timers.values().map(|(_, count, _)| count).sum::<u64>());
    timers
}

/// Level and count by name.
fn counts(timers: &Timers) -> Vec<(&str, &str, u64)> {
    timers.iter().map(|(name, (level, count, _))| (&**name, &**level, *count)).collect()
}

fn work_for(duration: Duration) {
    let start = Instant::now();
    while start.elapsed() < duration {
        std::hint::spin_loop();
    }
}

#[test]
fn each_span_is_a_record_of_a_timer_with_its_name_and_level() {
    let timers = timers_of(SpanTimers::new().layer(), &[Level::DEBUG], |_, _| {
        for _ in 0..250 {
            let _outer = info_span!("t.outer").entered();
            let _inner = warn_span!("t inner").entered();
            info!("an event is no span");
        }
        for _ in 0..7 {
            drop(error_span!("t.error"));
            drop(debug_span!("t.debug"));
            drop(trace_span!("t.trace"));
            // Another place, the same series.
            drop(info_span!("t.outer"));
            drop(info_span!(target: "zibrato_std", "t.own"));
            drop(info_span!(target: "zibrato_std::drain", "t.own"));
            drop(info_span!(target: "zibrato_std_user", "t.user"));
        }
    });
    let expected = [
        ("t.debug", "debug", 7),
        ("t.error", "error", 7),
        ("t.outer", "info", 257),
        ("t.user", "info", 7),
        ("t_inner", "warning", 250),
    ];
    assert_eq!(counts(&timers), expected);
}

#[test]
fn a_life_is_measured_from_creation_to_the_last_handle_on_whatever_thread() {
    const LIFE: Duration = Duration::from_millis(20);
    let timers = timers_of(SpanTimers::new().layer(), &[], |_, _| {
        let span = info_span!("life");
        let other = span.clone();
        work_for(LIFE / 2);
        span.in_scope(|| ());
        drop(span);
        std::thread::spawn(move || {
            work_for(LIFE / 2);
            drop(other);
        })
        .join()
        .unwrap();
    });
    let (_, count, took) = timers["life"];
    assert_eq!(count, 1);
    assert!(took >= LIFE && took < LIFE * 50, "{took:?}");
}

#[test]
fn a_busy_layer_records_each_stay_and_not_the_waiting_between() {
    const WAIT: Duration = Duration::from_millis(30);
    const POLLS: u64 = 5;
    let both = SpanTimers::new().busy().layer().and_then(SpanTimers::new().with_target().layer());
    let timers = timers_of(both, &[], |_, _| {
        let mut polls = 0;
        let polled = std::future::poll_fn(|_| {
            polls += 1;
            let _inner = info_span!("busy.inner").entered();
            if polls == POLLS { Poll::Ready(()) } else { Poll::Pending }
        });
        {
            let mut polled = pin!(polled.instrument(info_span!("busy")));
            let mut context = Context::from_waker(Waker::noop());
            while polled.as_mut().poll(&mut context).is_pending() {
                work_for(WAIT);
            }
        }
        // Left in another order than entered.
        let (first, second) = (info_span!("busy.first"), info_span!("busy.second"));
        let (one, two) = (first.enter(), second.enter());
        drop(one);
        work_for(WAIT);
        drop(two);
    });
    // A span in an instrumented future is entered once more where the future is dropped.
    assert_eq!(timers["busy"].1, POLLS + 1);
    assert_eq!(timers["busy.inner"].1, POLLS);
    assert_eq!((timers["busy.first"].1, timers["busy.second"].1), (1, 1));
    assert!(timers["busy"].2 < WAIT, "{:?}", timers["busy"]);
    assert!(timers["busy.first"].2 < WAIT && timers["busy.second"].2 >= WAIT, "{timers:?}");
    // The life of it, by the other layer.
    assert_eq!(timers["tracing_layer.busy"].1, 1);
    assert!(timers["tracing_layer.busy"].2 >= WAIT * (POLLS as u32 - 1));
}

/// Counts the spans that reach it.
struct Seen(Mutex<Vec<&'static str>>);

impl<S: tracing::Subscriber> Layer<S> for &'static Seen {
    fn on_new_span(
        &self,
        attributes: &tracing::span::Attributes<'_>,
        _: &tracing::span::Id,
        _: tracing_subscriber::layer::Context<'_, S>,
    ) {
        self.0.lock().unwrap().push(attributes.metadata().name());
    }
}

#[test]
fn a_span_of_a_level_that_is_off_is_not_even_created() {
    let span = || debug_span!("off.debug");
    let timers = timers_of(SpanTimers::new().layer(), &[], |client, broker| {
        until("place that is off", || span().is_disabled().then_some(()));
        broker.subscribe_level("debug");
        // The one that sees the place on is the first that is recorded.
        broker.serve_until("place that is on", || !span().is_disabled());
        (0..5).for_each(|_| drop(span()));
        broker.unsubscribe_level("debug");
        let before = || client.stats().unwrap().accepted.timers;
        broker.serve_until("level that is off", || {
            let before = before();
            drop(span());
            client.stats().unwrap().accepted.timers == before
        });
        broker.serve_until("place that is off again", || span().is_disabled());
    });
    let (level, count, _) = &timers["off.debug"];
    assert!(level == "debug" && *count >= 6, "{timers:?}");
}

#[test]
fn a_span_of_a_level_that_is_off_stays_for_other_layers() {
    static SEEN: Seen = Seen(Mutex::new(Vec::new()));
    let span = || debug_span!("other.debug");
    let timers = timers_of(SpanTimers::new().layer().and_then(&SEEN), &[], |client, _| {
        drop((info_span!("other.info"), span()));
        // Behind two windows the place was asked again.
        (0..2).for_each(|_| client.flush());
        assert!(!span().is_disabled());
    });
    assert_eq!(counts(&timers), [("other.info", "info", 1)]);
    assert_eq!(*SEEN.0.lock().unwrap(), ["other.info", "other.debug", "other.debug"]);
}

#[test]
fn the_clients_own_log_records_nothing() {
    let layer = SpanTimers::new().layer();
    let _alone = alone();
    with_default(registry().with(layer), || {
        let broker = Broker::bind().with_own_subscription();
        let client = builder(&broker.endpoint).build().unwrap();
        broker.serve_until("connection", || client.stats().unwrap().connected == 1);
        let (stats, frames) = end_frames(client, &broker);
        assert_eq!((stats.offered, stats.series, frames.len()), (Default::default(), 0, 0));
    });
}
