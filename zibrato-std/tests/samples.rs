//! The wire `samples` against a scripted broker over real sockets.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use support::{Broker, DEADLINE, alone, builder, end_frames, until};
use zibrato_core::frame::{Frame, SampleFrame, SampleValue, State, TOPIC_SAMPLES, TOPIC_STATE, topic};
use zibrato_core::limits::FRAME_BYTES_MAX;
use zibrato_std::{Client, Counter, Gauge, Level, LossReason, Stats, Timer, Wire, socket};

/// Samples that came, by metric, in their order.
#[derive(Debug, Default)]
struct Seen {
    frames: u64,
    /// Samples, of which those with a number seen before are left out.
    samples: BTreeMap<String, Vec<SampleValue>>,
    times_ns: Vec<u64>,
    /// Number of the next sample, if none is lost on the way.
    next: u64,
    lost: u64,
}

impl Seen {
    fn take(&mut self, message: &[u8]) {
        let frame = SampleFrame::parse(message).unwrap();
        assert!(message.len() <= FRAME_BYTES_MAX);
        assert_eq!(frame.header.first, self.next, "nothing is lost on the way of one connection");
        assert!(frame.header.lost >= self.lost);
        self.frames += 1;
        self.lost = frame.header.lost;
        for sample in frame.samples() {
            let sample = sample.unwrap();
            let metric = frame.metric(sample.metric).unwrap();
            let source = if metric.source.is_empty() { frame.source } else { metric.source };
            let tags: Vec<_> = metric.tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let name = format!("{source}/{}/{}/{}", metric.name, tags.join(","), metric.unit);
            self.samples.entry(name).or_default().push(sample.value);
            self.times_ns.push(sample.time_ns);
            self.next += 1;
        }
    }

    fn count(&self) -> u64 {
        self.next
    }
}

fn timer(ns: u64) -> SampleValue {
    SampleValue::Timer { ns }
}

fn samples_topic(level: &str) -> Vec<u8> {
    topic(TOPIC_SAMPLES, level).unwrap().to_vec()
}

fn is_samples(message: &[u8]) -> bool {
    message.first() == Some(&TOPIC_SAMPLES)
}

fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64
}

/// Shuts a client down and acknowledges its end; its statistics, the end's timer records, and samples go to `seen`.
fn end(client: Client, broker: &Broker, seen: &mut Seen) -> (Stats, u64) {
    let stopper = std::thread::spawn(move || client.shutdown(DEADLINE).unwrap());
    let mut count = 0;
    until("end of the client", || {
        match broker.read() {
            Some(message) if is_samples(&message) => seen.take(&message),
            Some(message) => {
                let frame = Frame::parse(&message).unwrap();
                if frame.header.flags.end {
                    let timers = frame.entries().flatten().filter_map(|entry| match entry.state {
                        State::Timer { count, .. } => Some(count),
                        _ => None,
                    });
                    count = timers.sum();
                    broker.acknowledge(&message);
                }
            }
            None => {}
        }
        stopper.is_finished().then_some(())
    });
    (stopper.join().unwrap(), count)
}

