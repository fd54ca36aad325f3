//! Asks broker and worker how they are, now and then, for the header.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::watch;
use zibrato_service::{BrokerReport, Report, WorkerReport, chain, fetch_report};

/// How often each is asked.
const PERIOD: Duration = Duration::from_secs(2);
/// How long an answer may take.
const WITHIN: Duration = Duration::from_secs(1);

/// What stands in place of the first answer.
const NO_ANSWER: &str = "no answer yet";

/// What the services said last. A service that is not to be asked is `None`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Services {
    pub(crate) broker: Option<Answer<BrokerReport>>,
    pub(crate) worker: Option<Answer<WorkerReport>>,
}

/// A report, or why there is none.
pub(crate) type Answer<R> = Result<Box<R>, String>;

/// Asks the services at these addresses until nobody looks any more.
pub(crate) fn watch(broker: Option<SocketAddr>, worker: Option<SocketAddr>) -> watch::Receiver<Services> {
    let (sender, receiver) = watch::channel(Services {
        broker: broker.map(|_| Err(NO_ANSWER.to_owned())),
        worker: worker.map(|_| Err(NO_ANSWER.to_owned())),
    });
    tokio::spawn(async move {
        while !sender.is_closed() {
            let (broker, worker) = tokio::join!(ask_broker(broker), ask_worker(worker));
            sender.send_replace(Services { broker, worker });
            tokio::time::sleep(PERIOD).await;
        }
    });
    receiver
}

async fn ask_broker(addr: Option<SocketAddr>) -> Option<Answer<BrokerReport>> {
    Some(match ask(addr?).await {
        Ok(Report::Broker(report)) => Ok(Box::new(report)),
        Ok(_) => Err("another service answers there".to_owned()),
        Err(error) => Err(error),
    })
}

async fn ask_worker(addr: Option<SocketAddr>) -> Option<Answer<WorkerReport>> {
    Some(match ask(addr?).await {
        Ok(Report::Worker(report)) => Ok(Box::new(report)),
        Ok(_) => Err("another service answers there".to_owned()),
        Err(error) => Err(error),
    })
}

async fn ask(addr: SocketAddr) -> Result<Report, String> {
    fetch_report(addr, WITHIN).await.map_err(|error| chain(&error))
}
