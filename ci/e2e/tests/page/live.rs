//! From a record in a program to the page, and what the page says when that way is interrupted.

use std::time::{Duration, Instant};

use serde_json::Value;
use zibrato_e2e::{Broker, Chromium, Local, PortPair, Process, Tab, directory, get, until};
use zibrato_std::{Client, Level};

use crate::support::{NAMES, Site, WIDE, charts_drawn, gauge, metrics_at, now_s, post};

/// How soon a record is to be seen.
const SEEN_MAX: Duration = Duration::from_secs(2);

#[test]
fn a_record_is_seen_within_two_seconds_and_the_numbers_are_those_of_the_database() {
    let home = directory();
    let broker = Broker::start();
    let ports = PortPair::reserve();
    let worker_http = format!("127.0.0.1:{}", ports.port);
    let watch = format!("{},{worker_http}", broker.http);
    let local = Local::with(home.path(), &["--listen", "127.0.0.1:0", "--watch", &watch]);
    let spool = home.path().join("spool");
    let mut worker = Process::start(
        "zibrato-librato",
        &["--endpoint", &broker.workers, "--levels", "info", "--url", &local.url(), "--flush", "1"]
            .into_iter()
            .chain(["--http", &worker_http, "--spool", spool.to_str().unwrap()])
            .collect::<Vec<_>>(),
    );
    worker.line("the backend answers");
    let client = Client::builder()
        .endpoint(&broker.publishers)
        .source("page")
        .window(Duration::from_millis(500))
        .build()
        .unwrap();
    assert!(client.wait_subscribed(Level::INFO, Duration::from_secs(20)));
    let depth = client.gauge("queue.depth", Level::INFO).get();
    let hits = client.counter("hits", Level::INFO).get();
    let took = client.timer("took", Level::INFO).unit("s").get();
    depth.set(1.0);

    let mut browser = Chromium::start();
    let mut tab = browser.tab(WIDE.0, WIDE.1, "light");
    tab.go(&format!("http://{}/", local.addr));
    charts_drawn(&mut tab, 1);
    tab.until("live state", "document.getElementById('link-text').textContent === 'Live'");
    let mut seen = Vec::new();
    for round in 0_u64..5 {
        let value = 101.0 + round as f64;
        let started = Instant::now();
        depth.set(value);
        hits.add(10 + round);
        (1..=100).for_each(|at| took.record(Duration::from_micros(at * (round + 1))));
        let shown = format!(
            "[...document.querySelectorAll('.card')].some((card) => card.querySelector('h2').textContent === 'queue.depth'
             && card.querySelector('.readings dd').textContent === '{value}')"
        );
        tab.until(format!("gauge of {value} on the page"), &shown);
        seen.push(started.elapsed());
    }
    println!("a record is seen after {seen:?}");
    assert!(seen.iter().all(|seen| *seen <= SEEN_MAX), "{seen:?}");

    // What was recorded is stored, is answered and is shown.
    let stats = client.shutdown(Duration::from_secs(5)).unwrap();
    assert_eq!(stats.offered.timers, 500);
    let stored = || {
        let sum = sql(&local, "hits", "sum(coalesce(t.sum, t.value))");
        let count = sql(&local, "took", "sum(coalesce(t.count, 1))");
        (sum == 60.0 && count == 500.0).then(|| sql(&local, "took", "sum(t.sum)"))
    };
    let took_sum = until("stored records", stored);
    let data = |metric: &str| -> Value {
        let (status, body) = get(&local.addr, &format!("/page/data?metric={metric}&last=300"));
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    };
    let total = |data: &Value, key: &str| -> f64 {
        data["lines"][0]["steps"].as_array().unwrap().iter().map(|step| step[key].as_f64().unwrap()).sum()
    };
    let (hits, took) = (data("hits"), data("took"));
    assert_eq!((hits["kind"].as_str(), took["kind"].as_str()), (Some("counter"), Some("timer")));
    assert_eq!((total(&hits, "sum"), total(&took, "count")), (60.0, 500.0));
    assert!(
        (total(&took, "sum") - took_sum).abs() < 1e-12 && (took_sum - 0.075_75).abs() < 1e-12,
        "{took_sum}"
    );
    tab.go(&format!("http://{}/?metric=hits", local.addr));
    let shown = "[...document.querySelectorAll('#metric tbody tr')].reduce((sum, row) => sum + Number(row.cells[1].textContent.replaceAll(',', '')), 0)";
    tab.until("sum of 60 in the table", &format!("({shown}) === 60"));
    tab.go(&format!("http://{}/?metric=took", local.addr));
    tab.until("count of 500 in the table", &format!("({shown}) === 500"));
    // All records of the last round: 5 to 500 us, so p50 is 250 us within the error of a bucket.
    let last = took["lines"][0]["steps"]
        .as_array()
        .unwrap()
        .iter()
        .max_by_key(|step| step["time"].as_i64())
        .unwrap();
    let max = sql(&local, "took", "max(t.max)");
    assert!((max - 500e-6).abs() < 1e-9 && last["max"].as_f64().unwrap() <= max, "{max} {last}");
    let moment = took["start"].as_i64().unwrap();
    let (_, body) =
        get(&local.addr, &format!("/page/histogram?metric=took&start={moment}&end={}", now_s() + 60));
    let whole: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((whole["count"].as_f64(), whole["counted"].as_f64()), (Some(500.0), Some(500.0)), "{whole}");
    let mut recorded: Vec<u64> = (0..5).flat_map(|round| (1..=100).map(move |at| at * (round + 1))).collect();
    recorded.sort_unstable();
    for (name, place) in [("p50", 250), ("p95", 475), ("p99", 495)] {
        let (exact, found) = (recorded[place - 1] as f64 / 1e6, whole[name].as_f64().unwrap());
        assert!(
            (found / exact - 1.0).abs() <= whole["error"].as_f64().unwrap() + 1e-9,
            "{name}: {found} {exact}"
        );
    }

    // The overview knows all four of them.
    tab.go(&format!("http://{}/?view=overview", local.addr));
    tab.until("publisher on the overview", "document.querySelector('#overview')?.textContent.includes('1 alive') || document.querySelector('#overview')?.textContent.includes('2 alive') || document.querySelector('#overview')?.textContent.includes('ended')");
    let page = tab.text("#overview");
    for part in ["nothing lost", "adds up", &broker.publishers, &local.url(), "0 batches"] {
        assert!(page.contains(part), "{part} is missing in {page}");
    }
    broker.finish();
    tab.until(
        "missing broker on the overview",
        "document.querySelector('#overview').textContent.includes('Not reached')",
    );
    assert_eq!(tab.problems(), Vec::<String>::new().as_slice());
    worker.terminate();
    local.finish();
}

