use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;

use super::*;
use crate::backend::{Body, FlushTime};
use crate::measurement::{Measurement, Value};
use crate::merge::units_of;
use crate::test_support::{counter, gauge, raw_timer, timer};
use crate::units::{PointUnits, Units};

const FLUSH: FlushTime = FlushTime { unix_ms: 1_700_000_060_250, interval: Duration::from_secs(60) };

fn graphite(protocol: Protocol, tagged: bool) -> Graphite {
    Graphite {
        address: "127.0.0.1:2003".to_owned(),
        protocol,
        tagged,
        chosen: Chosen { percentiles: vec![50.0, 99.9], rates: true },
        age_max: AGE_MAX,
        waits: Waits::default(),
    }
}

fn encode(measurements: &[Measurement], graphite: &Graphite, limits: &Limits) -> Encoded {
    let content = Content { measurements, expired: &[], flush: FLUSH };
    let encoded = encode::encode(&content, limits, &graphite.chosen, graphite.protocol, graphite.tagged);
    let mut told = encoded.refused.sum();
    encoded.bodies.iter().for_each(|body| told.add(&Units::of(&body.points)));
    told.gauge_sets += encoded.merged_sets;
    assert!(told.same(&units_of(measurements)), "{told}");
    for body in &encoded.bodies {
        assert_eq!(wire::Body::read(&body.bytes).unwrap().points().unwrap().len(), body.points.len());
    }
    encoded
}

fn encoded(measurements: &[Measurement], tagged: bool) -> Encoded {
    let graphite = graphite(Protocol::Plaintext, tagged);
    encode(measurements, &graphite, &graphite.limits())
}

fn lines(body: &Body) -> String {
    String::from_utf8(wire::payload(&body.bytes, Protocol::Plaintext).unwrap().into_owned()).unwrap()
}

fn tagged(mut measurement: Measurement, tags: &[(&str, &str)]) -> Measurement {
    let tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Arc::make_mut(&mut measurement.series).tags = tags;
    measurement
}

fn kinds() -> [Measurement; 3] {
    let points = [(1_700_000_001_999, 0.0), (1_700_000_002_000, 7.0), (1_700_000_002_999, -1.5)];
    [
        tagged(counter("info", "hits", "web", 6.0), &[("route", "/a b")]),
        gauge("info", "depth", "web", &points),
        timer("info", "lat", "web", &[1_000_000_000, 3_000_000_000]),
    ]
}

#[test]
fn each_kind_has_its_paths() {
    let encoded = encoded(&kinds(), false);
    assert_eq!(
        lines(&encoded.bodies[0]),
        "hits.web.route._a_b.count 6.0 1700000060\n\
         hits.web.route._a_b.rate 0.1 1700000060\n\
         depth.web 0.0 1700000001\n\
         depth.web -1.5 1700000002\n\
         lat.web.count 2.0 1700000060\n\
         lat.web.sum 4.0 1700000060\n\
         lat.web.min 1.0 1700000060\n\
         lat.web.max 3.0 1700000060\n\
         lat.web.mean 2.0 1700000060\n\
         lat.web.p50 1.0 1700000060\n\
         lat.web.p99_9 2.985640349902078 1700000060\n"
    );
    let units = [PointUnits::Counter(6.0), PointUnits::Gauge(1), PointUnits::Gauge(1), PointUnits::Timer(2)];
    assert_eq!(encoded.bodies[0].points, units);
    assert_eq!((encoded.clashes, encoded.merged_sets), (0, 1), "two sets of one second");
}

#[test]
fn tags_stand_behind_the_number_and_both_protocols_say_the_same() {
    let plaintext = &encoded(&kinds(), true).bodies[0];
    assert!(lines(plaintext).starts_with(
        "hits.count;route=/a_b;source=web 6.0 1700000060\nhits.rate;route=/a_b;source=web 0.1 1700000060\ndepth;source=web 0.0 "
    ));
    let graphite = graphite(Protocol::Pickle, true);
    let pickle = &encode(&kinds(), &graphite, &graphite.limits()).bodies[0];
    assert_eq!(lines(pickle), lines(plaintext));
    assert_eq!(pickle.points, plaintext.points);
}

