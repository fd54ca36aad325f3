//! The ordered end, and the broker as a service.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use super::*;
use crate::{RunError, run, serve};

#[test]
fn an_ordered_end_forwards_everything_that_was_received() {
    let broker = Fixture::new();
    let publisher = broker.original_publisher();
    let worker = broker.worker(&[b"info|"]);
    let end = Instant::now() + DEADLINE;
    while recv_now(&worker).unwrap().is_none() {
        publisher.send("info|first", 0).unwrap();
        worker.poll(zmq::POLLIN, 10).unwrap();
        assert!(Instant::now() < end);
    }
    for _ in 0..100_000 {
        publisher.send("info|rest", 0).unwrap();
    }
    broker.shutdown.request();
    let in_endpoint = broker.running.in_endpoint().to_owned();
    let status = broker.running.status();
    let totals = broker.end();
    assert_eq!(totals.forwarded(), totals.received);
    let mut received = 1;
    // The count is exact, so the last one is there within the deadline or lost.
    while received < totals.received {
        assert!(receive(&worker).starts_with(b"info|"), "{received} of {}", totals.received);
        received += 1;
    }
    assert_eq!(status.totals(), totals);
    TcpListener::bind(in_endpoint.trim_start_matches("tcp://")).unwrap();
}

#[test]
fn a_second_request_ends_at_once() {
    let broker = Fixture::new();
    let _worker = broker.worker(&[b""]);
    broker.shutdown.request();
    broker.shutdown.request();
    let asked = Instant::now();
    broker.end();
    assert!(asked.elapsed() < Duration::from_millis(zibrato_std::socket::LINGER_MS as u64));
}

#[test]
fn a_context_that_ends_under_the_broker_is_an_error_in_its_totals() {
    let mut context = Context::new();
    let running = start(config(), Some(context.clone()), Shutdown::new()).unwrap();
    let status = running.status();
    thread::scope(|scope| {
        // This returns once the broker has closed its sockets.
        let ended = scope.spawn(move || context.destroy());
        assert_eq!(running.join().failed, Some(zmq::Error::ETERM));
        ended.join().unwrap().unwrap();
    });
    assert_ne!(status.health(), zibrato_service::Health::Ok);
}

#[tokio::test]
async fn run_serves_health_and_metrics_and_returns_the_totals() {
    let shutdown = Shutdown::new();
    // A port that was free a moment ago; nobody else here asks for that very one.
    let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let http = StatusEndpoint { addr: Some(addr), explicit: true };
    let running = tokio::spawn(run(Config { http, ..config() }, shutdown.clone()));
    let page = tokio::task::spawn_blocking(move || {
        let end = Instant::now() + DEADLINE;
        while TcpStream::connect(addr).is_err() {
            assert!(Instant::now() < end);
        }
        assert!(fetch(addr, "/healthz").starts_with("HTTP/1.1 200"));
        fetch(addr, "/metrics")
    });
    let page = page.await.unwrap();
    assert!(page.contains("\nzibrato_broker_received_total 0\n"), "{page}");
    shutdown.request();
    let totals = tokio::time::timeout(DEADLINE, running).await.unwrap().unwrap().unwrap();
    assert!(totals.adds_up());
}

#[tokio::test]
async fn a_status_address_that_is_taken_stops_the_broker_again() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let http = StatusEndpoint { addr: Some(holder.local_addr().unwrap()), explicit: true };
    let shutdown = Shutdown::new();
    let running = start(config(), None, shutdown.clone()).unwrap();
    let error = serve(running, http, shutdown.clone()).await.unwrap_err();
    assert!(matches!(error, RunError::Status(_)), "{error}");
    assert!(shutdown.is_requested());
}

fn fetch(addr: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
