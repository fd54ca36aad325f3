//! Search, filters, zoom, and what a single metric shows.

use serde_json::{Value, json};
use zibrato_e2e::{Chromium, Key, Tab, until};
use zibrato_service::{PublisherReport, Report, WorkerReport};

use crate::support::{NAMES, Site, WIDE, charts_drawn, now_s, send};

fn shown(tab: &mut Tab<'_>, names: &str) {
    tab.until(format!("cards {names}"), &format!("({NAMES}).join() === '{names}'"));
}

fn choose(tab: &mut Tab<'_>, name: &str, value: &str) {
    tab.evaluate(&format!(
        "(() => {{ const field = document.querySelector('[name={name}]'); field.value = '{value}';
           field.dispatchEvent(new Event('input', {{ bubbles: true }})); }})()"
    ));
}

#[test]
fn search_and_filters_narrow_the_list_and_stand_in_the_address() {
    let site = Site::with_metrics();
    let mut browser = Chromium::start();
    let mut tab = browser.tab(WIDE.0, WIDE.1, "light");
    tab.go(&site.url("/"));
    shown(&mut tab, "db.query.duration,http.requests,net.sent.bytes,room.temperature");
    assert_eq!(tab.text("#count"), "4");
    tab.click("[name=q]");
    tab.type_text("E");
    tab.type_text("T");
    shown(&mut tab, "net.sent.bytes");
    assert_eq!(tab.text("#count"), "1 of 4");
    tab.click("#clear");
    shown(&mut tab, "db.query.duration,http.requests,net.sent.bytes,room.temperature");
    choose(&mut tab, "level", "audit");
    shown(&mut tab, "room.temperature");
    choose(&mut tab, "level", "");
    choose(&mut tab, "kind", "counter");
    shown(&mut tab, "http.requests,net.sent.bytes");
    choose(&mut tab, "source", "WEB-1*");
    shown(&mut tab, "http.requests");
    let address = tab.evaluate("location.search");
    assert_eq!(address, "?kind=counter&source=WEB-1*");
    // Only what fits is added up: web-1, web-10 and web-11.
    charts_drawn(&mut tab, 1);
    tab.until(
        "rate of three sources",
        "document.querySelector('.card .readings').textContent.includes('highest322/s')",
    );
    tab.go(&site.url("/?kind=counter&source=WEB-1*"));
    shown(&mut tab, "http.requests");
    assert_eq!(tab.evaluate("document.querySelector('[name=source]').value"), "WEB-1*");
    choose(&mut tab, "source", "nobody");
    tab.until(
        "word that nothing fits",
        "document.querySelector('.empty')?.textContent.includes('No metric fits')",
    );
    site.assert_calm(&mut tab);
}

