//! `POST /v1/metrics`: every status and body.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use zibrato_local::Token;

use crate::client::{Answer, Receiver, call, database, now};

const JSON: &str = "application/json;charset=utf-8";

fn has_rate_headers(answer: &Answer) -> bool {
    ["X-Librato-RateLimit-Agg", "X-Librato-RateLimit-Std"].iter().all(|name| {
        let value = answer.header(name).unwrap_or_default();
        let mut keys = value.split(',').map(|pair| pair.split_once('=').unwrap());
        let (limit, remaining, reset) = (keys.next().unwrap(), keys.next().unwrap(), keys.next().unwrap());
        limit == ("limit", "600000")
            && remaining.0 == "remaining"
            && reset.1.parse::<i64>().unwrap() >= now() - 60
    })
}

#[tokio::test]
async fn a_good_batch_is_answered_with_200_and_nothing() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let begun = now();
    let time = begun - 7_000;
    let original = format!(
        r#"{{"gauges": [{{"source": "not_specified", "name": "test_gauge", "value": 999.0, "measure_time": "{time}"}}]}}"#
    );
    for body in [
        original.as_str(),
        r#"{"gauges":{"login-delay":{"value":3.5,"source":"foo.bar.com"}}}"#,
        r#"{"gauges":{"0":{"name":"login-delay","value":"3.5"},"1":{"name":"LOGIN-delay","value":2.6}}}"#,
        r#"{"source":"s","gauges":[],"counters":[{"name":"conn_servers","value":5}]}"#,
        r#"{"gauges":[{"name":"c","count":2,"sum":3,"min":1,"max":2,"sum_squares":5,"buckets":{"scale":5,"offset":0,"counts":[1,1],"zero":0}}]}"#,
    ] {
        let answer = receiver.post(body).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, ""), "{body}: {answer:?}");
        assert_eq!(answer.header("Content-Length"), Some("0"), "{body}");
        assert!(has_rate_headers(&answer), "{body}: {answer:?}");
    }
    let sent = receiver.measurements("test_gauge", "count=1").await;
    assert_eq!(sent["not_specified"][0]["measure_time"], json!(time));
    // Unless a window ended meanwhile, the header counts what was stored.
    let rate = receiver.get("/v1/metrics").await.header("X-Librato-RateLimit-Std").unwrap().to_owned();
    let reset = format!("reset={}", (begun / 600 + 1) * 600);
    assert!(rate.starts_with("limit=600000,remaining=599994,") || !rate.ends_with(&reset), "{rate}");
    let totals = receiver.stop().await;
    assert_eq!((totals.points_offered, totals.points_accepted), (6, 6));
}

