//! Under which names it is addressed, and by whose pages.

use std::net::SocketAddr;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use zibrato_local::{Config, Error, Token, start};
use zibrato_service::Shutdown;

use super::ONE;
use crate::client::{DEADLINE, Receiver, call, database};
use crate::table::{check, row};

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

#[tokio::test]
async fn the_same_holds_over_ipv6() {
    let (_directory, db) = database();
    let receiver = Receiver::with(&db, |config| config.listen = "[::1]:0".parse().unwrap()).await;
    let own = format!("http://{}", receiver.running.addr);
    let mut rows = vec![
        row("-", "GET", "/healthz").text("ok\n"),
        row("-", "GET", "/healthz").header("Origin", own).text("ok\n"),
        row("-", "GET", "/healthz")
            .header("Origin", "http://[::2]:5580")
            .fails(403, r#"{"request":["requests that other sites cause are refused"]}"#),
    ];
    for host in ["localhost", "[::1]", "127.0.0.1", "[::ffff:127.0.0.1]:80"] {
        rows.push(row("-", "GET", "/healthz").header("Host", host).text("ok\n"));
    }
    for host in ["evil.example", "[2001:db8::1]", "[::ffff:192.0.2.1]", "[::]"] {
        rows.push(row("-", "GET", "/v1/metrics").header("Host", host).fails(421, foreign_host(host)));
    }
    check(&receiver, rows).await;
}

#[tokio::test]
async fn who_is_reached_from_elsewhere_asks_for_a_token() {
    let (_directory, db) = database();
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "[2001:db8::1]:0", "[::ffff:192.0.2.1]:0"] {
        let error = start(Config::new(listen.parse().unwrap(), &db), Shutdown::new()).await.unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{listen}: {error:?}");
    }
    assert!(!db.exists(), "nothing is opened");
    for (listen, address) in [("0.0.0.0:0", "127.0.0.1"), ("[::]:0", "::1")] {
        let receiver = Receiver::with(&db, |config| {
            config.listen = listen.parse().unwrap();
            config.token = Some(Token::new("secret").unwrap());
        });
        let receiver = receiver.await;
        let addr = SocketAddr::new(address.parse().unwrap(), receiver.running.addr.port());
        for (method, path) in [
            ("GET", "/"),
            ("GET", "/status"),
            ("GET", "/metrics"),
            ("GET", "/v1/metrics"),
            ("POST", "/v1/metrics"),
            ("POST", "/v1/measurements"),
            ("DELETE", "/v1/metrics/a"),
        ] {
            for authorization in ["", "Basic d3Jvbmc6d3Jvbmc=", "Bearer secret"] {
                let answer = call(addr, method, path, &[("Authorization", authorization)], b"").await;
                assert_eq!(answer.status, 401, "{listen} {method} {path} {authorization}");
            }
        }
        let allowed = [("Authorization", "Basic c2VjcmV0Og==")];
        assert_eq!(call(addr, "POST", "/v1/metrics", &allowed, ONE.as_bytes()).await.status, 200, "{listen}");
        assert_eq!(call(addr, "GET", "/healthz", &[], b"").await.status, 200, "{listen}");
        receiver.stop().await;
    }
}
