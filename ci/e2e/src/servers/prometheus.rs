//! Prometheus: it takes remote writes and scrapes.

use tempfile::TempDir;

use super::{Labels, answers, program, promql, ready};
use crate::ports::PortPair;
use crate::process::Process;
use crate::services::directory;

/// A running Prometheus. It refuses samples more than an hour older than the newest one of any series.
#[derive(Debug)]
pub struct Prometheus {
    /// The process.
    pub process: Process,
    /// Where it listens.
    pub addr: String,
    /// Where remote writes go.
    pub url: String,
    _home: TempDir,
    _ports: PortPair,
}

impl Prometheus {
    /// Starts one that waits for remote writes.
    ///
    /// # Panics
    /// If it is not installed or does not start; so for all here.
    pub fn start() -> Self {
        Self::scraping(&[])
    }

    /// Starts one that also scrapes `/metrics` of these hosts with ports, every second.
    pub fn scraping(targets: &[&str]) -> Self {
        Self::with(targets, &[])
    }

    /// Starts one that likewise scrapes, and takes native histograms: it asks its targets for protobuf.
    pub fn native(targets: &[&str]) -> Self {
        Self::with(targets, &["--enable-feature=native-histograms"])
    }

    fn with(targets: &[&str], args: &[&str]) -> Self {
        let home = directory();
        let ports = PortPair::reserve();
        let addr = format!("127.0.0.1:{}", ports.port);
        // Text in Rust's quotes is text in YAML's.
        let config = format!(
            "global: {{scrape_interval: 1s}}\n\
             scrape_configs: [{{job_name: test, static_configs: [{{targets: {targets:?}}}]}}]\n"
        );
        let config_file = home.path().join("prometheus.yml");
        std::fs::write(&config_file, config).unwrap();
        let mut command = program("prometheus");
        command
            .arg(format!("--config.file={}", config_file.display()))
            .arg(format!("--storage.tsdb.path={}", home.path().join("data").display()))
            .arg(format!("--web.listen-address={addr}"))
            .arg("--web.enable-remote-write-receiver")
            .args(args);
        let mut process = Process::spawn(command);
        ready(&mut process, "Prometheus", || answers(&addr, "/-/ready"));
        let url = format!("http://{addr}/api/v1/write");
        Self { process, addr, url, _home: home, _ports: ports }
    }

    /// What an expression is now: the labels and value of each series.
    pub fn query(&self, promql: &str) -> Vec<(Labels, f64)> {
        self.query_at(promql, promql::now_s())
    }

    /// What an expression is at a time in Unix seconds.
    pub fn query_at(&self, promql: &str, time_s: f64) -> Vec<(Labels, f64)> {
        promql::query(&self.addr, promql, time_s)
    }

    /// The labels of each series that a selector such as `{job="x"}` fits.
    pub fn series(&self, selector: &str) -> Vec<Labels> {
        promql::series(&self.addr, selector)
    }
}

/// What `promtool check metrics` thinks of a page of metrics.
///
/// # Errors
/// If it is not a page of metrics, or something in it is against the rules of style: with what promtool says.
///
/// # Panics
/// If promtool is not installed.
pub fn promtool_check_metrics(page: &str) -> Result<(), String> {
    let mut command = program("promtool");
    command.args(["check", "metrics"]);
    let mut process = Process::spawn(command);
    process.feed(page.as_bytes());
    process.close_stdin();
    let ended = process.wait();
    if ended.code == Some(0) { Ok(()) } else { Err(ended.stdout + &ended.stderr) }
}
