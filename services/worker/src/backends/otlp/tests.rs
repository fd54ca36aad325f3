use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use prost::Message;

use super::*;
use crate::backend::{Content, FlushTime};
use crate::measurement::Measurement;
use crate::table::{Prepared, SeriesLimits, SeriesTable};
use crate::test_support::{counter, gauge, timer};
use crate::units::PointUnits;

pub(super) const FLUSH: FlushTime =
    FlushTime { unix_ms: 1_700_000_060_000, interval: Duration::from_secs(60) };

pub(super) fn otlp(url: &str, gzip: bool) -> Otlp {
    let client = HttpClient::new(url.parse().unwrap(), None, "zibrato-otlp/1").unwrap();
    let resource = vec![("service.name".to_owned(), "shop".to_owned())];
    Otlp::new(OtlpConfig { client, resource, gzip, age_max: Duration::from_secs(60) })
}

/// What the library makes of measurements of the first flush.
pub(super) fn prepared(measurements: &[Measurement]) -> Prepared {
    let shape = otlp("http://h/", false).shape();
    SeriesTable::restore(SeriesLimits::default(), shape, []).prepare(measurements.to_vec(), FLUSH, |_| None)
}

pub(super) fn encoded(otlp: &Otlp, measurements: &[Measurement], expired: &[Arc<SeriesKey>]) -> Encoded {
    let measurements = prepared(measurements).measurements;
    otlp.encode(&Content { measurements: &measurements, expired, flush: FLUSH })
}

/// The one body of these measurements.
pub(super) fn body_of(measurements: &[Measurement]) -> Vec<u8> {
    let mut bodies = encoded(&otlp("http://h/", true), measurements, &[]).bodies;
    assert_eq!(bodies.len(), 1);
    bodies.remove(0).bytes
}

pub(super) fn metric_names(bytes: &[u8]) -> Vec<String> {
    body::names(bytes)
}

fn all_kinds() -> Vec<Measurement> {
    vec![
        counter("info", "hits", "web", 3.0),
        gauge("info", "depth", "web", &[(FLUSH.unix_ms - 2, 1.0), (FLUSH.unix_ms - 1, 2.0)]),
        timer("info", "lat", "web", &[1_000, 5_000]),
        counter("debug", "hits", "api", 4.0),
        timer("info", "lat", "api", &[7]),
    ]
}

#[test]
fn a_body_can_be_cut_to_some_of_its_points_and_each_is_named() {
    for gzip in [false, true] {
        let otlp = otlp("http://h/", gzip);
        let bytes = &encoded(&otlp, &all_kinds(), &[]).bodies[0].bytes;
        assert_eq!(body::is_gzip(bytes), gzip);
        let named = |bytes: &[u8]| (0..).map_while(|at| otlp.describe(bytes, at)).collect::<Vec<_>>();
        let names = named(bytes);
        let expected = [
            "hits of source web",
            "hits of source api",
            "depth of source web",
            "depth of source web",
            "lat of source web",
            "lat of source api",
        ];
        assert_eq!(names, expected);
        // Every choice of points.
        for choice in 1..1 << names.len() {
            let keep: Vec<bool> = (0..names.len()).map(|at| choice >> at & 1 == 1).collect();
            let cut = otlp.select(bytes, &keep).unwrap();
            let kept: Vec<_> =
                names.iter().zip(&keep).filter(|(_, keep)| **keep).map(|(name, _)| name).collect();
            assert_eq!(named(&cut).iter().collect::<Vec<_>>(), kept);
            assert_eq!(body::is_gzip(&cut), gzip);
            assert_eq!(otlp.select(bytes, &keep).unwrap(), cut, "the same bytes each time");
        }
        assert_eq!(&otlp.select(bytes, &[true; 6]).unwrap(), bytes, "nothing is cut, nothing changes");
        assert_eq!(otlp.select(bytes, &[true; 5]), None);
        assert_eq!(otlp.select(bytes, &[true; 7]), None);
    }
}

#[test]
fn a_cut_leaves_no_empty_metric_and_keeps_the_resource() {
    let otlp = otlp("http://h/", true);
    let bytes = body_of(&all_kinds());
    let cut = otlp.select(&bytes, &[false, false, false, true, false, false]).unwrap();
    let alone = body::read(&cut).unwrap();
    assert_eq!(alone.resource_metrics[0].resource, body::read(&bytes).unwrap().resource_metrics[0].resource);
    assert_eq!(alone.resource_metrics[0].scope_metrics[0].metrics.len(), 1);
}

