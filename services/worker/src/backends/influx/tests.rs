use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;

use super::*;
use crate::backend::{Body, FlushTime};
use crate::cli::{BackendArgs as _, Context, Program};
use crate::measurement::{Measurement, Value};
use crate::merge::units_of;
use crate::test_support::{counter, gauge, raw_timer, timer};
use crate::units::{PointUnits, Units};

const FLUSH: FlushTime = FlushTime { unix_ms: 1_700_000_060_250, interval: Duration::from_secs(60) };

fn chosen() -> Chosen {
    Chosen { percentiles: vec![50.0, 99.9], rates: true }
}

fn backend(args: &[&str]) -> Arc<dyn Backend> {
    let all = ["zibrato-influx", "--spool", "/tmp/none", "--database", "d"].iter().chain(args);
    let context = Context { program: "zibrato-influx".to_owned(), token_variable: None, chosen: chosen() };
    Program::<InfluxArgs>::try_parse(all).unwrap().backend.build(&context).unwrap()
}

fn encode(measurements: &[Measurement], limits: &Limits) -> Encoded {
    let content = Content { measurements, expired: &[], flush: FLUSH };
    encode::encode(&content, limits, &chosen(), false)
}

fn encoded(measurements: &[Measurement]) -> Encoded {
    let encoded = encode(measurements, &backend(&[]).limits());
    let mut told = encoded.refused.sum();
    encoded.bodies.iter().for_each(|body| told.add(&Units::of(&body.points)));
    told.gauge_sets += encoded.merged_sets;
    assert!(told.same(&units_of(measurements)), "{told}");
    assert!(encoded.bodies.iter().all(|body| body.points.len() == text(body).lines().count()));
    encoded
}

fn text(body: &Body) -> String {
    body::text(&body.bytes).unwrap()
}

fn tagged(mut measurement: Measurement, tags: &[(&str, &str)]) -> Measurement {
    let tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Arc::make_mut(&mut measurement.series).tags = tags;
    measurement
}

#[test]
fn each_kind_has_its_line() {
    let points = [(1_700_000_001_999, 0.0), (1_700_000_002_000, -1.5)];
    let encoded = encoded(&[
        tagged(counter("info", "hits", "web", 6.0), &[("route", "/a b")]),
        gauge("info", "depth", "web", &points),
        timer("info", "lat", "web", &[1_000_000_000, 3_000_000_000]),
    ]);
    assert_eq!(
        text(&encoded.bodies[0]),
        "hits,kind=counter,route=/a\\ b,source=web count=6.0,rate=0.1 1700000060250\n\
         depth,kind=gauge,source=web value=0.0 1700000001999\n\
         depth,kind=gauge,source=web value=-1.5 1700000002000\n\
         lat,kind=timer,source=web,unit=s count=2.0,sum=4.0,min=1.0,max=3.0,mean=2.0,p50=1.0,p99_9=2.985640349902078 1700000060250\n"
    );
    let units = [PointUnits::Counter(6.0), PointUnits::Gauge(1), PointUnits::Gauge(1), PointUnits::Timer(2)];
    assert_eq!(encoded.bodies[0].points, units);
    assert_eq!((encoded.clashes, encoded.merged_sets), (0, 0));
}

#[test]
fn what_influxdb_would_refuse_is_left_out_and_counted() {
    let mut empty = timer("info", "lat", "web", &[1]);
    let Value::Timer(delta) = &mut empty.value else { panic!() };
    delta.count = 0;
    let now = 1_700_000_060_250;
    let encoded = encoded(&[
        counter("info", "a b", "web", 1.0),
        counter("info", "a", "we b", 2.0),
        tagged(counter("info", "a", "web", 4.0), &[("k,", "v")]),
        counter("info", "a", "web", f64::MAX),
        gauge(
            "info",
            "g",
            "web",
            &[
                (0, 1.0),
                (now - 2_592_000_001, 1.0),
                (now - 2_592_000_000, f64::NAN),
                (now - 2_592_000_000, 1.0),
                (now + 600_000, 2.0),
                (now + 600_000, 3.0),
                (now + 600_001, 4.0),
                (u64::MAX, 5.0),
            ],
        ),
        empty,
        raw_timer("info", "old", "web", &[(1_700_000_002_000, 0.5)]),
    ]);
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
    assert_eq!(encoded.merged_sets, 1, "two sets of one millisecond");
    let lines = text(&encoded.bodies[0]);
    assert_eq!(lines.lines().count(), 3);
    assert!(lines.contains(" value=3.0 1700000660250\n") && !lines.contains(" value=2.0"), "{lines}");
    assert!(encode(&[], &backend(&[]).limits()).bodies.is_empty());
}

#[test]
fn numbers_that_are_not_finite_are_refused_whole() {
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let encoded = encode(&[counter("info", "a", "web", bad)], &backend(&[]).limits());
        assert_eq!((encoded.bodies.len(), encoded.refused.of("not_finite").points), (0, 1));
    }
}

