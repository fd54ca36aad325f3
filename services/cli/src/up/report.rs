//! What is printed: where everything listens, the status line, and the account of each part.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::net::SocketAddr;
use std::path::Path;

use zibrato_worker::totals::Totals as WorkerTotals;

use super::board::Extremes;
use super::parts::{Accounts, Part, Parts, Snapshot};
use crate::human::{duration, short};

/// Refusals of the store that lose nothing: what came again was stored before.
const DUPLICATE: &str = "duplicate_batch";

/// Where everything listens.
pub(crate) fn banner(parts: &Parts, data: &Path) -> String {
    let Parts { endpoint_in, endpoint_out, api, broker_http, worker_http, .. } = parts;
    let http = |addr: &Option<SocketAddr>| {
        addr.map_or_else(|| "off".to_owned(), |addr| format!("http://{addr}/metrics"))
    };
    format!(
        "zibrato {version} is up\n\
         \x20 look at your metrics   http://{api}/\n\
         \x20 publishers connect to  {endpoint_in}\n\
         \x20 workers connect to     {endpoint_out}\n\
         \x20 metrics API            http://{api}/v1/metrics\n\
         \x20 broker's status        {broker}\n\
         \x20 worker's status        {worker}\n\
         \x20 data                   {data}\n\
         list the metrics:  curl 'http://{api}/v1/metrics'\n\
         see the last ten values of one:  curl 'http://{api}/v1/metrics/NAME?resolution=1&count=10'\n\
         stop with Ctrl-C",
        version = env!("CARGO_PKG_VERSION"),
        broker = http(broker_http),
        worker = http(worker_http),
        data = data.display(),
    )
}

/// The status line.
pub(crate) fn status(snapshot: &Snapshot) -> String {
    let mut line = format!(
        "recorded {}  delivered {} points  refused {}  dropped {}",
        recorded(&snapshot.worker),
        short(u128::from(snapshot.local.points_accepted)),
        short(refused(snapshot).into()),
        short(dropped(&snapshot.worker)),
    );
    match snapshot.board.extremes() {
        None => line.push_str("  no timers in the last flush"),
        Some(Extremes { slowest, fastest }) => {
            // Writing to a string has no way to fail.
            let _ = write!(line, "  slowest {} p99 {}", slowest.name, duration(slowest.p99));
            if fastest.name != slowest.name {
                let _ = write!(line, "  fastest {} p99 {}", fastest.name, duration(fastest.p99));
            }
        }
    }
    line
}

/// The account of each part, one a line, and whether all of them add up.
pub(crate) fn accounts(accounts: &Accounts) -> (String, bool) {
    let Accounts { demo, broker, worker, local } = accounts;
    let refused = local.points_refused_sum();
    let local_line = format!(
        "points offered {} = accepted {} + refused {refused}{}",
        local.points_offered,
        local.points_accepted,
        reasons(&local.points_refused)
    );
    let mut lines = Vec::new();
    let mut all_hold = true;
    let mut add = |part: Part, account: &dyn Display, holds: bool| {
        all_hold &= holds;
        lines.push(format!("{part:6}  {account}: {}", if holds { "law holds" } else { "law does not hold" }));
    };
    if let Some(stats) = demo {
        add(Part::Demo, stats, stats.law_holds());
    }
    add(Part::Broker, broker, broker.adds_up() && broker.failed.is_none());
    add(Part::Worker, worker, worker.law_holds());
    add(Part::Local, &local_line, local.adds_up());
    (lines.join("\n"), all_hold)
}

/// What publishers recorded, as far as the worker knows: records of timers, sums of counters and
/// sets of gauges. They are told apart, because a counter of bytes would drown everything else.
fn recorded(worker: &WorkerTotals) -> String {
    let accepted = &worker.ledger.accepted;
    format!(
        "{} timers, {} counts, {} gauges",
        short(accepted.timers),
        short(accepted.counters + accepted.legacy_counters),
        short(accepted.gauges)
    )
}

/// What the broker, the worker's ledger and the store did not accept, of whomever, in the units of each. The
/// points of a batch that the store refused are counted there, once.
fn refused(snapshot: &Snapshot) -> u64 {
    let Snapshot { broker, worker, local, .. } = snapshot;
    let in_store = local.points_refused.iter().filter(|(reason, _)| **reason != DUPLICATE);
    broker.refused()
        + worker.ledger.refused.values().sum::<u64>()
        + in_store.map(|(_, points)| points).sum::<u64>()
}

/// What was accepted and lost, in the units of each stage.
fn dropped(worker: &WorkerTotals) -> u128 {
    let in_ledger = worker
        .ledger
        .dropped
        .values()
        .map(|amounts| amounts.counters + amounts.timers + amounts.gauges + amounts.legacy_counters);
    in_ledger.sum::<u128>() + u128::from(worker.ledger.legacy_lost + worker.dropped.sum().points)
}

fn reasons(refused: &BTreeMap<&'static str, u64>) -> String {
    if refused.is_empty() {
        return String::new();
    }
    let reasons: Vec<_> = refused.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    format!(" ({})", reasons.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound() -> Accounts {
        let mut local = zibrato_local::Totals { points_offered: 3, points_accepted: 1, ..Default::default() };
        local.points_refused.insert("too_old", 2);
        Accounts { demo: None, broker: Default::default(), worker: Default::default(), local }
    }

    #[test]
    fn each_account_is_a_line_and_one_that_does_not_add_up_is_seen() {
        let (lines, holds) = accounts(&sound());
        assert!(holds);
        assert_eq!(lines.lines().count(), 3, "{lines}");
        let last = "local   points offered 3 = accepted 1 + refused 2 (too_old 2): law holds";
        assert_eq!(lines.lines().last(), Some(last));

        let breaks: [fn(&mut Accounts); 4] = [
            |accounts| accounts.local.points_accepted = 2,
            |accounts| accounts.broker.received = 1,
            |accounts| accounts.broker.failed = Some(zmq::Error::ETERM),
            |accounts| accounts.worker.offered.timer_records = 1,
        ];
        for broken in breaks {
            let mut account = sound();
            broken(&mut account);
            let (lines, holds) = accounts(&account);
            assert!(!holds && lines.matches("law does not hold").count() == 1, "{lines}");
        }
    }

    #[test]
    fn the_status_line_counts_what_any_part_gave_up_but_not_what_came_twice() {
        let mut snapshot = Snapshot {
            broker: Default::default(),
            worker: Default::default(),
            local: zibrato_local::Totals { points_accepted: 1_234, ..Default::default() },
            board: Default::default(),
        };
        snapshot.worker.ledger.accepted.timers = 5;
        snapshot.worker.ledger.accepted.counters = 7;
        snapshot.local.points_refused.insert(DUPLICATE, 9);
        let line = "recorded 5 timers, 7 counts, 0 gauges  delivered 1.23k points  refused 0  dropped 0  no timers in the last flush";
        assert_eq!(status(&snapshot), line);
        snapshot.local.points_refused.insert("too_old", 1);
        snapshot.broker.refused.insert("topic", 1);
        snapshot.worker.ledger.refused.insert("series_limit", 1);
        snapshot.worker.ledger.legacy_lost = 1;
        assert!(status(&snapshot).contains(" refused 3  dropped 1 "), "{}", status(&snapshot));
    }
}
