//! Runs the program without a broker.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

use std::process::{Command, Output};

use serde_json::Value;

/// Runs it against an endpoint where nobody listens.
fn run(name: &str, args: &[&str]) -> Output {
    let nowhere = format!(
        "ipc://{}/zibrato-latency-loop-{}-{name}",
        std::env::temp_dir().display(),
        std::process::id()
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_latency-loop"));
    command.args(["--endpoint", &nowhere]).args(args).output().unwrap()
}

/// The number behind `key` in the part of the account that begins with `offered [`.
fn offered(stderr: &str, key: &str) -> u64 {
    let words = stderr.split_once("offered [").unwrap().1.split_once(']').unwrap().0;
    let mut words = words.split(' ').skip_while(|word| *word != key);
    words.nth(1).unwrap().parse().unwrap()
}

fn sum(metrics: &[Value], kind: &str, field: &str) -> u64 {
    let of_kind = metrics.iter().filter(|metric| metric["kind"] == kind);
    of_kind.map(|metric| metric[field].as_u64().unwrap()).sum()
}

fn find<'a>(metrics: &'a [Value], name: &str, tag: Option<(&str, &str)>) -> &'a Value {
    let wanted = |metric: &&Value| {
        metric["name"] == name && tag.is_none_or(|(key, value)| metric["tags"][key] == value)
    };
    metrics.iter().find(wanted).unwrap_or_else(|| panic!("{name} {tag:?} in {metrics:?}"))
}

#[test]
fn without_a_broker_everything_is_held_and_the_printed_truth_is_what_was_offered() {
    let output = run("truth", &["--iterations", "20001", "--threads", "3", "--source", "smoke"]);
    let (stdout, stderr) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert_eq!(stdout.lines().count(), 1, "{stdout}");
    let json: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(json["source"], "smoke");
    let metrics = json["metrics"].as_array().unwrap();

    assert_eq!(find(metrics, "loop.iterations", None)["sum"], 60_003);
    assert_eq!(find(metrics, "loop.bytes", Some(("direction", "out")))["sum"], 180_009);
    assert_ne!(find(metrics, "loop.bytes", Some(("direction", "in")))["sum"], 0);
    assert_eq!(find(metrics, "loop.work", None)["count"], 60_003);
    assert_ne!(find(metrics, "loop.work", None)["sum_ns"], 0);
    assert_eq!(find(metrics, "loop.zero", None)["last"].as_f64(), Some(0.0));
    assert_eq!(find(metrics, "loop.negative", None)["last"].as_f64(), Some(-1.5));
    assert_eq!(find(metrics, "loop.large", None)["last"].as_f64(), Some(1e9));
    assert_eq!(find(metrics, "loop.progress", Some(("thread", "2")))["last"].as_f64(), Some(20_000.0));
    // Nobody subscribes to debug.
    assert!(metrics.iter().all(|metric| metric["name"] != "loop.detail"), "{stdout}");

    assert_eq!(offered(&stderr, "counters"), sum(metrics, "counter", "sum"), "{stderr}");
    assert_eq!(offered(&stderr, "timers"), sum(metrics, "timer", "count"), "{stderr}");
    assert_eq!(offered(&stderr, "gauges"), sum(metrics, "gauge", "count"), "{stderr}");
    assert!(stderr.contains("delivered [counters 0 timers 0 gauges 0]"), "{stderr}");
}

#[test]
fn legacy_text_without_a_broker_adds_up_as_well() {
    let output = run("legacy", &["--iterations", "100", "--wire", "legacy", "--wait-subscribed-ms", "1"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("nobody subscribed to info within 1ms"), "{stderr}");
    assert!(stderr.contains("nobody subscribed to debug within 1ms"), "{stderr}");
}

#[test]
fn bad_usage_is_exit_code_2_and_one_line_that_names_it() {
    let output = run("usage", &["--source", "my source"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), stderr.lines().count()), (Some(2), 1), "{stderr}");
    assert!(stderr.starts_with("latency-loop: error: source 'my source' is not accepted: "), "{stderr}");
    for (flag, value) in [("--threads", "0"), ("--seconds", "0"), ("--iterations", "0"), ("--wire", "x")] {
        let output = run("flags", &[flag, value]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{flag}: {stderr}");
        assert!(stderr.contains(flag), "{stderr}");
    }
}
