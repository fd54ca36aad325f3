use std::io::Read as _;

use flate2::read::GzDecoder;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::super::test_support::{FLUSH, batch, counted, set, settings, timed};
use super::*;
use crate::backend::FlushTime;
use crate::measurement::Measurement;

const LONG: Duration = Duration::from_secs(20);

fn scrape(addr: &str) -> Scrape {
    Scrape::new(addr.parse().unwrap(), settings(false))
}

/// Flushes and sends what comes of it.
async fn flush(scrape: &Scrape, measurements: &[Measurement], flush: FlushTime) {
    for body in scrape.encode(&Content { measurements, expired: &[], flush }).bodies {
        let batch = batch(body, 0);
        match scrape.send(&batch).await {
            Answer::Response(response) => {
                assert_eq!(scrape.classify(&response, &batch, 0), Verdict::Delivered { odd: false });
            }
            other => panic!("{other:?}"),
        }
    }
}

/// The answer's head and body.
async fn get(addr: SocketAddr, headers: &str) -> (String, Vec<u8>) {
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {addr}\r\n{headers}Connection: close\r\n\r\n");
    ask(addr, &request).await
}

async fn ask(addr: SocketAddr, request: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    tokio::time::timeout(LONG, stream.read_to_end(&mut bytes)).await.unwrap().unwrap();
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    (String::from_utf8(bytes[..end].to_vec()).unwrap(), bytes.split_off(end + 4))
}

#[tokio::test]
async fn the_page_is_served_in_the_form_that_is_asked_for() {
    let scrape = scrape("127.0.0.1:0");
    assert_eq!(scrape.probe().await, Probe::NotNeeded);
    let addr = scrape.serve().await.unwrap();
    flush(&scrape, &[counted("hits", 1.0, 1.0), timed("lat", &[1])], FLUSH).await;
    let (head, body) = get(addr, "").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    assert!(body.starts_with(b"# HELP hits_total "));
    let (head, body) = get(addr, "Accept: application/openmetrics-text;version=1.0.0,*/*;q=0.1\r\n").await;
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"),
        "{head}"
    );
    assert!(body.ends_with(b"# EOF\n") && !head.contains("content-encoding"));
    let accept = "Accept: application/openmetrics-text\r\nAccept-Encoding: gzip\r\n";
    let (head, packed) = get(addr, accept).await;
    assert!(
        head.contains("content-encoding: gzip") && head.contains("vary: accept, accept-encoding"),
        "{head}"
    );
    let mut plain = Vec::new();
    GzDecoder::new(&packed[..]).read_to_end(&mut plain).unwrap();
    assert_eq!(plain, body);
    let accept = "Accept: application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited\r\n";
    let (head, _) = get(addr, accept).await;
    assert!(head.contains("content-type: application/vnd.google.protobuf; proto=io.prometheus"), "{head}");
}

#[tokio::test]
async fn until_the_first_flush_is_on_the_page_it_is_unavailable() {
    let scrape = scrape("127.0.0.1:0");
    let addr = scrape.serve().await.unwrap();
    let status = async || get(addr, "").await.0[9..12].to_owned();
    assert_eq!(status().await, "503");
    // What the process before left in the spool is not all.
    let old = FlushTime { unix_ms: FLUSH.unix_ms - 60_000, ..FLUSH };
    let left = body::encode(
        &Content { measurements: &[set("depth", 1.0)], expired: &[], flush: old },
        &settings(false),
        &LIMITS,
    );
    assert!(matches!(scrape.send(&batch(left.bodies[0].clone(), 1)).await, Answer::Response(_)));
    assert_eq!(status().await, "503");
    let content =
        Content { measurements: &[set("depth", 2.0), set("more", 1.0)], expired: &[], flush: FLUSH };
    // Two bodies of one flush: the first is not all either.
    let halves = body::encode(&content, &settings(false), &Limits { points_max: 1, ..LIMITS }).bodies;
    scrape.encode(&content);
    for (half, expected) in halves.into_iter().zip(["503", "200"]) {
        scrape.send(&batch(half, 0)).await;
        assert_eq!(status().await, expected);
    }
}