#[test]
fn what_carbon_would_not_keep_is_left_out_and_counted() {
    let mut empty = timer("info", "lat", "web", &[1]);
    let Value::Timer(delta) = &mut empty.value else { panic!() };
    delta.count = 0;
    let (now, age) = (FLUSH.unix_ms, AGE_MAX.as_millis() as u64);
    let points = [
        (0, 1.0),
        (now - age - 1, 1.0),
        (now - age, f64::INFINITY),
        (now - age, 1.0),
        (now + 600_000, 2.0),
        (now + 600_001, 3.0),
        (u64::MAX, 4.0),
    ];
    let encoded = encoded(
        &[
            counter("info", "a b", "web", 1.0),
            counter("info", "a", "we b", 2.0),
            tagged(counter("info", "a", "web", 4.0), &[("k;", "v")]),
            gauge("info", "g", "web", &points),
            empty,
            raw_timer("info", "old", "web", &[(1_700_000_002_000, 0.5)]),
        ],
        false,
    );
    let reasons: Vec<_> = encoded.refused.iter().map(|(reason, units)| (reason, units.points)).collect();
    let expected = [
        ("bad_name", 1),
        ("bad_source", 1),
        ("bad_tag", 1),
        ("no_numbers", 2),
        ("not_finite", 1),
        ("time_ahead", 2),
        ("too_old", 2),
    ];
    assert_eq!(reasons, expected);
    assert_eq!(encoded.bodies[0].points, [PointUnits::Gauge(1); 2]);
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let content =
            Content { measurements: &[counter("info", "a", "web", bad)], expired: &[], flush: FLUSH };
        let encoded = graphite(Protocol::Pickle, false).encode(&content);
        assert_eq!((encoded.bodies.len(), encoded.refused.of("not_finite").points), (0, 1));
    }
}

#[test]
fn bodies_end_at_their_points_and_at_their_bytes_and_fit_a_frame() {
    let many: Vec<_> = (0..601).map(|at| counter("info", &format!("n{at}"), "web", 1.0)).collect();
    for protocol in [Protocol::Plaintext, Protocol::Pickle] {
        let graphite = graphite(protocol, false);
        let limits = graphite.limits();
        let bodies = |limits: Limits| encode(&many, &graphite, &limits).bodies;
        let points: Vec<_> =
            bodies(Limits { points_max: 300, ..limits }).iter().map(|body| body.points.len()).collect();
        assert_eq!(points, [300, 300, 1]);
        let small = bodies(Limits { body_bytes_max: 2_000, ..limits });
        let sent = |body: &Body| wire::payload(&body.bytes, protocol).unwrap().len();
        assert!(small.iter().all(|body| sent(body) <= 2_000 + 10));
        assert_eq!(small.iter().map(|body| body.points.len()).sum::<usize>(), 601);
        // A point that is larger than the limit still goes, alone.
        assert_eq!(bodies(Limits { body_bytes_max: 10, ..limits }).len(), 601);
    }
    // The largest points there are, and a body that is made again as a pickle.
    let tags: Vec<_> = (0..8).map(|at| (format!("{at}").repeat(64), "x".repeat(255))).collect();
    let tags: Vec<_> = tags.iter().map(|(key, value)| (&key[..], &value[..])).collect();
    let largest: Vec<_> = (0..200)
        .map(|at| tagged(timer("info", &format!("{at:0255}"), &"s".repeat(255), &[1, 2]), &tags))
        .collect();
    let graphite = graphite(Protocol::Plaintext, true);
    let bodies = encode(&largest, &graphite, &graphite.limits()).bodies;
    assert!(bodies.len() > 1);
    for body in &bodies {
        assert!(wire::payload(&body.bytes, Protocol::Pickle).unwrap().len() <= FRAME_BYTES_MAX);
    }
}

#[test]
fn series_that_become_equal_are_counted() {
    let with = |value| tagged(counter("info", "hits", "web", 1.0), &[("path", value)]);
    assert_eq!(encoded(&[with("a/b"), with("a?b"), with("a_b")], false).clashes, 2);
    assert_eq!(encoded(&[with("a/b"), with("a?b"), with("a_b")], true).clashes, 0);
    assert_eq!(
        encoded(&[counter("info", "x", "web", 1.0), timer("info", "x", "web", &[1])], false).clashes,
        1
    );
    let nodes = [counter("info", "x", "a.b", 1.0), counter("info", "x", "a_b", 1.0)];
    assert_eq!((encoded(&nodes, false).clashes, encoded(&nodes, true).clashes), (1, 0));
    // A gauge whose path is that of a number.
    let named = [gauge("info", "x.web", "count", &[(FLUSH.unix_ms, 1.0)]), counter("info", "x", "web", 1.0)];
    assert_eq!(encoded(&named, false).clashes, 1);
    assert_eq!(
        encoded(&[counter("info", "x", "web", 1.0), gauge("info", "x", "web", &[])], false).clashes,
        0
    );
}

