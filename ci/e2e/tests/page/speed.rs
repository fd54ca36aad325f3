//! A thousand metrics, and still at once.

use std::time::{Duration, Instant};

use zibrato_e2e::{Chromium, Tab, until_within};

use crate::support::{NAMES, Site, WIDE, gauge, now_s, timer};

const METRICS: usize = 1_000;
/// How soon the page must paint.
const PAINT_MS_MAX: f64 = 1_000.0;
/// The most charts that one look at the first screen may ask for.
const FIRST_CHARTS_MAX: usize = 24;

fn charts(tab: &mut Tab<'_>) -> usize {
    tab.requests().iter().filter(|url| url.contains("chart.svg")).count()
}

#[test]
fn a_thousand_metrics_paint_within_a_second_and_only_what_is_seen_is_asked_for() {
    let site = Site::start();
    let now = now_s();
    for t in now - 30..now {
        let some = (0..METRICS).map(|at| match at % 4 {
            0 => timer(&format!("many.{at:04}"), "s", t, -200 + at as i64 % 60),
            _ => gauge(&format!("many.{at:04}"), "s", t, (at as f64 + t as f64).sin(), "info", ""),
        });
        site.post(&some.collect::<Vec<_>>());
    }
    let mut browser = Chromium::start();
    // The first visit starts processes of the browser, which is not the page's doing.
    browser.tab(WIDE.0, WIDE.1, "light").go(&site.url("/assets/icon.svg"));
    let mut tab = browser.tab(WIDE.0, WIDE.1, "light");
    tab.evaluate("0");
    let started = Instant::now();
    tab.go(&site.url("/"));
    tab.until("cards in the window", "document.querySelectorAll('.card .chart svg').length >= 9");
    let drawn = started.elapsed();
    let paints = tab.evaluate("Object.fromEntries(performance.getEntriesByType('paint').map(({ name, startTime }) => [name, startTime]))");
    let first = paints["first-contentful-paint"].as_f64().unwrap();
    let bytes = tab.evaluate("performance.getEntriesByType('resource').filter(({ name }) => name.includes('/assets/')).reduce((sum, { transferSize }) => sum + transferSize, 0)");
    println!(
        "first contentful paint {first:.0} ms, nine charts after {drawn:?}, {bytes} bytes of assets on the wire"
    );
    assert!(first <= PAINT_MS_MAX, "{first} ms");
    assert!(charts(&mut tab) <= FIRST_CHARTS_MAX, "{}", charts(&mut tab));
    assert_eq!(tab.text("#count"), METRICS.to_string().replace("1000", "1,000"));

    // Scrolling brings all of them, and draws only what is passed slowly enough to be seen.
    let listed = format!("({NAMES}).length");
    until_within(Duration::from_secs(60), "all metrics in the list", || {
        tab.evaluate("scrollTo(0, document.body.scrollHeight)");
        (tab.evaluate(&listed) == METRICS).then_some(())
    });
    let asked = charts(&mut tab);
    assert!(asked < METRICS / 2, "{asked} charts for a scroll to the end");
    tab.until("last chart", "scrollTo(0, document.body.scrollHeight), document.querySelector('.card:last-child .chart svg') !== null");
    // One metric more comes to the end of the list and leaves the others where they are.
    tab.evaluate("window.first = document.querySelector('.card'), window.cards = [], new MutationObserver(() => window.cards.push(document.querySelectorAll('.card').length)).observe(document.querySelector('.cards'), { childList: true })");
    site.post(&[gauge("many.9999", "s", now_s(), 1.0, "info", "")]);
    tab.until("one card more", "document.querySelectorAll('.card').length === 1001");
    let found = tab.evaluate("[document.querySelector('.card') === window.first, Math.min(...window.cards)]");
    assert_eq!(found, serde_json::json!([true, METRICS + 1]));
    tab.until("its chart", "scrollTo(0, document.body.scrollHeight), document.querySelector('.card:last-child .chart svg') !== null");
    // A change of all metrics draws again what is seen, and no more.
    let before = charts(&mut tab);
    let all: Vec<_> = (0..METRICS)
        .chain([9_999])
        .map(|at| gauge(&format!("many.{at:04}"), "s", now_s(), 5.0, "info", ""))
        .collect();
    site.post(&all);
    tab.until(
        "new value in the last card",
        "document.querySelector('.card:last-child .readings dd').textContent === '5'",
    );
    let again = charts(&mut tab) - before;
    assert!(again <= 8 * FIRST_CHARTS_MAX, "{again}");
    // The page answers while it draws: a frame is never long in coming.
    let longest = tab.evaluate(
        "new Promise((done) => { let last = performance.now(), longest = 0, frames = 0;
         const frame = (now) => { longest = Math.max(longest, now - last); last = now;
           if (++frames === 120) done(longest); else { scrollBy(0, -40); requestAnimationFrame(frame); } };
         requestAnimationFrame(frame); })",
    );
    println!("longest frame while scrolling through {METRICS} cards: {longest} ms");
    site.assert_calm(&mut tab);
}
