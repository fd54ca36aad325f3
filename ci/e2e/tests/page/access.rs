//! The page without a mouse and without eyes.

use std::fs;

use serde_json::Value;
use zibrato_e2e::{Chromium, Key, Tab};

use crate::support::{Site, WIDE, charts_drawn};

/// The most keys to get anywhere.
const PRESSES_MAX: usize = 60;

/// axe-core, which ci/page fetches.
fn axe() -> String {
    let path = std::env::var("AXE").expect("AXE must name axe.min.js: run ci/page");
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {path}: {error}"))
}

#[test]
fn axe_finds_nothing_serious_in_any_view_and_colour() {
    let axe = axe();
    let site = Site::with_metrics();
    let mut browser = Chromium::start();
    for colours in ["light", "dark"] {
        for width in [360, 1_280] {
            let mut tab = browser.tab(width, 900, colours);
            for (path, is_complete) in [
                ("/", "document.querySelectorAll('.card .chart svg').length >= 1"),
                ("/?q=nothing.is.named.so", "document.querySelector('.empty')"),
                ("/?metric=db.query.duration", "document.querySelector('#metric tbody tr')"),
                ("/?metric=http.requests&by=source", "document.querySelector('#metric tbody tr')"),
                ("/?view=overview", "document.querySelector('#overview .tile')"),
            ] {
                tab.go(&site.url(path));
                tab.until(format!("complete {path}"), &format!("!!({is_complete})"));
                tab.evaluate(&axe);
                let found = tab.evaluate("axe.run(document, { resultTypes: ['violations', 'incomplete'] }).then(({ violations, passes }) => ({ passes: passes.length, violations }))");
                assert!(found["passes"].as_u64().unwrap() > 10, "axe did not run: {found}");
                let serious: Vec<&Value> = found["violations"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter(|violation| matches!(violation["impact"].as_str(), Some("serious" | "critical")))
                    .collect();
                assert!(serious.is_empty(), "{path} {colours} {width}: {serious:#?}");
                for minor in found["violations"].as_array().unwrap() {
                    println!("{path} {colours} {width}: {} ({})", minor["id"], minor["impact"]);
                }
            }
            site.assert_calm(&mut tab);
        }
    }
}

/// Presses Tab until the element that fits a selector has the focus; each one on the way must show it.
fn tab_to(tab: &mut Tab<'_>, selector: &str) {
    for _ in 0..PRESSES_MAX {
        tab.press(Key::Tab);
        let script = format!(
            "(() => {{ const e = document.activeElement; const shown = e.matches('.ranges input') ? e.nextElementSibling : e;
               const style = getComputedStyle(shown);
               return [e.matches({}), style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 1, e.outerHTML.slice(0, 120)]; }})()",
            Value::from(selector)
        );
        let found = tab.evaluate(&script);
        assert_eq!(found[1], true, "the focus does not show on {}", found[2]);
        if found[0] == true {
            return;
        }
    }
    panic!("{selector} is not reached with {PRESSES_MAX} presses of Tab");
}

#[test]
fn everything_is_done_with_the_keyboard_alone() {
    let site = Site::with_metrics();
    let mut browser = Chromium::start();
    let mut tab = browser.tab(WIDE.0, WIDE.1, "light");
    tab.go(&site.url("/"));
    charts_drawn(&mut tab, 4);
    // The first stop leads past everything.
    tab.press(Key::Tab);
    assert_eq!(tab.evaluate("document.activeElement.className"), "skip");
    tab.press(Key::Enter);
    tab.until("focus in the content", "document.activeElement.id === 'main'");
    tab.press(Key::Tab);
    assert_eq!(tab.evaluate("document.activeElement.closest('.card') !== null"), true);
    // Ranges move with the arrows, as radio buttons do.
    tab.go(&site.url("/"));
    charts_drawn(&mut tab, 4);
    tab_to(&mut tab, "[name=last]");
    tab.press(Key::ArrowRight);
    tab.until("15 minutes", "location.search === '?last=900'");
    tab_to(&mut tab, "[data-move=in]");
    tab.press(Key::Space);
    tab.until("zoomed range", "location.search.includes('start=')");
    tab_to(&mut tab, "[data-move=back]");
    tab.press(Key::Enter);
    tab.until("15 minutes again", "location.search === '?last=900'");
    // Search, then on to the metric that is left.
    tab_to(&mut tab, "[name=q]");
    tab.type_text("db.");
    tab.until("one card", "document.querySelectorAll('.card').length === 1");
    tab_to(&mut tab, ".card a");
    tab.press(Key::Enter);
    tab.until(
        "detail",
        "document.querySelector('#metric .moment input') && document.querySelector('#metric .big svg')",
    );
    tab_to(&mut tab, ".moment input");
    tab.press(Key::ArrowLeft);
    tab.until(
        "histogram of a moment",
        "location.search.includes('at=') && document.querySelector('.small svg rect')",
    );
    let said = tab.evaluate("document.querySelector('.moment input').getAttribute('aria-valuetext')");
    assert!(said.as_str().unwrap().contains(':'), "{said}");
    tab_to(&mut tab, ".scroll");
    tab.press(Key::ArrowDown);
    tab.evaluate("history.back()");
    tab.until("list again", "!document.getElementById('metrics').hidden");
    site.assert_calm(&mut tab);
}

#[test]
fn every_chart_has_a_name_and_says_what_it_shows() {
    let site = Site::with_metrics();
    let mut browser = Chromium::start();
    let mut tab = browser.tab(WIDE.0, WIDE.1, "light");
    tab.go(&site.url("/"));
    charts_drawn(&mut tab, 4);
    let charts = tab.evaluate(
        "[...document.querySelectorAll('.card svg')].map((svg) => [svg.getAttribute('role'), svg.getAttribute('aria-label'), svg.querySelector('desc').textContent])",
    );
    for chart in charts.as_array().unwrap() {
        let (name, summary) = (chart[1].as_str().unwrap(), chart[2].as_str().unwrap());
        assert!(chart[0] == "img" && !name.is_empty(), "{chart}");
        assert!(
            summary.contains("latest") && summary.contains("lowest") && summary.contains("highest"),
            "{chart}"
        );
    }
    let live =
        tab.evaluate("['link', 'count'].map((id) => document.getElementById(id).getAttribute('role'))");
    assert_eq!(live, serde_json::json!(["status", "status"]));
}
