//! The client against a scripted broker over real sockets.

mod support;

use std::time::{Duration, Instant};

use support::{Broker, DEADLINE, alone, builder, counter, until};
use zibrato_core::frame::{Frame, State};
use zibrato_std::{BuildError, Client, Counter, Gauge, Level, LossReason, Timer, Wire};

const AUDIT: Level = Level::new("audit");

#[test]
fn state_reaches_a_broker_and_the_end_is_acknowledged() {
    static HITS: Counter = Counter::new("c.hits", Level::INFO).tags(&[("b", "2"), ("a", "1")]);
    static DEPTH: Gauge = Gauge::new("c.depth", Level::INFO).source("own");
    static TOOK: Timer = Timer::new("c.took", Level::INFO).unit("s");
    let _alone = alone();
    let broker = Broker::bind().with_own_subscription();
    let client = builder(&broker.endpoint).source("host-1").build().unwrap();
    HITS.add(3);
    for value in [1e9, 0.0, -1.5] {
        DEPTH.set(value);
    }
    TOOK.record(Duration::from_millis(2));
    TOOK.record(Duration::from_millis(4));
    let id = client.publisher();
    let stopper = std::thread::spawn(move || client.shutdown(DEADLINE).unwrap());
    let end = broker.next("end frame", |message| {
        broker.acknowledge(message);
        Frame::parse(message).is_ok_and(|frame| frame.header.flags.end).then(|| message.to_vec())
    });
    let stats = stopper.join().unwrap();
    assert!(stats.law_holds());
    assert_eq!(stats.unacknowledged, 0);
    assert_eq!((stats.delivered.counters, stats.delivered.gauges, stats.delivered.timers), (3, 3, 2));
    assert_eq!(stats.held, Default::default());

    let frame = Frame::parse(&end).unwrap();
    assert_eq!((frame.level, frame.header.publisher, frame.prelude.source), ("info", id, "host-1"));
    assert_eq!(frame.prelude.about.unwrap().pid, std::process::id());
    let entry = |name| frame.entries().flatten().find(|entry| entry.name == name).unwrap();
    assert_eq!(entry("c.hits").tags.as_slice(), [("a", "1"), ("b", "2")]);
    assert_eq!(entry("c.depth").source, "own");
    let State::Gauge { sets: 3, last, min, max, .. } = entry("c.depth").state else { panic!("no gauge") };
    assert_eq!((last, min, max), (-1.5, -1.5, 1e9));
    let State::Timer { count: 2, sum_ns: 6_000_000, window_ns, histogram, .. } = entry("c.took").state else {
        panic!("no timer: {:?}", entry("c.took"))
    };
    assert_eq!(window_ns.unwrap_or((2_000_000, 4_000_000)), (2_000_000, 4_000_000));
    assert_eq!(histogram.buckets().sum::<u64>(), 2);
    assert_eq!(entry("c.took").unit, "s");
}

#[test]
fn without_a_broker_a_program_exits_soon_and_says_what_it_kept() {
    static HITS: Counter = Counter::new("c.alone", Level::INFO);
    let _alone = alone();
    let client = builder("tcp://127.0.0.1:9").build().unwrap();
    HITS.add(7);
    let before = Instant::now();
    let stats = client.shutdown(Duration::from_secs(5)).unwrap();
    // The 250 ms for a first connection, and room for a loaded machine; far from the 5 s deadline.
    assert!(before.elapsed() < Duration::from_millis(1_500), "{:?}", before.elapsed());
    assert!(stats.law_holds());
    assert_eq!((stats.held.counters, stats.delivered.counters, stats.unacknowledged), (7, 0, 1));
}

#[test]
fn a_broker_that_comes_late_gets_everything() {
    static HITS: Counter = Counter::new("c.late", Level::INFO);
    let _alone = alone();
    let port = Broker::bind().endpoint.clone();
    let client = builder(&port).build().unwrap();
    HITS.add(2);
    client.flush();
    HITS.add(3);
    client.flush();
    let broker = Broker::bind_to(&port).with_own_subscription();
    assert_eq!(broker.next("frame", |message| counter(message, "c.late")), 5);
    drop(client);
}

