//! Findings as lines for people and as JSON for machines.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;
use zibrato_worker::clock::WallClock;

use super::finding::{Finding, Findings, State};
use crate::human::{clean, plural};
use crate::paint::{Paint, Tone};

/// The lines, service by service, and a line of totals.
pub(super) fn text(findings: &Findings, paint: Paint) -> String {
    let width = findings.list().iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    let mut text = String::new();
    let mut about = "";
    for finding in findings.list() {
        if finding.about != about {
            about = &finding.about;
            text += &format!("{}\n", paint.tone(Tone::Strong, about));
        }
        let (word, tone) = match finding.state {
            State::Ok => ("ok  ", Tone::Good),
            State::Warn => ("warn", Tone::Warning),
            State::Fail => ("FAIL", Tone::Bad),
        };
        // Writing to a string has no way to fail.
        let _ = writeln!(
            text,
            "  {}  {:width$}  {}",
            paint.tone(tone, word),
            finding.check,
            clean(&finding.text)
        );
        if let Some(advice) = &finding.advice {
            let _ =
                writeln!(text, "        {:width$}  {} {}", "", paint.tone(Tone::Strong, "->"), clean(advice));
        }
    }
    let [ok, warnings, failed] = [State::Ok, State::Warn, State::Fail].map(|state| findings.count(state));
    let _ = writeln!(text, "{failed} failed, {}, {ok} ok", plural(warnings, "warning"));
    text
}

#[derive(Serialize)]
struct Json<'a> {
    version: &'static str,
    unix_ms: u64,
    took_ms: u128,
    ok: bool,
    failed: usize,
    warnings: usize,
    findings: &'a [Finding],
}

/// One JSON object on one line.
pub(super) fn json(findings: &Findings, took: Duration) -> String {
    let failed = findings.count(State::Fail);
    let object = Json {
        version: env!("CARGO_PKG_VERSION"),
        unix_ms: WallClock::system().now_ms(),
        took_ms: took.as_millis(),
        ok: failed == 0,
        failed,
        warnings: findings.count(State::Warn),
        findings: findings.list(),
    };
    // Texts and numbers have no way to fail.
    serde_json::to_string(&object).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings() -> Findings {
        let mut findings = Findings::default();
        findings.about("broker");
        findings.ok("ports", "both answer");
        findings.warn("losses", "3 refused \x1b[2J", "look there");
        findings.about("local");
        findings.fail("status", "no answer", "start it");
        findings
    }

    #[test]
    fn each_finding_is_a_line_below_its_service_and_advice_is_another() {
        let text = text(&findings(), Paint::PLAIN);
        let expected = "broker\n  ok    ports   both answer\n  warn  losses  3 refused ?[2J\n                -> look there\n\
                        local\n  FAIL  status  no answer\n                -> start it\n1 failed, 1 warning, 1 ok\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn the_json_has_the_documented_shape() {
        let text = json(&findings(), Duration::from_millis(7));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (value["ok"].as_bool(), value["failed"].as_u64(), value["took_ms"].as_u64()),
            (Some(false), Some(1), Some(7))
        );
        let finding = &value["findings"][0];
        assert_eq!((finding["about"].as_str(), finding["check"].as_str()), (Some("broker"), Some("ports")));
        assert_eq!((finding["state"].as_str(), finding["advice"].is_null()), (Some("ok"), true));
        assert_eq!(value["findings"][2]["state"], "fail");
        assert_eq!(text.lines().count(), 1);
    }
}
