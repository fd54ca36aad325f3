//! The broker: its ports, whether it forwards, and what it says of itself.

use std::collections::BTreeSet;

use zibrato_service::{BrokerReport, Report};

use super::facts::{Answer, Asked, Facts, Ports, accounts};
use super::finding::Findings;
use super::probe::{self, Outcome};
use super::zmtp::Peer;
use crate::human::{bytes, duration, plural};

/// The level of the broker's own metrics.
const OWN_LEVEL: &str = "zibrato";
/// Most names in one line; more are counted.
const NAMES_MAX: usize = 5;
/// By how much the clock of a service may be off before it is worth a word, in milliseconds.
pub(super) const SKEW_MS_MAX: u64 = 2_000;
/// Share of a limit from which on it is worth a word.
const NEARLY_FULL: f64 = 0.9;

/// Looks at the broker.
pub(super) fn examine(facts: &Facts, findings: &mut Findings) {
    findings.about("broker");
    match &facts.ports {
        Ok(ports) => ports_and_probe(ports, findings),
        Err(error) => findings.fail("ports", error, "give an address in --host"),
    }
    let Some(asked) = &facts.broker else {
        return findings.ok("status", "not asked (--broker-status none)");
    };
    let Some((report, answer)) = report(asked, findings) else { return };
    identity(facts, report, findings);
    clock(answer.skew_ms, findings);
    law(&answer.report, findings);
    losses(report, findings);
    keep(report, findings);
    levels(report, findings);
}

fn ports_and_probe(ports: &Ports, findings: &mut Findings) {
    let ends = [(&ports.publishers, "publishers", "XSUB"), (&ports.workers, "workers", "XPUB")];
    for ((addr, peer), who, expected) in ends {
        let check = if who == "publishers" { "publishers' port" } else { "workers' port" };
        match peer {
            Peer::Socket(kind) if kind == expected => findings.ok(check, format!("{addr} is a broker's")),
            Peer::Socket(kind) if kind == "XSUB" || kind == "XPUB" => findings.fail(
                check,
                format!("{addr} is the other port of a broker ({kind})"),
                "give the port for publishers in --port; workers connect to the next one",
            ),
            Peer::Socket(kind) => findings.fail(
                check,
                format!("{addr} is a ZeroMQ {kind} socket, not the {expected} of a broker"),
                "another program uses this port: stop it, or give the broker's in --port",
            ),
            Peer::Secured(mechanism) => findings.fail(
                check,
                format!("{addr} wants to be spoken to with {mechanism}, which doctor cannot"),
                "give the port of a broker without it in --port, if there is one",
            ),
            Peer::Stranger => findings.fail(
                check,
                format!("{addr} does not speak ZeroMQ: another program uses this port"),
                "stop that program, or start the broker on other ports and give them in --port",
            ),
            Peer::Nobody(why) => findings.fail(
                check,
                format!("nobody answers at {addr}: {why}"),
                "start zibrato up, or zibrato-broker, or give its address in --host and --port",
            ),
        }
    }
    for (listeners, (addr, _)) in ports.listeners.iter().zip([&ports.publishers, &ports.workers]) {
        if *listeners > 1 {
            findings.warn(
                "listeners",
                format!(
                    "{listeners} programs listen on port {} at different addresses of this machine",
                    addr.port()
                ),
                "programs that connect by name may reach either: stop one, or give IP addresses everywhere",
            );
        }
    }
    if let Some(outcome) = ports.probe {
        forwarding(outcome, findings);
    }
}

fn forwarding(outcome: Outcome, findings: &mut Findings) {
    const CHECK: &str = "forwarding";
    let within_s = probe::WITHIN.as_secs();
    match outcome {
        Outcome::Came { median, longest } => {
            let (median, longest) = (duration(median), duration(longest));
            findings.ok(CHECK, format!("a message comes back in {median} (median of 5, longest {longest})"));
        }
        Outcome::NotConnected => findings.fail(
            CHECK,
            format!("the publishers' port asked for nothing within {within_s} s"),
            "it is no zibrato broker, or it hangs: restart it",
        ),
        Outcome::NotSubscribed => findings.fail(
            CHECK,
            format!(
                "a subscription at the workers' port did not reach the publishers' port within {within_s} s"
            ),
            "the two ports belong to different brokers, or the broker hangs: start one broker on both",
        ),
        Outcome::NotForwarded => findings.fail(
            CHECK,
            format!("a message sent to the publishers' port did not come out within {within_s} s"),
            "the broker is overloaded or hangs: look at its log, restart it",
        ),
        Outcome::Failed(error) => findings.fail(
            CHECK,
            format!("the probe cannot run: {error}"),
            "free memory or raise the limit of open files",
        ),
    }
}

