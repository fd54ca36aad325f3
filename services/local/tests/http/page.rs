//! What the page is made of and asks for: files, lists, pictures, numbers, events.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{DEADLINE, Receiver, database, now};

/// A second of a counter, a gauge and a timer of three sources each, and of an absolute counter.
fn points(t: i64) -> Value {
    let mut gauges = Vec::new();
    for (source, at) in ["a-1", "a-2", "b"].iter().zip(1..) {
        let origin = |kind: &str, unit: &str| json!({ "kind": kind, "levels": [kind], "unit": unit });
        let mut add = |name: &str, mut point: Value, origin: Value| {
            point["name"] = name.into();
            point["source"] = (*source).into();
            point["measure_time"] = t.into();
            point["origin"] = origin;
            gauges.push(point);
        };
        add("hits", json!({ "value": 10 * at }), origin("counter", ""));
        add("depth", json!({ "value": at }), origin("gauge", "jobs"));
        let buckets = json!({ "scale": 0, "zero": 1, "offset": -10 - at, "counts": [2, 1] });
        let took = json!({ "count": 4, "sum": 0.002, "min": 0.0, "max": 0.003, "sum_squares": 1e-6, "buckets": buckets });
        add("took", took, origin("timer", "s"));
    }
    json!({ "gauges": gauges, "counters": [
        { "name": "total", "source": "a", "measure_time": t, "value": t % 1_000_000 * 3 },
        { "name": "total", "source": "b", "measure_time": t, "value": t % 1_000_000 * 2 },
    ] })
}

/// A receiver with some seconds of points that ended a minute ago, and the time of the first.
async fn with_points(db: &std::path::Path) -> (Receiver, i64) {
    let receiver = Receiver::on(db).await;
    let first = (now() - 140) / 40 * 40;
    for t in first..first + 40 {
        assert_eq!(receiver.post(&points(t).to_string()).await.status, 200);
    }
    (receiver, first)
}

#[tokio::test]
async fn the_page_is_files_that_are_asked_for_again_and_sent_once() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let page = receiver.get("/").await;
    assert_eq!(page.header("Content-Type"), Some("text/html;charset=utf-8"));
    let policy = page.header("Content-Security-Policy").unwrap();
    assert!(policy.contains("script-src 'self'; style-src 'self'") && !policy.contains("unsafe"), "{policy}");
    let mut files = 0;
    for part in page.body.split("\"/assets/").skip(1) {
        let path = format!("/assets/{}", part.split('"').next().unwrap());
        let file = receiver.get(&path).await;
        assert_eq!((file.status, file.header("Cache-Control")), (200, Some("no-cache")), "{path}");
        let tag = file.header("ETag").unwrap().to_owned();
        let again = receiver.call("GET", &path, &[("If-None-Match", &tag)], "").await;
        assert_eq!((again.status, again.body.as_str(), again.header("ETag")), (304, "", Some(tag.as_str())));
        files += 1;
    }
    assert!(files > 10, "{files}");
    assert_eq!(receiver.get("/assets/nothing.js").await.status, 404);
    assert_eq!(receiver.get("/assets/../Cargo.toml").await.status, 404);
}

