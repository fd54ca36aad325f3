//! `GET /page/overview`: how the way from the programs to this store is.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde::Serialize;
use zibrato_service::{Account, KeptPublisher, LocalReport, PublisherReport, Report, SpoolReport};

use super::pictures::NOT_STORED;
use super::request::Answer;
use crate::api::status;
use crate::errors::JSON;
use crate::server::Shared;
use crate::watch::Watched;

/// The most publishers in one answer: those that were heard last.
const PUBLISHERS_MAX: usize = 200;
/// A publisher that said nothing for so long is not counted as alive: ten of its key periods.
const SILENT_MS_MAX: u64 = 30_000;

#[derive(Serialize)]
struct Overview {
    summary: Summary,
    /// What is lost for good.
    losses: Vec<Loss>,
    /// The accounts of all stages, in the order in which data flows through them.
    stages: Vec<Stage>,
    publishers: Vec<Publisher>,
    publishers_total: usize,
    services: Vec<Service>,
    local: LocalReport,
}

/// What needs one look.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Summary {
    publishers_alive: usize,
    publishers_total: usize,
    /// Those that fell silent without an end frame, as a killed program does. That is no loss by itself.
    publishers_vanished: usize,
    /// All workers' batches on disk.
    spool: SpoolReport,
}

/// An amount that is lost at one stage for one reason. Amounts of different units do not add up.
#[derive(Debug, PartialEq, Serialize)]
struct Loss {
    stage: String,
    reason: String,
    amount: f64,
    unit: String,
}

/// The account of a stage, and whether it adds up.
#[derive(Debug, PartialEq, Serialize)]
struct Stage {
    service: &'static str,
    adds_up: bool,
    #[serde(flatten)]
    account: Account,
}

#[derive(Serialize)]
struct Publisher {
    is_silent: bool,
    /// How long it ran: until now or, if it ended or vanished, until its last frame.
    ran_ms: u64,
    #[serde(flatten)]
    report: PublisherReport,
}

#[derive(Serialize)]
struct Service {
    address: String,
    /// Age of what is known.
    age_ms: u128,
    report: Option<Report>,
    /// Why there is no report.
    error: Option<String>,
}

pub(super) async fn show(State(app): State<Shared>) -> Answer {
    let watched = app.watch.latest();
    let local = status::report_of(&app).await?;
    let publishers = publishers(&watched);
    let summary = summary(&watched, &publishers);
    let overview = Overview {
        losses: losses(&watched, &publishers),
        stages: stages(&watched, &local.account),
        publishers_total: summary.publishers_total,
        publishers: publishers.into_iter().take(PUBLISHERS_MAX).map(publisher).collect(),
        services: watched.into_iter().map(service).collect(),
        summary,
        local,
    };
    // Numbers and texts always serialise.
    let body = serde_json::to_string(&overview).unwrap_or_default();
    Ok(([(header::CONTENT_TYPE, JSON), (header::CACHE_CONTROL, NOT_STORED)], body).into_response())
}

fn service(watched: Watched) -> Service {
    let (report, error) = match watched.report {
        Ok(report) => (Some(without_publishers(&report)), None),
        Err(error) => (None, Some(error)),
    };
    Service { address: watched.addr.to_string(), age_ms: watched.age.as_millis(), report, error }
}

/// The report without its list of publishers, which are told apart from it.
fn without_publishers(report: &Report) -> Report {
    let mut report = report.clone();
    match &mut report {
        Report::Broker(broker) => broker.publishers.clear(),
        Report::Worker(worker) => worker.publishers.clear(),
        _ => {}
    }
    report
}