#[tokio::test]
async fn each_bad_batch_gets_its_exact_error_and_stores_nothing() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    assert_eq!(
        receiver
            .post(r#"{"gauges":{"a.gauge":{"value":1}},"counters":{"a.counter":{"value":1}}}"#)
            .await
            .status,
        200
    );
    let (old, ahead) = (now() - 7_300, now() + 900);
    let long = "s".repeat(256);
    let rows = [
        (r#"{}"#.to_owned(), r#"{"errors":{"request":["Must contain a measurement"]},"request_time":T}"#.to_owned()),
        (
            r#"{"measure_time":5,"gauges":[],"counters":{}}"#.to_owned(),
            r#"{"errors":{"request":["Must contain a measurement"]},"request_time":T}"#.to_owned(),
        ),
        (
            r#"{"gauges":[{"name":"jvm.CMS Old Gen","value":1}]}"#.to_owned(),
            r#"{"errors":{"params":{"name":["jvm.CMS Old Gen is not a valid metric name"]}},"request_time":T}"#.to_owned(),
        ),
        (
            r#"{"gauges":[{"value":1}]}"#.to_owned(),
            r#"{"errors":{"params":{"name":["is not present"]}},"request_time":T}"#.to_owned(),
        ),
        (
            r#"{"gauges":[{"name":"a","value":1,"source":"Live/130_(iOS)"}]}"#.to_owned(),
            r#"{"errors":{"params":{"source":["Live/130_(iOS) is not a valid source name"]}},"request_time":T}"#.to_owned(),
        ),
        (
            format!(r#"{{"gauges":[{{"name":"a","value":1,"source":"{long}"}}]}}"#),
            format!(r#"{{"errors":{{"params":{{"source":["{long} is not a valid source name"]}}}},"request_time":T}}"#),
        ),
        (
            r#"{"source":"all","gauges":[{"name":"a","value":1}]}"#.to_owned(),
            r#"{"errors":{"params":{"source":["all is not a valid source name"]}},"request_time":T}"#.to_owned(),
        ),
        (
            r#"{"gauges":[{"name":"A.Counter","value":1}]}"#.to_owned(),
            r#"{"errors":{"params":{"type":["'A.Counter' is a counter, but was submitted as different type"]}},"request_time":T}"#.to_owned(),
        ),
        (
            r#"{"counters":[{"name":"a.gauge","value":1}]}"#.to_owned(),
            r#"{"errors":{"params":{"type":["'a.gauge' is a gauge, but was submitted as different type"]}},"request_time":T}"#.to_owned(),
        ),
        (
            r#"{"gauges":{"both":{"value":1}},"counters":{"both":{"value":1}}}"#.to_owned(),
            r#"{"errors":{"params":{"type":["'both' is a gauge, but was submitted as different type"]}},"request_time":T}"#.to_owned(),
        ),
        (
            format!(r#"{{"gauges":[{{"name":"a","value":1,"measure_time":{old}}}]}}"#),
            r#"{"errors":{"params":{"measure_time":["is too far in the past"]}},"request_time":T}"#.to_owned(),
        ),
        (
            format!(r#"{{"measure_time":"{ahead}","gauges":[{{"name":"a","value":1}}]}}"#),
            r#"{"errors":{"params":{"measure_time":["is too far in the future"]}},"request_time":T}"#.to_owned(),
        ),
        (
            r#"{"gauges":[{"name":"a","value":1,"measure_time":"soon"}]}"#.to_owned(),
            r#"{"errors":{"params":{"measure_time":["is not a number"]}},"request_time":T}"#.to_owned(),
        ),
        (
            r#"{"gauges":[{"name":"buffer.hist","count":5}]}"#.to_owned(),
            r#"{"errors":{"params":{"sum":["is required"],"name":"buffer.hist"}},"request_time":T}"#.to_owned(),
        ),
        (
            r#"{"gauges":[{"name":"api.create","count":0,"sum":0}]}"#.to_owned(),
            r#"{"errors":{"params":{"count":["must be positive"],"name":"api.create"}},"request_time":T}"#.to_owned(),
        ),
        (
            r#"{"gauges":[{"name":"x","sum":1}]}"#.to_owned(),
            r#"{"errors":{"params":{"count":["is required"],"name":"x"}},"request_time":T}"#.to_owned(),
        ),
        (
            r#"{"gauges":[{"name":"x","value":1,"count":1,"sum":1}]}"#.to_owned(),
            r#"{"errors":{"params":{"value":["must not be set with count"],"name":"x"}},"request_time":T}"#.to_owned(),
        ),
        (
            r#"{"counters":[{"name":"usage_max","value":-1}]}"#.to_owned(),
            r#"{"errors":{"params":{"value":["must be positive"],"name":["usage_max"]}},"request_time":T}"#.to_owned(),
        ),
        (
            r#"{"gauges":[{"name":"x"}]}"#.to_owned(),
            r#"{"errors":{"params":{"value":["is required"],"name":["x"]}},"request_time":T}"#.to_owned(),
        ),
        (
            r#"{"gauges":[{"name":"x","value":"NaN"}]}"#.to_owned(),
            r#"{"errors":{"params":{"value":["is not a number"],"name":["x"]}},"request_time":T}"#.to_owned(),
        ),
        (
            r#"{"gauges":[{"name":"x","value":1e127}]}"#.to_owned(),
            r#"{"errors":{"params":{"value":["is too large"],"name":["x"]}},"request_time":T}"#.to_owned(),
        ),
    ];
    for (body, expected) in &rows {
        // A good measurement before the bad one must not be stored either.
        let with_good =
            body.replacen(r#""gauges":["#, r#""gauges":[{"name":"good","value":1,"source":"g"},"#, 1);
        let body = if with_good.contains("},]") { body } else { &with_good };
        let answer = receiver.post(body).await;
        assert_eq!((answer.status, answer.body_at_t()), (400, expected.clone()), "{body}");
        assert_eq!(answer.header("Content-Type"), Some(JSON), "{body}");
        assert!(has_rate_headers(&answer), "{body}");
    }
    for body in [
        "",
        "nonsense",
        "[]",
        r#"{"gauges":[{"name":"a","value":NaN}]}"#,
        r#"{"gauges":{"a":5}}"#,
        "gauges[0][name]=a",
    ] {
        let answer = receiver.post(body).await;
        assert_eq!(answer.status, 400, "{body}");
        let expected = r#"{"errors":{"request":["The JSON of the request could not be parsed: "#;
        assert!(answer.body.starts_with(expected), "{body}: {}", answer.body);
    }
    let list = receiver.get("/v1/metrics").await.json();
    assert_eq!(list["query"]["total"], json!(2), "{list}");
    let totals = receiver.stop().await;
    assert_eq!(totals.points_accepted, 2);
    assert_eq!(totals.requests, totals.requests_refused.values().sum::<u64>() + 2);
    for reason in [
        "bad_name",
        "bad_source",
        "bad_count",
        "bad_value",
        "bad_time",
        "too_old",
        "too_far_ahead",
        "type_clash",
    ] {
        assert!(totals.points_refused.contains_key(reason), "{reason}: {totals:?}");
    }
}

#[tokio::test]
async fn a_body_at_the_limit_passes_and_one_byte_more_is_413() {
    const LIMIT: usize = 8 * 1024 * 1024;
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let padded = |bytes: usize| {
        let body = r#"{"gauges":[{"name":"a","value":1}]}"#;
        format!("{body}{}", " ".repeat(bytes - body.len()))
    };
    assert_eq!(receiver.post(&padded(LIMIT)).await.status, 200);
    let answer = receiver.post(&padded(LIMIT + 1)).await;
    assert_eq!((answer.status, answer.header("Content-Type")), (413, Some(JSON)));
    let expected = r#"{"errors":{"request":["body exceeds the limit of 8388608 bytes; send fewer measurements at once"]},"request_time":T}"#;
    assert_eq!(answer.body_at_t(), expected);
    let many = format!(r#"{{"gauges":[{}]}}"#, vec![r#"{"name":"a","value":1}"#; 10_001].join(","));
    let answer = receiver.post(&many).await;
    assert_eq!(answer.status, 413);
    let expected = r#"{"errors":{"request":["body holds more than 10000 measurements; send fewer at once"]},"request_time":T}"#;
    assert_eq!(answer.body_at_t(), expected);
    assert_eq!(receiver.stop().await.points_accepted, 1);
}

#[tokio::test]
async fn other_encodings_and_bad_batch_ids_are_refused() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let good = r#"{"gauges":[{"name":"a","value":1}]}"#;
    let answer = receiver.call("POST", "/v1/metrics", &[("Content-Encoding", "br")], good).await;
    let expected = r#"{"errors":{"request":["Content-Encoding is not supported; send the body as it is or with gzip"]},"request_time":T}"#;
    assert_eq!((answer.status, answer.body_at_t()), (415, expected.to_owned()));
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
async fn with_a_token_only_its_bearer_passes() {
    let (_directory, db) = database();
    let receiver = Receiver::with(&db, |config| config.token = Some(Token::new("secret").unwrap())).await;
    let good = r#"{"gauges":[{"name":"a","value":1}]}"#;
    let plain = "Credentials are required to access this resource.";
    // me:wrong
    for headers in [&[][..], &[("Authorization", "Basic bWU6d3Jvbmc=")]] {
        let answer = receiver.call("POST", "/v1/metrics", headers, good).await;
        assert_eq!((answer.status, answer.body.as_str()), (401, plain));
        assert_eq!(answer.header("Content-Type"), Some("text/plain;charset=utf-8"));
        assert!(answer.header("WWW-Authenticate").unwrap().starts_with("Basic realm="));
        for path in ["/v1/metrics", "/v1/metrics/a", "/elsewhere"] {
            let answer = receiver.call("GET", path, headers, "").await;
            let expected = r#"{"errors":{"request":["Authorization Required"]},"request_time":T}"#;
            assert_eq!((answer.status, answer.body_at_t()), (401, expected.to_owned()), "{path}");
            assert_eq!(answer.header("Content-Type"), Some(JSON));
            assert!(has_rate_headers(&answer));
        }
        assert_eq!(receiver.call("HEAD", "/v1/metrics", headers, "").await.status, 401);
    }
    // me:secret and secret:
    for value in ["Basic bWU6c2VjcmV0", "Basic c2VjcmV0Og=="] {
        assert_eq!(receiver.call("POST", "/v1/metrics", &[("Authorization", value)], good).await.status, 200);
        assert_eq!(receiver.call("HEAD", "/v1/metrics", &[("Authorization", value)], "").await.status, 200);
    }
    let totals = receiver.stop().await;
    assert_eq!((totals.points_accepted, totals.requests_refused.get("unauthorized")), (2, Some(&10)));
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
