//! The device's own code, on a clock of the test's, against a session.

mod support;

use zibrato_core::device::{Item, SampleRing};
use zibrato_core::frame::{SampleFrame, SampleValue, State};
use zibrato_core::level::Level;
use zibrato_core::link::kind;
use zibrato_core::{counter, gauge, metrics, timer};

use support::{Broker, Sim, at, frame_of, hello, session};

/// A level of the user's own.
const AUDIT: Level = Level::new("audit");

#[test]
fn what_a_device_counts_arrives_in_key_and_delta_frames() {
    counter!(static FRAMES = "can.frames", Level::INFO, tags = &[("bus", "0")]);
    gauge!(static DEPTH: i32 = "queue.depth", Level::INFO, source = "own", unit = "items");
    gauge!(static CURRENT: f32 = "motor.current", AUDIT);
    timer!(static LOOP = "ctrl.loop", AUDIT, buckets = 124);
    timer!(static ISR = "isr", AUDIT);
    static METRICS: [Item; 5] = metrics![FRAMES, DEPTH, CURRENT, LOOP, ISR];
    let (mut sim, mut session, mut broker) = (Sim::new(&METRICS, 7), session(), Broker::default());

    FRAMES.add(3);
    DEPTH.set(-4);
    for ticks in [100, 200, 5_000] {
        LOOP.record(ticks);
        ISR.record(ticks);
    }
    session.take(&sim.run(1), at(1), &mut broker);
    assert_eq!(broker.begun, 1);
    let info = broker.frames("info");
    assert_eq!(info.len(), 1);
    assert!(info[0].is_key && info[0].program == "sim" && info[0].source == "dev");
    assert_eq!((info[0].seq, info[0].host.as_str(), info[0].age_ms), (1, "lab", 0));
    assert_eq!(broker.state("can.frames"), State::Counter { sum: 3 });
    let State::Gauge { sets: 1, last, last_ms, min, max } = broker.state("queue.depth") else { panic!() };
    assert_eq!((last, min, max, last_ms), (-4.0, -4.0, -4.0, at(1).unix_ms()));
    assert_eq!(broker.sources(), [("can.frames", "", "", 1), ("queue.depth", "own", "items", 0)]);
    assert!(broker.known("motor.current").is_none(), "a gauge that was never set has no value");
    // A tick is a microsecond and the overhead two.
    for name in ["ctrl.loop", "isr"] {
        let State::Timer { count: 3, sum_ns, window_ns, .. } = broker.state(name) else { panic!() };
        assert_eq!((sum_ns, window_ns), (5_294_000, Some((98_000, 4_998_000))), "{name}");
    }

    session.take(&sim.run(1_000), at(1_001), &mut broker);
    assert!(broker.frames("info")[1].is_heartbeat && broker.frames("info")[1].seq == 1);
    FRAMES.add(1);
    CURRENT.set(1.5);
    CURRENT.set(f32::NAN);
    session.take(&sim.run(1_000), at(2_001), &mut broker);
    let second = broker.frames("info").into_iter().find(|frame| frame.seq == 2).unwrap();
    assert_eq!((second.is_key, second.entries), (false, 1));
    assert_eq!(broker.state("can.frames"), State::Counter { sum: 4 });
    assert!(broker.known("motor.current").is_none());
    assert_eq!(session.counts.entries_refused.get("not_finite"), Some(&1));
    assert!(session.counts.law_holds());
    CURRENT.set(-0.5);
    sim.end(&mut session, at(2_500), &mut broker);
    assert_eq!(broker.ended, 1);
    assert!(broker.frames("audit").last().unwrap().is_end);
    let State::Gauge { sets: 3, last, .. } = broker.state("motor.current") else { panic!() };
    assert_eq!(last.to_bits(), (-0.5f64).to_bits());
    assert_eq!((session.counts.line.lost, session.counts.bad_total()), (0, 0));
}

