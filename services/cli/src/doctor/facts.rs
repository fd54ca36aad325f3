//! Everything that is asked, at the same time and within a bounded time: a look-up, a connection, a
//! greeting and the probe follow each other, which is the longest way and takes 7.5 s at most.

use std::future::Future;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::net::lookup_host;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{sleep, timeout};
use zibrato_service::{Account, FetchError, Report, chain, fetch_report_as};
use zibrato_worker::clock::WallClock;
use zibrato_worker::secret::Secret;

use super::DoctorArgs;
use super::listeners::listeners;
use super::probe::{self, Outcome};
use super::zmtp::{self, Peer};
use crate::token_args::authorization;

/// How long a port or a service may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_millis(1_500);
/// How long the look-up of the broker's name may take.
const LOOKUP_WITHIN: Duration = Duration::from_millis(1_500);
/// Most addresses of the broker's name that are looked at.
const ADDRESSES_MAX: usize = 8;
/// How often a service whose account does not add up is asked again, and the pause before it: a
/// snapshot may fall between two steps that belong together.
const LAW_TRIES: usize = 3;
const LAW_PAUSE: Duration = Duration::from_millis(200);

/// The HTTP status of whoever wants a token.
const UNAUTHORIZED: u16 = 401;

/// What was found; every question has an answer, if only that there is none.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) ports: Result<Ports, String>,
    pub(super) gateways: Vec<Asked>,
    pub(super) broker: Option<Asked>,
    pub(super) workers: Vec<Asked>,
    pub(super) local: Option<Asked>,
}

/// The broker's two ports.
#[derive(Debug)]
pub(super) struct Ports {
    pub(super) publishers: (SocketAddr, Peer),
    pub(super) workers: (SocketAddr, Peer),
    /// Sockets of this machine that listen on each; 0 if that is not known.
    pub(super) listeners: [usize; 2],
    /// `None` if the ports are not those of a broker.
    pub(super) probe: Option<Outcome>,
}

/// A service that was asked for its report.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) addr: SocketAddr,
    /// Whether the user gave the address, so that somebody has to be there.
    pub(super) is_given: bool,
    pub(super) answer: Result<Answer, NoAnswer>,
}

/// Why there is no report.
#[derive(Debug)]
pub(super) struct NoAnswer {
    /// In one line.
    pub(super) text: String,
    /// Whether the service is there, but answers only those who have its token.
    pub(super) wants_token: bool,
}

/// A report.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) report: Report,
    /// By how much the service's clock is ahead of ours, in milliseconds.
    pub(super) skew_ms: i64,
}

impl Facts {
    /// Asks everybody.
    pub(super) async fn gather(args: &DoctorArgs, token: Option<Secret>) -> Self {
        let (host, port) = (args.broker.host.clone(), args.broker.port);
        let (broker, local) = (args.broker_status(), args.local());
        let workers = args.worker.iter().filter_map(|worker| worker.0);
        let gateways = args.gateway.iter().filter_map(|gateway| gateway.0);
        let (gateways, ports, broker, workers, local) = tokio::join!(
            all(gateways.map(|addr| ask(addr, true, None))),
            ports(&host, port),
            maybe(broker.addr().map(|addr| ask(addr, broker.is_given, None))),
            // Without a worker nothing is stored, so that somebody has to be there in any case.
            all(workers.map(|addr| ask(addr, true, None))),
            maybe(local.addr().map(|addr| ask(addr, local.is_given, token))),
        );
        Self { host, port, ports, gateways, broker, workers, local }
    }
}

async fn maybe<T>(asked: Option<impl Future<Output = T>>) -> Option<T> {
    Some(asked?.await)
}