#[test]
fn every_status_from_100_to_599_has_its_verdict() {
    let graphite = graphite(Protocol::Plaintext, false);
    let body = Body { bytes: Vec::new(), content_type: String::new(), points: Vec::new() };
    let batch = Batch { row: 1, id: String::new(), flushed_ms: 0, attempts_unknown: 0, body };
    for status in 100..=599 {
        let expected = match status {
            200 => Verdict::Delivered { odd: false },
            422 => Verdict::Drop { reason: "unreadable" },
            _ => Verdict::Hold,
        };
        let response = Response { status, ..Response::default() };
        assert_eq!(graphite.classify(&response, &batch, 0), expected, "{status}");
    }
}

#[test]
fn a_body_can_be_cut_to_some_of_its_points_and_named() {
    for protocol in [Protocol::Plaintext, Protocol::Pickle] {
        let graphite = graphite(protocol, false);
        let all = kinds();
        let encode = |measurements: &[Measurement]| {
            encode(measurements, &graphite, &graphite.limits()).bodies[0].bytes.clone()
        };
        let bytes = encode(&all);
        let cut = graphite.select(&bytes, &[true, false, false, true]).unwrap();
        assert_eq!(cut, encode(&[all[0].clone(), all[2].clone()]));
        assert_eq!(graphite.describe(&cut, 1).unwrap(), "lat.web.count");
        assert_eq!(graphite.describe(&bytes, 2).unwrap(), "depth.web");
        assert_eq!(graphite.describe(&cut, 2), None);
        assert_eq!(graphite.select(&bytes, &[true]), None);
        assert_eq!(graphite.select(b"nonsense", &[]), None);
    }
}

/// The value of each path and second.
type Stored = BTreeMap<(String, String), f64>;

/// A carbon that keeps the last value of a path and second, and dies in the middle of its first `deaths` connections.
fn carbon(deaths: usize) -> (String, thread::JoinHandle<Stored>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = thread::spawn(move || {
        let mut stored = Stored::new();
        for connection in 0..=deaths {
            let (mut stream, _) = listener.accept().unwrap();
            let mut seen = Vec::new();
            if connection < deaths {
                seen = vec![0; 40 + connection];
                stream.read_exact(&mut seen).unwrap();
            } else {
                stream.read_to_end(&mut seen).unwrap();
            }
            for line in
                String::from_utf8(seen).unwrap().split_inclusive('\n').filter(|line| line.ends_with('\n'))
            {
                let words: Vec<_> = line.split_whitespace().collect();
                stored.insert((words[0].to_owned(), words[2].to_owned()), words[1].parse().unwrap());
            }
        }
        stored
    });
    (address, server)
}

#[tokio::test]
async fn what_breaks_off_is_sent_again_and_counts_once() {
    let mut graphite = graphite(Protocol::Plaintext, false);
    let body = encode(&kinds(), &graphite, &graphite.limits()).bodies.remove(0);
    let expected = lines(&body);
    let batch = Batch { row: 1, id: String::new(), flushed_ms: 0, attempts_unknown: 0, body };
    let (address, server) = carbon(3);
    graphite.address = address;
    let mut attempts = 0;
    loop {
        attempts += 1;
        match graphite.send(&batch).await {
            Answer::Response(response) => {
                assert_eq!(graphite.classify(&response, &batch, 0), Verdict::Delivered { odd: false });
                break;
            }
            Answer::Lost(_) => {}
            Answer::NotSent(why) => panic!("{why}"),
        }
    }
    assert_eq!(attempts, 4);
    let stored = server.join().unwrap();
    let all: Stored = expected
        .lines()
        .map(|line| {
            let words: Vec<_> = line.split(' ').collect();
            ((words[0].to_owned(), words[2].to_owned()), words[1].parse().unwrap())
        })
        .collect();
    assert_eq!(stored, all);
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_not_sent() {
    let graphite = graphite(Protocol::Pickle, false);
    let body =
        Body { bytes: b"nonsense".to_vec(), content_type: String::new(), points: vec![PointUnits::Gauge(1)] };
    let batch = Batch { row: 1, id: String::new(), flushed_ms: 0, attempts_unknown: 0, body };
    let Answer::Response(response) = graphite.send(&batch).await else { panic!() };
    assert_eq!(graphite.classify(&response, &batch, 0), Verdict::Drop { reason: "unreadable" });
}
