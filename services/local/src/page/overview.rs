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
    publishers: Vec<PublisherReport>,
    publishers_total: usize,
    services: Vec<Service>,
    local: LocalReport,
}

/// What needs one look.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Summary {
    publishers_alive: usize,
    publishers_total: usize,
    /// Units that are lost for good, and by which reason at which stage.
    lost: f64,
    lost_reasons: BTreeMap<String, f64>,
    /// All workers' batches on disk.
    spool: SpoolReport,
    /// Whether every account adds up.
    law_holds: bool,
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
    let mut publishers = publishers(&watched);
    let publishers_total = publishers.len();
    let summary = summary(&watched, &publishers, &local.account);
    publishers.truncate(PUBLISHERS_MAX);
    let services = watched.into_iter().map(service).collect();
    let overview = Overview { summary, publishers, publishers_total, services, local };
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

fn summary(watched: &[Watched], publishers: &[PublisherReport], local: &Account) -> Summary {
    let is_alive = |publisher: &&PublisherReport| !publisher.ended && publisher.silent_ms <= SILENT_MS_MAX;
    let mut summary = Summary {
        publishers_alive: publishers.iter().filter(is_alive).count(),
        publishers_total: publishers.len(),
        law_holds: local.adds_up(),
        ..Summary::default()
    };
    let mut lose = |stage: &str, reason: &str, amount: f64| {
        if amount > 0.0 {
            *summary.lost_reasons.entry(format!("{stage} {reason}")).or_default() += amount;
            summary.lost += amount;
        }
    };
    for publisher in publishers {
        publisher.dropped.iter().for_each(|(reason, count)| lose("publisher", reason, *count as f64));
    }
    for report in watched.iter().filter_map(|watched| watched.report.as_ref().ok()) {
        match &**report {
            Report::Broker(broker) => {
                for account in &broker.accounts {
                    // Without a subscriber nobody misses anything; a broker says so as a drop.
                    account.refused.iter().for_each(|(reason, amount)| lose("broker", reason, *amount));
                    summary.law_holds &= account.adds_up();
                }
            }
            Report::Worker(worker) => {
                let counted = worker.lost.iter().chain(&worker.refused);
                counted.for_each(|(reason, count)| lose("worker", reason, *count as f64));
                for account in &worker.accounts {
                    let gone = account.refused.iter().chain(&account.dropped);
                    gone.for_each(|(reason, amount)| lose("worker", reason, *amount));
                    summary.law_holds &= account.adds_up();
                }
                let (all, one) = (&mut summary.spool, &worker.spool);
                all.batches += one.batches;
                all.bytes += one.bytes;
                all.bytes_max += one.bytes_max;
                all.oldest_ms = all.oldest_ms.max(one.oldest_ms);
            }
            _ => {}
        }
    }
    summary
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
        let summary = summary(&[], &found, &Account::default());
        assert_eq!((summary.publishers_alive, summary.publishers_total), (1, 2));
    }

    #[test]
    fn what_is_lost_is_summed_by_stage_and_reason_and_the_law_is_checked() {
        let worker = |account| WorkerReport {
            accounts: vec![account],
            lost: [("gaps".to_owned(), 4)].into(),
            spool: SpoolReport { batches: 2, bytes: 7, bytes_max: 9, oldest_ms: Some(3) },
            ..WorkerReport::default()
        };
        let found = summary(&[watched(Report::Worker(worker(account(7.0, 1.0))))], &[], &Account::default());
        assert!(found.law_holds, "{found:?}");
        assert_eq!(found.lost, 6.0);
        assert_eq!(found.lost_reasons["worker too_old"], 1.0);
        assert_eq!((found.spool.batches, found.spool.oldest_ms), (2, Some(3)));
        let broken = summary(&[watched(Report::Worker(worker(account(7.0, 2.0))))], &[], &Account::default());
        assert!(!broken.law_holds, "{broken:?}");
    }
}