#[test]
fn a_new_subscription_gets_a_key_frame_and_an_idle_window_a_heartbeat() {
    static HITS: Counter = Counter::new("c.key", Level::INFO);
    let _alone = alone();
    let broker = Broker::bind().with_own_subscription();
    let client = builder(&broker.endpoint).build().unwrap();
    HITS.add(1);
    broker.next("first frame", |message| counter(message, "c.key"));
    let heartbeat = broker.next("heartbeat", |message| {
        let header = Frame::parse(message).unwrap().header;
        header.flags.heartbeat.then_some(header)
    });
    broker.subscribe_level("info");
    let key = broker.next("key frame", |message| {
        let frame = Frame::parse(message).unwrap();
        (frame.header.flags.key && frame.header.seq > heartbeat.seq).then_some(frame.header)
    });
    assert_eq!(key.seq, heartbeat.seq + 1, "a heartbeat uses no number");
    drop(client);
}

#[test]
fn every_tenth_window_is_a_key_frame_and_differences_name_the_last_one() {
    static TOOK: Timer = Timer::new("c.base", Level::INFO);
    let _alone = alone();
    let broker = Broker::bind().with_own_subscription();
    let client = builder(&broker.endpoint).build().unwrap();
    let (mut key, mut since, mut differences) = (None, 0, 0);
    until("two key frames with differences between", || {
        TOOK.record(Duration::from_micros(5));
        let message = broker.read()?;
        let frame = Frame::parse(&message).unwrap();
        let entry = frame.entries().flatten().find(|entry| entry.name == "c.base")?;
        let State::Timer { count, histogram, .. } = entry.state else { panic!("no timer") };
        if frame.header.flags.key {
            assert_eq!((histogram.base, histogram.buckets().sum::<u64>()), (0, count));
            let interval = key.replace(frame.header.frame_seq()).map(|_| since);
            since = 0;
            return interval.filter(|_| differences > 0);
        }
        since += 1;
        assert!(since < 10, "{since} windows without a key frame");
        if histogram.base != 0 {
            assert_eq!(Some(histogram.base), key);
            differences += 1;
        }
        None
    });
    drop(client);
}

#[test]
fn an_on_demand_level_follows_its_subscribers_and_outlives_them_by_the_hold() {
    static DEBUG: Counter = Counter::new("c.gate", Level::DEBUG);
    let _alone = alone();
    let broker = Broker::bind().with_own_subscription();
    let hold = Duration::from_millis(300);
    let client = builder(&broker.endpoint).hold(hold).build().unwrap();
    broker.serve_until("connection", || client.stats().unwrap().connected == 1);
    DEBUG.add(1);
    assert!(!client.wait_subscribed(Level::DEBUG, Duration::from_millis(1)));
    assert_eq!(client.stats().unwrap().offered.counters, 0, "the broker's own subscription opens no gate");

    let asked = Instant::now();
    broker.subscribe_level("debug");
    broker.serve_until("subscription", || client.wait_subscribed(Level::DEBUG, Duration::from_millis(1)));
    broker.serve_until("open gate", || {
        DEBUG.add(1);
        client.stats().unwrap().offered.counters > 0
    });
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());

    broker.unsubscribe_level("debug");
    let left = Instant::now();
    broker.serve_until("closed gate", || {
        let before = client.stats().unwrap().offered.counters;
        DEBUG.add(1);
        client.stats().unwrap().offered.counters == before
    });
    assert!(left.elapsed() >= hold, "closed after {:?}", left.elapsed());
    drop(client);
}