#[test]
fn each_record_comes_once_with_its_value_and_nothing_before_somebody_asks() {
    static TOOK: Timer = Timer::new("s.took", Level::INFO).unit("s").tags(&[("b", "2"), ("a", "1")]);
    static DEPTH: Gauge = Gauge::new("s.depth", Level::INFO).source("own");
    static HITS: Counter = Counter::new("s.hits", Level::INFO);
    static OTHER: Timer = Timer::new("s.other", Level::new("audit"));
    // With those of the others no more than a ring holds, so that none spills.
    const RECORDS: u64 = 1_200;
    let _alone = alone();
    let broker = Broker::bind().with_own_subscription();
    let client = builder(&broker.endpoint).source("host-1").wire(Wire::Samples).build().unwrap();
    broker.serve_until("connection", || client.stats().unwrap().connected == 1);
    // Everything, and state: neither asks for samples.
    broker.subscribe(b"");
    broker.subscribe_level("info");
    broker.serve_until("worker", || client.wait_subscribed(Level::INFO, Duration::from_millis(1)));
    for _ in 0..100 {
        TOOK.record(Duration::from_secs(9));
    }
    client.flush();
    let mut state = 0;
    broker.next("state of what nobody asked samples of", |message| {
        assert!(!is_samples(message), "{message:?}");
        state += 1;
        support::timer(message, "s.took").filter(|&count| count == 100).map(drop)
    });
    broker.unsubscribe_level("info");
    broker.serve_until("unsubscription", || !client.wait_subscribed(Level::INFO, Duration::from_millis(1)));

    broker.subscribe(&samples_topic("info"));
    broker.serve_until("subscription", || client.wait_subscribed(Level::INFO, Duration::from_millis(1)));
    let started_ns = now_ns();
    for at in 0..RECORDS {
        TOOK.record(Duration::from_nanos(at * at));
        OTHER.record(Duration::from_nanos(at));
        HITS.add(1);
        if at % 3 == 0 {
            DEPTH.set(at as f64 / 2.0 - 7.0);
        }
    }
    for refused in [f64::NAN, f64::INFINITY] {
        DEPTH.set(refused);
    }
    let mut seen = Seen::default();
    broker.next("all samples", |message| {
        if is_samples(message) {
            seen.take(message);
        }
        (seen.count() == RECORDS + RECORDS / 3).then_some(())
    });
    let names: Vec<_> = seen.samples.keys().map(String::as_str).collect();
    assert_eq!(names, ["host-1/s.took/a=1,b=2/s", "own/s.depth//"], "no counters, and no other level");
    let took: Vec<_> = (0..RECORDS).map(|at| timer(at * at)).collect();
    assert_eq!(seen.samples["host-1/s.took/a=1,b=2/s"], took);
    let depth = |at: u64| SampleValue::Gauge { value: at as f64 / 2.0 - 7.0 };
    assert_eq!(seen.samples["own/s.depth//"], Vec::from_iter((0..RECORDS).step_by(3).map(depth)));
    assert!(seen.times_ns.is_sorted());
    assert!(seen.times_ns.iter().all(|time| (started_ns..=now_ns()).contains(time)));
    assert_eq!((seen.lost, client.stats().unwrap().losses.count(LossReason::Samples)), (0, 0));

    // Who has left gets none; what is recorded now is not asked for, and so not lost.
    broker.unsubscribe(&samples_topic("info"));
    broker.serve_until("unsubscription", || !client.wait_subscribed(Level::INFO, Duration::from_millis(1)));
    TOOK.record(Duration::from_secs(1));
    client.flush();
    let (stats, timers) = end(client, &broker, &mut seen);
    assert_eq!(seen.count(), RECORDS + RECORDS / 3);
    assert!(stats.law_holds() && stats.unacknowledged == 0, "{stats}");
    assert_eq!(stats.delivered.timers, 100 + RECORDS + RECORDS + 1);
    assert!(timers > 0);
    assert_eq!(stats.losses.count(LossReason::Samples), 0);
    assert_eq!(
        (stats.delivered.gauges, stats.refused.gauges, stats.delivered.counters),
        (RECORDS / 3, 2, RECORDS)
    );
}

