//! Subscriptions up, messages down, and the counts of both.

use zibrato_core::frame::{Forwarded, Frame};
use zibrato_core::limits::FRAME_BYTES_MAX;
use zibrato_core::text::Field;
use zibrato_service::Report;
use zmq::{SNDMORE, SUB};

use super::*;
use crate::{LevelTotals, StartError, TOPIC_BYTES_MAX};

/// What a publisher sees until it sees `last`.
fn seen_until(publisher: &Socket, last: &[u8]) -> Vec<Vec<u8>> {
    receive_until(publisher, last)
}

#[test]
fn a_publisher_sees_the_first_subscription_and_the_last_unsubscription_of_a_topic() {
    let broker = Fixture::new();
    let publisher = broker.publisher();
    let first = broker.worker(&[b"\x01info\0", b"info|"]);
    let second = broker.worker(&[b"\x01info\0", b"info|", b"bare", b""]);
    assert_eq!(seen_until(&publisher, b"\x01"), [&b"\x01\x01info\0"[..], b"\x01info|", b"\x01bare"]);
    first.set_unsubscribe(b"\x01info\0").unwrap();
    broker.handled(&first);
    second.set_unsubscribe(b"bare").unwrap();
    assert_eq!(receive(&publisher)[..], *b"\0bare", "one of two left: nothing to say");
    second.set_unsubscribe(b"\x01info\0").unwrap();
    assert_eq!(receive(&publisher)[..], *b"\0\x01info\0");
    drop(second);
    drop(first);
    let mut rest = [receive(&publisher).to_vec(), receive(&publisher).to_vec()];
    rest.sort();
    assert_eq!(rest, [b"\0".to_vec(), b"\0info|".to_vec()], "a worker that leaves cancels what it had");
    broker.end();
}

#[test]
fn one_of_two_subscribers_that_leaves_does_not_cut_the_other() {
    let broker = Fixture::new();
    let publisher = broker.publisher();
    let stays = broker.worker(&[b"\x01info\0", b"info|"]);
    let leaves = broker.worker(&[b"\x01info\0", b"info|"]);
    for topic in [b"\x01info\0", &b"info|"[..]] {
        leaves.set_unsubscribe(topic).unwrap();
    }
    broker.handled(&leaves);
    await_message(&publisher, b"\x01info|");
    send(&publisher, b"info|Counter|n|1|1|s");
    let native = part(1, "info", DELTA, 1, 0, 1);
    send(&publisher, &native);
    assert_eq!(receive(&stays)[..], *b"info|Counter|n|1|1|s");
    assert_eq!(receive(&stays)[..], native);
    let totals = broker.end();
    assert_eq!((totals.forwarded(), totals.no_subscriber()), (2, 0));
}

#[test]
fn sample_frames_go_to_who_asked_for_them_and_are_neither_kept_nor_acknowledged() {
    let broker = Fixture::new();
    let publisher = broker.publisher();
    let first = samples("info", &[1, 2]);
    let mut newer = first.clone();
    newer[6] = 0x20;
    let state = broker.worker(&[b"\x01info\0", b"info|"]);
    let sampled = broker.worker(&[b"\x04info\0"]);
    assert_eq!(
        seen_until(&publisher, b"\x01\x04info\0"),
        [&b"\x01\x01info\0"[..], b"\x01info|"],
        "the broker itself asks for none, and passes on who does"
    );
    for message in [&first[..], &newer, &first[..first.len() - 1], b"info|last"] {
        send(&publisher, message);
    }
    assert_eq!(receive(&sampled)[..], first);
    assert_eq!(receive(&state)[..], *b"info|last", "who did not ask for samples gets none");
    let totals = broker.until("received", |totals| totals.received == 4);
    let info = LevelTotals { forwarded: 2, no_subscriber: 0, legacy_forwarded: 1 };
    assert_eq!(totals.levels["info"], info);
    assert_eq!(totals.refused, [("version", 1), ("length", 1)].into());
    assert_eq!((totals.acknowledged, totals.forwarded()), (0, 2));
    assert!(totals.kept_publishers <= 1, "only the broker itself: {totals:?}");
    sampled.set_unsubscribe(b"\x04info\0").unwrap();
    assert_eq!(receive(&publisher)[..], *b"\0\x04info\0");
    assert!(broker.end().adds_up());
}