#[test]
fn a_drag_zooms_and_undo_buttons_and_history_lead_back() {
    let site = Site::with_metrics();
    let mut browser = Chromium::start();
    let mut tab = browser.tab(WIDE.0, WIDE.1, "light");
    tab.go(&site.url("/?q=room"));
    charts_drawn(&mut tab, 1);
    let (x, y) = tab.middle(".card .chart");
    tab.drag((x - 60.0, y), (x + 40.0, y));
    let range = |tab: &mut Tab<'_>| {
        let query = tab.evaluate("(() => { const q = new URLSearchParams(location.search); return [Number(q.get('start')), Number(q.get('end')), Number(q.get('last'))]; })()");
        (query[0].as_i64().unwrap(), query[1].as_i64().unwrap(), query[2].as_i64().unwrap())
    };
    let (start, end, _) = range(&mut tab);
    // 100 of some 360 pixels of 300 s.
    assert!(
        (40..150).contains(&(end - start)) && start > now_s() - 310 && end <= now_s() + 1,
        "{start} {end}"
    );
    let drawn = |tab: &mut Tab<'_>, start: i64, end: i64| {
        let chart = "document.querySelector('.card .chart').chart";
        tab.until(
            "chart of the range",
            &format!(
                "{chart}?.start <= {start} && {chart}.end >= {end} && {chart}.end - {chart}.start < {}",
                2 * (end - start)
            ),
        );
    };
    drawn(&mut tab, start, end);
    let text = tab.text("#range-text");
    assert!(text.contains(" to "), "{text}");
    // Undo, again, and back through the history.
    tab.click("[data-move=back]");
    tab.until("range of 5 minutes", "document.querySelector('[name=last]:checked')?.value === '300'");
    tab.evaluate("history.back()");
    tab.until("zoomed range", &format!("location.search.includes('start={start}')"));
    // The same without a mouse.
    tab.click("[data-move=in]");
    let (closer_start, closer_end, _) = range(&mut tab);
    assert!(closer_end - closer_start <= (end - start) / 2 + 2, "{closer_start} {closer_end}");
    tab.click("[data-move=earlier]");
    let (earlier, ..) = range(&mut tab);
    assert!(earlier < closer_start, "{earlier} {closer_start}");
    tab.click("[data-move=out]");
    let (wider_start, wider_end, _) = range(&mut tab);
    assert!(wider_end - wider_start >= 2 * (closer_end - closer_start) - 2, "{wider_start} {wider_end}");
    drawn(&mut tab, wider_start, wider_end);
    // All ranges from minutes to a month, and an hour at last.
    let chart = "document.querySelector('.card .chart').chart";
    for seconds in [900, 21_600, 86_400, 604_800, 2_592_000, 3_600] {
        tab.click(&format!("[name=last][value='{seconds}'] + span"));
        tab.until("range in the address", &format!("location.search === '?q=room&last={seconds}'"));
        // Whole steps: some more than was asked for.
        let length = format!("({chart}.end - {chart}.start)");
        tab.until(
            format!("chart of {seconds} s"),
            &format!("{length} >= {seconds} && {length} <= {}", seconds + seconds / 10),
        );
    }
    // What leads to another view keeps the range.
    let links = tab.evaluate("['.card a', 'nav [data-view=overview]'].map((link) => new URL(document.querySelector(link).href).search)");
    assert_eq!(
        links,
        json!(["?metric=room.temperature&q=room&last=3600", "?view=overview&q=room&last=3600"])
    );
    site.assert_calm(&mut tab);
}

#[test]
fn a_finger_zooms_too() {
    let site = Site::with_metrics();
    let mut browser = Chromium::start();
    let mut tab = browser.tab(360, 740, "light");
    tab.go(&site.url("/?q=room"));
    charts_drawn(&mut tab, 1);
    let (x, y) = tab.middle(".card .chart");
    tab.swipe((x - 50.0, y), (x + 50.0, y));
    tab.until("zoomed range", "location.search.includes('start=')");
    site.assert_calm(&mut tab);
}