#[tokio::test]
async fn numbers_are_what_was_posted_in_steps_and_by_source() {
    let (_directory, db) = database();
    let (receiver, first) = with_points(&db).await;
    let range = format!("start={first}&end={}", first + 40);
    let data = async |query: &str| receiver.get(&format!("/page/data?{range}&{query}")).await.json();
    let hits = data("metric=HITS&step=10").await;
    assert_eq!(
        (hits["metric"].as_str(), hits["kind"].as_str(), hits["rows"].as_u64()),
        (Some("hits"), Some("counter"), Some(4))
    );
    let steps = hits["lines"][0]["steps"].as_array().unwrap();
    for (step, time) in steps.iter().zip((first..).step_by(10)) {
        let expected = json!([time, 30.0, 600.0, 60.0, 10.0, 30.0, 20.0]);
        let found = ["time", "count", "sum", "rate", "min", "max", "mean"].map(|key| step[key].clone());
        assert_eq!(json!(found), expected);
    }
    let some = data("metric=hits&step=40&source=A-*&by=source").await;
    let lines: Vec<_> = some["lines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| (&line["source"], &line["steps"][0]["sum"]))
        .collect();
    assert_eq!(lines, [(&json!("a-1"), &json!(400.0)), (&json!("a-2"), &json!(800.0))]);
    // An absolute counter's rate is its growth, of all sources together.
    let total = data("metric=total&step=1").await;
    let steps = total["lines"][0]["steps"].as_array().unwrap();
    assert_eq!((steps[0]["rate"].as_f64(), steps[1]["rate"].as_f64()), (None, Some(5.0)));
    let took = data("metric=took&step=40").await;
    let step = &took["lines"][0]["steps"][0];
    assert_eq!((step["count"].as_f64(), step["rate"].as_f64()), (Some(480.0), Some(12.0)));
    // A quarter of them took no time; no quantile is above the largest.
    assert_eq!(step["p99"].as_f64().unwrap().max(0.003), 0.003, "{step}");
    assert!(step["p50"].as_f64().unwrap() > 0.0);
    let last = data("metric=hits&step=1&rows=5").await;
    assert_eq!((last["rows"].as_u64(), last["lines"][0]["steps"].as_array().unwrap().len()), (Some(40), 5));
    let csv = receiver.get(&format!("/page/data?{range}&metric=hits&step=20&by=source&format=csv")).await;
    assert_eq!(csv.header("Content-Type"), Some("text/csv;charset=utf-8"));
    let rows: Vec<_> = csv.body.lines().collect();
    assert_eq!(rows.len(), 1 + 3 * 2, "{}", csv.body);
    assert!(
        rows[1].starts_with(&format!("{first},")) && rows[1].contains(",a-1,20,200,10,10,10,10,10,,,"),
        "{}",
        rows[1]
    );
}

/// The numbers that a picture carries for the page.
fn metadata(picture: &str) -> Value {
    let (_, metadata) = picture.split_once("<metadata>").unwrap();
    let (metadata, _) = metadata.split_once("</metadata>").unwrap();
    serde_json::from_str(&metadata.replace("&quot;", "\"")).unwrap()
}

#[tokio::test]
async fn no_quantile_is_above_the_largest_record_however_wide_its_bucket_is() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let t = (now() - 60) / 10 * 10;
    // The bucket from 2 to 4 s.
    let took = json!({ "name": "took", "measure_time": t, "count": 1, "sum": 2.5, "min": 2.5, "max": 2.5,
                       "buckets": { "scale": 0, "zero": 0, "offset": 1, "counts": [1] },
                       "origin": { "kind": "timer", "levels": ["info"] } });
    assert_eq!(receiver.post(&json!({ "gauges": [took] }).to_string()).await.status, 200);
    let range = format!("metric=took&start={t}&end={}", t + 10);
    let data = receiver.get(&format!("/page/data?{range}&step=10")).await.json();
    let moment = receiver.get(&format!("/page/histogram?{range}")).await.json();
    for key in ["p50", "p95", "p99", "max"] {
        assert_eq!(data["lines"][0]["steps"][0][key], json!(2.5), "{key} of {data}");
        assert_eq!(moment[key], json!(2.5), "{key} of {moment}");
    }
    for view in ["line", "histogram"] {
        let picture = receiver.get(&format!("/page/chart.svg?{range}&view={view}")).await;
        let metadata = metadata(&picture.body);
        let latest =
            metadata["readings"].as_array().unwrap().iter().map(|one| one["latest"].as_str().unwrap());
        assert_eq!(latest.collect::<Vec<_>>(), ["2.5 s"; 4], "{view}");
    }
}