#[test]
fn the_report_tells_levels_publishers_and_what_became_of_messages() {
    let broker = Fixture::new();
    let publisher = broker.publisher();
    let worker = broker.worker(&[b"\x01info\0", b"audit|", b"bare"]);
    for (id, level, flags) in [(1, "info", KEY), (1, "debug", KEY), (2, "info", END)] {
        send(&publisher, &part(id, level, flags, 1, 0, 1));
    }
    await_message(&publisher, b"\x01bare");
    send(&publisher, b"barefoot");
    broker.until("received", |totals| totals.received == 4);
    let reported = || match broker.running.status().report() {
        Report::Broker(report) => report,
        other => panic!("{other:?}"),
    };
    let end = Instant::now() + DEADLINE;
    let report = loop {
        let report = reported();
        // The broker itself is the third.
        if report.publishers_total == 3 {
            break report;
        }
        assert!(Instant::now() < end, "{report:?}");
        thread::yield_now();
    };
    assert_eq!(report.subscribed_levels, ["audit", "bare", "info"]);
    assert_eq!(report.publishers_endpoint, broker.running.in_endpoint());
    assert_eq!((report.kept_bytes > 0, report.kept_bytes_max), (true, 64 << 20));
    let [account] = &report.accounts[..] else { panic!("{report:?}") };
    assert!(account.adds_up(), "{account:?}");
    assert_eq!((account.offered, account.accepted, account.delivered), (4.0, 3.0, 2.0));
    assert_eq!(account.dropped, [("no_subscriber".to_owned(), 1.0)].into());
    assert_eq!(account.refused, [("topic".to_owned(), 1.0)].into());
    let one = report.publishers.iter().find(|publisher| publisher.id.starts_with("01")).unwrap();
    assert_eq!((&one.levels[..], one.ended), (&["info".to_owned(), "debug".to_owned()][..], false));
    assert!(report.publishers.iter().any(|publisher| publisher.id.starts_with("02") && publisher.ended));
    drop(worker);
    broker.end();
}

#[test]
fn requests_never_go_up() {
    let broker = Fixture::new();
    let publisher = broker.publisher();
    // Each worker also asks for a page, by the fixture.
    let worker = broker.worker(&[b"\x03info\0", b"\x02junk", b"\x03", b"last"]);
    assert_eq!(seen_until(&publisher, b"\x01last"), Vec::<Vec<u8>>::new());
    worker.set_unsubscribe(b"\x03info\0").unwrap();
    worker.set_unsubscribe(b"last").unwrap();
    assert_eq!(receive(&publisher)[..], *b"\0last");
    broker.end();
}

#[test]
fn twenty_thousand_messages_of_the_original_at_full_speed_all_arrive() {
    const COUNT: usize = 20_000;
    let broker = Fixture::new();
    let publisher = broker.original_publisher();
    let worker = broker.context.socket(SUB).unwrap();
    worker.set_rcvhwm(100_000).unwrap();
    worker.connect(broker.running.out_endpoint()).unwrap();
    worker.set_subscribe(b"info").unwrap();
    // The original neither sees subscriptions nor waits for them, so a first message is repeated
    // until one arrives.
    let end = Instant::now() + DEADLINE;
    while recv_now(&worker).unwrap().is_none() {
        publisher.send("info|Counter|first|1|1|s", 0).unwrap();
        worker.poll(zmq::POLLIN, 10).unwrap();
        assert!(Instant::now() < end);
    }
    for index in 0..COUNT {
        publisher.send(&format!("info|Counter|n|{index}|1|s"), 0).unwrap();
    }
    publisher.send("info|Counter|last|1|1|s", 0).unwrap();
    let mut received = receive_until(&worker, b"info|Counter|last|1|1|s");
    received.retain(|message| !message.starts_with(b"info|Counter|first|"));
    assert_eq!(received.len(), COUNT);
    assert!(
        received
            .iter()
            .enumerate()
            .all(|(index, message)| { *message == format!("info|Counter|n|{index}|1|s").into_bytes() })
    );
    let totals = broker.end();
    assert_eq!(totals.no_subscriber() + totals.refused(), 0);
    assert_eq!(totals.levels["info"].legacy_forwarded, totals.received);
}

