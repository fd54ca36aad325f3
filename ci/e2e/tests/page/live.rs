//! From a record in a program to the page, and what the page says when that way is interrupted.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use zibrato_e2e::{Broker, Chromium, Local, PortPair, Process, Tab, directory, get, until};
use zibrato_std::{Client, Level};

use crate::support::{NAMES, Site, WIDE, charts_drawn, gauge, metrics_at, now_s, post, shot};

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
    let depth = client.gauge("queue.depth", Level::INFO).unit("jobs").get();
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
             && card.querySelector('.readings dd').textContent === '{value} jobs')"
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

    // Kind, levels and unit come with the record: as the store has them, and as the page lists them.
    let (_, body) = get(&local.addr, "/page/metrics?q=t");
    let listed: Value = serde_json::from_str(&body).unwrap();
    let metrics = listed["metrics"].as_array().unwrap();
    let of = |name: &str| metrics.iter().find(|metric| metric["name"] == name).unwrap();
    for (name, kind, unit) in
        [("queue.depth", "gauge", "jobs"), ("hits", "counter", ""), ("took", "timer", "s")]
    {
        let told = ["kind", "unit", "levels", "sources"].map(|key| of(name)[key].clone());
        assert_eq!(json!(told), json!([kind, unit, ["info"], 1]), "{name}");
        assert_eq!(origin(&local, name), (kind.to_owned(), unit.to_owned(), "info".to_owned()), "{name}");
    }

    // Those that are watched arrive at the overview, with the program that published and what became of all.
    let told = until("all records in the ledger's account", || {
        let (_, body) = get(&local.addr, "/page/overview");
        let told: Value = serde_json::from_str(&body).unwrap();
        let is_delivered = |unit: &str, amount: f64| {
            let mut stages = told["stages"].as_array().unwrap().iter();
            stages.any(|stage| {
                stage["stage"] == "ledger" && stage["unit"] == unit && stage["delivered"] == amount
            })
        };
        (is_delivered("counter units", 60.0) && is_delivered("timer records", 500.0)).then_some(told)
    });
    let list = |key: &str| told[key].as_array().unwrap().clone();
    let services: Vec<_> = list("services")
        .into_iter()
        .map(|each| (each["address"].clone(), each["report"]["service"].clone()))
        .collect();
    assert_eq!(services, [(json!(broker.http), json!("broker")), (json!(worker_http), json!("worker"))]);
    let publishers = list("publishers");
    let publisher = publishers.iter().find(|one| one["pid"] == std::process::id()).unwrap();
    assert_eq!((&publisher["series"], &publisher["levels"]), (&json!(3), &json!(["info"])), "{publisher}");
    assert!(
        list("stages").iter().all(|stage| stage["adds_up"] == true) && list("losses").is_empty(),
        "{told}"
    );

    // The overview knows all four of them.
    tab.go(&format!("http://{}/?view=overview", local.addr));
    tab.until("publisher on the overview", "document.querySelector('#overview')?.textContent.includes('1 alive') || document.querySelector('#overview')?.textContent.includes('2 alive') || document.querySelector('#overview')?.textContent.includes('ended')");
    let page = tab.text("#overview");
    for part in ["nothing lost", "adds up", &broker.publishers, &local.url(), "0 batches"] {
        assert!(page.contains(part), "{part} is missing in {page}");
    }
    tab.screenshot(&shot("overview-at-work"));
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
         source.addEventListener('changed', () => { window.heard = (window.heard ?? 0) + 1; }); }).then(() => true)",
    );
    // So many messages take longer than a page that is not paused waits before it draws again.
    until("changes", || {
        site.post(&metrics_at(now_s()));
        tab.evaluate("window.heard >= 8").as_bool().filter(|is_heard| *is_heard)
    });
    site.post(&[gauge("room.temperature", "roof", now_s() + 1, 777.0, "audit", "°C")]);
    assert_eq!(tab.text("#link-text"), "Paused");
    assert_eq!(charts(&mut tab), drawn);
    tab.click("#pause");
    tab.until(
        "highest value of 777",
        "document.querySelector('.card .readings').textContent.includes('777')",
    );
    site.assert_calm(&mut tab);
}