/// Every publisher once: as a worker knows it or, if none does, as a broker does; those heard last first.
fn publishers(watched: &[Watched]) -> Vec<PublisherReport> {
    let mut known: BTreeMap<String, PublisherReport> = BTreeMap::new();
    for report in watched.iter().filter_map(|watched| watched.report.as_ref().ok()) {
        match &**report {
            Report::Worker(worker) => {
                worker.publishers.iter().for_each(|publisher| join(&mut known, publisher.clone()));
            }
            Report::Broker(broker) => {
                broker.publishers.iter().for_each(|publisher| join(&mut known, as_kept(publisher)));
            }
            _ => {}
        }
    }
    let mut publishers: Vec<_> = known.into_values().collect();
    publishers.sort_by_key(|publisher| (publisher.ended, publisher.silent_ms));
    publishers
}

fn as_kept(publisher: &KeptPublisher) -> PublisherReport {
    PublisherReport {
        id: publisher.id.clone(),
        levels: publisher.levels.clone(),
        silent_ms: publisher.silent_ms,
        ended: publisher.ended,
        ..PublisherReport::default()
    }
}

fn join(known: &mut BTreeMap<String, PublisherReport>, other: PublisherReport) {
    let Some(present) = known.get_mut(&other.id) else {
        known.insert(other.id.clone(), other);
        return;
    };
    let levels: BTreeSet<_> = present.levels.iter().chain(&other.levels).cloned().collect();
    let ended = present.ended || other.ended;
    let silent_ms = present.silent_ms.min(other.silent_ms);
    // Two workers may know it; the one that knows more of its series tells more.
    if other.series > present.series {
        *present = other;
    }
    (present.levels, present.ended, present.silent_ms) = (levels.into_iter().collect(), ended, silent_ms);
}

fn publisher(report: PublisherReport) -> Publisher {
    let since_ms = if report.ended || report.vanished { report.silent_ms } else { 0 };
    Publisher { is_silent: is_silent(&report), ran_ms: report.age_ms.saturating_sub(since_ms), report }
}

fn is_silent(publisher: &PublisherReport) -> bool {
    publisher.silent_ms > SILENT_MS_MAX
}

fn reports(watched: &[Watched]) -> impl Iterator<Item = &Report> {
    watched.iter().filter_map(|watched| watched.report.as_deref().ok())
}

fn summary(watched: &[Watched], publishers: &[PublisherReport]) -> Summary {
    let is_alive =
        |publisher: &&PublisherReport| !publisher.ended && !publisher.vanished && !is_silent(publisher);
    let mut summary = Summary {
        publishers_alive: publishers.iter().filter(is_alive).count(),
        publishers_total: publishers.len(),
        publishers_vanished: publishers.iter().filter(|publisher| publisher.vanished).count(),
        ..Summary::default()
    };
    for report in reports(watched) {
        // A report lists only so many publishers, but it tells how many there are.
        let known = match report {
            Report::Broker(broker) => broker.publishers_total,
            Report::Worker(worker) => {
                let (all, one) = (&mut summary.spool, &worker.spool);
                all.batches += one.batches;
                all.bytes += one.bytes;
                all.bytes_max += one.bytes_max;
                all.oldest_ms = all.oldest_ms.max(one.oldest_ms);
                worker.publishers_total
            }
            _ => 0,
        };
        summary.publishers_total = summary.publishers_total.max(usize::try_from(known).unwrap_or(usize::MAX));
    }
    summary
}

/// The accounts of brokers, workers and this store.
fn stages(watched: &[Watched], local: &Account) -> Vec<Stage> {
    let mut stages = Vec::new();
    let mut add = |service, accounts: &[Account]| {
        let stage =
            |account: &Account| Stage { service, adds_up: account.adds_up(), account: account.clone() };
        stages.extend(accounts.iter().map(stage));
    };
    for report in reports(watched) {
        if let Report::Broker(broker) = report {
            add("broker", &broker.accounts);
        }
    }
    for report in reports(watched) {
        if let Report::Worker(worker) = report {
            add("worker", &worker.accounts);
        }
    }
    add("local", std::slice::from_ref(local));
    stages
}