#[test]
fn bodies_end_at_their_points_and_at_their_bytes() {
    let many: Vec<_> = (0..601).map(|at| counter("info", &format!("n{at}"), "web", 1.0)).collect();
    let lengths = |limits: Limits| -> Vec<_> {
        encode(&many, &limits).bodies.iter().map(|body| (body.points.len(), body.bytes.len())).collect()
    };
    let limits = backend(&[]).limits();
    let points = lengths(Limits { points_max: 300, ..limits });
    assert_eq!(points.iter().map(|(points, _)| *points).collect::<Vec<_>>(), [300, 300, 1]);
    let bytes = lengths(Limits { body_bytes_max: 1_000, ..limits });
    assert!(bytes.iter().all(|(_, bytes)| *bytes <= 1_000), "{bytes:?}");
    assert_eq!(bytes.iter().map(|(points, _)| points).sum::<usize>(), 601);
    // A point that is larger than the limit still goes, alone.
    assert_eq!(lengths(Limits { body_bytes_max: 10, ..limits }).len(), 601);
}

#[test]
fn series_that_become_equal_are_counted() {
    let with = |value| tagged(counter("info", "hits", "web", 1.0), &[("path", value)]);
    assert_eq!(encoded(&[with("a/b"), with(r"a\b"), with("a_b")]).clashes, 1);
    let mut milliseconds = timer("info", "lat", "web", &[1]);
    Arc::make_mut(&mut milliseconds.series).unit = "ms".to_owned();
    assert_eq!(encoded(&[timer("info", "lat", "web", &[1]), milliseconds]).clashes, 1);
    let kinds =
        [counter("info", "x", "web", 1.0), timer("info", "x", "web", &[1]), gauge("info", "x", "web", &[])];
    assert_eq!(encoded(&kinds).clashes, 0);
}

#[test]
fn a_body_can_be_cut_to_some_of_its_points_and_named() {
    for args in [&[][..], &["--no-gzip"]] {
        let influx = backend(args);
        let all = [
            counter("info", "a", "s", 0.1),
            timer("info", "b", "s", &[5, 6]),
            counter("info", "c", "s", 3.0),
        ];
        let encode = |measurements: &[Measurement]| {
            influx.encode(&Content { measurements, expired: &[], flush: FLUSH }).bodies[0].bytes.clone()
        };
        let bytes = encode(&all);
        assert_eq!(body::is_gzip(&bytes), args.is_empty());
        let cut = influx.select(&bytes, &[true, false, true]).unwrap();
        assert_eq!(cut, encode(&[all[0].clone(), all[2].clone()]));
        assert_eq!(influx.describe(&cut, 1).unwrap(), "c,kind=counter,source=s");
        assert_eq!(influx.describe(&cut, 2), None);
        assert_eq!(influx.select(&bytes, &[true, false]), None);
    }
}

/// Accepts one request, answers 204, and returns its head and body.
fn serve_once(listener: TcpListener) -> thread::JoinHandle<(String, Vec<u8>)> {
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut seen, mut buffer) = (Vec::new(), [0; 4_096]);
        loop {
            let length = stream.read(&mut buffer).unwrap();
            assert!(length > 0);
            seen.extend_from_slice(&buffer[..length]);
            let Some(end) = seen.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            let head = String::from_utf8(seen[..end].to_vec()).unwrap().to_ascii_lowercase();
            let (_, rest) = head.split_once("content-length: ").unwrap();
            let bytes: usize = rest.lines().next().unwrap().parse().unwrap();
            if seen.len() == end + 4 + bytes {
                stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
                return (head, seen[end + 4..].to_vec());
            }
        }
    })
}

#[tokio::test]
async fn the_encoding_that_is_named_is_that_of_the_bytes() {
    let bytes = |gzip| body::pack("a v=1.0 1\n".to_owned(), gzip);
    // A body from the spool is sent as it is, whatever is set now.
    for (args, gzip) in [(&[][..], true), (&[], false), (&["--no-gzip"], true), (&["--no-gzip"], false)] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/influx", listener.local_addr().unwrap());
        let influx = backend(&[args, &["--url", &url]].concat());
        let body = Body {
            bytes: bytes(gzip),
            content_type: "text/plain; charset=utf-8".to_owned(),
            points: vec![PointUnits::Counter(1.0)],
        };
        let batch = Batch { row: 1, id: "canary-id".to_owned(), flushed_ms: 0, attempts_unknown: 0, body };
        let server = serve_once(listener);
        let answer = influx.send(&batch).await;
        let Answer::Response(response) = answer else { panic!("{answer:?}") };
        assert_eq!(influx.classify(&response, &batch, 0), Verdict::Delivered { odd: false });
        let (head, sent) = server.join().unwrap();
        assert_eq!(sent, bytes(gzip));
        assert_eq!(head.contains("content-encoding: gzip"), gzip);
        for part in [
            "post /influx/write?db=d&precision=ms ",
            "x-zibrato-batch: canary-id",
            "content-type: text/plain",
        ] {
            assert!(head.contains(part), "{part} is missing in {head}");
        }
    }
}