#[test]
fn a_server_that_is_silent_is_called_stale_until_it_speaks_again() {
    let site = Site::with_metrics();
    let mut browser = Chromium::start();
    let mut tab = browser.tab(WIDE.0, WIDE.1, "light");
    tab.go(&site.url("/"));
    tab.until("live state", "document.getElementById('link').dataset.state === 'live'");
    charts_drawn(&mut tab, 4);
    site.local.process.signal("STOP");
    tab.until("stale state", "document.getElementById('link').dataset.state === 'stale'");
    // It does not wait for the connection that fell silent: it asks for another one.
    let streams =
        |tab: &mut Tab<'_>| tab.requests().iter().filter(|url| url.ends_with("/page/events")).count();
    until("another stream", || (streams(&mut tab) >= 2).then_some(()));
    site.local.process.signal("CONT");
    tab.until("live state again", "document.getElementById('link').dataset.state === 'live'");
    site.post(&[gauge("room.temperature", "roof", now_s(), 777.0, "audit", "°C")]);
    tab.until("highest value of 777", "[...document.querySelectorAll('.card .readings')].some((values) => values.textContent.includes('777'))");
}

#[test]
fn more_windows_than_a_browser_has_connections_are_all_live() {
    const WINDOWS: usize = 8;
    let site = Site::with_metrics();
    let mut browser = Chromium::start();
    let mut tab = browser.tab(WIDE.0, WIDE.1, "light");
    tab.go(&site.url("/?q=room"));
    tab.evaluate(&format!(
        "window.others = Array.from({{ length: {WINDOWS} }}, () => open(location.href, '_blank', 'width=600,height=500')), true"
    ));
    let all = |what: &str| {
        format!("window.others.every((other) => !other.closed && !other.document.hidden && ({what}))")
    };
    let live = all(
        "other.document.getElementById('link')?.dataset.state === 'live' && other.document.querySelector('.card svg')",
    );
    tab.until("live windows", &live);
    let shows = |value: &str| {
        all(&format!("other.document.querySelector('.card .readings').textContent.includes('{value}')"))
    };
    site.post(&[gauge("room.temperature", "roof", now_s(), 777.0, "audit", "°C")]);
    tab.until("777 in all windows", &shows("777"));
    // The window that listens for all, which is the first, no longer does; another one takes its place.
    let leader = "navigator.locks.query().then(({ held }) => held.map(({ clientId }) => clientId).join())";
    let first = tab.evaluate(leader);
    assert!(first.as_str().is_some_and(|id| !id.is_empty() && !id.contains(',')), "{first}");
    tab.click("#pause");
    tab.until("another window that listens", &format!("{leader}.then((id) => id !== '' && id !== {first})"));
    site.post(&[gauge("room.temperature", "roof", now_s(), 888.0, "audit", "°C")]);
    tab.until("888 in all windows", &shows("888"));
    tab.evaluate("window.others.forEach((other) => other.close())");
    site.assert_calm(&mut tab);
}

#[test]
fn a_metric_that_is_not_there_yet_is_shown_when_it_comes() {
    let site = Site::start();
    let mut browser = Chromium::start();
    let mut tab = browser.tab(WIDE.0, WIDE.1, "light");
    tab.go(&site.url("/?metric=soon"));
    tab.until("word that there is none", "document.querySelector('#metric .empty')");
    tab.until("live state", "document.getElementById('link').dataset.state === 'live'");
    site.post(&[gauge("soon", "s", now_s(), 7.0, "info", "")]);
    tab.until(
        "chart",
        "document.querySelector('#metric .big svg') && !document.querySelector('#metric .empty')",
    );
    // The overview looks again by itself, though nobody says anything new.
    tab.click("nav [data-view=overview]");
    tab.until("overview", "document.querySelector('#overview .tile')");
    let asked =
        |tab: &mut Tab<'_>| tab.requests().iter().filter(|url| url.ends_with("/page/overview")).count();
    let before = asked(&mut tab);
    until("another look", || (asked(&mut tab) > before).then_some(()));
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

/// Kind, unit and levels of a metric as they are stored.
fn origin(local: &Local, metric: &str) -> (String, String, String) {
    let connection = rusqlite::Connection::open(&local.db).unwrap();
    let sql = "SELECT m.origin, coalesce(m.unit, ''), group_concat(l.level) FROM metrics m JOIN metric_levels l ON l.metric = m.id WHERE m.name = ?1";
    connection.query_row(sql, [metric], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap()
}