#[tokio::test]
async fn a_worker_that_knows_no_series_has_an_empty_page() {
    let scrape = scrape("127.0.0.1:0");
    let addr = scrape.serve().await.unwrap();
    flush(&scrape, &[], FLUSH).await;
    let (head, body) = get(addr, "Accept: application/openmetrics-text\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200") && body == b"# EOF\n", "{head}");
}

#[tokio::test]
async fn while_the_address_is_taken_nothing_is_delivered_and_it_is_tried_again() {
    let holder = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let scrape = scrape(&holder.local_addr().unwrap().to_string());
    assert!(matches!(scrape.probe().await, Probe::Unanswered(why) if why.contains("--scrape 127.0.0.1:")));
    let content = Content { measurements: &[set("depth", 2.0)], expired: &[], flush: FLUSH };
    let body = scrape.encode(&content).bodies.remove(0);
    let batch = batch(body, 0);
    assert!(matches!(scrape.send(&batch).await, Answer::NotSent(_)));
    drop(holder);
    assert!(matches!(scrape.send(&batch).await, Answer::Response(_)));
    let addr = scrape.serve().await.unwrap();
    assert!(get(addr, "").await.0.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn the_server_ends_with_the_backend_and_the_address_can_be_taken_again() {
    let first = scrape("127.0.0.1:0");
    let addr = first.serve().await.unwrap();
    drop(first);
    let second = scrape(&addr.to_string());
    let served = async {
        while second.serve().await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, served).await.unwrap();
    flush(&second, &[set("depth", 2.0)], FLUSH).await;
    assert!(get(addr, "").await.0.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn other_names_paths_and_methods_are_refused() {
    let scrape = scrape("127.0.0.1:0");
    let addr = scrape.serve().await.unwrap();
    flush(&scrape, &[set("depth", 2.0)], FLUSH).await;
    for (request, status) in [
        ("GET /metrics HTTP/1.1\r\nHost: evil.example", "421"),
        ("GET / HTTP/1.1\r\nHost: localhost", "404"),
        ("POST /metrics HTTP/1.1\r\nHost: localhost", "405"),
        ("HEAD /metrics HTTP/1.1\r\nHost: localhost", "200"),
    ] {
        let (head, _) = ask(addr, &format!("{request}\r\nConnection: close\r\n\r\n")).await;
        assert_eq!(&head[9..12], status, "{request}");
    }
}

#[tokio::test]
async fn bytes_that_nobody_can_read_are_dropped() {
    let scrape = scrape("127.0.0.1:0");
    let mut body = scrape
        .encode(&Content { measurements: &[set("d", 1.0)], expired: &[], flush: FLUSH })
        .bodies
        .remove(0);
    assert_eq!(scrape.describe(&body.bytes, 0).unwrap(), "d of source web");
    body.bytes = b"nonsense".to_vec();
    let batch = batch(body, 0);
    let Answer::Response(response) = scrape.send(&batch).await else { panic!() };
    assert_eq!(scrape.classify(&response, &batch, 0), Verdict::Drop { reason: "refused_by_backend" });
}

#[tokio::test]
async fn a_reader_that_takes_nothing_holds_up_nobody() {
    let scrape = scrape("127.0.0.1:0");
    let addr = scrape.serve().await.unwrap();
    let many: Vec<_> = (0..20_000).map(|at| counted(&format!("c{at}"), 1.0, 1.0)).collect();
    flush(&scrape, &many, FLUSH).await;
    // The page is some megabytes, more than the kernel holds for whom does not read.
    let mut slow = TcpStream::connect(addr).await.unwrap();
    slow.write_all(format!("GET /metrics HTTP/1.1\r\nHost: {addr}\r\n\r\n").as_bytes()).await.unwrap();
    slow.readable().await.unwrap();
    let (_, body) = tokio::time::timeout(LONG, get(addr, "")).await.unwrap();
    assert_eq!(body.iter().filter(|byte| **byte == b'\n').count(), 60_000);
    flush(&scrape, &[set("depth", 2.0)], FlushTime { unix_ms: FLUSH.unix_ms + 60_000, ..FLUSH }).await;
}
