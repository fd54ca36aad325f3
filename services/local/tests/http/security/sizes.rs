//! How large requests and answers are.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::ONE;
use crate::client::{DEADLINE, Receiver, call, database};
use crate::table::{check, row};

#[tokio::test]
async fn bodies_together_are_limited() {
    let (_directory, db) = database();
    let receiver = Receiver::with(&db, |config| config.limits.bodies_bytes_max = 100_000).await;
    let addr = receiver.running.addr;
    let mut first = TcpStream::connect(addr).await.unwrap();
    let head = "POST /v1/metrics HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 90000\r\n\r\n";
    first.write_all(head.as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    first.read_exact(&mut interim).await.unwrap();
    first.write_all(&vec![b' '; 80_000]).await.unwrap();
    let begun = Instant::now();
    while !receiver.get("/metrics").await.body.contains("zibrato_local_bodies_bytes 80000\n") {
        assert!(begun.elapsed() < DEADLINE, "the first body is not read");
    }
    let padded = format!("{ONE}{}", " ".repeat(30_000));
    let answer = receiver.post(&padded).await;
    let expected = r#"{"errors":{"system":["Too many requests at once. Please resubmit the request later."]},"request_time":T}"#;
    assert_eq!((answer.status, answer.body_at_t()), (503, expected.to_owned()));
    assert_eq!(receiver.post(ONE).await.status, 200);
    drop(first);
    // Its room is free again.
    let begun = Instant::now();
    while receiver.post(&padded).await.status != 200 {
        assert!(begun.elapsed() < DEADLINE, "its room was not given back");
    }
}

#[tokio::test]
async fn giant_addresses_and_heads_are_refused() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let query = |bytes: usize| format!("/v1/metrics?name={}", "n".repeat(bytes - 5));
    let rows = vec![
        row("-", "GET", query(16 * 1024))
            .json(json!({"query": {"found": 0, "length": 0, "offset": 0, "total": 0}, "metrics": []})),
        row("-", "GET", query(16 * 1024 + 1)).fails(
            414,
            r#"{"request":["the query exceeds the limit of 16384 bytes; ask for less at once"]}"#,
        ),
    ];
    check(&receiver, rows).await;
    let long = "x".repeat(70_000);
    let answer = receiver.call("GET", "/v1/metrics", &[("X-Long", &long)], "").await;
    assert_eq!(answer.status, 431);
    let answer = receiver.call("GET", &format!("/{long}"), &[], "").await;
    assert!([414, 431].contains(&answer.status), "{answer:?}");
    let many: Vec<(String, &str)> = (0..200).map(|i| (format!("X-{i}"), "v")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    assert_eq!(receiver.call("GET", "/v1/metrics", &many, "").await.status, 431);
    assert_eq!(receiver.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn large_answers_come_with_gzip_to_those_who_take_it() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let gauges: Vec<String> = (0..100).map(|i| format!(r#"{{"name":"metric.{i}","value":1}}"#)).collect();
    assert_eq!(receiver.post(&format!(r#"{{"gauges":[{}]}}"#, gauges.join(","))).await.status, 200);
    let plain = receiver.get("/v1/metrics").await;
    assert_eq!(plain.header("Content-Encoding"), None);
    let packed = receiver.call("GET", "/v1/metrics", &[("Accept-Encoding", "gzip, br")], "").await;
    assert_eq!(packed.header("Content-Encoding"), Some("gzip"));
    assert_eq!(packed.header("Vary").map(str::to_ascii_lowercase).as_deref(), Some("accept-encoding"));
    assert_eq!(packed.json(), plain.json());
    for (path, accepted) in
        [("/v1/metrics", "br"), ("/v1/metrics", "gzip;q=0"), ("/v1/metrics?length=1", "gzip")]
    {
        let answer = receiver.call("GET", path, &[("Accept-Encoding", accepted)], "").await;
        assert_eq!(answer.header("Content-Encoding"), None, "{path} {accepted}");
    }
}

#[tokio::test]
async fn a_body_counts_until_its_points_are_stored() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let other = rusqlite::Connection::open(&db).unwrap();
    let addr = receiver.running.addr;
    for path in ["/v1/metrics", "/v1/measurements"] {
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let body = if path == "/v1/metrics" { ONE } else { r#"{"measurements":[{"name":"a","value":1}]}"# };
        let post = async move {
            call(addr, "POST", path, &[("Content-Type", "application/json")], body.as_bytes()).await
        };
        let post = tokio::spawn(post);
        let counted = format!("zibrato_local_bodies_bytes {}\n", body.len());
        let begun = Instant::now();
        // Twice in a row, because a body that is being read counts as well.
        let mut seen = 0;
        while seen < 2 {
            let is_counted = receiver.get("/metrics").await.body.contains(&counted);
            seen = if is_counted { seen + 1 } else { 0 };
            assert!(!post.is_finished() && begun.elapsed() < Duration::from_secs(4), "{path}");
        }
        other.execute_batch("ROLLBACK").unwrap();
        assert_eq!(post.await.unwrap().status, 200);
    }
    assert!(receiver.get("/metrics").await.body.contains("zibrato_local_bodies_bytes 0\n"));
}
