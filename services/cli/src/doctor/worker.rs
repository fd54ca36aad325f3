//! Each worker: what it listens to, what it lost, and whether its backend takes what it sends.

use zibrato_service::{PublisherReport, Report, WorkerReport};

use super::facts::{Asked, Facts};
use super::finding::Findings;
use super::service::{SKEW_MS_MAX, clock, law, status};
use crate::human::{age, bytes, some_of};

/// Flushes that may be late before something is wrong, and what is allowed besides, in milliseconds.
const FLUSHES_LATE: f64 = 3.0;
const FLUSH_GRACE_MS: u64 = 5_000;
/// Share of the spool from which on it is worth a word.
const SPOOL_NEARLY_FULL: f64 = 0.8;
/// Age of the oldest batch from which on it is worth a word, in milliseconds: Librato takes nothing
/// older than two hours.
const OLDEST_MS_MAX: u64 = 600_000;
/// Silence of a publisher from which on it is worth a word, in milliseconds.
const SILENT_MS_MAX: u64 = 15_000;

/// Looks at every worker.
pub(super) fn examine(facts: &Facts, findings: &mut Findings) {
    for asked in &facts.workers {
        findings.about(format!("worker {}", asked.addr));
        if let Some((report, skew_ms)) = report(asked, findings) {
            clock(skew_ms, findings);
            broker(facts, report, findings);
            law(&Report::Worker(report.clone()), findings);
            losses(report, findings);
            flushes(report, findings);
            backend(report, findings);
            spool(report, findings);
            publishers(report, findings);
        }
    }
}

fn report<'a>(asked: &'a Asked, findings: &mut Findings) -> Option<(&'a WorkerReport, i64)> {
    let answer = match &asked.answer {
        Ok(answer) => answer,
        Err(error) => {
            findings.fail(
                "status",
                &error.text,
                "start a worker, such as zibrato-librato, or give its status address in --worker; without one nothing is stored",
            );
            return None;
        }
    };
    let Report::Worker(report) = &answer.report else {
        findings.fail(
            "status",
            format!("{} is another service, not a worker", asked.addr),
            "give the status address of a worker in --worker",
        );
        return None;
    };
    status(asked.addr, &report.process, findings);
    Some((report, answer.skew_ms))
}

fn broker(facts: &Facts, report: &WorkerReport, findings: &mut Findings) {
    let told = |is_connected: bool| -> Vec<&str> {
        let such = report.brokers.iter().filter(|broker| broker.connected == is_connected);
        such.map(|broker| broker.endpoint.as_str()).collect()
    };
    let (up, down) = (told(true), told(false));
    let advice = "start the broker, or correct --host, --port or --endpoint of the worker";
    if up.is_empty() {
        findings.fail("broker", format!("not connected to {}", some_of(&down)), advice);
    } else if !down.is_empty() {
        findings.warn("broker", format!("connected to {}, not to {}", some_of(&up), some_of(&down)), advice);
    } else {
        findings.ok("broker", format!("connected to {}, levels {}", some_of(&up), report.levels.join(", ")));
    }
    let port = format!(":{}", facts.port + 1);
    if !report.brokers.is_empty() && !report.brokers.iter().any(|broker| broker.endpoint.ends_with(&port)) {
        findings.warn(
            "identity",
            format!("it listens to another broker than {}:{}", facts.host, facts.port),
            "two brokers run: connect worker and publishers to the same one, or give doctor the worker's in --port",
        );
    }
}

fn losses(report: &WorkerReport, findings: &mut Findings) {
    // History from before a worker's first subscription was never meant for it.
    let lost = report.lost.iter().filter(|(reason, count)| **count > 0 && *reason != "joined_late");
    let mut reasons: Vec<String> = lost.map(|(reason, count)| format!("{reason} {count}")).collect();
    reasons.extend(report.refused.iter().map(|(reason, count)| format!("{reason} {count}")));
    for account in &report.accounts {
        for (reason, count) in
            account.dropped.iter().chain(&account.refused).filter(|(_, count)| **count > 0.0)
        {
            reasons.push(format!("{reason} {count} {}", account.unit));
        }
    }
    if reasons.is_empty() {
        return findings.ok("losses", "nothing was lost, refused or dropped");
    }
    findings.warn(
        "losses",
        reasons.join(", "),
        "the worker's log says when and of whom; counts and sums lost in frames come back with the next key frame",
    );
}