#[test]
fn a_restarted_gateway_goes_on_as_the_same_publisher_behind_the_numbers_of_the_one_before() {
    counter!(static FRAMES = "frames", Level::INFO);
    timer!(static LOOP = "loop", Level::INFO, buckets = 80);
    static METRICS: [Item; 2] = metrics![FRAMES, LOOP];
    let (mut sim, mut first, mut broker) = (Sim::new(&METRICS, 7), session(), Broker::default());
    for second in 0..30 {
        FRAMES.add(1);
        LOOP.record(second * 37);
        first.take(&sim.run(1_000), at(1_000 * u64::from(second)), &mut broker);
    }
    let before = broker.frames("info").last().unwrap().clone();
    let (mut second, mut other) = (session(), Broker::default());
    second.connected();
    let mut now = 30_000;
    // It asks; the device answers, and the next window has all metrics.
    while other.frames("info").iter().all(|frame| !frame.is_key) {
        second.ask(at(now));
        sim.hear(&mut second);
        second.take(&sim.run(1_000), at(now), &mut other);
        now += 1_000;
        assert!(now < 60_000);
    }
    assert!(now <= 33_000, "{now}");
    let after = other.frames("info").into_iter().find(|frame| frame.is_key).unwrap();
    assert_eq!(after.publisher, before.publisher);
    assert!(after.seq > before.seq && after.seq > 29_000, "{}", after.seq);
    assert!(after.age_ms.abs_diff(now) < 3_000);
    assert_eq!(other.state("frames"), State::Counter { sum: 30 });
    let (State::Timer { count, sum_ns, .. }, State::Timer { count: same, sum_ns: sum, .. }) =
        (broker.state("loop"), other.state("loop"))
    else {
        panic!()
    };
    assert_eq!((count, same), (30, 30));
    assert_eq!(sum_ns, sum);
    // While it waits for a state that is whole, it only says that it lives.
    let waiting = other.frames("info").into_iter().take_while(|frame| !frame.is_key);
    assert!(waiting.into_iter().all(|frame| frame.is_heartbeat && frame.seq == 0));
}

#[test]
fn noise_costs_the_frames_it_hits_each_is_counted_and_the_totals_are_exact_at_the_end() {
    counter!(static FRAMES = "frames", Level::INFO);
    timer!(static LOOP = "loop", Level::INFO, buckets = 124);
    timer!(static ISR = "isr", Level::DEBUG);
    static METRICS: [Item; 3] = metrics![FRAMES, LOOP, ISR];
    ISR.record(1);
    let (mut sim, mut session, mut broker) = (Sim::new(&METRICS, 7), session(), Broker::default());
    let mut random = support::Random(42);
    let (mut now, mut sent) = (0, 0u64);
    for round in 0..400u32 {
        FRAMES.add(round);
        LOOP.record(round * round);
        let bytes = sim.run(250);
        sent += bytes.iter().filter(|&&byte| byte == 0).count() as u64;
        let is_noisy = round > 4 && round < 380;
        let bytes = if is_noisy { random.harm(&bytes, 300) } else { bytes };
        now += 250;
        session.take(&bytes, at(now), &mut broker);
        session.ask(at(now));
        sim.hear(&mut session);
    }
    let counts = &session.counts;
    assert!(counts.bad_total() > 20 && counts.line.lost > 20, "{counts}");
    // Each frame that was sent came, or is known to be lost; the first zero ended none.
    assert_eq!(counts.line.frames - counts.line.repeated + counts.line.lost, sent - 1, "{counts}");
    assert_eq!((broker.begun, broker.ended, counts.resets), (1, 0, 0), "noise ends no boot");
    sim.end(&mut session, at(now), &mut broker);
    assert_eq!(broker.state("frames"), State::Counter { sum: (0..400).sum() });
    let State::Timer { count: 400, sum_ns, .. } = broker.state("loop") else { panic!() };
    let ticks: u64 = (0..400u64).map(|round| round * round).sum();
    assert_eq!(sum_ns, 1_000 * (ticks - 2 * 400));
    assert!(session.counts.law_holds());
}

