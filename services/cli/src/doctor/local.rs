//! zibrato-local: whether it answers, what it refused, and how its database is.

use zibrato_service::{LocalReport, Report};
use zibrato_worker::clock::WallClock;

use super::facts::{Asked, Facts};
use super::finding::Findings;
use super::service::{clock, law, status};
use crate::human::{age, bytes};

/// Room on the disk below which it is worth a word, and below which points are about to
/// be refused, in bytes.
const DISK_FREE_BYTES_WARN: u64 = 1 << 30;
const DISK_FREE_BYTES_FAIL: u64 = 64 << 20;

/// Looks at zibrato-local.
pub(super) fn examine(facts: &Facts, findings: &mut Findings) {
    findings.about("local");
    let Some(asked) = &facts.local else { return findings.ok("status", "not asked (--local none)") };
    let is_used = workers_post_to(facts, asked);
    let answer = match &asked.answer {
        Ok(answer) => answer,
        Err(error) if error.wants_token => {
            return findings.warn(
                "status",
                format!("{} wants a token, or another one, so doctor cannot look inside", asked.addr),
                "give the file that holds its token with --token-file",
            );
        }
        Err(error) => return unreachable(&error.text, asked.is_given, is_used, findings),
    };
    let Report::Local(report) = &answer.report else {
        return findings.fail(
            "status",
            format!("{} is another service, not zibrato-local", asked.addr),
            "give the address of zibrato-local in --local, or none",
        );
    };
    status(asked.addr, &report.process, findings);
    clock(answer.skew_ms, findings);
    law(&answer.report, findings);
    refusals(report, findings);
    database(report, findings);
}

/// Whether a worker that answered posts there; `None` if none answered.
fn workers_post_to(facts: &Facts, asked: &Asked) -> Option<bool> {
    let targets = facts.workers.iter().filter_map(|worker| match &worker.answer.as_ref().ok()?.report {
        Report::Worker(report) => Some(report.target.as_str()),
        _ => None,
    });
    let hosts = [asked.addr.to_string(), format!("localhost:{}", asked.addr.port())];
    let posts_there = |target: &str| hosts.iter().any(|host| target.contains(&format!("//{host}/")));
    targets.map(posts_there).reduce(|one, other| one || other)
}

fn unreachable(error: &str, is_given: bool, is_used: Option<bool>, findings: &mut Findings) {
    const ADVICE: &str = "start zibrato-local, or give its address in --local; none if you do not use it";
    match is_used {
        Some(true) => findings.fail("status", format!("{error}; a worker posts there"), ADVICE),
        _ if is_given => findings.fail("status", error, ADVICE),
        Some(false) => findings.ok("status", format!("not running, and no worker posts there ({error})")),
        None => findings.warn("status", error, ADVICE),
    }
}

fn refusals(report: &LocalReport, findings: &mut Findings) {
    // A batch that came twice is refused once and lost never.
    let refused =
        report.account.refused.iter().filter(|(reason, count)| **count > 0.0 && *reason != "duplicate_batch");
    let refused: Vec<_> = refused.map(|(reason, count)| format!("{reason} {count}")).collect();
    if refused.is_empty() {
        findings.ok("refusals", format!("none of {} points", report.account.offered));
    } else {
        findings.warn(
            "refusals",
            format!("points refused: {}", refused.join(", ")),
            "whoever posted them was told why; a worker logs it",
        );
    }
}

fn database(report: &LocalReport, findings: &mut Findings) {
    let newest = match report.newest_s.and_then(|newest_s| u64::try_from(newest_s).ok()) {
        None => "it is empty".to_owned(),
        Some(newest_s) => {
            let now_s = WallClock::system().now_ms() / 1_000;
            format!("the newest point is {} old", age(now_s.saturating_sub(newest_s) * 1_000))
        }
    };
    findings.ok("database", format!("{} metrics in {}, {newest}", report.metrics, bytes(report.db_bytes)));
    let Some(free_bytes) = report.disk_free_bytes else { return };
    let text = format!("{} free for the database", bytes(free_bytes));
    if free_bytes < DISK_FREE_BYTES_FAIL {
        findings.fail(
            "disk",
            text,
            "free some now, or points cannot be stored; workers keep their batches meanwhile",
        );
    } else if free_bytes < DISK_FREE_BYTES_WARN {
        findings.warn("disk", text, "free some, or keep less with --keep-raw of zibrato-local");
    } else {
        findings.ok("disk", text);
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn whoever_does_not_answer_fails_if_somebody_counts_on_it() {
        let state = |is_given, is_used| {
            let mut findings = Findings::default();
            unreachable("refused", is_given, is_used, &mut findings);
            findings.list()[0].state
        };
        let used = [Some(true), Some(false), None];
        assert_eq!(used.map(|used| state(true, used)), [State::Fail; 3]);
        assert_eq!(used.map(|used| state(false, used)), [State::Fail, State::Ok, State::Warn]);
    }

    #[test]
    fn little_room_on_the_disk_is_a_warning_and_next_to_none_a_failure() {
        let state = |disk_free_bytes| {
            let mut findings = Findings::default();
            database(&LocalReport { disk_free_bytes, ..LocalReport::default() }, &mut findings);
            findings.list().iter().find(|finding| finding.check == "disk").map(|finding| finding.state)
        };
        assert_eq!(state(None), None);
        assert_eq!(state(Some(DISK_FREE_BYTES_WARN)), Some(State::Ok));
        assert_eq!(state(Some(DISK_FREE_BYTES_WARN - 1)), Some(State::Warn));
        assert_eq!(state(Some(DISK_FREE_BYTES_FAIL - 1)), Some(State::Fail));
    }
}
