//! Against sockets: what is sent, and what comes of those who do not answer as they should.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

use super::super::super::test_support::batch;
use super::*;

/// A request as it came: head in lower case, and body.
type Request = (String, Vec<u8>);

fn read_request(stream: &mut TcpStream) -> Request {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4_096]);
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if bytes.len() - end - 4 >= length.parse().unwrap() {
                return (head, bytes[end + 4..].to_vec());
            }
        }
        let length = stream.read(&mut chunk).unwrap();
        assert!(length > 0, "the request breaks off");
        bytes.extend_from_slice(&chunk[..length]);
    }
}

/// Answers one connection after the other with these bytes and hangs up.
fn answer_with(answers: Vec<&'static str>) -> (SocketAddr, JoinHandle<Vec<Request>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let served = thread::spawn(move || {
        let serve = |answer: &str| {
            let (mut stream, _) = listener.accept().unwrap();
            let request = read_request(&mut stream);
            stream.write_all(answer.as_bytes()).unwrap();
            request
        };
        answers.into_iter().map(serve).collect()
    });
    (addr, served)
}

fn at(addr: SocketAddr) -> RemoteWrite {
    backend(&format!("http://{addr}/api/v1/write"), false, LIMITS)
}

#[tokio::test]
async fn each_attempt_carries_the_same_bytes_and_the_headers_of_remote_write() {
    let (addr, served) = answer_with(vec![
        "HTTP/1.1 500 X\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 204 X\r\nconnection: close\r\n\r\n",
    ]);
    let backend = at(addr);
    let sent = batch(encode(&backend, &[counted("hits", 1.0, 1.0)], &[]).bodies.remove(0), 0);
    for status in [500, 204] {
        assert!(matches!(backend.send(&sent).await, Answer::Response(response) if response.status == status));
    }
    for (head, body) in served.join().unwrap() {
        assert!(head.starts_with("post /api/v1/write http/1.1"), "{head}");
        for header in [
            "content-encoding: snappy",
            "content-type: application/x-protobuf",
            "x-prometheus-remote-write-version: 0.1.0",
            "user-agent: zibrato-prometheus/test",
        ] {
            assert!(head.lines().any(|line| line == header), "{header}: {head}");
        }
        assert_eq!(body, sent.body.bytes);
    }
}

#[tokio::test]
async fn who_hangs_up_may_have_stored_it_and_who_is_not_there_has_not() {
    let (addr, served) = answer_with(vec!["", "HTTP/1.1 204"]);
    let backend = at(addr);
    let sent = batch(encode(&backend, &[counted("hits", 1.0, 1.0)], &[]).bodies.remove(0), 0);
    for _ in 0..2 {
        assert!(matches!(backend.send(&sent).await, Answer::Lost(_)));
    }
    served.join().unwrap();
    assert!(matches!(backend.send(&sent).await, Answer::NotSent(_)));
}

#[tokio::test]
async fn a_probe_writes_nothing_and_says_what_it_was_told() {
    let (addr, served) = answer_with(vec![
        "HTTP/1.1 204 X\r\nconnection: close\r\n\r\n",
        "HTTP/1.1 404 X\r\nconnection: close\r\ncontent-length: 18\r\n\r\n404 page not found",
        "HTTP/1.1 503 X\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        "",
    ]);
    let backend = at(addr);
    assert_eq!(backend.probe().await, Probe::Ready);
    assert_eq!(backend.probe().await, Probe::Odd("status 404: 404 page not found".to_owned()));
    assert_eq!(backend.probe().await, Probe::Unanswered("status 503".to_owned()));
    assert!(matches!(backend.probe().await, Probe::Unanswered(_)));
    for (_, body) in served.join().unwrap() {
        assert_eq!(read(&body).unwrap(), WriteRequest::default());
    }
}