/// All answers, in the order of the questions.
async fn all(asked: impl Iterator<Item = impl Future<Output = Asked> + Send + 'static>) -> Vec<Asked> {
    let mut tasks = JoinSet::new();
    for (at, question) in asked.enumerate() {
        tasks.spawn(async move { (at, question.await) });
    }
    let mut answers = tasks.join_all().await;
    answers.sort_by_key(|(at, _)| *at);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

async fn ports(host: &str, port: u16) -> Result<Ports, String> {
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let found = timeout(LOOKUP_WITHIN, lookup_host((name, port))).await;
    let found = found
        .map_err(|_| format!("the name {host} is not resolved within {} ms", LOOKUP_WITHIN.as_millis()))?
        .map_err(|error| format!("the name {host} cannot be resolved: {error}"))?;
    let [(publishers, in_peer), (workers, out_peer)] =
        nearest(found.take(ADDRESSES_MAX)).await.ok_or_else(|| format!("the name {host} has no address"))?;
    let is = |peer: &Peer, kind: &str| matches!(peer, Peer::Socket(name) if name == kind);
    let probe = if is(&in_peer, "XSUB") && is(&out_peer, "XPUB") {
        // A thread that panicked proved nothing.
        Some(spawn_blocking(move || probe::probe(publishers, workers)).await.unwrap_or(Outcome::NotForwarded))
    } else {
        None
    };
    let is_ours = publishers.ip().is_loopback();
    let listeners = [publishers, workers].map(|addr| if is_ours { listeners(addr.port()) } else { 0 });
    Ok(Ports { publishers: (publishers, in_peer), workers: (workers, out_peer), listeners, probe })
}

/// What listens at the first of the addresses where somebody does, which is where a program that connects
/// by name ends up; at the first one if nobody does anywhere.
async fn nearest(addrs: impl Iterator<Item = SocketAddr>) -> Option<[(SocketAddr, Peer); 2]> {
    let mut asked = JoinSet::new();
    for (at, addr) in addrs.enumerate() {
        asked.spawn(async move { (at, peers(addr).await) });
    }
    let is_deserted =
        |pair: &[(SocketAddr, Peer); 2]| pair.iter().all(|(_, peer)| matches!(peer, Peer::Nobody(_)));
    let found = asked.join_all().await.into_iter();
    found.min_by_key(|(at, pair)| (is_deserted(pair), *at)).map(|(_, pair)| pair)
}

/// What listens on the port for publishers at `addr` and on the next one, for workers.
async fn peers(addr: SocketAddr) -> [(SocketAddr, Peer); 2] {
    let workers = SocketAddr::new(addr.ip(), addr.port() + 1);
    let (in_peer, out_peer) =
        tokio::join!(zmtp::peer(addr, ANSWER_WITHIN), zmtp::peer(workers, ANSWER_WITHIN));
    [(addr, in_peer), (workers, out_peer)]
}

/// Asks a service; again if an account does not add up.
async fn ask(addr: SocketAddr, is_given: bool, token: Option<Secret>) -> Asked {
    let authorization = token.as_ref().map(authorization);
    let mut answer = ask_once(addr, authorization.as_deref()).await;
    for _ in 1..LAW_TRIES {
        if answer
            .as_ref()
            .is_ok_and(|answer| accounts(&answer.report).iter().all(|account| account.adds_up()))
        {
            break;
        }
        if answer.is_err() {
            break;
        }
        sleep(LAW_PAUSE).await;
        answer = ask_once(addr, authorization.as_deref()).await;
    }
    Asked { addr, is_given, answer }
}

async fn ask_once(addr: SocketAddr, authorization: Option<&str>) -> Result<Answer, NoAnswer> {
    let clock = WallClock::system();
    let (before_ms, asked) = (clock.now_ms(), Instant::now());
    let report = fetch_report_as(addr, ANSWER_WITHIN, authorization).await.map_err(|error| NoAnswer {
        text: chain(&error),
        wants_token: matches!(error, FetchError::Status { status, .. } if status.as_u16() == UNAUTHORIZED),
    })?;
    // The answer was written half of the way there and back ago.
    let ours_ms = before_ms + u64::try_from(asked.elapsed().as_millis()).unwrap_or(0) / 2;
    let theirs_ms = match &report {
        Report::Broker(report) => report.process.unix_ms,
        Report::Worker(report) => report.process.unix_ms,
        Report::Local(report) => report.process.unix_ms,
        Report::Gateway(report) => report.process.unix_ms,
        _ => ours_ms,
    };
    let skew_ms = i64::try_from(i128::from(theirs_ms) - i128::from(ours_ms)).unwrap_or(i64::MAX);
    Ok(Answer { report, skew_ms })
}

/// The accounts of a report.
pub(super) fn accounts(report: &Report) -> Vec<&Account> {
    match report {
        Report::Broker(report) => report.accounts.iter().collect(),
        Report::Worker(report) => report.accounts.iter().collect(),
        Report::Local(report) => vec![&report.account],
        Report::Gateway(report) => report.accounts.iter().collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    #[tokio::test]
    async fn of_several_addresses_the_first_counts_where_somebody_answers() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        // The next port may be anybody's, so it is this one.
        let port = listener.local_addr().unwrap().port() - 1;
        let addr = |last| SocketAddr::from(([127, 0, 0, last], port));
        let nearest = async |addrs: &[SocketAddr]| nearest(addrs.iter().copied()).await.unwrap()[0].0;
        assert_eq!(nearest(&[addr(2), addr(1), addr(3)]).await, addr(1));
        assert_eq!(nearest(&[addr(3), addr(2)]).await, addr(3));
        assert!(super::nearest(std::iter::empty()).await.is_none());
    }

    /// A deployment in which a broker on port 5550 forwards and these services answered.
    pub(in super::super) fn facts(
        broker: Option<Report>,
        workers: Vec<Report>,
        local: Option<Report>,
    ) -> Facts {
        let asked = |report| Asked {
            addr: SocketAddr::from(([127, 0, 0, 1], 5_580)),
            is_given: false,
            answer: Ok(Answer { report, skew_ms: 0 }),
        };
        let addr = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let came = Outcome::Came { median: Duration::from_micros(80), longest: Duration::from_micros(90) };
        Facts {
            host: "127.0.0.1".to_owned(),
            port: 5_550,
            ports: Ok(Ports {
                publishers: (addr(5_550), Peer::Socket("XSUB".to_owned())),
                workers: (addr(5_551), Peer::Socket("XPUB".to_owned())),
                listeners: [1, 1],
                probe: Some(came),
            }),
            gateways: Vec::new(),
            broker: broker.map(asked),
            workers: workers.into_iter().map(asked).collect(),
            local: local.map(asked),
        }
    }
}