#[test]
fn another_boot_ends_the_publisher_and_begins_one() {
    counter!(static OLD = "frames", Level::INFO);
    counter!(static NEW = "frames", Level::INFO);
    static BEFORE: [Item; 1] = metrics![OLD];
    static AFTER: [Item; 1] = metrics![NEW];
    let (mut sim, mut session, mut broker) = (Sim::new(&BEFORE, 1), session(), Broker::default());
    OLD.add(100);
    for second in 0..5 {
        session.take(&sim.run(1_000), at(second * 1_000), &mut broker);
    }
    OLD.add(11);
    // In the middle of a frame.
    let cut = sim.run(1_000);
    session.take(&cut[..cut.len() - 5], at(5_000), &mut broker);
    let mut sim = Sim::new(&AFTER, 2);
    NEW.add(7);
    session.take(&sim.run(1), at(5_100), &mut broker);
    assert_eq!((broker.begun, broker.ended, session.counts.resets), (2, 1, 1));
    let ended = broker.frames("info").into_iter().find(|frame| frame.is_end).unwrap();
    let begun = broker.frames("info").pop().unwrap();
    assert_ne!(ended.publisher, begun.publisher);
    assert!(begun.is_key && begun.seq == 1 && begun.age_ms < 100);
    assert_eq!(broker.state("frames"), State::Counter { sum: 7 });
    assert_eq!((session.counts.bad_total(), session.counts.line.lost), (1, 0));
}

#[test]
fn two_boots_of_one_number_are_told_apart_by_their_uptime() {
    counter!(static FRAMES = "frames", Level::INFO);
    static METRICS: [Item; 1] = metrics![FRAMES];
    let (mut session, mut broker) = (session(), Broker::default());
    for boot in 0..2 {
        FRAMES.add(1);
        let mut sim = Sim::new(&METRICS, 9);
        session.take(&sim.run(1), at(boot * 9_000), &mut broker);
        // One hello that went back may be an old one, so the device is asked for another.
        session.ask(at(boot * 9_000 + 1));
        sim.hear(&mut session);
        session.take(&sim.run(1_500), at(boot * 9_000 + 1_500), &mut broker);
        session.take(&sim.run(1_500), at(boot * 9_000 + 3_000), &mut broker);
    }
    assert_eq!((broker.begun, broker.ended), (2, 1));
    let publishers: Vec<_> = broker.frames("info").iter().map(|frame| frame.publisher).collect();
    assert_ne!(publishers.first(), publishers.last(), "one of them has ended");
}

#[test]
fn a_state_from_before_waits_for_a_hello_and_changes_nothing() {
    let (mut session, mut broker) = (session(), Broker::default());
    let state = |seq, uptime, sum| {
        frame_of(kind::STATE, seq, |writer| {
            writer.byte(2);
            writer.varint(uptime);
            writer.varint(0);
            writer.varint(0);
            writer.varint(sum);
        })
    };
    let describe =
        frame_of(kind::DESCRIPTOR, 1, |writer| support::descriptor(writer, 0, 0, (0, "info"), "n", ""));
    session.take(&[hello(0, 5, 1_000, 1), describe].concat(), at(1), &mut broker);
    session.take(&state(2, 2_000, 10), at(2), &mut broker);
    session.take(&state(3, 1_500, 4), at(3), &mut broker);
    assert_eq!(session.counts.states_withheld, 1);
    session.take(&state(4, 3_000, 12), at(4), &mut broker);
    assert_eq!(session.counts.states_withheld, 2, "not before a hello");
    assert_eq!(broker.state("n"), State::Counter { sum: 10 });
    session.ask(at(5));
    assert_eq!(support::sent(&mut session), [kind::ASK]);
    session.ask(at(6));
    assert!(support::sent(&mut session).is_empty(), "not more than once a second");
    session.take(&[hello(5, 5, 3_500, 1), state(6, 4_000, 13)].concat(), at(7), &mut broker);
    assert_eq!((broker.state("n"), broker.begun), (State::Counter { sum: 13 }, 1));
    // An old number as well: three frames once more.
    session.take(&state(3, 4_000, 12), at(8), &mut broker);
    assert_eq!(session.counts.states_withheld, 3);
    assert_eq!((session.counts.resets, broker.state("n")), (0, State::Counter { sum: 13 }));
}

