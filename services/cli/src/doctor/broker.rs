//! The broker: its ports, whether it forwards, and what it says of itself.

use std::collections::BTreeSet;

use zibrato_service::{BrokerReport, Report};

use super::facts::{Answer, Asked, Facts, Ports};
use super::finding::Findings;
use super::probe::{self, Outcome};
use super::service::{clock, law, status};
use super::zmtp::Peer;
use crate::human::{bytes, duration, plural, some_of};

/// The level of the broker's own metrics.
const OWN_LEVEL: &str = "zibrato";
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
        Err(error) if asked.is_given => {
            findings.fail("status", &error.text, advice);
            return None;
        }
        Err(error) => {
            findings.warn("status", &error.text, advice);
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

#[cfg(test)]
mod tests {
    use zibrato_service::{Account, KeptPublisher, Process};

    use super::super::facts::tests::facts;
    use super::super::finding::State;
    use super::*;

    fn publisher(levels: &[&str]) -> KeptPublisher {
        KeptPublisher {
            levels: levels.iter().map(|level| (*level).to_owned()).collect(),
            ..KeptPublisher::default()
        }
    }

    fn well() -> BrokerReport {
        BrokerReport {
            process: Process { version: env!("CARGO_PKG_VERSION").to_owned(), ..Process::default() },
            publishers_endpoint: "tcp://0.0.0.0:5550".to_owned(),
            workers_endpoint: "tcp://0.0.0.0:5551".to_owned(),
            subscribed_levels: vec!["info".to_owned()],
            kept_bytes_max: 1_000,
            publishers: vec![publisher(&["info"]), publisher(&[OWN_LEVEL])],
            ..BrokerReport::default()
        }
    }

    fn found(change: fn(&mut BrokerReport)) -> Findings {
        let mut report = well();
        change(&mut report);
        let mut findings = Findings::default();
        examine(&facts(Some(Report::Broker(report)), Vec::new(), None), &mut findings);
        findings
    }

    #[test]
    fn a_broker_that_is_well_has_nothing_but_ok() {
        let findings = found(|_| {});
        assert_eq!(findings.count(State::Ok), findings.list().len(), "{findings:?}");
        assert!(
            findings.of("publishers").unwrap().text.starts_with("1 publisher "),
            "its own frames do not count"
        );
    }

    #[test]
    fn whatever_is_wrong_is_found_with_what_to_do() {
        type Change = fn(&mut BrokerReport);
        let cases: [(&str, State, &str, Change); 8] = [
            ("identity", State::Warn, "tcp://0.0.0.0:6550", |report| {
                report.publishers_endpoint = "tcp://0.0.0.0:6550".to_owned();
            }),
            ("law", State::Fail, "does not add up", |report| {
                report.accounts.push(Account { offered: 1.0, ..Account::default() });
            }),
            ("losses", State::Warn, "topic 2", |report| {
                let mut account = Account { offered: 2.0, ..Account::default() };
                account.refused.insert("topic".to_owned(), 2.0);
                report.accounts.push(account);
            }),
            ("keep", State::Warn, "950 B of 1000 B", |report| report.kept_bytes = 950),
            ("keep", State::Warn, "3 ended publishers forgotten", |report| {
                report.evicted.insert("bytes_ended".to_owned(), 3);
            }),
            ("publishers", State::Warn, "none runs (1 publisher ended)", |report| {
                report.publishers[0].ended = true
            }),
            ("subscriptions", State::Fail, "no worker", |report| {
                // Ours is not a worker's.
                report.subscribed_levels = vec![probe::LEVEL.to_owned()];
            }),
            ("unheard levels", State::Warn, "nobody listens: a, b, c, d, e, and 1 more", |report| {
                report.publishers.push(publisher(&["a", "b", "c", "d", "e", "f", "info"]));
            }),
        ];
        for (check, state, text, change) in cases {
            let findings = found(change);
            let finding = findings.of(check).unwrap_or_else(|| panic!("no {check}: {findings:?}"));
            assert_eq!(finding.state, state, "{finding:?}");
            assert!(finding.text.contains(text) && finding.advice.is_some(), "{finding:?}, not {text}");
        }
    }

    #[test]
    fn every_end_of_the_probe_is_told_apart() {
        let told = |outcome| {
            let mut findings = Findings::default();
            forwarding(outcome, &mut findings);
            findings.list()[0].text.clone()
        };
        assert!(told(Outcome::NotConnected).contains("asked for nothing"));
        assert!(told(Outcome::NotSubscribed).contains("did not reach the publishers' port"));
        assert!(told(Outcome::NotForwarded).contains("did not come out"));
        assert!(told(Outcome::Failed(zmq::Error::EMFILE)).starts_with("the probe cannot run"));
    }
}
