//! The `metrics` facade into a client and over a real socket.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
    with_local_recorder,
};
use support::{Broker, alone, builder, end_frames};
use zibrato_core::frame::{Frame, State};
use zibrato_std::{AlreadyInstalled, Level, LossReason, MetricsRecorder, Stats};

/// What a frame says of a series, by `name` or `name{key=value,…}`.
#[derive(Clone, PartialEq, Debug)]
enum Said {
    Sum(u64),
    Gauge { sets: u64, last: f64, range: (f64, f64) },
    Timer { count: u64, sum_ns: u64 },
}

struct Outcome {
    stats: Stats,
    /// Level, unit and state by series.
    series: BTreeMap<String, (String, String, Said)>,
}

impl Outcome {
    fn said(&self, series: &str) -> &Said {
        &self.series.get(series).unwrap_or_else(|| panic!("no {series} in {:?}", self.series)).2
    }

    fn level_and_unit(&self, series: &str) -> (&str, &str) {
        let (level, unit, _) = &self.series[series];
        (level, unit)
    }
}

/// Runs `record` with a recorder while a client runs that a broker listens to, and reads the last state of
/// all levels.
fn outcome(recorder: &MetricsRecorder, on_demand: &[&str], record: impl FnOnce()) -> Outcome {
    let _alone = alone();
    let broker = Broker::bind().with_own_subscription();
    let client = builder(&broker.endpoint).build().unwrap();
    for level in on_demand {
        broker.subscribe_level(level);
        let level = Level::named(String::leak((*level).to_owned()));
        broker.serve_until("subscription", || client.wait_subscribed(level, Duration::from_millis(1)));
    }
    with_local_recorder(recorder, record);
    let (stats, frames) = end_frames(client, &broker);
    let mut series = BTreeMap::new();
    for frame in &frames {
        let frame = Frame::parse(frame).unwrap();
        for entry in frame.entries().map(Result::unwrap) {
            let said = match entry.state {
                State::Counter { sum } => Said::Sum(sum),
                State::Gauge { sets, last, min, max, .. } => Said::Gauge { sets, last, range: (min, max) },
                State::Timer { count, sum_ns, .. } => Said::Timer { count, sum_ns },
            };
            let tags: Vec<_> = entry.tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let tags = if tags.is_empty() { String::new() } else { format!("{{{}}}", tags.join(",")) };
            let value = (frame.level.to_owned(), entry.unit.to_owned(), said);
            series.insert(format!("{}{tags}", entry.name), value);
        }
    }
    assert!(stats.law_holds(), "{stats}");
    Outcome { stats, series }
}

#[test]
fn counters_gauges_and_histograms_arrive_with_their_labels_units_and_exact_totals() {
    let recorder = MetricsRecorder::new();
    let outcome = outcome(&recorder, &[], || {
        describe_counter!("m.hits", Unit::Count, "requests");
        describe_gauge!("m.heap", Unit::Mebibytes, "heap");
        for i in 0..1_000 {
            counter!("m.hits", "route" => "/api", "code" => "200").increment(i);
            counter!("m.hits").increment(1);
        }
        for value in [1e9, 0.0, -1.5] {
            gauge!("m.heap", "zone" => "b c").set(value);
        }
        histogram!("m took").record(Duration::from_micros(100_174));
        histogram!("m took").record_many(0.25, 3);
    });
    assert_eq!(*outcome.said("m.hits{code=200,route=/api}"), Said::Sum(499_500));
    assert_eq!(*outcome.said("m.hits"), Said::Sum(1_000));
    let heap = Said::Gauge { sets: 3, last: -1.5, range: (-1.5, 1e9) };
    assert_eq!(*outcome.said("m.heap{zone=b c}"), heap);
    assert_eq!(*outcome.said("m_took"), Said::Timer { count: 4, sum_ns: 850_174_000 });
    assert_eq!(outcome.level_and_unit("m.hits"), ("info", ""));
    assert_eq!(outcome.level_and_unit("m.heap{zone=b c}"), ("info", "MiB"));
    assert_eq!(outcome.level_and_unit("m_took"), ("info", ""));
    let accepted = outcome.stats.accepted;
    assert_eq!((accepted.counters, accepted.gauges, accepted.timers), (500_500, 3, 4));
    assert_eq!(outcome.series.len(), 4);
}

