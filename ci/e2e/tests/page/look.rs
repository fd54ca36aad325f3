//! How the page looks: sizes, colours, screenshots.

use zibrato_e2e::{Chromium, Tab};

use crate::support::{Site, charts_drawn, shot};

/// The views, with what tells that they are complete.
const VIEWS: [(&str, &str, &str); 3] = [
    ("grid", "/", "document.querySelectorAll('.card .chart svg').length >= 1"),
    (
        "detail",
        "/?metric=db.query.duration",
        "document.querySelectorAll('#metric .chart svg').length >= 2 && document.querySelector('#metric tbody tr')",
    ),
    ("overview", "/?view=overview", "document.querySelector('#overview .tile')"),
];

fn assert_fits(tab: &mut Tab<'_>, what: &str) {
    let sizes = tab.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]");
    assert_eq!(sizes[0], sizes[1], "{what} is wider than its window");
}

#[test]
fn every_view_fits_a_phone_and_a_wide_screen_in_both_colours() {
    let site = Site::with_metrics();
    let long =
        "a.metric.whose.name.says.everything:and_then.some-more.of.it.without.any.mercy.for.the.layout";
    site.post(&[crate::support::gauge(
        long,
        &"long-source".repeat(20),
        crate::support::now_s(),
        1e15,
        "info",
        "",
    )]);
    let mut browser = Chromium::start();
    for colours in ["light", "dark"] {
        for (width, height) in [(360, 740), (1_600, 1_000)] {
            let mut tab = browser.tab(width, height, colours);
            for (view, path, is_complete) in VIEWS {
                tab.go(&site.url(path));
                tab.until(format!("complete {view}"), &format!("!!({is_complete})"));
                let name = format!("{view}-{colours}-{width}");
                assert_fits(&mut tab, &name);
                if view == "grid" {
                    // Only what can be seen is drawn, and the picture is to show all of it.
                    tab.resize(width, 2_000);
                    charts_drawn(&mut tab, 5);
                }
                tab.screenshot(&shot(&name));
                tab.resize(width, height);
                let ground = tab.evaluate("getComputedStyle(document.body).backgroundColor");
                assert_eq!(
                    ground,
                    if colours == "dark" { "rgb(14, 18, 24)" } else { "rgb(244, 246, 249)" },
                    "{name}"
                );
            }
            site.assert_calm(&mut tab);
        }
    }
}

#[test]
fn the_colours_can_be_chosen_and_the_choice_stays() {
    let site = Site::with_metrics();
    let mut browser = Chromium::start();
    let mut tab = browser.tab(800, 600, "light");
    tab.go(&site.url("/?q=room"));
    charts_drawn(&mut tab, 1);
    tab.click("#theme");
    let is_dark = "getComputedStyle(document.body).backgroundColor === 'rgb(14, 18, 24)'";
    tab.until("dark page", is_dark);
    // The line of the chart is drawn again for the dark panel.
    tab.until("dark chart", "document.querySelector('.card polyline[stroke=\"#5AA2F7\"]')");
    tab.evaluate("location.reload()");
    tab.until("dark page after a reload", is_dark);
    charts_drawn(&mut tab, 1);
    // So is the histogram of a moment that stays the same.
    let at = crate::support::now_s() - 100;
    tab.go(&site.url(&format!("/?metric=db.query.duration&at={at}")));
    tab.until("dark histogram", "document.querySelector('.small svg rect[fill=\"#5AA2F7\"]')");
    tab.click("#theme");
    tab.until("light histogram", "document.querySelector('.small svg rect[fill=\"#1F6FD6\"]')");
    site.assert_calm(&mut tab);
}

#[test]
fn times_are_those_of_the_viewers_zone_and_the_zone_is_said() {
    let site = Site::with_metrics();
    let mut browser = Chromium::start();
    let mut tab = browser.tab(800, 600, "light");
    tab.go(&site.url("/?metric=room.temperature"));
    tab.until("rows", "document.querySelector('#metric tbody tr')");
    let zone = tab.text("#zone");
    assert!(zone.starts_with("America/New_York (UTC−"), "{zone}");
    let (shown, expected) = (
        tab.text("#metric tbody td"),
        tab.evaluate("new Intl.DateTimeFormat('en-GB', { timeZone: 'America/New_York', hour: '2-digit', minute: '2-digit' }).format(document.querySelector('#metric .big').chart.end * 1000).slice(0, 2)"),
    );
    assert!(shown.contains(&format!(", {}:", expected.as_str().unwrap())), "{shown} {expected}");
    // The labels of the server's picture are in the same hour.
    let labels = tab.evaluate(
        "[...document.querySelectorAll('#metric .big svg text')].map((text) => text.textContent.trim())",
    );
    let hour = format!("{}:", expected.as_str().unwrap());
    let is_there = labels.as_array().unwrap().iter().any(|label| label.as_str().unwrap().starts_with(&hour));
    assert!(is_there, "{hour} in {labels}");
    site.assert_calm(&mut tab);
}

#[test]
fn numbers_are_written_alike_by_the_page_and_by_its_charts() {
    let site = Site::start();
    let values =
        [0.0, 1e-9, 2.5e-7, 0.000_999_7, 0.001_254, 0.5, 12.0, 999.6, 1_234.0, 4_000.0, 1.5e6, -3.25, 3e18];
    let units = ["", "s", "B", "°C", "V", "requests"];
    let now = crate::support::now_s();
    let mut points = Vec::new();
    for (unit, at) in units.iter().zip(0..) {
        for (value, place) in values.iter().zip(0..) {
            points.push(crate::support::gauge(&format!("m.{at}.{place}"), "s", now, *value, "info", unit));
        }
    }
    site.post(&points);
    let mut browser = Chromium::start();
    let mut tab = browser.tab(800, 600, "light");
    tab.go(&site.url("/"));
    let script = format!(
        "(async () => {{
           const {{ quantity }} = await import('/assets/show.js');
           const wrong = [];
           for (const [at, unit] of {units:?}.entries()) for (const [place, value] of {values:?}.entries()) {{
             const answer = await fetch(`/page/chart.svg?metric=m.${{at}}.${{place}}&last=1h&caption=no`);
             const picture = new DOMParser().parseFromString(await answer.text(), 'image/svg+xml');
             const [reading] = JSON.parse(picture.querySelector('metadata').textContent).readings;
             const own = quantity(value, unit);
             if (reading.latest !== own) wrong.push([unit, value, reading.latest, own]);
           }}
           return wrong;
         }})()"
    );
    assert_eq!(tab.evaluate(&script), serde_json::json!([]));
    site.assert_calm(&mut tab);
}