#[test]
fn a_device_that_cannot_tell_its_boots_apart_counts_from_where_it_was_found() {
    counter!(static FRAMES = "frames", Level::INFO);
    timer!(static LOOP = "loop", Level::INFO, buckets = 40);
    gauge!(static DEPTH: i32 = "depth", Level::INFO);
    static METRICS: [Item; 3] = metrics![FRAMES, LOOP, DEPTH];
    let (mut sim, mut session, mut broker) = (Sim::new(&METRICS, 0), session(), Broker::default());
    FRAMES.add(500);
    LOOP.record(30);
    DEPTH.set(5);
    sim.run(60_000);
    session.connected();
    for second in 0..4 {
        session.ask(at(second * 1_000));
        sim.hear(&mut session);
        session.take(&sim.run(1_000), at(second * 1_000), &mut broker);
    }
    assert!(broker.frames("info").iter().any(|frame| frame.is_key && frame.seq == 1));
    assert_eq!(broker.state("frames"), State::Counter { sum: 0 });
    assert!(broker.known("depth").is_none());
    FRAMES.add(2);
    LOOP.record(40);
    DEPTH.set(6);
    sim.end(&mut session, at(5_000), &mut broker);
    assert_eq!(broker.state("frames"), State::Counter { sum: 2 });
    let State::Timer { count: 1, sum_ns: 38_000, .. } = broker.state("loop") else { panic!() };
    let State::Gauge { sets: 1, last, .. } = broker.state("depth") else { panic!() };
    assert_eq!(last.to_bits(), 6.0f64.to_bits());
}

#[test]
fn the_mask_reaches_the_device_and_opens_its_gates() {
    counter!(static TRACE = "trace", Level::DEBUG);
    counter!(static INFO = "info", Level::INFO);
    static METRICS: [Item; 2] = metrics![INFO, TRACE];
    let (mut sim, mut session, mut broker) = (Sim::new(&METRICS, 7), session(), Broker::default());
    session.take(&sim.run(1), at(1), &mut broker);
    let levels = session.boot().unwrap().levels();
    let debug = levels.iter().find(|level| level.label == "debug").unwrap();
    assert!(debug.is_on_demand && debug.number == 1);
    TRACE.add(1);
    session.line.send_mask(1 << debug.number);
    sim.hear(&mut session);
    assert!(sim.link.is_on(Level::DEBUG));
    TRACE.add(4);
    session.take(&sim.run(1_000), at(1_000), &mut broker);
    assert_eq!(broker.state("trace"), State::Counter { sum: 4 });
    session.line.send_mask(0);
    sim.hear(&mut session);
    TRACE.add(1);
    sim.end(&mut session, at(2_000), &mut broker);
    assert_eq!(broker.state("trace"), State::Counter { sum: 4 });
}

#[test]
fn descriptors_that_break_a_rule_are_refused_by_reason_and_not_asked_for_again() {
    let (mut session, mut broker) = (session(), Broker::default());
    let mut seq = 0;
    let mut describe = |id, form, level: (u8, &str), name: &str, source: &str| {
        seq += 1;
        frame_of(kind::DESCRIPTOR, seq, |writer| support::descriptor(writer, id, form, level, name, source))
    };
    let bytes = [
        hello(0, 5, 1_000, 9),
        describe(0, 0, (0, "info"), "n", ""),
        describe(0, 0, (0, "info"), "n", ""),
        // The id means another thing now; the same series twice, as another kind too; one number, two levels.
        describe(0, 0, (0, "info"), "other", ""),
        describe(1, 0, (0, "info"), "n", ""),
        describe(2, 1, (0, "info"), "n", ""),
        describe(3, 0, (0, "audit"), "n", ""),
        describe(4, 0, (1, "info"), "m", ""),
        describe(1_024, 0, (0, "info"), "far", ""),
        describe(5, 0, (0, "info"), "n", "own"),
    ];
    session.take(&bytes.concat(), at(1), &mut broker);
    let refused: Vec<_> = session.counts.descriptors_refused.clone().into_iter().collect();
    assert_eq!(refused, [("changed", 1), ("level", 2), ("limit", 1), ("twice", 2)]);
    assert_eq!(session.boot().unwrap().descriptors(), (2, 9));
    session.known.wants_ask = false;
    let state = frame_of(kind::STATE, 10, |writer| {
        writer.byte(2);
        writer.varint(2_000);
        writer.varint(0);
        for (id, form) in [(0u64, 0), (1, 0), (1_024, 0), (0, 1)] {
            writer.varint(id << 3 | form);
            writer.varint(4);
            if form == 1 {
                writer.zigzag(1);
            }
        }
    });
    session.take(&state, at(2), &mut broker);
    let refused: Vec<_> = session.counts.entries_refused.clone().into_iter().collect();
    assert_eq!(refused, [("descriptor", 2), ("form", 1)]);
    assert!(!session.known.wants_ask && session.counts.law_holds());
    let unknown = frame_of(kind::STATE, 11, |writer| {
        writer.byte(2);
        writer.varint(3_000);
        writer.varint(0);
        writer.varint(6 << 3);
        writer.varint(4);
    });
    session.take(&unknown, at(3), &mut broker);
    assert!(session.known.wants_ask, "one that may still be described is asked for");
}

