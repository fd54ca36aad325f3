//! InfluxDB 1.x.

use serde_json::Value;
use tempfile::TempDir;

use super::{Labels, answers, program, ready};
use crate::http::{encoded, request};
use crate::ports::PortPair;
use crate::process::Process;
use crate::services::directory;

/// A running InfluxDB with one database.
#[derive(Debug)]
pub struct Influx {
    /// The process.
    pub process: Process,
    /// Where it listens.
    pub addr: String,
    /// The same as a URL.
    pub url: String,
    /// The database.
    pub database: String,
    account: Option<(String, String)>,
    _home: TempDir,
    _ports: PortPair,
}

/// A series of an answer.
#[derive(Clone, PartialEq, Debug)]
pub struct InfluxSeries {
    /// The measurement.
    pub name: String,
    /// The tags that were grouped by.
    pub tags: Labels,
    /// Names of the columns; the first one is `time`, in Unix nanoseconds.
    pub columns: Vec<String>,
    /// The rows.
    pub values: Vec<Vec<Value>>,
}

impl InfluxSeries {
    /// The numbers of a column.
    ///
    /// # Panics
    /// If there is no such column, or something else than numbers in it.
    pub fn numbers(&self, column: &str) -> Vec<f64> {
        let at = self.columns.iter().position(|name| name == column);
        let at = at.unwrap_or_else(|| panic!("no column {column}: {self:?}"));
        let number = |row: &Vec<Value>| row[at].as_f64().unwrap_or_else(|| panic!("{column}: {self:?}"));
        self.values.iter().map(number).collect()
    }
}

impl Influx {
    /// Starts one that anybody may use.
    ///
    /// # Panics
    /// If it is not installed or does not start; so for all here.
    pub fn start() -> Self {
        Self::with(None)
    }

    /// Starts one that asks for an account; this one may do everything.
    pub fn with_account(user: &str, password: &str) -> Self {
        Self::with(Some((user.to_owned(), password.to_owned())))
    }

    fn with(account: Option<(String, String)>) -> Self {
        let home = directory();
        let ports = PortPair::reserve();
        let addr = format!("127.0.0.1:{}", ports.port);
        let path = |name: &str| format!("{:?}", home.path().join(name));
        let config = format!(
            "reporting-disabled = true\n\
             bind-address = \"127.0.0.1:{}\"\n\
             [meta]\ndir = {}\n\
             [data]\ndir = {}\nwal-dir = {}\n\
             [monitor]\nstore-enabled = false\n\
             [http]\nbind-address = \"{addr}\"\nauth-enabled = {}\n",
            ports.port + 1,
            path("meta"),
            path("data"),
            path("wal"),
            account.is_some(),
        );
        let config_file = home.path().join("influxdb.conf");
        std::fs::write(&config_file, config).unwrap();
        let mut command = program("influxd");
        command.args(["run", "-config"]).arg(&config_file);
        let mut process = Process::spawn(command);
        ready(&mut process, "InfluxDB", || answers(&addr, "/ping"));
        let url = format!("http://{addr}");
        let mut influx = Self {
            process,
            addr,
            url,
            database: "zibrato".to_owned(),
            account: None,
            _home: home,
            _ports: ports,
        };
        if let Some((user, password)) = &account {
            let password = password.replace('\\', "\\\\").replace('\'', "\\'");
            // The first account is made without one.
            influx.query(&format!("CREATE USER \"{user}\" WITH PASSWORD '{password}' WITH ALL PRIVILEGES"));
        }
        influx.account = account;
        influx.query(&format!("CREATE DATABASE \"{}\"", influx.database));
        influx
    }

    /// What a statement answers, with its account.
    pub fn query(&self, influxql: &str) -> Vec<InfluxSeries> {
        let account = self
            .account
            .as_ref()
            .map(|(user, password)| format!("&u={}&p={}", encoded(user), encoded(password)));
        let path = format!(
            "/query?db={}&epoch=ns&q={}{}",
            encoded(&self.database),
            encoded(influxql),
            account.unwrap_or_default()
        );
        let answer = request(&self.addr, "POST", &path, &[], b"").unwrap();
        assert_eq!(answer.status, 200, "{influxql}: {}", answer.body);
        let said: Value = serde_json::from_str(&answer.body).unwrap();
        let result = &said["results"][0];
        assert!(result["error"].is_null() && result["partial"].is_null(), "{influxql}: {said}");
        result["series"].as_array().into_iter().flatten().map(series).collect()
    }
}

fn series(object: &Value) -> InfluxSeries {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let array = |name: &str| object[name].as_array().cloned().unwrap_or_default();
    let tags = object["tags"].as_object().into_iter().flatten();
    InfluxSeries {
        name: text(&object["name"]),
        tags: tags.map(|(name, value)| (name.clone(), text(value))).collect(),
        columns: array("columns").iter().map(text).collect(),
        values: array("values").iter().map(|row| row.as_array().unwrap().clone()).collect(),
    }
}
