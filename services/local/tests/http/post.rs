//! `POST /v1/metrics` beyond Librato: batch ids, the window of times, clients that hang up.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{Receiver, call, database, now};

#[tokio::test]
async fn a_batch_id_is_1_to_128_visible_characters() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let good = r#"{"gauges":[{"name":"a","value":1}]}"#;
    let (longest, too_long) = ("i".repeat(128), "i".repeat(129));
    assert_eq!(receiver.post_batch(&longest, good).await.status, 200);
    for bad in ["", too_long.as_str(), "ä"] {
        let answer = receiver.post_batch(bad, good).await;
        let expected = r#"{"errors":{"request":["X-Zibrato-Batch must be 1 to 128 visible ASCII characters"]},"request_time":T}"#;
        assert_eq!((answer.status, answer.body_at_t()), (400, expected.to_owned()), "{bad}");
    }
    assert_eq!(receiver.stop().await.points_accepted, 1);
}

#[tokio::test]
async fn a_window_set_wider_or_narrower_moves_the_bounds() {
    let (_directory, db) = database();
    let receiver = Receiver::with(&db, |config| (config.max_age_s, config.max_ahead_s) = (86_400, 0)).await;
    let at = |time: i64| format!(r#"{{"gauges":[{{"name":"a","value":1,"measure_time":{time}}}]}}"#);
    assert_eq!(receiver.post(&at(now() - 86_000)).await.status, 200);
    assert_eq!(receiver.post(&at(now() - 86_500)).await.status, 400);
    assert_eq!(receiver.post(&at(now() + 30)).await.status, 400);
}

#[tokio::test]
async fn a_client_that_hangs_up_half_way_stores_nothing_and_disturbs_nobody() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let mut stream = TcpStream::connect(receiver.running.addr).await.unwrap();
    let head = "POST /v1/metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{\"gauges\":[{\"name\":\"a\"";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    let good = br#"{"gauges":[{"name":"b","value":1}]}"#;
    assert_eq!(call(receiver.running.addr, "POST", "/v1/metrics", &[], good).await.status, 200);
    assert_eq!(receiver.stop().await.points_offered, 1);
}