#[tokio::test]
async fn an_outage_of_a_counter_is_a_gap_and_not_a_rate_of_0() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let first = (now() - 600) / 10 * 10;
    let hits =
        |t: i64| json!({ "name": "hits", "measure_time": t, "value": 10, "origin": { "kind": "counter" } });
    // A report each 10 s: one is missing, and then 240 s of them.
    let times = [0, 10, 20, 40, 50, 60, 300, 310, 320].map(|at| first + at);
    let gauges = times.map(hits).to_vec();
    assert_eq!(receiver.post(&json!({ "gauges": gauges }).to_string()).await.status, 200);
    let range = format!("metric=hits&start={first}&end={}", first + 330);
    let data = receiver.get(&format!("/page/data?{range}&step=10")).await.json();
    let steps: Vec<_> = data["lines"][0]["steps"].as_array().unwrap().iter().collect();
    let told: Vec<_> = steps.iter().map(|step| step["time"].as_i64().unwrap() - first).collect();
    assert_eq!(told, [0, 10, 20, 30, 40, 50, 60, 300, 310, 320]);
    assert_eq!((&steps[3]["rate"], &steps[4]["rate"]), (&json!(0.0), &json!(1.0)));
    let later = format!("metric=hits&start={}&end={}", first + 40, first + 330);
    let picture = receiver.get(&format!("/page/chart.svg?{later}")).await;
    assert_eq!(metadata(&picture.body)["readings"][0]["min"], json!("1/s"), "{}", picture.body);
}