#[test]
fn a_stranger_that_unsubscribes_does_not_switch_a_level_off_while_a_worker_renews() {
    static DEBUG: Counter = Counter::new("c.stranger", Level::DEBUG);
    let _alone = alone();
    let broker = Broker::bind().with_own_subscription();
    let client = builder(&broker.endpoint).hold(Duration::from_millis(400)).build().unwrap();
    broker.subscribe_level("debug");
    broker.serve_until("subscription", || client.wait_subscribed(Level::DEBUG, Duration::from_millis(1)));
    let started = Instant::now();
    let mut expected = client.stats().unwrap().offered.counters;
    while started.elapsed() < Duration::from_millis(1_200) {
        // A broker passes on one unsubscription that somebody else caused; the worker renews.
        broker.unsubscribe_level("debug");
        broker.subscribe_level("debug");
        DEBUG.add(1);
        expected += 1;
        client.flush();
    }
    assert_eq!(client.stats().unwrap().offered.counters, expected);
    drop(client);
}

#[test]
fn a_second_client_is_refused_and_a_later_one_starts_from_zero() {
    static HITS: Counter = Counter::new("c.second", Level::INFO);
    static TOOK: Timer = Timer::new("c.second.took", Level::INFO);
    let _alone = alone();
    let first = builder("tcp://127.0.0.1:9").build().unwrap();
    assert!(matches!(builder("tcp://127.0.0.1:9").build(), Err(BuildError::AlreadyRunning)));
    HITS.add(5);
    TOOK.record(Duration::from_secs(1));
    let id = first.publisher();
    assert_eq!(first.shutdown(Duration::ZERO).unwrap().accepted.counters, 5);
    HITS.add(100);
    TOOK.record(Duration::from_secs(1));
    let second = builder("tcp://127.0.0.1:9").build().unwrap();
    assert_ne!(second.publisher(), id);
    HITS.add(1);
    let stats = second.shutdown(Duration::ZERO).unwrap();
    assert_eq!((stats.accepted.counters, stats.accepted.timers), (1, 0));
}

#[test]
fn one_series_has_one_kind_and_two_statics_of_it_add_up() {
    static FIRST: Counter = Counter::new("c.kind", AUDIT);
    static AGAIN: Counter = Counter::new("c.kind", AUDIT);
    static CLASH: Gauge = Gauge::new("c.kind", AUDIT);
    static NOT_FINITE: Gauge = Gauge::new("c.finite", AUDIT);
    let _alone = alone();
    let client = builder("tcp://127.0.0.1:9").build().unwrap();
    // The ring is read before the cells, so that the gauge is seen first; the counter was there first.
    FIRST.add(2);
    AGAIN.add(3);
    CLASH.set(1.0);
    for value in [f64::NAN, f64::INFINITY, 4.0] {
        NOT_FINITE.set(value);
    }
    let stats = client.shutdown(Duration::ZERO).unwrap();
    assert!(stats.law_holds());
    assert_eq!((stats.accepted.counters, stats.accepted.gauges, stats.refused.gauges), (5, 1, 3));
    assert_eq!(stats.losses.count(LossReason::KindClash), 1);
    assert_eq!(stats.losses.count(LossReason::NotFinite), 2);
}

#[test]
fn series_beyond_the_limit_go_to_an_overflow_series_that_keeps_the_total() {
    let _alone = alone();
    let broker = Broker::bind().with_own_subscription();
    let client = builder(&broker.endpoint).series_max(5).build().unwrap();
    for i in 0..50u64 {
        client.counter("c.many", AUDIT).tag("i", &i.to_string()).get().add(1);
    }
    let overflow = broker.next("overflow series", |message| {
        let frame = Frame::parse(message).unwrap();
        let sums = frame.entries().flatten().filter_map(|entry| match entry.state {
            State::Counter { sum } => Some(sum),
            _ => None,
        });
        let overflow = counter(message, "zibrato.overflow.counter")?;
        (sums.sum::<u64>() == 50).then_some(overflow)
    });
    let stats = client.stats().unwrap();
    assert_eq!(stats.accepted.counters, 50);
    assert_eq!(stats.losses.count(LossReason::SeriesLimit), overflow);
    assert!(overflow >= 45, "{overflow}");
    drop(client);
}

