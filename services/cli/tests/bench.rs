//! `zibrato bench` as its user runs it, with settings that are quick on any machine. No speed is asserted.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

#[path = "support/pty.rs"]
mod pty;

use std::process::{Command, Output, Stdio};

use serde_json::Value;

use pty::Pty;

const ZIBRATO: &str = env!("CARGO_BIN_EXE_zibrato");
const DEBUG_NOTE: &str = "this is a debug build: its figures mean nothing; build with --release\n";

fn bench(args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(ZIBRATO);
    let output = command.arg("bench").args(args).env_clear().stdin(Stdio::null()).output().unwrap();
    let Output { status, stdout, stderr } = output;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

fn json(args: &[&str]) -> Value {
    let (code, out, err) = bench(&[args, &["--json"]].concat());
    assert_eq!((code, out.lines().count()), (Some(0), 1), "{out}{err}");
    serde_json::from_str(&out).unwrap()
}

fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no count"))
}

#[test]
fn a_pipe_gets_plain_lines_of_every_operation_and_of_exact_totals() {
    let (code, out, err) =
        bench(&["--duration", "1s", "--rate", "100k", "--counters", "300", "--window", "50ms"]);
    assert_eq!(code, Some(0), "{out}{err}");
    let note = if cfg!(debug_assertions) { DEBUG_NOTE } else { "" };
    assert_eq!(err, note, "no progress in a pipe");
    assert!(!out.contains('\x1b'), "{out}");
    for operation in [
        "fetch_add, relaxed",
        "counter",
        "timer, duration given",
        "gauge",
        "two clock reads",
        "timer guard",
        "timer guard, exact",
        "counter at a level that is off",
        "timer guard at a level that is off",
        "timer, first record of a thread",
    ] {
        let line = out.lines().find_map(|line| line.strip_prefix(&format!("  {operation}  ")));
        let mut columns = line.unwrap_or_else(|| panic!("no {operation} in {out}")).split_whitespace();
        let mut figure = || columns.next().unwrap().parse::<f64>().unwrap();
        assert!(figure() > 0.0 && figure() > 0.0, "{operation} in {out}");
        assert_eq!(
            columns.next().is_some(),
            ["timer guard", "timer guard, exact"].contains(&operation),
            "{out}"
        );
    }
    for (what, text) in [
        ("timer records", "/s over 1.0 s, asked for 100k; 1 thread, 10 timers"),
        ("spilled", "first second "),
        ("counters", "300 series, each changed "),
        ("totals", "exact: "),
        ("wire", " frames, "),
    ] {
        let line = out.lines().find(|line| line.starts_with(&format!("  {what}  ")));
        assert!(line.is_some_and(|line| line.contains(text)), "{what}: {text} in {out}");
    }
}

#[test]
fn what_many_threads_record_is_in_the_ledger_and_behind_it_to_the_last_one() {
    let args =
        ["--only", "end-to-end", "--duration", "1200ms", "--rate", "max", "--threads", "3", "--timers", "70"];
    let json = json(&[&args[..], &["--counters", "500", "--window", "20ms"]].concat());
    assert_eq!((&json["calls"], &json["debug_build"]), (&Value::Null, &cfg!(debug_assertions).into()));
    let run = &json["end_to_end"];
    assert_eq!(run["exact"], true, "{run}");
    let records = count(&run["timer_records"]);
    assert!(records > 0 && count(&run["counter_sum"]) >= 500, "{run}");
    assert_eq!([count(&run["ledger_timer_records"]), count(&run["store_timer_records"])], [records; 2]);
    assert_eq!(count(&run["ledger_counter_sum"]), count(&run["counter_sum"]));
    assert_eq!(run["store_counter_sum"].as_f64().unwrap(), count(&run["counter_sum"]) as f64);
    let parts = [&run["first_second"], &run["later"]];
    assert_eq!(parts.map(|part| count(&part["timer_records"])).iter().sum::<u64>(), records);
    assert!(count(&run["frames"]) > 0 && count(&run["received"]) > 0, "{run}");
    if cfg!(target_os = "linux") {
        assert!(
            run["cpu"]["drain_s"].as_f64().unwrap() > 0.0 && count(&run["memory_bytes"]) > 1 << 20,
            "{run}"
        );
    }
}

#[test]
fn one_part_is_measured_alone() {
    let json = json(&["--only", "calls"]);
    assert_eq!(json["end_to_end"], Value::Null);
    let calls = json["calls"].as_array().unwrap();
    let guards: Vec<_> = calls.iter().filter(|call| !call["beyond_clock_reads_ns"].is_null()).collect();
    assert_eq!((calls.len(), guards.len()), (10, 2), "{json}");
}

#[test]
fn a_terminal_shows_progress_and_an_interrupt_ends_it_in_one_line() {
    let args = ["bench", "--only", "end-to-end", "--duration", "10min", "--rate", "1k"];
    let pty = Pty::start(ZIBRATO, &args, (100, 30), &[]);
    pty.wait_for_text("hot loop to ledger [");
    pty.wait_for_text("timer records, ");
    pty.signal("-INT");
    let (status, ended) = pty.end();
    assert_eq!(status.exit_code(), 1);
    assert!(ended.screen.contains("zibrato bench: error: stopped before it was done"), "{}", ended.screen);
    assert!(!ended.is_cursor_hidden && !ended.screen.contains("hot loop"), "{}", ended.screen);
}

#[test]
fn bad_values_are_told_what_is_accepted() {
    for (flag, value, accepted) in [
        ("--duration", "0.5s", "accepted are 1s to 1h"),
        ("--duration", "often", "accepted is a number with"),
        ("--rate", "999", "accepted are max and records a second from 1k to 1G"),
        ("--threads", "65", "accepted are whole numbers from 1 to 64"),
        ("--timers", "0", "accepted are whole numbers from 1 to 100000"),
        ("--counters", "500001", "accepted are whole numbers from 0 to 500000"),
        ("--window", "1ms", "accepted are 10ms to 1h"),
        ("--only", "all", "possible values: calls, end-to-end"),
    ] {
        let (code, out, err) = bench(&[flag, value]);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{flag} {value}: {err}");
        assert!(err.contains(flag) && err.contains(value) && err.contains(accepted), "{err}");
    }
}

#[test]
fn what_cannot_be_set_up_is_one_line_with_a_way_out() {
    for (args, text, way_out) in [
        (&["--only", "end-to-end", "--duration", "1s"][..], "cannot make a directory", "TMPDIR"),
        (&["--curves", "/proc/nowhere"][..], "cannot write pictures into /proc/nowhere", "--curves"),
    ] {
        let mut command = Command::new(ZIBRATO);
        command.arg("bench").args(args).env_clear().env("TMPDIR", "/proc/nowhere");
        let output = command.stdin(Stdio::null()).output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        let line = err.strip_prefix(DEBUG_NOTE).unwrap_or(&err);
        assert_eq!((output.status.code(), line.lines().count()), (Some(1), 1), "{err}");
        assert!(line.contains(&format!("zibrato bench: error: {text}")) && line.contains(way_out), "{err}");
    }
}
