//! Bad input through real sockets: refused with a reason, and nobody else is any the worse.
#![allow(clippy::unwrap_used, reason = "what fails here fails a test")]

use std::io::Write;
use std::net::TcpStream;

use zibrato_core::frame::{
    Encoder, Entry, Flags, Forwarded, HEADER_BYTES, Header, Prelude, PublisherId, State,
};
use zibrato_core::limits::FRAME_BYTES_MAX;
use zibrato_e2e::{
    Backend, Broker, INFO_TOPICS, Local, Metrics, Publisher, Random, ScriptedBroker, Worker, directory, get,
    now_s, read, until,
};
use zibrato_std::socket::MESSAGE_BYTES_MAX;

/// Bytes before the header of a frame of level info.
const TOPIC: usize = 6;
/// Messages of a random storm.
const STORM: u64 = 2_000;

/// A key frame of level info with one counter, from the same publisher each time.
fn frame(seq: u64, sum: u64) -> Vec<u8> {
    let mut header = Header::new(PublisherId([7; 16]), seq);
    header.flags = Flags { key: true, end: false, heartbeat: false };
    let prelude =
        Prelude { window_end_ms: now_s() * 1_000, window_ms: 1_000, source: "native", ..Prelude::default() };
    let mut buffer = vec![0; FRAME_BYTES_MAX];
    let mut encoder = Encoder::new(&mut buffer, "info", &header, &prelude).unwrap();
    encoder.push(&Entry::new("hits", State::Counter { sum })).unwrap();
    encoder.finish().to_vec()
}

fn with_byte(mut message: Vec<u8>, at: usize, byte: u8) -> Vec<u8> {
    message[at] = byte;
    message
}

/// What neither broker nor worker may take, with the reason: text or frame, of level info where there is one.
fn refused_everywhere() -> Vec<(Vec<u8>, &'static str)> {
    let good = frame(99, 1_000);
    let mut bad = vec![
        ([&b"info|"[..], &vec![b'x'; FRAME_BYTES_MAX]].concat(), "oversize"),
        ([&b"\x01info\0"[..], &vec![0; FRAME_BYTES_MAX]].concat(), "oversize"),
        ([&good[..], b"x"].concat(), "length"),
        (with_byte(good.clone(), TOPIC, 0x20), "version"),
        (with_byte(good.clone(), TOPIC, 0xf0), "version"),
        // The part number is not below the number of parts.
        (with_byte(good.clone(), TOPIC + 26, 1), "parts"),
    ];
    // Every truncation behind the topic.
    bad.extend((TOPIC..good.len()).map(|length| (good[..length].to_vec(), "length")));
    bad
}

/// What a broker passes on, because it reads no further than topic and header, and a worker refuses.
fn refused_by_worker() -> Vec<(Vec<u8>, &'static str)> {
    let now = now_s();
    let good = frame(99, 1_000);
    let body = TOPIC + HEADER_BYTES;
    let mut bad: Vec<(Vec<u8>, &str)> = [
        (format!("info|Counter|n|1|{now}"), "field_count"),
        (format!("info|Counter|n|1|{now}|s|more"), "field_count"),
        ("info|".to_owned(), "field_count"),
        (format!("info|Meter|n|1|{now}|s"), "kind"),
        (format!("info|Counter||1|{now}|s"), "name"),
        (format!("info|Counter|n|one|{now}|s"), "value"),
        (format!("info|Counter|n|NaN|{now}|s"), "not_finite"),
        (format!("info|Gauge|n|inf|{now}|s"), "not_finite"),
        ("info|Counter|n|1|-5|s".to_owned(), "timestamp"),
        ("info|Counter|n|1|now|s".to_owned(), "timestamp"),
    ]
    .map(|(text, reason)| (text.into_bytes(), reason))
    .into();
    bad.push((b"info|Counter|\xff\xfe|1|1|s".to_vec(), "not_utf8"));
    bad.push(([&good[..body], &vec![0xff; good.len() - body]].concat(), "prelude"));
    bad
}