#[test]
fn a_metric_shows_quantiles_latency_moments_sources_and_numbers() {
    let site = Site::with_metrics();
    let mut browser = Chromium::start();
    let mut tab = browser.tab(WIDE.0, WIDE.1, "light");
    tab.go(&site.url("/"));
    charts_drawn(&mut tab, 4);
    tab.click("a[href*='db.query.duration']");
    tab.until("heading", "document.querySelector('#metric-title')?.textContent === 'db.query.duration'");
    tab.until("both charts", "document.querySelectorAll('#metric .chart svg').length >= 2");
    assert_eq!(tab.evaluate("document.title"), "db.query.duration · Zibrato");
    // A click picks a moment, arrow keys move it.
    let (x, y) = tab.middle("#metric .big");
    tab.drag((x, y), (x, y));
    let moment =
        tab.until("moment", "Number(new URLSearchParams(location.search).get('at'))").as_i64().unwrap();
    assert!((now_s() - 300..now_s()).contains(&moment), "{moment}");
    tab.until("histogram", "document.querySelector('.small svg rect')");
    tab.until("its count", "document.querySelector('#metric').textContent.includes('100 records in 1 s')");
    tab.evaluate("document.querySelector('.moment input').focus()");
    tab.press(Key::ArrowLeft);
    tab.until("moment before", &format!("location.search.includes('at={}')", moment - 1));
    tab.until("two lines at the moment", "document.querySelectorAll('#metric .cursor').length === 2");
    let found =
        site.get(&format!("/page/histogram?metric=db.query.duration&start={}&end={moment}", moment - 1));
    assert_eq!(
        (found["count"].as_f64(), found["buckets"].as_array().unwrap().len()),
        (Some(100.0), 10),
        "{found}"
    );
    // A reload shows the same.
    tab.evaluate("location.reload()");
    tab.until("moment after the reload", "document.querySelectorAll('#metric .cursor').length === 2");
    tab.until("downloads", "document.querySelectorAll('#metric a[download][href]').length === 2");
    let downloads = tab.evaluate("[...document.querySelectorAll('#metric a[download]')].map((a) => new URL(a.href).pathname + new URL(a.href).search)");
    let csv = downloads[0].as_str().unwrap();
    let (status, body) = zibrato_e2e::get(&site.local.addr, csv);
    assert!(status == 200 && body.starts_with("time,utc,source,count"), "{csv}: {body}");
    assert!(body.lines().count() > 250, "{body}");
    // More rows, and still not all that there may be.
    tab.until("few rows", "document.querySelectorAll('#metric tbody tr').length === 100");
    tab.evaluate(
        "[...document.querySelectorAll('#metric button')].find((b) => b.textContent === 'More rows').click()",
    );
    tab.until("more rows", "document.querySelectorAll('#metric tbody tr').length > 250");
    // Back to all metrics.
    tab.click(".title .button");
    tab.until("all cards", &format!("({NAMES}).length === 4"));
    site.assert_calm(&mut tab);
}

#[test]
fn sources_are_broken_out_and_the_highest_are_drawn_if_there_are_many() {
    let site = Site::with_metrics();
    let mut browser = Chromium::start();
    let mut tab = browser.tab(WIDE.0, WIDE.1, "dark");
    tab.go(&site.url("/?metric=http.requests"));
    tab.until("chart", "document.querySelector('#metric .big svg')");
    tab.until(
        "reading of all sources",
        "document.querySelector('#metric .wide-readings')?.textContent.includes('max 1.27k/s')",
    );
    tab.evaluate(
        "[...document.querySelectorAll('#metric button')].find((b) => b.textContent === 'By source').click()",
    );
    tab.until("eight lines", "document.querySelectorAll('#metric .wide-readings dt').length === 8");
    let page = tab.text("#metric");
    assert!(page.contains("8 of 12 sources are drawn") && page.contains("max 111/s"), "{page}");
    tab.until("rows by source", "document.querySelector('#metric thead').textContent.includes('Source')");
    choose(&mut tab, "source", "web-0");
    tab.until("one line", "document.querySelectorAll('#metric .wide-readings dt').length === 1");
    site.assert_calm(&mut tab);
}

#[test]
fn what_others_wrote_is_shown_as_text() {
    const EVIL: &str = "<img src=x onerror=\"window.pwned=1\"><script>window.pwned=1</script>";
    let site = Site::with_metrics();
    let body = json!({
        "title": EVIL, "description": EVIL, "start_time": now_s() - 60,
        "links": [{ "rel": "a", "href": "https://example.org/?a=<b>", "label": EVIL }],
    });
    let (status, answer) = send(&site.local.addr, "/v1/annotations/deploys", &body);
    assert_eq!(status, 201, "{answer}");
    let mut browser = Chromium::start();
    let mut tab = browser.tab(WIDE.0, WIDE.1, "light");
    tab.go(&site.url("/?metric=room.temperature"));
    tab.until("annotation", "document.querySelector('#metric .marks li')");
    let marks = tab.text("#metric .marks");
    assert!(marks.contains(EVIL), "{marks}");
    assert_eq!(tab.evaluate("document.querySelectorAll('#metric img, #metric script').length"), 0);
    let link = tab.evaluate(
        "(() => { const a = document.querySelector('.marks a'); return [a.href, a.rel, a.textContent]; })()",
    );
    assert_eq!(link, json!(["https://example.org/?a=%3Cb%3E", "noreferrer noopener", EVIL]));
    tab.until("flag on the chart", "[...document.querySelectorAll('#metric .big svg text')].some((text) => text.textContent.trim() === '1')");
    tab.go(&site.url("/?metric=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E&q=%22%3E%3Cscript%3E"));
    tab.until("word that there is no such metric", "document.querySelector('#metric .empty')");
    assert_eq!(
        tab.evaluate("window.pwned === undefined && document.querySelectorAll('main img').length === 0"),
        true
    );
    site.assert_calm(&mut tab);
}