#[test]
fn bytes_that_are_no_body_are_refused_and_never_panic() {
    let plain = otlp("http://h/", false);
    let otlp = otlp("http://h/", true);
    for sender in [&plain, &otlp] {
        let bytes = encoded(sender, &all_kinds(), &[]).bodies[0].bytes.clone();
        for length in 0..bytes.len() {
            let cut = &bytes[..length];
            assert_eq!(otlp.select(cut, &[true; 6]), None, "{length}");
            let _ = (otlp.describe(cut, 5), body::names(cut));
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x55;
            let _ = (otlp.select(&damaged, &[true; 6]), otlp.describe(&damaged, 2), body::names(&damaged));
        }
    }
    // A bomb is cut off long before it is whole, though all in it could be read: a field that nobody knows.
    let bytes = &encoded(&plain, &all_kinds(), &[]).bodies[0].bytes;
    for (unknown_bytes, is_read) in [(1 << 20, true), (4 * BODY_BYTES_MAX, false)] {
        let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        bomb.write_all(bytes).unwrap();
        let mut field = vec![0x7a];
        prost::encode_length_delimiter(unknown_bytes, &mut field).unwrap();
        bomb.write_all(&field).unwrap();
        bomb.write_all(&vec![0; unknown_bytes]).unwrap();
        assert_eq!(otlp.select(&bomb.finish().unwrap(), &[true; 6]).is_some(), is_read);
    }
}

/// Whether a request has come to the end of its body.
fn is_whole(request: &[u8]) -> bool {
    let Some(head) = request.windows(4).position(|part| part == b"\r\n\r\n") else { return false };
    let text = String::from_utf8_lossy(&request[..head]).into_owned();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    request.len() >= head + 4 + length.parse::<usize>().unwrap()
}

/// Takes one request and gives the answer.
fn serve_once(answer: &'static [u8]) -> (String, thread::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1/metrics", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut seen = Vec::new();
        let mut buffer = [0; 4_096];
        while !is_whole(&seen) {
            let read = stream.read(&mut buffer).unwrap();
            assert!(read > 0, "the request broke off");
            seen.extend_from_slice(&buffer[..read]);
        }
        stream.write_all(answer).unwrap();
        seen
    });
    (url, server)
}

#[tokio::test]
async fn a_request_has_type_encoding_id_and_the_frozen_bytes() {
    for gzip in [true, false] {
        let (url, server) = serve_once(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        let otlp = otlp(&url, gzip);
        let body = encoded(&otlp, &all_kinds(), &[]).bodies.remove(0);
        let batch = Batch { row: 1, id: "beef".to_owned(), flushed_ms: 0, attempts_unknown: 0, body };
        let Answer::Response(response) = otlp.send(&batch).await else { panic!() };
        assert_eq!(otlp.classify(&response, &batch, 0), Verdict::Delivered { odd: false });
        let seen = server.join().unwrap();
        assert!(seen.ends_with(&batch.body.bytes));
        let head = String::from_utf8_lossy(&seen[..seen.len() - batch.body.bytes.len()]).into_owned();
        assert!(head.starts_with("POST /v1/metrics HTTP/1.1"), "{head}");
        for line in ["content-type: application/x-protobuf", "x-zibrato-batch: beef"] {
            assert!(head.contains(line), "{head}");
        }
        assert_eq!(head.contains("content-encoding: gzip"), gzip, "{head}");
    }
}

#[tokio::test]
async fn a_partial_success_of_a_real_answer_reaches_the_verdict() {
    // partial_success { rejected_data_points: 2, error_message: "old" }
    let (url, server) =
        serve_once(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n\x0a\x07\x08\x02\x12\x03old");
    let otlp = otlp(&url, true);
    let body = encoded(&otlp, &all_kinds(), &[]).bodies.remove(0);
    let batch = Batch { row: 1, id: "beef".to_owned(), flushed_ms: 0, attempts_unknown: 0, body };
    let Answer::Response(response) = otlp.send(&batch).await else { panic!() };
    server.join().unwrap();
    let expected = Verdict::Partial { rejected: 2, said: "old".to_owned() };
    assert_eq!(otlp.classify(&response, &batch, 0), expected);
}

#[test]
fn a_body_holds_no_more_points_and_bytes_than_receivers_take() {
    let otlp = otlp("http://h/", true);
    let many: Vec<_> = (0..20_000).map(|at| counter("info", "hits", &format!("host-{at}"), 1.0)).collect();
    let bodies = encoded(&otlp, &many, &[]).bodies;
    assert_eq!(
        bodies.iter().map(|body| body.points.len()).collect::<Vec<_>>(),
        [POINTS_MAX, POINTS_MAX, 3_616]
    );
    let mut wide = timer("info", "lat", "web", &[]);
    let durations: Vec<u64> = (0..60).map(|bit| 1 << bit).collect();
    let wides: Vec<_> = (0..2_000)
        .map(|at| {
            wide = timer("info", &format!("lat.{at}"), &"s".repeat(255), &durations);
            Arc::make_mut(&mut wide.series).tags =
                (0..8).map(|key| (format!("k{key}"), "ü".repeat(127))).collect();
            wide.clone()
        })
        .collect();
    let bodies = encoded(&otlp, &wides, &[]).bodies;
    assert!(bodies.len() > 1);
    let sizes: Vec<_> = bodies.iter().map(|body| body::read(&body.bytes).unwrap().encoded_len()).collect();
    assert!(sizes.iter().all(|size| *size <= BODY_BYTES_MAX), "{sizes:?}");
    assert!(sizes[0] > BODY_BYTES_MAX * 9 / 10, "bodies are filled: {sizes:?}");
    let points: usize = bodies.iter().map(|body| body.points.len()).sum();
    assert_eq!(points, 2_000);
    assert!(bodies.iter().flat_map(|body| &body.points).all(|point| *point == PointUnits::Timer(60)));
}