#[test]
fn a_metric_with_the_name_of_an_overflow_series_does_not_mix_kinds() {
    static NAMESAKE: Counter = Counter::new("zibrato.overflow.timer", AUDIT);
    static FIRST: Timer = Timer::new("c.first", AUDIT);
    static BEYOND: Timer = Timer::new("c.beyond", AUDIT);
    let _alone = alone();
    let broker = Broker::bind().with_own_subscription();
    let client = builder(&broker.endpoint).series_max(2).build().unwrap();
    NAMESAKE.add(1);
    client.stats().unwrap();
    FIRST.record(Duration::from_nanos(1));
    client.stats().unwrap();
    for _ in 0..5 {
        BEYOND.record(Duration::from_nanos(1));
    }
    let stats = client.stats().unwrap();
    assert_eq!((stats.accepted.timers, stats.refused.timers), (1, 5), "{stats}");
    assert_eq!(stats.losses.count(LossReason::KindClash), 5);
    drop(client);
}

#[test]
fn a_key_frame_beyond_64_kib_is_split_into_parts_that_stand_alone() {
    const SERIES: u64 = 3_000;
    let _alone = alone();
    let broker = Broker::bind().with_own_subscription();
    let client = builder(&broker.endpoint).build().unwrap();
    let long = "n".repeat(60);
    for i in 0..SERIES {
        client.counter(&format!("{long}{i}"), AUDIT).get().add(1);
    }
    client.flush();
    let mut parts = std::collections::BTreeMap::new();
    broker.next("all parts of a key frame", |message| {
        assert!(message.len() <= zibrato_core::limits::FRAME_BYTES_MAX);
        let frame = Frame::parse(message).unwrap();
        if frame.level == "audit" && frame.header.flags.key {
            let all = parts.entry(frame.header.frame_seq()).or_insert(0);
            *all += frame.entries().map(Result::unwrap).count() as u64;
            assert!(frame.header.of > 1);
            return (*all == SERIES).then_some(());
        }
        None
    });
    drop(client);
}

#[test]
fn a_frame_of_many_parts_goes_out_in_a_stream_that_nobody_has_to_ask_for() {
    let _alone = alone();
    let broker = Broker::bind().with_own_subscription();
    let client = builder(&broker.endpoint).window(Duration::from_secs(1)).build().unwrap();
    broker.serve_until("connection", || client.stats().unwrap().connected > 0);
    let long = "x".repeat(240);
    for at in 0..6_000 {
        client.counter(&format!("{long}{at}"), Level::WARNING).get().add(1);
    }
    // All parts of one frame in their order and nothing in between; a window that ended while the counters
    // were made has some of them in a frame of its own.
    let mut parts = Vec::new();
    broker.next("frame of many parts", |message| {
        let header = Frame::parse(message).ok().filter(|frame| !frame.header.flags.heartbeat)?.header;
        assert_eq!(usize::from(header.part), parts.len(), "{parts:?}");
        parts.push(header.frame_seq());
        assert!(parts.iter().all(|&frame| frame == parts[0]), "{parts:?}");
        let is_whole = parts.len() == usize::from(header.of);
        let is_wanted = is_whole && parts.len() > 10;
        if is_whole {
            parts.clear();
        }
        is_wanted.then_some(())
    });
    drop(client);
}

