//! Support for tests that run the real programs as separate processes over TCP.
//!
//! Every test takes its own directory and ports, so that two runs side by side do not meet, and
//! whatever it starts is killed when it goes out of scope. Nothing here sleeps to wait for something:
//! [`until`] polls a condition with a deadline, and says what it waited for.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "support of tests: what fails here fails a test")]

mod backend;
mod bodies;
mod browser;
mod clock;
mod device;
mod http;
mod law;
mod legacy;
mod peer;
mod ports;
mod process;
mod proxy;
mod receiver;
mod recorder;
mod recording;
mod rows;
mod scripted;
mod servers;
mod services;
mod sqlite;
mod tally;
mod tcp;
mod until;
pub mod workload;

pub use backend::{Backend, Request, Step};
pub use bodies::{Format, Point};
pub use browser::{Chromium, Key, Tab};
pub use clock::Clock;
pub use device::{Device, Gateway, together};
pub use http::{Answer, Metrics, encoded, get, metrics, request};
pub use law::{BrokerSum, ClientLaw, Flow};
pub use legacy::{Publisher, now_s};
pub use peer::{Peer, PeerStep};
pub use ports::{PortPair, listen};
pub use process::{Ended, Process, command, field};
pub use proxy::{Done, Harm, Proxy, Random};
pub use receiver::Receiver;
pub use recorder::Recorder;
pub use recording::{Recording, Truth, Truths, arrived, assert_arrives, assert_truths, settle};
pub use rows::{
    GRAPHITE, INFLUX, JSONL, KINDS, Kind, LIBRATO, OTLP, PROMETHEUS, STATSD, each, record, worker_args,
    worker_of,
};
pub use scripted::{INFO_TOPICS, ScriptedBroker};
pub use servers::{
    Graphite, Influx, InfluxSeries, Labels, OPENMETRICS, OpenMetricsFamily, Prometheus, Rotel, Statsd,
    StatsdTimer, StatsdTotals, VictoriaMetrics, decode_otlp, openmetrics_families, promtool_check_metrics,
};
pub use services::{Account, Broker, Delivery, Local, Worker, directory};
pub use sqlite::{Stored, Totals, batches, read};
pub use tally::{Tally, TallyWorker};
pub use tcp::{Responses, TcpProxy};
pub use until::{DEADLINE, until, until_within};
