//! Clients that take their time, and connections that stay.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{ONE, rest};
use crate::client::{DEADLINE, Receiver, database};

const SHORT: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_head_that_does_not_come_closes_the_connection() {
    let (_directory, db) = database();
    let receiver = Receiver::with(&db, |config| config.limits.head_timeout = SHORT).await;
    for begin in ["", "GET /healthz HTT", "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: "] {
        let begun = Instant::now();
        let mut stream = TcpStream::connect(receiver.running.addr).await.unwrap();
        stream.write_all(begin.as_bytes()).await.unwrap();
        let answer = rest(&mut stream).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{begin:?}: {answer}");
        assert!(begun.elapsed() >= SHORT, "{begin:?}");
    }
    // One byte after the other does not help: the time is for the whole head.
    let mut stream = TcpStream::connect(receiver.running.addr).await.unwrap();
    let begun = Instant::now();
    while stream.write_all(b"G").await.is_ok() {
        assert!(begun.elapsed() < DEADLINE, "still connected");
        tokio::time::sleep(SHORT / 10).await;
    }
    // An answered connection may stay, for the same time.
    let mut stream = TcpStream::connect(receiver.running.addr).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\r\n\r\nok\n"), "{answer}");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_answered_with_408() {
    let (_directory, db) = database();
    let receiver = Receiver::with(&db, |config| config.limits.body_timeout = SHORT).await;
    for (method, path) in [
        ("POST", "/v1/metrics"),
        ("POST", "/v1/measurements"),
        ("PUT", "/v1/metrics/a"),
        ("DELETE", "/v1/metrics"),
        ("POST", "/v1/annotations/a"),
    ] {
        let mut stream = TcpStream::connect(receiver.running.addr).await.unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{{"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = rest(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{method} {path}: {answer}");
        assert!(
            answer.contains(r#"{"errors":{"request":["the body did not arrive within 0.3 s"]}"#),
            "{answer}"
        );
    }
    assert_eq!(receiver.stop().await.requests_refused.get("body_too_slow"), Some(&5));
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_and_leaves_its_place() {
    let (_directory, db) = database();
    let receiver = Receiver::with(&db, |config| {
        config.limits.write_timeout = SHORT;
        config.limits.connections_max = 1;
    });
    let receiver = receiver.await;
    let long = "d".repeat(1_000);
    let gauges: Vec<String> =
        (0..100).map(|i| format!(r#"{{"name":"m{i}","value":1,"description":"{long}"}}"#)).collect();
    assert_eq!(receiver.post(&format!(r#"{{"gauges":[{}]}}"#, gauges.join(","))).await.status, 200);
    let mut stream = TcpStream::connect(receiver.running.addr).await.unwrap();
    // Each answer has 100 kB; all of them are more than the sockets hold.
    let requests = "GET /v1/metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(300);
    stream.write_all(requests.as_bytes()).await.unwrap();
    // There is one place only, and it becomes free.
    let answer = receiver.get("/healthz").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"));
    let read = rest(&mut stream).await;
    assert!(!read.is_empty() && read.len() < 300 * 100_000, "{}", read.len());
}

#[tokio::test]
async fn connections_beyond_the_most_wait_for_a_place() {
    let (_directory, db) = database();
    let receiver = Receiver::with(&db, |config| config.limits.connections_max = 2).await;
    let addr = receiver.running.addr;
    let ask = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut first = TcpStream::connect(addr).await.unwrap();
    let mut second = TcpStream::connect(addr).await.unwrap();
    let mut byte = [0];
    for stream in [&mut first, &mut second] {
        stream.write_all(ask).await.unwrap();
        tokio::time::timeout(DEADLINE, stream.read_exact(&mut byte)).await.unwrap().unwrap();
    }
    let mut third = TcpStream::connect(addr).await.unwrap();
    third.write_all(ask).await.unwrap();
    let early = tokio::time::timeout(SHORT, third.read_exact(&mut byte)).await;
    assert!(early.is_err(), "a third connection was served");
    drop(first);
    tokio::time::timeout(DEADLINE, third.read_exact(&mut byte)).await.unwrap().unwrap();
    assert_eq!(receiver.stop().await.requests, 3);
}

#[tokio::test]
async fn a_connection_serves_several_requests_until_one_side_closes_it() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let mut stream = TcpStream::connect(receiver.running.addr).await.unwrap();
    let post =
        format!("POST /v1/metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{ONE}", ONE.len());
    for request in [post.as_str(), "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", post.as_str()] {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(tokio::time::timeout(DEADLINE, stream.read_u8()).await.unwrap().unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 200") && !head.contains("connection: close"), "{head}");
        if request.starts_with("GET") {
            stream.read_exact(&mut [0; 3]).await.unwrap();
        }
    }
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let last = rest(&mut stream).await.to_ascii_lowercase();
    assert!(last.contains("connection: close") && last.ends_with("ok\n"), "{last}");
    assert_eq!(receiver.stop().await.points_accepted, 2);
}
