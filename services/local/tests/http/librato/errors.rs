//! Sections 3.1 to 3.4: what is refused, in which words, and that nothing of it is stored.

use serde_json::json;

use crate::client::{Receiver, database, gzip, now};
use crate::table::{check, row};
use zibrato_local::Token;

#[tokio::test]
async fn each_bad_batch_gets_its_exact_error_and_stores_nothing() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let good = r#"{"gauges":{"a.gauge":{"value":1}},"counters":{"a.counter":{"value":1}}}"#;
    assert_eq!(receiver.post(good).await.status, 200);
    let (old, ahead, long) = (now() - 7_300, now() + 900, "s".repeat(256));
    let gauge = |rest: &str| format!(r#"{{"gauges":[{{"name":"x",{rest}}}]}}"#);
    let empty = r#"{"request":["Must contain a measurement"]}"#.to_owned();
    let param = |param: &str, text: &str| format!(r#"{{"params":{{"{param}":["{text}"]}}}}"#);
    let named = |param: &str, text: &str| format!(r#"{{"params":{{"{param}":["{text}"],"name":"x"}}}}"#);
    let in_array = |param: &str, text: &str| format!(r#"{{"params":{{"{param}":["{text}"],"name":["x"]}}}}"#);
    let mut rows = Vec::new();
    for (section, body, errors) in [
        ("3.3", "{}".to_owned(), empty.clone()),
        ("3.3", r#"{"measure_time":5,"gauges":[],"counters":{}}"#.to_owned(), empty.clone()),
        ("3.3", r#"{"gauges":null}"#.to_owned(), empty),
        (
            "3.3",
            r#"{"gauges":[{"name":"jvm.memory.memory_pool_usages.CMS Old Gen","value":1}]}"#.to_owned(),
            param("name", "jvm.memory.memory_pool_usages.CMS Old Gen is not a valid metric name"),
        ),
        ("3.3", r#"{"gauges":[{"value":1}]}"#.to_owned(), param("name", "is not present")),
        (
            "3.1",
            format!(r#"{{"gauges":[{{"name":"{long}","value":1}}]}}"#),
            param("name", &format!("{long} is not a valid metric name")),
        ),
        (
            "3.3",
            gauge(r#""value":1,"source":"Wheelmap-Live/130_(iPhone;_iOS_9.2;_Scale/2.00)""#),
            param("source", "Wheelmap-Live/130_(iPhone;_iOS_9.2;_Scale/2.00) is not a valid source name"),
        ),
        (
            "3.3",
            gauge(&format!(r#""value":1,"source":"{long}""#)),
            param("source", &format!("{long} is not a valid source name")),
        ),
        (
            "3.1",
            r#"{"source":"ALL","gauges":[{"name":"x","value":1}]}"#.to_owned(),
            param("source", "ALL is not a valid source name"),
        ),
        (
            "3.3",
            r#"{"gauges":[{"name":"A.Counter","value":1}]}"#.to_owned(),
            param("type", "'A.Counter' is a counter, but was submitted as different type"),
        ),
        (
            "3.3",
            r#"{"counters":[{"name":"a.gauge","value":1}]}"#.to_owned(),
            param("type", "'a.gauge' is a gauge, but was submitted as different type"),
        ),
        (
            "3.3",
            r#"{"gauges":{"both":{"value":1}},"counters":{"both":{"value":1}}}"#.to_owned(),
            param("type", "'both' is a gauge, but was submitted as different type"),
        ),
        (
            "3.3",
            gauge(&format!(r#""value":1,"measure_time":{old}"#)),
            param("measure_time", "is too far in the past"),
        ),
        // The upper bound and its words are not on record.
        (
            "3.1",
            format!(r#"{{"measure_time":"{ahead}","gauges":[{{"name":"x","value":1}}]}}"#),
            param("measure_time", "is too far in the future"),
        ),
        ("3.3", gauge(r#""value":1,"measure_time":"soon""#), param("measure_time", "is not a number")),
        ("3.3", gauge(r#""count":5"#), named("sum", "is required")),
        ("3.3", gauge(r#""count":0,"sum":0"#), named("count", "must be positive")),
        ("2.1", gauge(r#""sum":1"#), named("count", "is required")),
        ("2.1", gauge(r#""value":1,"count":1,"sum":1"#), named("value", "must not be set with count")),
        ("3.6", gauge(r#""count":2,"sum":3,"min":5,"max":1"#), named("min", "must not be greater than max")),
        (
            "3.3",
            r#"{"counters":[{"name":"x","value":-1}]}"#.to_owned(),
            in_array("value", "must be positive"),
        ),
        ("2.1", gauge(r#""source":"s""#), in_array("value", "is required")),
        ("3.1", gauge(r#""value":"NaN""#), in_array("value", "is not a number")),
        ("3.1", gauge(r#""value":1e127"#), in_array("value", "is too large")),
        ("3.1", gauge(r#""count":1,"sum":-1.1e126"#), in_array("sum", "is too large")),
        ("2.1", gauge(r#""value":1,"period":"often""#), named("period", "is not a number")),
        (
            "2.1",
            gauge(r#""count":2,"sum":1,"buckets":{"scale":5,"offset":0,"counts":[1,1],"zero":1}"#),
            named("buckets", "must not hold more than count"),
        ),
    ] {
        // A good measurement before the bad one must not be stored either.
        let with_good =
            body.replacen(r#""gauges":[{"#, r#""gauges":[{"name":"good","value":1,"source":"g"},{"#, 1);
        rows.push(row(section, "POST", "/v1/metrics").json_body(with_good).fails(400, &errors));
        rows.push(row(section, "POST", "/v1/metrics").json_body(body).fails(400, errors));
    }
    let form = |form: &str| row("2.1", "POST", "/v1/metrics").form(form);
    rows.extend([
        form("").fails(400, r#"{"request":["Must contain a measurement"]}"#),
        form("measure_time=5&source=a").fails(400, r#"{"request":["Must contain a measurement"]}"#),
        form("gauges[0][name]=a b&gauges[0][value]=1").fails(400, param("name", "a b is not a valid metric name")),
        form("gauges[0][name]=a&gauges[0][value]=x").fails(400, r#"{"params":{"value":["is not a number"],"name":["a"]}}"#),
        form("gauges[0]=5").fails(400, r#"{"request":["The form of the request could not be parsed: invalid type: string \"5\", expected a hash"]}"#),
        form("a[b][c][d][e][f]=1").fails(400, r#"{"request":["The form of the request could not be parsed: a key has more than 4 brackets"]}"#),
    ]);
    for (body, detail) in [
        ("", "EOF while parsing a value at line 1 column 0"),
        ("nonsense", "expected ident at line 1 column 2"),
        ("[]", "invalid type: sequence, expected a hash at line 1 column 0"),
        (r#"{"gauges":[{"name":"a","value":NaN}]}"#, "expected value at line 1 column 32"),
        (r#"{"gauges":{"a":5}}"#, "invalid type: integer `5`, expected a hash at line 1 column 16"),
        ("gauges[0][name]=a", "expected value at line 1 column 1"),
    ] {
        let errors = format!(r#"{{"request":["The JSON of the request could not be parsed: {detail}"]}}"#);
        rows.push(row("3.6", "POST", "/v1/metrics").json_body(body).fails(400, errors));
    }
    check(&receiver, rows).await;
    let list = receiver.get("/v1/metrics").await.json();
    assert_eq!(list["query"]["total"], json!(2), "{list}");
    let totals = receiver.stop().await;
    assert_eq!(totals.points_accepted, 2);
    let reasons: Vec<_> = totals.points_refused.keys().copied().collect();
    let expected = [
        "bad_count",
        "bad_name",
        "bad_property",
        "bad_source",
        "bad_time",
        "bad_value",
        "too_far_ahead",
        "too_old",
        "type_clash",
    ];
    assert_eq!(reasons, expected, "{totals:?}");
}

#[tokio::test]
async fn credentials_are_asked_for_in_the_words_that_clients_know() {
    let (_directory, db) = database();
    let receiver = Receiver::with(&db, |config| config.token = Some(Token::new("secret").unwrap())).await;
    let challenge = r#"Basic realm="zibrato-local""#;
    let good = r#"{"gauges":[{"name":"a","value":1}]}"#;
    let json = "application/json;charset=utf-8";
    let mut rows = Vec::new();
    // me:wrong
    for authorization in [None, Some("Basic bWU6d3Jvbmc="), Some("Bearer secret"), Some("Basic")] {
        for (method, path) in [
            ("GET", "/v1/metrics"),
            ("GET", "/v1/metrics/a"),
            ("GET", "/elsewhere"),
            ("GET", "/"),
            ("GET", "/metrics"),
            ("GET", "/status"),
            ("GET", "/v1/annotations"),
            ("POST", "/v1/metrics"),
            ("PUT", "/v1/metrics/a"),
            ("DELETE", "/v1/metrics/a"),
            ("POST", "/v1/measurements"),
            ("POST", "/v1/annotations/a"),
            ("PATCH", "/"),
        ] {
            let mut asked = row("3.3", method, path).with("WWW-Authenticate", challenge);
            if let Some(authorization) = authorization {
                asked = asked.header("Authorization", authorization);
            }
            rows.push(if method == "GET" {
                asked.fails(401, r#"{"request":["Authorization Required"]}"#).with("Content-Type", json)
            } else {
                asked
                    .json_body(good)
                    .is(401)
                    .text("Credentials are required to access this resource.")
                    .with("Content-Type", "text/plain;charset=utf-8")
            });
        }
        // A supervisor has no token.
        rows.push(row("-", "GET", "/healthz").text("ok\n"));
    }
    // me:secret, secret: and secret:secret
    for value in ["Basic bWU6c2VjcmV0", "basic c2VjcmV0Og==", "Basic c2VjcmV0OnNlY3JldA=="] {
        rows.push(row("1", "POST", "/v1/metrics").json_body(good).header("Authorization", value));
        rows.push(row("1", "HEAD", "/v1/metrics").header("Authorization", value));
    }
    check(&receiver, rows).await;
    let totals = receiver.stop().await;
    assert_eq!(totals.points_accepted, 3);
    // 13 rows four times, six of them again as HEAD.
    assert_eq!(totals.requests_refused.get("unauthorized"), Some(&(4 * (13 + 7))));
}

#[tokio::test]
async fn what_is_not_there_or_not_done_is_said_in_json() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let mut rows = Vec::new();
    for path in [
        "/v1/metrics/none",
        "/v1/metrics/a%20b%00",
        "/v1/metrics/%ff",
        "/v1/metrics/none?count=1",
        "/v1/metrics/",
        "/v1",
        "/v1/elsewhere",
        "/v1/measurements/none?resolution=1&duration=1",
    ] {
        rows.push(row("3.3", "GET", path).fails(404, r#"{"request":["Not Found"]}"#));
    }
    for (method, path) in [
        ("PATCH", "/v1/metrics"),
        ("POST", "/v1/metrics/a"),
        ("DELETE", "/v1/sources"),
        ("PUT", "/v1/jobs/1"),
        ("GET", "/v1/measurements"),
        ("OPTIONS", "/v1/metrics"),
        ("POST", "/healthz"),
    ] {
        let answer = receiver.call(method, path, &[], "").await;
        assert!(answer.header("Allow").is_some(), "{method} {path}: {answer:?}");
        rows.push(match method {
            "GET" => row("3.3", method, path).fails(405, r#"{"request":["Method Not Allowed"]}"#),
            _ => row("3.3", method, path).fails(405, r#"{"request":["Method Not Allowed"]}"#),
        });
    }
    rows.push(
        row(
            "2.1",
            "GET",
            "/v1/metrics?compose=s(\"a\",\"*\")&start_time=1&resolution=60".replace('"', "%22"),
        )
        .fails(400, r#"{"params":{"compose":["is not supported"]}}"#),
    );
    check(&receiver, rows).await;
}

#[tokio::test]
async fn bodies_beyond_a_limit_are_413_and_strange_ones_415_or_400() {
    const LIMIT: usize = 8 * 1024 * 1024;
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let padded = |bytes: usize| {
        let body = r#"{"gauges":[{"name":"a","value":1}]}"#;
        format!("{body}{}", " ".repeat(bytes - body.len()))
    };
    let too_large = format!(
        r#"{{"request":["body exceeds the limit of {LIMIT} bytes; send fewer measurements at once"]}}"#
    );
    let post = || row("3.6", "POST", "/v1/metrics");
    let zipped =
        |bytes: usize| post().bytes(gzip(padded(bytes).as_bytes())).header("Content-Encoding", "gzip");
    let mut half = gzip(padded(100_000).as_bytes());
    half.truncate(half.len() / 2);
    let many = format!(r#"{{"gauges":[{}]}}"#, vec![r#"{"name":"a","value":1}"#; 10_001].join(","));
    let rows = vec![
        post().json_body(padded(LIMIT)),
        post().json_body(padded(LIMIT + 1)).fails(413, &too_large),
        // The limit is that of what comes out.
        zipped(LIMIT),
        zipped(LIMIT + 1).fails(413, &too_large),
        post().bytes(gzip(&vec![0; 256 << 20])).header("Content-Encoding", "gzip").fails(413, too_large),
        post()
            .json_body(many)
            .fails(413, r#"{"request":["body holds more than 10000 measurements; send fewer at once"]}"#),
        post()
            .bytes(half)
            .header("Content-Encoding", "gzip")
            .fails(400, r#"{"request":["the body is not what its Content-Encoding gzip says"]}"#),
        post()
            .json_body("{}")
            .header("Content-Encoding", "gzip")
            .fails(400, r#"{"request":["the body is not what its Content-Encoding gzip says"]}"#),
        post().json_body("{}").header("Content-Encoding", "br").fails(
            415,
            r#"{"request":["Content-Encoding is not supported; send the body as it is or with gzip"]}"#,
        ),
        row("1", "DELETE", "/v1/metrics").bytes(vec![b' '; 1024 * 1024 + 1]).fails(
            413,
            r#"{"request":["body exceeds the limit of 1048576 bytes; send fewer names at once"]}"#,
        ),
    ];
    check(&receiver, rows).await;
    assert_eq!(receiver.stop().await.points_accepted, 2);
}

#[tokio::test]
async fn rate_limits_are_told_with_each_answer_and_count_what_was_stored() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let body = r#"{"gauges":[{"name":"s","value":1},{"name":"s","value":2},{"name":"a","value":1,"attributes":{"aggregate":true}}]}"#;
    loop {
        let begun = now();
        assert_eq!(receiver.post(body).await.status, 200);
        let answer = receiver.get("/v1/metrics").await;
        let reset = (begun / 600 + 1) * 600;
        let (standard, aggregated) = (
            answer.header("X-Librato-RateLimit-Std").unwrap(),
            answer.header("X-Librato-RateLimit-Agg").unwrap(),
        );
        if standard.ends_with(&format!("reset={reset}")) {
            assert_eq!(standard, format!("limit=600000,remaining=599998,reset={reset}"));
            assert_eq!(aggregated, format!("limit=600000,remaining=599999,reset={reset}"));
            break;
        }
        // A window ended meanwhile; the next one is long.
    }
}