/// How many of `bad` there are for each reason.
fn reasons(bad: &[(Vec<u8>, &'static str)]) -> Vec<(&'static str, f64)> {
    let mut reasons: Vec<&str> = bad.iter().map(|(_, reason)| *reason).collect();
    reasons.sort_unstable();
    reasons.dedup();
    reasons
        .into_iter()
        .map(|reason| (reason, bad.iter().filter(|(_, other)| *other == reason).count() as f64))
        .collect()
}

/// Waits until the page, which shows a moment that has just passed, has all that is expected, and
/// compares reason by reason.
fn counted_by_reason(metrics: impl Fn() -> Metrics, name: &str, expected: &[(&str, f64)]) {
    let total = expected.iter().map(|(_, count)| count).sum::<f64>();
    let page = until(name, || Some(metrics()).filter(|page| page.sum(name, &[]) >= total));
    for (reason, count) in expected {
        assert_eq!(page.sum(name, &[("reason", reason)]), *count, "{name} {reason}: {}", page.page);
    }
    assert_eq!(page.sum(name, &[]), total, "{}", page.page);
}

/// Good text and a good frame; sums go up by 1 and to `sum`.
fn good(seq: u64, sum: u64) -> [Vec<u8>; 2] {
    [format!("info|Counter|hits|1|{}|text", now_s()).into_bytes(), frame(seq, sum)]
}

#[test]
fn a_broker_counts_what_it_refuses_by_reason_and_forwards_the_rest_exactly() {
    let home = directory();
    let (broker, local) = (Broker::start(), Local::start(home.path()));
    let worker = Worker::start(&broker.workers, "info", &local.url(), &home.path().join("spool"));
    broker.subscribed(1);
    // A subscriber of everything, so that publishers send everything.
    let everything = zmq::Context::new().socket(zmq::SUB).unwrap();
    everything.set_subscribe(b"").unwrap();
    everything.connect(&broker.workers).unwrap();
    let publisher = Publisher::connect(&broker.publishers);
    publisher.probe(&broker, &["info", "anything"]);

    good(1, 5).iter().for_each(|message| publisher.send_bytes(message));
    let mut refused = refused_everywhere();
    refused.extend(
        [
            &b""[..],
            b"info",
            b"|Counter|n|1|1|s",
            b"in\xffo|",
            b"\x01info",
            b"\x01\0",
            b"\x02info\0|",
            b"\x06|",
        ]
        .map(|message| (message.to_vec(), "topic")),
    );
    refused.iter().for_each(|(message, _)| publisher.send_bytes(message));
    let passed = refused_by_worker();
    passed.iter().for_each(|(message, _)| publisher.send_bytes(message));
    let parts = [good(50, 900)[1].clone(), b"second part".to_vec()];
    publisher.socket.send_multipart(&parts, 0).unwrap();
    refused.push((Vec::new(), "multi_part"));
    good(2, 12).iter().for_each(|message| publisher.send_bytes(message));

    let expected = reasons(&refused);
    until("delivery", || {
        let stored = read(&local.db);
        (stored.sum("hits", "text") >= 2.0 && stored.sum("hits", "native") >= 12.0).then_some(())
    });
    counted_by_reason(|| broker.metrics(), "zibrato_broker_refused_total", &expected);
    counted_by_reason(|| worker.metrics(), "zibrato_worker_messages_refused_total", &reasons(&passed));
    assert_eq!(worker.metrics().sum("zibrato_worker_legacy_lost_total", &[]), 0.0);
    assert_eq!(broker.finish().refused, refused.len() as u64);
    worker.finish();
    let stored = read(&local.db);
    assert_eq!((stored.sum("hits", "text"), stored.sum("hits", "native")), (2.0, 12.0));
    local.finish();
}

#[test]
fn a_worker_counts_what_it_refuses_by_reason_and_takes_the_rest_exactly() {
    let home = directory();
    let broker = ScriptedBroker::bind();
    let backend = Backend::start([]);
    let worker = Worker::start(&broker.endpoint, "info", &backend.url, &home.path().join("spool"));
    broker.await_info();

    good(1, 5).iter().for_each(|message| broker.send(message));
    let mut refused = refused_everywhere();
    refused.extend(refused_by_worker());
    // A count of forwarded messages that is none.
    refused.push((b"\x03info\0short".to_vec(), "unknown_message"));
    refused.iter().for_each(|(message, _)| broker.send(message));
    broker.socket.send_multipart([good(50, 900)[1].clone(), b"second part".to_vec()], 0).unwrap();
    good(2, 12).iter().for_each(|message| broker.send(message));

    let sums = || (backend.sum("hits"), worker.metrics());
    let page = until("delivery", || {
        let (sum, page) = sums();
        (sum >= 14.0 && page.sum("zibrato_worker_multipart_total", &[]) > 0.0).then_some(page)
    });
    counted_by_reason(|| worker.metrics(), "zibrato_worker_messages_refused_total", &reasons(&refused));
    assert_eq!(page.sum("zibrato_worker_multipart_total", &[]), 1.0);
    worker.finish();
    assert_eq!(backend.sum("hits"), 14.0);
    let names: Vec<_> = backend.stored().iter().flat_map(|request| request.gauges()).collect();
    assert!(names.iter().all(|gauge| gauge["name"] == "hits"), "{names:?}");
}

#[test]
fn a_storm_of_random_bytes_is_counted_message_by_message_and_disturbs_no_sum() {
    let home = directory();
    let broker = ScriptedBroker::bind();
    let backend = Backend::start([]);
    let worker = Worker::start(&broker.endpoint, "info", &backend.url, &home.path().join("spool"));
    broker.await_info();
    let (mut random, mut readable) = (Random::new(8), 0);
    for number in 0..STORM {
        if number == STORM / 2 {
            good(1, 5).iter().for_each(|message| broker.send(message));
        }
        let topic = INFO_TOPICS[random.below(3) as usize];
        let length = random.below(200);
        let mut message = topic.to_vec();
        // Never a version that is read, nor text.
        message.push(0xff);
        message.extend((0..length).map(|_| random.next() as u8));
        // Of the right length anything is a count.
        readable += u64::from(Forwarded::parse(&message).is_some());
        broker.send(&message);
    }
    good(2, 12).iter().for_each(|message| broker.send(message));
    until("delivery", || (backend.sum("hits") >= 14.0).then_some(()));
    let page = worker.metrics();
    let refused = page.sum("zibrato_worker_messages_refused_total", &[]);
    assert_eq!(refused, (STORM - readable) as f64, "{}", page.page);
    assert!(readable < STORM / 100, "{readable}");
    assert_eq!(get(&worker.http, "/healthz").0, 200);
    worker.finish();
    assert_eq!(backend.sum("hits"), 14.0);
}

#[test]
fn junk_connections_and_messages_beyond_the_limit_do_not_disturb_a_broker() {
    let home = directory();
    let (broker, local) = (Broker::start(), Local::start(home.path()));
    let worker = Worker::start(&broker.workers, "info", &local.url(), &home.path().join("spool"));
    broker.subscribed(1);
    let publisher = Publisher::connect(&broker.publishers);
    publisher.probe(&broker, &["info"]);
    publisher.send_bytes(&frame(1, 5));
    let mut random = Random::new(28);
    let mut open = Vec::new();
    for endpoint in [&broker.publishers, &broker.workers] {
        let address = endpoint.strip_prefix("tcp://").unwrap();
        for number in 0..50 {
            let mut stream = TcpStream::connect(address).unwrap();
            // A forged greeting for some, then noise; the broker may hang up while it is written.
            if number % 2 == 0 {
                let _ = stream.write_all(b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01NULL");
            }
            let noise: Vec<u8> = (0..random.below(500)).map(|_| random.next() as u8).collect();
            let _ = stream.write_all(&noise);
            open.push(stream);
        }
    }
    let beyond = Publisher::connect(&broker.publishers);
    beyond.probe(&broker, &["info"]);
    beyond.send_bytes(&[&b"info|"[..], &vec![b'x'; MESSAGE_BYTES_MAX as usize]].concat());
    // Its connection was cut, and it comes back.
    beyond.probe(&broker, &["info"]);
    publisher.send_bytes(&frame(2, 12));
    until("delivery", || (read(&local.db).sum("hits", "native") >= 12.0).then_some(()));
    drop(open);
    assert_eq!(get(&broker.http, "/healthz").0, 200);
    // The first version of ZeroMQ's protocol has no greeting, so a part of the noise reads as messages.
    // Those are counted like any others: the sum holds, which `finish` checks.
    let sum = broker.finish();
    assert!(sum.refused > 0 && sum.refused < 200, "{sum:?}");
    worker.finish();
    assert_eq!(read(&local.db).sum("hits", "native"), 12.0);
    local.finish();
}
