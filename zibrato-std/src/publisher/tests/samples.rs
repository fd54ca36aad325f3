use zibrato_core::frame::{LossReason, SampleFrame, SampleValue, TOPIC_SAMPLES, topic};
use zibrato_core::metric::{Counter, Spilled};

use super::super::Samples;
use super::super::samples::FRAMES_WAITING_MAX;
use super::*;
use crate::links::Offered;

/// What stands in offered frames: numbers of the first samples, what they say was lost, and durations by name.
#[derive(Debug, Default, PartialEq)]
struct Sent {
    numbers: Vec<(u64, u64)>,
    samples: Vec<(String, u64)>,
}

/// Offers all frames, of which each meets the same fate.
fn offer(publisher: &mut Publisher, fate: Offered) -> Sent {
    let mut sent = Sent::default();
    publisher.end_sample_frames(true);
    while let Some(message) = publisher.take_sample_message() {
        let frame = SampleFrame::parse(&message.bytes).expect("our own frame");
        sent.numbers.push((frame.header.first, frame.header.lost));
        for sample in frame.samples() {
            let sample = sample.expect("our own sample");
            let metric = frame.metric(sample.metric).expect("our own metric");
            let value = match sample.value {
                SampleValue::Timer { ns } => ns,
                SampleValue::Gauge { value } => value as u64,
                SampleValue::Counter { .. } => panic!("no counter goes through a ring"),
            };
            sent.samples.push((metric.name.to_owned(), value));
        }
        publisher.note_sample_message(&message, fate);
    }
    sent
}

fn sampling(series_max: usize) -> (Publisher, Drain) {
    let (mut publisher, drain) = publisher(series_max, None);
    publisher.samples = Some(Box::new(Samples::new(PublisherId([7; 16]), "test")));
    (publisher, drain)
}

fn subscribe(publisher: &mut Publisher, levels: &[&str]) {
    let topics = levels.iter().filter_map(|level| topic(TOPIC_SAMPLES, level)).map(|topic| topic.to_vec());
    let topics: Vec<_> = topics.collect();
    assert!(publisher.samples_differ(&topics));
    publisher.set_samples_subscribed(topics);
}

fn lost(publisher: &Publisher) -> u64 {
    publisher.losses().count(LossReason::Samples)
}

#[test]
fn a_number_is_used_up_by_what_a_socket_took_and_what_none_took_is_lost() {
    static TOOK: Timer = Timer::new("n.took", Level::INFO);
    let _alone = alone();
    let (mut publisher, mut drain) = sampling(100);
    subscribe(&mut publisher, &["info"]);
    let mut record = |publisher: &mut Publisher, ns| {
        for ns in ns {
            TOOK.record(Duration::from_nanos(ns));
        }
        publisher.fold_rings(&mut drain);
    };
    record(&mut publisher, 0..3);
    let three = |range: std::ops::Range<u64>| Vec::from_iter(range.map(|ns| ("n.took".to_owned(), ns)));
    let sent = offer(&mut publisher, Offered::Taken);
    assert_eq!((sent.numbers, sent.samples), (vec![(0, 0)], three(0..3)));
    record(&mut publisher, 3..5);
    assert_eq!(offer(&mut publisher, Offered::Refused).numbers, [(3, 0)]);
    assert_eq!(lost(&publisher), 2);
    // Told by a frame without samples, again and again until a socket took it.
    for fate in [Offered::Refused, Offered::Taken] {
        publisher.end_sample_frames(false);
        assert_eq!(offer(&mut publisher, fate), Sent { numbers: vec![(3, 2)], samples: vec![] });
    }
    publisher.end_sample_frames(false);
    assert_eq!(offer(&mut publisher, Offered::Taken), Sent::default());
    record(&mut publisher, 5..8);
    let sent = offer(&mut publisher, Offered::Taken);
    assert_eq!((sent.numbers, sent.samples), (vec![(3, 2)], three(5..8)));
    // Nobody asks any more: it goes away, and is not lost.
    record(&mut publisher, 8..9);
    assert_eq!(offer(&mut publisher, Offered::Unwanted).numbers, [(6, 2)]);
    record(&mut publisher, 9..10);
    subscribe(&mut publisher, &[]);
    record(&mut publisher, 10..11);
    assert_eq!(offer(&mut publisher, Offered::Taken), Sent::default());
    assert_eq!(lost(&publisher), 2);
    publisher.end_samples();
    assert_eq!((lost(&publisher), publisher.accepted(0).timers), (2, 11));
    registry::switch(false, Vec::new());
}