#[test]
fn a_subscription_to_info_does_not_match_information() {
    let broker = Fixture::new();
    let publisher = broker.publisher();
    let worker = broker.worker(&[b"\x01info\0", b"info|"]);
    let original = broker.worker(&[b"info"]);
    await_message(&publisher, b"\x01info");
    for message in
        [b"information|Gauge|n|1|1|s", &part(1, "information", DELTA, 1, 0, 1)[..], b"info|Gauge|n|1|1|s"]
    {
        send(&publisher, message);
    }
    assert_eq!(receive(&worker)[..], *b"info|Gauge|n|1|1|s");
    assert_eq!(receive(&original)[..], *b"information|Gauge|n|1|1|s", "the original matches by prefix");
    assert_eq!(receive(&original)[..], *b"info|Gauge|n|1|1|s", "and never sees a frame");
    let totals = broker.end();
    let expected = LevelTotals { forwarded: 1, no_subscriber: 1, legacy_forwarded: 1 };
    assert_eq!(totals.levels["information"], expected);
}

#[test]
fn bad_messages_are_refused_by_reason_and_good_ones_around_them_arrive() {
    let broker = Fixture::new();
    let publisher = broker.publisher();
    let worker = broker.worker(&[b""]);
    await_message(&publisher, b"\x01");
    let frame = part(1, "info", DELTA, 1, 0, 1);
    let mut newer = frame.clone();
    newer[6] = 0x20;
    let mut impossible = frame.clone();
    impossible[6 + 26] = 1;
    publisher.send("info|several", SNDMORE).unwrap();
    publisher.send("info|parts", SNDMORE).unwrap();
    publisher.send("info|here", 0).unwrap();
    for bad in [
        &b""[..],
        b"\x02info\0",
        b"\x06info|",
        b"no level",
        &[b'x'; FRAME_BYTES_MAX + 1],
        &newer,
        &impossible,
        &frame[..frame.len() - 1],
    ] {
        send(&publisher, bad);
        send(&publisher, b"info|good");
    }
    send(&publisher, b"info|last");
    let received = receive_until(&worker, b"info|last");
    let received: Vec<_> =
        received.into_iter().filter(|message| !message.starts_with(b"\x01zibrato\0")).collect();
    assert_eq!(received, vec![b"info|good"; 8]);
    let totals = broker.end();
    let expected =
        [("multi_part", 1), ("topic", 4), ("oversize", 1), ("version", 1), ("parts", 1), ("length", 1)];
    assert_eq!(totals.refused, expected.into());
    assert_eq!((totals.received, totals.forwarded()), (18, 9));
}

#[test]
fn what_a_worker_may_not_send_is_ignored_by_reason() {
    let broker = Fixture::new();
    let worker = broker.context.socket(zmq::XSUB).unwrap();
    worker.connect(broker.running.out_endpoint()).unwrap();
    let mut long = [&[1][..], &[b'x'; TOPIC_BYTES_MAX + 1]].concat();
    for message in [&b"hello"[..], b"\x06", &long, b"\x01\x02info\0short"] {
        worker.send(message, 0).unwrap();
    }
    // It was not heeded, so there is nothing to cancel.
    long[0] = 0;
    worker.send(&long, 0).unwrap();
    let expected = [("user_message", 2), ("oversize", 1), ("malformed", 1), ("unknown", 1)].into();
    broker.until("ignored", |totals| totals.ignored == expected);
    broker.end();
}