#[tokio::test]
async fn a_moment_is_a_distribution_of_all_its_records() {
    let (_directory, db) = database();
    let (receiver, first) = with_points(&db).await;
    let moment =
        receiver.get(&format!("/page/histogram?metric=took&start={first}&end={}", first + 10)).await.json();
    assert_eq!((moment["count"].as_f64(), moment["counted"].as_f64()), (Some(120.0), Some(120.0)));
    let buckets: Vec<_> = moment["buckets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|bucket| bucket["count"].as_f64().unwrap())
        .collect();
    assert_eq!(buckets, [30.0, 20.0, 30.0, 30.0, 10.0]);
    assert_eq!((moment["min"].as_f64(), moment["max"].as_f64()), (Some(0.0), Some(0.003)));
    let one = receiver
        .get(&format!("/page/histogram?metric=took&source=b&start={first}&end={}", first + 7))
        .await
        .json();
    assert_eq!((one["count"].as_f64(), one["end"].as_i64()), (Some(28.0), Some(first + 7)), "{one}");
    let none =
        receiver.get(&format!("/page/histogram?metric=took&start={}&end={first}", first - 10)).await.json();
    assert_eq!((none["count"].as_f64(), none["buckets"].as_array().unwrap().len()), (Some(0.0), 0));
}

#[tokio::test]
async fn metrics_are_listed_with_filters_and_what_is_newest() {
    let (_directory, db) = database();
    let (receiver, first) = with_points(&db).await;
    let list = async |query: &str| receiver.get(&format!("/page/metrics?{query}")).await.json();
    let names = |list: &Value| -> Vec<String> {
        list["metrics"]
            .as_array()
            .unwrap()
            .iter()
            .map(|metric| metric["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let all = list("").await;
    assert_eq!(names(&all), ["depth", "hits", "took", "total"]);
    assert_eq!((all["found"].as_i64(), all["total"].as_i64()), (Some(4), Some(4)));
    assert_eq!(all["levels"], json!(["counter", "gauge", "timer"]));
    let depth = &all["metrics"][0];
    let expected = json!(["gauge", ["gauge"], "jobs", 3, first + 39]);
    assert_eq!(
        json!(["kind", "levels", "unit", "sources", "newest"].map(|key| depth[key].clone())),
        expected
    );
    assert!([1.0, 2.0, 3.0].contains(&depth["latest"].as_f64().unwrap()), "{depth}");
    for (query, expected) in [
        ("q=O", &["took", "total"][..]),
        ("level=timer", &["took"]),
        ("kind=counter", &["hits", "total"]),
        ("source=a", &["total"]),
        ("source=A*", &["depth", "hits", "took", "total"]),
        ("source=a-?", &[]),
        ("source=[ab]*", &[]),
        ("metric=HITS", &["hits"]),
        ("metric=hit", &[]),
        ("offset=1&length=2", &["hits", "took"]),
        ("q=o&kind=timer&level=timer&source=b", &["took"]),
        ("q=%27%20OR%201=1--", &[]),
    ] {
        assert_eq!(names(&list(query).await), expected, "{query}");
    }
}

#[tokio::test]
async fn every_picture_is_drawn_in_both_colours() {
    let (_directory, db) = database();
    let (receiver, first) = with_points(&db).await;
    for metric in ["hits", "depth", "took", "total"] {
        for look in [
            "view=line",
            "view=line&by=source&of=max&scale=log",
            "view=heat",
            "view=histogram",
            "view=line&caption=no&marks=yes&width=100&height=60",
            "width=4000&height=4000",
        ] {
            for theme in ["light", "dark"] {
                let query = format!(
                    "metric={metric}&start={first}&end={}&{look}&theme={theme}&zone=-210",
                    first + 40
                );
                let picture = receiver.get(&format!("/page/chart.svg?{query}")).await;
                assert_eq!(
                    picture.header("Content-Type"),
                    Some("image/svg+xml;charset=utf-8"),
                    "{query}: {picture:?}"
                );
                let body = picture.body.trim_end();
                assert!(body.starts_with("<svg xmlns") && body.ends_with("</svg>"), "{query}: {body}");
                assert!(!body.contains("NaN") && !body.contains("style"), "{query}: {body}");
                assert_eq!(picture.header("Cache-Control"), Some("no-store"));
            }
        }
    }
    // A picture for itself says what it is.
    let picture =
        receiver.get(&format!("/page/chart.svg?metric=took&start={first}&end={}", first + 40)).await.body;
    for part in ["took (p50, p95, p99, max)", "UTC", "p99: latest", "<metadata>"] {
        assert!(picture.contains(part), "{part} in {picture}");
    }
}

#[tokio::test]
async fn what_is_out_of_limits_is_refused_in_one_line() {
    let (_directory, db) = database();
    let (receiver, first) = with_points(&db).await;
    let long = "x".repeat(256);
    for (status, path) in [
        (400, "/page/chart.svg".to_owned()),
        (404, "/page/chart.svg?metric=nothing".to_owned()),
        (404, format!("/page/data?metric={}", "%3Cscript%3E")),
        (400, "/page/chart.svg?metric=hits&width=99".to_owned()),
        (400, "/page/chart.svg?metric=hits&height=4001".to_owned()),
        (400, "/page/chart.svg?metric=hits&theme=pink".to_owned()),
        (400, "/page/chart.svg?metric=hits&view=pie".to_owned()),
        (400, "/page/chart.svg?metric=hits&of=p42".to_owned()),
        (400, "/page/chart.svg?metric=hits&zone=mars".to_owned()),
        (400, "/page/chart.svg?metric=hits&last=500d".to_owned()),
        (400, "/page/chart.svg?metric=hits&last=1h&start=5".to_owned()),
        (400, "/page/data?metric=hits&start=9&end=8".to_owned()),
        (400, "/page/data?metric=hits&last=2h&step=1".to_owned()),
        (400, "/page/data?metric=hits&step=0".to_owned()),
        (400, "/page/data?metric=hits&format=xml".to_owned()),
        (400, format!("/page/data?metric={long}")),
        (400, format!("/page/data?metric=hits&{}", "source=a&".repeat(21))),
        (400, "/page/metrics?length=201".to_owned()),
        (400, "/page/metrics?offset=-1".to_owned()),
        (400, "/page/metrics?kind=event".to_owned()),
        (400, format!("/page/metrics?q={long}")),
        (400, "/page/histogram?metric=hits&last=0".to_owned()),
        (400, "/page/annotations?start=x".to_owned()),
    ] {
        let answer = receiver.get(&path).await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        assert_eq!(answer.header("Content-Type"), Some("text/plain;charset=utf-8"), "{path}");
        assert!(
            !answer.body.is_empty() && answer.body.len() < 200 && !answer.body.contains('\n'),
            "{path}: {answer:?}"
        );
    }
    // The limits themselves are within them.
    for path in [
        format!("/page/data?metric=hits&start={}&end={first}&step=1", first - 4_000),
        "/page/chart.svg?metric=hits&last=400d&width=4000&height=60".to_owned(),
        "/page/metrics?length=200&offset=4294967295".to_owned(),
    ] {
        assert_eq!(receiver.get(&path).await.status, 200, "{path}");
    }
    assert_eq!(receiver.stop().await.requests_refused.get("not_found"), Some(&2));
}

#[tokio::test]
async fn annotations_of_all_streams_are_told_in_order_of_time() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let time = now() - 100;
    for (stream, title, start, end) in [
        ("deploys", "two", time + 5, None),
        ("alerts", "one", time - 50, Some(time + 1)),
        ("deploys", "old", time - 9, None),
    ] {
        let body = json!({ "title": title, "start_time": start, "end_time": end, "source": "s" });
        let path = format!("/v1/annotations/{stream}");
        let answer =
            receiver.call("POST", &path, &[("Content-Type", "application/json")], &body.to_string()).await;
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    let told = receiver.get(&format!("/page/annotations?start={time}&end={}", time + 50)).await.json();
    let titles: Vec<_> = told["annotations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|each| (&each["stream"], &each["title"]))
        .collect();
    assert_eq!(titles, [(&json!("alerts"), &json!("one")), (&json!("deploys"), &json!("two"))]);
    assert_eq!(told["is_cut"], false);
    // There is a limit, and that it was reached is told.
    for at in 0..99 {
        let body = json!({ "title": format!("{at}"), "start_time": time + 10 }).to_string();
        receiver
            .call("POST", "/v1/annotations/deploys", &[("Content-Type", "application/json")], &body)
            .await;
    }
    let told = receiver.get(&format!("/page/annotations?start={time}&end={}", time + 50)).await.json();
    assert_eq!((told["annotations"].as_array().unwrap().len(), &told["is_cut"]), (100, &json!(true)));
}

/// A page that listens.
struct Listener {
    stream: TcpStream,
    heard: String,
}

impl Listener {
    async fn open(receiver: &Receiver) -> Self {
        let mut stream = TcpStream::connect(receiver.running.addr).await.unwrap();
        let head = format!(
            "GET /page/events HTTP/1.1\r\nHost: {}\r\nAccept-Encoding: gzip\r\n\r\n",
            receiver.running.addr
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut listener = Self { stream, heard: String::new() };
        listener.until("event: beat").await;
        assert!(listener.heard.contains("content-type: text/event-stream"), "{}", listener.heard);
        assert!(!listener.heard.contains("gzip"), "{}", listener.heard);
        listener
    }

    /// Reads until `text` was heard; false if the stream ended before.
    async fn until(&mut self, text: &str) -> bool {
        let read = async {
            let mut buffer = [0; 4_096];
            while !self.heard.contains(text) {
                let length = self.stream.read(&mut buffer).await.unwrap_or(0);
                if length == 0 {
                    return false;
                }
                self.heard.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
            }
            true
        };
        tokio::time::timeout(DEADLINE, read).await.unwrap_or_else(|_| panic!("no {text}"))
    }
}

#[tokio::test]
async fn changes_are_told_at_once_and_then_five_times_a_second_at_most() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let mut listener = Listener::open(&receiver).await;
    let post = |name: &str| format!(r#"{{"gauges":[{{"name":"{name}","value":1}}]}}"#);
    let started = Instant::now();
    assert_eq!(receiver.post(&post("first")).await.status, 200);
    assert!(listener.until("event: changed").await);
    let listed = receiver.get("/page/metrics").await.json();
    let id = &listed["metrics"][0]["id"];
    assert!(
        listener.heard.contains(&format!(r#"{{"all":false,"metrics":[{id}],"overview":false}}"#)),
        "{}",
        listener.heard
    );
    // Whatever else changes meanwhile is told together.
    for at in 0..20 {
        assert_eq!(receiver.post(&post(&format!("m.{at}"))).await.status, 200);
    }
    let ids = receiver.get("/page/metrics").await.json();
    let last =
        ids["metrics"].as_array().unwrap().iter().map(|metric| metric["id"].as_i64().unwrap()).max().unwrap();
    assert!(listener.until(&format!("{last}]")).await);
    let told = listener.heard.matches("event: changed").count();
    assert!(
        told as u128 <= 2 + started.elapsed().as_millis() / 200,
        "{told} in {:?}: {}",
        started.elapsed(),
        listener.heard
    );
    // The end of the server ends the stream, and is not held up by it.
    let stopping = Instant::now();
    let (totals, ended) = tokio::join!(receiver.stop(), listener.until("never said"));
    assert!(!ended && stopping.elapsed() < Duration::from_secs(4), "{:?}", stopping.elapsed());
    assert_eq!(totals.points_accepted, 21);
}

#[tokio::test]
async fn more_listeners_than_there_may_be_are_told_to_come_later() {
    const CLIENTS_MAX: usize = 64;
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let mut listeners = Vec::new();
    for _ in 0..CLIENTS_MAX {
        listeners.push(Listener::open(&receiver).await);
    }
    let answer = receiver.get("/page/events").await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (503, "64 pages listen already; close one, or try again later")
    );
    drop(listeners.pop());
    let mut found = receiver.get("/page/metrics").await.status;
    // The server sees that one has gone when it speaks to it next.
    let free = async {
        loop {
            let mut stream = TcpStream::connect(receiver.running.addr).await.unwrap();
            let head = format!("GET /page/events HTTP/1.1\r\nHost: {}\r\n\r\n", receiver.running.addr);
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut start = [0; 12];
            stream.read_exact(&mut start).await.unwrap();
            if &start == b"HTTP/1.1 200" {
                return;
            }
        }
    };
    tokio::time::timeout(DEADLINE, free).await.unwrap();
    found = found.max(receiver.get("/page/metrics").await.status);
    assert_eq!(found, 200);
}

#[tokio::test]
async fn the_overview_tells_of_the_store_and_of_who_does_not_answer() {
    let (_directory, db) = database();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let receiver = Receiver::with(&db, |config| config.watch = vec![closed]).await;
    assert_eq!(receiver.post(r#"{"gauges":[{"name":"a","value":1}]}"#).await.status, 200);
    let asked = async {
        loop {
            let told = receiver.get("/page/overview").await.json();
            if told["services"][0]["error"] != "not asked yet" {
                return told;
            }
        }
    };
    let told = tokio::time::timeout(DEADLINE, asked).await.unwrap();
    let error = told["services"][0]["error"].as_str().unwrap();
    assert!(error.starts_with(&format!("cannot connect to {closed}")), "{told}");
    assert_eq!(
        (told["local"]["account"]["accepted"].as_f64(), told["local"]["metrics"].as_i64()),
        (Some(1.0), Some(1))
    );
    let stages = told["stages"].as_array().unwrap();
    assert_eq!(
        (stages.len(), &stages[0]["service"], &stages[0]["adds_up"]),
        (1, &json!("local"), &json!(true))
    );
    assert_eq!((&stages[0]["accepted"], &told["losses"]), (&json!(1.0), &json!([])));
}
