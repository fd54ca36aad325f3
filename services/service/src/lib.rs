//! What every zibrato service shares: logging, the ordered end, exit codes, HTTP within
//! limits, the status endpoint and how to read it.
//!
//! A service's main parses its flags, calls [`init_logging`] and hands its `run(config, shutdown)`
//! to [`run_service`]. Everything here is small on purpose: it holds no knowledge of frames,
//! sockets of ZeroMQ or backends.

mod exit;
mod fetch;
mod http;
mod logging;
mod metrics_text;
mod number;
mod report;
mod shutdown;
mod status;

pub use exit::{EXIT_FAILURE, EXIT_OK, EXIT_USAGE, Failure, chain, run_main, run_service};
pub use fetch::{FetchError, REPORT_BYTES_MAX, fetch_report, fetch_report_as};
pub use http::{Hosts, HttpLimits, serve_http};
pub use logging::init_logging;
pub use metrics_text::{Family, MetricsText, Number};
pub use number::whole_number;
pub use report::{
    Account, BrokerReport, Connection, GatewayDevice, GatewayReport, KeptPublisher, KindClash, LocalReport,
    PUBLISHER_LEVELS_MAX, PUBLISHERS_MAX, Process, PublisherReport, REPORT_PATH, Report, SpoolReport,
    WorkerReport,
};
pub use shutdown::Shutdown;
pub use status::{Health, StatusEndpoint, StatusError, serve_status};
