//! Whom the receiver answers, and how much it bears of them.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use zibrato_local::{Config, Token};

use crate::client::{DEADLINE, Receiver, call, database};
use crate::table::{check, row};

const ONE: &str = r#"{"gauges":[{"name":"a","value":1}]}"#;
const SHORT: Duration = Duration::from_millis(300);

fn foreign_host(host: &str) -> String {
    format!(r#"{{"request":["{host} is not a host of this server; start it with --allow-host if it is"]}}"#)
}

#[tokio::test]
async fn a_name_that_was_pointed_here_by_others_is_refused() {
    let (_directory, db) = database();
    let receiver =
        Receiver::with(&db, |config| config.allow_hosts = vec!["Metrics.example".to_owned()]).await;
    let mut rows = Vec::new();
    for host in [
        "evil.example",
        "evil.example:5580",
        "localhost.evil.example",
        "192.0.2.1",
        "127.0.0.1.evil.example",
        "a@localhost",
    ] {
        for (method, path) in [
            ("GET", "/"),
            ("GET", "/v1/metrics"),
            ("GET", "/healthz"),
            ("GET", "/status"),
            ("POST", "/v1/metrics"),
            ("DELETE", "/v1/metrics/a"),
            ("PUT", "/v1/metrics/a"),
        ] {
            rows.push(row("-", method, path).header("Host", host).fails(421, foreign_host(host)));
        }
    }
    for host in ["localhost", "127.0.0.1:1", "[::1]:5580", "metrics.EXAMPLE:80"] {
        rows.push(row("-", "GET", "/healthz").header("Host", host).text("ok\n"));
    }
    check(&receiver, rows).await;
    let totals = receiver.stop().await;
    // Four of the seven are asked again as HEAD.
    assert_eq!(totals.requests_refused.get("foreign_host"), Some(&(6 * 11)));
}

#[tokio::test]
async fn an_address_in_the_request_line_must_be_ours_too() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let addr = receiver.running.addr;
    assert_eq!(
        call(addr, "GET", "http://evil.example/healthz", &[("Host", "localhost")], b"").await.status,
        421
    );
    assert_eq!(
        call(addr, "GET", "http://localhost/healthz", &[("Host", "localhost")], b"").await.status,
        200
    );
    // Old programs that know no Host are no browsers.
    for (request, status) in
        [("GET /healthz HTTP/1.0\r\n\r\n", "HTTP/1.0 200"), ("GET /healthz HTTP/1.1\r\n\r\n", "HTTP/1.1 421")]
    {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut begin = vec![0; status.len()];
        tokio::time::timeout(DEADLINE, stream.read_exact(&mut begin)).await.unwrap().unwrap();
        assert_eq!(String::from_utf8(begin).unwrap(), status);
    }
}

#[tokio::test]
async fn an_open_server_is_addressed_by_number_or_allowed_name() {
    let (_directory, db) = database();
    let receiver = Receiver::with(&db, |config| {
        config.listen = "0.0.0.0:0".parse().unwrap();
        config.token = Some(Token::new("secret").unwrap());
    });
    let receiver = receiver.await;
    let authorization = "Basic c2VjcmV0Og==";
    let port = receiver.running.addr.port();
    for (host, status) in
        [("192.0.2.7", 200), ("[2001:db8::1]:5580", 200), ("localhost", 200), ("evil.example", 421)]
    {
        let headers = [("Host", host), ("Authorization", authorization)];
        let answer = call(([127, 0, 0, 1], port).into(), "GET", "/v1/metrics", &headers, b"").await;
        assert_eq!(answer.status, status, "{host}");
    }
    assert!(Config::new("0.0.0.0:0".parse().unwrap(), "x.db").check().is_err());
}