#[test]
fn samples_come_with_the_time_at_which_the_device_made_them_and_to_who_wants_them_alone() {
    timer!(static LOOP = "loop", Level::INFO, unit = "s");
    gauge!(static CURRENT: f32 = "current", Level::INFO, source = "own");
    counter!(static FRAMES = "frames", AUDIT);
    static METRICS: [Item; 3] = metrics![LOOP, CURRENT, FRAMES];
    static RING: SampleRing<16> = SampleRing::new();
    let (mut sim, mut session, mut broker) = (Sim::new(&METRICS, 7), session(), Broker::default());
    assert!(sim.link.add_ring(RING.consumer()));
    let mut ring = RING.producer().unwrap();
    session.take(&sim.run(1), at(0), &mut broker);
    session.take(&sim.run(9), at(10), &mut broker);
    assert!(ring.push(&LOOP, 102, sim.clock()));
    sim.wait(3);
    assert!(ring.push(&CURRENT, -1.5, sim.clock()) && ring.push(&CURRENT, f32::NAN, sim.clock()));
    assert!(ring.push(&FRAMES, 9, sim.clock()));
    session.take(&sim.run(5), at(18), &mut broker);
    assert_eq!(session.counts.samples, 4);
    let boot = session.boot_mut().unwrap();
    let mut messages = boot.take_samples(|level| level == "info");
    assert!(!boot.has_samples(), "what nobody wants does not wait");
    assert_eq!(messages.len(), 1);
    boot.note_samples(&messages[0], true);
    boot.note_samples(&messages[0], false);
    boot.number_samples(&mut messages[0]);
    let frame = SampleFrame::parse(&messages[0].bytes).unwrap();
    assert_eq!((frame.level, frame.source, frame.header.publisher), ("info", "dev", boot.id()));
    assert_eq!((frame.header.first, frame.header.lost), (2, 2));
    let samples: Vec<_> = frame.samples().map(Result::unwrap).collect();
    assert_eq!(samples[0].value, SampleValue::Timer { ns: 100_000 });
    assert_eq!(samples[1].value, SampleValue::Gauge { value: -1.5 });
    assert_eq!(samples.len(), 2, "what is not finite is no sample");
    assert_eq!(samples[1].time_ns - samples[0].time_ns, 3_000_000);
    let ago_ms = at(18).unix_ms() - samples[0].time_ns / 1_000_000;
    assert!((7..=9).contains(&ago_ms), "{ago_ms} ms");
    let metrics: Vec<_> = frame.metrics().map(|metric| (metric.name, metric.source, metric.unit)).collect();
    assert_eq!(metrics, [("loop", "", "s"), ("current", "own", "")]);
}