fn flushes(report: &WorkerReport, findings: &mut Findings) {
    // A flush takes hours at most, which fits.
    let late_ms = (report.flush_s * FLUSHES_LATE * 1_000.0) as u64 + FLUSH_GRACE_MS;
    let since_ms = report.flushed_ms.unwrap_or(report.process.uptime_s.saturating_mul(1_000));
    let every = format!("every {} s", report.flush_s);
    if since_ms > late_ms {
        return findings.fail(
            "flush",
            format!("none for {}, though one is due {every}", age(since_ms)),
            "the spool cannot be written or the worker hangs: look at its log and at the disk",
        );
    }
    match report.flushed_ms {
        Some(ms) => findings.ok("flush", format!("{every}, the last one {} ago", age(ms))),
        None => findings.ok("flush", format!("{every}, the first one is still to come")),
    }
}

fn backend(report: &WorkerReport, findings: &mut Findings) {
    let to = format!("{} at {}", report.backend, report.target);
    if let Some(error) = &report.backend_error {
        return findings.fail(
            "backend",
            format!("{to} does not take batches: {error}"),
            "start it or correct the worker's --url and credentials; batches wait on disk meanwhile",
        );
    }
    match report.delivered_ms {
        Some(ms) => findings.ok("backend", format!("{to} took a batch {} ago", age(ms))),
        None => findings.ok("backend", format!("{to} was not sent a batch yet")),
    }
}

fn spool(report: &WorkerReport, findings: &mut Findings) {
    let spool = &report.spool;
    let mut text = format!(
        "{}, {} of {}",
        if spool.batches == 1 { "1 batch".to_owned() } else { format!("{} batches", spool.batches) },
        bytes(spool.bytes),
        bytes(spool.bytes_max)
    );
    if let Some(ms) = spool.oldest_ms {
        text += &format!(", the oldest {} old", age(ms));
    }
    let fill = if spool.bytes_max > 0 { spool.bytes as f64 / spool.bytes_max as f64 } else { 0.0 };
    if fill >= 1.0 {
        findings.fail(
            "spool",
            format!("full: {text}"),
            "let the backend take batches, or give more with --spool-mib; changes stay in memory meanwhile",
        );
    } else if fill >= SPOOL_NEARLY_FULL || spool.oldest_ms.is_some_and(|ms| ms > OLDEST_MS_MAX) {
        findings.warn(
            "spool",
            text,
            "let the backend take batches before they are too old or the spool is full",
        );
    } else {
        findings.ok("spool", text);
    }
}

fn publishers(report: &WorkerReport, findings: &mut Findings) {
    let of = |is: fn(&PublisherReport) -> bool| -> Vec<String> {
        report.publishers.iter().filter(|publisher| is(publisher)).map(named).collect()
    };
    let running = of(|publisher| !publisher.ended && !publisher.vanished).len();
    let silent =
        of(|publisher| !publisher.ended && !publisher.vanished && publisher.silent_ms > SILENT_MS_MAX);
    if silent.is_empty() {
        findings.ok("publishers", format!("{} of {} known run", running, report.publishers_total));
    } else {
        findings.warn(
            "publishers",
            format!("silent: {}", some_of(&silent)),
            "their programs hang, were killed, or lost the broker; what they did until then is stored",
        );
    }
    let lossy = of(|publisher| publisher.gaps > 0 || publisher.dropped.values().any(|count| *count > 0));
    if !lossy.is_empty() {
        findings.warn(
            "publisher losses",
            format!("dropped something themselves, or frames are missing: {}", some_of(&lossy)),
            "zibrato top shows how much; each program's log says why",
        );
    }
    let skewed = of(|publisher| {
        publisher.clock_skew_ms.is_some_and(|ms| ms.unsigned_abs() > SKEW_MS_MAX) && !publisher.ended
    });
    if !skewed.is_empty() {
        findings.warn(
            "publisher clocks",
            format!("off by more than {} s: {}", SKEW_MS_MAX / 1_000, some_of(&skewed)),
            "set their clocks by NTP: points of gauges get wrong times",
        );
    }
    let version = &report.process.version;
    let mut others: Vec<String> = report
        .publishers
        .iter()
        .filter(|publisher| {
            !publisher.ended && !publisher.version.is_empty() && publisher.version != *version
        })
        .map(|publisher| format!("{} {}", named(publisher), publisher.version))
        .collect();
    others.dedup();
    if !others.is_empty() {
        findings.warn(
            "publisher versions",
            format!("not {version}: {}", some_of(&others)),
            "minor versions understand each other; bring them together at the next release",
        );
    }
}

/// `program@host (pid)`, as far as it is known.
fn named(publisher: &PublisherReport) -> String {
    let PublisherReport { program, host, pid, id, .. } = publisher;
    if program.is_empty() { format!("publisher {id}") } else { format!("{program}@{host} ({pid})") }
}

#[cfg(test)]
mod tests {
    use zibrato_service::{Account, Connection, Process, SpoolReport};

    use super::super::facts::tests::facts;
    use super::super::finding::State;
    use super::*;