#[tokio::test]
async fn what_another_site_makes_a_browser_send_is_refused_and_stores_nothing() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let here = receiver.running.addr.to_string();
    let refused = r#"{"request":["requests that other sites cause are refused"]}"#;
    let own = format!("http://{here}");
    let mut rows = Vec::new();
    let foreign = [
        vec![("Origin", "http://evil.example")],
        vec![("Origin", "null")],
        vec![("Origin", "http://127.0.0.1:1")],
        vec![("Sec-Fetch-Site", "cross-site")],
        vec![("Sec-Fetch-Site", "same-site")],
        vec![("Origin", own.as_str()), ("Sec-Fetch-Site", "cross-site")],
        vec![("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "iframe")],
    ];
    for headers in &foreign {
        for (method, path) in [
            ("GET", "/v1/metrics"),
            ("POST", "/v1/metrics"),
            ("DELETE", "/v1/metrics?names=*"),
            ("OPTIONS", "/v1/metrics"),
        ] {
            let mut asked = row("-", method, path).fails(403, refused);
            for (name, value) in headers {
                asked = asked.header(name, *value);
            }
            // What a form of another site can send without asking.
            rows.push(if method == "POST" {
                asked.form("gauges[0][name]=forged&gauges[0][value]=1")
            } else {
                asked
            });
        }
    }
    let link = |request: crate::table::Row| {
        let request = request.header("Sec-Fetch-Site", "cross-site").header("Sec-Fetch-Mode", "navigate");
        request.header("Sec-Fetch-Dest", "document")
    };
    rows.extend([
        row("-", "GET", "/healthz").header("Sec-Fetch-Site", "same-origin").text("ok\n"),
        row("-", "GET", "/healthz").header("Sec-Fetch-Site", "none").text("ok\n"),
        row("-", "GET", "/healthz").header("Origin", own.as_str()).text("ok\n"),
        row("-", "POST", "/v1/metrics")
            .json_body(ONE)
            .header("Origin", own.as_str())
            .header("Sec-Fetch-Site", "same-origin"),
        // Following a link is no attack, but a form that posts is.
        link(row("-", "GET", "/healthz")).text("ok\n"),
        link(row("-", "POST", "/v1/metrics"))
            .form("gauges[0][name]=forged&gauges[0][value]=1")
            .fails(403, refused),
    ]);
    check(&receiver, rows).await;
    let list = receiver.get("/v1/metrics").await.json();
    assert_eq!((&list["query"]["total"], &list["metrics"][0]["name"]), (&json!(1), &json!("a")));
    assert_eq!(receiver.stop().await.requests_refused.get("foreign_origin"), Some(&(7 * 5 + 1)));
}

/// What comes until the other side closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is an end as well.
    let _ = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut bytes)).await.expect("an end in time");
    String::from_utf8_lossy(&bytes).into_owned()
}

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
async fn bodies_together_are_limited() {
    let (_directory, db) = database();
    let receiver = Receiver::with(&db, |config| config.limits.bodies_bytes_max = 100_000).await;
    let addr = receiver.running.addr;
    let mut first = TcpStream::connect(addr).await.unwrap();
    let head = "POST /v1/metrics HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 90000\r\n\r\n";
    first.write_all(head.as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    first.read_exact(&mut interim).await.unwrap();
    first.write_all(&vec![b' '; 80_000]).await.unwrap();
    let begun = Instant::now();
    while !receiver.get("/metrics").await.body.contains("zibrato_local_bodies_bytes 80000\n") {
        assert!(begun.elapsed() < DEADLINE, "the first body is not read");
    }
    let padded = format!("{ONE}{}", " ".repeat(30_000));
    let answer = receiver.post(&padded).await;
    let expected = r#"{"errors":{"system":["Too many requests at once. Please resubmit the request later."]},"request_time":T}"#;
    assert_eq!((answer.status, answer.body_at_t()), (503, expected.to_owned()));
    assert_eq!(receiver.post(ONE).await.status, 200);
    drop(first);
    // Its room is free again.
    let begun = Instant::now();
    while receiver.post(&padded).await.status != 200 {
        assert!(begun.elapsed() < DEADLINE, "its room was not given back");
    }
}

#[tokio::test]
async fn giant_addresses_and_heads_are_refused() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let query = |bytes: usize| format!("/v1/metrics?name={}", "n".repeat(bytes - 5));
    let rows = vec![
        row("-", "GET", query(16 * 1024))
            .json(json!({"query": {"found": 0, "length": 0, "offset": 0, "total": 0}, "metrics": []})),
        row("-", "GET", query(16 * 1024 + 1)).fails(
            414,
            r#"{"request":["the query exceeds the limit of 16384 bytes; ask for less at once"]}"#,
        ),
    ];
    check(&receiver, rows).await;
    let long = "x".repeat(70_000);
    let answer = receiver.call("GET", "/v1/metrics", &[("X-Long", &long)], "").await;
    assert_eq!(answer.status, 431);
    let answer = receiver.call("GET", &format!("/{long}"), &[], "").await;
    assert!([414, 431].contains(&answer.status), "{answer:?}");
    let many: Vec<(String, &str)> = (0..200).map(|i| (format!("X-{i}"), "v")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    assert_eq!(receiver.call("GET", "/v1/metrics", &many, "").await.status, 431);
    assert_eq!(receiver.get("/healthz").await.status, 200);
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

#[tokio::test]
async fn large_answers_come_with_gzip_to_those_who_take_it() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let gauges: Vec<String> = (0..100).map(|i| format!(r#"{{"name":"metric.{i}","value":1}}"#)).collect();
    assert_eq!(receiver.post(&format!(r#"{{"gauges":[{}]}}"#, gauges.join(","))).await.status, 200);
    let plain = receiver.get("/v1/metrics").await;
    assert_eq!(plain.header("Content-Encoding"), None);
    let packed = receiver.call("GET", "/v1/metrics", &[("Accept-Encoding", "gzip, br")], "").await;
    assert_eq!(packed.header("Content-Encoding"), Some("gzip"));
    assert_eq!(packed.header("Vary").map(str::to_ascii_lowercase).as_deref(), Some("accept-encoding"));
    assert_eq!(packed.json(), plain.json());
    for (path, accepted) in
        [("/v1/metrics", "br"), ("/v1/metrics", "gzip;q=0"), ("/v1/metrics?length=1", "gzip")]
    {
        let answer = receiver.call("GET", path, &[("Accept-Encoding", accepted)], "").await;
        assert_eq!(answer.header("Content-Encoding"), None, "{path} {accepted}");
    }
}

#[tokio::test]
async fn sql_in_any_name_is_text_and_nothing_more() {
    const ATTACKS: [&str; 7] = [
        "x'; DROP TABLE metrics; --",
        r#"x" OR "1"="1"#,
        "' OR '1'='1",
        "%' UNION SELECT * FROM sources --",
        "x\\",
        "_%",
        "x]; [",
    ];
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let seed = r#"{"gauges":[{"name":"m","value":1,"source":"s"}],"counters":[{"name":"c","value":1}]}"#;
    assert_eq!(receiver.post(seed).await.status, 200);
    assert_eq!(receiver.call("POST", "/v1/annotations/e?title=t&start_time=5", &[], "").await.status, 201);
    let json = ("Content-Type", "application/json");
    for attack in ATTACKS {
        let path: String = attack.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let quoted = json!(attack).to_string();
        for (method, path, body, statuses) in [
            ("GET", format!("/v1/metrics?name={path}"), String::new(), &[200][..]),
            ("GET", format!("/v1/metrics/{path}"), String::new(), &[404]),
            ("PUT", format!("/v1/metrics/{path}"), r#"{"type":"gauge"}"#.to_owned(), &[400]),
            ("DELETE", format!("/v1/metrics/{path}"), String::new(), &[204]),
            ("DELETE", "/v1/metrics".to_owned(), format!(r#"{{"names":[{quoted}]}}"#), &[400]),
            (
                "DELETE",
                "/v1/metrics".to_owned(),
                format!(r#"{{"names":"none*","exclude":{quoted}}}"#),
                &[400],
            ),
            ("PUT", "/v1/metrics".to_owned(), format!(r#"{{"names":{quoted},"period":5}}"#), &[400]),
            (
                "PUT",
                "/v1/metrics/m".to_owned(),
                format!(
                    r#"{{"description":{quoted},"display_name":{quoted},"attributes":{{{quoted}:{quoted}}}}}"#
                ),
                &[204],
            ),
            ("GET", format!("/v1/metrics/m?count=1&source={path}"), String::new(), &[400]),
            ("GET", format!("/v1/metrics/m?count={path}"), String::new(), &[400]),
            ("GET", format!("/v1/metrics?orderby={path}"), String::new(), &[400]),
            ("GET", format!("/v1/metrics?sort={path}"), String::new(), &[400]),
            (
                "POST",
                "/v1/metrics".to_owned(),
                format!(r#"{{"gauges":[{{"name":{quoted},"value":1}}]}}"#),
                &[400],
            ),
            (
                "POST",
                "/v1/metrics".to_owned(),
                format!(r#"{{"gauges":[{{"name":"m","value":1,"source":{quoted}}}]}}"#),
                &[400],
            ),
            (
                "POST",
                "/v1/metrics".to_owned(),
                format!(
                    r#"{{"gauges":[{{"name":"m","value":1,"description":{quoted},"origin":{{"kind":"gauge","levels":[{quoted}],"unit":{quoted}}}}}]}}"#
                ),
                &[200, 400],
            ),
            (
                "POST",
                "/v1/measurements".to_owned(),
                format!(
                    r#"{{"measurements":[{{"name":"m","value":1,"tags":{{{quoted}:"v"}}}},{{"name":"m","value":1,"tags":{{"k":{quoted}}}}}]}}"#
                ),
                &[200],
            ),
            ("GET", format!("/v1/measurements/{path}?resolution=1&duration=5"), String::new(), &[404]),
            (
                "GET",
                format!("/v1/measurements/m?resolution=1&duration=5&tags[{path}]={path}"),
                String::new(),
                &[200],
            ),
            (
                "GET",
                format!("/v1/measurements/m?resolution=1&duration=5&group_by={path}&group_by_function=sum"),
                String::new(),
                &[200],
            ),
            ("GET", format!("/v1/sources?name={path}"), String::new(), &[200]),
            ("GET", format!("/v1/sources/{path}"), String::new(), &[404]),
            ("PUT", format!("/v1/sources/{path}"), String::new(), &[400]),
            ("PUT", "/v1/sources/s".to_owned(), format!(r#"{{"display_name":{quoted}}}"#), &[204]),
            ("DELETE", format!("/v1/sources/{path}"), String::new(), &[204]),
            ("POST", format!("/v1/annotations/{path}"), r#"{"title":"t"}"#.to_owned(), &[400]),
            ("GET", format!("/v1/annotations/{path}"), String::new(), &[404]),
            ("GET", format!("/v1/annotations?name={path}"), String::new(), &[200]),
            ("PUT", "/v1/annotations/e".to_owned(), format!(r#"{{"display_name":{quoted}}}"#), &[204]),
            (
                "PUT",
                "/v1/annotations/e/1".to_owned(),
                format!(r#"{{"title":{quoted},"description":{quoted}}}"#),
                &[204],
            ),
            ("GET", format!("/v1/annotations/e/{path}"), String::new(), &[404]),
            ("DELETE", format!("/v1/annotations/e/1/links/{path}"), String::new(), &[204]),
            ("DELETE", format!("/v1/annotations/{path}"), String::new(), &[204]),
            ("GET", format!("/v1/jobs/{path}"), String::new(), &[404]),
        ] {
            let headers = [json, ("X-Zibrato-Batch", attack), ("User-Agent", attack)];
            let answer = receiver.call(method, &path, &headers, &body).await;
            assert!(statuses.contains(&answer.status), "{method} {path} {body}: {answer:?}");
        }
        let shown = receiver.get("/v1/metrics/m").await.json();
        assert_eq!((&shown["description"], &shown["attributes"][attack]), (&json!(attack), &json!(attack)));
        assert_eq!(receiver.get("/v1/sources/s").await.json()["display_name"], json!(attack));
        assert_eq!(receiver.get("/v1/annotations/e/1").await.json()["title"], json!(attack));
        let found = receiver.get(&format!("/v1/sources?name={path}")).await.json();
        assert_eq!(found["query"]["found"], json!(1), "{attack}");
    }
    let totals = receiver.get("/v1/metrics").await.json();
    assert_eq!(totals["query"]["total"], json!(2), "{totals}");
    receiver.stop().await;
    let db = rusqlite::Connection::open(&db).unwrap();
    let check: String = db.query_row("PRAGMA integrity_check", (), |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
}