#[test]
fn flush_and_a_short_shutdown_say_the_newest_while_a_large_frame_goes_out() {
    let _alone = alone();
    let broker = Broker::bind().with_own_subscription();
    // No window ends by itself, so that nothing but what is asked for brings the newest state.
    let client = builder(&broker.endpoint).window(Duration::from_secs(3_600)).build().unwrap();
    broker.serve_until("connection", || client.stats().unwrap().connected > 0);
    let long = "y".repeat(240);
    for at in 0..6_000 {
        client.counter(&format!("{long}{at}"), Level::WARNING).get().add(1);
    }
    let newest = client.counter("c.newest", Level::WARNING).get();
    newest.add(1);
    client.flush();
    broker.next("first state", |message| counter(message, "c.newest"));
    // A subscription makes a key frame of many parts, one at each reading of the sockets.
    let start_a_frame = || {
        let before = client.stats().unwrap().messages_sent;
        // Again and again, since key frames are made 100 ms apart at least.
        broker.serve_until("part", || {
            broker.subscribe_level("warning");
            client.stats().unwrap().messages_sent > before
        });
    };
    start_a_frame();
    newest.add(1);
    client.flush();
    broker.next("state behind the flush", |message| counter(message, "c.newest").filter(|&sum| sum == 2));
    start_a_frame();
    client.shutdown(Duration::from_millis(50)).unwrap();
    broker.next("end frame", |message| Frame::parse(message).ok()?.header.flags.end.then_some(()));
}

#[test]
fn legacy_text_is_what_a_plain_subscriber_of_the_bare_level_reads() {
    static HITS: Counter = Counter::new("c.legacy.hits", Level::INFO);
    static DEPTH: Gauge = Gauge::new("c.legacy.depth", Level::INFO).source("deathstar");
    static TOOK: Timer = Timer::new("c.legacy.took", Level::INFO);
    let _alone = alone();
    let broker = Broker::bind();
    TOOK.record(Duration::from_secs(9));
    let client = builder(&broker.endpoint).wire(Wire::Legacy).build().unwrap();
    TOOK.record(Duration::from_secs(9));
    HITS.add(2);
    client.flush();
    broker.subscribe(b"info");
    broker.serve_until("subscription", || client.wait_subscribed(Level::INFO, Duration::from_millis(1)));
    client.flush();
    HITS.add(3);
    DEPTH.set(7.0);
    DEPTH.set(-1.5);
    TOOK.record(Duration::from_micros(100_174));
    client.flush();
    let (mut hits, mut depth, mut took) = (0.0, None, vec![]);
    broker.next("three kinds", |message| {
        let message = zibrato_core::legacy::Message::parse(message).unwrap();
        match message.name {
            "c.legacy.hits" => hits += message.value,
            "c.legacy.depth" => {
                assert_eq!(message.source, "deathstar");
                depth = Some(message.value);
            }
            "c.legacy.took" => took.push(message.value),
            other => panic!("{other}"),
        }
        (hits == 5.0 && depth == Some(-1.5) && took == [0.100_174]).then_some(())
    });
    let stats = client.shutdown(DEADLINE).unwrap();
    assert!(stats.law_holds(), "{stats}");
    assert_eq!((stats.delivered.counters, stats.delivered.gauges, stats.delivered.timers), (5, 2, 1));
}

#[test]
fn a_legacy_timer_of_a_level_without_metrics_is_offered_to_whoever_subscribed_before() {
    const LATE: Level = Level::new("late");
    static TOOK: Timer = Timer::new("c.legacy.late", LATE);
    let _alone = alone();
    let broker = Broker::bind();
    // No window ends in between.
    let window = Duration::from_secs(60);
    let client = builder(&broker.endpoint).wire(Wire::Legacy).window(window).build().unwrap();
    broker.subscribe(b"late|");
    broker.serve_until("subscription", || client.wait_subscribed(LATE, Duration::from_millis(1)));
    TOOK.record(Duration::from_millis(2));
    let stats = client.shutdown(DEADLINE).unwrap();
    assert_eq!((stats.offered.timers, stats.delivered.timers), (1, 1), "{stats}");
}

#[test]
fn legacy_with_two_endpoints_and_settings_out_of_range_are_refused_with_the_value() {
    let _alone = alone();
    let error = |builder: zibrato_std::Builder| builder.build().unwrap_err().to_string();
    let two =
        Client::builder().endpoint("tcp://127.0.0.1:1").endpoint("tcp://127.0.0.1:2").wire(Wire::Legacy);
    assert!(error(two).contains("2 endpoints"));
    assert!(error(Client::builder().window(Duration::from_millis(1))).contains("1ms"));
    assert!(error(Client::builder().source("a b")).contains("'a b'"));
    assert!(error(Client::builder().endpoint("nonsense")).contains("nonsense"));
    assert!(error(Client::builder().series_max(0)).contains("at least 1"));
}

