//! The ordered end, and the broker as a service.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};

use zibrato_std::socket::{broker_in, broker_out};

use super::*;
use crate::broker::{Broker, DRAIN_MAX};
use crate::report::About;
use crate::{RunError, Status, run, serve};

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
fn what_is_queued_when_the_end_begins_is_forwarded() {
    const COUNT: usize = 5_000;
    let context = Context::new();
    let (from_publishers, to_workers) = (broker_in(&context).unwrap(), broker_out(&context).unwrap());
    from_publishers.bind("inproc://in").unwrap();
    to_workers.bind("inproc://out").unwrap();
    let worker = subscriber(&context).unwrap();
    worker.connect("inproc://out").unwrap();
    worker.set_subscribe(b"info|").unwrap();
    let publisher = context.socket(zmq::XPUB).unwrap();
    publisher.connect("inproc://in").unwrap();
    send(&from_publishers, b"\x01info|");
    assert_eq!(receive(&publisher)[..], *b"\x01info|");
    for _ in 0..COUNT {
        send(&publisher, b"info|queued");
    }
    let shutdown = Shutdown::new();
    shutdown.request();
    let status = Status::new(About::nothing());
    let broker = Broker::new(from_publishers, to_workers, PublisherId([1; 16]), &config(), status);
    let totals = broker.run("inproc://in", &shutdown);
    assert_eq!((totals.received, totals.forwarded()), (COUNT as u64, COUNT as u64), "{totals}");
    for _ in 0..COUNT {
        assert_eq!(receive(&worker)[..], *b"info|queued");
    }
}

#[test]
fn a_publisher_that_never_stops_does_not_hold_up_the_end() {
    let broker = Fixture::new();
    let publisher = broker.publisher();
    let (shutdown, stop) = (broker.shutdown.clone(), &AtomicBool::new(false));
    let deadline = Instant::now() + DEADLINE;
    thread::scope(|scope| {
        scope.spawn(move || {
            let goes_on = |_: &u64| !stop.load(Ordering::Relaxed) && Instant::now() < deadline;
            for seq in (1..).take_while(goes_on) {
                // Full when the broker has hung up, and then tried again.
                let _ = send_now(&publisher, &part(1, "info", DELTA, seq, 0, 1)).unwrap();
            }
        });
        broker.until("flooded", |totals| totals.received > 1_000);
        let asked = Instant::now();
        shutdown.request();
        broker.end();
        let took = asked.elapsed();
        stop.store(true, Ordering::Relaxed);
        assert!(took < DRAIN_MAX, "{took:?}");
    });
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
        assert_eq!(running.join().failed, Some(Error::ETERM));
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
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