    fn publisher(pid: u32) -> PublisherReport {
        PublisherReport {
            program: "web".to_owned(),
            host: "h".to_owned(),
            pid,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            clock_skew_ms: Some(-5),
            ..PublisherReport::default()
        }
    }

    fn well() -> WorkerReport {
        WorkerReport {
            process: Process { version: env!("CARGO_PKG_VERSION").to_owned(), ..Process::default() },
            brokers: vec![Connection { endpoint: "tcp://127.0.0.1:5551".to_owned(), connected: true }],
            flush_s: 1.0,
            flushed_ms: Some(300),
            delivered_ms: Some(300),
            spool: SpoolReport { bytes_max: 1_000, ..SpoolReport::default() },
            publishers: vec![publisher(1), publisher(2)],
            publishers_total: 2,
            ..WorkerReport::default()
        }
    }

    fn found(change: fn(&mut WorkerReport)) -> Findings {
        let mut report = well();
        change(&mut report);
        let mut findings = Findings::default();
        examine(&facts(None, vec![Report::Worker(report)], None), &mut findings);
        findings
    }

    #[test]
    fn a_worker_that_is_well_has_nothing_but_ok() {
        let findings = found(|_| {});
        assert_eq!(findings.count(State::Ok), findings.list().len(), "{findings:?}");
    }

    #[test]
    fn whatever_is_wrong_is_found_with_what_to_do() {
        type Change = fn(&mut WorkerReport);
        let cases: [(&str, State, &str, Change); 18] = [
            ("status", State::Warn, "needs care: x", |report| report.process.degraded = Some("x".to_owned())),
            ("version", State::Warn, "it is 0.9", |report| report.process.version = "0.9".to_owned()),
            ("broker", State::Fail, "not connected to tcp", |report| report.brokers[0].connected = false),
            ("broker", State::Warn, "not to tcp://b:5551", |report| {
                report.brokers.push(Connection { endpoint: "tcp://b:5551".to_owned(), connected: false });
            }),
            ("identity", State::Warn, "another broker", |report| {
                report.brokers[0].endpoint = "tcp://b:1".to_owned()
            }),
            ("law", State::Fail, "ledger sets: offered 1", |report| {
                let (stage, unit) = ("ledger".to_owned(), "sets".to_owned());
                report.accounts.push(Account { stage, unit, offered: 1.0, ..Account::default() });
            }),
            ("losses", State::Warn, "gaps_lost 3", |report| {
                _ = report.lost.insert("gaps_lost".to_owned(), 3)
            }),
            ("losses", State::Warn, "series_limit 4", |report| {
                report.refused.insert("series_limit".to_owned(), 4);
            }),
            ("losses", State::Warn, "too_old 5 points", |report| {
                let mut account = Account { unit: "points".to_owned(), ..Account::default() };
                account.dropped.insert("too_old".to_owned(), 5.0);
                (account.offered, account.accepted) = (5.0, 5.0);
                report.accounts.push(account);
            }),
            ("flush", State::Fail, "none for 9.0 s", |report| report.flushed_ms = Some(9_000)),
            ("backend", State::Fail, "refused", |report| report.backend_error = Some("refused".to_owned())),
            ("spool", State::Fail, "full", |report| report.spool.bytes = 1_000),
            ("spool", State::Warn, "800 B of 1000 B", |report| report.spool.bytes = 800),
            ("spool", State::Warn, "the oldest 11 min old", |report| report.spool.oldest_ms = Some(660_000)),
            ("publishers", State::Warn, "silent: web@h (2)", |report| {
                report.publishers[1].silent_ms = 20_000
            }),
            ("publisher losses", State::Warn, "web@h (1)", |report| {
                report.publishers[0].dropped.insert("ring_full".to_owned(), 1);
            }),
            ("publisher clocks", State::Warn, "web@h (1)", |report| {
                report.publishers[0].clock_skew_ms = Some(-3_000);
            }),
            ("publisher versions", State::Warn, "web@h (2) 0.9", |report| {
                report.publishers[1].version = "0.9".to_owned();
                report.publishers[0].version = String::new();
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
    fn what_is_no_fault_is_none() {
        let unsent = found(|report| report.delivered_ms = None);
        assert_eq!(unsent.of("backend").unwrap().state, State::Ok);
        let young = found(|report| report.flushed_ms = None);
        assert_eq!(young.of("flush").unwrap().state, State::Ok);
        let joined = found(|report| _ = report.lost.insert("joined_late".to_owned(), 3));
        assert_eq!(joined.of("losses").unwrap().state, State::Ok);
        let ended = found(|report| {
            (report.publishers[0].ended, report.publishers[0].silent_ms) = (true, 900_000);
            report.publishers[0].clock_skew_ms = Some(9_000);
        });
        assert_eq!(ended.count(State::Ok), ended.list().len(), "{ended:?}");
    }
}