#[test]
fn what_cannot_be_shown_is_said_and_only_of_what_is_on_show() {
    let site = Site::with_metrics();
    let mut browser = Chromium::start();
    let mut tab = browser.tab(WIDE.0, WIDE.1, "light");
    tab.go(&site.url("/?metric=room.temperature"));
    tab.until("rows", "document.querySelector('#metric tbody tr')");
    // From now on the server answers no charts, and the list of metrics late and not at all.
    tab.evaluate(
        "(() => { const real = window.fetch; window.fails = [];
           window.fetch = (path, ...rest) => {
             if (window.isWell) return real(path, ...rest);
             if (path.startsWith('/page/chart.svg')) return Promise.resolve(new Response('no pictures today', { status: 503 }));
             if (path.startsWith('/page/metrics')) return new Promise((_, fail) => window.fails.push(fail));
             return real(path, ...rest);
           }; })()",
    );
    tab.click("[name=last][value='3600'] + span");
    tab.until(
        "word of it",
        "document.querySelector('#metric').textContent.includes('This cannot be shown: no pictures today.')",
    );
    tab.until(
        "faded chart",
        "document.querySelector('#metric .big.before')?.title.includes('no pictures today')",
    );
    tab.evaluate("window.isWell = true");
    tab.click("[name=last][value='900'] + span");
    tab.until("chart again", "document.querySelector('#metric .big:not(.before)')");
    tab.until("no complaint", "!document.querySelector('#metric').textContent.includes('cannot be shown')");
    // What fails of a view that was left is not said of the one that is shown.
    tab.evaluate("window.isWell = false");
    tab.click(".title .button");
    tab.until("question for the list", "window.fails.length > 0");
    tab.click("nav [data-view=overview]");
    tab.until("overview", "document.querySelector('#overview .tile')");
    let hidden = tab.evaluate("(async () => { window.fails.forEach((fail) => fail(new TypeError('gone'))); await new Promise((next) => setTimeout(next)); return document.getElementById('problem').hidden; })()");
    assert_eq!(hidden, true);
    site.assert_calm(&mut tab);
}

#[test]
fn charts_that_are_gone_are_not_held() {
    let site = Site::with_metrics();
    let mut browser = Chromium::start();
    let mut tab = browser.tab(WIDE.0, WIDE.1, "light");
    tab.go(&site.url("/"));
    charts_drawn(&mut tab, 4);
    let look_at_four = |tab: &mut Tab<'_>| {
        for name in ["db.query.duration", "http.requests", "db.query.duration", "room.temperature"] {
            tab.evaluate(&format!("document.querySelector(\".card a[href*='{name}']\").click()"));
            tab.until("detail", &format!("document.querySelector('#metric-title')?.textContent === '{name}' && document.querySelector('#metric tbody tr')"));
            tab.evaluate("document.querySelector('.title .button').click()");
            tab.until("list", "!document.getElementById('metrics').hidden");
        }
    };
    // The first round builds what stays.
    look_at_four(&mut tab);
    let (nodes, listeners) = tab.held();
    look_at_four(&mut tab);
    look_at_four(&mut tab);
    // An answer that was on its way when its view was left holds that view until it is there.
    until("release of the views that were left", || {
        let (nodes_later, listeners_later) = tab.held();
        (nodes_later < nodes + 300 && listeners_later <= listeners + 2).then_some(())
    });
    site.assert_calm(&mut tab);
}

