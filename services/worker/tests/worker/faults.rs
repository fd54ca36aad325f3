//! Faults between the worker and its backend, and what must come out.

use std::time::Duration;

use zibrato_service::Shutdown;
use zibrato_worker::spool::SPOOL_FILE;
use zibrato_worker::worker::Config;

use crate::support::*;

fn temporary() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_gauges_and_timers_arrive_with_their_values() {
    let (bus, receiver, directory, shutdown) = (Bus::new(), Receiver::new(), temporary(), Shutdown::new());
    let running = launch(config(&bus, directory.path()), &receiver.url(), &shutdown).await.unwrap();
    bus.wait_subscribed("info");
    let now = now_s();
    for value in ["5", "-1.5", "0.25"] {
        bus.send(&format!("info|Counter|hits|{value}|{now}|deathstar"));
    }
    for (value, at) in [("0", now - 2), ("-1.5", now - 1), ("1000000000", now)] {
        bus.send(&format!("info|Gauge|depth|{value}|{at}|not_specified"));
    }
    bus.send(&format!("info|Timer|lat|0.25|{now}|myprog"));
    bus.send(&format!("info|Timer|lat|0.75|{now}|myprog"));
    wait_until("eight messages", || running.totals().received >= 8);
    let totals = stop(running, &shutdown).await;
    assert_eq!((totals.delivered.gauge_sets, totals.delivered.timer_records), (3, 2));
    assert_eq!(receiver.sum("hits"), 3.75);
    let mut depth: Vec<_> = receiver.gauges().into_iter().filter(|gauge| gauge["name"] == "depth").collect();
    depth.sort_by_key(|gauge| gauge["measure_time"].as_u64());
    let values: Vec<_> = depth.iter().map(|gauge| gauge["value"].as_f64().unwrap()).collect();
    assert_eq!(values, [0.0, -1.5, 1e9]);
    let (mut count, mut sum) = (0, 0.0);
    for lat in receiver.gauges().iter().filter(|gauge| gauge["name"] == "lat") {
        count += lat["count"].as_u64().unwrap();
        sum += lat["sum"].as_f64().unwrap();
    }
    assert_eq!((count, sum), (2, 1.0));
    assert_eq!(receiver.heads(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_fails_delays_a_batch_stores_one_copy_and_does_not_hold_up_the_flushes() {
    let (bus, receiver, directory, shutdown) = (Bus::new(), Receiver::new(), temporary(), Shutdown::new());
    receiver.always(Some(status(500)));
    let running = launch(config(&bus, directory.path()), &receiver.url(), &shutdown).await.unwrap();
    bus.wait_subscribed("info");
    bus.count("hits", 3);
    wait_until("a refused batch", || running.totals().retries >= 3);
    // The flushes go on while the first batch waits.
    let flushes = running.totals().flushes;
    bus.count("hits", 4);
    wait_until("two batches held", || {
        running.totals().held.batches >= 2 && running.totals().flushes > flushes
    });
    receiver.script([status(429), Reply::Status(503, "Retry-After: 0\r\n", String::new()), Reply::Close]);
    receiver.always(None);
    wait_until("delivery", || running.totals().held.batches == 0);
    let totals = stop(running, &shutdown).await;
    assert_eq!(receiver.sum("hits"), 7.0);
    assert_eq!(totals.ambiguous, 1);
    assert_eq!((totals.delivered.counter_sum, totals.dropped.sum().points), (7.0, 0));
    // Each attempt of the first batch carried the same bytes and id.
    let posts = receiver.posts();
    let first: Vec<_> = posts.iter().filter(|post| post.id == posts[0].id).collect();
    assert!(first.len() >= 6, "{}", first.len());
    assert!(first.iter().all(|post| **post == posts[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_lost_after_the_backend_stored_repeats_identical_bytes_and_counts_as_ambiguous() {
    let (bus, receiver, directory, shutdown) = (Bus::new(), Receiver::new(), temporary(), Shutdown::new());
    receiver.script([Reply::StoreAndClose]);
    let running = launch(config(&bus, directory.path()), &receiver.url(), &shutdown).await.unwrap();
    bus.wait_subscribed("info");
    bus.count("hits", 3);
    wait_until("delivery", || running.totals().batches_delivered == 1);
    let totals = stop(running, &shutdown).await;
    let posts = receiver.posts();
    assert_eq!(posts.len(), 2);
    assert_eq!(posts[0], posts[1]);
    assert_eq!((totals.ambiguous, receiver.sum("hits")), (1, 3.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_series_alone_is_lost() {
    let (bus, receiver, directory, shutdown) = (Bus::new(), Receiver::new(), temporary(), Shutdown::new());
    let named =
        r#"{"errors":{"params":{"type":["'bad' is a counter, but was submitted as different type"]}}}"#;
    receiver.script([Reply::Status(400, "Content-Type: application/json\r\n", named.to_owned())]);
    // One flush for all, made by the end.
    let mut config = config(&bus, directory.path());
    config.lane.flush = Duration::from_secs(3_600);
    let running = launch(config, &receiver.url(), &shutdown).await.unwrap();
    bus.wait_subscribed("info");
    for name in ["good", "bad", "fine"] {
        bus.count(name, 2);
    }
    wait_until("three messages", || running.totals().received >= 3);
    let totals = stop(running, &shutdown).await;
    assert_eq!((receiver.sum("good"), receiver.sum("bad"), receiver.sum("fine")), (2.0, 0.0, 2.0));
    assert_eq!(totals.dropped.of("refused_by_backend").counter_sum, 2.0);
    let posts = receiver.posts();
    assert!(posts.len() == 2 && posts[0].id != posts[1].id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_spool_keeps_changes_in_memory_and_recovers() {
    let (bus, receiver, directory, shutdown) = (Bus::new(), Receiver::new(), temporary(), Shutdown::new());
    receiver.always(Some(status(500)));
    let mut config = config(&bus, directory.path());
    config.lane.spool_bytes_max = 100;
    let running = launch(config, &receiver.url(), &shutdown).await.unwrap();
    bus.wait_subscribed("info");
    bus.count("hits", 1);
    wait_until("a batch held", || running.totals().held.batches == 1);
    bus.count("hits", 2);
    bus.count("hits", 4);
    wait_until("three flushes aborted", || running.totals().spool_full >= 3);
    assert_eq!(running.totals().held.batches, 1);
    assert!(running.totals().is_aborting);
    receiver.always(None);
    wait_until("delivery", || running.totals().delivered.counter_sum == 7.0);
    let totals = stop(running, &shutdown).await;
    assert_eq!(receiver.sum("hits"), 7.0);
    assert!(!totals.is_aborting);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_worker_on_the_spool_is_refused_and_a_damaged_spool_is_put_away() {
    let (bus, receiver, directory, shutdown) = (Bus::new(), Receiver::new(), temporary(), Shutdown::new());
    std::fs::write(directory.path().join(SPOOL_FILE), b"nonsense".repeat(1_000)).unwrap();
    let running = launch(config(&bus, directory.path()), &receiver.url(), &shutdown).await.unwrap();
    assert_eq!(running.totals().quarantined, 1);
    let error =
        launch(config(&bus, directory.path()), &receiver.url(), &shutdown).await.unwrap_err().to_string();
    assert!(error.contains("used by another worker"), "{error}");
    bus.wait_subscribed("info");
    bus.count("hits", 1);
    wait_until("delivery", || running.totals().batches_delivered == 1);
    stop(running, &shutdown).await;
    assert_eq!(receiver.sum("hits"), 1.0);
}

/// Settings under which a worker gives up sending at its end.
fn in_a_hurry(bus: &Bus, directory: &std::path::Path) -> Config {
    let mut config = config(bus, directory);
    config.lane.grace = Duration::ZERO;
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_with_origins_goes_without_them_to_a_receiver_that_says_it_does_not_know_them() {
    let (bus, receiver, directory) = (Bus::new(), Receiver::new(), temporary());
    receiver.accept("X-Zibrato-Accepts: histogram/1, origin/1\r\n");
    receiver.always(Some(status(503)));
    let shutdown = Shutdown::new();
    let running = launch(in_a_hurry(&bus, directory.path()), &receiver.url(), &shutdown).await.unwrap();
    bus.wait_subscribed("info");
    wait_until("the probe", || running.totals().probed);
    bus.count("hits", 3);
    bus.send(&format!("info|Timer|lat|0.25|{}|test", now_s()));
    wait_until("both in the spool", || {
        let accepted = running.totals().accepted;
        accepted.timer_records == 1 && accepted.counter_sum == 3.0
    });
    wait_until("an attempt", || !receiver.posts().is_empty());
    stop(running, &shutdown).await;
    let refused = receiver.posts();
    assert!(
        refused[0].body.contains(r#""origin":{"kind":"counter","levels":["info"]}"#),
        "{}",
        refused[0].body
    );

    receiver.accept("");
    receiver.always(None);
    let shutdown = Shutdown::new();
    let running = launch(config(&bus, directory.path()), &receiver.url(), &shutdown).await.unwrap();
    wait_until("delivery", || running.totals().probed && running.totals().held.batches == 0);
    let totals = stop(running, &shutdown).await;
    assert_eq!((totals.restored.counter_sum, totals.delivered.counter_sum), (3.0, 3.0));
    assert_eq!(receiver.sum("hits"), 3.0);
    for gauge in receiver.gauges() {
        assert!(gauge.get("origin").is_none() && gauge.get("buckets").is_none(), "{gauge}");
    }
    assert!(receiver.posts().last().is_some_and(|post| refused.iter().any(|early| early.id == post.id)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_replaced_while_the_worker_runs_skips_the_origins_it_does_not_know() {
    let (bus, receiver, directory, shutdown) = (Bus::new(), Receiver::new(), temporary(), Shutdown::new());
    receiver.accept("X-Zibrato-Accepts: origin/1\r\n");
    let running = launch(config(&bus, directory.path()), &receiver.url(), &shutdown).await.unwrap();
    bus.wait_subscribed("info");
    wait_until("the probe", || running.totals().probed);
    receiver.accept("");
    bus.count("hits", 3);
    wait_until("delivery", || running.totals().batches_delivered == 1);
    stop(running, &shutdown).await;
    assert_eq!((receiver.sum("hits"), receiver.heads()), (3.0, 1));
    assert!(receiver.gauges()[0].get("origin").is_some());
}