#[test]
fn samples_are_counted_and_so_are_those_that_the_line_lost() {
    let (mut session, mut broker) = (session(), Broker::default());
    let samples = |seq, first, lost, count| {
        frame_of(kind::SAMPLES, seq, |writer| {
            for number in [first, lost, 0, 77] {
                writer.varint(number);
            }
            for _ in 0..count {
                writer.varint(0);
                writer.varint(1);
                writer.varint(5);
            }
        })
    };
    session.take(&[hello(0, 5, 1_000, 1), samples(1, 10, 0, 4)].concat(), at(1), &mut broker);
    session.take(&samples(2, 14, 2, 3), at(2), &mut broker);
    session.take(&samples(4, 20, 2, 1), at(3), &mut broker);
    session.take(&samples(5, 14, 2, 3), at(4), &mut broker);
    let counts = &session.counts;
    assert_eq!((counts.samples, counts.samples_lost, counts.lost_on_device), (8, 3, 2));
}

/// A state of one counter with id 0, the last frame of its window.
fn counted(seq: u16, uptime: u64, lost: u64, sum: u64) -> Vec<u8> {
    frame_of(kind::STATE, seq, |writer| {
        writer.byte(2);
        for number in [uptime, lost, 0, sum] {
            writer.varint(number);
        }
    })
}

fn described(seq: u16, id: u64, form: u8, name: &str, source: &str) -> Vec<u8> {
    frame_of(kind::DESCRIPTOR, seq, |writer| support::descriptor(writer, id, form, (0, "info"), name, source))
}

/// Ticks of so many seconds.
const fn s(seconds: u64) -> u64 {
    seconds * 1_000_000
}

#[test]
fn an_absurd_uptime_of_a_damaged_frame_is_not_taken_in_and_ends_no_boot() {
    let (mut session, mut broker) = (session(), Broker::default());
    let begin = [hello(0, 5, s(1), 1), described(1, 0, 0, "n", ""), counted(2, s(1), 0, 10)];
    session.take(&begin.concat(), at(1_000), &mut broker);
    session.take(&counted(3, s(500_000), 0, 11), at(2_000), &mut broker);
    assert_eq!((session.counts.states_withheld, broker.state("n")), (1, State::Counter { sum: 10 }));
    session.take(&hello(4, 5, s(600_000), 1), at(2_500), &mut broker);
    session.take(&[hello(5, 5, s(3), 1), counted(6, s(3), 0, 12)].concat(), at(3_000), &mut broker);
    assert_eq!((broker.begun, broker.ended, session.counts.resets), (1, 0, 0));
    assert_eq!(broker.state("n"), State::Counter { sum: 12 });
    // A clock that really is elsewhere, as after this machine slept, is known by two hellos that fit each other.
    session.take(&counted(7, s(9_000), 0, 13), at(4_000), &mut broker);
    session.take(&hello(8, 5, s(9_000), 1), at(4_000), &mut broker);
    session.take(&[hello(9, 5, s(9_001), 1), counted(10, s(9_001), 0, 13)].concat(), at(5_000), &mut broker);
    assert_eq!((broker.state("n"), broker.begun), (State::Counter { sum: 13 }, 1));
}

#[test]
fn an_old_hello_that_comes_again_ends_no_boot_and_two_that_fit_each_other_do() {
    let (mut session, mut broker) = (session(), Broker::default());
    let old = hello(0, 5, s(1), 1);
    session.take(
        &[old.clone(), described(1, 0, 0, "n", ""), counted(2, s(1), 0, 10)].concat(),
        at(1_000),
        &mut broker,
    );
    session.take(&[hello(3, 5, s(60), 1), counted(4, s(60), 0, 10)].concat(), at(60_000), &mut broker);
    session.take(&[hello(5, 5, s(61), 1), counted(6, s(61), 0, 10)].concat(), at(61_000), &mut broker);
    session.ask(at(61_000));
    support::sent(&mut session);
    for _ in 0..3 {
        session.take(&old, at(62_000), &mut broker);
        assert_eq!((broker.begun, broker.ended), (1, 0));
    }
    session.ask(at(62_100));
    assert_eq!(support::sent(&mut session), [kind::ASK]);
    session.take(&[hello(7, 5, s(62), 1), counted(8, s(62), 0, 12)].concat(), at(62_200), &mut broker);
    assert_eq!((broker.begun, broker.ended, broker.state("n")), (1, 0, State::Counter { sum: 12 }));
    let lost = session.counts.line.lost;
    session.take(&[hello(0, 5, 9, 1), counted(1, s(1), 0, 99)].concat(), at(70_000), &mut broker);
    session.take(&hello(2, 5, s(1), 1), at(71_000), &mut broker);
    assert_eq!((broker.begun, broker.ended, session.counts.resets), (2, 1, 1));
    assert_eq!((broker.state("n"), session.counts.line.lost), (State::Counter { sum: 12 }, lost));
}