#[test]
fn the_unit_of_a_histogram_says_what_its_numbers_are() {
    let recorder = MetricsRecorder::new();
    let outcome = outcome(&recorder, &[], || {
        describe_histogram!("u.s", Unit::Seconds, "");
        describe_histogram!("u.ms", Unit::Milliseconds, "");
        describe_histogram!("u.us", Unit::Microseconds, "");
        describe_histogram!("u.ns", Unit::Nanoseconds, "");
        for name in ["u.none", "u.s", "u.ms", "u.us", "u.ns"] {
            histogram!(name).record(1_500.0);
            histogram!(name).record(0.000_000_5);
        }
        // A handle that was there before its unit was described.
        let body = histogram!("u.body");
        describe_histogram!("u.body", Unit::Bytes, "");
        for bytes in [1_500.0, 7.5, 1e18] {
            body.record(bytes);
        }
        // Too late: not followed.
        describe_histogram!("u.body", Unit::Seconds, "");
        histogram!("u.body", "late" => "yes").record(3.0);
    });
    let timer = |sum_ns| Said::Timer { count: 2, sum_ns };
    assert_eq!(*outcome.said("u.none"), timer(1_500_000_000_500));
    assert_eq!(*outcome.said("u.s"), timer(1_500_000_000_500));
    // Half a nanosecond and more is one.
    assert_eq!(*outcome.said("u.ms"), timer(1_500_000_001));
    assert_eq!(*outcome.said("u.us"), timer(1_500_000));
    assert_eq!(*outcome.said("u.ns"), timer(1_500));
    assert_eq!(*outcome.said("u.body"), Said::Gauge { sets: 3, last: 1e18, range: (7.5, 1e18) });
    assert_eq!(*outcome.said("u.body{late=yes}"), Said::Gauge { sets: 1, last: 3.0, range: (3.0, 3.0) });
    assert_eq!(outcome.level_and_unit("u.ms"), ("info", "s"));
    assert_eq!(outcome.level_and_unit("u.none"), ("info", ""));
    assert_eq!(outcome.level_and_unit("u.body"), ("info", "B"));
}

#[test]
fn durations_up_to_26_days_arrive_to_the_nanosecond() {
    let recorder = MetricsRecorder::new();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut expected = 0;
    let outcome = outcome(&recorder, &[], || {
        let took = histogram!("d.took");
        for i in 0..3_000 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            // Every size up to 2^51 ns.
            let ns = (random & ((1 << 51) - 1)) >> (i % 50);
            expected += ns;
            took.record(Duration::from_nanos(ns));
        }
    });
    assert_eq!(*outcome.said("d.took"), Said::Timer { count: 3_000, sum_ns: expected });
}

#[test]
fn what_a_timer_cannot_hold_is_counted_beside_it() {
    let recorder = MetricsRecorder::new();
    let outcome = outcome(&recorder, &[], || {
        let odd = histogram!("o.took", "route" => "/api");
        let years_146 = (1_u64 << 62) as f64 / 1e9;
        for value in
            [-1e-9, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, years_146, 1.0, -0.0, years_146 - 1.0]
        {
            odd.record(value);
        }
        describe_histogram!("o.size", Unit::Bytes, "");
        histogram!("o.size").record(f64::NAN);
        histogram!("o.size").record(-1.0);
    });
    let Said::Timer { count: 3, .. } = outcome.said("o.took{route=/api}") else {
        panic!("{:?}", outcome.said("o.took{route=/api}"))
    };
    assert_eq!(*outcome.said("zibrato.refused.histogram{name=o.took}"), Said::Sum(5));
    // Of a gauge the client itself refuses what is not finite.
    assert_eq!(*outcome.said("o.size"), Said::Gauge { sets: 1, last: -1.0, range: (-1.0, -1.0) });
    assert_eq!(outcome.stats.refused.gauges, 1);
    assert_eq!(outcome.stats.losses.count(LossReason::NotFinite), 1);
    assert_eq!(outcome.series.len(), 3);
}