fn report<'a>(asked: &'a Asked, findings: &mut Findings) -> Option<(&'a BrokerReport, &'a Answer)> {
    let advice = "start the broker with --http, or give its status address in --broker-status";
    let answer = match &asked.answer {
        Ok(answer) => answer,
        Err(error) => {
            findings.warn("status", error, advice);
            return None;
        }
    };
    let Report::Broker(report) = &answer.report else {
        findings.fail("status", format!("{} is another service, not a broker", asked.addr), advice);
        return None;
    };
    status(asked.addr, &report.process, findings);
    Some((report, answer))
}

/// Whether a service is well in its own eyes, and of our version.
pub(super) fn status(
    addr: std::net::SocketAddr,
    process: &zibrato_service::Process,
    findings: &mut Findings,
) {
    let up = crate::human::age(process.uptime_s.saturating_mul(1_000));
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

/// Whether the report is of the broker whose ports were looked at.
fn identity(facts: &Facts, report: &BrokerReport, findings: &mut Findings) {
    let port_of = |endpoint: &str| endpoint.rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
    let told = [&report.publishers_endpoint, &report.workers_endpoint].map(|endpoint| port_of(endpoint));
    if told != [Some(facts.port), Some(facts.port + 1)] {
        findings.warn(
            "identity",
            format!(
                "the status is that of another broker: it listens on {} and {}, not on {}:{}",
                report.publishers_endpoint, report.workers_endpoint, facts.host, facts.port
            ),
            "two brokers run: give --port and --broker-status of the same one",
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

fn losses(report: &BrokerReport, findings: &mut Findings) {
    let refused =
        report.accounts.iter().flat_map(|account| &account.refused).filter(|(_, count)| **count > 0.0);
    let refused: Vec<_> = refused.map(|(reason, count)| format!("{reason} {count}")).collect();
    if refused.is_empty() {
        return findings.ok("losses", "no message was refused");
    }
    findings.warn(
        "losses",
        format!("messages refused: {}", refused.join(", ")),
        "somebody sends what is no metric, or too large; the broker's log at RUST_LOG=debug says what",
    );
}

fn keep(report: &BrokerReport, findings: &mut Findings) {
    let text = format!("{} of {} kept for replay", bytes(report.kept_bytes), bytes(report.kept_bytes_max));
    let lost = report.evicted.get("bytes_ended").copied().unwrap_or(0);
    let is_nearly_full = report.kept_bytes as f64 > report.kept_bytes_max as f64 * NEARLY_FULL;
    if lost > 0 || is_nearly_full && report.kept_bytes_max > 0 {
        let text = format!("{text}; {} forgotten for want of room", plural(lost as usize, "ended publisher"));
        return findings.warn(
            "keep",
            text,
            "give the broker more with --keep-mib, or workers miss what they were away for",
        );
    }
    findings.ok("keep", text);
}

/// Who is subscribed to what is published.
fn levels(report: &BrokerReport, findings: &mut Findings) {
    let publishers: Vec<_> = report
        .publishers
        .iter()
        .filter(|publisher| publisher.levels.iter().any(|level| level != OWN_LEVEL))
        .collect();
    let running = publishers.iter().filter(|publisher| !publisher.ended).count();
    if running == 0 {
        let ended = plural(publishers.len(), "publisher");
        findings.warn(
            "publishers",
            format!("none runs ({ended} ended)"),
            "start an instrumented program, or try zibrato send; it connects to the publishers' port",
        );
    } else {
        findings.ok("publishers", format!("{} at this broker", plural(running, "publisher")));
    }
    let subscribed: Vec<&str> =
        report.subscribed_levels.iter().map(String::as_str).filter(|level| *level != probe::LEVEL).collect();
    if subscribed.is_empty() {
        findings.fail(
            "subscriptions",
            "no worker is subscribed to anything: what is measured reaches no backend",
            "start a worker, such as zibrato-librato, with the broker's workers' port; the broker keeps what it can meanwhile",
        );
    } else {
        findings.ok("subscriptions", format!("levels {}", subscribed.join(", ")));
    }
    let published: BTreeSet<&str> = publishers
        .iter()
        .filter(|publisher| !publisher.ended)
        .flat_map(|publisher| publisher.levels.iter().map(String::as_str))
        .filter(|level| *level != OWN_LEVEL && !subscribed.contains(level))
        .collect();
    if !published.is_empty() && !subscribed.is_empty() {
        let names: Vec<&str> = published.iter().copied().collect();
        findings.warn(
            "unheard levels",
            format!("published, and nobody listens: {}", some_of(&names)),
            "add them to the --levels of a worker if they are wanted",
        );
    }
}

/// The first names, and how many more there are.
pub(super) fn some_of(names: &[impl AsRef<str>]) -> String {
    let mut text: Vec<&str> = names.iter().take(NAMES_MAX).map(AsRef::as_ref).collect();
    let more = names.len().saturating_sub(NAMES_MAX);
    let rest = format!("and {more} more");
    if more > 0 {
        text.push(&rest);
    }
    text.join(", ")
}
