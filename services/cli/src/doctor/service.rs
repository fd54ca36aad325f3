//! What is looked at in every service.

use std::net::SocketAddr;

use zibrato_service::{Process, Report};

use super::facts::accounts;
use super::finding::Findings;
use crate::human::{age, plural};

/// By how much the clock of a service may be off before it is worth a word, in milliseconds.
pub(super) const SKEW_MS_MAX: u64 = 2_000;

/// Whether a service is well in its own eyes, and of our version.
pub(super) fn status(addr: SocketAddr, process: &Process, findings: &mut Findings) {
    let up = age(process.uptime_s.saturating_mul(1_000));
    let text = format!("{addr}: version {}, pid {}, up for {up}", process.version, process.pid);
    match &process.degraded {
        Some(reason) => {
            findings.warn("status", format!("{text}; needs care: {reason}"), "see the lines below")
        }
        None => findings.ok("status", text),
    }
    if process.version != env!("CARGO_PKG_VERSION") {
        findings.warn(
            "version",
            format!("it is {}, and this command is {}", process.version, env!("CARGO_PKG_VERSION")),
            "bring both to the same version, the services first",
        );
    }
}

/// Whether the clocks of a service and of this command agree.
pub(super) fn clock(skew_ms: i64, findings: &mut Findings) {
    let text = format!(
        "{} ms {}",
        skew_ms.unsigned_abs(),
        if skew_ms < 0 { "behind ours" } else { "ahead of ours" }
    );
    if skew_ms.unsigned_abs() > SKEW_MS_MAX {
        findings.warn("clock", text, "set the clocks of both machines by NTP: points get wrong times");
    } else {
        findings.ok("clock", text);
    }
}

/// Whether every account adds up.
pub(super) fn law(report: &Report, findings: &mut Findings) {
    let accounts = accounts(report);
    let broken: Vec<_> = accounts
        .iter()
        .filter(|account| !account.adds_up())
        .map(|account| {
            let refused: f64 = account.refused.values().sum();
            let dropped: f64 = account.dropped.values().sum();
            format!(
                "{} {}: offered {}, accepted {}, merged {}, refused {refused}, delivered {}, held {}, dropped {dropped}",
                account.stage, account.unit, account.offered, account.accepted, account.merged, account.delivered, account.held
            )
        })
        .collect();
    if broken.is_empty() {
        return findings.ok("law", format!("the numbers of {} add up", plural(accounts.len(), "account")));
    }
    findings.fail(
        "law",
        format!("does not add up: {}", broken.join("; ")),
        "this is a fault in zibrato: keep the log and report it with this line",
    );
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn a_clock_may_be_off_by_two_seconds_in_either_direction() {
        let state = |skew_ms| {
            let mut findings = Findings::default();
            clock(skew_ms, &mut findings);
            findings.list()[0].state
        };
        assert_eq!(
            [2_000, -2_000, 2_001, -2_001, i64::MIN].map(state),
            [State::Ok, State::Ok, State::Warn, State::Warn, State::Warn]
        );
    }
}