/// What each stage lost or refused, in the order in which data flows.
fn losses(watched: &[Watched], publishers: &[PublisherReport]) -> Vec<Loss> {
    let mut amounts: BTreeMap<_, f64> = BTreeMap::new();
    let mut lose = |place: u8, stage: String, unit: &str, reason: &str, amount: f64| {
        if amount > 0.0 {
            *amounts.entry((place, stage, reason.to_owned(), unit.to_owned())).or_default() += amount;
        }
    };
    for (reason, count) in publishers.iter().flat_map(|publisher| &publisher.dropped) {
        lose(0, "publisher".to_owned(), dropped_unit(reason), reason, *count as f64);
    }
    for report in reports(watched) {
        match report {
            Report::Broker(broker) => {
                for account in &broker.accounts {
                    // Without a subscriber nobody misses anything; a broker says so as a drop.
                    for (reason, amount) in &account.refused {
                        lose(1, format!("broker, {}", account.stage), &account.unit, reason, *amount);
                    }
                }
            }
            Report::Worker(worker) => {
                for (reason, count) in &worker.lost {
                    lose(2, "worker".to_owned(), lost_unit(reason), reason, *count as f64);
                }
                for (reason, count) in &worker.refused {
                    lose(2, "worker".to_owned(), "messages, frames or states", reason, *count as f64);
                }
                for account in &worker.accounts {
                    for (reason, amount) in account.refused.iter().chain(&account.dropped) {
                        lose(2, format!("worker, {}", account.stage), &account.unit, reason, *amount);
                    }
                }
            }
            _ => {}
        }
    }
    let loss = |((_, stage, reason, unit), amount)| Loss { stage, reason, amount, unit };
    amounts.into_iter().map(loss).collect()
}

/// What is counted of a reason for which a publisher dropped something.
fn dropped_unit(reason: &str) -> &'static str {
    match reason {
        "legacy_queue" => "messages",
        // The records behind them are counted as any other.
        "samples" => "samples",
        _ => "records",
    }
}

