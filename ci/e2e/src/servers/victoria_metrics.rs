//! VictoriaMetrics: it takes remote writes, among much else.

use tempfile::TempDir;

use super::{Labels, answers, program, promql, ready};
use crate::ports::PortPair;
use crate::process::Process;
use crate::services::directory;

/// A running VictoriaMetrics that keeps samples of any age.
#[derive(Debug)]
pub struct VictoriaMetrics {
    /// The process.
    pub process: Process,
    /// Where it listens.
    pub addr: String,
    /// Where remote writes go.
    pub url: String,
    _home: TempDir,
    _ports: PortPair,
}

impl VictoriaMetrics {
    /// Starts one.
    ///
    /// # Panics
    /// If it is not installed or does not start; so for all here.
    pub fn start() -> Self {
        let home = directory();
        let ports = PortPair::reserve();
        let addr = format!("127.0.0.1:{}", ports.port);
        let mut command = program("victoria-metrics");
        command
            .arg(format!("-httpListenAddr={addr}"))
            .arg(format!("-storageDataPath={}", home.path().display()))
            .arg("-retentionPeriod=100y")
            .arg("-memory.allowedBytes=256MB");
        let mut process = Process::spawn(command);
        ready(&mut process, "VictoriaMetrics", || answers(&addr, "/health"));
        let url = format!("http://{addr}/api/v1/write");
        Self { process, addr, url, _home: home, _ports: ports }
    }

    /// What an expression is now: the labels and value of each series.
    pub fn query(&self, promql: &str) -> Vec<(Labels, f64)> {
        self.query_at(promql, promql::now_s())
    }

    /// What an expression is at a time in Unix seconds.
    pub fn query_at(&self, promql: &str, time_s: f64) -> Vec<(Labels, f64)> {
        self.flush();
        promql::query(&self.addr, promql, time_s)
    }

    /// The labels of each series that a selector such as `{job="x"}` fits.
    pub fn series(&self, selector: &str) -> Vec<Labels> {
        self.flush();
        promql::series(&self.addr, selector)
    }

    /// Lets queries see what was written, which they would within some seconds.
    fn flush(&self) {
        assert!(answers(&self.addr, "/internal/force_flush"), "no flush of VictoriaMetrics");
    }
}