#[test]
fn losses_are_told_in_their_units_and_a_broken_law_with_what_is_missing() {
    let site = Site::start();
    let mut told = site.get("/page/overview");
    let lost = [("gaps_lost".to_owned(), 4), ("joined_late".to_owned(), 1)].into();
    let worker = Report::Worker(WorkerReport { lost, ..WorkerReport::default() });
    told["services"] = json!([{ "address": "127.0.0.1:1", "age_ms": 1, "report": worker, "error": null }]);
    told["losses"] = json!([
        { "stage": "worker", "reason": "gaps_lost", "amount": 4, "unit": "frames" },
        { "stage": "worker", "reason": "joined_late", "amount": 1, "unit": "series" },
    ]);
    let gone = PublisherReport {
        id: "c0ffee00".to_owned(),
        program: "loop".to_owned(),
        silent_ms: 240_000,
        age_ms: 242_000,
        vanished: true,
        ..PublisherReport::default()
    };
    let mut gone = json!(gone);
    (gone["is_silent"], gone["ran_ms"]) = (true.into(), 2_000.into());
    told["publishers"] = json!([gone]);
    (told["publishers_total"], told["summary"]["publishers_total"]) = (1.into(), 1.into());
    told["summary"]["publishers_vanished"] = 1.into();
    told["local"]["kind_clashes"] = json!([{ "metric": "a", "is": "counter", "sent": "timer" }]);
    let mut broken = told["stages"][0].clone();
    broken["adds_up"] = false.into();
    (broken["service"], broken["stage"], broken["unit"]) =
        ("worker".into(), "ledger".into(), "gauge sets".into());
    for (key, amount) in [("offered", 9), ("accepted", 9), ("delivered", 6), ("held", 1)] {
        broken[key] = amount.into();
    }
    told["stages"].as_array_mut().unwrap().push(broken);

    let mut browser = Chromium::start();
    let mut tab = browser.tab(WIDE.0, WIDE.1, "light");
    tab.go(&site.url("/"));
    tab.until("live state", "document.getElementById('link').dataset.state === 'live'");
    tab.evaluate(&format!(
        "(() => {{ const real = window.fetch, told = {};
           window.fetch = (path, ...rest) => path === '/page/overview' ? Promise.resolve(new Response(told)) : real(path, ...rest); }})()",
        Value::from(told.to_string())
    ));
    tab.click("nav [data-view=overview]");
    tab.until("overview", "document.querySelector('#overview .tile')");
    let tiles = tab.evaluate("Object.fromEntries([...document.querySelectorAll('#overview .tile')].map((tile) => [tile.querySelector('h2').textContent, [...tile.querySelectorAll('p')].map((p) => p.textContent).concat(tile.dataset.state)]))");
    assert_eq!(
        tiles["Loss"],
        json!(["2 kinds", "worker: 4 frames, gaps lost; worker: 1 series, joined late", "bad"])
    );
    assert_eq!(tiles["Law"], json!(["does not add up", "worker, ledger, gauge sets", "bad"]));
    let mut rows = |title: &str| {
        tab.evaluate(&format!(
            "[...document.querySelectorAll('#overview [aria-label=\"Table: {title}\"] tbody tr')].map((row) => [...row.cells].map((cell) => cell.textContent))"
        ))
    };
    assert_eq!(
        rows("Lost"),
        json!([["worker", "gaps lost", "4", "frames"], ["worker", "joined late", "1", "series"]])
    );
    // A program that was killed lost nothing that it had sent, and ran until its last frame.
    assert_eq!(tiles["Publishers"][1], json!("1 known, 1 vanished"));
    let publisher = &rows("Publishers")[0];
    assert_eq!((&publisher[0], &publisher[7]), (&json!("vanished"), &json!("2 s")), "{publisher}");
    assert_eq!(rows("Names of two kinds"), json!([["a", "counter", "timer"]]));
    // Frames and series are not added up.
    assert_eq!(rows("Workers")[0][8], "gaps lost 4, joined late 1");
    assert_eq!(
        rows("Accounts")[1],
        json!(["worker, ledger", "gauge sets", "off by 2", "9", "9", "0", "0", "6", "1", "0"])
    );
    site.assert_calm(&mut tab);
}