/// What is counted of a reason for which something did not reach a worker's ledger.
fn lost_unit(reason: &str) -> &'static str {
    match reason {
        "gaps_lost" => "frames",
        "buckets_unknown" => "timer records",
        "joined_late" => "series",
        _ => "messages",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use zibrato_service::{BrokerReport, WorkerReport};

    use super::*;

    fn watched(report: Report) -> Watched {
        Watched { addr: "127.0.0.1:1".parse().unwrap(), report: Ok(Arc::new(report)), age: Duration::ZERO }
    }

    fn account(delivered: f64, dropped: f64) -> Account {
        Account {
            offered: 10.0,
            accepted: 9.0,
            refused: [("bad_frame".to_owned(), 1.0)].into(),
            delivered,
            held: 1.0,
            dropped: [("too_old".to_owned(), dropped)].into(),
            ..Account::default()
        }
    }

    #[test]
    fn a_publisher_that_broker_and_worker_know_is_one() {
        let kept = |id: &str, level: &str| KeptPublisher {
            id: id.to_owned(),
            levels: vec![level.to_owned()],
            silent_ms: 5,
            ended: id == "b",
        };
        let known = PublisherReport {
            id: "a".to_owned(),
            program: "loop".to_owned(),
            levels: vec!["info".to_owned()],
            series: 3,
            silent_ms: 900,
            ..PublisherReport::default()
        };
        let broker =
            BrokerReport { publishers: vec![kept("a", "debug"), kept("b", "info")], ..Default::default() };
        let worker = WorkerReport { publishers: vec![known], ..Default::default() };
        let found = publishers(&[watched(Report::Broker(broker)), watched(Report::Worker(worker))]);
        let shown: Vec<_> =
            found.iter().map(|one| (one.id.as_str(), one.program.as_str(), one.silent_ms)).collect();
        assert_eq!(shown, [("a", "loop", 5), ("b", "", 5)]);
        assert_eq!(found[0].levels, ["debug", "info"]);
        let ran_ms = |report: PublisherReport| publisher(report).ran_ms;
        let gone = PublisherReport { age_ms: 9_000, silent_ms: 2_000, ..PublisherReport::default() };
        assert_eq!(ran_ms(gone.clone()), 9_000);
        assert_eq!(ran_ms(PublisherReport { ended: true, ..gone.clone() }), 7_000);
        let gone = PublisherReport { id: "d".to_owned(), vanished: true, ..gone };
        assert_eq!(ran_ms(gone.clone()), 7_000);
        let silent = PublisherReport { id: "c".to_owned(), silent_ms: 30_001, ..Default::default() };
        let told = summary(&[], &[found[0].clone(), found[1].clone(), silent, gone]);
        assert_eq!((told.publishers_alive, told.publishers_total, told.publishers_vanished), (1, 4, 1));
    }

    #[test]
    fn publishers_that_no_report_has_room_for_are_known_too() {
        let worker = WorkerReport { publishers_total: 5_000, ..WorkerReport::default() };
        assert_eq!(summary(&[watched(Report::Worker(worker))], &[]).publishers_total, 5_000);
    }

    #[test]
    fn losses_are_told_by_stage_reason_and_unit_and_never_added_over_units() {
        let worker = WorkerReport {
            accounts: vec![Account {
                stage: "ledger".to_owned(),
                unit: "timer records".to_owned(),
                ..account(7.0, 1.0)
            }],
            lost: [("gaps_lost".to_owned(), 4)].into(),
            vanished: 9,
            refused: [("bad_frame".to_owned(), 2)].into(),
            ..WorkerReport::default()
        };
        let forward =
            Account { stage: "forward".to_owned(), unit: "messages".to_owned(), ..account(7.0, 1.0) };
        let broker = BrokerReport { accounts: vec![forward], ..BrokerReport::default() };
        // A second worker's losses of the same sort are added to the first one's.
        let both = [worker.clone(), worker].map(|worker| watched(Report::Worker(worker)));
        let all: Vec<_> = both.into_iter().chain([watched(Report::Broker(broker))]).collect();
        let dropped = [("legacy_queue".to_owned(), 3), ("samples".to_owned(), 4)];
        let publisher = PublisherReport { dropped: dropped.into(), ..Default::default() };
        let found = losses(&all, &[publisher]);
        let told: Vec<_> = found
            .iter()
            .map(|loss| (loss.stage.as_str(), loss.reason.as_str(), loss.amount, loss.unit.as_str()))
            .collect();
        let expected = [
            ("publisher", "legacy_queue", 3.0, "messages"),
            ("publisher", "samples", 4.0, "samples"),
            ("broker, forward", "bad_frame", 1.0, "messages"),
            ("worker", "bad_frame", 4.0, "messages, frames or states"),
            ("worker", "gaps_lost", 8.0, "frames"),
            ("worker, ledger", "bad_frame", 2.0, "timer records"),
            ("worker, ledger", "too_old", 2.0, "timer records"),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn every_stage_has_its_own_law() {
        let worker =
            |account| watched(Report::Worker(WorkerReport { accounts: vec![account], ..Default::default() }));
        let broker = BrokerReport { accounts: vec![account(8.0, 0.0)], ..Default::default() };
        let all = [worker(account(7.0, 1.0)), worker(account(7.0, 2.0)), watched(Report::Broker(broker))];
        let told: Vec<_> =
            stages(&all, &Account::default()).iter().map(|stage| (stage.service, stage.adds_up)).collect();
        assert_eq!(told, [("broker", true), ("worker", true), ("worker", false), ("local", true)]);
    }

    #[test]
    fn the_spools_of_all_workers_are_one() {
        let spool = SpoolReport { batches: 2, bytes: 7, bytes_max: 9, oldest_ms: Some(3) };
        let worker = || watched(Report::Worker(WorkerReport { spool: spool.clone(), ..Default::default() }));
        let found = summary(&[worker(), worker()], &[]).spool;
        assert_eq!((found.batches, found.bytes, found.bytes_max, found.oldest_ms), (4, 14, 18, Some(3)));
    }
}