#[test]
fn two_brokers_get_the_same_frames_and_one_that_is_gone_holds_nothing_up() {
    static HITS: Counter = Counter::new("c.pair", Level::INFO);
    let _alone = alone();
    let (one, two) = (Broker::bind().with_own_subscription(), Broker::bind().with_own_subscription());
    let client = builder(&one.endpoint).endpoint(&two.endpoint).build().unwrap();
    HITS.add(4);
    let first = one.next("frame at one", |message| counter(message, "c.pair").map(|_| message.to_vec()));
    let second = two.next("frame at two", |message| counter(message, "c.pair").map(|_| message.to_vec()));
    assert_eq!((counter(&first, "c.pair"), counter(&second, "c.pair")), (Some(4), Some(4)));
    drop(one);
    HITS.add(1);
    two.next("frame after one is gone", |message| counter(message, "c.pair").filter(|sum| *sum == 5));
    let stopper = std::thread::spawn(move || client.shutdown(DEADLINE).unwrap());
    two.next("end frame", |message| {
        two.acknowledge(message);
        Frame::parse(message).is_ok_and(|frame| frame.header.flags.end).then_some(())
    });
    assert_eq!(stopper.join().unwrap().unacknowledged, 0);
}

#[test]
fn a_large_end_frame_reaches_slow_brokers_whole_and_each_of_them() {
    const SERIES: u64 = 4_000;
    let _alone = alone();
    let brokers = [Broker::bind().with_own_subscription(), Broker::bind().with_own_subscription()];
    let client = builder(&brokers[0].endpoint).endpoint(&brokers[1].endpoint).build().unwrap();
    until("connections", || {
        brokers.iter().for_each(|broker| drop(broker.read()));
        (client.stats().unwrap().connected == 2).then_some(())
    });
    let long = "l".repeat(200);
    for i in 0..SERIES {
        client.counter(&format!("{long}{i}"), AUDIT).get().add(1);
    }
    let stopper = std::thread::spawn(move || client.shutdown(DEADLINE).unwrap());
    for broker in &brokers {
        let mut parts = std::collections::BTreeSet::new();
        broker.next("whole end frame", |message| {
            let header = Frame::parse(message).unwrap().header;
            if header.flags.end {
                parts.insert(header.part);
            }
            // A reader slower than the frame is long: it takes longer than the end is repeated.
            std::thread::park_timeout(Duration::from_millis(4));
            (parts.len() == usize::from(header.of)).then(|| broker.acknowledge_frame(message))
        });
        assert!(parts.len() > 10, "{} parts", parts.len());
    }
    assert_eq!(stopper.join().unwrap().unacknowledged, 0);
}

#[test]
fn a_shutdown_without_time_still_offers_the_end_once() {
    static HITS: Counter = Counter::new("c.notime", Level::INFO);
    let _alone = alone();
    let broker = Broker::bind().with_own_subscription();
    let client = builder(&broker.endpoint).window(Duration::from_secs(60)).build().unwrap();
    broker.serve_until("connection", || client.stats().unwrap().connected == 1);
    HITS.add(9);
    let stats = client.shutdown(Duration::ZERO).unwrap();
    assert_eq!((stats.held.counters, stats.unacknowledged), (9, 1), "nobody had time to acknowledge");
    assert!(stats.messages_sent > 0);
}

#[test]
fn deadlines_without_end_are_cut_instead_of_overflowing() {
    static HITS: Counter = Counter::new("c.forever", Level::INFO);
    let _alone = alone();
    let client = builder("tcp://127.0.0.1:9").build().unwrap();
    HITS.add(1);
    assert_eq!(client.shutdown(Duration::MAX).unwrap().held.counters, 1);
}