#[test]
fn messages_without_a_subscriber_are_counted_as_such() {
    let broker = Fixture::new();
    let publisher = broker.publisher();
    for seq in 1..=10 {
        send(&publisher, &part(1, "info", DELTA, seq, 0, 1));
    }
    let totals = broker.until("received", |totals| totals.received == 10);
    assert_eq!((totals.no_subscriber(), totals.forwarded()), (10, 0));
    assert_eq!(totals.to_string(), "received 10 = forwarded 0 + no_subscriber 10 + refused 0");
    broker.end();
}

#[test]
fn the_forwarded_count_comes_with_its_subscription_and_behind_what_it_counts() {
    let broker = Fixture::new();
    let publisher = broker.original_publisher();
    let worker = broker.worker(&[b"info|"]);
    let end = Instant::now() + DEADLINE;
    while recv_now(&worker).unwrap().is_none() {
        publisher.send("info|first", 0).unwrap();
        worker.poll(zmq::POLLIN, 10).unwrap();
        assert!(Instant::now() < end);
    }
    let count =
        |message: &[u8]| Forwarded::parse(message).map(|report| (report.level.to_owned(), report.messages));
    worker.set_subscribe(b"\x03info\0").unwrap();
    let baseline = loop {
        if let Some((level, messages)) = count(&receive(&worker)) {
            assert_eq!(level, "info");
            break messages;
        }
    };
    assert!(baseline >= 1);
    for _ in 0..500 {
        publisher.send("info|counted", 0).unwrap();
        publisher.send("debug|not subscribed", 0).unwrap();
    }
    let mut received = 0;
    loop {
        let message = receive(&worker);
        match count(&message) {
            Some((_, messages)) if received == 500 => {
                assert_eq!(messages - baseline, 500);
                break;
            }
            // A report in between counts no more than what came before it.
            Some((_, messages)) => assert_eq!(messages - baseline, received),
            None => received += u64::from(message[..] == *b"info|counted"),
        }
    }
    worker.set_subscribe(b"\x03unseen\0").unwrap();
    assert_eq!(receive_forwarded(&worker, "unseen"), 0);
    broker.end();
}

fn receive_forwarded(worker: &Socket, level: &str) -> u64 {
    assert!(Field::Level.accepts(level));
    loop {
        let message = receive(worker);
        if let Some(report) = Forwarded::parse(&message).filter(|report| report.level == level) {
            return report.messages;
        }
    }
}

#[test]
fn the_broker_publishes_its_own_series_and_its_end_frame() {
    let broker = Fixture::new();
    let publisher = broker.publisher();
    let worker = broker.worker(&[b"\x01zibrato\0"]);
    send(&publisher, &part(1, "info", DELTA, 1, 0, 1));
    broker.until("received", |totals| totals.received == 1);
    broker.shutdown.request();
    let mut sums = Vec::new();
    loop {
        let message = receive(&worker);
        let frame = Frame::parse(&message).unwrap();
        for entry in frame.entries().map(Result::unwrap) {
            if let State::Counter { sum } = entry.state {
                sums.push((entry.name.to_owned(), sum));
            }
        }
        if frame.header.flags.end {
            assert!(frame.prelude.about.is_some_and(|about| about.program == "zibrato-broker"));
            break;
        }
        sums.clear();
    }
    for expected in [("zibrato.broker.received", 1), ("zibrato.broker.no_subscriber", 1)] {
        assert!(sums.contains(&(expected.0.to_owned(), expected.1)), "{expected:?} in {sums:?}");
    }
    broker.end();
}

#[test]
fn a_taken_port_is_one_line_that_names_the_setting() {
    let broker = Fixture::new();
    let port: u16 = broker.running.in_endpoint().rsplit(':').next().unwrap().parse().unwrap();
    let taken = Config { port, ..config() };
    let error = start(taken, None, Shutdown::new()).unwrap_err();
    let StartError::Bind { source: Error::EADDRINUSE, .. } = error else { panic!("{error:?}") };
    let text = zibrato_service::chain(&error);
    let expected = format!("cannot listen on tcp://127.0.0.1:{port}, as --host and --port {port} ask for");
    assert!(text.starts_with(&expected) && text.ends_with(": Address already in use"), "{text}");
    broker.end();
}