#[test]
fn absolute_values_add_what_the_largest_grew_from_any_thread() {
    let recorder = MetricsRecorder::new();
    let outcome = outcome(&recorder, &[], || {
        let counter = counter!("a.total");
        for value in [10, 7, 12, 12] {
            counter.absolute(value);
        }
        counter.increment(100);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let counter = counter.clone();
                scope.spawn(move || (0..10_000).for_each(|i| counter.absolute(i * 4 + thread)));
            }
        });
    });
    assert_eq!(*outcome.said("a.total"), Said::Sum(39_999 + 100));
}

#[test]
fn steps_of_a_gauge_from_many_threads_end_at_their_sum() {
    const STEPS: u64 = 20_000;
    let recorder = MetricsRecorder::new();
    let outcome = outcome(&recorder, &[], || {
        let sessions = gauge!("g.sessions");
        sessions.set(100.0);
        sessions.set(f64::NAN);
        sessions.increment(f64::INFINITY);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let sessions = sessions.clone();
                scope.spawn(move || {
                    for _ in 0..STEPS {
                        if thread == 0 { sessions.decrement(1.0) } else { sessions.increment(1.0) }
                    }
                });
            }
        });
    });
    let Said::Gauge { sets, last, .. } = outcome.said("g.sessions") else { panic!("no gauge") };
    assert_eq!(*last, 100.0 + 2.0 * STEPS as f64);
    assert!(*sets > 4 * STEPS, "each step is a set: {sets}");
    assert_eq!(outcome.stats.losses.count(LossReason::NotFinite), 2);
}

#[test]
fn levels_follow_the_target_and_steps_go_on_while_one_is_off() {
    const AUDIT: Level = Level::new("audit");
    let recorder = MetricsRecorder::new().level("dep", Level::DEBUG).level("dep::loud", AUDIT);
    let off = outcome(&recorder, &[], || {
        counter!(target: "dep::quiet", "l.hits").increment(1);
        counter!(target: "dep::loud::inner", "l.hits").increment(2);
        counter!(target: "other", "l.hits").increment(4);
        counter!(target: "other", level: metrics::Level::WARN, "l.hits.warn").increment(8);
        gauge!(target: "dep", "l.depth").increment(5.0);
    });
    assert_eq!(off.stats.accepted.counters, 2 + 4 + 8);
    assert_eq!(off.level_and_unit("l.hits.warn").0, "warning");
    assert_eq!(off.stats.offered.gauges, 0);
    let on = outcome(&recorder, &["debug"], || {
        counter!(target: "dep::quiet", "l.debug.hits").increment(16);
        gauge!(target: "dep", "l.depth").increment(1.0);
    });
    assert_eq!((on.level_and_unit("l.debug.hits").0, on.said("l.debug.hits")), ("debug", &Said::Sum(16)));
    assert_eq!(*on.said("l.depth"), Said::Gauge { sets: 1, last: 6.0, range: (6.0, 6.0) });
}

#[test]
fn labels_beyond_eight_are_left_out_and_the_rest_is_mapped() {
    let recorder = MetricsRecorder::new();
    let outcome = outcome(&recorder, &[], || {
        for last in ["x", "y"] {
            let labels: Vec<(String, String)> = (0..9)
                .map(|i| (format!("k {i}"), if i == 8 { last.to_owned() } else { i.to_string() }))
                .collect();
            counter!("t.hits", &labels).increment(1);
        }
    });
    let series = "t.hits{k_0=0,k_1=1,k_2=2,k_3=3,k_4=4,k_5=5,k_6=6,k_7=7}";
    assert_eq!(*outcome.said(series), Said::Sum(2));
}

#[test]
fn a_recorder_is_installed_once_and_takes_what_other_threads_record_with_macros() {
    let outcome = outcome(&MetricsRecorder::new(), &[], || {
        MetricsRecorder::new().level("metrics_recorder", Level::CRITICAL).install().unwrap();
        assert_eq!(MetricsRecorder::new().install(), Err(AlreadyInstalled));
        let other = std::thread::spawn(|| counter!("i.hits").increment(3));
        other.join().unwrap();
    });
    assert_eq!(*outcome.said("i.hits"), Said::Sum(3));
    assert_eq!(outcome.level_and_unit("i.hits").0, "critical");
}
