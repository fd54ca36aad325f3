//! The ordered end, the immediate one, and what the next worker finds.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use zibrato_service::Shutdown;

use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn an_ordered_end_reads_flushes_and_sends_what_is_on_the_way() {
    let directory = tempfile::tempdir().unwrap();
    let (bus, receiver, shutdown) = (Bus::new(), Receiver::new(), Shutdown::new());
    let mut config = config(&bus, directory.path());
    config.lane.flush = Duration::from_secs(3_600);
    let running = launch(config, &receiver.url(), &shutdown).await.unwrap();
    bus.wait_subscribed("info");
    for _ in 0..5_000 {
        bus.count("hits", 1);
    }
    // The first has arrived, the others are somewhere on the way.
    wait_until("the first message", || running.totals().received > 0);
    let totals = stop(running, &shutdown).await;
    assert_eq!((receiver.sum("hits"), totals.received, totals.flushes), (5_000.0, 5_000, 1));
    assert_eq!(totals.held.batches, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_backend_does_not_hold_up_the_end_and_the_next_worker_delivers() {
    let directory = tempfile::tempdir().unwrap();
    let (bus, receiver, shutdown) = (Bus::new(), Receiver::new(), Shutdown::new());
    receiver.always(Some(status(503)));
    let mut settings = config(&bus, directory.path());
    settings.lane.grace = Duration::from_millis(200);
    let running = launch(settings.clone(), &receiver.url(), &shutdown).await.unwrap();
    bus.wait_subscribed("info");
    bus.count("hits", 3);
    wait_until("the message", || running.totals().received == 1);
    let begun = Instant::now();
    let totals = stop(running, &shutdown).await;
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert_eq!((totals.held.units.counter_sum, totals.delivered.points), (3.0, 0));

    receiver.always(None);
    let shutdown = Shutdown::new();
    let running = launch(settings, &receiver.url(), &shutdown).await.unwrap();
    wait_until("delivery", || running.totals().batches_delivered >= 1);
    let totals = stop(running, &shutdown).await;
    assert_eq!((totals.restored.counter_sum, totals.delivered.counter_sum), (3.0, 3.0));
    assert_eq!(receiver.sum("hits"), 3.0);
    let posts = receiver.posts();
    assert!(posts.iter().all(|post| *post == posts[0]), "the next process sends the same bytes and id");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_request_leaves_out_the_sending_but_never_the_spool() {
    let directory = tempfile::tempdir().unwrap();
    let (bus, receiver, shutdown) = (Bus::new(), Receiver::new(), Shutdown::new());
    receiver.always(Some(Reply::StoreAndHang));
    let mut settings = config(&bus, directory.path());
    settings.lane.grace = Duration::from_secs(3_600);
    settings.lane.flush = Duration::from_secs(3_600);
    let running = launch(settings, &receiver.url(), &shutdown).await.unwrap();
    bus.wait_subscribed("info");
    bus.count("hits", 3);
    wait_until("the message", || running.totals().received == 1);
    shutdown.request();
    let totals = stop(running, &shutdown).await;
    assert_eq!((totals.flushes, totals.held.units.counter_sum), (1, 3.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_endpoint_shows_the_totals_and_degrades_when_credentials_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (bus, receiver, shutdown) = (Bus::new(), Receiver::new(), Shutdown::new());
    let running = launch(config(&bus, directory.path()), &receiver.url(), &shutdown).await.unwrap();
    let addr = running.status_addr().unwrap();
    bus.wait_subscribed("info");
    bus.count("hits", 3);
    wait_until("delivery", || running.totals().batches_delivered == 1);
    assert!(get(addr, "/healthz").starts_with("HTTP/1.1 200"));
    let page = get(addr, "/metrics");
    for line in [
        "zibrato_worker_delivered_counted{backend=\"librato\"} 3\n",
        "zibrato_worker_messages_total{backend=\"librato\"} 1\n",
        "zibrato_worker_batches_delivered_total{backend=\"librato\"} 1\n",
    ] {
        assert!(page.contains(line), "{line} is missing in {page}");
    }
    receiver.always(Some(status(401)));
    bus.count("hits", 3);
    wait_until("a refusal", || running.totals().rejections >= 1);
    wait_until("degraded", || get(addr, "/healthz").starts_with("HTTP/1.1 503"));
    receiver.always(None);
    wait_until("recovery", || get(addr, "/healthz").starts_with("HTTP/1.1 200"));
    stop(running, &shutdown).await;
    assert_eq!(receiver.sum("hits"), 6.0);
}

pub(crate) fn get(addr: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(addr).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