#[test]
fn who_does_not_read_loses_samples_and_each_is_counted_while_state_is_exact() {
    static TOOK: Timer = Timer::new("s.flood", Level::INFO);
    const BATCH: u64 = 1_000;
    let _alone = alone();
    let context = zmq::Context::new();
    let broker = context.socket(zmq::XSUB).unwrap();
    // As little as can be between the client and who does not read.
    broker.set_rcvhwm(1).unwrap();
    broker.set_rcvbuf(4_096).unwrap();
    broker.bind("tcp://127.0.0.1:*").unwrap();
    let endpoint = broker.get_last_endpoint().unwrap().unwrap();
    let client = builder(&endpoint).wire(Wire::Samples).build().unwrap();
    for topic in [&[TOPIC_STATE][..], &samples_topic("info")] {
        broker.send([&[1], topic].concat(), 0).unwrap();
    }
    until("subscription", || {
        drop(socket::recv_now(&broker).unwrap());
        client.wait_subscribed(Level::INFO, Duration::from_millis(1)).then_some(())
    });
    let mut recorded = 0;
    until("loss", || {
        for _ in 0..BATCH {
            // Ten bytes each, that it takes less.
            TOOK.record(Duration::from_nanos((1 << 61) + recorded));
            recorded += 1;
        }
        let stats = client.stats().unwrap();
        assert!(stats.law_holds(), "{stats}");
        assert_eq!(stats.accepted.timers, recorded);
        (stats.losses.count(LossReason::Samples) > 10 * BATCH).then_some(())
    });

    // Now somebody reads: what arrived and what was lost are all there were.
    let (mut seen, mut states) = (Seen::default(), 0);
    let read = |seen: &mut Seen, states: &mut u64| match socket::recv_now(&broker).unwrap() {
        Some(message) if is_samples(&message) => seen.take(&message),
        Some(message) => *states = support::timer(&message, "s.flood").unwrap_or(*states),
        None => {}
    };
    until("account of all samples", || {
        read(&mut seen, &mut states);
        // Told also when no sample follows.
        (seen.count() + seen.lost == recorded).then_some(())
    });
    assert!(seen.count() > 0 && seen.lost > 10 * BATCH, "{seen:?}");
    until("exact state", || {
        read(&mut seen, &mut states);
        (states == recorded).then_some(())
    });
    let values: Vec<_> = seen.samples.values().flatten().copied().collect();
    let ordinal = |value: &SampleValue| match value {
        SampleValue::Timer { ns } => ns - (1 << 61),
        _ => panic!("{value:?}"),
    };
    assert!(values.is_sorted_by(|a, b| ordinal(a) < ordinal(b)), "each once, in order");
    let stats = client.stats().unwrap();
    assert_eq!(stats.losses.count(LossReason::Samples), seen.lost);
    assert!(stats.law_holds(), "{stats}");
    drop(client);
}

#[test]
fn a_subscription_to_samples_opens_the_gate_of_its_level_and_of_no_other() {
    static DEBUG: Timer = Timer::new("s.debug", Level::DEBUG);
    static TRACE: Timer = Timer::new("s.trace", Level::TRACE);
    let _alone = alone();
    let broker = Broker::bind().with_own_subscription();
    let client = builder(&broker.endpoint).wire(Wire::Samples).build().unwrap();
    // All samples: those of levels that are on.
    broker.subscribe(&[TOPIC_SAMPLES]);
    broker.serve_until("connection", || client.stats().unwrap().connected == 1);
    assert!(!client.wait_subscribed(Level::DEBUG, Duration::from_millis(20)));
    DEBUG.record(Duration::from_nanos(5));
    broker.subscribe(&samples_topic("debug"));
    broker.serve_until("subscription", || client.wait_subscribed(Level::DEBUG, Duration::from_millis(1)));
    DEBUG.record(Duration::from_nanos(6));
    TRACE.record(Duration::from_nanos(7));
    let mut seen = Seen::default();
    broker.next("sample", |message| {
        if is_samples(message) {
            seen.take(message);
        }
        (seen.count() > 0).then_some(())
    });
    assert_eq!(seen.samples.into_values().collect::<Vec<_>>(), [[timer(6)]]);
    let stats = client.stats().unwrap();
    assert_eq!(stats.offered.timers, 1, "{stats}");
    drop(client);
}

