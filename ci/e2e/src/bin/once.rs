//! A program that records a little and ends, with an account of how that went.
//!
//! ```text
//! once --endpoint tcp://127.0.0.1:5550 --counter hits=3 --gauge depth=-1.5 --timer lat=1000
//! ```
//!
//! Numbers of timers are nanoseconds. With `--until-stdin-closes` it prints `recorded` and goes on until its
//! standard input ends. Standard output gets one line of JSON with the times in milliseconds; standard error
//! gets the client's account.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "support of tests: what fails here fails a test"
)]

use std::io::Read;
use std::time::{Duration, Instant};

use zibrato_std::{Client, Level, Wire};

/// How long a shutdown may take.
const DEADLINE: Duration = Duration::from_secs(2);

enum Record {
    Counter(String, u64),
    Gauge(String, f64),
    Timer(String, u64),
}

fn main() {
    let started = Instant::now();
    let mut builder = Client::builder().source("once");
    let (mut level, mut wait_ms, mut until_stdin, mut records) = (Level::INFO, 0, false, Vec::new());
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        if flag == "--until-stdin-closes" {
            until_stdin = true;
            continue;
        }
        let value = args.next().unwrap();
        let named = || value.split_once('=').unwrap();
        match flag.as_str() {
            "--endpoint" => builder = builder.endpoint(value),
            "--source" => builder = builder.source(value),
            "--wire" if value == "legacy" => builder = builder.wire(Wire::Legacy),
            "--level" => level = Level::new(value.leak()),
            "--window-ms" => builder = builder.window(Duration::from_millis(value.parse().unwrap())),
            "--wait-subscribed-ms" => wait_ms = value.parse().unwrap(),
            "--counter" => records.push(Record::Counter(named().0.to_owned(), named().1.parse().unwrap())),
            "--gauge" => records.push(Record::Gauge(named().0.to_owned(), named().1.parse().unwrap())),
            "--timer" => records.push(Record::Timer(named().0.to_owned(), named().1.parse().unwrap())),
            _ => panic!("unknown flag {flag}"),
        }
    }
    let client = builder.build().unwrap();
    if wait_ms > 0 {
        assert!(
            client.wait_subscribed(level, Duration::from_millis(wait_ms)),
            "nobody subscribed to {level}"
        );
    }
    for record in records {
        match record {
            Record::Counter(name, value) => client.counter(&name, level).get().add(value),
            Record::Gauge(name, value) => client.gauge(&name, level).get().set(value),
            Record::Timer(name, ns) => client.timer(&name, level).get().record(Duration::from_nanos(ns)),
        }
    }
    println!("recorded");
    if until_stdin {
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    }
    let lived = started.elapsed();
    let called = Instant::now();
    let stats = client.shutdown(DEADLINE).unwrap();
    let shutdown = called.elapsed();
    println!("{{\"lived_ms\":{},\"shutdown_ms\":{}}}", lived.as_millis(), shutdown.as_millis());
    eprintln!("{stats}");
}