#[test]
fn sample_numbers_and_losses_of_a_damaged_frame_do_not_last() {
    let (mut session, mut broker) = (session(), Broker::default());
    let samples = |seq, first: u64, lost: u64, count| {
        frame_of(kind::SAMPLES, seq, |writer| {
            for number in [first, lost, 0, 77] {
                writer.varint(number);
            }
            for _ in 0..count {
                writer.varint(0);
                writer.varint(1);
                writer.varint(5);
            }
        })
    };
    session.take(&[hello(0, 5, 1_000, 1), samples(1, 10, 3, 4)].concat(), at(1), &mut broker);
    let far = [samples(2, 1 << 30, 3, 3), samples(3, 14, 1, 2), samples(4, 16, 3, 2)];
    session.take(&far.concat(), at(2), &mut broker);
    let counts = &session.counts;
    assert_eq!((counts.samples, counts.samples_lost, counts.lost_on_device), (8, 0, 3));
    // A jump that is small enough is believed; two frames that follow each other say that it was none.
    let near = [samples(5, 1_000, 3, 1), samples(6, 18, 3, 2), samples(7, 20, 3, 2), samples(8, 22, 3, 1)];
    session.take(&near.concat(), at(3), &mut broker);
    let counts = &session.counts;
    assert_eq!((counts.samples, counts.samples_lost), (12, 1_000 - 18 + 2));
    // And a jump that is none of noise is believed with the second frame.
    session.take(&[samples(9, 1 << 30, 3, 2), samples(10, (1 << 30) + 2, 3, 2)].concat(), at(4), &mut broker);
    let counts = &session.counts;
    assert_eq!((counts.samples, counts.samples_lost), (14, 1_000 - 18 + 2 + (1 << 30) + 2 - 23));
}

#[test]
fn a_source_that_is_said_is_the_same_series_as_one_that_is_left_out() {
    let (mut session, mut broker) = (session(), Broker::default());
    let bytes = [hello(0, 5, 1_000, 2), described(1, 0, 0, "n", ""), described(2, 1, 0, "n", "dev")];
    session.take(&bytes.concat(), at(1), &mut broker);
    assert_eq!(session.counts.descriptors_refused.get("twice"), Some(&1));
}

#[test]
fn a_hello_of_another_boot_far_ahead_of_the_numbers_loses_no_frames() {
    let (mut session, mut broker) = (session(), Broker::default());
    session.take(&hello(50_000, 5, s(9), 1), at(1), &mut broker);
    session.take(&hello(0, 6, 9, 1), at(2), &mut broker);
    assert_eq!((session.counts.resets, session.counts.line.lost), (1, 0));
    session.take(&hello(3, 6, s(1), 1), at(1_000), &mut broker);
    assert_eq!(session.counts.line.lost, 2);
}

#[test]
fn sample_numbers_do_not_fall_when_a_gateway_is_restarted() {
    let (mut session, mut broker) = (session(), Broker::default());
    session.take(&[hello(0, 5, s(10), 1), described(1, 0, 0, "n", "")].concat(), at(1), &mut broker);
    let sample = frame_of(kind::SAMPLES, 2, |writer| {
        [0, 0, 0, 0, 0, 0, 2].into_iter().for_each(|it| writer.varint(it))
    });
    session.take(&sample, at(2), &mut broker);
    let mut messages = session.boot_mut().unwrap().take_samples(|_| true);
    session.boot().unwrap().number_samples(&mut messages[0]);
    let first = SampleFrame::parse(&messages[0].bytes).unwrap().header.first;
    assert!(first >= 10_000 << 20, "{first}");
}