#[test]
fn a_page_that_loses_its_server_says_so_and_comes_back_by_itself() {
    let home = directory();
    let ports = PortPair::reserve();
    let listen = format!("127.0.0.1:{}", ports.port);
    let start = || Local::with(home.path(), &["--listen", &listen, "--watch", "none"]);
    let local = start();
    let mut browser = Chromium::start();
    let mut tab = browser.tab(WIDE.0, WIDE.1, "light");
    tab.go(&format!("http://{listen}/"));
    tab.until("live state", "document.getElementById('link').dataset.state === 'live'");
    let welcome = tab.text("#metrics .empty");
    for part in ["zibrato up --demo", "Counter::new", &listen] {
        assert!(welcome.contains(part), "{part} is missing in {welcome}");
    }
    local.finish();
    tab.until("lost state", "document.getElementById('link-text').textContent.startsWith('Disconnected')");
    let local = start();
    tab.until("live state again", "document.getElementById('link').dataset.state === 'live'");
    // The first metric of all appears without a reload.
    post(&local.addr, &[gauge("first", "s", now_s(), 7.0, "info", "")]);
    tab.until("first card", &format!("({NAMES}).join() === 'first'"));
    charts_drawn(&mut tab, 1);
    // A connection that breaks is an error to the browser, and nothing else went wrong.
    let problems = tab.problems().iter().filter(|problem| !problem.contains("ERR_")).collect::<Vec<_>>();
    assert!(problems.is_empty(), "{problems:?}");
    local.finish();
}

#[test]
fn a_paused_page_stands_still_until_it_is_resumed() {
    let site = Site::with_metrics();
    let mut browser = Chromium::start();
    let mut tab = browser.tab(WIDE.0, WIDE.1, "light");
    tab.go(&site.url("/?q=room"));
    charts_drawn(&mut tab, 1);
    tab.click("#pause");
    tab.until("paused state", "document.getElementById('link-text').textContent === 'Paused'");
    let drawn = charts(&mut tab);
    // A listener of its own hears what a page that is not paused draws upon.
    tab.evaluate(
        "new Promise((open) => { const source = new EventSource('/page/events'); source.addEventListener('open', open);
         source.addEventListener('changed', () => { window.heard = true; }); }).then(() => true)",
    );
    site.post(&metrics_at(now_s()));
    site.post(&[gauge("room.temperature", "roof", now_s() + 1, 777.0, "audit", "°C")]);
    tab.until("change", "window.heard");
    assert_eq!(charts(&mut tab), drawn);
    tab.click("#pause");
    tab.until(
        "highest value of 777",
        "document.querySelector('.card .readings').textContent.includes('777')",
    );
    site.assert_calm(&mut tab);
}

/// How many charts the page asked for.
fn charts(tab: &mut Tab<'_>) -> usize {
    tab.requests().iter().filter(|url| url.contains("chart.svg")).count()
}

/// An aggregate over the points of a metric that are not packed yet: all, so soon.
fn sql(local: &Local, metric: &str, aggregate: &str) -> f64 {
    let connection = rusqlite::Connection::open(&local.db).unwrap();
    connection.pragma_update(None, "query_only", true).unwrap();
    let sql = format!(
        "SELECT coalesce({aggregate}, 0) FROM tail t JOIN series s ON s.id = t.series JOIN metrics m ON m.id = s.metric WHERE m.name = ?1"
    );
    connection.query_row(&sql, [metric], |row| row.get(0)).unwrap()
}
