//! Looks after brokers and workers: asks each at `/status` how it is, once a second.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use zibrato_service::{FetchError, Report, Shutdown, fetch_report};

/// The most services that are asked.
pub const WATCH_MAX: usize = 16;
/// Where broker and worker say how they are unless told otherwise.
pub(crate) const LIST_DEFAULT: &str = "127.0.0.1:5552,127.0.0.1:5553";
/// How often each is asked.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// What brokers and workers said last. Clones share it.
#[derive(Clone, Debug)]
pub struct Watch {
    services: Arc<Mutex<Vec<Arc<Service>>>>,
    /// How often something changed.
    changes: watch::Sender<u64>,
    shutdown: Shutdown,
}

/// What one service said last.
#[derive(Clone, Debug)]
pub struct Watched {
    /// The address of its status.
    pub addr: SocketAddr,
    /// Its report, or in one line why there is none.
    pub report: Result<Arc<Report>, String>,
    /// How old that is.
    pub age: Duration,
}

#[derive(Debug)]
struct Service {
    addr: SocketAddr,
    last: Mutex<Last>,
}

#[derive(Debug)]
struct Last {
    report: Result<Arc<Report>, String>,
    at: Instant,
}

impl Watch {
    /// Asks these addresses until `shutdown` is requested.
    pub(crate) fn start(addrs: &[SocketAddr], shutdown: Shutdown) -> Self {
        let watch = Self { services: Arc::default(), changes: watch::Sender::new(0), shutdown };
        addrs.iter().for_each(|&addr| watch.add(addr));
        watch
    }

    /// Asks one more address, in a task of its own. One that is asked already is not asked twice, for what
    /// it tells would count twice. Beyond [`WATCH_MAX`] it is left out, which the log says.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn add(&self, addr: SocketAddr) {
        let mut services = self.services();
        if services.iter().any(|service| service.addr == addr) {
            return;
        }
        if services.len() >= WATCH_MAX {
            tracing::warn!(%addr, limit = WATCH_MAX, "not asked how it is: there are as many services as may be");
            return;
        }
        let last = Last { report: Err("not asked yet".to_owned()), at: Instant::now() };
        let service = Arc::new(Service { addr, last: Mutex::new(last) });
        services.push(Arc::clone(&service));
        tokio::spawn(ask(service, self.changes.clone(), self.shutdown.clone()));
    }

    /// What each service said last, in the order in which they were added.
    #[must_use]
    pub fn latest(&self) -> Vec<Watched> {
        self.services().iter().map(|service| service.watched()).collect()
    }

    /// Tells of each change: a number that grows when a service says something else than the second
    /// before, its ages and clocks left aside.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn services(&self) -> MutexGuard<'_, Vec<Arc<Service>>> {
        // It only grows, by one push.
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn ask(service: Arc<Service>, changes: watch::Sender<u64>, shutdown: Shutdown) {
    let mut ticks = interval(WATCH_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let asked = async {
            ticks.tick().await;
            fetch_report(service.addr, ANSWER_TIMEOUT).await
        };
        let answer = tokio::select! {
            answer = asked => answer,
            () = shutdown.requested() => return,
        };
        if service.note(answer) {
            changes.send_modify(|changes| *changes += 1);
        }
    }
}

impl Service {
    fn last(&self) -> MutexGuard<'_, Last> {
        // It is replaced whole.
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watched(&self) -> Watched {
        let last = self.last();
        Watched { addr: self.addr, report: last.report.clone(), age: last.at.elapsed() }
    }

    /// Keeps an answer; whether it is news.
    fn note(&self, answer: Result<Report, FetchError>) -> bool {
        let report = answer.map(Arc::new).map_err(|error| error.to_string());
        let before =
            std::mem::replace(&mut *self.last(), Last { report: report.clone(), at: Instant::now() });
        match (&before.report, &report) {
            (Ok(before), Ok(now)) => {
                Report::clone(before).without_ages() != Report::clone(now).without_ages()
            }
            (Err(before), Err(now)) => before != now,
            _ => true,
        }
    }
}

/// Addresses as a flag has them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AddressList(pub Vec<SocketAddr>);