/// A boot of which no window of all metrics ever comes, given up waiting for: a counter, and a timer whose buckets are lost.
fn joined_by_impatience(boot: u64) -> (super::Session, Broker) {
    let (mut session, mut broker) = (session(), Broker::default());
    let begin = [hello(0, boot, s(60), 2), described(1, 0, 0, "n", ""), described(2, 1, 4, "t", "")];
    session.take(&begin.concat(), at(60_000), &mut broker);
    for window in 1..=25u16 {
        let seq = window * 3;
        let part = frame_of(kind::STATE, seq + 1, |writer| {
            writer.byte(0);
            [s(60 + u64::from(window)), 0, 1 << 3 | 2, 1 << 33, 100 << 33, 0]
                .into_iter()
                .for_each(|it| writer.varint(it));
            // Of two buckets one comes.
            writer.varint(1 << 3 | 4);
            [1, 1].into_iter().for_each(|it| writer.byte(it));
            writer.varint(7);
        });
        let now = 60_000 + u64::from(window) * 1_000;
        session.take(
            &[part, counted(seq + 3, s(60 + u64::from(window)), 0, 500)].concat(),
            at(now),
            &mut broker,
        );
    }
    assert!(!session.boot().unwrap().is_joining());
    (session, broker)
}

/// All of the timer: five records in one bucket and three in another, in a frame with the number `seq`.
fn whole(seq: u16, uptime: u64, more: u32) -> Vec<u8> {
    frame_of(kind::STATE, seq, |writer| {
        writer.byte(2);
        [uptime, 0, 1 << 3 | 2, u64::from(8 + more) + (1 << 33), 100 << 33, 0]
            .into_iter()
            .for_each(|it| writer.varint(it));
        writer.varint(1 << 3 | 4);
        [1, 2].into_iter().for_each(|it| writer.byte(it));
        [5 + more, 3].into_iter().for_each(|it| writer.varint(it.into()));
    })
}

#[test]
fn a_timer_whose_buckets_never_came_whole_is_not_shown_before_they_do() {
    let (mut session, mut broker) = joined_by_impatience(5);
    assert_eq!(broker.state("n"), State::Counter { sum: 500 });
    assert!(broker.known("t").is_none(), "nor are wraps made up of buckets that are only late");
    session.take(&whole(79, s(86), 0), at(86_000), &mut broker);
    let State::Timer { count, .. } = broker.state("t") else { panic!() };
    assert_eq!(count, (1 << 33) + 8, "they wrapped twice before we came");
}

#[test]
fn what_a_device_without_boot_numbers_tells_late_has_its_zero_late() {
    let (mut session, mut broker) = joined_by_impatience(0);
    assert_eq!(broker.state("n"), State::Counter { sum: 0 });
    assert!(broker.known("t").is_none());
    session.take(&whole(79, s(86), 0), at(86_000), &mut broker);
    session.take(&whole(80, s(87), 2), at(87_000), &mut broker);
    let State::Timer { count: 2, .. } = broker.state("t") else { panic!() };
    let late = |seq, sum| {
        frame_of(kind::STATE, seq, |writer| {
            writer.byte(2);
            [s(80 + u64::from(seq - 73)), 0, 2 << 3, sum].into_iter().for_each(|it| writer.varint(it));
        })
    };
    session.take(&[described(81, 2, 0, "late", ""), late(82, 300)].concat(), at(89_000), &mut broker);
    assert_eq!(broker.state("late"), State::Counter { sum: 0 });
    session.take(&late(83, 304), at(90_000), &mut broker);
    assert_eq!(broker.state("late"), State::Counter { sum: 4 });
}

#[test]
fn a_device_of_many_metrics_is_waited_for_as_long_as_it_takes_to_describe_them() {
    let (mut session, mut broker) = (session(), Broker::default());
    session.take(&[hello(0, 5, s(60), 100), described(1, 0, 0, "n", "")].concat(), at(60_000), &mut broker);
    for window in 1..=120u16 {
        let seconds = 60 + u64::from(window);
        assert!(session.boot().unwrap().is_joining(), "{window}");
        session.take(&counted(window + 1, s(seconds), 0, 1), at(seconds * 1_000), &mut broker);
    }
    assert!(!session.boot().unwrap().is_joining());
}
