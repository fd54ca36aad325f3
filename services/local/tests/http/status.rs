//! `/healthz`, `/metrics` and `/status`.

use serde_json::json;
use zibrato_service::{KindClash, Report};

use crate::client::{Receiver, database, now};
use crate::table::{check, row};

#[tokio::test]
async fn the_totals_are_told_to_machines_and_people() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let time = now() - 5;
    let body = format!(
        r#"{{"gauges":[{{"name":"a","value":1,"measure_time":{time}}},{{"name":"b","value":1,"measure_time":{}}}]}}"#,
        time - 9
    );
    assert_eq!(receiver.post_batch("b", &body).await.status, 200);
    assert_eq!(receiver.post_batch("b", &body).await.status, 200);
    assert_eq!(receiver.post(r#"{"gauges":[{"name":"a b","value":1}]}"#).await.status, 400);
    let answer = receiver.get("/metrics").await;
    assert_eq!(answer.header("Content-Type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    for line in [
        "# TYPE zibrato_local_requests_total counter",
        "zibrato_local_requests_total 3",
        r#"zibrato_local_requests_refused_total{reason="bad_name"} 1"#,
        "zibrato_local_points_offered_total 5",
        "zibrato_local_points_accepted_total 2",
        r#"zibrato_local_points_refused_total{reason="bad_name"} 1"#,
        r#"zibrato_local_points_refused_total{reason="duplicate_batch"} 2"#,
        "zibrato_local_duplicate_batches_total 1",
    ] {
        assert!(answer.body.lines().any(|found| found == line), "{line} in {}", answer.body);
    }
    let report = receiver.get("/status").await;
    let Report::Local(local) = serde_json::from_str(&report.body).unwrap() else { panic!("{report:?}") };
    assert_eq!(
        (local.account.unit.as_str(), local.account.offered, local.account.accepted),
        ("points", 5.0, 2.0)
    );
    assert_eq!((local.account.delivered, local.account.refused.values().sum::<f64>()), (2.0, 3.0));
    assert_eq!((local.metrics, local.newest_s), (2, Some(time)));
    assert!(local.db_bytes >= 4_096, "{local:?}");
    assert_eq!(
        (local.process.pid, local.process.version.as_str()),
        (std::process::id(), env!("CARGO_PKG_VERSION"))
    );
    assert!((local.process.unix_ms as i64 / 1_000 - now()).abs() < 60);
}

#[tokio::test]
async fn a_name_with_two_kinds_is_one_metric_and_is_told() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let one = |name: &str, kind: &str| {
        json!({ "gauges": [{ "name": name, "value": 1, "origin": { "kind": kind, "levels": ["info"] } }] })
            .to_string()
    };
    let told = async || {
        let report = receiver.get("/status").await;
        let Report::Local(local) = serde_json::from_str(&report.body).unwrap() else { panic!("{report:?}") };
        (local.kind_clash_points, local.kind_clashes, local.account.accepted)
    };
    for body in [one("a", "counter"), one("A", "counter"), one("b", "timer")] {
        assert_eq!(receiver.post(&body).await.status, 200);
    }
    assert_eq!(told().await, (0, Vec::new(), 3.0));
    for body in [one("A", "timer"), one("a", "gauge"), one("b", "timer")] {
        assert_eq!(receiver.post(&body).await.status, 200);
    }
    let clash = KindClash { metric: "A".to_owned(), is: "counter".to_owned(), sent: "timer".to_owned() };
    assert_eq!(told().await, (2, vec![clash.clone()], 6.0), "both kinds are stored");
    let text = receiver.get("/metrics").await.body;
    assert!(text.contains("\nzibrato_local_kind_clash_points_total 2\n"), "{text}");
    let also = async |name: &str| {
        let found = receiver.get(&format!("/page/metrics?metric={name}")).await.json();
        found["metrics"][0]["also_sent_as"].clone()
    };
    assert_eq!((also("a").await, also("b").await), (json!("timer"), json!(null)));
    receiver.stop().await;
    // What came first is in the database; a clash is found again after a restart.
    let receiver = Receiver::on(&db).await;
    assert_eq!(receiver.post(&one("a", "timer")).await.status, 200);
    let report = receiver.get("/status").await.json();
    assert_eq!(report["kind_clashes"], json!([{ "metric": "a", "is": "counter", "sent": "timer" }]));
}

#[tokio::test]
async fn health_is_ok_until_a_batch_cannot_be_stored_and_again_when_one_can() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let one = r#"{"gauges":[{"name":"a","value":1}]}"#;
    let healthy = || row("-", "GET", "/healthz").text("ok\n");
    check(&receiver, vec![healthy()]).await;
    assert_eq!(receiver.post(one).await.status, 200);
    let other = rusqlite::Connection::open(&db).unwrap();
    other.execute_batch("ALTER TABLE tail RENAME TO away").unwrap();
    assert_eq!(receiver.post(one).await.status, 503);
    check(&receiver, vec![row("-", "GET", "/healthz").is(503).text("the last batch could not be stored\n")])
        .await;
    other.execute_batch("ALTER TABLE away RENAME TO tail").unwrap();
    assert_eq!(receiver.post(one).await.status, 200);
    check(&receiver, vec![healthy()]).await;
    let report = receiver.get("/status").await.json();
    assert_eq!(report["service"], json!("local"));
}