#[test]
fn what_is_refused_is_no_sample_and_what_is_beyond_the_series_is_one_under_its_own_name() {
    const AUDIT: Level = Level::new("audit");
    static CLAIMED: Counter = Counter::new("o.clash", AUDIT);
    static CLASH: Timer = Timer::new("o.clash", AUDIT);
    static FIRST: Timer = Timer::new("o.first", AUDIT);
    static BEYOND: Timer = Timer::new("o.beyond", AUDIT);
    static DEPTH: Gauge = Gauge::new("o.depth", AUDIT);
    static OTHER: Timer = Timer::new("o.other", Level::INFO);
    let _alone = alone();
    let (mut publisher, mut drain) = sampling(2);
    subscribe(&mut publisher, &["audit"]);
    CLAIMED.add(1);
    publisher.fold_cells(&mut drain);
    for timer in [&FIRST, &CLASH, &BEYOND, &OTHER] {
        timer.record(Duration::from_nanos(5));
    }
    DEPTH.set(f64::NAN);
    DEPTH.set(4.0);
    publisher.fold_rings(&mut drain);
    let named = |name: &str, value| (name.to_owned(), value);
    let sent = offer(&mut publisher, Offered::Taken);
    assert_eq!(sent.samples, [named("o.first", 5), named("o.beyond", 5), named("o.depth", 4)]);
    assert_eq!(lost(&publisher), 0);
    registry::switch(false, Vec::new());
}

#[test]
fn records_that_spilled_are_lost_at_levels_that_are_asked_for() {
    static TOOK: Timer = Timer::new("p.took", Level::INFO);
    static OTHER: Timer = Timer::new("p.other", Level::new("audit"));
    let _alone = alone();
    let (mut publisher, mut drain) = sampling(100);
    for timer in [&TOOK, &OTHER] {
        timer.record(Duration::from_nanos(5));
    }
    publisher.fold_rings(&mut drain);
    let spilled = Spilled { count: 7, sum: 70, range: None, odd: 0 };
    publisher.fold_spilled(TOOK.metric(), &spilled);
    assert_eq!(lost(&publisher), 0, "nobody asks");
    subscribe(&mut publisher, &["info"]);
    publisher.fold_spilled(TOOK.metric(), &spilled);
    publisher.fold_spilled(OTHER.metric(), &spilled);
    assert_eq!((lost(&publisher), publisher.losses().count(LossReason::Spilled)), (7, 21));
    registry::switch(false, Vec::new());
}

#[test]
fn what_waits_for_the_sockets_is_bounded_and_what_is_beyond_is_counted() {
    static TOOK: Timer = Timer::new("w.took", Level::INFO);
    let _alone = alone();
    let (mut publisher, mut drain) = sampling(100);
    subscribe(&mut publisher, &["info"]);
    let mut recorded = 0;
    // What waits is 4 MiB at most, and each of these takes ten bytes and more.
    while lost(&publisher) == 0 {
        assert!(recorded < 4 << 20, "nothing is lost of {recorded}");
        for _ in 0..1_000 {
            TOOK.record(Duration::from_nanos((1 << 61) + recorded));
            recorded += 1;
        }
        publisher.fold_rings(&mut drain);
    }
    let sent = offer(&mut publisher, Offered::Taken);
    assert!(sent.numbers.len() <= FRAMES_WAITING_MAX + 1, "{}", sent.numbers.len());
    assert_eq!(sent.samples.len() as u64 + lost(&publisher), recorded);
    assert_eq!(publisher.accepted(0).timers, recorded);
    // What is left at the end was handed to nobody.
    TOOK.record(Duration::from_nanos(1));
    publisher.fold_rings(&mut drain);
    publisher.end_samples();
    assert_eq!(sent.samples.len() as u64 + lost(&publisher), recorded + 1);
    registry::switch(false, Vec::new());
}