/// Reads `IP:PORT,IP:PORT...` or `none`.
pub(crate) fn parse_list(text: &str) -> Result<AddressList, String> {
    if text == "none" {
        return Ok(AddressList(Vec::new()));
    }
    let addresses: Vec<_> = text
        .split(',')
        .map(|part| {
            let part = part.trim();
            let bad = |_| format!("{part:?} is not an address; give IP:PORT,IP:PORT... or none");
            part.parse().map_err(bad)
        })
        .collect::<Result<_, _>>()?;
    match addresses.len() {
        0..=WATCH_MAX => Ok(AddressList(addresses)),
        count => Err(format!("{count} addresses exceed the limit of {WATCH_MAX}; give fewer")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use zibrato_service::{BrokerReport, Health, Process, StatusEndpoint, serve_status};

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);

    /// A broker's status that tells so many kept bytes, and a process that never answers twice alike.
    async fn broker(kept: Arc<AtomicU64>, shutdown: Shutdown) -> SocketAddr {
        let asked = AtomicU64::new(0);
        let report = move || {
            let uptime_s = asked.fetch_add(1, Ordering::Relaxed);
            let process = Process { uptime_s, unix_ms: uptime_s, ..Process::default() };
            let kept_bytes = kept.load(Ordering::Relaxed);
            Report::Broker(BrokerReport { process, kept_bytes, ..BrokerReport::default() })
        };
        let endpoint = StatusEndpoint { addr: Some("127.0.0.1:0".parse().unwrap()), explicit: true };
        serve_status(endpoint, || Health::Ok, String::new, report, shutdown).await.unwrap().unwrap()
    }

    fn uptime(watch: &Watch) -> u64 {
        watch.latest()[0].report.as_ref().unwrap().process().uptime_s
    }

    async fn changed(changes: &mut watch::Receiver<u64>) {
        tokio::time::timeout(DEADLINE, changes.changed()).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn reports_and_errors_are_kept_and_only_news_are_told() {
        let kept = Arc::new(AtomicU64::new(7));
        let (stop_broker, stop) = (Shutdown::new(), Shutdown::new());
        let addr = broker(Arc::clone(&kept), stop_broker.clone()).await;
        let watch = Watch::start(&[addr], stop.clone());
        let mut changes = watch.changes();
        let first = &watch.latest()[0];
        assert_eq!((first.addr, first.report.clone().unwrap_err()), (addr, "not asked yet".to_owned()));
        changed(&mut changes).await;
        let told = |watch: &Watch| match watch.latest()[0].report.as_deref() {
            Ok(Report::Broker(report)) => report.kept_bytes,
            other => panic!("{other:?}"),
        };
        assert_eq!(told(&watch), 7);
        // The next answers differ in age only.
        let before = uptime(&watch);
        let grown = async {
            while uptime(&watch) < before + 2 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, grown).await.unwrap();
        assert!(!changes.has_changed().unwrap());
        kept.store(8, Ordering::Relaxed);
        changed(&mut changes).await;
        assert_eq!(told(&watch), 8);
        assert!(watch.latest()[0].age < DEADLINE);
        stop_broker.request();
        changed(&mut changes).await;
        let error = watch.latest()[0].report.clone().unwrap_err();
        assert!(error.starts_with(&format!("cannot connect to {addr}: ")), "{error}");
        stop.request();
    }

    #[tokio::test]
    async fn no_more_services_than_the_limit_are_asked_and_the_end_stops_asking() {
        let addrs: Vec<_> =
            (1..).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).take(WATCH_MAX + 1).collect();
        let stop = Shutdown::new();
        let watch = Watch::start(&addrs[..1], stop.clone());
        watch.add(addrs[0]);
        assert_eq!(watch.latest().len(), 1, "one address is asked once");
        addrs.iter().for_each(|addr| watch.add(*addr));
        assert_eq!(watch.latest().len(), WATCH_MAX);
        stop.request();
        let ended = async {
            while watch.services().iter().any(|service| Arc::strong_count(service) > 1) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, ended).await.unwrap();
    }

    #[test]
    fn a_list_is_addresses_or_none() {
        assert_eq!(parse_list("none"), Ok(AddressList(Vec::new())));
        assert_eq!(parse_list("[::1]:1, 10.0.0.1:2").unwrap().0.len(), 2);
        assert_eq!(parse_list(LIST_DEFAULT).unwrap().0.len(), 2);
        let error = parse_list("127.0.0.1:1,localhost:2").unwrap_err();
        assert_eq!(error, "\"localhost:2\" is not an address; give IP:PORT,IP:PORT... or none");
        let many = vec!["127.0.0.1:1"; WATCH_MAX + 1].join(",");
        assert_eq!(parse_list(&many).unwrap_err(), "17 addresses exceed the limit of 16; give fewer");
        assert!(parse_list("").is_err());
    }
}