#[test]
fn with_wire_state_nobody_gets_samples_and_a_subscription_to_them_opens_nothing() {
    static DEBUG: Timer = Timer::new("s.state.debug", Level::DEBUG);
    static TOOK: Timer = Timer::new("s.state.took", Level::INFO);
    let _alone = alone();
    let broker = Broker::bind().with_own_subscription();
    let client = builder(&broker.endpoint).build().unwrap();
    broker.subscribe(&samples_topic("debug"));
    broker.subscribe(&samples_topic("info"));
    broker.serve_until("connection", || client.stats().unwrap().connected == 1);
    assert!(!client.wait_subscribed(Level::DEBUG, Duration::from_millis(20)));
    DEBUG.record(Duration::from_nanos(5));
    TOOK.record(Duration::from_nanos(5));
    let (stats, ends) = end_frames(client, &broker);
    assert_eq!((stats.offered.timers, ends.len()), (1, 1), "{stats}");
}

#[test]
fn records_that_spilled_are_lost_as_samples_and_only_as_these() {
    static TOOK: Timer = Timer::new("s.spilled", Level::INFO);
    let _alone = alone();
    let broker = Broker::bind().with_own_subscription();
    let client = builder(&broker.endpoint).wire(Wire::Samples).build().unwrap();
    broker.subscribe(&samples_topic("info"));
    broker.serve_until("subscription", || client.wait_subscribed(Level::INFO, Duration::from_millis(1)));
    let mut recorded = 0u64;
    until("spill", || {
        // Faster than anybody drains, until it shows.
        for _ in 0..10 * zibrato_core::RING_RECORDS {
            TOOK.record(Duration::from_nanos(300));
        }
        recorded += 10 * zibrato_core::RING_RECORDS as u64;
        client.flush();
        while broker.read().is_some() {}
        (client.stats().unwrap().losses.count(LossReason::Spilled) > 0).then_some(())
    });
    let stats = client.stats().unwrap();
    let [spilled, lost] = [LossReason::Spilled, LossReason::Samples].map(|reason| stats.losses.count(reason));
    assert!(lost >= spilled && stats.law_holds(), "{stats}");
    assert_eq!(stats.accepted.timers, recorded);
    drop(client);
}

#[test]
fn two_brokers_get_the_same_samples_under_the_same_numbers() {
    static TOOK: Timer = Timer::new("s.pair", Level::INFO);
    let _alone = alone();
    let (one, two) = (Broker::bind().with_own_subscription(), Broker::bind().with_own_subscription());
    let client = builder(&one.endpoint).endpoint(&two.endpoint).wire(Wire::Samples).build().unwrap();
    one.subscribe(&samples_topic("info"));
    two.subscribe(&samples_topic("info"));
    let mut came = [false; 2];
    until("subscriptions", || {
        TOOK.record(Duration::from_nanos(1));
        for (came, broker) in came.iter_mut().zip([&one, &two]) {
            *came |= broker.read().is_some_and(|message| is_samples(&message));
        }
        (came == [true; 2]).then_some(())
    });
    while [&one, &two].iter().any(|broker| broker.read().is_some()) {}
    client.flush();
    for at in 0..50 {
        TOOK.record(Duration::from_nanos(1_000 + at));
    }
    client.flush();
    let first = |broker: &Broker| {
        let (mut numbers, mut values) = (Vec::new(), Vec::new());
        broker.next("samples of the burst", |message| {
            if is_samples(message) {
                let frame = SampleFrame::parse(message).unwrap();
                let read: Vec<_> = frame.samples().map(|sample| sample.unwrap().value).collect();
                if read.contains(&timer(1_000)) || !values.is_empty() {
                    numbers.push(frame.header.first);
                    values.extend(read);
                }
            }
            values.contains(&timer(1_049)).then_some(())
        });
        (numbers, values)
    };
    assert_eq!(first(&one), first(&two));
    drop(client);
}
