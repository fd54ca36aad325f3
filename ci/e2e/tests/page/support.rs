//! A local store with known metrics in it, and what holds of every page.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tempfile::TempDir;
use zibrato_e2e::{Local, Tab, directory};

/// The size of most windows.
pub(crate) const WIDE: (u32, u32) = (1_280, 900);

/// A local store without brokers and workers.
pub(crate) struct Site {
    pub(crate) local: Local,
    _directory: TempDir,
}

impl Site {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    pub(crate) fn with(args: &[&str]) -> Self {
        let directory = directory();
        let always = ["--listen", "127.0.0.1:0"];
        let watch: &[&str] = if args.contains(&"--watch") { &[] } else { &["--watch", "none"] };
        let local = Local::with(directory.path(), &[&always, watch, args].concat());
        Self { local, _directory: directory }
    }

    /// One with a metric of each kind over the last minutes, a second apart.
    pub(crate) fn with_metrics() -> Self {
        let site = Self::start();
        let now = now_s();
        for t in now - 280..now {
            site.post(&metrics_at(t));
        }
        site
    }

    /// The address of a part of the page.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.local.addr)
    }

    /// Stores points.
    pub(crate) fn post(&self, gauges: &[Value]) {
        post(&self.local.addr, gauges);
    }

    /// The answer to `GET path` as an object.
    pub(crate) fn get(&self, path: &str) -> Value {
        let (status, body) = zibrato_e2e::get(&self.local.addr, path);
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"))
    }

    /// What must hold of every page at the end: it complained of nothing and asked nobody else.
    pub(crate) fn assert_calm(&self, tab: &mut Tab<'_>) {
        assert_eq!(tab.problems(), Vec::<String>::new().as_slice());
        let host = format!("http://{}/", self.local.addr);
        let foreign: Vec<_> =
            tab.requests().iter().filter(|url| !url.starts_with(&host) && *url != "about:blank").collect();
        assert!(foreign.is_empty(), "{foreign:?}");
    }
}

/// Stores points at an address.
pub(crate) fn post(addr: &str, gauges: &[Value]) {
    for some in gauges.chunks(300) {
        let (status, answer) = send(addr, "/v1/metrics", &json!({ "gauges": some }));
        assert_eq!(status, 200, "{answer}");
    }
}

/// Posts a body; the status and the whole answer.
pub(crate) fn send(addr: &str, path: &str, body: &Value) -> (u16, String) {
    let body = body.to_string();
    let mut stream = TcpStream::connect(addr).unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {addr}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

/// Points of a metric of each kind and three levels at a time.
pub(crate) fn metrics_at(t: i64) -> Vec<Value> {
    let wave = (t as f64 / 40.0).sin();
    let mut points = vec![
        gauge("room.temperature", "roof", t, 8.0 + 12.0 * wave, "audit", "°C"),
        counter("net.sent.bytes", "web-0", t, 500_000.0 + 200_000.0 * wave, "B"),
        timer("db.query.duration", "db", t, -240 + (40.0 * wave) as i64),
    ];
    points.extend(
        (0..12).map(|at| counter("http.requests", &format!("web-{at}"), t, 100.0 + f64::from(at), "")),
    );
    points
}

/// A point of a gauge.
pub(crate) fn gauge(name: &str, source: &str, t: i64, value: f64, level: &str, unit: &str) -> Value {
    let origin = json!({ "kind": "gauge", "levels": [level], "unit": unit });
    json!({ "name": name, "source": source, "measure_time": t, "value": value, "origin": origin })
}

/// A point of a counter, at the level info.
pub(crate) fn counter(name: &str, source: &str, t: i64, value: f64, unit: &str) -> Value {
    let origin = json!({ "kind": "counter", "levels": ["info"], "unit": unit });
    json!({ "name": name, "source": source, "measure_time": t, "value": value, "origin": origin })
}

/// A point of a timer, at the level debug: 100 records in ten neighbouring buckets from the given one on.
pub(crate) fn timer(name: &str, source: &str, t: i64, bucket: i64) -> Value {
    let lower = |index: i64| 2_f64.powf(index as f64 / 32.0);
    let sum: f64 = (0..10).map(|at| 10.0 * lower(bucket + at) * 1.01).sum();
    json!({
        "name": name, "source": source, "measure_time": t,
        "count": 100, "sum": sum, "min": lower(bucket) * 1.001, "max": lower(bucket + 10) * 0.999, "sum_squares": 1.0,
        "buckets": { "scale": 5, "zero": 0, "offset": bucket, "counts": vec![10; 10] },
        "origin": { "kind": "timer", "levels": ["debug"], "unit": "s" },
    })
}

/// The wall clock, in seconds.
pub(crate) fn now_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

/// Where a screenshot of that name goes.
pub(crate) fn shot(name: &str) -> PathBuf {
    let mut target = std::env::current_exe().unwrap();
    // The test lies in target/debug/deps.
    (0..3).for_each(|_| assert!(target.pop()));
    target.join("page").join(format!("{name}.png"))
}

/// Waits until every card in the window has its chart.
pub(crate) fn charts_drawn(tab: &mut Tab<'_>, cards: usize) {
    let script = format!("document.querySelectorAll('.card .chart svg').length >= {cards}");
    tab.until(format!("chart in each of {cards} cards"), &script);
}

/// The names of the cards on show.
pub(crate) const NAMES: &str = "[...document.querySelectorAll('.card h2')].map((h) => h.textContent)";
